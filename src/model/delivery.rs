//! What became of an attempt to deliver a notification.

use std::time::Duration;

use jiff::Timestamp;

use super::ids::{DestinationId, NotificationId, TenantId};

/// One attempt's outcome, and so what happens to the owed row.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The receiver accepted it: the row leaves the outbox.
    Delivered,
    /// Try again after this long.
    Retry {
        /// From now, jitter included.
        after: Duration,
    },
    /// Given up: the row becomes a dead letter.
    Dead {
        /// Why, in words.
        reason: String,
    },
    /// The destination as a whole can't be used now; the row waits with it, and this long at the least.
    Hold {
        /// From now, jitter included.
        after: Duration,
    },
    /// The bytes went out and no answer came: whether it arrived is not known. Tried again after this long.
    Ambiguous {
        /// From now, jitter included.
        after: Duration,
    },
}

impl Outcome {
    /// As it stands in `delivery_attempts.outcome`.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Delivered => "delivered",
            Self::Retry { .. } => "retry",
            Self::Dead { .. } => "dead",
            Self::Hold { .. } => "hold",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }
}

/// A claimed row: what to send, and the fence under which its outcome may be written.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// What to send.
    pub notification: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// Who is told.
    pub destination: DestinationId,
    /// 1 for the first. Together with the id it is the fence: whoever takes the row over raises it.
    pub number: i32,
    /// How long it had been owed when it was claimed, on the database's clock.
    pub age: Duration,
    /// For how much of that its destination was held, or it waited for another: its horizon stood still then.
    pub held: Duration,
    /// The exact bytes to send.
    pub body: String,
}

/// The fence of a claim: the notification, and the attempt's number.
pub type Fence = (NotificationId, i32);

/// A finished attempt, ready for the record.
#[derive(Debug, Clone, PartialEq)]
pub struct Completion {
    /// Which notification.
    pub notification: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// Who was told.
    pub destination: DestinationId,
    /// The fence: the number under which it was claimed.
    pub number: i32,
    /// What became of it.
    pub outcome: Outcome,
    /// What the receiver said, and when.
    pub record: Record,
}

/// What an auditor wants to know of one attempt.
#[derive(Debug, Clone, PartialEq)]
pub struct Record {
    /// Just before the request was sent.
    pub started_at: Timestamp,
    /// When the answer was whole, or failed to come.
    pub finished_at: Timestamp,
    /// HTTP status, if there was an answer.
    pub status_code: Option<u16>,
    /// Why it was not delivered.
    pub error: Option<String>,
    /// What somebody should know although it was delivered.
    pub warning: Option<String>,
    /// The beginning of the answer.
    pub answer: Option<String>,
    /// SHA-256 of the exact bytes that were sent.
    pub body_sha256: [u8; 32],
    /// The receiver's own name for it.
    pub external_id: Option<String>,
}

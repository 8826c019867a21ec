//! A notification: one thing that one destination must be told.

use super::ids::{AlertId, DestinationId, NotificationId, TenantId};

/// What happened to the alert that people should hear of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It opened.
    Opened,
}

impl Event {
    /// As it stands in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
        }
    }
}

/// A notification as it is enqueued: rendered once, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The same over all attempts: receivers drop repeats by it.
    pub id: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// What it is about.
    pub alert: AlertId,
    /// Who is told.
    pub destination: DestinationId,
    /// What happened.
    pub event: Event,
    /// Lower is sent first within a destination.
    pub lane_class: i16,
    /// The exact bytes of every attempt.
    pub body: String,
}

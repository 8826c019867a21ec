//! A notification: one thing that one destination must be told.

use super::alert::Happening;
use super::ids::{AlertId, DestinationId, NotificationId, RuleId, SeriesId, TenantId};

/// A notification as it is enqueued: rendered once, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The same over all attempts: receivers drop repeats by it.
    pub id: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// What it is about: each alert, and which of its episodes. More than one if it tells of many at once.
    pub about: Vec<(AlertId, i32)>,
    /// The rule and the series of each: what its destination hears of them comes in order.
    pub chains: Vec<(RuleId, SeriesId)>,
    /// Who is told.
    pub destination: DestinationId,
    /// What happened.
    pub event: Happening,
    /// Lower is sent first within a destination.
    pub lane_class: i16,
    /// The exact bytes of every attempt.
    pub body: String,
    /// Never sent, because this one tells it too.
    pub superseded_by: Option<NotificationId>,
    /// What it tells too, so that they are not sent: owed so far, or written with it.
    pub supersedes: Vec<NotificationId>,
}

//! A notification: one thing that one destination must be told.

use super::alert::Happening;
use super::ids::{AlertId, DestinationId, NotificationId, TenantId};

/// A notification as it is enqueued: rendered once, never changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notification {
    /// The same over all attempts: receivers drop repeats by it.
    pub id: NotificationId,
    /// Whose.
    pub tenant: TenantId,
    /// What it is about: each alert, and which of its episodes. More than one if it tells of many at once.
    pub about: Vec<(AlertId, i32)>,
    /// Who is told.
    pub destination: DestinationId,
    /// What happened.
    pub event: Happening,
    /// Lower is sent first within a destination.
    pub lane_class: i16,
    /// The exact bytes of every attempt.
    pub body: String,
}

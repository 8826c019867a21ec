//! From what happened to the exact bytes that a destination of some kind is sent.

use super::hub;
use crate::model::alert::Alert;
use crate::model::destination::Kind;
use crate::model::ids::NotificationId;
use crate::model::notification::Event;

/// What happened, with the names that people know things by.
#[derive(Debug, Clone, Copy)]
pub struct Notice<'a> {
    /// The id of the notification: receivers drop repeats by it.
    pub id: NotificationId,
    /// What happened.
    pub event: Event,
    /// To what.
    pub alert: &'a Alert,
    /// The rule's name.
    pub rule: &'a str,
    /// The device's external id.
    pub device: &'a str,
    /// What is measured.
    pub metric: &'a str,
    /// In what.
    pub unit: Option<&'a str>,
}

/// The body for a destination of this kind.
pub fn render(kind: &Kind, notice: &Notice<'_>) -> String {
    match kind {
        Kind::Hub { .. } => hub::render(notice),
    }
}

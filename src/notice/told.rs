//! What there is to tell, before anybody's taste is asked.

use crate::model::alert::Alert;
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

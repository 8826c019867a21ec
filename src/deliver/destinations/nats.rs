//! The NATS event: a message on `alerts.<tenant>` with `Nats-Msg-Id` = the notification's id, by which JetStream drops
//! repeats within its duplicate window.

use async_nats::HeaderMap;
use async_nats::header::NATS_MESSAGE_ID;

use crate::model::ids::NotificationId;

/// A message, ready to be published.
#[derive(Debug)]
pub struct Event {
    /// Where to.
    pub subject: String,
    /// With the id.
    pub headers: HeaderMap,
    /// The exact bytes.
    pub body: Vec<u8>,
}

/// The event of a notification.
pub fn event(prefix: &str, tenant: &str, id: NotificationId, body: &str) -> Event {
    let mut headers = HeaderMap::new();
    headers.insert(NATS_MESSAGE_ID, id.to_string().as_str());
    Event { subject: format!("{prefix}.{tenant}"), headers, body: body.as_bytes().to_vec() }
}

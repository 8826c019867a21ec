//! A message as it came: whose it is, when the broker stored it, and whether it came before. Pure.

use async_nats::{Message, Subject};
use bytes::Bytes;

use super::reject::{Reason, Refusal};
use crate::model::reading::UnixMicros;
use crate::model::tenant::TenantName;

/// What the broker says of a message, in the subject on which it waits for word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// How often it was delivered, this time included.
    pub delivered: u64,
    /// Its place in the stream.
    pub sequence: u64,
    /// When the broker stored it.
    pub stored_at: UnixMicros,
    /// Messages of the stream behind it.
    pub pending: u64,
}

impl Delivery {
    /// Reads `$JS.ACK.<stream>.<consumer>.<delivered>.<stream sequence>.<consumer sequence>.<stored, ns>.<pending>`, or the
    /// longer form with domain and account before the stream and more behind. Source: NATS ADR-15.
    pub fn parse(reply: &str) -> Option<Self> {
        let tokens = || reply.split('.');
        let first = match tokens().count() {
            9 => 4,
            11.. => 6,
            _ => return None,
        };
        let mut numbers = tokens().skip(first);
        let delivered = numbers.next()?.parse().ok()?;
        let sequence = numbers.next()?.parse().ok()?;
        let mut numbers = numbers.skip(1);
        let stored_ns: i64 = numbers.next()?.parse().ok()?;
        let pending = numbers.next()?.parse().ok()?;
        reply.starts_with("$JS.ACK.").then_some(Self {
            delivered,
            sequence,
            stored_at: UnixMicros(stored_ns / 1_000),
            pending,
        })
    }
}

/// A message to make readings of.
#[derive(Debug)]
pub struct Incoming {
    /// Where it was published.
    pub subject: Subject,
    /// Its bytes.
    pub payload: Bytes,
    /// Where the broker waits for word of it; `None` if it does not.
    pub reply: Option<Subject>,
    /// When the broker stored it.
    pub stored_at: UnixMicros,
    /// Whether it may have been delivered before.
    pub redelivered: bool,
    /// Messages of the stream behind it.
    pub pending: u64,
}

impl Incoming {
    /// Of a message that came at `now`.
    pub fn new(message: Message, now: UnixMicros) -> Self {
        // A publisher that waits for an answer has a reply subject too: nobody answers it here.
        let reply = message.reply.filter(|reply| reply.starts_with("$JS.ACK."));
        let delivery = reply.as_deref().map(Delivery::parse);
        let (stored_at, redelivered, pending) = match delivery {
            Some(Some(delivery)) => (delivery.stored_at, delivery.delivered > 1, delivery.pending),
            // Without it nobody knows whether it came before.
            Some(None) => (now, true, 0),
            None => (now, false, 0),
        };
        Self { subject: message.subject, payload: message.payload, reply, stored_at, redelivered, pending }
    }

    /// The tenant is the token after the prefix, so that the broker's permissions decide who publishes for whom.
    ///
    /// # Errors
    /// If it is no name that a tenant could have.
    pub fn tenant(&self, prefix: &str) -> Result<TenantName, Refusal> {
        let rest = self.subject.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('.'));
        let token = rest.and_then(|rest| rest.split('.').next()).unwrap_or_default();
        TenantName::parse(token).map_err(|error| Refusal::new(Reason::UnknownTenant, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_brokers_subject_are_read() {
        let expected = Delivery {
            delivered: 2,
            sequence: 1001,
            stored_at: UnixMicros(1_790_000_000_000_001),
            pending: 17,
        };
        for reply in [
            "$JS.ACK.READINGS.watchbell.2.1001.900.1790000000000001999.17",
            "$JS.ACK.hub.ACC0UNT.READINGS.watchbell.2.1001.900.1790000000000001999.17",
            "$JS.ACK.hub.ACC0UNT.READINGS.watchbell.2.1001.900.1790000000000001999.17.x7Yz",
        ] {
            assert_eq!(Delivery::parse(reply), Some(expected), "{reply}");
        }
        for reply in
            ["", "$JS.ACK.a.b", "_INBOX.a.b.c.d.e.f.g.h", "$JS.ACK.S.c.x.1.1.1.1", "$JS.ACK.S.c.1.1.1.y.1"]
        {
            assert_eq!(Delivery::parse(reply), None, "{reply}");
        }
    }
}

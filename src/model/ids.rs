//! Identities as types, so that one can't be passed for another. Small integers stay inside the database; what is
//! shown outside is a UUIDv7, whose first 48 bits are the Unix time in milliseconds (RFC 9562, section 5.7).

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! integer_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub i32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id, of now.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    )+};
}

integer_id! {
    /// A customer.
    TenantId,
    /// A device of a tenant.
    DeviceId,
    /// A metric of a device.
    SeriesId,
}

uuid_id! {
    /// A rule, whatever its version.
    RuleId,
    /// Something that is wrong with a series.
    AlertId,
    /// Somebody's wish not to be told for a while.
    SilenceId,
    /// One thing that one destination must be told. The same over all attempts.
    NotificationId,
    /// Where people are told.
    DestinationId,
    /// A process that delivers, as long as it renews its heartbeat in time.
    WorkerId,
    /// An API key.
    KeyId,
}

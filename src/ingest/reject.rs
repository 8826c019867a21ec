//! What came in and was not a reading: kept with its reason, so that somebody can mend the sensor.

use crate::model::ids::TenantId;

/// Bytes of the input that are kept.
const PAYLOAD_KEPT: usize = 1024;
/// Bytes of the explanation that are kept: it may repeat the input.
const DETAIL_KEPT: usize = 500;

/// Why an input is not a reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The message is not JSON.
    NotJson,
    /// A field is missing or of another type.
    NotAReading,
    /// The value is not a finite number, or so large that its square could not be computed.
    NotFinite,
    /// A name or unit is empty, too long, or has control characters.
    BadText,
    /// The time can't be read.
    BadTime,
    /// The time lies before the accepted window.
    TooOld,
    /// The time lies further ahead than clocks may differ.
    InTheFuture,
    /// The subject names no tenant, or one that does not exist.
    UnknownTenant,
    /// The device or series is new, and the tenant has as many as it may have.
    Quota,
    /// Another value is stored for the same series and time.
    ConflictingValue,
    /// PostgreSQL refused the row for what is in it.
    RefusedByDatabase,
}

impl Reason {
    /// As it stands in `rejected_readings.reason` and in the metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotJson => "not_json",
            Self::NotAReading => "not_a_reading",
            Self::NotFinite => "not_finite",
            Self::BadText => "bad_text",
            Self::BadTime => "bad_time",
            Self::TooOld => "too_old",
            Self::InTheFuture => "in_the_future",
            Self::UnknownTenant => "unknown_tenant",
            Self::Quota => "quota",
            Self::ConflictingValue => "conflicting_value",
            Self::RefusedByDatabase => "refused_by_database",
        }
    }
}

/// An input that was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reject {
    /// Whose, if the tenant is known.
    pub tenant: Option<TenantId>,
    /// The subject it came on.
    pub subject: String,
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    pub detail: String,
    /// The beginning of the input.
    pub payload: Vec<u8>,
}

/// A reason with words, not yet bound to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Why, in words.
    pub detail: String,
}

impl Refusal {
    /// A refusal; `detail` becomes legal text for PostgreSQL, and short.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        let mut detail: String = detail.into();
        detail.truncate(detail.floor_char_boundary(DETAIL_KEPT));
        // Not kept at the size that it had.
        detail.shrink_to_fit();
        if detail.contains('\0') {
            detail = detail.replace('\0', "\\0");
        }
        Self { reason, detail }
    }

    /// Binds it to the input that it is about.
    pub fn of(self, tenant: Option<TenantId>, subject: &str, payload: &[u8]) -> Reject {
        let payload = payload[..payload.len().min(PAYLOAD_KEPT)].to_vec();
        Reject {
            tenant,
            subject: subject.replace('\0', "\\0"),
            reason: self.reason,
            detail: self.detail,
            payload,
        }
    }
}

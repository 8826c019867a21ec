//! How an HTTP answer is read: the default for every destination. Pure.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// What an answer means for the notification, before the retry policy says when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted.
    Delivered,
    /// Not now; not before the time that the receiver asked for, if it did.
    Retry {
        /// From now.
        not_before: Option<Duration>,
    },
    /// It answers us, but with these credentials or at this address it never will: the destination waits for a person.
    Hold,
    /// The receiver is gone for good: the destination waits for a person, and nothing is tried.
    Park,
    /// This notification will never be accepted.
    Dead,
}

/// Reads a status. `retry_after` is the header's text, `now` the moment of the answer.
pub fn read(status: u16, retry_after: Option<&str>, now: Timestamp) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        401 | 403 | 404 => Verdict::Hold,
        410 => Verdict::Park,
        400 | 413 | 422 => Verdict::Dead,
        // 408, 425, 429, 5xx. Redirects are never followed, and other answers may be a proxy's: both may be mended.
        _ => Verdict::Retry { not_before: retry_after.and_then(|text| read_retry_after(text, now)) },
    }
}

/// `Retry-After` is a number of seconds or an HTTP date in one of its three forms (RFC 9110, sections 10.2.3 and 5.6.7). A date that is
/// past asks for nothing.
fn read_retry_after(text: &str, now: Timestamp) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More than a u32 holds is more than a century: the horizon caps it.
        return Some(Duration::from_secs(text.parse::<u32>().unwrap_or(u32::MAX).into()));
    }
    httpdate::parse_http_date(text).ok()?.duration_since(SystemTime::from(now)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn every_status_leads_where_the_contract_says() {
        let now = at("2026-01-01T00:00:00Z");
        let retry = Verdict::Retry { not_before: None };
        for (statuses, expected) in [
            (&[200, 201, 202, 204][..], Verdict::Delivered),
            (&[401, 403, 404], Verdict::Hold),
            (&[410], Verdict::Park),
            (&[400, 413, 422], Verdict::Dead),
            (&[301, 302, 307, 408, 418, 425, 429, 500, 502, 503, 504, 599], retry),
        ] {
            for status in statuses {
                assert_eq!(read(*status, None, now), expected, "{status}");
            }
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = at("2026-01-01T00:00:00Z");
        let asked = |text| match read(429, Some(text), now) {
            Verdict::Retry { not_before } => not_before.map(|wait| wait.as_secs()),
            other => panic!("{other:?}"),
        };
        assert_eq!(asked("60"), Some(60));
        assert_eq!(asked(" 31536000 "), Some(31_536_000));
        for two_minutes in
            ["Thu, 01 Jan 2026 00:02:00 GMT", "Thursday, 01-Jan-26 00:02:00 GMT", "Thu Jan  1 00:02:00 2026"]
        {
            assert_eq!(asked(two_minutes), Some(120), "{two_minutes}");
        }
        assert!(asked("Fri, 31 Dec 9999 23:59:59 GMT").is_some());
        assert_eq!(asked("Wed, 31 Dec 2025 00:00:00 GMT"), None);
        assert_eq!(asked("99999999999999999999999"), Some(u32::MAX.into()));
        for nonsense in ["", "-1", "soon", "1e3"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }
}

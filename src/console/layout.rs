//! What all pages share: the frame, the style, how times and states look, and what people see when something fails.
//!
//! Invariant: what comes from outside goes through `maud`, which escapes it, and no page may run a script.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use jiff::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::db::error::DatabaseError;

/// The style of all pages.
pub const STYLE: &str = include_str!("console.css");
/// Where it is served.
pub const STYLE_PATH: &str = "/console.css";

const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
);

/// A page of the house. One with `refresh_seconds` loads itself again.
pub fn page(
    status: StatusCode,
    title: &str,
    tenant: Option<&str>,
    refresh_seconds: Option<u32>,
    content: &Markup,
) -> Response {
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                @if let Some(seconds) = refresh_seconds { meta http-equiv="refresh" content=(seconds); }
                title { (title) " · Watchbell" }
                link rel="stylesheet" href=(STYLE_PATH);
            }
            body {
                header {
                    a.home href="/" { "Watchbell" }
                    @if let Some(tenant) = tenant { span.tenant { (tenant) } }
                }
                main { (content) }
            }
        }
    };
    let mut response = (status, Html(markup.into_string())).into_response();
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY);
    response
}

/// A page that says one thing.
pub fn message(status: StatusCode, title: &str, text: &str) -> Response {
    page(status, title, None, None, &html! { h1 { (title) } p { (text) } })
}

/// The page for when the database does not do what it should. What it said is logged here.
pub fn failure(error: DatabaseError) -> Response {
    if error.is_transient() {
        tracing::warn!(%error, "a page found the database away");
        let content = html! {
            h1 { "The database does not answer" }
            p { "Alerts are not lost: readings wait in the stream. This page tries again by itself." }
        };
        let mut response = page(StatusCode::SERVICE_UNAVAILABLE, "Database away", None, Some(5), &content);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        response
    } else {
        tracing::error!(%error, "a page failed in the database");
        message(StatusCode::INTERNAL_SERVER_ERROR, "Something is broken here", "The log has the details.")
    }
}

/// A state, coloured by how good it is.
pub fn badge(state: &str) -> Markup {
    let mood = match state {
        "delivered" | "resolved" => "good",
        "critical" | "error" | "dead" | "missing" => "bad",
        "warning" | "retrying" | "retry" | "hold" | "ambiguous" | "unknown" | "abandoned" | "open" => {
            "uneasy"
        }
        _ => "plain",
    };
    html! { span class=(format!("badge {mood}")) { (state.replace('_', " ")) } }
}

/// A moment: how long ago, or how far ahead, and in UTC.
pub fn moment(at: Timestamp, now: Timestamp) -> Markup {
    html! {
        time datetime=(at) { (utc(at)) span.ago { (distance(at, now)) } }
    }
}

/// [`moment`] of what may not have happened.
pub fn maybe_moment(at: Option<Timestamp>, now: Timestamp) -> Markup {
    html! { @match at { Some(at) => (moment(at, now)), None => "–" } }
}

/// A number as a person wants to read it: at most six significant digits, or as an exponent where that is shorter.
pub fn number(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude != 0.0 && !(1e-4..1e9).contains(&magnitude) {
        return format!("{value:e}");
    }
    let before_the_point = if magnitude >= 1.0 { magnitude.log10() as usize + 1 } else { 0 };
    let text = format!("{value:.*}", 6_usize.saturating_sub(before_the_point));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn utc(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn distance(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    let text = match seconds.unsigned_abs() {
        n @ 0..120 => format!("{n} s"),
        n @ 120..7_200 => format!("{} min", n / 60),
        n @ 7_200..172_800 => format!("{} h", n / 3600),
        n => format!("{} days", n / 86_400),
    };
    if seconds < 0 { format!("in {text}") } else { format!("{text} ago") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_short_and_says_which_way() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        for (at, expected) in [
            ("2026-01-02T03:04:05Z", "0 s ago"),
            ("2026-01-02T03:02:06Z", "119 s ago"),
            ("2026-01-02T03:00:00Z", "4 min ago"),
            ("2026-01-01T00:00:00Z", "27 h ago"),
            ("2025-12-25T00:00:00Z", "8 days ago"),
            ("2026-01-02T03:04:35Z", "in 30 s"),
        ] {
            assert_eq!(distance(at.parse().unwrap(), now), expected);
        }
        assert_eq!(utc(now), "2026-01-02 03:04:05 UTC");
    }

    #[test]
    fn a_number_is_short() {
        for (value, expected) in [
            (0.0, "0"),
            (80.0, "80"),
            (-81.25, "-81.25"),
            (0.1 + 0.2, "0.3"),
            (1234567.0, "1234567"),
            (100.0, "100"),
            (1e12, "1e12"),
            (0.00001, "1e-5"),
        ] {
            assert_eq!(number(value), expected);
        }
    }
}

//! The notification hub's contract, purely: what it answers to a call.
//!
//! Owns the key check, the schema, the rate limit and the duplicate check. It takes the time and touches no I/O.
//! Two rules surprise, and are therefore here: a body that is no JSON or over 1 MiB is answered 500 and not 4xx, so
//! "retry every 5xx for ever" never ends; and the duplicate check looks at `event_id` alone, so a "resolved" that
//! re-uses the id of its "opened" is swallowed. [`super::server`] calls it.

use std::collections::{HashSet, VecDeque};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::answer::Reply;
use super::contract::{Call, Contract};

/// Where events are posted to.
pub const EVENTS_PATH: &str = "/api/events";
/// The largest body that is read.
pub const BODY_LIMIT: usize = 1024 * 1024;
/// How long an `event_id` is remembered.
pub const DUPLICATE_WINDOW: Duration = Duration::from_secs(60 * 60);
const RATE_WINDOW: Duration = Duration::from_secs(60);
/// Bounds the memory of the duplicate check.
const REMEMBERED: usize = 100_000;

/// The hub's mind: what it is set to, and what it remembers.
#[derive(Debug)]
pub struct Rules {
    api_key: String,
    rate_per_minute: Option<u32>,
    processed: u32,
    unavailable: usize,
    window: Option<(Instant, u32)>,
    told: VecDeque<(Instant, String)>,
    told_ids: HashSet<String>,
}

impl Rules {
    /// A hub that accepts `api_key`, answers 503 to the `first_503` first calls, lets `rate_per_minute` calls pass in
    /// each minute, and says of each event that `processed` rules had a recipient for it.
    pub fn new(api_key: &str, first_503: usize, rate_per_minute: Option<u32>, processed: u32) -> Self {
        Self {
            api_key: api_key.to_owned(),
            rate_per_minute,
            processed,
            unavailable: first_503,
            window: None,
            told: VecDeque::new(),
            told_ids: HashSet::new(),
        }
    }

    /// Counts a call; when it is one too many, how long until the window ends.
    fn over_the_limit(&mut self, now: Instant) -> Option<Duration> {
        let limit = self.rate_per_minute?;
        let (start, used) = match self.window {
            Some((start, used)) if now.duration_since(start) < RATE_WINDOW => (start, used),
            _ => (now, 0),
        };
        if used >= limit {
            return Some(RATE_WINDOW - now.duration_since(start));
        }
        self.window = Some((start, used + 1));
        None
    }

    /// Remembers an event; false when it is remembered already.
    fn is_new(&mut self, event_id: &str, now: Instant) -> bool {
        while let Some((at, _)) = self.told.front()
            && (now.duration_since(*at) >= DUPLICATE_WINDOW || self.told.len() >= REMEMBERED)
        {
            if let Some((_, forgotten)) = self.told.pop_front() {
                self.told_ids.remove(&forgotten);
            }
        }
        if !self.told_ids.insert(event_id.to_owned()) {
            return false;
        }
        self.told.push_back((now, event_id.to_owned()));
        true
    }
}

/// The `event_id` of a valid event, or what is wrong with it.
fn schema(event: &Value) -> Result<&str, &'static str> {
    let text = |name: &str| event[name].as_str().filter(|text| !text.is_empty());
    if text("event_type").is_none() {
        return Err("event_type must be a non-empty string");
    }
    if !event["payload"].is_object() {
        return Err("payload must be an object");
    }
    text("event_id").ok_or("event_id must be a non-empty string")
}

fn error(status: u16, code: &str, message: &str) -> Reply {
    Reply::json(status, &json!({ "error": { "code": code, "message": message } }))
}

impl Contract for Rules {
    fn answer(&mut self, call: Call<'_>, now: Instant) -> Reply {
        if self.unavailable > 0 {
            self.unavailable -= 1;
            return error(503, "SERVICE_UNAVAILABLE", "not ready yet");
        }
        if call.method != "POST" || call.path != EVENTS_PATH {
            return error(404, "NOT_FOUND", "no such route");
        }
        // The body is parsed before anything else looks at the call, and its errors have no status of their own.
        let event: Option<Value> = call.body.and_then(|body| serde_json::from_slice(body).ok());
        let Some(event) = event else {
            return error(500, "INTERNAL_ERROR", "internal server error");
        };
        if call.header("x-api-key") != Some(self.api_key.as_str()) {
            return error(401, "UNAUTHORIZED", "missing or unknown API key");
        }
        if let Some(wait) = self.over_the_limit(now) {
            let seconds = wait.as_millis().div_ceil(1_000).max(1);
            return error(429, "RATE_LIMIT_EXCEEDED", "too many requests")
                .with_header("retry-after", &seconds.to_string());
        }
        match schema(&event) {
            Err(what) => error(400, "VALIDATION_ERROR", what),
            Ok(event_id) => {
                let processed = if self.is_new(event_id, now) { self.processed } else { 0 };
                Reply::json(200, &json!({ "published": true, "processed": processed }))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    const GOOD: &str = r#"{"event_type":"alert.opened","event_id":"n-1","payload":{},"other":1}"#;

    fn post<'a>(key: &'a str, body: &'a str) -> Call<'a> {
        Call { method: "POST", path: EVENTS_PATH, headers: headers(key), body: Some(body.as_bytes()) }
    }

    fn headers(key: &str) -> &'static HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", key.parse().unwrap());
        Box::leak(Box::new(headers))
    }

    fn hub() -> Rules {
        Rules::new("key", 0, None, 2)
    }

    #[test]
    fn an_event_is_accepted_and_says_how_many_rules_had_a_recipient() {
        let reply = hub().answer(post("key", GOOD), Instant::now());
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"processed":2,"published":true}"#));
    }

    #[test]
    fn a_missing_or_unknown_key_is_refused() {
        let now = Instant::now();
        assert_eq!(hub().answer(post("other", GOOD), now).status, 401);
        assert_eq!(
            hub().answer(Call { headers: Box::leak(Box::default()), ..post("", GOOD) }, now).status,
            401
        );
    }

    #[test]
    fn a_violated_schema_is_a_validation_error() {
        for body in [
            "[]",
            r#"{"event_id":"n","payload":{}}"#,
            r#"{"event_type":"","event_id":"n","payload":{}}"#,
            r#"{"event_type":"t","event_id":"","payload":{}}"#,
            r#"{"event_type":"t","event_id":7,"payload":{}}"#,
            r#"{"event_type":"t","event_id":"n","payload":[]}"#,
            r#"{"event_type":"t","event_id":"n"}"#,
        ] {
            let reply = hub().answer(post("key", body), Instant::now());
            assert_eq!(reply.status, 400, "{body}");
            assert!(reply.body.contains(r#""code":"VALIDATION_ERROR""#), "{}", reply.body);
        }
    }

    #[test]
    fn malformed_json_and_a_body_too_large_are_answered_500() {
        let now = Instant::now();
        assert_eq!(hub().answer(post("key", "{"), now).status, 500);
        assert_eq!(hub().answer(Call { body: None, ..post("key", "") }, now).status, 500);
    }

    #[test]
    fn the_rate_limit_is_a_fixed_window_and_says_when_it_ends() {
        let mut hub = Rules::new("key", 0, Some(2), 1);
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(hub.answer(post("key", GOOD), at(0)).status, 200);
        assert_eq!(hub.answer(post("key", GOOD), at(10)).status, 200);
        let refused = hub.answer(post("key", GOOD), at(20));
        assert_eq!(refused.status, 429);
        assert!(refused.headers.contains(&("retry-after".into(), "40".into())), "{:?}", refused.headers);
        assert_eq!(hub.answer(post("key", GOOD), at(59)).status, 429);
        assert_eq!(hub.answer(post("key", GOOD), at(60)).status, 200);
    }

    #[test]
    fn a_repeat_within_the_hour_is_told_to_nobody_even_under_another_type() {
        let mut hub = hub();
        let start = Instant::now();
        let resolved = GOOD.replace("opened", "resolved");
        assert!(hub.answer(post("key", GOOD), start).body.contains(r#""processed":2"#));
        let repeat = hub.answer(post("key", &resolved), start + DUPLICATE_WINDOW - Duration::from_secs(1));
        assert_eq!((repeat.status, repeat.body.contains(r#""processed":0"#)), (200, true));
        let late = hub.answer(post("key", GOOD), start + DUPLICATE_WINDOW);
        assert!(late.body.contains(r#""processed":2"#), "{}", late.body);
    }

    #[test]
    fn the_first_calls_find_it_unavailable() {
        let mut hub = Rules::new("key", 2, None, 1);
        let statuses: Vec<u16> =
            (0..3).map(|_| hub.answer(post("key", GOOD), Instant::now()).status).collect();
        assert_eq!(statuses, [503, 503, 200]);
    }

    #[test]
    fn another_path_or_method_is_not_found() {
        let now = Instant::now();
        assert_eq!(hub().answer(Call { path: "/", ..post("key", GOOD) }, now).status, 404);
        assert_eq!(hub().answer(Call { method: "GET", ..post("key", GOOD) }, now).status, 404);
    }
}

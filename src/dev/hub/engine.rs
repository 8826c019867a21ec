//! The workflow engine's contract, purely: what it answers to a call.
//!
//! It never removes duplicates: every accepted call is another execution.

use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::json;
use sha2::Sha256;
use uuid::Uuid;

use super::answer::Reply;
use super::contract::{Call, Contract};

const RATE_WINDOW: Duration = Duration::from_secs(60);

/// An engine with one active workflow.
#[derive(Debug)]
pub struct EngineRules {
    path: String,
    secret: Option<String>,
    rate_per_minute: Option<u32>,
    window: Option<(Instant, u32)>,
}

impl EngineRules {
    /// Its workflow is at `/webhooks/{path}`, and wants a signature if there is a secret.
    pub fn new(path: &str, secret: Option<&str>, rate_per_minute: Option<u32>) -> Self {
        Self {
            path: format!("/webhooks/{path}"),
            secret: secret.map(str::to_owned),
            rate_per_minute,
            window: None,
        }
    }

    fn is_signed(&self, call: Call<'_>, body: &[u8]) -> bool {
        let Some(secret) = &self.secret else { return true };
        let presented = call.header("x-hub-signature-256").and_then(|text| text.strip_prefix("sha256="));
        let Ok(mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
        let expected: String =
            mac.chain_update(body).finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        presented == Some(expected.as_str())
    }
}

impl Contract for EngineRules {
    fn answer(&mut self, call: Call<'_>, now: Instant) -> Reply {
        if call.method != "POST" || call.path != self.path {
            return Reply::json(404, &json!({ "error": "unknown path, or the workflow is inactive" }));
        }
        let Some(body) = call.body else {
            return Reply::json(413, &json!({ "error": "larger than 1 MiB" }));
        };
        if !self.is_signed(call, body) {
            return Reply::json(401, &json!({ "error": "signature missing or wrong" }));
        }
        if let Some(limit) = self.rate_per_minute {
            let (start, used) = match self.window {
                Some((start, used)) if now.duration_since(start) < RATE_WINDOW => (start, used),
                _ => (now, 0),
            };
            if used >= limit {
                let wait = RATE_WINDOW - now.duration_since(start);
                return Reply::json(429, &json!({ "error": "too many calls" }))
                    .with_header("retry-after", &wait.as_secs().max(1).to_string());
            }
            self.window = Some((start, used + 1));
        }
        Reply::json(202, &json!({ "execution_id": Uuid::now_v7() }))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderMap;

    use super::*;

    fn status(rules: &mut EngineRules, path: &str, signature: Option<&str>, body: Option<&[u8]>) -> u16 {
        let mut headers = HeaderMap::new();
        if let Some(signature) = signature {
            headers.insert("x-hub-signature-256", signature.parse().unwrap());
        }
        rules.answer(Call { method: "POST", path, headers: &headers, body }, Instant::now()).status
    }

    #[test]
    fn it_answers_as_its_contract_says() {
        // The vector of the contract.
        let good = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let body = Some(&b"Hello, World!"[..]);
        let mut engine = EngineRules::new("page", Some("It's a Secret to Everybody"), Some(1));
        assert_eq!(status(&mut engine, "/webhooks/other", Some(good), body), 404);
        assert_eq!(status(&mut engine, "/webhooks/page", None, body), 401);
        assert_eq!(status(&mut engine, "/webhooks/page", Some(good), Some(b"Hello")), 401);
        assert_eq!(status(&mut engine, "/webhooks/page", Some(good), None), 413);
        assert_eq!(status(&mut engine, "/webhooks/page", Some(good), body), 202);
        assert_eq!(status(&mut engine, "/webhooks/page", Some(good), body), 429);
        assert_eq!(status(&mut EngineRules::new("page", None, None), "/webhooks/page", None, body), 202);
    }
}

//! `GET /healthz`, `/readyz` and `/metrics`: for whoever runs the service. None needs a key; none shows a tenant's data.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;

use super::problem::Problem;
use super::readings::Held;
use super::state::ApiState;
use crate::db::migrations;
use crate::db::pool::Pool;

/// All checks of the database together take no longer.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// From this share of the stream's bytes on, in per cent, the next message may be refused.
const FULL: u64 = 99;
/// From this share on it is worth a look.
const FILLING_UP: u64 = 80;

/// What one check found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    ok: bool,
    detail: String,
}

impl Check {
    fn passed(detail: &str) -> Self {
        Self { ok: true, detail: detail.to_owned() }
    }

    fn failed(detail: impl Into<String>) -> Self {
        Self { ok: false, detail: detail.into() }
    }
}

/// `GET /healthz`: the process lives. Whether it can work is `/readyz`: a database that is away is no reason to
/// restart a process.
pub(super) async fn get_healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

/// `GET /readyz`: the process can answer.
pub(super) async fn get_readyz(State(state): State<ApiState>) -> Response {
    let (database, schema) = match tokio::time::timeout(CHECK_TIMEOUT, check_database(&state.pool)).await {
        Ok(checks) => checks,
        Err(_) => not_reached(format!("no answer within {} s", CHECK_TIMEOUT.as_secs())),
    };
    let mut checks = BTreeMap::from([("database", database), ("schema", schema)]);
    if let Some(is_connected) = &state.broker {
        let broker = if is_connected() { Check::passed("connected") } else { Check::failed("not connected") };
        checks.insert("broker", broker);
    }
    if let Some(intake) = &state.intake
        && let Some(fullness) = intake.fullness().await
    {
        checks.insert("stream", check_stream(fullness));
    }
    let failed: Vec<&str> = checks.iter().filter(|(_, check)| !check.ok).map(|(name, _)| *name).collect();
    if failed.is_empty() {
        return Json(json!({ "status": "ok", "checks": checks })).into_response();
    }
    Problem::unavailable(&format!("not ready: {}", failed.join(", ")))
        .with("checks", json!(checks))
        .into_response()
}

/// `GET /metrics`, in the OpenMetrics text format.
pub(super) async fn get_metrics(State(state): State<ApiState>) -> Response {
    match state.metrics.render() {
        Ok(text) => {
            let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, content_type)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "failed to render the metrics");
            Problem::internal().into_response()
        }
    }
}

/// Whether publishers are refused, or will be soon.
fn check_stream(fullness: Result<Held, String>) -> Check {
    let Held { bytes, max_bytes } = match fullness {
        Ok(held) => held,
        Err(problem) => return Check::failed(problem),
    };
    match bytes.saturating_mul(100) / max_bytes.max(1) {
        FULL.. => {
            Check::failed(format!("full: it holds {bytes} of {max_bytes} bytes, publishers are refused"))
        }
        percent @ FILLING_UP.. => Check::passed(&format!("filling up: {percent} %")),
        _ => Check::passed("has room"),
    }
}

/// Whether the database answers the API role, and whether it has all migrations that this program knows.
async fn check_database(pool: &Pool) -> (Check, Check) {
    let connection = match pool.get().await {
        Ok(connection) => connection,
        Err(error) => {
            // Who may ask this is unknown: what the driver says stays in the log.
            tracing::warn!(%error, "the database is not ready");
            return not_reached("does not answer");
        }
    };
    match migrations::pending(&**connection).await {
        Ok(pending) if pending.is_empty() => (Check::passed("answers"), Check::passed("up to date")),
        Ok(pending) => {
            let detail = format!("lacks {}: run `watchbell migrate`", pending.join(", "));
            (Check::passed("answers"), Check::failed(detail))
        }
        Err(error) => {
            tracing::warn!(%error, "the database is not ready");
            not_reached("does not answer")
        }
    }
}

fn not_reached(detail: impl Into<String>) -> (Check, Check) {
    (Check::failed(detail), Check::failed("not checked"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_has_room_fills_up_and_is_full() {
        let check = |bytes| check_stream(Ok(Held { bytes, max_bytes: 1_000 }));
        assert_eq!(check(0), Check::passed("has room"));
        assert_eq!(check(799), Check::passed("has room"));
        assert_eq!(check(800), Check::passed("filling up: 80 %"));
        assert_eq!(check(989), Check::passed("filling up: 98 %"));
        let full = "full: it holds 990 of 1000 bytes, publishers are refused";
        assert_eq!(check(990), Check::failed(full));
        assert!(!check_stream(Err("it is away".to_owned())).ok);
    }
}

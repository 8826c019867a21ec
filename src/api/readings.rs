//! `POST /api/readings`: hands readings in over HTTP.
//!
//! Invariant: 202 is answered when the broker has stored every reading that it counts as accepted, and not before.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::Context;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::Instant;

use super::auth::authorize;
use super::body::{Encoding, too_large, unpack};
use super::problem::Problem;
use super::scope::Scope;
use super::state::ApiState;
use crate::config::{self, Source};
use crate::ingest::sorting::{Refused, Sorted};
use crate::ingest::validate::Window;
use crate::model::reading::UnixMicros;
use crate::telemetry::metrics::{ByReason, Metrics};

/// Requests that are unpacked and published at once: each may hold what the limits allow.
const AT_ONCE: usize = 4;
/// Messages under way to the broker for one request.
const UNDER_WAY: usize = 16;
/// What the broker said of its stream is good for so long.
const STATE_GOOD_FOR: Duration = Duration::from_secs(1);
/// The broker has this long to say it.
const STATE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where readings go that come over HTTP.
pub struct Intake {
    jetstream: Context,
    ingest: config::Ingest,
    body_max_bytes: usize,
    unpacked_max_bytes: usize,
    permits: Semaphore,
    state: Mutex<Option<(Instant, Result<u64, String>)>>,
}

impl fmt::Debug for Intake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Intake").finish_non_exhaustive()
    }
}

impl Intake {
    /// Publishes over `jetstream`.
    pub fn new(jetstream: Context, config: &config::Config) -> Self {
        Self {
            jetstream,
            ingest: config.ingest.clone(),
            body_max_bytes: config.api.readings_body_max_bytes,
            unpacked_max_bytes: config.api.readings_unpacked_max_bytes,
            permits: Semaphore::new(AT_ONCE),
            state: Mutex::default(),
        }
    }

    /// How full the stream is, 0 to 1; `None` if readings do not come from a stream. Asked anew once a second at most.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub async fn fullness(&self) -> Option<Result<f64, String>> {
        if self.ingest.source == Source::Core {
            return None;
        }
        let mut state = self.state.lock().await;
        let is_good = |(at, _): &&(Instant, _)| at.elapsed() < STATE_GOOD_FOR;
        let bytes = match state.as_ref().filter(is_good) {
            Some((_, bytes)) => bytes.clone(),
            None => {
                let name = &self.ingest.stream;
                let asked = tokio::time::timeout(STATE_TIMEOUT, self.jetstream.get_stream(name)).await;
                let bytes = match asked {
                    Ok(Ok(stream)) => Ok(stream.cached_info().state.bytes),
                    Ok(Err(error)) => Err(format!("the stream {name} can't be asked: {error}")),
                    Err(_) => Err("the broker does not answer".to_owned()),
                };
                *state = Some((Instant::now(), bytes.clone()));
                bytes
            }
        };
        Some(bytes.map(|bytes| bytes as f64 / self.ingest.stream_max_bytes.max(1) as f64))
    }

    /// Publishes messages; how many readings the broker has stored, and what went wrong with another.
    async fn publish(&self, tenant: &str, messages: Vec<(Bytes, usize)>) -> (usize, Option<String>) {
        let subject = format!("{}.{tenant}", self.ingest.subject_prefix);
        let publishing = stream::iter(messages).map(|(message, readings)| {
            let sent = self.jetstream.publish(subject.clone(), message);
            async move { sent.await?.await.map(|_| readings) }
        });
        let mut publishing = publishing.buffer_unordered(UNDER_WAY);
        let (mut stored, mut failed) = (0, None);
        while let Some(published) = publishing.next().await {
            match published {
                Ok(readings) => stored += readings,
                Err(error) => {
                    failed = Some(error.to_string());
                    break;
                }
            }
        }
        // What is under way may be stored all the same: that is counted too.
        while failed.is_some()
            && let Some(published) = publishing.next().await
        {
            stored += published.unwrap_or_default();
        }
        (stored, failed)
    }
}

/// The answer: the broker has stored them.
#[derive(Debug, Serialize)]
pub(super) struct Answer {
    accepted: usize,
    refused: usize,
    refusals: Vec<Refused>,
}

/// `POST /api/readings` with a JSON object, an array of them, or lines of either.
pub(super) async fn post(
    State(state): State<ApiState>,
    request: Request,
) -> Result<(StatusCode, Json<Answer>), Problem> {
    let (parts, body) = request.into_parts();
    let caller = authorize(&parts, &state, Scope::Publish).await?;
    let intake = match &state.intake {
        Some(intake) if intake.ingest.source == Source::Jetstream => intake,
        Some(_) => {
            return Err(Problem::unavailable(
                "readings come by plain NATS here (ingest.source = core): nothing is kept",
            ));
        }
        None => return Err(Problem::unavailable("this process has no broker: nats.url is not set")),
    };
    let is_lines = is_lines(&parts.headers)?;
    let encoding = Encoding::of(&parts.headers)?;
    let Ok(_permit) = intake.permits.try_acquire() else {
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests with readings at once");
        return Err(problem.header(header::RETRY_AFTER, HeaderValue::from_static("1")));
    };
    let body = axum::body::to_bytes(body, intake.body_max_bytes)
        .await
        .map_err(|_| too_large("as it is sent", intake.body_max_bytes))?;
    let now = UnixMicros::from(Timestamp::now());
    let window = Window::around(now, intake.ingest.accepted_days, intake.ingest.future_tolerance_seconds);
    let limit = intake.unpacked_max_bytes;
    // It may take a while, and there are others to be answered.
    let sorting = tokio::task::spawn_blocking(move || {
        let body = unpack(body, encoding, limit)?;
        if is_lines {
            return Ok(Sorted::of_lines(&body, now, window));
        }
        Sorted::of_json(&body, now, window).map_err(|refusal| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {}", refusal.detail))
        })
    });
    let sorted = sorting.await.map_err(|error| {
        tracing::error!(%error, "sorting readings failed");
        Problem::internal()
    })??;
    let Sorted { messages, accepted, refused, refusals, .. } = sorted;
    count_refusals(&state.metrics, &refusals);
    if accepted == 0 && refused > 0 {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "none of these is a reading");
        return Err(problem.with("refused", refused).with("refusals", json!(refusals)));
    }
    let (stored, failed) = intake.publish(&caller.tenant, messages).await;
    state.metrics.readings_posted.inc_by(stored as u64);
    if let Some(error) = failed {
        tracing::warn!(
            tenant = caller.tenant,
            stored,
            of = accepted,
            error,
            "the broker did not take all posted readings"
        );
        let detail = "the broker did not confirm all of them, it may be full or away: send them all again; a reading \
                      that has a `ts` is stored once";
        return Err(Problem::unavailable(detail).with("stored", stored).with("refused", refused));
    }
    Ok((StatusCode::ACCEPTED, Json(Answer { accepted, refused, refusals })))
}

fn is_lines(headers: &HeaderMap) -> Result<bool, Problem> {
    let named = headers.get(header::CONTENT_TYPE).map(|value| value.to_str().unwrap_or_default());
    let media_type =
        named.map(|named| named.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    match media_type.as_deref() {
        // What curl says of -d, and so says nothing.
        None | Some("application/json" | "application/x-www-form-urlencoded") => Ok(false),
        Some("application/x-ndjson" | "application/ndjson" | "application/jsonl") => Ok(true),
        Some(_) => Err(Problem::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "the Content-Type must be application/json or application/x-ndjson",
        )),
    }
}

fn count_refusals(metrics: &Metrics, refusals: &[Refused]) {
    for refused in refusals {
        metrics.posted_refused.get_or_create(&ByReason { reason: refused.reason }).inc();
    }
}

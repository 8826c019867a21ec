//! `POST /api/readings`: hands readings in over HTTP.
//!
//! Invariant: 202 is answered when the broker has stored every reading that it counts as accepted, and not before.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_nats::jetstream::Context;
use axum::Json;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{Instant, timeout_at};

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
/// No reading takes fewer bytes: `{"device":"a","metric":"b","value":1}`.
const SMALLEST_READING: usize = 37;
/// Messages under way to the broker for one request.
const UNDER_WAY: usize = 16;
/// What the broker has not confirmed this long after the request came counts as not stored. Less than a request may take
/// as a whole: who sent it is to hear how many are.
const ANSWER_WITHIN: Duration = Duration::from_secs(25);
/// A broker that is not connected may come back within this: a process that has just started connects beside its start.
const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// And is looked at this often.
const CONNECT_LOOK: Duration = Duration::from_millis(20);
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
    permits: Arc<Semaphore>,
    /// Times before it were given to readings that brought none.
    next_time: Arc<AtomicI64>,
    state: Mutex<Option<(Instant, Result<u64, String>)>>,
}

/// What the stream holds, of what it may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Bytes in it.
    pub bytes: u64,
    /// `ingest.stream_max_bytes`
    pub max_bytes: u64,
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
            permits: Arc::new(Semaphore::new(AT_ONCE)),
            next_time: Arc::default(),
            state: Mutex::default(),
        }
    }

    /// How full the stream is; `None` if readings do not come from a stream. Asked anew once a second at most.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub async fn fullness(&self) -> Option<Result<Held, String>> {
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
        let max_bytes = u64::try_from(self.ingest.stream_max_bytes).unwrap_or_default();
        Some(bytes.map(|bytes| Held { bytes, max_bytes }))
    }

    /// Publishes messages in their order; how many readings the broker has stored, and what went wrong with another.
    /// After that no more are sent: a broker that is away would get them when it is back, unasked.
    async fn publish(
        &self,
        tenant: &str,
        messages: Vec<(Bytes, usize)>,
        until: Instant,
    ) -> (usize, Option<String>) {
        let subject = format!("{}.{tenant}", self.ingest.subject_prefix);
        let mut messages = messages.into_iter();
        let mut under_way = FuturesUnordered::new();
        let (mut stored, mut failed) = (0, None);
        loop {
            if failed.is_none()
                && under_way.len() < UNDER_WAY
                && let Some((message, readings)) = messages.next()
            {
                // Handed over one after the other, so that the stream has them in the order of the body.
                match timeout_at(until, self.jetstream.publish(subject.clone(), message)).await {
                    Ok(Ok(stored)) => under_way.push(async move {
                        match timeout_at(until, stored).await {
                            Ok(Ok(_)) => Ok(readings),
                            Ok(Err(error)) => Err(error.to_string()),
                            Err(_) => Err("no answer in time".to_owned()),
                        }
                    }),
                    Ok(Err(error)) => failed = Some(error.to_string()),
                    Err(_) => failed = Some("no answer in time".to_owned()),
                }
                continue;
            }
            // What is under way when another fails may be stored all the same: that is counted too.
            match under_way.next().await {
                Some(Ok(readings)) => stored += readings,
                Some(Err(error)) => failed = failed.or(Some(error)),
                None => return (stored, failed),
            }
        }
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
    let until = Instant::now() + ANSWER_WITHIN;
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
    wait_for_broker(&state).await?;
    let Ok(permit) = Arc::clone(&intake.permits).try_acquire_owned() else {
        let problem =
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests with readings at once");
        return Err(problem.header(header::RETRY_AFTER, HeaderValue::from_static("1")));
    };
    let body = axum::body::to_bytes(body, intake.body_max_bytes)
        .await
        .map_err(|_| too_large("as it is sent", intake.body_max_bytes))?;
    let now = UnixMicros::from(Timestamp::now());
    let window = Window::around(now, intake.ingest.accepted_days, intake.ingest.future_tolerance_seconds);
    let (limit, next_time) = (intake.unpacked_max_bytes, Arc::clone(&intake.next_time));
    // It may take a while, and there are others to be answered. It goes on when the request is given up: so the permit is
    // there as long as the memory is in use.
    let sorting = tokio::task::spawn_blocking(move || {
        let sorted = sort(body, encoding, is_lines, limit, &next_time, window)?;
        Ok::<_, Problem>((sorted, permit))
    });
    let (sorted, _permit) = sorting.await.map_err(|error| {
        tracing::error!(%error, "sorting readings failed");
        Problem::internal()
    })??;
    let Sorted { messages, accepted, refused, refusals, by_reason, .. } = sorted;
    count_refusals(&state.metrics, by_reason);
    if accepted == 0 && refused > 0 {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "none of these is a reading");
        return Err(problem.with("refused", refused).with("refusals", json!(refusals)));
    }
    let (stored, failed) = intake.publish(&caller.tenant, messages, until).await;
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

/// The first of as many times, a microsecond apart, as a body of `bytes` may hold readings: no two readings of this process
/// get the same.
fn reserve_times(next_time: &AtomicI64, bytes: usize) -> UnixMicros {
    let now = Timestamp::now().as_microsecond();
    let readings = (bytes / SMALLEST_READING + 1) as i64;
    let reserved =
        next_time.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| Some(next.max(now) + readings));
    UnixMicros(reserved.map_or(now, |next| next.max(now)))
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

fn sort(
    body: Bytes,
    encoding: Encoding,
    is_lines: bool,
    limit: usize,
    next_time: &AtomicI64,
    window: Window,
) -> Result<Sorted, Problem> {
    let body = unpack(body, encoding, limit)?;
    let first_time = reserve_times(next_time, body.len());
    if is_lines {
        return Ok(Sorted::of_lines(&body, first_time, window));
    }
    Sorted::of_json(&body, first_time, window).map_err(|refusal| {
        Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {}", refusal.detail))
    })
}

/// Nothing is sent to a broker that is away: the client would keep it in memory, and send it when nobody waits any more.
async fn wait_for_broker(state: &ApiState) -> Result<(), Problem> {
    let Some(is_connected) = &state.broker else { return Ok(()) };
    let give_up = Instant::now() + CONNECT_WITHIN;
    while !is_connected() {
        if Instant::now() >= give_up {
            let detail = "the broker is not connected, nothing of this was stored: send it again later";
            return Err(Problem::unavailable(detail).with("stored", 0));
        }
        tokio::time::sleep(CONNECT_LOOK).await;
    }
    Ok(())
}

fn count_refusals(metrics: &Metrics, by_reason: BTreeMap<&'static str, u64>) {
    for (reason, refused) in by_reason {
        metrics.posted_refused.get_or_create(&ByReason { reason }).inc_by(refused);
    }
}

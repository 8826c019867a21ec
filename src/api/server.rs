//! The server: which address leads where, and what holds for every request.
//!
//! Invariant: a request ends within 30 s, a handler that panics costs its own request only, and each
//! error is a problem (`problem.rs`) or a page of the console. The runtime calls [`serve`].

use std::panic::AssertUnwindSafe;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use axum::serve::ListenerExt;
use futures_util::FutureExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::problem::{self, Problem};
use super::state::ApiState;
use super::{alerts, by_hand, deliveries, devices, health, readings, redrive, rule_test, rules, silences};

/// A request that takes longer is answered with 503.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// A body that is larger is refused.
const LARGEST_BODY: usize = 1024 * 1024;
/// Requests under way when the service stops may take this long.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// Everything for programs, ready to serve.
pub fn router(state: ApiState) -> Router {
    guarded(routes(state))
}

/// The addresses for programs, without what [`guarded`] adds: the console adds its pages first.
pub fn routes(state: ApiState) -> Router {
    Router::new()
        .route("/api/readings", post(readings::post))
        .route("/api/alerts", get(alerts::get_list))
        .route("/api/alerts/{id}", get(alerts::get_one))
        .route("/api/alerts/{id}/acknowledge", post(by_hand::acknowledge))
        .route("/api/alerts/{id}/resolve", post(by_hand::resolve))
        .route("/api/silences", get(silences::get_list).post(silences::post))
        .route("/api/silences/{id}", get(silences::get_one).delete(silences::delete))
        .route("/api/deliveries", get(deliveries::get_list))
        .route("/api/deliveries/{id}", get(deliveries::get_one))
        .route("/api/rules", get(rules::get_list).post(rules::post))
        .route("/api/rules/{id}", get(rules::get_one).patch(rules::patch).delete(rules::delete))
        .route("/api/rules/test", post(rule_test::post_draft))
        .route("/api/rules/{id}/test", post(rule_test::post_stored))
        .route("/api/devices", get(devices::get_list))
        .route("/api/devices/{device}/tags", put(devices::put_tags))
        .route("/api/admin/notifications/{id}/redrive", post(redrive::post))
        .route("/healthz", get(health::get_healthz))
        .route("/readyz", get(health::get_readyz))
        .route("/metrics", get(health::get_metrics))
        .with_state(state)
}

/// Adds what holds for every request: limits, headers, the log line, and answers where no handler is.
pub fn guarded(routes: Router) -> Router {
    routes
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "nothing is at this address"))
        .method_not_allowed_fallback(async || {
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "this address does not take this method")
        })
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
        .layer(from_fn(contain))
        .layer(from_fn(set_headers))
        .layer(from_fn(log))
}

/// Serves until `cancel`, then lets requests that are under way finish.
///
/// # Errors
/// If the listener breaks.
pub async fn serve(listener: TcpListener, router: Router, cancel: CancellationToken) -> std::io::Result<()> {
    let listener = listener.tap_io(|stream| {
        // Without it small answers may wait for an acknowledgement; a socket that refuses it still works.
        let _ = stream.set_nodelay(true);
    });
    let server = axum::serve(listener, router).with_graceful_shutdown(cancel.clone().cancelled_owned());
    let too_late = async {
        cancel.cancelled().await;
        tokio::time::sleep(SHUTDOWN_TIMEOUT).await;
    };
    tokio::select! {
        result = server.into_future() => result,
        () = too_late => {
            tracing::warn!(waited_ms = SHUTDOWN_TIMEOUT.as_millis(), "requests were cut off");
            Ok(())
        }
    }
}

/// A panic, a handler that hangs and an error in the framework's own words all become problems.
async fn contain(request: Request, next: Next) -> Response {
    let path = matched_path(&request);
    let handling = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(REQUEST_TIMEOUT, handling).await {
        Ok(Ok(response)) => problem::in_place_of_plain_text(response),
        Ok(Err(_)) => {
            tracing::error!(path, "a handler panicked");
            Problem::internal().into_response()
        }
        Err(_) => {
            tracing::warn!(path, elapsed_ms = REQUEST_TIMEOUT.as_millis(), "a request took too long");
            Problem::unavailable("the request took too long").into_response()
        }
    }
}

async fn set_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

async fn log(request: Request, next: Next) -> Response {
    let (method, path, begun) = (request.method().clone(), matched_path(&request), Instant::now());
    let response = next.run(request).await;
    tracing::debug!(
        %method,
        path,
        status = response.status().as_u16(),
        elapsed_ms = begun.elapsed().as_secs_f64() * 1000.0,
        "answered a request"
    );
    response
}

/// The pattern that the path matched, without ids: what a stranger typed does not belong in the log.
fn matched_path(request: &Request) -> String {
    let pattern = request.extensions().get::<MatchedPath>();
    pattern.map_or_else(|| "unknown".to_owned(), |pattern| pattern.as_str().to_owned())
}

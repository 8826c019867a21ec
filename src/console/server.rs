//! Which address leads to which page.

use axum::Router;
use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::{alert, delivery, layout, overview};
use crate::api::server;
use crate::api::state::ApiState;

/// Everything for programs and for people, ready to serve.
pub fn router(state: ApiState) -> Router {
    server::guarded(server::routes(state.clone()).merge(routes(state)))
}

/// The pages alone.
fn routes(state: ApiState) -> Router {
    Router::new()
        .route("/", get(overview::get_page))
        .route("/alerts/{id}", get(alert::get_page))
        .route("/deliveries/{id}", get(delivery::get_page))
        .route(layout::STYLE_PATH, get(get_style))
        .with_state(state)
}

async fn get_style() -> impl IntoResponse {
    let headers =
        [(header::CONTENT_TYPE, "text/css; charset=utf-8"), (header::CACHE_CONTROL, "max-age=3600")];
    (headers, layout::STYLE)
}

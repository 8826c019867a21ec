//! `GET /deliveries/{id}`: one delivery, its body and each attempt.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use uuid::Uuid;

use super::layout::{badge, failure, maybe_moment, message, moment, page};
use super::login::Visitor;
use crate::api::deliveries::{self, AttemptEntry, DeliveryEntry, WholeDelivery};
use crate::api::parameters::PathId;
use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;
use crate::model::ids::TenantId;

const REFRESH_SECONDS: u32 = 10;

/// `GET /deliveries/{id}`
pub(super) async fn get_page(
    State(state): State<ApiState>,
    Visitor(caller): Visitor,
    id: Result<PathId, Problem>,
) -> Response {
    let unknown =
        || message(StatusCode::NOT_FOUND, "No such delivery", "There is no delivery at this address.");
    let Ok(PathId(id)) = id else { return unknown() };
    match load(&state, caller.tenant_id, id).await {
        Ok(Some(whole)) => {
            let content = render(&whole, Timestamp::now());
            page(StatusCode::OK, "Delivery", Some(&caller.tenant), Some(REFRESH_SECONDS), &content)
        }
        Ok(None) => unknown(),
        Err(error) => failure(error),
    }
}

async fn load(state: &ApiState, tenant: TenantId, id: Uuid) -> Result<Option<WholeDelivery>, DatabaseError> {
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    deliveries::find(&transaction, id).await
}

fn render(whole: &WholeDelivery, now: Timestamp) -> Markup {
    html! {
        h1 { "Delivery to " (whole.delivery.destination) " " (badge(&whole.delivery.status)) }
        (facts(&whole.delivery, now))
        h2 { "Attempts" }
        (attempt_table(&whole.attempts, now))
        h2 { "What is sent" }
        pre { (whole.body) }
    }
}

fn facts(delivery: &DeliveryEntry, now: Timestamp) -> Markup {
    html! {
        dl {
            dt { "Notification" } dd { code { (delivery.notification_id) } }
            dt { "Alert" }
            dd {
                a href={ "/alerts/" (delivery.alert_id) } { code { (delivery.alert_id) } } " " (delivery.event)
                @if delivery.alerts > 1 { " and " (delivery.alerts - 1) " more" }
            }
            dt { "Destination" }
            dd { (delivery.destination) " (" (delivery.destination_kind) ") " code { (delivery.destination_id) } }
            dt { "Created" } dd { (moment(delivery.created_at, now)) }
            @if let Some(at) = delivery.delivered_at { dt { "Delivered" } dd { (moment(at, now)) } }
            @if let Some(at) = delivery.next_attempt_at { dt { "Next attempt" } dd { (moment(at, now)) } }
            @if !delivery.waits_for.is_empty() {
                dt { "Waits for" }
                dd { @for earlier in &delivery.waits_for {
                    div { a href={ "/deliveries/" (earlier) } { code { (earlier) } } }
                } }
            }
            @if let Some(worker) = delivery.leased_by { dt { "With worker" } dd { code { (worker) } } }
            @if let Some(at) = delivery.died_at { dt { "Given up" } dd { (moment(at, now)) } }
            @if let Some(reason) = &delivery.dead_reason { dt { "Because" } dd { (reason) } }
        }
    }
}

fn attempt_table(attempts: &[AttemptEntry], now: Timestamp) -> Markup {
    if attempts.is_empty() {
        return html! { p.faint { "None so far." } };
    }
    html! {
        div.scroll { table {
            thead { tr {
                th { "No." } th { "Outcome" } th { "Started" } th { "Took" }
                th { "Status" } th { "What was said" } th { "SHA-256 of the bytes" }
            } }
            tbody { @for attempt in attempts {
                tr {
                    td { (attempt.attempt) @if attempt.late { " " span.faint { "late" } } }
                    td { (badge(&attempt.outcome)) }
                    td { (maybe_moment(attempt.started_at, now)) }
                    td { (took(attempt)) }
                    td { @match attempt.status_code { Some(status) => (status), None => "–" } }
                    td { (said(attempt)) }
                    td { @if let Some(hash) = &attempt.body_sha256 { code { (hash) } } }
                }
            } }
        } }
    }
}

fn took(attempt: &AttemptEntry) -> String {
    match (attempt.started_at, attempt.finished_at) {
        (Some(started), Some(finished)) => {
            format!("{} ms", finished.as_millisecond() - started.as_millisecond())
        }
        _ => "–".to_owned(),
    }
}

fn said(attempt: &AttemptEntry) -> Markup {
    html! {
        @if let Some(error) = &attempt.error { div { (error) } }
        @if let Some(warning) = &attempt.warning { div.uneasy { (warning) } }
        @if let Some(answer) = &attempt.answer { div.faint { (answer) } }
        @if let Some(id) = &attempt.external_id { div { "receiver's id " code { (id) } } }
    }
}

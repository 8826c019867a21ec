//! `GET /`: how things stand, the newest alerts and the newest deliveries.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use uuid::Uuid;

use super::layout::{badge, failure, maybe_moment, moment, number, page};
use super::login::Visitor;
use crate::api::alert_store::{self, AlertEntry, AlertFilter};
use crate::api::deliveries::{self, DeliveryEntry, DeliveryFilter};
use crate::api::parameters::PageRequest;
use crate::api::state::ApiState;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;
use crate::model::ids::TenantId;

/// Rows of each table.
const ROWS: i64 = 50;
const REFRESH_SECONDS: u32 = 10;

/// What the page shows, of one moment.
struct Overview {
    alert_counts: Vec<(String, i64)>,
    delivery_counts: Vec<(String, i64)>,
    alerts: Vec<AlertEntry>,
    deliveries: Vec<DeliveryEntry>,
}

/// `GET /`
pub(super) async fn get_page(State(state): State<ApiState>, Visitor(caller): Visitor) -> Response {
    match load(&state, caller.tenant_id).await {
        Ok(overview) => {
            let content = render(&overview, Timestamp::now());
            page(StatusCode::OK, "Overview", Some(&caller.tenant), Some(REFRESH_SECONDS), &content)
        }
        Err(error) => failure(error),
    }
}

async fn load(state: &ApiState, tenant: TenantId) -> Result<Overview, DatabaseError> {
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    let newest = PageRequest::newest(ROWS);
    Ok(Overview {
        alert_counts: alert_store::count_unresolved(&transaction).await?,
        delivery_counts: deliveries::count_by_status(&transaction).await?,
        alerts: alert_store::list(&transaction, &state.public_url, &AlertFilter::default(), newest)
            .await?
            .rows,
        deliveries: deliveries::list(&transaction, &DeliveryFilter::default(), newest).await?.rows,
    })
}

fn render(overview: &Overview, now: Timestamp) -> Markup {
    let alerts = |severity| count_of(&overview.alert_counts, severity);
    let deliveries = |status| count_of(&overview.delivery_counts, status);
    html! {
        div.counts {
            (count(alerts("critical"), "critical, not resolved", "bad"))
            (count(alerts("error"), "error, not resolved", "bad"))
            (count(alerts("warning"), "warning, not resolved", "uneasy"))
            (count(alerts("info"), "info, not resolved", "plain"))
            (count(deliveries("pending") + deliveries("in_flight"), "on the way", "plain"))
            (count(deliveries("retrying"), "retrying", "uneasy"))
            (count(deliveries("dead"), "dead", "bad"))
            (count(deliveries("delivered"), "delivered, 24 h", "good"))
        }
        h2 { "Newest alerts" }
        (alert_table(&overview.alerts, now))
        h2 { "Newest deliveries" }
        (delivery_table(&overview.deliveries, now))
    }
}

fn count_of(counts: &[(String, i64)], name: &str) -> i64 {
    counts.iter().filter(|(counted, _)| counted == name).map(|(_, count)| count).sum()
}

/// A number above its name; coloured only when there is something to look at.
fn count(count: i64, name: &str, mood: &str) -> Markup {
    html! {
        div.count { strong class=(if count == 0 { "faint" } else { mood }) { (count) } (name) }
    }
}

fn alert_table(alerts: &[AlertEntry], now: Timestamp) -> Markup {
    if alerts.is_empty() {
        return html! { p.faint { "No alert so far." } };
    }
    html! {
        div.scroll { table {
            thead { tr {
                th { "Severity" } th { "Device" } th { "Metric" } th { "Value" }
                th { "Rule" } th { "State" } th { "Breached" }
            } }
            tbody { @for alert in alerts {
                tr {
                    td { (badge(&alert.severity)) }
                    td { a href={ "/alerts/" (alert.alert_id) } { (alert.device) } }
                    td { (alert.metric) }
                    td { (number(alert.value)) @if let Some(unit) = &alert.unit { " " (unit) } }
                    td { (alert.rule) @if alert.late { " " span.faint { "(late)" } } }
                    td { (badge(&alert.state)) @if alert.silence_id.is_some() { " " span.faint { "silenced" } } }
                    td { (moment(alert.breached_at, now)) }
                }
            } }
        } }
    }
}

/// Deliveries, a row each.
pub(super) fn delivery_table(deliveries: &[DeliveryEntry], now: Timestamp) -> Markup {
    if deliveries.is_empty() {
        return html! { p.faint { "Nobody had to be told anything so far." } };
    }
    html! {
        div.scroll { table {
            thead { tr {
                th { "Status" } th { "Destination" } th { "Event" } th { "Attempts" }
                th { "Created" } th { "Next attempt" } th { "Last answer" } th {}
            } }
            tbody { @for delivery in deliveries {
                tr {
                    td { (badge(&delivery.status)) (waits_for(&delivery.waits_for)) }
                    td { (delivery.destination) " " span.faint { (delivery.destination_kind) } }
                    td { (delivery.event) @if delivery.alerts > 1 { " " span.faint { (delivery.alerts) " alerts" } } }
                    td { (delivery.attempts) }
                    td { (moment(delivery.created_at, now)) }
                    td { (maybe_moment(delivery.next_attempt_at, now)) }
                    td { (last_answer(delivery)) }
                    td { a href={ "/deliveries/" (delivery.notification_id) } { "attempts" } }
                }
            } }
        } }
    }
}

/// What must be told before: one is named, and of many how many there are.
fn waits_for(earlier: &[Uuid]) -> Markup {
    html! {
        @match earlier {
            [] => {}
            [one] => { " " a.faint href={ "/deliveries/" (one) } { "waits for an earlier one" } }
            many => { " " span.faint { "waits for " (many.len()) " earlier ones" } }
        }
    }
}

fn last_answer(delivery: &DeliveryEntry) -> Markup {
    html! {
        @if let Some(status) = delivery.last_status_code { (status) " " }
        @if let Some(reason) = delivery.dead_reason.as_ref().or(delivery.last_error.as_ref()) { (reason) }
        @if let Some(warning) = &delivery.warning { " " span.uneasy { (warning) } }
    }
}

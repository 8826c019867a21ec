//! `GET /alerts/{id}`: one alert: what, since when, why, what happened to it, and who was told.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use serde_json::Value;
use uuid::Uuid;

use super::chart;
use super::layout::{badge, failure, maybe_moment, message, moment, number, page};
use super::login::Visitor;
use super::overview::delivery_table;
use crate::api::alert_store::{self, AlertEntry, EventEntry, WholeAlert};
use crate::api::parameters::PathId;
use crate::api::problem::Problem;
use crate::api::state::ApiState;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;
use crate::model::ids::TenantId;

const REFRESH_SECONDS: u32 = 10;

/// `GET /alerts/{id}`
pub(super) async fn get_page(
    State(state): State<ApiState>,
    Visitor(caller): Visitor,
    id: Result<PathId, Problem>,
) -> Response {
    let unknown = || message(StatusCode::NOT_FOUND, "No such alert", "There is no alert at this address.");
    let Ok(PathId(id)) = id else { return unknown() };
    match load(&state, caller.tenant_id, id).await {
        Ok(Some(whole)) => {
            let content = render(&whole, Timestamp::now());
            page(StatusCode::OK, "Alert", Some(&caller.tenant), Some(REFRESH_SECONDS), &content)
        }
        Ok(None) => unknown(),
        Err(error) => failure(error),
    }
}

async fn load(state: &ApiState, tenant: TenantId, id: Uuid) -> Result<Option<WholeAlert>, DatabaseError> {
    let mut connection = state.pool.get().await?;
    let transaction = tenant_scope::begin(&mut connection, tenant.0).await?;
    alert_store::find(&transaction, &state.public_url, id).await
}

fn render(whole: &WholeAlert, now: Timestamp) -> Markup {
    let alert = &whole.alert;
    html! {
        h1 { (alert.metric) " of " (alert.device) " " (badge(&alert.severity)) " " (badge(&alert.state)) }
        @if let Some(summary) = &alert.summary { p { (summary) } }
        @if let Some(url) = &alert.runbook_url { p { "What to do: " (link(url)) } }
        (facts(alert, now))
        h2 { "Why" }
        (why(alert))
        h2 { "Timeline" }
        (timeline(&whole.events, now))
        h2 { "Who was told" }
        (delivery_table(&whole.deliveries, now))
    }
}

/// A link, if it leads somewhere in the web: what else stands there is shown and can't be followed.
fn link(url: &str) -> Markup {
    let is_of_the_web = url.starts_with("https://") || url.starts_with("http://");
    html! { @if is_of_the_web { a href=(url) rel="noreferrer" { (url) } } @else { (url) } }
}

fn facts(alert: &AlertEntry, now: Timestamp) -> Markup {
    let by = |who: &Option<String>| html! { @if let Some(who) = who { " by " (who) } };
    html! {
        dl {
            @if let Some(class) = &alert.class { dt { "What" } dd { (class) } }
            dt { "Since" }
            dd { (moment(alert.breached_at, now)) @if alert.late { " " span.faint { "(told late)" } } }
            @if let Some(at) = alert.ended_at { dt { "Until" } dd { (moment(at, now)) } }
            @if let Some(at) = alert.fired_at { dt { "The rule fired" } dd { (moment(at, now)) } }
            dt { "Stored" } dd { (moment(alert.opened_at, now)) }
            @if let Some(at) = alert.acknowledged_at {
                dt { "Acknowledged" } dd { (moment(at, now)) (by(&alert.acknowledged_by)) }
            }
            @if let Some(at) = alert.resolved_at {
                dt { "Resolved" } dd { (moment(at, now)) (by(&alert.resolved_by)) }
            }
            @if alert.episodes > 1 { dt { "Fired" } dd { (alert.episodes) " times" } }
            dt { "Rule" } dd { (alert.rule) " " span.faint { "version " (alert.rule_version) } }
            @if let Some(tags) = texts(&alert.device_tags) { dt { "Device's tags" } dd { (tags) } }
            @if let Some(labels) = texts(&alert.labels) { dt { "Labels" } dd { (labels) } }
            @if alert.historical { dt { "Nobody was told" } dd { "it was old, and over, when it was judged" } }
            @if let Some(silence) = alert.silence_id { dt { "Silenced" } dd { "by " code { (silence) } } }
            dt { "Alert" } dd { code { (alert.alert_id) } }
        }
    }
}

/// An object of texts, as `site: north, floor: 2`; `None` if it is empty.
fn texts(object: &Value) -> Option<String> {
    let object = object.as_object().filter(|object| !object.is_empty())?;
    let text = |(name, value): (&String, &Value)| match value.as_str() {
        Some(value) => format!("{name}: {value}"),
        None => format!("{name}: {value}"),
    };
    Some(object.iter().map(text).collect::<Vec<_>>().join(", "))
}

fn why(alert: &AlertEntry) -> Markup {
    // What an older version of this program wrote, and this one can't read, is shown as numbers and not drawn.
    let limits = serde_json::from_value(alert.evidence.clone()).map(|evidence| chart::limits(&evidence));
    let points = alert.points.clone().and_then(|points| serde_json::from_value::<Vec<_>>(points).ok());
    let drawn = chart::line(&points.unwrap_or_default(), &limits.unwrap_or_default());
    html! {
        @if let Some(drawn) = drawn { (drawn) }
        dl {
            dt { "Value" } dd { (number(alert.value)) @if let Some(unit) = &alert.unit { " " (unit) } }
            @for (name, value) in alert.evidence.as_object().into_iter().flatten() {
                dt { (sentence_case(name)) } dd { (figure(value)) }
            }
        }
    }
}

fn sentence_case(name: &str) -> String {
    let mut text = name.replace('_', " ");
    if let Some(first) = text.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    text
}

fn figure(value: &Value) -> String {
    match (value.as_f64(), value.as_str()) {
        (Some(value), _) => number(value),
        (_, Some(text)) => text.replace('_', " "),
        _ => value.to_string(),
    }
}

fn timeline(events: &[EventEntry], now: Timestamp) -> Markup {
    html! {
        div.scroll { table {
            thead { tr {
                th { "What" } th { "By" } th { "Recorded" } th { "Happened" } th { "Became of it" } th { "Note" }
            } }
            tbody { @for event in events {
                tr {
                    td { (badge(&event.kind)) @if event.episode > 1 { " " span.faint { "no. " (event.episode) } } }
                    td { (event.actor) }
                    td { (moment(event.at, now)) }
                    td { (maybe_moment(event.happened_at, now)) }
                    td { @if let Some(disposition) = &event.disposition { (disposition.replace('_', " ")) } }
                    td { @if let Some(note) = &event.note { (note) } }
                }
            } }
        } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runbook_that_is_no_address_of_the_web_can_not_be_followed() {
        assert!(
            link("https://wiki.example/pump").into_string().contains("href=\"https://wiki.example/pump\"")
        );
        assert_eq!(link("javascript:alert(1)").into_string(), "javascript:alert(1)");
    }

    #[test]
    fn evidence_reads_as_words_and_short_numbers() {
        assert_eq!(sentence_case("window_minutes"), "Window minutes");
        assert_eq!(figure(&serde_json::json!(0.1 + 0.2)), "0.3");
        assert_eq!(figure(&serde_json::json!("above_threshold")), "above threshold");
        assert_eq!(figure(&serde_json::json!(true)), "true");
        assert_eq!(texts(&serde_json::json!({ "site": "north" })).as_deref(), Some("site: north"));
        assert_eq!(texts(&serde_json::json!({})), None);
    }
}

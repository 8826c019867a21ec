//! Alerts in the database, as people and programs see them.
//!
//! The functions work inside a transaction of one tenant (`db::tenant_scope`). Called by the handlers of `/api/alerts`, the
//! console and `watchbell alerts`.

use deadpool_postgres::Transaction;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::deliveries::{self, DeliveryEntry, DeliveryFilter};
use super::member::TAG_SEPARATORS;
use super::parameters::{Page, PageRequest};
use crate::config::PublicUrl;
use crate::db::error::DatabaseError;

const LIST: &str = include_str!("../../sql/queries/api/list_alerts.sql");
const EVENTS: &str = include_str!("../../sql/queries/api/list_alert_events.sql");
const COUNT: &str = include_str!("../../sql/queries/api/count_alerts.sql");

/// All that [`AlertEntry::state`] may be.
pub const STATES: [&str; 3] = ["open", "acknowledged", "resolved"];
/// All that [`AlertEntry::severity`] may be.
pub const SEVERITIES: [&str; 4] = ["critical", "error", "warning", "info"];
/// All that [`AlertEntry::class`] may be.
pub const CLASSES: [&str; 6] = ["spike above", "drop below", "deviation", "too fast", "stuck", "silent"];
/// An alert tells as many destinations as its rule names, a handful, a few times.
const MOST_DELIVERIES: i64 = 1000;

/// An alert as it is shown. Times "of the readings" are on the sensor's clock, all others on the database's.
#[derive(Debug, Serialize)]
pub struct AlertEntry {
    /// Which.
    pub alert_id: Uuid,
    /// The device's own name.
    pub device: String,
    /// The device's tags when it fired: an object of texts.
    pub device_tags: Value,
    /// What was measured.
    pub metric: String,
    /// In which unit, if somebody said.
    pub unit: Option<String>,
    /// The rule that fired.
    pub rule_id: Uuid,
    /// The rule's name when it fired.
    pub rule: String,
    /// The rule as it was.
    pub rule_version: i32,
    /// What the rule says with every alert: an object of texts.
    pub labels: Value,
    /// Where it is written what to do.
    pub runbook_url: Option<String>,
    /// How bad it is.
    pub severity: String,
    /// `open`, `acknowledged` or `resolved`.
    pub state: String,
    /// What it looks like: `spike above` and so on; `None` for one from before there were classes.
    pub class: Option<String>,
    /// One sentence for people, as it was when it opened.
    pub summary: Option<String>,
    /// The value that broke the rule.
    pub value: f64,
    /// What decided it.
    pub evidence: Value,
    /// When the breach began, of the readings.
    pub breached_at: Timestamp,
    /// When the rule fired, of the readings.
    pub fired_at: Option<Timestamp>,
    /// The reading that decided it, of the readings.
    pub decided_at: Option<Timestamp>,
    /// When the breach was over, of the readings.
    pub ended_at: Option<Timestamp>,
    /// When the alert was stored.
    pub opened_at: Timestamp,
    /// When somebody took it on.
    pub acknowledged_at: Option<Timestamp>,
    /// Who did.
    pub acknowledged_by: Option<String>,
    /// When it was over.
    pub resolved_at: Option<Timestamp>,
    /// Who said so.
    pub resolved_by: Option<String>,
    /// How often its rule has fired on it.
    pub episodes: i32,
    /// The silence that keeps its last episode from being told.
    pub silence_id: Option<Uuid>,
    /// What people were told last: `nothing`, `open` or `resolved`.
    pub told: String,
    /// When.
    pub told_at: Option<Timestamp>,
    /// It came out of order, or was judged more than a minute after it fired.
    pub late: bool,
    /// The breach was old and over when it was judged: nobody was told.
    pub historical: bool,
    /// Its page for people, if `api.public_url` is set.
    pub link: Option<String>,
    /// The last readings up to the one that decided it: `[[time, value], ..]`. Shown with a single alert only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub points: Option<Value>,
}

/// A change of an alert: a line of its timeline.
#[derive(Debug, Serialize)]
pub struct EventEntry {
    /// What happened.
    pub kind: String,
    /// Who did it.
    pub actor: String,
    /// When it was recorded.
    pub at: Timestamp,
    /// When it happened, of the readings, if a reading or its absence decided it.
    pub happened_at: Option<Timestamp>,
    /// In which episode.
    pub episode: i32,
    /// What became of an episode that fired: `notified`, `grouped`, `silenced` and so on.
    pub disposition: Option<String>,
    /// What they said.
    pub note: Option<String>,
}

/// An alert with everything that is known of it.
#[derive(Debug, Serialize)]
pub struct WholeAlert {
    /// The alert.
    pub alert: AlertEntry,
    /// Its timeline, the first first.
    pub events: Vec<EventEntry>,
    /// Who was told of it, or will be, the newest first; by notices that tell of many alerts, too.
    pub deliveries: Vec<DeliveryEntry>,
}

/// Which alerts; `None` means any.
#[derive(Debug, Default)]
pub struct AlertFilter {
    /// This one.
    pub alert_id: Option<Uuid>,
    /// In this state.
    pub state: Option<String>,
    /// So bad.
    pub severity: Option<String>,
    /// That look like this.
    pub class: Option<String>,
    /// Whose last episode a silence keeps from being told, or not.
    pub silenced: Option<bool>,
    /// Of the device with this name of its own.
    pub device: Option<String>,
    /// Of devices that had this tag with this value.
    pub tag: Option<(String, String)>,
    /// Of this metric.
    pub metric: Option<String>,
    /// Of the rule with this id, or with this name when it fired.
    pub rule: Option<String>,
}

/// Reads a tag of a filter, such as `site:north` or `site=north`.
pub fn parse_tag(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once(TAG_SEPARATORS)?;
    (!name.is_empty() && !value.is_empty()).then(|| (name.to_owned(), value.to_owned()))
}

/// The alerts of a page, the newest first.
///
/// # Errors
/// If the database is away.
pub async fn list(
    transaction: &Transaction<'_>,
    public_url: &PublicUrl,
    filter: &AlertFilter,
    page: PageRequest,
) -> Result<Page<AlertEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(LIST).await?;
    let (tag, value) = filter.tag.as_ref().map(|(name, value)| (name, value)).unzip();
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &filter.alert_id,
        &filter.state,
        &filter.severity,
        &filter.class,
        &filter.silenced,
        &filter.device,
        &tag,
        &value,
        &filter.metric,
        &filter.rule,
        &page.before,
        &page.rows_to_fetch(),
    ];
    let rows = transaction.query(&statement, parameters).await?;
    Ok(page.cut(rows.iter().map(|row| entry(row, public_url)).collect(), |alert| alert.alert_id))
}

/// One alert with its timeline and its deliveries; `None` if this tenant has no such alert.
///
/// # Errors
/// If the database is away.
pub async fn find(
    transaction: &Transaction<'_>,
    public_url: &PublicUrl,
    id: Uuid,
) -> Result<Option<WholeAlert>, DatabaseError> {
    let filter = AlertFilter { alert_id: Some(id), ..AlertFilter::default() };
    let found = list(transaction, public_url, &filter, PageRequest::newest(1)).await?.rows;
    let Some(alert) = found.into_iter().next() else { return Ok(None) };
    let statement = transaction.prepare_cached(EVENTS).await?;
    let events = transaction.query(&statement, &[&id]).await?.iter().map(event).collect();
    let filter = DeliveryFilter { alert_id: Some(id), ..DeliveryFilter::default() };
    let newest = PageRequest::newest(MOST_DELIVERIES);
    let deliveries = deliveries::list(transaction, &filter, newest).await?.rows;
    Ok(Some(WholeAlert { alert, events, deliveries }))
}

/// How many alerts are not resolved, by severity.
///
/// # Errors
/// If the database is away.
pub async fn count_unresolved(transaction: &Transaction<'_>) -> Result<Vec<(String, i64)>, DatabaseError> {
    let statement = transaction.prepare_cached(COUNT).await?;
    let rows = transaction.query(&statement, &[]).await?;
    Ok(rows.iter().map(|row| (row.get("severity"), row.get("count"))).collect())
}

fn event(row: &Row) -> EventEntry {
    EventEntry {
        kind: row.get("kind"),
        actor: row.get("actor"),
        at: row.get("at"),
        happened_at: row.get("happened_at"),
        episode: row.get("episode"),
        disposition: row.get("disposition"),
        note: row.get("note"),
    }
}

fn entry(row: &Row, public_url: &PublicUrl) -> AlertEntry {
    let alert_id = row.get("alert_id");
    AlertEntry {
        alert_id,
        device: row.get("device"),
        device_tags: row.get("device_tags"),
        metric: row.get("metric"),
        unit: row.get("unit"),
        rule_id: row.get("rule_id"),
        rule: row.get("rule"),
        rule_version: row.get("rule_version"),
        labels: row.get("labels"),
        runbook_url: row.get("runbook_url"),
        severity: row.get("severity"),
        state: row.get("state"),
        class: row.get("class"),
        summary: row.get("summary"),
        value: row.get("value"),
        evidence: row.get("evidence"),
        breached_at: row.get("breached_at"),
        fired_at: row.get("fired_at"),
        decided_at: row.get("decided_at"),
        ended_at: row.get("ended_at"),
        opened_at: row.get("opened_at"),
        acknowledged_at: row.get("acknowledged_at"),
        acknowledged_by: row.get("acknowledged_by"),
        resolved_at: row.get("resolved_at"),
        resolved_by: row.get("resolved_by"),
        episodes: row.get("episodes"),
        silence_id: row.get("silence_id"),
        told: row.get("told"),
        told_at: row.get("told_at"),
        late: row.get("late"),
        historical: row.get("historical"),
        link: public_url.alert(alert_id),
        points: row.get("points"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_a_name_and_a_value() {
        let tag = |name: &str, value: &str| Some((name.to_owned(), value.to_owned()));
        assert_eq!(parse_tag("site:north"), tag("site", "north"));
        assert_eq!(parse_tag("url:http://x"), tag("url", "http://x"));
        for bad in ["", "site", ":north", "site:"] {
            assert_eq!(parse_tag(bad), None, "{bad}");
        }
    }
}

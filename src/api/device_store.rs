//! Devices in the database: looking, and tagging. The API and `watchbell devices` call the same functions.
//!
//! A device is there from its first reading on. Its tags decide which rules and silences select it.

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};
use tokio_postgres::Row;

use super::actor::Actor;
use super::member::TAG_SEPARATORS;
use crate::db::error::DatabaseError;
use crate::model::selector::Tags;

const LIST: &str = include_str!("../../sql/queries/api/list_devices.sql");
const LOCK: &str = include_str!("../../sql/queries/api/lock_device.sql");
const SET_TAGS: &str = include_str!("../../sql/queries/api/set_device_tags.sql");

/// A device as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct DeviceEntry {
    /// The name that the sensor gives itself.
    pub device: String,
    /// An object of texts.
    pub tags: Value,
    /// What it measures.
    pub metrics: Vec<String>,
    /// When its first reading came.
    pub first_seen: Timestamp,
    /// When its latest reading came, give or take a minute.
    pub last_seen: Timestamp,
}

/// Which devices; `None` means any.
#[derive(Debug, Default)]
pub struct DeviceFilter {
    /// Whose name this matches; `*` stands for any run of characters, as in a rule.
    pub pattern: Option<String>,
    /// That have this tag.
    pub tag: Option<TagFilter>,
    /// Whose name sorts behind this one.
    pub after: Option<String>,
}

/// A tag, with this value or with any: `site=north` or `site`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFilter {
    /// The tag's name.
    pub name: String,
    /// Its value.
    pub value: Option<String>,
}

impl From<&str> for TagFilter {
    fn from(text: &str) -> Self {
        match text.split_once(TAG_SEPARATORS) {
            Some((name, value)) => Self { name: name.to_owned(), value: Some(value.to_owned()) },
            None => Self { name: text.to_owned(), value: None },
        }
    }
}

/// The devices of a page, by name; and the name of the last one, if there are more.
///
/// # Errors
/// If the database is away.
pub async fn list(
    transaction: &Transaction<'_>,
    filter: &DeviceFilter,
    limit: i64,
) -> Result<(Vec<DeviceEntry>, Option<String>), DatabaseError> {
    let statement = transaction.prepare_cached(LIST).await?;
    let (name, value) = filter.tag.as_ref().map_or((None, None), |tag| (Some(&tag.name), tag.value.as_ref()));
    let like = filter.pattern.as_deref().map(like);
    let rows = transaction.query(&statement, &[&like, &name, &value, &filter.after, &(limit + 1)]).await?;
    let shown = usize::try_from(limit).unwrap_or(usize::MAX);
    let devices: Vec<DeviceEntry> = rows.iter().take(shown).map(entry).collect();
    let next = devices.last().filter(|_| rows.len() > shown).map(|device| device.device.clone());
    Ok((devices, next))
}

/// Replaces a device's tags; `None` if the tenant has no such device. The same tags again change nothing.
///
/// # Errors
/// If the database is away.
pub async fn set_tags(
    connection: &mut Object,
    actor: &Actor,
    device: &str,
    tags: &Tags,
) -> Result<Option<Tags>, DatabaseError> {
    let transaction = actor.begin(connection).await?;
    let Some(row) = transaction.query_opt(LOCK, &[&device]).await? else { return Ok(None) };
    let (before, after) = (row.get::<_, Value>("tags"), json!(tags));
    if before != after {
        transaction.execute(SET_TAGS, &[&row.get::<_, i32>("device_id"), &after]).await?;
        let change = format!("{before} to {after}");
        actor.record(&transaction, "device.tagged", device, Some(&change)).await?;
        transaction.commit().await?;
        tracing::info!(tenant_id = actor.tenant.0, device, actor = actor.name, "a device was tagged");
    }
    Ok(Some(tags.clone()))
}

fn entry(row: &Row) -> DeviceEntry {
    DeviceEntry {
        device: row.get("external_id"),
        tags: row.get("tags"),
        metrics: row.get("metrics"),
        first_seen: row.get("first_seen"),
        last_seen: row.get("last_seen"),
    }
}

/// A pattern as LIKE has it.
fn like(pattern: &str) -> String {
    let mut like = String::with_capacity(pattern.len());
    for c in pattern.chars() {
        match c {
            '*' => like.push('%'),
            '%' | '_' | '\\' => like.extend(['\\', c]),
            c => like.push(c),
        }
    }
    like
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_star_of_a_pattern_is_special() {
        for (pattern, expected) in [("pump-*", "pump-%"), ("a_b%c\\*", "a\\_b\\%c\\\\%"), ("", "")] {
            assert_eq!(like(pattern), expected);
        }
    }

    #[test]
    fn a_tag_is_asked_for_with_a_value_or_without() {
        assert_eq!(TagFilter::from("site=north=east").value.as_deref(), Some("north=east"));
        assert_eq!(TagFilter::from("site"), TagFilter { name: "site".to_owned(), value: None });
    }
}

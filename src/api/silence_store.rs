//! Silences in the database: who silenced what, until when, and why.
//!
//! Invariants: nobody silences everything, nothing is silenced for ever, and each change stands in `admin_actions` with
//! whoever made it, in one statement with the change itself. All of it works inside a transaction of one tenant
//! (`db::tenant_scope`). Called by the handlers of `/api/silences` and by `watchbell silences`.

use deadpool_postgres::Transaction;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_postgres::Row;
use uuid::Uuid;

use super::parameters::{Page, PageRequest};
use crate::db::error::DatabaseError;
use crate::model::condition::LONGEST_SECONDS;
use crate::model::ids::SilenceId;
use crate::model::selector::Tags;
use crate::outbox::redrive::Reason;

const CREATE: &str = include_str!("../../sql/queries/api/create_silence.sql");
const LIST: &str = include_str!("../../sql/queries/api/list_silences.sql");
const END: &str = include_str!("../../sql/queries/api/end_silence.sql");
const FIND_RULE: &str = include_str!("../../sql/queries/api/find_rule.sql");
const NOW: &str = "SELECT now()";

/// All that [`SilenceEntry::state`] may be.
pub const STATES: [&str; 3] = ["active", "pending", "ended"];
/// Longest pattern, tag name and tag value, in bytes.
const TEXT_MAX: usize = 256;
/// Most tags of one silence.
const TAGS_MAX: usize = 32;

/// Which devices a silence is about: those that meet all that is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// An external id, where `*` stands for any run of characters.
    pub pattern: Option<String>,
    /// Tags that a device must have, each with this value.
    #[serde(default)]
    pub tags: Tags,
}

/// A silence as somebody asks for it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SilenceWish {
    /// Alerts of this rule; without it, of any.
    pub rule_id: Option<Uuid>,
    /// Alerts of these devices; without it, of any.
    pub devices: Option<Devices>,
    /// From then on; without it, from now on.
    pub starts_at: Option<Timestamp>,
    /// Until then; either this or `duration_seconds`.
    pub ends_at: Option<Timestamp>,
    /// For so long.
    pub duration_seconds: Option<u32>,
    /// Why.
    #[serde(default)]
    pub reason: String,
}

/// What can't be silenced, or not so.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{field}` must be {allowed}")]
pub struct InvalidSilence {
    /// What is wrong.
    pub field: &'static str,
    /// What it may be.
    pub allowed: String,
}

/// A silence that can be made.
#[derive(Debug, Clone, PartialEq)]
pub struct NewSilence {
    rule_id: Option<Uuid>,
    pattern: Option<String>,
    tags: Tags,
    starts_at: Timestamp,
    ends_at: Timestamp,
    reason: Reason,
}

fn refused<T>(field: &'static str, allowed: impl Into<String>) -> Result<T, InvalidSilence> {
    Err(InvalidSilence { field, allowed: allowed.into() })
}

impl NewSilence {
    /// Checks a wish at this time.
    ///
    /// # Errors
    /// [`InvalidSilence`] names the first thing that is wrong.
    pub fn parse(wish: SilenceWish, now: Timestamp) -> Result<Self, InvalidSilence> {
        let Ok(reason) = Reason::parse(&wish.reason) else {
            return refused("reason", "a text that says why, in 1 to 1000 bytes");
        };
        let fits = |text: &str| (1..=TEXT_MAX).contains(&text.len()) && !text.contains('\0');
        let Devices { pattern, tags } = wish.devices.unwrap_or_default();
        if !pattern.as_deref().is_none_or(fits) {
            return refused("devices.pattern", format!("a text of 1 to {TEXT_MAX} bytes"));
        }
        if tags.len() > TAGS_MAX || !tags.iter().all(|(name, value)| fits(name) && fits(value)) {
            let allowed = format!("at most {TAGS_MAX} tags, names and values of 1 to {TEXT_MAX} bytes");
            return refused("devices.tags", allowed);
        }
        // A pattern that any device meets says nothing.
        let pattern = pattern.filter(|pattern| pattern.contains(|c| c != '*'));
        if wish.rule_id.is_none() && pattern.is_none() && tags.is_empty() {
            return refused("devices", "given, or `rule_id`: nobody silences everything");
        }
        let (starts_at, ends_at) = span(wish.starts_at, wish.ends_at, wish.duration_seconds, now)?;
        Ok(Self { rule_id: wish.rule_id, pattern, tags, starts_at, ends_at, reason })
    }
}

/// From when until when.
fn span(
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    duration_seconds: Option<u32>,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), InvalidSilence> {
    let year = SignedDuration::from_secs(LONGEST_SECONDS.into());
    let starts_at = starts_at.unwrap_or(now);
    if starts_at.duration_since(now).abs() > year {
        return refused("starts_at", "a time within a year from now");
    }
    let (field, ends_at) = match (ends_at, duration_seconds) {
        (Some(ends_at), None) => ("ends_at", ends_at),
        (None, Some(seconds)) if (1..=LONGEST_SECONDS).contains(&seconds) => {
            ("duration_seconds", starts_at + SignedDuration::from_secs(seconds.into()))
        }
        (None, Some(_)) => return refused("duration_seconds", format!("1 to {LONGEST_SECONDS}: a year")),
        _ => return refused("ends_at", "given, or `duration_seconds`, and not both"),
    };
    if ends_at <= now {
        return refused(field, "such that the silence ends in the future");
    }
    if ends_at <= starts_at {
        return refused(field, "a time after `starts_at`");
    }
    if ends_at.duration_since(starts_at) > year {
        return refused(field, "a time at most a year after `starts_at`");
    }
    Ok((starts_at, ends_at))
}

/// A silence as it is shown.
#[derive(Debug, Serialize)]
pub struct SilenceEntry {
    /// Which.
    pub silence_id: Uuid,
    /// `active`, `pending` or `ended`.
    pub state: String,
    /// Alerts of this rule; `None`: of any.
    pub rule_id: Option<Uuid>,
    /// The rule's name now.
    pub rule: Option<String>,
    /// Alerts of these devices.
    pub devices: Devices,
    /// From then on.
    pub starts_at: Timestamp,
    /// Until then; if somebody ended it, the moment they did.
    pub ends_at: Timestamp,
    /// Who made it.
    pub created_by: String,
    /// When.
    pub created_at: Timestamp,
    /// Why.
    pub reason: String,
    /// Who ended it before its time.
    pub ended_by: Option<String>,
}

/// Why a silence was not made.
#[derive(Debug, thiserror::Error)]
pub enum NotSilenced {
    /// The wish can't be granted to anybody.
    #[error(transparent)]
    Invalid(#[from] InvalidSilence),
    /// The database is away.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

/// Makes a silence and records who wanted it.
///
/// # Errors
/// [`NotSilenced`].
pub async fn create(
    transaction: &Transaction<'_>,
    wish: SilenceWish,
    actor: &str,
) -> Result<SilenceEntry, NotSilenced> {
    let now: Timestamp = transaction.query_one(NOW, &[]).await.map_err(DatabaseError::from)?.get(0);
    let new = NewSilence::parse(wish, now)?;
    let id = SilenceId::new().0;
    let tags = Value::from_iter(new.tags);
    let statement = transaction.prepare_cached(CREATE).await.map_err(DatabaseError::from)?;
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] = &[
        &id,
        &new.rule_id,
        &new.pattern,
        &tags,
        &new.starts_at,
        &new.ends_at,
        &actor,
        &new.reason.as_str(),
        &Uuid::now_v7(),
    ];
    if transaction.execute(&statement, parameters).await.map_err(DatabaseError::from)? == 0 {
        let allowed = "the id of a rule that is there".to_owned();
        return Err(InvalidSilence { field: "rule_id", allowed }.into());
    }
    let made = find(transaction, id).await?;
    Ok(made.ok_or_else(|| DatabaseError::Unreadable(format!("silence {id} was made and can't be found")))?)
}

/// The rule that has this name or id; `None` if this tenant has no such rule.
///
/// # Errors
/// If the database is away.
pub async fn find_rule(transaction: &Transaction<'_>, rule: &str) -> Result<Option<Uuid>, DatabaseError> {
    let row = transaction.query_opt(FIND_RULE, &[&rule]).await?;
    Ok(row.map(|row| row.get("rule_id")))
}

/// Ends a silence now, and records who wanted it; one that has ended stays as it is. `None`: there is no such silence.
///
/// # Errors
/// If the database is away.
pub async fn end(
    transaction: &Transaction<'_>,
    id: Uuid,
    actor: &str,
    reason: Option<&Reason>,
) -> Result<Option<SilenceEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(END).await?;
    transaction.execute(&statement, &[&id, &actor, &reason.map(Reason::as_str), &Uuid::now_v7()]).await?;
    find(transaction, id).await
}

/// One silence; `None` if this tenant has no such.
///
/// # Errors
/// If the database is away.
pub async fn find(transaction: &Transaction<'_>, id: Uuid) -> Result<Option<SilenceEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(LIST).await?;
    let nothing = None::<&str>;
    let row = transaction.query_opt(&statement, &[&Some(id), &nothing, &None::<Uuid>, &1_i64]).await?;
    row.as_ref().map(entry).transpose()
}

/// The silences of a page: active ones first, then pending, then ended ones; of each the newest first.
///
/// # Errors
/// If the database is away.
pub async fn list(
    transaction: &Transaction<'_>,
    state: Option<&str>,
    page: PageRequest,
) -> Result<Page<SilenceEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(LIST).await?;
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&None::<Uuid>, &state, &page.before, &page.rows_to_fetch()];
    let rows = transaction.query(&statement, parameters).await?;
    let silences = rows.iter().map(entry).collect::<Result<_, _>>()?;
    Ok(page.cut(silences, |silence: &SilenceEntry| silence.silence_id))
}

fn entry(row: &Row) -> Result<SilenceEntry, DatabaseError> {
    let tags = serde_json::from_value(row.get("device_tags"))
        .map_err(|error| DatabaseError::Unreadable(format!("device_tags of a silence: {error}")))?;
    Ok(SilenceEntry {
        silence_id: row.get("silence_id"),
        state: row.get("state"),
        rule_id: row.get("rule_id"),
        rule: row.get("rule"),
        devices: Devices { pattern: row.get("device_pattern"), tags },
        starts_at: row.get("starts_at"),
        ends_at: row.get("ends_at"),
        created_by: row.get("created_by"),
        created_at: row.get("created_at"),
        reason: row.get("reason"),
        ended_by: row.get("ended_by"),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(wish: Value) -> Result<NewSilence, InvalidSilence> {
        let now = "2026-09-01T12:00:00Z".parse().unwrap();
        NewSilence::parse(serde_json::from_value(wish).unwrap(), now)
    }

    #[test]
    fn a_silence_lasts_from_now_or_a_time_for_a_while_or_until_a_time() {
        let wish =
            json!({ "devices": { "tags": { "site": "north" } }, "duration_seconds": 60, "reason": "x" });
        let new = parse(wish.clone()).unwrap();
        let times = (new.starts_at.to_string(), new.ends_at.to_string());
        assert_eq!(times, ("2026-09-01T12:00:00Z".to_owned(), "2026-09-01T12:01:00Z".to_owned()));
        let mut later = wish;
        later["starts_at"] = json!("2026-09-02T12:00:00+02:00");
        let new = parse(later).unwrap();
        let times = (new.starts_at.to_string(), new.ends_at.to_string());
        assert_eq!(times, ("2026-09-02T10:00:00Z".to_owned(), "2026-09-02T10:01:00Z".to_owned()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_its_name() {
        let good = json!({ "rule_id": Uuid::nil(), "devices": { "pattern": "*" }, "duration_seconds": 60, "reason": "x" });
        assert_eq!(parse(good.clone()).unwrap().pattern, None);
        for (field, value, named) in [
            ("reason", json!(" "), "reason"),
            ("rule_id", Value::Null, "devices"),
            ("devices", json!({ "pattern": "" }), "devices.pattern"),
            ("devices", json!({ "pattern": "a\u{0}" }), "devices.pattern"),
            ("devices", json!({ "tags": { "": "x" } }), "devices.tags"),
            ("devices", json!({ "tags": { "x": "" } }), "devices.tags"),
            ("duration_seconds", json!(0), "duration_seconds"),
            ("duration_seconds", json!(366 * 86_400 + 1), "duration_seconds"),
            ("duration_seconds", Value::Null, "ends_at"),
            ("ends_at", json!("2026-09-01T12:00:01Z"), "ends_at"),
            ("starts_at", json!("2026-09-01T11:58:00Z"), "duration_seconds"),
            ("starts_at", json!("2028-09-01T12:00:00Z"), "starts_at"),
            ("starts_at", json!("-009998-01-01T00:00:00Z"), "starts_at"),
        ] {
            let mut wish = good.clone();
            wish[field] = value;
            assert_eq!(parse(wish.clone()).unwrap_err().field, named, "{wish}");
        }
        for (starts, ends) in [
            ("2026-09-01T12:00:00Z", "2026-09-01T12:00:00Z"),
            ("2026-09-03T12:00:00Z", "2026-09-02T12:00:00Z"),
            ("2026-09-01T12:00:00Z", "2027-09-02T12:00:01Z"),
        ] {
            let wish = json!({ "rule_id": Uuid::nil(), "starts_at": starts, "ends_at": ends, "reason": "x" });
            assert_eq!(parse(wish).unwrap_err().field, "ends_at", "{starts} {ends}");
        }
    }
}

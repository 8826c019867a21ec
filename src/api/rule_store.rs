//! Rules in the database: looking, making, changing, archiving. The API and `watchbell rules` call the same functions.
//!
//! Invariant: each change names its actor (`actor.rs`), and each version is kept: a trigger numbers them. A rule that tells
//! nobody is loud about it, here and in each answer.

use deadpool_postgres::{Object, Transaction};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::actor::Actor;
use super::member::BadMember;
use super::parameters::{Page, PageRequest};
use super::rule_draft::{self, MEMBERS, RuleDraft};
use crate::db::error::DatabaseError;

const LIST: &str = include_str!("../../sql/queries/api/list_rules.sql");
const LOCK: &str = include_str!("../../sql/queries/api/lock_rule.sql");
const VERSIONS: &str = include_str!("../../sql/queries/api/list_rule_versions.sql");
const INSERT: &str = include_str!("../../sql/queries/api/insert_rule.sql");
const CHANGE: &str = include_str!("../../sql/queries/api/change_rule.sql");
const ARCHIVE: &str = include_str!("../../sql/queries/api/archive_rule.sql");
const DESTINATIONS: &str = include_str!("../../sql/queries/api/find_destinations.sql");

/// What a list of rules may be asked for; without it all that are not archived are shown.
pub const STATES: [&str; 4] = ["active", "faulted", "archived", "any"];

/// A rule as it is shown.
#[derive(Debug, Clone, Serialize)]
pub struct RuleEntry {
    /// Which.
    pub rule_id: Uuid,
    /// Raised by every change of what stands in `definition`.
    pub version: i32,
    /// `active`, `faulted` or `archived`.
    pub state: String,
    /// Why it can't be judged.
    pub fault: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its latest version was.
    pub updated_at: Timestamp,
    /// What somebody could have written: the members of [`MEMBERS`].
    #[serde(flatten)]
    pub definition: Map<String, Value>,
    /// What is wrong with it although it can be judged.
    pub warnings: Vec<String>,
    /// Destinations that are told of its alerts.
    #[serde(skip)]
    pub listening: usize,
}

/// A rule as it was.
#[derive(Debug, Clone, Serialize)]
pub struct VersionEntry {
    /// From 1.
    pub version: i32,
    /// When it was made.
    pub changed_at: Timestamp,
    /// By whom.
    pub changed_by: String,
    /// The rule as it was then, as somebody could have written it.
    pub definition: Map<String, Value>,
}

/// Which rules; `None` means any.
#[derive(Debug, Default)]
pub struct RuleFilter {
    /// This one.
    pub rule_id: Option<Uuid>,
    /// One of [`STATES`]; `None` means all that are not archived.
    pub state: Option<String>,
    /// That watch this metric.
    pub metric: Option<String>,
    /// With this name.
    pub name: Option<String>,
}

/// Why a rule was not stored.
#[derive(Debug, thiserror::Error)]
pub enum RuleError {
    /// The tenant has no such rule.
    #[error("there is no such rule")]
    Unknown,
    /// It is archived, and stays as it is.
    #[error("the rule is archived: make a new one")]
    Archived,
    /// Another rule has its name.
    #[error("{0}")]
    NameTaken(BadMember),
    /// A member can't be used.
    #[error(transparent)]
    Bad(#[from] BadMember),
    /// The database is away.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<tokio_postgres::Error> for RuleError {
    fn from(error: tokio_postgres::Error) -> Self {
        let error = DatabaseError::from(error);
        if error.is_unique_violation() {
            return Self::NameTaken(BadMember::new(
                "name",
                "is the name of another rule; each has one of its own",
            ));
        }
        Self::Database(error)
    }
}

/// The rules of a page, the newest first.
///
/// # Errors
/// If the database is away.
pub async fn list(
    transaction: &Transaction<'_>,
    filter: &RuleFilter,
    page: PageRequest,
) -> Result<Page<RuleEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(LIST).await?;
    let RuleFilter { rule_id, state, metric, name } = filter;
    let rows = transaction
        .query(&statement, &[rule_id, state, metric, name, &page.before, &page.rows_to_fetch()])
        .await?;
    Ok(page.cut(rows.iter().map(entry).collect(), |rule| rule.rule_id))
}

/// One rule, an archived one too; `None` if the tenant has no such rule.
///
/// # Errors
/// If the database is away.
pub async fn find(transaction: &Transaction<'_>, rule_id: Uuid) -> Result<Option<RuleEntry>, DatabaseError> {
    let filter =
        RuleFilter { rule_id: Some(rule_id), state: Some("any".to_owned()), ..RuleFilter::default() };
    Ok(list(transaction, &filter, PageRequest::newest(1)).await?.rows.into_iter().next())
}

/// The versions of a rule, the newest first.
///
/// # Errors
/// If the database is away.
pub async fn versions(
    transaction: &Transaction<'_>,
    rule_id: Uuid,
) -> Result<Vec<VersionEntry>, DatabaseError> {
    let statement = transaction.prepare_cached(VERSIONS).await?;
    let rows = transaction.query(&statement, &[&rule_id]).await?;
    let version = |row: &Row| VersionEntry {
        version: row.get("version"),
        changed_at: row.get("changed_at"),
        changed_by: row.get("changed_by"),
        definition: definition(row.get("columns")),
    };
    Ok(rows.iter().map(version).collect())
}

/// Stores a new rule.
///
/// # Errors
/// [`RuleError`]: a destination is not there, its name is taken, or the database is away.
pub async fn create(
    connection: &mut Object,
    actor: &Actor,
    draft: &RuleDraft,
) -> Result<RuleEntry, RuleError> {
    let transaction = actor.begin(connection).await?;
    check_destinations(&transaction, &draft.destination_ids).await?;
    let rule_id = Uuid::now_v7();
    write(&transaction, INSERT, rule_id, draft).await?;
    actor.record(&transaction, "rule.created", &rule_id.to_string(), Some(&draft.name)).await?;
    let rule = find(&transaction, rule_id).await?.ok_or(RuleError::Unknown)?;
    transaction.commit().await?;
    tracing::info!(tenant_id = actor.tenant.0, %rule_id, actor = actor.name, "a rule was made");
    be_loud(actor, &rule);
    Ok(rule)
}

/// Merges a change into a rule ([`rule_draft::change`]). One that changes nothing makes no version.
///
/// # Errors
/// [`RuleError`]: it is not there or archived, what comes out is no rule, or the database is away.
pub async fn change(
    connection: &mut Object,
    actor: &Actor,
    rule_id: Uuid,
    patch: Value,
) -> Result<RuleEntry, RuleError> {
    let transaction = actor.begin(connection).await?;
    let locked = transaction.query_opt(LOCK, &[&rule_id]).await?.ok_or(RuleError::Unknown)?;
    if locked.get::<_, &str>("state") == "archived" {
        return Err(RuleError::Archived);
    }
    let before = find(&transaction, rule_id).await?.ok_or(RuleError::Unknown)?;
    let mut json = Value::Object(before.definition.clone());
    rule_draft::change(&mut json, patch)?;
    let draft = RuleDraft::parse(json)?;
    // One that was archived meanwhile must not be in the way of other changes.
    let known = destinations_of(&before.definition);
    let added = draft.destination_ids.iter().copied().filter(|id| !known.contains(id)).collect::<Vec<_>>();
    check_destinations(&transaction, &added).await?;
    let after = draft.to_json();
    let changed = MEMBERS.into_iter().filter(|name| before.definition.get(*name) != after.get(*name));
    let changed: Vec<&str> = changed.collect();
    if changed.is_empty() && before.state == "active" {
        return Ok(before);
    }
    write(&transaction, CHANGE, rule_id, &draft).await?;
    let what = if changed.is_empty() { "tried again".to_owned() } else { changed.join(", ") };
    actor.record(&transaction, "rule.changed", &rule_id.to_string(), Some(&what)).await?;
    let rule = find(&transaction, rule_id).await?.ok_or(RuleError::Unknown)?;
    transaction.commit().await?;
    tracing::info!(
        tenant_id = actor.tenant.0,
        %rule_id,
        version = rule.version,
        changed = what,
        actor = actor.name,
        "a rule was changed"
    );
    be_loud(actor, &rule);
    Ok(rule)
}

/// Archives a rule: it judges nothing any more. Detection resolves its open alerts. One that is archived stays so.
///
/// # Errors
/// [`RuleError`]: it is not there, or the database is away.
pub async fn archive(connection: &mut Object, actor: &Actor, rule_id: Uuid) -> Result<RuleEntry, RuleError> {
    let transaction = actor.begin(connection).await?;
    let locked = transaction.query_opt(LOCK, &[&rule_id]).await?.ok_or(RuleError::Unknown)?;
    let is_archived = locked.get::<_, &str>("state") == "archived";
    if !is_archived {
        transaction.execute(ARCHIVE, &[&rule_id]).await?;
        actor.record(&transaction, "rule.archived", &rule_id.to_string(), None).await?;
    }
    let rule = find(&transaction, rule_id).await?.ok_or(RuleError::Unknown)?;
    transaction.commit().await?;
    if !is_archived {
        tracing::info!(tenant_id = actor.tenant.0, %rule_id, actor = actor.name, "a rule was archived");
    }
    Ok(rule)
}

fn be_loud(actor: &Actor, rule: &RuleEntry) {
    for warning in &rule.warnings {
        let name = rule.definition.get("name").and_then(Value::as_str);
        tracing::warn!(tenant_id = actor.tenant.0, rule_id = %rule.rule_id, rule = name, "{warning}");
    }
}

/// Runs `insert_rule.sql` or `change_rule.sql`.
async fn write(
    transaction: &Transaction<'_>,
    sql: &str,
    rule_id: Uuid,
    draft: &RuleDraft,
) -> Result<(), RuleError> {
    // `LONGEST_SECONDS` fits.
    let seconds = |seconds: u32| i32::try_from(seconds).unwrap_or(i32::MAX);
    let columns: [&(dyn ToSql + Sync); 15] = [
        &rule_id,
        &draft.name,
        &draft.metric,
        &draft.devices.pattern,
        &draft.devices.ids,
        &json!(draft.devices.tags),
        &draft.condition_json(),
        &draft.severity.as_str(),
        &seconds(draft.cooldown_seconds),
        &seconds(draft.resolve_after_seconds),
        &draft.reminder_seconds.map(seconds),
        &json!(draft.escalations),
        &json!(draft.labels),
        &draft.runbook_url,
        &draft.destination_ids,
    ];
    transaction.execute(sql, &columns).await?;
    Ok(())
}

/// They must be there, of this tenant (row-level security hides others), and not archived.
async fn check_destinations(transaction: &Transaction<'_>, ids: &[Uuid]) -> Result<(), RuleError> {
    if ids.is_empty() {
        return Ok(());
    }
    let rows = transaction.query(DESTINATIONS, &[&ids]).await?;
    for id in ids {
        let bad = |problem: String| RuleError::Bad(BadMember::new("destination_ids", problem));
        let Some(row) = rows.iter().find(|row| row.get::<_, Uuid>("destination_id") == *id) else {
            return Err(bad(format!("must be destinations that there are; there is no {id}")));
        };
        if row.get::<_, Option<Timestamp>>("archived_at").is_some() {
            return Err(bad(format!("must not be archived; `{}` ({id}) is", row.get::<_, &str>("name"))));
        }
    }
    Ok(())
}

fn entry(row: &Row) -> RuleEntry {
    let definition = definition(row.get("columns"));
    let state: String = row.get("state");
    let listening: Vec<Uuid> = row.get("listening");
    let warnings = match state.as_str() {
        "archived" => Vec::new(),
        _ => warnings(&destinations_of(&definition), &listening),
    };
    RuleEntry {
        rule_id: row.get("rule_id"),
        version: row.get("version"),
        state,
        fault: row.get("fault"),
        created_at: row.get("created_at"),
        updated_at: row.get("updated_at"),
        definition,
        warnings,
        listening: listening.len(),
    }
}

fn destinations_of(definition: &Map<String, Value>) -> Vec<Uuid> {
    definition
        .get("destination_ids")
        .and_then(|ids| serde_json::from_value(ids.clone()).ok())
        .unwrap_or_default()
}

/// What is loud about a rule that names these destinations, of which these listen.
fn warnings(named: &[Uuid], listening: &[Uuid]) -> Vec<String> {
    let deaf = named.iter().filter(|id| !listening.contains(id));
    match (named, listening) {
        ([], _) => vec!["the rule has no destination: nobody is told of its alerts".to_owned()],
        (_, []) => vec!["all destinations of the rule are archived: nobody is told of its alerts".to_owned()],
        _ => deaf.map(|id| format!("destination {id} is archived: it is told nothing")).collect(),
    }
}

/// The columns of a rule, or of a version that may be older than some of them, as somebody could have written them.
fn definition(mut columns: Value) -> Map<String, Value> {
    let mut take = |name: &str| columns.get_mut(name).map(Value::take).unwrap_or_default();
    let or = |value: Value, default: Value| if value.is_null() { default } else { value };
    let mut devices = json!({ "pattern": or(take("device_pattern"), json!("*")) });
    let (ids, tags) = (take("device_ids"), take("device_tags"));
    if !ids.is_null() {
        devices["ids"] = ids;
    }
    if tags.as_object().is_some_and(|tags| !tags.is_empty()) {
        devices["tags"] = tags;
    }
    let column = |name: &'static str| {
        let value = match name {
            "devices" => devices.take(),
            "escalations" => or(take(name), json!([])),
            "labels" => or(take(name), json!({})),
            _ => take(name),
        };
        (name.to_owned(), value)
    };
    MEMBERS.map(column).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_tells_nobody_is_loud_about_it() {
        let [a, b] = [Uuid::from_u128(1), Uuid::from_u128(2)];
        assert!(warnings(&[], &[])[0].contains("nobody is told"));
        assert!(warnings(&[a, b], &[])[0].contains("nobody is told"));
        assert_eq!(warnings(&[a, b], &[a]), [format!("destination {b} is archived: it is told nothing")]);
        assert!(warnings(&[a], &[a]).is_empty());
    }

    #[test]
    fn a_version_of_before_there_were_some_columns_is_shown_whole() {
        let old = json!({ "name": "hot", "metric": "t", "device_pattern": "p*", "condition": { "kind": "x" },
                          "severity": "info", "cooldown_seconds": 5, "destination_ids": [] });
        let shown = Value::Object(definition(old));
        let expected = json!({ "name": "hot", "metric": "t", "devices": { "pattern": "p*" }, "severity": "info",
                               "condition": { "kind": "x" }, "cooldown_seconds": 5, "resolve_after_seconds": null,
                               "reminder_seconds": null, "escalations": [], "labels": {}, "runbook_url": null,
                               "destination_ids": [] });
        assert_eq!(shown, expected);
    }
}

//! A rule as somebody wrote it: read once, and right from then on. Pure.
//!
//! Invariant: a [`RuleDraft`] is a rule that detection can read. Whether its destinations are there, and its name is free,
//! only the database can tell (`rule_store.rs`).

use serde::Serialize;
use serde_json::{Map, Value, json};
use url::Url;
use uuid::Uuid;

use super::member::{BadMember, Members, merge, text};
use crate::ingest::validate::{DEVICE_MAX, METRIC_MAX};
use crate::model::condition::{Condition, LONGEST_SECONDS};
use crate::model::rule::{Escalation, Severity};
use crate::model::selector::Tags;

/// The members of a rule that somebody may give.
pub const MEMBERS: [&str; 12] = [
    "name",
    "metric",
    "devices",
    "condition",
    "severity",
    "cooldown_seconds",
    "resolve_after_seconds",
    "reminder_seconds",
    "escalations",
    "labels",
    "runbook_url",
    "destination_ids",
];

/// Longest name, in characters.
const NAME_MAX: usize = 200;
/// Devices that a rule may list; more are better told by a tag.
const MOST_IDS: usize = 1000;
/// Longest pattern, in bytes.
const PATTERN_MAX: usize = 256;
/// Longest address of a runbook, in bytes.
const URL_MAX: usize = 2000;
/// Destinations that a rule may have.
const MOST_DESTINATIONS: usize = 50;
/// Steps that a severity may rise by; there are four severities.
const MOST_ESCALATIONS: usize = 16;
/// A quarter of an hour.
const DEFAULT_COOLDOWN: u32 = 900;
/// Five minutes.
const DEFAULT_RESOLVE_AFTER: u32 = 300;

/// Which devices a rule selects: those that meet all that is said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Devices {
    /// An external id that this matches; `*` stands for any run of characters.
    pub pattern: String,
    /// One of these external ids; `None`: any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ids: Option<Vec<String>>,
    /// All of these tags.
    #[serde(skip_serializing_if = "Tags::is_empty")]
    pub tags: Tags,
}

/// A rule that could be stored. As JSON it is what somebody could have written.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RuleDraft {
    /// For people; one rule of a tenant has it.
    pub name: String,
    /// The metric it watches.
    pub metric: String,
    /// The devices it watches.
    pub devices: Devices,
    /// What counts as a breach.
    #[serde(serialize_with = "condition_as_json")]
    pub condition: Condition,
    /// How bad a breach is.
    pub severity: Severity,
    /// See [`crate::model::rule::Rule::cooldown_micros`].
    pub cooldown_seconds: u32,
    /// See [`crate::model::rule::Rule::resolve_after_micros`].
    pub resolve_after_seconds: u32,
    /// See [`crate::model::rule::Rule::reminder_micros`].
    pub reminder_seconds: Option<u32>,
    /// When the severity rises.
    pub escalations: Vec<Escalation>,
    /// Said with every alert.
    pub labels: Tags,
    /// Where it is written what to do.
    pub runbook_url: Option<String>,
    /// Who is told, each once.
    pub destination_ids: Vec<Uuid>,
}

impl RuleDraft {
    /// Reads a rule.
    ///
    /// # Errors
    /// Names the first member that can't be used, and says what it must be.
    pub fn parse(json: Value) -> Result<Self, BadMember> {
        let mut members = Members::open(json, &MEMBERS)?;
        let name = name(members.require("name", "a text of 1 to 200 characters")?)?;
        let metric = members.require("metric", "the metric to watch, such as \"temperature\"")?;
        let metric = text(metric, METRIC_MAX).map_err(|problem| BadMember::new("metric", problem))?;
        let devices = members.take("devices").unwrap_or_else(|| json!({}));
        let devices = devices_of(devices).map_err(|bad| bad.inside("devices"))?;
        let condition = members
            .require("condition", "an object such as {\"kind\": \"above_threshold\", \"threshold\": 80}")?;
        let condition = condition_of(condition).map_err(|bad| bad.inside("condition"))?;
        let severity = severity(&members.require("severity", SEVERITIES)?)?;
        let escalations = members.take("escalations").unwrap_or_else(|| json!([]));
        if escalations.as_array().is_some_and(|list| list.len() > MOST_ESCALATIONS) {
            let problem = format!("must not be more than {MOST_ESCALATIONS}");
            return Err(BadMember::new("escalations", problem));
        }
        let escalations = Escalation::list_from_json(escalations, &condition.check, severity)
            .map_err(|problem| BadMember::new("escalations", problem))?;
        let cooldown = members.whole("cooldown_seconds", 0, LONGEST_SECONDS)?;
        let resolve_after = members.whole("resolve_after_seconds", 0, LONGEST_SECONDS)?;
        Ok(Self {
            name,
            metric,
            devices,
            condition,
            severity,
            cooldown_seconds: cooldown.unwrap_or(DEFAULT_COOLDOWN),
            resolve_after_seconds: resolve_after.unwrap_or(DEFAULT_RESOLVE_AFTER),
            reminder_seconds: members.whole("reminder_seconds", 1, LONGEST_SECONDS)?,
            escalations,
            labels: members.tags("labels")?,
            runbook_url: members.take("runbook_url").map(runbook).transpose()?,
            destination_ids: members.take("destination_ids").map_or(Ok(Vec::new()), destinations)?,
        })
    }

    /// The condition as it stands in `rules.condition`: with the defaults of today, so that another version of this
    /// program judges the same.
    pub fn condition_json(&self) -> Value {
        condition_json(&self.condition)
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        // Plain structs with text keys: it can't fail.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// Merges a change into a rule's JSON: RFC 7396, but that a condition of another kind takes the place of the whole
/// condition. Merged, the settings of the old kind would have to be taken away one by one.
///
/// # Errors
/// If the change is no object, or names a member that nobody knows.
pub fn change(rule: &mut Value, patch: Value) -> Result<(), BadMember> {
    let Value::Object(mut members) = patch else {
        return Err(BadMember::new("", "must be a JSON object of the members to change"));
    };
    if let Some(name) = members.keys().find(|name| !MEMBERS.contains(&name.as_str())) {
        // Said here: `null` for a member that nobody knows would change nothing in silence.
        return Err(Members::open(json!({ name: 0 }), &MEMBERS)
            .err()
            .unwrap_or(BadMember::new(name, "is not known")));
    }
    let another_kind = |condition: &Value| {
        let kind = condition.get("kind").filter(|kind| !kind.is_null());
        kind.is_some_and(|kind| Some(kind) != rule["condition"].get("kind"))
    };
    if members.get("condition").is_some_and(another_kind) {
        rule["condition"] = members.remove("condition").unwrap_or_default();
    }
    merge(rule, Value::Object(members));
    Ok(())
}

const SEVERITIES: &str = "one of critical, error, warning, info";

fn name(value: Value) -> Result<String, BadMember> {
    let bad = |problem: String| BadMember::new("name", problem);
    let name = text(value, NAME_MAX * 4).map_err(bad)?.trim().to_owned();
    if name.chars().count() > NAME_MAX {
        return Err(bad(format!("must not be longer than {NAME_MAX} characters")));
    }
    Ok(name)
}

fn severity(value: &Value) -> Result<Severity, BadMember> {
    let known = value.as_str().and_then(Severity::parse);
    known.ok_or_else(|| BadMember::new("severity", format!("must be {SEVERITIES}")))
}

fn devices_of(json: Value) -> Result<Devices, BadMember> {
    let mut members = Members::open(json, &["pattern", "ids", "tags"])?;
    let ids = members.take("ids").map(ids).transpose().map_err(|problem| BadMember::new("ids", problem))?;
    let pattern = members.text("pattern", PATTERN_MAX)?.unwrap_or_else(|| "*".to_owned());
    Ok(Devices { pattern, ids, tags: members.tags("tags")? })
}

fn ids(json: Value) -> Result<Vec<String>, String> {
    let Value::Array(list) = json else { return Err("must be a list of the devices' own names".to_owned()) };
    if list.is_empty() {
        return Err("must name a device; left out, any is meant".to_owned());
    }
    if list.len() > MOST_IDS {
        return Err(format!("must not be more than {MOST_IDS}; give the devices a tag and select that"));
    }
    let id = |value| text(value, DEVICE_MAX).map_err(|problem| format!("must be texts: one {problem}"));
    let mut ids = list.into_iter().map(id).collect::<Result<Vec<String>, String>>()?;
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

fn condition_of(json: Value) -> Result<Condition, BadMember> {
    let given = json.clone();
    Condition::from_json(json).map_err(|problem| {
        // What reads it names a setting that is unknown or missing, and not one of the wrong type.
        let type_is_wrong = problem.starts_with("invalid type") || problem.starts_with("invalid value");
        let culprit = given.as_object().filter(|_| type_is_wrong).and_then(culprit);
        BadMember::new(culprit.unwrap_or_default(), format!("is not right: {problem}"))
    })
}

/// The setting whose type is wrong: all are numbers, and these are whole ones.
fn culprit(settings: &Map<String, Value>) -> Option<&str> {
    const WHOLE: [&str; 5] =
        ["window_minutes", "min_buckets", "per_seconds", "interval_seconds", "clear_seconds"];
    let mut numbers = settings.iter().filter(|(name, value)| *name != "kind" && !value.is_null());
    let is_wrong = |name: &str, value: &Value| match value {
        Value::Number(number) => {
            WHOLE.contains(&name) && number.as_u64().is_none_or(|n| n > u64::from(u32::MAX))
        }
        _ => name != "m_of_n",
    };
    numbers.find(|(name, value)| is_wrong(name, value)).map(|(name, _)| name.as_str())
}

fn condition_json(condition: &Condition) -> Value {
    // Plain structs with text keys: it can't fail.
    let mut json = serde_json::to_value(&condition.check).unwrap_or_default();
    if condition.for_micros > 0 {
        json["for_seconds"] = (condition.for_micros / 1_000_000).into();
    }
    if let Some(m_of_n) = condition.m_of_n {
        json["m_of_n"] = json!({ "m": m_of_n.m, "n": m_of_n.n });
    }
    json
}

fn condition_as_json<S: serde::Serializer>(condition: &Condition, serializer: S) -> Result<S::Ok, S::Error> {
    condition_json(condition).serialize(serializer)
}

fn runbook(value: Value) -> Result<String, BadMember> {
    let bad = |problem: String| BadMember::new("runbook_url", problem);
    let url = text(value, URL_MAX).map_err(bad)?;
    let parsed =
        Url::parse(&url).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    parsed
        .map(|_| url)
        .ok_or_else(|| bad("must be an address that begins with https:// or http://".to_owned()))
}

fn destinations(json: Value) -> Result<Vec<Uuid>, BadMember> {
    let bad = |problem: String| BadMember::new("destination_ids", problem);
    let Value::Array(list) = json else {
        return Err(bad("must be a list of ids of destinations".to_owned()));
    };
    let mut ids = Vec::new();
    for value in list {
        let id = value.as_str().and_then(|text| Uuid::parse_str(text).ok());
        let id = id.ok_or_else(|| bad(format!("must be UUIDs; `{}` is none", shortened(&value))))?;
        if !ids.contains(&id) {
            ids.push(id);
        }
        if ids.len() > MOST_DESTINATIONS {
            return Err(bad(format!("must not be more than {MOST_DESTINATIONS}")));
        }
    }
    Ok(ids)
}

fn shortened(value: &Value) -> String {
    value.to_string().chars().take(60).collect()
}

#[cfg(test)]
mod tests;

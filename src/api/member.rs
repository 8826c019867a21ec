//! A member of a JSON object that somebody sent, and what is wrong with it. Pure.
//!
//! Invariant: whatever can't be used is named by its path, as in `devices.tags`, and told with what it may be.

use std::fmt;

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::problem::Problem;
use crate::model::selector::Tags;

/// What may stand between a tag's name and its value where both are one text; no name has one of them.
pub const TAG_SEPARATORS: [char; 2] = [':', '='];
/// Longest name of a tag or label, in bytes.
const TAG_NAME_MAX: usize = 64;
/// Longest value of a tag or label, in bytes.
const TAG_VALUE_MAX: usize = 256;
/// Tags that a device, and labels that a rule may have.
const MOST_TAGS: usize = 32;

/// A member that can't be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadMember {
    /// Its path from the outermost object; empty for that object itself.
    pub member: String,
    /// What it must be, as in "must be a text".
    pub problem: String,
}

impl BadMember {
    /// A member and what is wrong with it.
    pub fn new(member: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { member: member.into(), problem: problem.into() }
    }

    /// The same, of an object that is itself the member `outer`.
    #[must_use]
    pub fn inside(mut self, outer: &str) -> Self {
        let dot = if self.member.is_empty() { "" } else { "." };
        self.member = format!("{outer}{dot}{}", self.member);
        self
    }
}

impl fmt::Display for BadMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.member.as_str() {
            "" => write!(f, "the body {}", self.problem),
            member => write!(f, "`{member}` {}", self.problem),
        }
    }
}

impl std::error::Error for BadMember {}

impl From<BadMember> for Problem {
    fn from(bad: BadMember) -> Self {
        Self::bad_member(StatusCode::BAD_REQUEST, &bad)
    }
}

/// The members of an object, each taken once; `null` counts as left out.
#[derive(Debug)]
pub struct Members {
    left: Map<String, Value>,
    known: &'static [&'static str],
}

impl Members {
    /// Opens an object that has no members but `known` ones.
    ///
    /// # Errors
    /// If it is no object, or names the first member that nobody knows.
    pub fn open(json: Value, known: &'static [&'static str]) -> Result<Self, BadMember> {
        let Value::Object(left) = json else {
            return Err(BadMember::new("", format!("must be a JSON object of {}", known.join(", "))));
        };
        match left.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => {
                let problem = format!("is not known here; there are {}", known.join(", "));
                Err(BadMember::new(printable(name), problem))
            }
            None => Ok(Self { left, known }),
        }
    }

    /// Takes a member out.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        debug_assert!(self.known.contains(&name), "{name} can't be given");
        self.left.remove(name).filter(|value| !value.is_null())
    }

    /// A member that must be there.
    ///
    /// # Errors
    /// If it is not.
    pub fn require(&mut self, name: &str, what: &str) -> Result<Value, BadMember> {
        self.take(name).ok_or_else(|| BadMember::new(name, format!("is missing: it must be {what}")))
    }

    /// A text, as [`text`] takes it.
    ///
    /// # Errors
    /// If it is something else.
    pub fn text(&mut self, name: &str, max: usize) -> Result<Option<String>, BadMember> {
        self.take(name)
            .map(|value| text(value, max).map_err(|problem| BadMember::new(name, problem)))
            .transpose()
    }

    /// A whole number from `lowest` to `highest`.
    ///
    /// # Errors
    /// If it is something else.
    pub fn whole(&mut self, name: &str, lowest: u32, highest: u32) -> Result<Option<u32>, BadMember> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = value.as_u64().and_then(|number| u32::try_from(number).ok());
        let fits = number.filter(|number| (lowest..=highest).contains(number));
        fits.map(Some)
            .ok_or_else(|| BadMember::new(name, format!("must be a whole number from {lowest} to {highest}")))
    }

    /// An object of texts, such as tags or labels; empty if it is left out.
    ///
    /// # Errors
    /// If it is something else, or too much.
    pub fn tags(&mut self, name: &str) -> Result<Tags, BadMember> {
        self.take(name).map_or(Ok(Tags::new()), |json| tags(json).map_err(|bad| bad.inside(name)))
    }
}

/// Tags or labels: an object of texts.
///
/// # Errors
/// If it is something else, or too much.
pub fn tags(json: Value) -> Result<Tags, BadMember> {
    let Value::Object(members) = json else {
        return Err(BadMember::new("", "must be an object of texts such as {\"site\": \"north\"}"));
    };
    if members.len() > MOST_TAGS {
        return Err(BadMember::new("", format!("must not have more than {MOST_TAGS} members")));
    }
    let tag = |(name, value): (String, Value)| {
        let name = text(Value::String(name), TAG_NAME_MAX)
            .map_err(|problem| BadMember::new("", format!("has a member whose name {problem}")))?;
        if name.contains(TAG_SEPARATORS) {
            return Err(BadMember::new("", format!("has a member `{name}`: a name must not have : or =")));
        }
        match text(value, TAG_VALUE_MAX) {
            Ok(value) => Ok((name, value)),
            Err(problem) => Err(BadMember::new(name, problem)),
        }
    };
    members.into_iter().map(tag).collect()
}

/// A text of 1 to `max` bytes without control characters, which no list can show and PostgreSQL may refuse.
///
/// # Errors
/// Says what it must be.
pub fn text(value: Value, max: usize) -> Result<String, String> {
    let text = match value {
        Value::String(text) => text,
        _ => return Err("must be a text".to_owned()),
    };
    if text.trim().is_empty() {
        Err("must not be empty".to_owned())
    } else if text.len() > max {
        Err(format!("must not be longer than {max} bytes"))
    } else if text.chars().any(char::is_control) {
        Err("must not have control characters".to_owned())
    } else {
        Ok(text)
    }
}

/// What a stranger typed, fit for a line.
fn printable(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(TAG_NAME_MAX).collect()
}

/// Merges a change into what there is: RFC 7396. `null` takes a member away.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Some(members) = target.as_object_mut() else { return };
    for (name, value) in patch {
        if value.is_null() {
            members.remove(&name);
        } else {
            merge(members.entry(name).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_merge_follows_the_examples_of_rfc_7396() {
        for (target, patch, expected) in [
            (json!({ "a": "b" }), json!({ "a": "c" }), json!({ "a": "c" })),
            (json!({ "a": "b" }), json!({ "b": "c" }), json!({ "a": "b", "b": "c" })),
            (json!({ "a": "b", "b": "c" }), json!({ "a": null }), json!({ "b": "c" })),
            (json!({ "a": ["b"] }), json!({ "a": "c" }), json!({ "a": "c" })),
            (
                json!({ "a": { "b": "c" } }),
                json!({ "a": { "b": "d", "c": null } }),
                json!({ "a": { "b": "d" } }),
            ),
            (json!({ "a": [1, 2] }), json!({ "a": [3] }), json!({ "a": [3] })),
            (json!({}), json!({ "a": { "bb": { "ccc": null } } }), json!({ "a": { "bb": {} } })),
        ] {
            let mut merged = target.clone();
            merge(&mut merged, patch.clone());
            assert_eq!(merged, expected, "{target} and {patch}");
        }
    }

    #[test]
    fn a_member_that_nobody_knows_is_named_with_those_there_are() {
        let bad = Members::open(json!({ "nmae": 1 }), &["name", "metric"]).unwrap_err();
        assert_eq!(bad.to_string(), "`nmae` is not known here; there are name, metric");
        assert!(Members::open(json!([]), &["name"]).unwrap_err().to_string().starts_with("the body must be"));
    }

    #[test]
    fn tags_are_texts_within_limits() {
        assert_eq!(tags(json!({ "site": "north" })).unwrap()["site"], "north");
        let many: Map<String, Value> = (0..33).map(|n| (n.to_string(), "x".into())).collect();
        for (bad, named) in [
            (json!(["a"]), ""),
            (json!({ "a": 1 }), "a"),
            (json!({ "a": "" }), "a"),
            (json!({ "a": "x\u{0}y" }), "a"),
            (json!({ "a": "x".repeat(257) }), "a"),
            (json!({ "": "x" }), ""),
            (json!({ "a:b": "x" }), ""),
            (Value::Object(many), ""),
        ] {
            assert_eq!(tags(bad.clone()).unwrap_err().member, named, "{bad}");
        }
    }
}

//! Which devices: by external id, by a pattern of it, by tags. Rules and silences select with it.

use std::collections::{BTreeMap, BTreeSet};

/// A device's tags, such as `site = north`.
pub type Tags = BTreeMap<String, String>;

/// Devices by external id, where `*` stands for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePattern(String);

impl DevicePattern {
    /// Any text is a pattern.
    pub fn new(pattern: impl Into<String>) -> Self {
        Self(pattern.into())
    }

    /// Whether the pattern selects this device.
    pub fn matches(&self, device: &str) -> bool {
        let mut parts = self.0.split('*');
        let Some(mut rest) = device.strip_prefix(parts.next().unwrap_or("")) else { return false };
        let Some(last) = parts.next_back() else { return rest.is_empty() };
        for part in parts {
            let Some(at) = rest.find(part) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last)
    }
}

/// Which devices: those that meet all that is said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selector {
    /// One of these external ids; `None`: any.
    pub ids: Option<BTreeSet<String>>,
    /// An external id that this matches.
    pub pattern: DevicePattern,
    /// All of these tags.
    pub tags: Tags,
}

impl Selector {
    /// Whether it selects the device.
    pub fn selects(&self, device: &str, tags: &Tags) -> bool {
        self.ids.as_ref().is_none_or(|ids| ids.contains(device))
            && self.pattern.matches(device)
            && self.tags.iter().all(|(name, value)| tags.get(name) == Some(value))
    }
}

/// Tags as they stand in a `jsonb` column: an object of texts.
///
/// # Errors
/// Names the tag that is none.
pub fn tags_from_json(json: serde_json::Value) -> Result<Tags, String> {
    let serde_json::Value::Object(members) = json else {
        return Err("must be an object of texts".to_owned());
    };
    let tag = |(name, value)| match value {
        serde_json::Value::String(value) => Ok((name, value)),
        _ => Err(format!("`{name}` must be a text")),
    };
    members.into_iter().map(tag).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        let cases = [
            ("*", "", true),
            ("*", "pump-1", true),
            ("pump-1", "pump-1", true),
            ("pump-1", "pump-12", false),
            ("pump-*", "pump-12", true),
            ("*-1", "pump-1", true),
            ("p*p*1", "pump-1", true),
            ("p*m*m*", "pump", false),
            ("a*a", "a", false),
            ("", "", true),
            ("", "x", false),
        ];
        for (pattern, device, expected) in cases {
            assert_eq!(DevicePattern::new(pattern).matches(device), expected, "{pattern} on {device}");
        }
    }

    #[test]
    fn a_device_must_meet_all_that_is_said() {
        let tags = |pairs: &[(&str, &str)]| -> Tags {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let selector = Selector {
            ids: Some(["pump-1".to_owned(), "fan-1".to_owned()].into()),
            pattern: DevicePattern::new("pump-*"),
            tags: tags(&[("site", "north")]),
        };
        let north = tags(&[("site", "north"), ("floor", "2")]);
        assert!(selector.selects("pump-1", &north));
        assert!(!selector.selects("pump-2", &north), "not one of the ids");
        assert!(!selector.selects("fan-1", &north), "not of the pattern");
        assert!(!selector.selects("pump-1", &tags(&[("site", "south")])));
        assert!(!selector.selects("pump-1", &tags(&[])));
    }

    #[test]
    fn tags_are_an_object_of_texts() {
        assert_eq!(tags_from_json(serde_json::json!({ "a": "b" })).unwrap().len(), 1);
        assert!(tags_from_json(serde_json::json!({ "a": 1 })).unwrap_err().contains("`a`"));
        assert!(tags_from_json(serde_json::json!(["a"])).is_err());
    }
}

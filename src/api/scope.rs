//! Scopes: what a key may do.
//!
//! Invariant: a key can do what its scopes say and no more; a scope that this program does not know grants nothing.

use std::fmt;
use std::str::FromStr;

/// One thing that a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// See the tenant's alerts, deliveries and settings.
    Read,
    /// Change the tenant's alerts, rules, silences and destinations.
    Write,
    /// Hand in readings.
    Publish,
    /// Everything.
    Admin,
}

/// A text that names no scope.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("`{0}` is no scope; there are read, write, publish and admin")]
pub struct UnknownScope(String);

impl Scope {
    const ALL: [Self; 4] = [Self::Read, Self::Write, Self::Publish, Self::Admin];

    /// As it stands in SQL, JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Publish => "publish",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Scope {
    type Err = UnknownScope;

    fn from_str(text: &str) -> Result<Self, UnknownScope> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| UnknownScope(text.to_owned()))
    }
}

/// All that a key may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scopes(Vec<Scope>);

impl Scopes {
    /// These scopes, each once.
    pub fn new(scopes: impl IntoIterator<Item = Scope>) -> Self {
        let mut scopes: Vec<Scope> = scopes.into_iter().collect();
        scopes.sort_unstable();
        scopes.dedup();
        Self(scopes)
    }

    /// Whether a key with these scopes may do what `wanted` names.
    pub fn allow(&self, wanted: Scope) -> bool {
        self.0.contains(&wanted) || self.0.contains(&Scope::Admin)
    }

    /// As they stand in `api_keys.scopes`.
    pub fn to_column(&self) -> Vec<&'static str> {
        self.0.iter().map(|scope| scope.as_str()).collect()
    }

    /// Reads `api_keys.scopes`; a scope of a later version is left out, and so grants nothing here.
    pub fn from_column(column: &[String]) -> Self {
        Self::new(column.iter().filter_map(|text| text.parse().ok()))
    }
}

impl fmt::Display for Scopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_column().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_may_do_everything_and_the_others_only_themselves() {
        let admin = Scopes::new([Scope::Admin]);
        let publish = Scopes::new([Scope::Publish]);
        for scope in Scope::ALL {
            assert!(admin.allow(scope), "{scope}");
            assert_eq!(publish.allow(scope), scope == Scope::Publish, "{scope}");
        }
        assert!(!Scopes::new([Scope::Write]).allow(Scope::Read));
    }

    #[test]
    fn an_unknown_scope_is_named_with_those_that_exist() {
        let error = "raed".parse::<Scope>().unwrap_err().to_string();
        assert_eq!(error, "`raed` is no scope; there are read, write, publish and admin");
        assert!("Read".parse::<Scope>().is_err());
    }

    #[test]
    fn a_stored_scope_that_nobody_knows_grants_nothing() {
        let scopes = Scopes::from_column(&["root".to_owned(), "write".to_owned(), "write".to_owned()]);
        assert_eq!(scopes.to_column(), ["write"]);
    }
}

//! The name of a tenant: one token of a NATS subject, so that the broker's permissions can speak of it.

use std::fmt;

/// The name of a tenant: 1 to 64 of `A-Z a-z 0-9 _ -`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TenantName(String);

/// The rule that a tenant's name breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("a tenant's name is 1 to 64 letters, digits, `_` or `-`")]
pub struct InvalidTenantName;

impl TenantName {
    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidTenantName`] for any other text.
    pub fn parse(name: &str) -> Result<Self, InvalidTenantName> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || c == b'_' || c == b'-';
        if (1..=64).contains(&name.len()) && name.bytes().all(allowed) {
            Ok(Self(name.to_owned()))
        } else {
            Err(InvalidTenantName)
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_subject_token() {
        assert!(TenantName::parse("demo-1_A").is_ok());
        for bad in ["", "a.b", "a*", "a>b", "ä", "a b", &"x".repeat(65)] {
            assert_eq!(TenantName::parse(bad), Err(InvalidTenantName), "{bad:?}");
        }
    }
}

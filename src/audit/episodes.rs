//! The accounts of fired episodes: each time that a rule fired on an alert, somebody was told, or there is a reason why not.
//!
//! Invariant: fired = notified + grouped + silenced + cooled down + historical + unrouted, each counted from other rows than
//! those that say so.

use serde::Serialize;
use tokio_postgres::Transaction;

use super::verify::Check;

const FIRED: &str = include_str!("../../sql/queries/audit/fired_episodes.sql");

/// How many episodes fired, and how many of them became what.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Episodes {
    /// All.
    pub fired: i64,
    /// A notice of its own told it.
    pub notified: i64,
    /// A notice that tells of many alerts told it.
    pub grouped: i64,
    /// A silence kept it from being told.
    pub silenced: i64,
    /// It fired within the cooldown of the one before.
    pub cooled_down: i64,
    /// It was old, and over, when it was judged.
    pub historical: i64,
    /// Its rule named no destination.
    pub unrouted: i64,
}

impl Episodes {
    /// Counts them. `snapshot` is a transaction of the owner.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn count(snapshot: &Transaction<'_>) -> Result<Self, tokio_postgres::Error> {
        let row = snapshot.query_one(FIRED, &[]).await?;
        Ok(Self {
            fired: row.get("fired"),
            notified: row.get("notified"),
            grouped: row.get("grouped"),
            silenced: row.get("silenced"),
            cooled_down: row.get("cooled_down"),
            historical: row.get("historical"),
            unrouted: row.get("unrouted"),
        })
    }

    /// What became of them, with the names that people read.
    pub fn accounts(&self) -> [(&'static str, i64); 6] {
        [
            ("notified", self.notified),
            ("grouped", self.grouped),
            ("silenced", self.silenced),
            ("cooled down", self.cooled_down),
            ("historical", self.historical),
            ("unrouted", self.unrouted),
        ]
    }

    /// Whether the accounts close.
    pub fn check(&self) -> Check {
        let found = self.accounts().iter().map(|(_, count)| count).sum();
        Check { name: Self::CHECK, expected: self.fired, found, ok: found == self.fired }
    }

    /// The name of the check.
    pub const CHECK: &'static str = "fired episodes";
}

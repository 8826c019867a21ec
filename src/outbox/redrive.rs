//! Redriving: a dead notification is owed again. Same id, same body; its attempts are numbered on, and its history stays.

use tokio_postgres::GenericClient;
use uuid::Uuid;

use crate::db::error::DatabaseError;
use crate::model::ids::NotificationId;

const REDRIVE: &str = include_str!("../../sql/queries/outbox/redrive.sql");

/// Longest reason, in bytes.
const REASON_MAX: usize = 1000;

/// Why somebody sends it again: never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason(String);

/// The rule that a reason breaks.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("the reason must say something, in 1 to {REASON_MAX} bytes")]
pub struct InvalidReason;

impl Reason {
    /// Checks a reason.
    ///
    /// # Errors
    /// [`InvalidReason`] if it is empty or too long.
    pub fn parse(text: &str) -> Result<Self, InvalidReason> {
        let text = text.trim();
        let fits = (1..=REASON_MAX).contains(&text.len()) && !text.contains('\0');
        fits.then(|| Self(text.to_owned())).ok_or(InvalidReason)
    }

    /// What it says.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redriven {
    /// It is owed again.
    Owed,
    /// What came after it was told, or is being told: to be sent all the same, it must be forced.
    Overtaken,
    /// It is not dead; this is its status.
    NotDead(String),
    /// The tenant has no such notification.
    Unknown,
}

/// What to do about [`Redriven::Overtaken`], for people.
pub const OVERTAKEN: &str = "what came after it was told already: its receiver would take it for news";

/// Owes a dead notification again, `force` although what came after it was told, and records who wanted it and why, in the caller's transaction, which is of one tenant.
///
/// # Errors
/// If the database is away.
pub async fn redrive(
    transaction: &impl GenericClient,
    notification: NotificationId,
    actor: &str,
    reason: &Reason,
    force: bool,
) -> Result<Redriven, DatabaseError> {
    let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
        &[&notification.0, &Uuid::now_v7(), &actor, &reason.0, &force];
    let status: Option<String> = transaction.query_one(REDRIVE, parameters).await?.get(0);
    Ok(match status.as_deref() {
        Some("redriven") => Redriven::Owed,
        Some("overtaken") => Redriven::Overtaken,
        Some(_) => Redriven::NotDead(status.unwrap_or_default()),
        None => Redriven::Unknown,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something() {
        assert_eq!(Reason::parse(" the hub is back "), Ok(Reason("the hub is back".to_owned())));
        for bad in ["", "  ", "a\0b", &"x".repeat(1001)] {
            assert_eq!(Reason::parse(bad), Err(InvalidReason));
        }
    }
}

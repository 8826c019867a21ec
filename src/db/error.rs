//! What can go wrong with PostgreSQL, and whether trying again can help.

use tokio_postgres::error::{DbError, SqlState};

/// A failed exchange with PostgreSQL.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// No connection could be had.
    #[error("failed to get a database connection: {}", chain(.0))]
    Pool(#[from] deadpool_postgres::PoolError),
    /// A statement failed.
    #[error("{}", chain(.0))]
    Statement(#[from] tokio_postgres::Error),
    /// The answer was not what the schema promises.
    #[error("the database holds something this program can't read: {0}")]
    Unreadable(String),
}

impl DatabaseError {
    /// What PostgreSQL itself said, if it said something.
    pub fn db_error(&self) -> Option<&DbError> {
        match self {
            Self::Statement(error) | Self::Pool(deadpool_postgres::PoolError::Backend(error)) => {
                error.as_db_error()
            }
            _ => None,
        }
    }

    /// Whether the same work may succeed later: the server is away, restarting, overloaded or broke a tie. When
    /// nothing is known, it may.
    pub fn is_transient(&self) -> bool {
        match self.db_error().map(|error| error.code().code()) {
            // Data exceptions, integrity violations, syntax and access rules: the same again tomorrow.
            Some(code) => !matches!(&code[..2], "22" | "23" | "42"),
            None => !matches!(self, Self::Unreadable(_)),
        }
    }

    /// A key that exists already.
    pub fn is_unique_violation(&self) -> bool {
        self.db_error().is_some_and(|error| *error.code() == SqlState::UNIQUE_VIOLATION)
    }

    /// A row for which no partition exists: a check violation that names no constraint.
    pub fn is_missing_partition(&self) -> bool {
        self.db_error()
            .is_some_and(|error| *error.code() == SqlState::CHECK_VIOLATION && error.constraint().is_none())
    }

    /// A lock that was not to be had within `lock_timeout`.
    pub fn is_lock_timeout(&self) -> bool {
        self.db_error().is_some_and(|error| *error.code() == SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether PostgreSQL refuses what it was given, whichever rule it breaks: the same again tomorrow.
    pub fn is_refused(&self) -> bool {
        self.db_error().is_some_and(|error| matches!(&error.code().code()[..2], "22" | "23"))
    }

    /// A row that PostgreSQL refuses for what is in it.
    pub fn is_data_error(&self) -> bool {
        !self.is_unique_violation() && !self.is_missing_partition() && self.is_refused()
    }
}

/// An error with its causes in one line: `tokio_postgres` keeps the interesting part in the source.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

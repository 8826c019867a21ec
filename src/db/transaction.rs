//! A transaction whose first and last statements travel with its `BEGIN` and its `COMMIT`: what is polled side by side on one
//! connection is sent at once, and carried out in the order in which it was first polled.
//!
//! Invariant: a connection on which something was begun and not committed never goes back to its pool.

use deadpool_postgres::Object;

use super::error::DatabaseError;

/// A connection that is given up unless what is begun on it is committed: PostgreSQL rolls back then.
#[derive(Debug)]
pub struct Transaction {
    /// Taken out when this ends.
    client: Option<Object>,
}

impl Transaction {
    /// On this connection; nothing is sent yet.
    pub fn on(client: Object) -> Self {
        Self { client: Some(client) }
    }

    /// Its connection.
    ///
    /// # Errors
    /// None while there is a transaction.
    pub fn client(&self) -> Result<&Object, DatabaseError> {
        self.client.as_ref().ok_or_else(|| DatabaseError::Unreadable("a transaction that is over".to_owned()))
    }

    /// Its connection can be used for others again: `COMMIT` was answered.
    pub fn is_over(mut self) {
        drop(self.client.take());
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if let Some(client) = self.client.take() {
            drop(Object::take(client));
        }
    }
}

/// `BEGIN`.
///
/// # Errors
/// If the database is away.
pub async fn begin(client: &Object) -> Result<(), DatabaseError> {
    Ok(client.batch_execute("BEGIN").await?)
}

/// `COMMIT`. Only when all before it succeeded, or is looked at before this: what failed is rolled back without a word.
///
/// # Errors
/// If the database is away; whether it committed is not known then.
pub async fn commit(client: &Object) -> Result<(), DatabaseError> {
    Ok(client.batch_execute("COMMIT").await?)
}

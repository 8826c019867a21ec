//! A transaction that sees one tenant.
//!
//! Invariant: whoever reads through it as the API role sees rows of that tenant only; row-level security does it, and
//! the setting ends with the transaction.

use deadpool_postgres::{Object, Transaction};
use tokio_postgres::IsolationLevel;

use super::error::DatabaseError;

/// Begins a read-only transaction of one tenant on a connection of the API role. All its statements see the same
/// moment, so that an answer made of several agrees with itself.
///
/// # Errors
/// If the database is away.
pub async fn begin(connection: &mut Object, tenant_id: i32) -> Result<Transaction<'_>, DatabaseError> {
    let transaction = connection
        .build_transaction()
        .read_only(true)
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .await?;
    enter(transaction, tenant_id).await
}

/// Begins a transaction of one tenant that changes something.
///
/// # Errors
/// If the database is away.
pub async fn begin_change(connection: &mut Object, tenant_id: i32) -> Result<Transaction<'_>, DatabaseError> {
    enter(connection.transaction().await?, tenant_id).await
}

async fn enter(transaction: Transaction<'_>, tenant_id: i32) -> Result<Transaction<'_>, DatabaseError> {
    // The tenant is an integer: no quoting is needed, and SET takes no parameters.
    transaction.batch_execute(&format!("SET LOCAL watchbell.tenant_id = '{tenant_id}'")).await?;
    Ok(transaction)
}

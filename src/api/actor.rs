//! Who changes something, in the transaction that changes it.
//!
//! Invariant: a change through the API or by a command names its actor twice, in one transaction with the change itself: in
//! `watchbell.actor`, from where triggers take it, and in `admin_actions`.

use deadpool_postgres::{Object, Transaction};
use uuid::Uuid;

use super::auth::Caller;
use crate::db::error::DatabaseError;
use crate::db::tenant_scope;
use crate::model::ids::TenantId;

const SET_ACTOR: &str = include_str!("../../sql/queries/api/set_actor.sql");
const INSERT_ACTION: &str = include_str!("../../sql/queries/api/insert_action.sql");

/// Whoever changes something of a tenant.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Whose things.
    pub tenant: TenantId,
    /// A key with its name, or the user who typed a command.
    pub name: String,
}

impl From<&Caller> for Actor {
    fn from(caller: &Caller) -> Self {
        Self { tenant: caller.tenant_id, name: caller.actor() }
    }
}

impl Actor {
    /// Begins a transaction of the tenant that changes something.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn begin<'a>(&self, connection: &'a mut Object) -> Result<Transaction<'a>, DatabaseError> {
        let transaction = tenant_scope::begin_change(connection, self.tenant.0).await?;
        transaction.query_one(SET_ACTOR, &[&self.name]).await?;
        Ok(transaction)
    }

    /// Puts on record what was done to what, and how or why.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn record(
        &self,
        transaction: &Transaction<'_>,
        action: &str,
        target: &str,
        reason: Option<&str>,
    ) -> Result<(), DatabaseError> {
        let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
            &[&Uuid::now_v7(), &self.name, &action, &target, &reason];
        transaction.execute(INSERT_ACTION, parameters).await?;
        Ok(())
    }
}

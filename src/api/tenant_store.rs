//! What tenants have and may have: looking, and setting quotas.
//!
//! Invariant: a change stands in `admin_actions` with whoever made it, in one statement with the change itself. All of it
//! needs a connection of the owner. Called by `watchbell tenants`.

use jiff::Timestamp;
use tokio_postgres::{GenericClient, Row};
use uuid::Uuid;

use crate::db::error::DatabaseError;
use crate::model::tenant::TenantName;

const LIST_TENANTS: &str = include_str!("../../sql/queries/tenants/list_tenants.sql");
const SET_QUOTAS: &str = include_str!("../../sql/queries/tenants/set_quotas.sql");

/// A tenant in a list.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ListedTenant {
    /// Its name.
    pub tenant: String,
    /// Devices that are registered.
    pub devices: i32,
    /// Devices that may be.
    pub max_devices: i32,
    /// Series that are registered.
    pub series: i32,
    /// Series that may be.
    pub max_series: i32,
    /// When it was made.
    pub created_at: Timestamp,
}

impl From<&Row> for ListedTenant {
    fn from(row: &Row) -> Self {
        Self {
            tenant: row.get("name"),
            devices: row.get("device_count"),
            max_devices: row.get("max_devices"),
            series: row.get("series_count"),
            max_series: row.get("max_series"),
            created_at: row.get("created_at"),
        }
    }
}

/// Quotas that are to be set; `None` leaves one as it is.
#[derive(Debug, Clone, Copy)]
pub struct NewQuotas<'a> {
    /// Devices that may be registered.
    pub max_devices: Option<i32>,
    /// Series that may be registered.
    pub max_series: Option<i32>,
    /// Why, for the record.
    pub reason: Option<&'a str>,
    /// Who sets them.
    pub actor: &'a str,
}

/// All tenants, by name.
///
/// # Errors
/// If the database is away.
pub async fn list_tenants(client: &impl GenericClient) -> Result<Vec<ListedTenant>, DatabaseError> {
    Ok(client.query(LIST_TENANTS, &[]).await?.iter().map(ListedTenant::from).collect())
}

/// Sets quotas; returns the tenant as it is then, `None` if there is no such tenant. What is registered stays, even beyond
/// a quota.
///
/// # Errors
/// If the database is away.
pub async fn set_quotas(
    client: &impl GenericClient,
    tenant: &TenantName,
    new: &NewQuotas<'_>,
) -> Result<Option<ListedTenant>, DatabaseError> {
    let row = client
        .query_opt(
            SET_QUOTAS,
            &[&tenant.as_str(), &new.max_devices, &new.max_series, &Uuid::now_v7(), &new.actor, &new.reason],
        )
        .await?;
    Ok(row.as_ref().map(ListedTenant::from))
}

//! Whose data a command is about: the tenant that it names, or the one that a thing belongs to. The owner of the database may
//! ask; what is done then is done as the API role, inside that tenant.

use anyhow::{Context, bail};
use uuid::Uuid;

use crate::api::key_store::find_tenant;
use crate::config::Config;
use crate::db::pool::connect_owner;
use crate::model::tenant::TenantName;

const OF_ALERT: &str = include_str!("../../sql/queries/tenants/tenant_of_alert.sql");
const OF_SILENCE: &str = include_str!("../../sql/queries/tenants/tenant_of_silence.sql");

/// The tenant of that name.
///
/// # Errors
/// If there is none, or the database is away.
pub async fn named(config: &Config, name: &TenantName) -> anyhow::Result<i32> {
    config.require_database()?;
    let owner = connect_owner(&config.database).await?;
    let tenant = find_tenant(&owner, name).await?;
    Ok(tenant.with_context(|| format!("there is no tenant `{name}`"))?.0)
}

/// The tenant that an alert belongs to; it must be the one of that name, if a name is given.
///
/// # Errors
/// If there is no such alert, or the database is away.
pub async fn of_alert(config: &Config, id: Uuid, name: Option<&TenantName>) -> anyhow::Result<i32> {
    of(config, OF_ALERT, "alert", id, name).await
}

/// The tenant that a silence belongs to; it must be the one of that name, if a name is given.
///
/// # Errors
/// If there is no such silence, or the database is away.
pub async fn of_silence(config: &Config, id: Uuid, name: Option<&TenantName>) -> anyhow::Result<i32> {
    of(config, OF_SILENCE, "silence", id, name).await
}

async fn of(
    config: &Config,
    query: &str,
    what: &str,
    id: Uuid,
    name: Option<&TenantName>,
) -> anyhow::Result<i32> {
    config.require_database()?;
    let owner = connect_owner(&config.database).await?;
    let named = match name {
        Some(name) => {
            let tenant = find_tenant(&owner, name).await?;
            Some(tenant.with_context(|| format!("there is no tenant `{name}`"))?.0)
        }
        None => None,
    };
    let row = owner.query_opt(query, &[&id]).await?;
    let tenant: i32 = row.with_context(|| format!("there is no {what} {id}"))?.get(0);
    if let Some(name) = name.filter(|_| named != Some(tenant)) {
        bail!("there is no {what} {id} of the tenant `{name}`");
    }
    Ok(tenant)
}

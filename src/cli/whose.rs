//! Whose data a command is about: the tenant that it names, or the one that a thing belongs to. The owner of the database may
//! ask; what is done then is done as the API role, inside that tenant.

use anyhow::{Context, bail};
use deadpool_postgres::Object;
use tokio_postgres::Client;
use uuid::Uuid;

use crate::api::key_store::find_tenant;
use crate::config::Config;
use crate::db::migrations;
use crate::db::pool::{Pool, Role, connect_owner};
use crate::model::ids::TenantId;
use crate::model::tenant::TenantName;

const OF_ALERT: &str = include_str!("../../sql/queries/tenants/tenant_of_alert.sql");
const OF_SILENCE: &str = include_str!("../../sql/queries/tenants/tenant_of_silence.sql");

/// A connection of the API role, and the tenant that somebody named.
///
/// # Errors
/// If there is no such tenant, or the database is away or lacks migrations.
pub async fn named(config: &Config, name: &TenantName) -> anyhow::Result<(Object, TenantId)> {
    let tenant = tenant(&connect(config).await?, name).await?;
    Ok((inside(config).await?, tenant))
}

/// The same with the tenant that an alert belongs to; it must be the one of that name, if a name is given.
///
/// # Errors
/// If there is no such alert, or the database is away or lacks migrations.
pub async fn of_alert(
    config: &Config,
    id: Uuid,
    name: Option<&TenantName>,
) -> anyhow::Result<(Object, TenantId)> {
    of(config, OF_ALERT, "alert", id, name).await
}

/// The same with the tenant that a silence belongs to.
///
/// # Errors
/// If there is no such silence, or the database is away or lacks migrations.
pub async fn of_silence(
    config: &Config,
    id: Uuid,
    name: Option<&TenantName>,
) -> anyhow::Result<(Object, TenantId)> {
    of(config, OF_SILENCE, "silence", id, name).await
}

async fn of(
    config: &Config,
    query: &str,
    what: &str,
    id: Uuid,
    name: Option<&TenantName>,
) -> anyhow::Result<(Object, TenantId)> {
    let owner = connect(config).await?;
    let named = match name {
        Some(name) => Some(tenant(&owner, name).await?),
        None => None,
    };
    let row = owner.query_opt(query, &[&id]).await?;
    let tenant = TenantId(row.with_context(|| format!("there is no {what} {id}"))?.get(0));
    if let Some(name) = name.filter(|_| named != Some(tenant)) {
        bail!("there is no {what} {id} of the tenant `{name}`");
    }
    Ok((inside(config).await?, tenant))
}

/// A connection of the owner to a database that lacks no migrations.
///
/// # Errors
/// If the database is away or lacks migrations.
pub async fn connect(config: &Config) -> anyhow::Result<Client> {
    config.require_database()?;
    let client = connect_owner(&config.database).await.context("failed to connect to the database")?;
    let pending = migrations::pending(&client).await?;
    if !pending.is_empty() {
        bail!("the database lacks {}: run `watchbell migrate`", pending.join(", "));
    }
    Ok(client)
}

async fn tenant(owner: &Client, name: &TenantName) -> anyhow::Result<TenantId> {
    find_tenant(owner, name).await?.with_context(|| format!("there is no tenant `{name}`"))
}

async fn inside(config: &Config) -> anyhow::Result<Object> {
    Ok(Pool::new(&config.database, Role::Api, 1)?.get().await?)
}

//! Tenants and keys in the database: making, listing, revoking.
//!
//! Invariant: each change stands in `admin_actions` with whoever made it, in one statement with the change itself. All
//! of it needs a connection of the owner. Called by `watchbell keys` and by whoever seeds a tenant.

use jiff::Timestamp;
use tokio_postgres::GenericClient;
use uuid::Uuid;

use super::key::{ApiKey, NoRandomness};
use super::scope::Scopes;
use crate::db::error::DatabaseError;
use crate::model::ids::{KeyId, TenantId};
use crate::model::tenant::TenantName;

const FIND_TENANT: &str = include_str!("../../sql/queries/keys/find_tenant.sql");
const CREATE_TENANT: &str = include_str!("../../sql/queries/keys/create_tenant.sql");
const CREATE_KEY: &str = include_str!("../../sql/queries/keys/create_key.sql");
const LIST_KEYS: &str = include_str!("../../sql/queries/keys/list_keys.sql");
const REVOKE_KEY: &str = include_str!("../../sql/queries/keys/revoke_key.sql");
const FIND_REVOCATION: &str = include_str!("../../sql/queries/keys/find_revocation.sql");

/// A key that is to be made.
#[derive(Debug, Clone, Copy)]
pub struct NewKey<'a> {
    /// Whose data it opens.
    pub tenant: TenantId,
    /// What it is for, for people.
    pub name: &'a str,
    /// What it may do.
    pub scopes: &'a Scopes,
    /// `None`: until it is revoked.
    pub expires_in_days: Option<i32>,
    /// Who makes it.
    pub actor: &'a str,
}

/// A key that was made. It can't be shown again.
#[derive(Debug, Clone)]
pub struct CreatedKey {
    /// Its id.
    pub id: KeyId,
    /// The key itself.
    pub key: ApiKey,
    /// When it ends, if it does.
    pub expires_at: Option<Timestamp>,
}

/// A key in a list.
#[derive(Debug, Clone, serde::Serialize)]
#[expect(missing_docs, reason = "the columns of api_keys")]
pub struct ListedKey {
    pub tenant: String,
    pub prefix: String,
    pub name: String,
    pub scopes: Vec<String>,
    /// `active`, `expired` or `revoked`.
    pub state: String,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

/// What became of a wish to revoke a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// It is revoked now: requests with it are refused from the next one on.
    Revoked {
        /// Whose it was.
        tenant: String,
        /// What it was for.
        name: String,
    },
    /// It was revoked before.
    RevokedBefore(Timestamp),
    /// There is no such key.
    Unknown,
}

/// A key that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum KeyStoreError {
    /// The operating system gave no random bytes.
    #[error(transparent)]
    Random(#[from] NoRandomness),
    /// The database is away or refuses.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<tokio_postgres::Error> for KeyStoreError {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Database(error.into())
    }
}

/// The tenant of that name.
///
/// # Errors
/// If the database is away.
pub async fn find_tenant(
    client: &impl GenericClient,
    name: &TenantName,
) -> Result<Option<TenantId>, DatabaseError> {
    let row = client.query_opt(FIND_TENANT, &[&name.as_str()]).await?;
    Ok(row.map(|row| TenantId(row.get("tenant_id"))))
}

/// The tenant of that name, made if it is not there.
///
/// # Errors
/// If the database is away.
pub async fn ensure_tenant(
    client: &impl GenericClient,
    name: &TenantName,
    actor: &str,
) -> Result<TenantId, DatabaseError> {
    let made = client.query_opt(CREATE_TENANT, &[&name.as_str(), &Uuid::now_v7(), &actor]).await?;
    if let Some(row) = made {
        return Ok(TenantId(row.get("tenant_id")));
    }
    let found = find_tenant(client, name).await?;
    found.ok_or_else(|| DatabaseError::Unreadable(format!("tenant {name} exists and can't be found")))
}

/// Makes a key.
///
/// # Errors
/// [`KeyStoreError`].
pub async fn create_key(client: &impl GenericClient, new: &NewKey<'_>) -> Result<CreatedKey, KeyStoreError> {
    let key = ApiKey::generate()?;
    let id = KeyId::new();
    let (prefix, hash) = (key.prefix(), key.hash());
    let row = client
        .query_one(
            CREATE_KEY,
            &[
                &id.0,
                &new.tenant.0,
                &new.name,
                &prefix,
                &hash.as_slice(),
                &new.scopes.to_column(),
                &new.expires_in_days,
                &Uuid::now_v7(),
                &new.actor,
            ],
        )
        .await?;
    Ok(CreatedKey { id, expires_at: row.get("expires_at"), key })
}

/// The keys of a tenant, or of all: what is public of them.
///
/// # Errors
/// If the database is away.
pub async fn list_keys(
    client: &impl GenericClient,
    tenant: Option<&TenantName>,
) -> Result<Vec<ListedKey>, DatabaseError> {
    let rows = client.query(LIST_KEYS, &[&tenant.map(TenantName::as_str)]).await?;
    let listed = rows.iter().map(|row| ListedKey {
        tenant: row.get("tenant"),
        prefix: row.get("prefix"),
        name: row.get("name"),
        scopes: row.get("scopes"),
        state: row.get("state"),
        created_at: row.get("created_at"),
        expires_at: row.get("expires_at"),
        revoked_at: row.get("revoked_at"),
    });
    Ok(listed.collect())
}

/// Revokes the key with that prefix.
///
/// # Errors
/// If the database is away.
pub async fn revoke_key(
    client: &impl GenericClient,
    prefix: &str,
    reason: &str,
    actor: &str,
) -> Result<Revocation, DatabaseError> {
    let revoked = client.query_opt(REVOKE_KEY, &[&prefix, &reason, &Uuid::now_v7(), &actor]).await?;
    if let Some(row) = revoked {
        return Ok(Revocation::Revoked { tenant: row.get("tenant"), name: row.get("name") });
    }
    let known = client.query_opt(FIND_REVOCATION, &[&prefix]).await?;
    let before = known.and_then(|row| row.get::<_, Option<Timestamp>>("revoked_at"));
    Ok(before.map_or(Revocation::Unknown, Revocation::RevokedBefore))
}

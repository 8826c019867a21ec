//! Who asks, and what they may do.
//!
//! Invariant: a [`Caller`] exists only for a key that the database knows, unexpired and unrevoked, at this very request:
//! nothing is remembered, so that a revoked key is refused from the next request on. The console logs people in
//! through the same door.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};

use super::key::ApiKey;
use super::problem::Problem;
use super::scope::{Scope, Scopes};
use super::state::ApiState;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::ids::{KeyId, TenantId};

const FIND_KEY: &str = include_str!("../../sql/queries/api/find_api_key.sql");

/// Whoever sent a request.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whose data it is about.
    pub tenant_id: TenantId,
    /// The tenant's name.
    pub tenant: String,
    /// The key that was shown.
    pub key_id: KeyId,
    /// What the key is for, for people.
    pub name: String,
    /// What the key may do.
    pub scopes: Scopes,
}

impl Caller {
    /// Who did it, for the record: `key on-call dashboard (0192f0c1-..)`.
    pub fn actor(&self) -> String {
        format!("key {} ({})", self.name, self.key_id)
    }
}

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No key was shown.
    #[error("this needs an API key: `Authorization: Bearer KEY` or `X-API-Key: KEY`")]
    NoKey,
    /// Nobody has this key.
    #[error("nobody has this API key")]
    UnknownKey,
    /// It was a good key once.
    #[error("this API key has expired or was revoked")]
    EndedKey,
    /// Whether the key is good can't be told now.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl From<AuthError> for Problem {
    fn from(error: AuthError) -> Self {
        match error {
            AuthError::Database(error) => error.into(),
            AuthError::NoKey => Self::unauthorized(&error.to_string(), "Bearer"),
            AuthError::UnknownKey | AuthError::EndedKey => {
                Self::unauthorized(&error.to_string(), "Bearer error=\"invalid_token\"")
            }
        }
    }
}

/// Finds out whose key this is.
///
/// # Errors
/// [`AuthError`]: it is nobody's, it is over, or the database is away.
pub async fn authenticate(pool: &Pool, presented: &str) -> Result<Caller, AuthError> {
    let key = ApiKey::parse(presented).ok_or(AuthError::UnknownKey)?;
    let connection = pool.get().await?;
    let statement = connection.prepare_cached(FIND_KEY).await.map_err(DatabaseError::from)?;
    let row = connection.query_opt(&statement, &[&key.prefix()]).await.map_err(DatabaseError::from)?;
    // An unknown prefix costs the same comparison, so that the time does not tell which prefixes exist.
    let hash: Vec<u8> = row.as_ref().map_or_else(|| vec![0; 32], |row| row.get("hash"));
    let fits = key.matches(&hash);
    let row = row.filter(|_| fits).ok_or(AuthError::UnknownKey)?;
    if row.get("expired") {
        return Err(AuthError::EndedKey);
    }
    Ok(Caller {
        tenant_id: TenantId(row.get("tenant_id")),
        tenant: row.get("tenant"),
        key_id: KeyId(row.get("key_id")),
        name: row.get("name"),
        scopes: Scopes::from_column(&row.get::<_, Vec<String>>("scopes")),
    })
}

/// A caller whose key has the scope `read`.
#[derive(Debug, Clone)]
pub struct Reader(pub Caller);

impl FromRequestParts<ApiState> for Reader {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        authorize(parts, state, Scope::Read).await.map(Self)
    }
}

/// A caller whose key has the scope `write`.
#[derive(Debug, Clone)]
pub struct Writer(pub Caller);

impl FromRequestParts<ApiState> for Writer {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        authorize(parts, state, Scope::Write).await.map(Self)
    }
}

/// A caller whose key has the scope `admin`.
#[derive(Debug, Clone)]
pub struct Admin(pub Caller);

impl FromRequestParts<ApiState> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        authorize(parts, state, Scope::Admin).await.map(Self)
    }
}

/// Lets a request in whose key has the scope. What an extractor such as [`Reader`] is made of.
///
/// # Errors
/// 401 without a good key, 403 without the scope, 503 when the database is away.
pub async fn authorize(parts: &Parts, state: &ApiState, scope: Scope) -> Result<Caller, Problem> {
    let presented = presented_key(&parts.headers).ok_or(AuthError::NoKey)?;
    let caller = authenticate(&state.pool, presented).await?;
    if caller.scopes.allow(scope) { Ok(caller) } else { Err(Problem::missing_scope(scope)) }
}

fn presented_key(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "Bearer").or_else(|| headers.get("x-api-key")?.to_str().ok()).map(str::trim)
}

/// What stands behind the scheme in the header `Authorization`, if it is that scheme.
pub fn credentials<'a>(headers: &'a HeaderMap, wanted_scheme: &str) -> Option<&'a str> {
    let (scheme, credentials) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case(wanted_scheme).then_some(credentials.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), axum::http::HeaderValue::from_static(value)))
            .collect()
    }

    #[test]
    fn a_key_comes_in_either_header() {
        for (pairs, expected) in [
            (&[("authorization", "Bearer k")][..], Some("k")),
            (&[("authorization", "bearer  k ")], Some("k")),
            (&[("x-api-key", "k")], Some("k")),
            (&[("authorization", "Basic abc"), ("x-api-key", "k")], Some("k")),
            (&[("authorization", "Basic abc")], None),
            (&[("authorization", "k")], None),
            (&[], None),
        ] {
            assert_eq!(presented_key(&headers(pairs)), expected, "{pairs:?}");
        }
    }
}

//! From names to ids: tenants, and series that are registered when they are first seen.
//!
//! Invariant: an id that comes out of here is committed. Caches are bounded, and what they say of a tenant expires.

use std::collections::BTreeMap;
use std::time::Duration;

use moka::sync::Cache;

use super::validate::NamedReading;
use crate::config;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::ids::{SeriesId, TenantId};
use crate::model::tenant::TenantName;

const FIND_TENANTS: &str = include_str!("../../sql/queries/ingest/find_tenants.sql");
const FIND_SERIES: &str = include_str!("../../sql/queries/ingest/find_series.sql");
const REGISTER_DEVICES: &str = include_str!("../../sql/queries/ingest/register_devices.sql");
const REGISTER_SERIES: &str = include_str!("../../sql/queries/ingest/register_series.sql");

/// Tenants kept in memory; more are asked for again.
const TENANT_CACHE_SIZE: u64 = 10_000;

/// Knows tenants and series.
pub struct Resolver {
    pool: Pool,
    tenants: Cache<String, Option<TenantId>>,
    /// By `tenant id, NUL, device, NUL, metric`: names have no control characters, so no two series share a key.
    series: Cache<Box<str>, SeriesId>,
}

impl Resolver {
    /// Reads and registers through `pool`, of the worker role.
    pub fn new(pool: Pool, ingest: &config::Ingest) -> Self {
        let expiry = Duration::from_secs(ingest.tenant_cache_seconds);
        Self {
            pool,
            tenants: Cache::builder().max_capacity(TENANT_CACHE_SIZE).time_to_live(expiry).build(),
            series: Cache::new(ingest.series_cache_size),
        }
    }

    /// The tenants of these names; `None` for one that does not exist.
    ///
    /// # Errors
    /// If a name is not in the cache and the database is away.
    pub async fn tenants(&self, names: &[TenantName]) -> Result<Vec<Option<TenantId>>, DatabaseError> {
        let mut known: BTreeMap<&str, Option<TenantId>> = BTreeMap::new();
        let mut unknown = Vec::new();
        for name in names.iter().map(TenantName::as_str) {
            match self.tenants.get(name) {
                Some(tenant) => _ = known.insert(name, tenant),
                None => unknown.push(name),
            }
        }
        if !unknown.is_empty() {
            let rows = self.pool.get().await?.query(FIND_TENANTS, &[&unknown]).await?;
            for name in unknown {
                let row = rows.iter().find(|row| row.get::<_, &str>(0) == name);
                let tenant = row.map(|row| TenantId(row.get(1)));
                self.tenants.insert(name.to_owned(), tenant);
                known.insert(name, tenant);
            }
        }
        Ok(names.iter().map(|name| known.get(name.as_str()).copied().flatten()).collect())
    }

    /// The series of these readings; new ones are registered in a transaction of their own.
    ///
    /// # Errors
    /// If a series is not in the cache and the database is away.
    pub async fn series(
        &self,
        readings: &[(TenantId, NamedReading<'_>)],
    ) -> Result<Vec<SeriesId>, DatabaseError> {
        let mut key = String::new();
        let mut ids = Vec::with_capacity(readings.len());
        let mut unknown = BTreeMap::new();
        for (tenant, reading) in readings {
            write_key(&mut key, *tenant, &reading.device, &reading.metric);
            let id = self.series.get(key.as_str());
            if id.is_none() {
                unknown
                    .entry((*tenant, &*reading.device, &*reading.metric))
                    .or_insert(reading.unit.as_deref());
            }
            ids.push(id);
        }
        if unknown.is_empty() {
            return Ok(ids.into_iter().flatten().collect());
        }
        let registered = self.register(&unknown).await?;
        readings
            .iter()
            .zip(ids)
            .map(|((tenant, reading), id)| {
                id.or_else(|| registered.get(&(*tenant, &*reading.device, &*reading.metric)).copied())
                    .ok_or_else(|| {
                        DatabaseError::Unreadable(format!(
                            "series {}/{} was not registered",
                            reading.device, reading.metric
                        ))
                    })
            })
            .collect()
    }

    async fn register<'a>(
        &self,
        unknown: &BTreeMap<(TenantId, &'a str, &'a str), Option<&str>>,
    ) -> Result<BTreeMap<(TenantId, &'a str, &'a str), SeriesId>, DatabaseError> {
        // Sorted by the map: two processes that register the same at once wait for each other and do not deadlock.
        let tenants: Vec<i32> = unknown.keys().map(|(tenant, _, _)| tenant.0).collect();
        let devices: Vec<&str> = unknown.keys().map(|(_, device, _)| *device).collect();
        let metrics: Vec<&str> = unknown.keys().map(|(_, _, metric)| *metric).collect();
        let units: Vec<Option<&str>> = unknown.values().copied().collect();
        let mut client = self.pool.get().await?;
        // Looked up first: an insert that finds its row there burns a number of the sequence, and there are 2^31.
        let mut rows = client.query(FIND_SERIES, &[&tenants, &devices, &metrics]).await?;
        if rows.len() < unknown.len() {
            let transaction = client.transaction().await?;
            transaction.execute(REGISTER_DEVICES, &[&tenants, &devices]).await?;
            transaction.execute(REGISTER_SERIES, &[&tenants, &devices, &metrics, &units]).await?;
            rows = transaction.query(FIND_SERIES, &[&tenants, &devices, &metrics]).await?;
            transaction.commit().await?;
        }
        let mut found = BTreeMap::new();
        let mut key = String::new();
        let keys: Vec<_> = unknown.keys().copied().collect();
        for row in &rows {
            let place: i64 = row.get(0);
            let Some(names) = usize::try_from(place - 1).ok().and_then(|place| keys.get(place)) else {
                continue;
            };
            let id = SeriesId(row.get(1));
            write_key(&mut key, names.0, names.1, names.2);
            self.series.insert(key.as_str().into(), id);
            found.insert(*names, id);
        }
        Ok(found)
    }
}

fn write_key(key: &mut String, tenant: TenantId, device: &str, metric: &str) {
    use std::fmt::Write;
    key.clear();
    // Writing to a String can't fail.
    let _ = write!(key, "{tenant}\0{device}\0{metric}");
}

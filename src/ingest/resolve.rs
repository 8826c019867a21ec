//! From names to ids: tenants, and series that are registered when they are first seen, as far as quotas go.
//!
//! Invariant: an id that comes out of here is committed. What is kept in memory is bounded, and what it says of a tenant, or
//! of a quota that is used up, expires.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::sync::Cache;
use tokio_postgres::GenericClient;

use super::quota::{Newcomer, OverQuota, Quota, Usage, admit};
use super::series_cache::SeriesCache;
use super::validate::NamedReading;
use crate::config;
use crate::db::error::DatabaseError;
use crate::db::pool::Pool;
use crate::model::ids::{SeriesId, TenantId};
use crate::model::tenant::TenantName;
use crate::telemetry::metrics::Metrics;

const FIND_TENANTS: &str = include_str!("../../sql/queries/ingest/find_tenants.sql");
const FIND_SERIES: &str = include_str!("../../sql/queries/ingest/find_series.sql");
const LOCK_QUOTAS: &str = include_str!("../../sql/queries/ingest/lock_quotas.sql");
const REGISTER_DEVICES: &str = include_str!("../../sql/queries/ingest/register_devices.sql");
const REGISTER_SERIES: &str = include_str!("../../sql/queries/ingest/register_series.sql");

/// Tenants kept in memory; more are asked for again.
const TENANT_CACHE_SIZE: u64 = 10_000;
/// Series kept in memory that were refused; more are looked up again. Apart from the known ones, so that a flood of new
/// names drives none of those out.
const REFUSED_CACHE_SIZE: usize = 20_000;

/// Knows tenants and series. One task owns it.
pub struct Resolver {
    pool: Pool,
    tenants: Cache<String, Option<TenantId>>,
    known: SeriesCache<SeriesId>,
    refused: SeriesCache<Refused>,
    /// Tenants that have as many as they may have.
    full: HashMap<(TenantId, Quota), Refused>,
    /// How long what is known of a tenant and its quotas is believed.
    expiry: Duration,
    metrics: Arc<Metrics>,
}

/// The series of readings, in their order.
#[derive(Debug)]
pub struct Resolved {
    /// `None` where the reading is to be rejected.
    pub series: Vec<Option<SeriesId>>,
    /// The places of those, each with the reason.
    pub over_quota: Vec<(usize, OverQuota)>,
}

/// A refusal that holds for a while: a quota that is raised acts when it is over.
#[derive(Debug, Clone, Copy)]
struct Refused {
    why: OverQuota,
    until: Instant,
}

/// Tenant, device, metric.
type Key<'a> = (TenantId, &'a str, &'a str);
/// A series that is not in memory, with its unit.
type Wanted<'a> = (Key<'a>, Option<&'a str>);

/// What the database has of a series.
struct Found {
    device_known: bool,
    series: Option<SeriesId>,
}

impl Resolver {
    /// Reads and registers through `pool`, of the worker role.
    pub fn new(pool: Pool, ingest: &config::Ingest, metrics: Arc<Metrics>) -> Self {
        let expiry = Duration::from_secs(ingest.tenant_cache_seconds);
        Self {
            pool,
            tenants: Cache::builder().max_capacity(TENANT_CACHE_SIZE).time_to_live(expiry).build(),
            known: SeriesCache::new(ingest.series_cache_size),
            refused: SeriesCache::new(REFUSED_CACHE_SIZE),
            full: HashMap::new(),
            expiry,
            metrics,
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

    /// The series of these readings; new ones are registered in a transaction of their own, as far as the quotas of their
    /// tenants go.
    ///
    /// # Errors
    /// If a series is not in memory and the database is away.
    pub async fn series(
        &mut self,
        readings: &[(TenantId, NamedReading<'_>)],
    ) -> Result<Resolved, DatabaseError> {
        let mut missing = Vec::new();
        let mut resolved = Resolved { series: Vec::with_capacity(readings.len()), over_quota: Vec::new() };
        for (place, (tenant, reading)) in readings.iter().enumerate() {
            let series = self.known.get(*tenant, &reading.device, &reading.metric);
            if series.is_none() {
                missing.push(place);
            }
            resolved.series.push(series);
        }
        self.metrics.series_cache_hits.inc_by((readings.len() - missing.len()) as u64);
        if missing.is_empty() {
            return Ok(resolved);
        }
        self.metrics.series_cache_misses.inc_by(missing.len() as u64);
        let key = |place: usize| {
            let (tenant, reading) = &readings[place];
            (*tenant, &*reading.device, &*reading.metric)
        };
        let now = Instant::now();
        let mut unknown = BTreeMap::new();
        missing.retain(|place| {
            let (tenant, device, metric) = key(*place);
            match self.refused.get(tenant, device, metric) {
                Some(refused) if refused.until > now => {
                    resolved.over_quota.push((*place, refused.why));
                    false
                }
                _ => {
                    let unit = readings[*place].1.unit.as_deref();
                    unknown.entry((tenant, device, metric)).or_insert(unit);
                    true
                }
            }
        });
        if unknown.is_empty() {
            return Ok(resolved);
        }
        let answers = self.look_up(&unknown, now).await?;
        for place in missing {
            match answers.get(&key(place)) {
                Some(Ok(series)) => resolved.series[place] = Some(*series),
                Some(Err(over)) => resolved.over_quota.push((place, *over)),
                None => {
                    let (_, device, metric) = key(place);
                    let problem = format!("series {device}/{metric} was not registered");
                    return Err(DatabaseError::Unreadable(problem));
                }
            }
        }
        Ok(resolved)
    }

    /// Finds or registers what is not in memory, and keeps the answers once they are committed.
    async fn look_up<'a>(
        &mut self,
        unknown: &BTreeMap<Key<'a>, Option<&'a str>>,
        now: Instant,
    ) -> Result<BTreeMap<Key<'a>, Result<SeriesId, OverQuota>>, DatabaseError> {
        // Sorted by the map: two processes that register the same at once wait for each other and do not deadlock.
        let wanted: Vec<Wanted<'_>> = unknown.iter().map(|(key, unit)| (*key, *unit)).collect();
        let mut client = self.pool.get().await?;
        // Looked up first: an insert that finds its row there burns a number of the sequence, and there are 2^31. Looked up
        // also for tenants whose quota is used up: it may be another process that registered it, or this one long ago.
        let rows = find(&**client, &wanted).await?;
        let mut answers = BTreeMap::new();
        let mut unregistered = Vec::new();
        for (wanted, found) in wanted.iter().zip(rows) {
            let (key, _) = wanted;
            match found.series {
                Some(series) => _ = answers.insert(*key, Ok(series)),
                None => match self.full_for(key.0, found.device_known, now) {
                    Some(refused) => {
                        self.refused.insert(key.0, key.1, key.2, refused);
                        answers.insert(*key, Err(refused.why));
                    }
                    None => unregistered.push(*wanted),
                },
            }
        }
        if !unregistered.is_empty() {
            let transaction = client.transaction().await?;
            let registered = register(&transaction, &unregistered).await?;
            transaction.commit().await?;
            for ((key, _), answer) in unregistered.iter().zip(registered) {
                if let Err(why) = answer {
                    let refused = self.remember_full(key.0, why, now);
                    self.refused.insert(key.0, key.1, key.2, refused);
                }
                answers.insert(*key, answer);
            }
        }
        for ((tenant, device, metric), answer) in &answers {
            if let Ok(series) = answer {
                self.known.insert(*tenant, device, metric, *series);
            }
        }
        Ok(answers)
    }

    /// Why the tenant can't have a new series now, as far as is known.
    fn full_for(&self, tenant: TenantId, device_known: bool, now: Instant) -> Option<Refused> {
        let quotas: &[Quota] = if device_known { &[Quota::Series] } else { &[Quota::Series, Quota::Devices] };
        let mut known = quotas.iter().filter_map(|quota| self.full.get(&(tenant, *quota)).copied());
        known.find(|refused| refused.until > now)
    }

    fn remember_full(&mut self, tenant: TenantId, why: OverQuota, now: Instant) -> Refused {
        // Bounded by the number of tenants that exist.
        self.full.retain(|_, refused| refused.until > now);
        let refused = Refused { why, until: now + self.expiry };
        *self.full.entry((tenant, why.quota)).or_insert_with(|| {
            tracing::warn!(
                tenant_id = tenant.0,
                quota = ?why.quota,
                limit = why.limit,
                "a tenant's quota is used up: what is new of it is rejected"
            );
            refused
        })
    }
}

/// What is there of each, in the same order.
async fn find(client: &impl GenericClient, wanted: &[Wanted<'_>]) -> Result<Vec<Found>, DatabaseError> {
    let (tenants, devices, metrics) = columns(wanted);
    let rows = client.query(FIND_SERIES, &[&tenants, &devices, &metrics]).await?;
    if rows.len() != wanted.len() {
        return Err(DatabaseError::Unreadable("a device or series is there twice".to_owned()));
    }
    let found = |row: &tokio_postgres::Row| Found {
        device_known: row.get(1),
        series: row.get::<_, Option<i32>>(2).map(SeriesId),
    };
    Ok(rows.iter().map(found).collect())
}

/// Registers what the quotas have room for. The tenants are locked before anything is counted, and until the end: what two
/// processes register at once is counted by both.
async fn register(
    transaction: &deadpool_postgres::Transaction<'_>,
    unregistered: &[Wanted<'_>],
) -> Result<Vec<Result<SeriesId, OverQuota>>, DatabaseError> {
    let mut tenants: Vec<i32> = unregistered.iter().map(|((tenant, ..), _)| tenant.0).collect();
    tenants.dedup();
    let rows = transaction.query(LOCK_QUOTAS, &[&tenants]).await?;
    let usage = |row: &tokio_postgres::Row| {
        let usage = Usage {
            devices: row.get(1),
            series: row.get(2),
            max_devices: row.get(3),
            max_series: row.get(4),
        };
        (TenantId(row.get(0)), usage)
    };
    let mut usages: BTreeMap<TenantId, Usage> = rows.iter().map(usage).collect();
    // Whoever had the lock may have registered the same.
    let there = find(&**transaction, unregistered).await?;
    let new = || unregistered.iter().zip(&there).filter(|(_, there)| there.series.is_none());
    let newcomers: Vec<Newcomer<'_>> = new()
        .map(|(((tenant, device, _), _), there)| Newcomer {
            tenant: *tenant,
            device,
            device_known: there.device_known,
        })
        .collect();
    let admitted = admit(&newcomers, &mut usages);
    let chosen: Vec<Wanted<'_>> = new()
        .zip(&admitted)
        .filter(|(_, admitted)| admitted.is_ok())
        .map(|((wanted, _), _)| *wanted)
        .collect();
    let mut registered = insert(transaction, &chosen).await?.into_iter();
    let mut admitted = admitted.into_iter();
    let answer = |there: Found| match there.series {
        Some(series) => Ok(Ok(series)),
        None => match admitted.next() {
            Some(Err(over)) => Ok(Err(over)),
            _ => registered.next().and_then(|found| found.series).map(Ok).ok_or_else(|| {
                DatabaseError::Unreadable("a series was registered and can't be found".to_owned())
            }),
        },
    };
    there.into_iter().map(answer).collect()
}

async fn insert(
    transaction: &deadpool_postgres::Transaction<'_>,
    chosen: &[Wanted<'_>],
) -> Result<Vec<Found>, DatabaseError> {
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let (tenants, devices, metrics) = columns(chosen);
    let units: Vec<Option<&str>> = chosen.iter().map(|(_, unit)| *unit).collect();
    transaction.execute(REGISTER_DEVICES, &[&tenants, &devices]).await?;
    transaction.execute(REGISTER_SERIES, &[&tenants, &devices, &metrics, &units]).await?;
    find(&**transaction, chosen).await
}

fn columns<'a>(wanted: &[Wanted<'a>]) -> (Vec<i32>, Vec<&'a str>, Vec<&'a str>) {
    let tenants = wanted.iter().map(|((tenant, ..), _)| tenant.0).collect();
    let devices = wanted.iter().map(|((_, device, _), _)| *device).collect();
    let metrics = wanted.iter().map(|((.., metric), _)| *metric).collect();
    (tenants, devices, metrics)
}

//! What is known of series by their names: a bounded map that is asked once a reading, so a hit allocates nothing, copies
//! no text and takes no lock. One task owns it.
//!
//! Names come from publishers. The hash is seeded at random in each map and shown to nobody, so nobody can choose names
//! that collide.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::model::ids::TenantId;

/// Keeps at most `capacity` entries. When it is full a quarter goes: first what was not asked for since the last time.
#[derive(Debug)]
pub struct SeriesCache<V> {
    entries: HashTable<Entry<V>>,
    seeds: RandomState,
    capacity: usize,
}

#[derive(Debug)]
struct Entry<V> {
    /// Device and metric, one after the other: one allocation.
    names: Box<str>,
    device_length: usize,
    tenant: TenantId,
    value: V,
    used: bool,
}

impl<V> Entry<V> {
    fn is(&self, tenant: TenantId, device: &str, metric: &str) -> bool {
        let names = self.names.as_bytes();
        self.tenant == tenant
            && self.device_length == device.len()
            && names.len() == device.len() + metric.len()
            && names[..device.len()] == *device.as_bytes()
            && names[device.len()..] == *metric.as_bytes()
    }
}

impl<V: Copy> SeriesCache<V> {
    /// An empty one.
    pub fn new(capacity: usize) -> Self {
        Self { entries: HashTable::new(), seeds: RandomState::default(), capacity }
    }

    /// What is kept of this series.
    pub fn get(&mut self, tenant: TenantId, device: &str, metric: &str) -> Option<V> {
        let hash = hash(&self.seeds, tenant, device, metric);
        let entry = self.entries.find_mut(hash, |entry| entry.is(tenant, device, metric))?;
        // Written once, so that a hit only reads.
        if !entry.used {
            entry.used = true;
        }
        Some(entry.value)
    }

    /// Keeps this; what was kept of the same series before is gone.
    pub fn insert(&mut self, tenant: TenantId, device: &str, metric: &str, value: V) {
        let hash = hash(&self.seeds, tenant, device, metric);
        if let Some(entry) = self.entries.find_mut(hash, |entry| entry.is(tenant, device, metric)) {
            entry.value = value;
            return;
        }
        if self.capacity == 0 {
            return;
        }
        if self.entries.len() >= self.capacity {
            self.make_room();
        }
        let names = [device, metric].concat().into_boxed_str();
        let entry = Entry { names, device_length: device.len(), tenant, value, used: false };
        let seeds = &self.seeds;
        self.entries.insert_unique(hash, entry, |entry| {
            let (device, metric) = entry.names.split_at(entry.device_length);
            self::hash(seeds, entry.tenant, device, metric)
        });
    }

    /// Goes through all entries, but only once for each quarter of the capacity that is inserted.
    fn make_room(&mut self) {
        let mut to_go = (self.capacity / 4).max(1);
        self.entries.retain(|entry| {
            let stays = to_go == 0 || std::mem::take(&mut entry.used);
            to_go -= usize::from(!stays);
            stays
        });
        // All were asked for: whichever come first in the order of a random hash.
        self.entries.retain(|_| {
            let stays = to_go == 0;
            to_go -= usize::from(!stays);
            stays
        });
    }
}

fn hash(seeds: &RandomState, tenant: TenantId, device: &str, metric: &str) -> u64 {
    let mut hasher = seeds.build_hasher();
    // The length says where the device ends and the metric begins.
    hasher.write_u64((u64::from(tenant.0.cast_unsigned()) << 32) | device.len() as u64);
    hasher.write(device.as_bytes());
    hasher.write(metric.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(cache: &mut SeriesCache<usize>, numbers: std::ops::Range<usize>) {
        for number in numbers {
            cache.insert(TenantId(1), &format!("device-{number}"), "m", number);
        }
    }

    fn hits(cache: &mut SeriesCache<usize>, numbers: std::ops::Range<usize>) -> usize {
        numbers
            .filter(|number| cache.get(TenantId(1), &format!("device-{number}"), "m") == Some(*number))
            .count()
    }

    #[test]
    fn names_that_only_look_alike_are_different_series() {
        let mut cache = SeriesCache::new(10);
        cache.insert(TenantId(1), "ab", "c", 1);
        cache.insert(TenantId(1), "a", "bc", 2);
        cache.insert(TenantId(2), "ab", "c", 3);
        assert_eq!(cache.get(TenantId(1), "ab", "c"), Some(1));
        assert_eq!(cache.get(TenantId(1), "a", "bc"), Some(2));
        assert_eq!(cache.get(TenantId(2), "ab", "c"), Some(3));
        assert_eq!(cache.get(TenantId(2), "a", "bc"), None);
        cache.insert(TenantId(1), "ab", "c", 4);
        assert_eq!(cache.get(TenantId(1), "ab", "c"), Some(4));
    }

    #[test]
    fn it_holds_its_whole_capacity_and_never_more() {
        let mut cache = SeriesCache::new(1_000);
        fill(&mut cache, 0..1_000);
        assert_eq!(hits(&mut cache, 0..1_000), 1_000);
        fill(&mut cache, 1_000..50_000);
        assert!((750..=1_000).contains(&cache.entries.len()), "{}", cache.entries.len());
        let mut tiny = SeriesCache::new(1);
        fill(&mut tiny, 0..3);
        assert_eq!((tiny.entries.len(), hits(&mut tiny, 2..3)), (1, 1));
        let mut none = SeriesCache::new(0);
        fill(&mut none, 0..3);
        assert_eq!(none.entries.len(), 0);
    }

    #[test]
    fn what_is_asked_for_stays_when_names_that_come_once_flow_past() {
        let mut cache = SeriesCache::new(1_000);
        fill(&mut cache, 0..500);
        for flood in (1_000..20_000).step_by(100) {
            assert_eq!(hits(&mut cache, 0..500), 500, "at {flood}");
            fill(&mut cache, flood..flood + 100);
        }
    }

    #[test]
    fn a_few_more_series_than_it_holds_do_not_empty_it() {
        let mut cache = SeriesCache::new(1_000);
        let mut found = 0;
        for _ in 0..10 {
            for number in 0..1_100 {
                if hits(&mut cache, number..number + 1) == 1 {
                    found += 1;
                } else {
                    fill(&mut cache, number..number + 1);
                }
            }
        }
        assert!(found > 5_000, "{found} of 11,000");
    }
}

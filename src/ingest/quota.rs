//! How many devices and series a tenant may have, and who of those that come new is let in. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::reject::{Reason, Refusal};
use crate::model::ids::TenantId;

/// What there is a quota of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Quota {
    /// `tenants.max_devices`
    Devices,
    /// `tenants.max_series`
    Series,
}

/// Why a new series is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OverQuota {
    /// What is used up.
    pub quota: Quota,
    /// How many the tenant may have.
    pub limit: i32,
}

impl From<OverQuota> for Refusal {
    fn from(over: OverQuota) -> Self {
        let (what, option) = match over.quota {
            Quota::Devices => ("device", "--max-devices"),
            Quota::Series => ("series", "--max-series"),
        };
        let detail = format!(
            "this {what} is new, and the tenant's quota ({}) of them is used up; `watchbell tenants set NAME {option} N` raises it",
            over.limit
        );
        Self::new(Reason::Quota, detail)
    }
}

/// What a tenant has and may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of tenants")]
pub struct Usage {
    pub devices: i32,
    pub series: i32,
    pub max_devices: i32,
    pub max_series: i32,
}

/// A series that is not registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newcomer<'a> {
    /// Whose.
    pub tenant: TenantId,
    /// Of which device.
    pub device: &'a str,
    /// Whether the device is registered.
    pub device_known: bool,
}

/// Lets in what the quotas have room for, in the order that is given; a device is not let in without a series.
pub fn admit(
    newcomers: &[Newcomer<'_>],
    usages: &mut BTreeMap<TenantId, Usage>,
) -> Vec<Result<(), OverQuota>> {
    let mut devices: BTreeSet<(TenantId, &str)> = BTreeSet::new();
    let mut admit_one = |newcomer: &Newcomer<'_>, key| {
        let nothing = Usage { devices: 0, series: 0, max_devices: 0, max_series: 0 };
        let usage = usages.entry(newcomer.tenant).or_insert(nothing);
        if usage.series >= usage.max_series {
            return Err(OverQuota { quota: Quota::Series, limit: usage.max_series });
        }
        if !newcomer.device_known && !devices.contains(&key) {
            if usage.devices >= usage.max_devices {
                return Err(OverQuota { quota: Quota::Devices, limit: usage.max_devices });
            }
            usage.devices += 1;
            devices.insert(key);
        }
        usage.series += 1;
        Ok(())
    };
    newcomers.iter().map(|newcomer| admit_one(newcomer, (newcomer.tenant, newcomer.device))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEVICES: Result<(), OverQuota> = Err(OverQuota { quota: Quota::Devices, limit: 3 });
    const SERIES: Result<(), OverQuota> = Err(OverQuota { quota: Quota::Series, limit: 5 });

    fn admitted(has: (i32, i32), newcomers: &[(&str, bool)]) -> Vec<Result<(), OverQuota>> {
        let usage = Usage { devices: has.0, series: has.1, max_devices: 3, max_series: 5 };
        let tenant = TenantId(1);
        let newcomers: Vec<_> = newcomers
            .iter()
            .map(|(device, device_known)| Newcomer { tenant, device, device_known: *device_known })
            .collect();
        admit(&newcomers, &mut [(tenant, usage)].into())
    }

    #[test]
    fn a_new_device_counts_once_however_many_series_it_brings() {
        assert_eq!(
            admitted((1, 1), &[("a", false), ("a", false), ("b", false), ("c", false)]),
            [Ok(()), Ok(()), Ok(()), DEVICES]
        );
    }

    #[test]
    fn a_known_device_gets_new_series_when_no_device_may_be_added() {
        assert_eq!(admitted((3, 3), &[("a", true), ("new", false), ("a", true)]), [Ok(()), DEVICES, Ok(())]);
    }

    #[test]
    fn no_device_is_added_for_which_there_is_no_series() {
        assert_eq!(admitted((0, 4), &[("a", false), ("b", false)]), [Ok(()), SERIES]);
        // Lowered below what there is.
        assert_eq!(admitted((9, 9), &[("a", false), ("b", true)]), [SERIES, SERIES]);
    }

    #[test]
    fn each_tenant_has_quotas_of_its_own() {
        let usage = Usage { devices: 0, series: 0, max_devices: 1, max_series: 1 };
        let newcomers =
            [1, 1, 2].map(|tenant| Newcomer { tenant: TenantId(tenant), device: "a", device_known: false });
        let mut usages = [(TenantId(1), usage), (TenantId(2), usage)].into();
        let full = Err(OverQuota { quota: Quota::Series, limit: 1 });
        assert_eq!(admit(&newcomers, &mut usages), [Ok(()), full, Ok(())]);
    }
}

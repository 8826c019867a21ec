//! Chains: the notifications of a rule on a series for one destination, which hears of them in their order.
//!
//! Invariants: of two in a chain the later one waits for the earlier one as long as that is owed (`outbox_blocked`); what left the
//! outbox releases what waited for it in the same transaction ([`release`]). Every notification waits for earlier ones only,
//! so nothing ever waits for itself.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use deadpool_postgres::{GenericClient, Transaction};
use uuid::Uuid;

use crate::db::error::DatabaseError;
use crate::model::ids::{AlertId, DestinationId, NotificationId, RuleId, SeriesId, TenantId};
use crate::model::notification::Notification;

const LOCK: &str = include_str!("../../sql/queries/outbox/lock_chains.sql");
const RELEASE: &str = include_str!("../../sql/queries/outbox/release.sql");

/// What a chain is about, and for whom.
pub type Chain = (DestinationId, RuleId, SeriesId);

/// What is owed already in some chains.
#[derive(Debug, Default)]
pub struct Owed {
    /// The end of each chain, if it is still owed.
    last: HashMap<Chain, NotificationId>,
    /// What says to a destination that an alert is open, and was never sent; the latest first.
    unsent: HashMap<(DestinationId, AlertId), Vec<NotificationId>>,
    /// What these wait for themselves.
    waits_for: HashMap<NotificationId, Vec<NotificationId>>,
}

impl Owed {
    /// What says to this destination that this alert is open, and was never sent.
    pub fn unsent(&self, destination: DestinationId, alert: AlertId) -> &[NotificationId] {
        self.unsent.get(&(destination, alert)).map_or(&[], Vec::as_slice)
    }

    /// Whether it is owed, and was never sent.
    pub(super) fn is_unsent(&self, notification: NotificationId) -> bool {
        self.waits_for.contains_key(&notification)
    }
}

/// Looks up and locks, until the end of the transaction, what is owed in these chains; with the alert of each that is to be told
/// as over, if any.
///
/// # Errors
/// If the database is away.
pub async fn lock(
    transaction: &Transaction<'_>,
    wanted: &BTreeSet<(Chain, Option<AlertId>)>,
) -> Result<Owed, DatabaseError> {
    let mut owed = Owed::default();
    if wanted.is_empty() {
        return Ok(owed);
    }
    let destinations: Vec<_> = wanted.iter().map(|((destination, ..), _)| destination.0).collect();
    let rules: Vec<_> = wanted.iter().map(|((_, rule, _), _)| rule.0).collect();
    let series: Vec<_> = wanted.iter().map(|((.., series), _)| series.0).collect();
    let over: Vec<_> = wanted.iter().map(|(_, alert)| alert.map(|alert| alert.0)).collect();
    let statement = transaction.prepare_cached(LOCK).await?;
    for row in transaction.query(&statement, &[&destinations, &rules, &series, &over]).await? {
        let notification = NotificationId(row.try_get("notification_id")?);
        let destination = DestinationId(row.try_get("destination_id")?);
        if let Some(alert) = row.try_get::<_, Option<Uuid>>("alert_id")? {
            let waits_for = row.try_get::<_, Vec<Uuid>>("waits_for")?;
            owed.waits_for.insert(notification, waits_for.into_iter().map(NotificationId).collect());
            owed.unsent.entry((destination, AlertId(alert))).or_default().push(notification);
        } else {
            let chain = (destination, RuleId(row.try_get("rule_id")?), SeriesId(row.try_get("series_id")?));
            owed.last.insert(chain, notification);
        }
    }
    Ok(owed)
}

/// What some notifications make of their chains.
#[derive(Debug, Default, PartialEq)]
pub struct Links {
    /// What waits, for what.
    pub waits: BTreeSet<(NotificationId, NotificationId)>,
    /// The ends of their chains, and whose they are.
    pub ends: BTreeMap<Chain, (TenantId, NotificationId)>,
}

impl Links {
    /// Whether this one waits for another.
    pub fn waits(&self, notification: NotificationId) -> bool {
        let first = (notification, NotificationId(Uuid::nil()));
        self.waits.range(first..).next().is_some_and(|(one, _)| *one == notification)
    }

    /// Links notifications, in the order in which they are to be heard, to what is owed already and to each other. Pure.
    pub fn of(notifications: &[Notification], owed: &Owed) -> Self {
        let superseded: HashSet<NotificationId> =
            notifications.iter().flat_map(|one| one.supersedes.iter().copied()).collect();
        let mut links = Self::default();
        for one in notifications.iter().filter(|one| one.superseded_by.is_none()) {
            for (rule, series) in &one.chains {
                let chain = (one.destination, *rule, *series);
                let before = links.ends.insert(chain, (one.tenant, one.id));
                let before = before.map(|(_, before)| before).or_else(|| owed.last.get(&chain).copied());
                links.waits.extend(before.map(|before| (one.id, before)));
            }
            // It stands where they stood.
            let inherited = one.supersedes.iter().filter_map(|gone| owed.waits_for.get(gone)).flatten();
            links.waits.extend(inherited.map(|before| (one.id, *before)));
        }
        links.waits.retain(|(one, before)| one != before && !superseded.contains(before));
        links
    }
}

/// Releases what waited for these, which left the outbox before in this transaction. A statement of its own, with a snapshot of
/// its own: it sees what somebody made wait while ours waited for a lock. Returns how many are due for that.
///
/// # Errors
/// If the database is away.
pub async fn release(client: &impl GenericClient, gone: &[Uuid]) -> Result<i64, DatabaseError> {
    if gone.is_empty() {
        return Ok(0);
    }
    let statement = client.prepare_cached(RELEASE).await?;
    let released: Option<i64> = client.query_one(&statement, &[&gone]).await?.try_get(0)?;
    Ok(released.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::alert::Happening;

    fn notification(chains: &[i32]) -> Notification {
        Notification {
            id: NotificationId::new(),
            tenant: TenantId(1),
            about: Vec::new(),
            chains: chains.iter().map(|series| (RuleId(Uuid::nil()), SeriesId(*series))).collect(),
            destination: DestinationId(Uuid::nil()),
            event: Happening::Opened,
            lane_class: 0,
            body: String::new(),
            superseded_by: None,
            supersedes: Vec::new(),
        }
    }

    fn chain(series: i32) -> Chain {
        (DestinationId(Uuid::nil()), RuleId(Uuid::nil()), SeriesId(series))
    }

    fn waits(links: &Links) -> Vec<(NotificationId, NotificationId)> {
        links.waits.iter().copied().collect()
    }

    #[test]
    fn each_waits_for_the_one_before_it_in_each_of_its_chains() {
        let (first, group, last) = (notification(&[1]), notification(&[1, 2]), notification(&[2]));
        let owed = Owed { last: [(chain(2), NotificationId::new())].into(), ..Owed::default() };
        let links = Links::of(&[first.clone(), group.clone(), last.clone()], &owed);
        let mut expected = vec![(group.id, first.id), (group.id, owed.last[&chain(2)]), (last.id, group.id)];
        expected.sort_unstable();
        assert_eq!(waits(&links), expected);
        assert_eq!(links.ends[&chain(1)].1, group.id);
        assert_eq!(links.ends[&chain(2)].1, last.id);
    }

    #[test]
    fn what_stands_for_others_waits_for_what_they_waited_for_and_they_wait_for_nothing() {
        let (sent, unsent) = (NotificationId::new(), NotificationId::new());
        let mut owed = Owed { last: [(chain(1), unsent)].into(), ..Owed::default() };
        owed.waits_for.insert(unsent, vec![sent]);
        let (mut over, mut both) = (notification(&[1]), notification(&[1]));
        over.superseded_by = Some(both.id);
        both.supersedes = vec![unsent, over.id];
        let links = Links::of(&[over, both.clone()], &owed);
        assert_eq!(waits(&links), [(both.id, sent)]);
        assert_eq!(links.ends[&chain(1)].1, both.id);
    }
}

//! Telling: from who is to be told of what to the notifications that are owed. Pure, but for the ids it draws.
//!
//! What one alert went through in one settlement is told once; more than a few alerts of one rule for one destination
//! become one notice that lists them. What is over before anybody was sent a word of it is told by one notice that tells both; the
//! others are kept, and are not sent.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::effects::Tell;
use super::memory::{Series, Setup};
use crate::config::PublicUrl;
use crate::model::alert::{Alert, Happening, Life};
use crate::model::destination::Destination;
use crate::model::ids::{AlertId, DestinationId, NotificationId, RuleId, SeriesId};
use crate::model::notification::Notification;
use crate::model::selector::Tags;
use crate::notice::render::{render, render_group};
use crate::notice::told::{GroupNotice, Notice, RuleFacts};
use crate::outbox::chain::{Chain, Owed};

/// An alert with what people want to know of its rule, as it was when it fired.
#[derive(Debug, Clone)]
pub struct Told {
    /// The alert.
    pub alert: Alert,
    /// The rule's name.
    pub rule_name: String,
    /// Its labels.
    pub labels: Tags,
    /// Where it is written what to do.
    pub runbook_url: Option<String>,
}

/// What is known of what is told.
#[derive(Debug)]
pub struct Facts<'a> {
    /// Every alert that is told of.
    pub alerts: &'a HashMap<AlertId, Told>,
    /// How they stand.
    pub lives: &'a HashMap<AlertId, Life>,
    /// What they are about.
    pub series: &'a HashMap<SeriesId, Series>,
    /// Who can be told.
    pub setup: &'a Setup,
    /// Where people reach us.
    pub public_url: &'a PublicUrl,
    /// More alerts than this become one notice.
    pub group_above: usize,
}

/// What becomes one notice, if there is much of it: of a rule for one destination, what happened.
type Lane = (DestinationId, RuleId, &'static str);

/// The chains that these are told in, each with the alert that is told as over in it, if any.
pub fn chains(tells: &[Tell], alerts: &HashMap<AlertId, Told>) -> BTreeSet<(Chain, Option<AlertId>)> {
    let mut chains = BTreeSet::new();
    for tell in tells {
        let Some(told) = alerts.get(&tell.alert) else { continue };
        let over = (tell.event == Happening::Resolved).then_some(tell.alert);
        let of_each =
            tell.destinations.iter().map(|destination| (*destination, told.alert.rule, tell.series));
        chains.extend(of_each.map(|chain| (chain, over)));
    }
    chains
}

/// The notifications, in the order in which they are to be heard, and which alerts only notices that tell of many told as opened.
/// `owed` is what their chains hold.
pub fn notifications(
    tells: &[Tell],
    facts: &Facts<'_>,
    owed: &Owed,
) -> (Vec<Notification>, HashSet<(AlertId, i32)>) {
    let mut by_lane: BTreeMap<Lane, Vec<(usize, &Tell)>> = BTreeMap::new();
    for (place, tell) in once_each(tells).into_iter().enumerate() {
        let Some(told) = facts.alerts.get(&tell.alert) else { continue };
        for destination in &tell.destinations {
            let lane = by_lane.entry((*destination, told.alert.rule, tell.event.as_str()));
            lane.or_default().push((place, tell));
        }
    }
    let (mut words, mut grouped, mut single) = (Vec::new(), HashSet::new(), HashSet::new());
    for ((destination, ..), tells) in by_lane {
        let Some(destination) = facts.setup.destinations.get(&destination) else { continue };
        // That it is over is no word of the episode that fired.
        let opening = tells.iter().filter(|(_, tell)| tell.event != Happening::Resolved);
        let keys = opening.map(|(_, tell)| (tell.alert, tell.episode));
        if tells.len() > facts.group_above {
            grouped.extend(keys);
            // Heard where the first of them is: what came after that waits for it.
            let place = tells.first().map_or(0, |(place, _)| *place);
            let tells = tells.into_iter().map(|(_, tell)| tell).collect();
            words.push((place, destination, Words::OfMany(tells)));
        } else {
            single.extend(keys);
            words.extend(tells.into_iter().map(|(place, tell)| (place, destination, Words::Of(tell))));
        }
    }
    grouped.retain(|key| !single.contains(key));
    words.sort_by_key(|(place, ..)| *place);
    let words: Vec<_> = words.into_iter().map(|(_, destination, words)| (destination, words)).collect();
    (in_order(&words, facts, owed), grouped)
}

/// What one destination is to hear at once.
#[derive(Debug)]
enum Words<'a> {
    Of(&'a Tell),
    OfMany(Vec<&'a Tell>),
}

/// A notification each, its id later than those before it; but one that tells both of an alert that is over by the time that
/// anybody could be told that it opened.
fn in_order(words: &[(&Destination, Words<'_>)], facts: &Facts<'_>, owed: &Owed) -> Vec<Notification> {
    let is_end = |tell: &Tell| tell.event == Happening::Resolved;
    let (mut opened, mut over) = (HashMap::new(), HashSet::new());
    for (destination, words) in words {
        let Words::Of(tell) = words else { continue };
        let key = (destination.id, tell.alert);
        if is_end(tell) {
            over.insert(key);
        } else {
            opened.insert(key, *tell);
        }
    }
    let mut notifications = Vec::new();
    for (destination, words) in words {
        let tell = match words {
            Words::Of(tell) => tell,
            Words::OfMany(tells) => {
                notifications.extend(group(destination, tells, facts));
                continue;
            }
        };
        let key = (destination.id, tell.alert);
        let (opening, unsent) = (opened.get(&key).copied(), owed.unsent(destination.id, tell.alert));
        if is_end(tell) && (opening.is_some() || !unsent.is_empty()) {
            notifications.extend(both_at_once(destination, opening, tell, unsent, facts));
        } else if is_end(tell) || !over.contains(&key) {
            notifications.extend(one(destination, tell, &[], facts));
        }
    }
    notifications
}

/// That it opened and that it is over, neither of which is sent, and the one that tells both.
fn both_at_once(
    destination: &Destination,
    opening: Option<&Tell>,
    end: &Tell,
    unsent: &[NotificationId],
    facts: &Facts<'_>,
) -> Vec<Notification> {
    let words = opening.into_iter().chain([end]);
    let mut notifications: Vec<_> = words.filter_map(|tell| one(destination, tell, &[], facts)).collect();
    let mut supersedes = unsent.to_vec();
    supersedes.extend(notifications.iter().map(|notification| notification.id));
    let Some(both) = one(destination, end, &supersedes, facts) else { return notifications };
    for notification in &mut notifications {
        notification.superseded_by = Some(both.id);
    }
    notifications.push(both);
    notifications
}

/// Of what happened to an alert at once, the least that tells all: that it opened, and that it is over, if that is the last
/// word; what happened in between shows in how it stands.
fn once_each(tells: &[Tell]) -> Vec<&Tell> {
    let mut by_alert: HashMap<AlertId, Vec<&Tell>> = HashMap::new();
    let mut order = Vec::new();
    for tell in tells {
        let of_alert = by_alert.entry(tell.alert).or_default();
        if of_alert.is_empty() {
            order.push(tell.alert);
        }
        of_alert.push(tell);
    }
    let mut kept = Vec::new();
    for alert in order {
        let Some(of_alert) = by_alert.remove(&alert) else { continue };
        let opens = |tell: &&&Tell| matches!(tell.event, Happening::Opened | Happening::Reopened);
        let opened = of_alert.iter().find(opens).copied();
        // Over in between, it burns again.
        let resolved = of_alert.last().filter(|tell| tell.event == Happening::Resolved).copied();
        let worst = of_alert.iter().find(|tell| tell.event == Happening::Escalated).copied();
        let goes_on = worst.or_else(|| of_alert.last().copied());
        match (opened, resolved) {
            (None, None) => kept.extend(goes_on),
            (opened, resolved) => kept.extend(opened.into_iter().chain(resolved)),
        }
    }
    kept
}

fn notice<'a>(
    id: NotificationId,
    tell: &'a Tell,
    supersedes: &'a [NotificationId],
    facts: &'a Facts<'_>,
) -> Option<Notice<'a>> {
    let told = facts.alerts.get(&tell.alert)?;
    let series = facts.series.get(&tell.series)?;
    let rule =
        RuleFacts { name: &told.rule_name, labels: &told.labels, runbook_url: told.runbook_url.as_deref() };
    Some(Notice {
        id,
        event: tell.event,
        alert: &told.alert,
        life: tell.over.as_deref().or_else(|| facts.lives.get(&tell.alert))?,
        rule,
        device: &series.device,
        metric: &series.metric,
        unit: series.unit.as_deref(),
        link: facts.public_url.alert(tell.alert),
        by: None,
        supersedes,
    })
}

fn one(
    destination: &Destination,
    tell: &Tell,
    supersedes: &[NotificationId],
    facts: &Facts<'_>,
) -> Option<Notification> {
    let id = NotificationId::new();
    let notice = notice(id, tell, supersedes, facts)?;
    Some(Notification {
        id,
        tenant: destination.tenant,
        about: vec![(tell.alert, tell.episode)],
        chains: vec![(notice.alert.rule, tell.series)],
        destination: destination.id,
        event: tell.event,
        lane_class: notice.life.severity.lane_class(),
        body: render(&destination.kind, &notice),
        superseded_by: None,
        supersedes: supersedes.to_vec(),
    })
}

fn group(destination: &Destination, tells: &[&Tell], facts: &Facts<'_>) -> Option<Notification> {
    let id = NotificationId::new();
    let notices: Vec<_> = tells.iter().filter_map(|tell| notice(id, tell, &[], facts)).collect();
    let worst = notices.iter().map(|notice| notice.life.severity).min()?;
    Some(Notification {
        id,
        tenant: destination.tenant,
        about: tells.iter().map(|tell| (tell.alert, tell.episode)).collect(),
        chains: tells
            .iter()
            .filter_map(|tell| Some((facts.alerts.get(&tell.alert)?.alert.rule, tell.series)))
            .collect(),
        destination: destination.id,
        event: tells.first()?.event,
        lane_class: worst.lane_class(),
        body: render_group(&destination.kind, &GroupNotice { id, notices: &notices }),
        superseded_by: None,
        supersedes: Vec::new(),
    })
}

//! Telling: from who is to be told of what to the notifications that are owed. Pure, but for the ids it draws.
//!
//! What one alert went through in one settlement is told once; more than a few alerts of one rule for one destination
//! become one notice that lists them.

use std::collections::{BTreeMap, HashMap, HashSet};

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

/// The notifications, and which alerts only notices that tell of many told as opened.
pub fn notifications(tells: &[Tell], facts: &Facts<'_>) -> (Vec<Notification>, HashSet<(AlertId, i32)>) {
    let mut by_lane: BTreeMap<(DestinationId, RuleId, &'static str), Vec<&Tell>> = BTreeMap::new();
    for tell in once_each(tells) {
        let Some(told) = facts.alerts.get(&tell.alert) else { continue };
        for destination in &tell.destinations {
            let lane = by_lane.entry((*destination, told.alert.rule, tell.event.as_str()));
            lane.or_default().push(tell);
        }
    }
    let (mut notifications, mut grouped, mut alone) = (Vec::new(), HashSet::new(), HashSet::new());
    for ((destination, ..), tells) in by_lane {
        let Some(destination) = facts.setup.destinations.get(&destination) else { continue };
        // That it is over is no word of the episode that fired.
        let opening = tells.iter().filter(|tell| tell.event != Happening::Resolved);
        let keys = opening.map(|tell| (tell.alert, tell.episode));
        if tells.len() > facts.group_above {
            grouped.extend(keys);
            notifications.extend(group(destination, &tells, facts));
        } else {
            alone.extend(keys);
            notifications.extend(tells.iter().filter_map(|tell| one(destination, tell, facts)));
        }
    }
    grouped.retain(|key| !alone.contains(key));
    (notifications, grouped)
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

fn notice<'a>(id: NotificationId, tell: &'a Tell, facts: &'a Facts<'_>) -> Option<Notice<'a>> {
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
    })
}

fn one(destination: &Destination, tell: &Tell, facts: &Facts<'_>) -> Option<Notification> {
    let id = NotificationId::new();
    let notice = notice(id, tell, facts)?;
    Some(Notification {
        id,
        tenant: destination.tenant,
        about: vec![(tell.alert, tell.episode)],
        destination: destination.id,
        event: tell.event,
        lane_class: notice.life.severity.lane_class(),
        body: render(&destination.kind, &notice),
    })
}

fn group(destination: &Destination, tells: &[&Tell], facts: &Facts<'_>) -> Option<Notification> {
    let id = NotificationId::new();
    let notices: Vec<_> = tells.iter().filter_map(|tell| notice(id, tell, facts)).collect();
    let worst = notices.iter().map(|notice| notice.life.severity).min()?;
    Some(Notification {
        id,
        tenant: destination.tenant,
        about: tells.iter().map(|tell| (tell.alert, tell.episode)).collect(),
        destination: destination.id,
        event: tells.first()?.event,
        lane_class: worst.lane_class(),
        body: render_group(&destination.kind, &GroupNotice { id, notices: &notices }),
    })
}

//! What there is to tell, before anybody's taste is asked.

use crate::model::alert::{Alert, Happening, Life};
use crate::model::ids::NotificationId;
use crate::model::selector::Tags;

/// What happened, with the names that people know things by.
#[derive(Debug, Clone)]
pub struct Notice<'a> {
    /// The id of the notification: receivers drop repeats by it.
    pub id: NotificationId,
    /// What happened.
    pub event: Happening,
    /// To what.
    pub alert: &'a Alert,
    /// How it stands.
    pub life: &'a Life,
    /// The rule that fired.
    pub rule: RuleFacts<'a>,
    /// The device's external id.
    pub device: &'a str,
    /// What is measured.
    pub metric: &'a str,
    /// In what.
    pub unit: Option<&'a str>,
    /// Where the alert can be looked at, if anybody said where people reach us.
    pub link: Option<String>,
    /// Who did it, if a person did.
    pub by: Option<&'a str>,
    /// Notifications that are not sent because this one tells what they tell: that it opened, and that it is over.
    pub supersedes: &'a [NotificationId],
}

/// What people want to know of the rule.
#[derive(Debug, Clone, Copy)]
pub struct RuleFacts<'a> {
    /// Its name when it fired.
    pub name: &'a str,
    /// Said with every alert.
    pub labels: &'a Tags,
    /// Where it is written what to do.
    pub runbook_url: Option<&'a str>,
}

/// The same that happened to many alerts of a rule at once.
#[derive(Debug, Clone, Copy)]
pub struct GroupNotice<'a> {
    /// The id of the notification.
    pub id: NotificationId,
    /// Each alert; never empty.
    pub notices: &'a [Notice<'a>],
}

impl<'a> GroupNotice<'a> {
    /// The first, which says what all have in common: event, rule, metric.
    pub fn first(&self) -> Option<&'a Notice<'a>> {
        self.notices.first()
    }
}

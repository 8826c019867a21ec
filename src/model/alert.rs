//! An alert: something is wrong with a series, because a rule fired on it. What decided it never changes; its life does.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evidence::Evidence;
use super::ids::{AlertId, DestinationId, RuleId, SeriesId, SilenceId, TenantId};
use super::reading::UnixMicros;
use super::rule::Severity;
use super::selector::Tags;

/// The reading that broke a rule last, and what decided that.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// On the sensor's clock.
    pub ts: UnixMicros,
    /// In the unit of the series.
    pub value: f64,
    /// Why it is a breach.
    pub evidence: Evidence,
}

/// An alert as detection opens it.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Which.
    pub id: AlertId,
    /// Whose.
    pub tenant: TenantId,
    /// The rule that fired.
    pub rule: RuleId,
    /// The rule as it was.
    pub rule_version: i32,
    /// What it is about.
    pub series: SeriesId,
    /// When the breach began, on the sensor's clock.
    pub breached_at: UnixMicros,
    /// When the rule fired: `breached_at`, and what the rule waits for.
    pub fired_at: UnixMicros,
    /// What decided it.
    pub decision: Decision,
    /// The device's tags at that time.
    pub tags: Tags,
    /// The last readings up to the one that decided it, the oldest first; filled in when it is settled.
    pub points: Vec<(Timestamp, f64)>,
    /// It came out of order, or was judged more than a minute after it fired.
    pub late: bool,
}

/// The state of an alert.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// Nobody has taken it on.
    Open,
    /// Somebody has.
    Acknowledged,
    /// It is over.
    Resolved,
}

impl AlertState {
    /// As it stands in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Acknowledged => "acknowledged",
            Self::Resolved => "resolved",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Open, Self::Acknowledged, Self::Resolved].into_iter().find(|state| state.as_str() == text)
    }
}

/// What people were told of an alert last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Told {
    /// Not a word.
    Nothing,
    /// That it is open.
    Open,
    /// That it is over.
    Resolved,
}

impl Told {
    /// As it stands in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Open => "open",
            Self::Resolved => "resolved",
        }
    }

    /// Reads what [`Self::as_str`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Nothing, Self::Open, Self::Resolved].into_iter().find(|told| told.as_str() == text)
    }
}

/// What changes of an alert while it lives.
#[derive(Debug, Clone, PartialEq)]
pub struct Life {
    /// Which.
    pub alert: AlertId,
    /// Open, acknowledged or resolved.
    pub state: AlertState,
    /// How bad it is; only rises.
    pub severity: Severity,
    /// How often its rule has fired on it.
    pub episodes: i32,
    /// When the breach began, on the sensor's clock.
    pub breached_at: UnixMicros,
    /// When it was over, on the sensor's clock.
    pub ended_at: Option<UnixMicros>,
    /// The breach is old and not known to burn still: nobody is told.
    pub historical: bool,
    /// The silence that keeps its last episode from being told.
    pub silence: Option<SilenceId>,
    /// What people were told last.
    pub told: Told,
    /// When, on this service's clock.
    pub told_at: Option<Timestamp>,
    /// Who was told that it is open.
    pub told_destinations: Vec<DestinationId>,
}

/// What happened to an alert: a line of its timeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Happening {
    /// Its rule fired.
    Opened,
    /// Its rule fired on it again, or it turned out to burn although somebody had resolved it.
    Reopened,
    /// It still burned when its cooldown was over, or when its silence ended, or although it was taken for old.
    StillBurning,
    /// Its severity rose.
    Escalated,
    /// Nobody acknowledged it for a while.
    Reminded,
    /// It is over.
    Resolved,
}

impl Happening {
    /// As it stands in SQL and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Reopened => "reopened",
            Self::StillBurning => "still_burning",
            Self::Escalated => "escalated",
            Self::Reminded => "reminded",
            Self::Resolved => "resolved",
        }
    }
}

/// What became of an episode that fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// A notice of its own told it.
    Notified,
    /// A notice that tells many told it.
    Grouped,
    /// A silence kept it.
    Silenced,
    /// It fired within the cooldown of the episode before: the alert was opened again, and nobody told.
    CooledDown,
    /// It was old, and over, when it was judged.
    Historical,
    /// Its rule names no destination.
    Unrouted,
}

impl Disposition {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Notified, Self::Grouped, Self::Silenced, Self::CooledDown, Self::Historical, Self::Unrouted];

    /// As it stands in SQL, JSON and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notified => "notified",
            Self::Grouped => "grouped",
            Self::Silenced => "silenced",
            Self::CooledDown => "cooled_down",
            Self::Historical => "historical",
            Self::Unrouted => "unrouted",
        }
    }
}

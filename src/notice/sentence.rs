//! One sentence that a person can read at three in the morning.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::fmt::strtime;

use super::told::{GroupNotice, Notice};
use crate::model::alert::{Alert, Happening};
use crate::model::evidence::Evidence;

/// What is wrong, such as `temperature of pump-1 is 91.25 °C, above 80 °C, since 03:12:05 UTC (rule hot)`.
pub fn sentence(alert: &Alert, device: &str, metric: &str, unit: Option<&str>, rule: &str) -> String {
    let unit = unit.map(|unit| format!(" {unit}")).unwrap_or_default();
    let value = number(alert.decision.value);
    let what = match &alert.decision.evidence {
        Evidence::AboveThreshold { threshold } => {
            format!("is {value}{unit}, above {}{unit}", number(*threshold))
        }
        Evidence::BelowThreshold { threshold } => {
            format!("is {value}{unit}, below {}{unit}", number(*threshold))
        }
        Evidence::OutsideRange { lowest, highest, above } => {
            let side = if *above { "above" } else { "below" };
            format!("is {value}{unit}, {side} the range {} to {}{unit}", number(*lowest), number(*highest))
        }
        Evidence::DeviationFromMean { mean, z, n, .. } => {
            let side = if *z < 0.0 { "below" } else { "above" };
            let z = z.abs();
            format!(
                "is {value}{unit}, {z:.1} standard deviations {side} {}{unit}, the mean of {n} minutes before",
                number(*mean)
            )
        }
        Evidence::RateOfChange { rate, limit, per_seconds, previous_value, previous_seconds } => {
            let way = if *rate < 0.0 { "fell" } else { "rose" };
            format!(
                "{way} from {}{unit} to {value}{unit} in {}, faster than {}{unit} in {}",
                number(*previous_value),
                duration(*previous_seconds),
                number(*limit),
                duration(f64::from(*per_seconds))
            )
        }
        Evidence::Stuck { window_minutes, tolerance, .. } => {
            let within = if *tolerance > 0.0 {
                format!(" by more than {}{unit}", number(*tolerance))
            } else {
                String::new()
            };
            format!("has not changed{within} for {window_minutes} minutes: it is {value}{unit}")
        }
        Evidence::NoData { interval_seconds } => {
            format!(
                "is silent for more than {}: the last reading was {value}{unit} at {}",
                duration(f64::from(*interval_seconds)),
                clock(alert.decision.ts.to_timestamp())
            )
        }
    };
    format!("{metric} of {device} {what}, since {} (rule {rule})", clock(alert.breached_at.to_timestamp()))
}

/// What happened, and what is or was wrong.
pub fn summary(notice: &Notice<'_>) -> String {
    let what = sentence(notice.alert, notice.device, notice.metric, notice.unit, notice.rule.name);
    let mut text = match notice.event {
        Happening::Opened => what,
        Happening::Reopened => format!("Again: {what}"),
        Happening::StillBurning => format!("Still: {what}"),
        Happening::Escalated => format!("Now {}: {what}", notice.life.severity.as_str()),
        Happening::Reminded => format!("Nobody has acknowledged it yet: {what}"),
        // Nobody has heard of it before.
        Happening::Resolved if !notice.supersedes.is_empty() => format!("Came, and is over: {what}"),
        Happening::Resolved => format!("Over: {what}"),
    };
    match (notice.by, notice.life.ended_at) {
        (Some(who), _) => {
            let _ = write!(text, "; resolved by {who}");
        }
        (None, Some(ended_at)) => {
            let _ = write!(text, "; clear since {}", clock(ended_at.to_timestamp()));
        }
        (None, None) => {}
    }
    text
}

/// What happened to how many, such as `12 alerts opened: hot (temperature)`.
pub fn group_summary(group: &GroupNotice<'_>) -> String {
    let Some(first) = group.first() else { return String::new() };
    let what = match first.event {
        Happening::Opened => "opened",
        Happening::Reopened => "opened again",
        Happening::StillBurning => "still burn",
        Happening::Escalated => "got worse",
        Happening::Reminded => "are not acknowledged",
        Happening::Resolved => "are over",
    };
    format!("{} alerts {what}: {} ({})", group.notices.len(), first.rule.name, first.metric)
}

/// Six digits that count, and no more zeros than needed.
fn number(value: f64) -> String {
    let magnitude = value.abs();
    if value != 0.0 && !(1e-4..1e9).contains(&magnitude) {
        return format!("{value:.5e}");
    }
    let whole_digits = if magnitude < 1.0 { 1 } else { magnitude.log10() as usize + 1 };
    let text = format!("{value:.*}", 6_usize.saturating_sub(whole_digits));
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn duration(seconds: f64) -> String {
    match seconds {
        s if s >= 7200.0 => format!("{} h", number(s / 3600.0)),
        s if s >= 120.0 => format!("{} min", number(s / 60.0)),
        s => format!("{} s", number(s)),
    }
}

fn clock(at: Timestamp) -> String {
    strtime::format("%Y-%m-%d %H:%M:%S UTC", &at.to_zoned(jiff::tz::TimeZone::UTC))
        .unwrap_or_else(|_| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_a_person_reads() {
        for (value, expected) in [
            (91.25, "91.25"),
            (80.0, "80"),
            (0.0, "0"),
            (-0.1, "-0.1"),
            (1_234.567_89, "1234.57"),
            (0.1 + 0.2, "0.3"),
            (1e-9, "1.00000e-9"),
            (123_456_789.0, "123456789"),
            (1e12, "1.00000e12"),
        ] {
            assert_eq!(number(value), expected);
        }
    }

    #[test]
    fn times_are_as_long_as_a_person_says() {
        for (seconds, expected) in [(1.0, "1 s"), (90.0, "90 s"), (300.0, "5 min"), (86_400.0, "24 h")] {
            assert_eq!(duration(seconds), expected);
        }
    }
}

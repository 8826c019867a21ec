//! One sentence that a person can read at three in the morning.

use super::told::Notice;
use crate::model::alert::Evidence;

/// Such as `temperature of pump-1 is 91.25 °C, above 80 °C`.
pub fn sentence(notice: &Notice<'_>) -> String {
    let unit = notice.unit.map(|unit| format!(" {unit}")).unwrap_or_default();
    let verdict = match &notice.alert.evidence {
        Evidence::AboveThreshold { threshold } => format!("above {threshold}{unit}"),
        Evidence::BelowThreshold { threshold } => format!("below {threshold}{unit}"),
        Evidence::DeviationFromMean { mean, z, n, .. } => {
            let side = if *z < 0.0 { "below" } else { "above" };
            format!(
                "{:.1} standard deviations {side} {mean:.4}{unit}, the mean of {n} minutes before",
                z.abs()
            )
        }
    };
    format!("{} of {} is {}{unit}, {verdict}", notice.metric, notice.device, notice.alert.value)
}

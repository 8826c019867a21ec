//! Whether a value breaks a condition, and what decided it. Pure.

use crate::model::alert::Evidence;
use crate::model::rule::Condition;

/// What decided it, if the value is a breach. A threshold itself is no breach.
pub fn breach(condition: &Condition, value: f64) -> Option<Evidence> {
    match *condition {
        Condition::AboveThreshold { threshold } => {
            (value > threshold).then_some(Evidence::AboveThreshold { threshold })
        }
        Condition::BelowThreshold { threshold } => {
            (value < threshold).then_some(Evidence::BelowThreshold { threshold })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_values_beyond_the_threshold_are_breaches() {
        let above = Condition::AboveThreshold { threshold: 80.0 };
        let below = Condition::BelowThreshold { threshold: -5.0 };
        for (condition, value, expected) in [
            (&above, 80.000001, true),
            (&above, 80.0, false),
            (&above, -1e9, false),
            (&below, -5.000001, true),
            (&below, -5.0, false),
            (&below, 0.0, false),
        ] {
            assert_eq!(breach(condition, value).is_some(), expected, "{value} {condition:?}");
        }
    }
}

//! A small line of the last readings, drawn as SVG inside the page, with the limits that they were held against.
//!
//! Pure. Looks come from the style sheet: the page may run no script and carry no style of its own.

use jiff::Timestamp;
use maud::{Markup, html};

use super::layout::number;
use crate::model::evidence::Evidence;

/// Of the drawing, in its own units.
const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 160.0;
/// Room for the last point's dot and for the numbers of the limits.
const MARGIN: f64 = 14.0;

/// The values that a reading was held against, if it was.
pub fn limits(evidence: &Evidence) -> Vec<f64> {
    match evidence {
        Evidence::AboveThreshold { threshold } | Evidence::BelowThreshold { threshold } => vec![*threshold],
        Evidence::OutsideRange { lowest, highest, .. } => vec![*lowest, *highest],
        Evidence::DeviationFromMean { mean, sigma, k, .. } => vec![mean - k * sigma, mean + k * sigma],
        Evidence::RateOfChange { .. } | Evidence::Stuck { .. } | Evidence::NoData { .. } => Vec::new(),
    }
}

/// Draws the points, the oldest first; nothing if there are fewer than two.
pub fn line(points: &[(Timestamp, f64)], limits: &[f64]) -> Option<Markup> {
    let ((first, _), (last, value)) = (points.first()?, points.last().filter(|_| points.len() > 1)?);
    let values = || points.iter().map(|(_, value)| *value);
    let shown = || values().chain(limits.iter().copied());
    let lowest = shown().fold(f64::INFINITY, f64::min);
    let highest = shown().fold(f64::NEG_INFINITY, f64::max);
    // Halves first: the distance of two numbers may be more than any number.
    let y = |value: f64| match highest / 2.0 - lowest / 2.0 {
        0.0 => HEIGHT / 2.0,
        half => HEIGHT - MARGIN - (value / 2.0 - lowest / 2.0) / half * (HEIGHT - 2.0 * MARGIN),
    };
    let span = last.duration_since(*first).as_secs_f64();
    let x = |at: Timestamp| {
        let share = if span > 0.0 { at.duration_since(*first).as_secs_f64() / span } else { 0.5 };
        MARGIN + share * (WIDTH - 2.0 * MARGIN)
    };
    let path: Vec<_> = points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value))).collect();
    let said = format!(
        "the last {} readings, from {} to {}; the last one is {}",
        points.len(),
        number(values().fold(f64::INFINITY, f64::min)),
        number(values().fold(f64::NEG_INFINITY, f64::max)),
        number(*value)
    );
    Some(html! {
        svg.chart viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) height=(HEIGHT) role="img" aria-label=(said) {
            @for limit in limits {
                line.limit x1="0" x2=(WIDTH) y1=(format!("{:.1}", y(*limit))) y2=(format!("{:.1}", y(*limit))) {}
                text.limit x="2" y=(format!("{:.1}", y(*limit) - 3.0)) { (number(*limit)) }
            }
            polyline.values points=(path.join(" ")) {}
            circle.last cx=(format!("{:.1}", x(*last))) cy=(format!("{:.1}", y(*value))) r="4" {}
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(values: &[f64]) -> Vec<(Timestamp, f64)> {
        let at = |second: usize| Timestamp::from_second(1_790_000_000 + second as i64).unwrap();
        values.iter().enumerate().map(|(second, value)| (at(second), *value)).collect()
    }

    #[test]
    fn the_line_goes_up_when_the_values_do_and_the_limit_lies_between() {
        let drawn = line(&points(&[20.0, 40.0, 100.0]), &[80.0]).unwrap().into_string();
        assert!(drawn.contains("points=\"14.0,146.0 320.0,113.0 626.0,14.0\""), "{drawn}");
        assert!(drawn.contains("y1=\"47.0\"") && drawn.contains(">80</text>"), "{drawn}");
        assert!(drawn.contains("from 20 to 100; the last one is 100"), "{drawn}");
    }

    #[test]
    fn whatever_the_values_are_every_number_of_the_drawing_is_one() {
        let same_time = vec![points(&[1.0])[0], points(&[2.0])[0]];
        for points in
            [points(&[5.0, 5.0]), points(&[-1.7e308, 1.7e308]), points(&[1e-308, 2e-308]), same_time]
        {
            let drawn = line(&points, &[]).unwrap().into_string();
            assert!(!drawn.contains("NaN") && !drawn.contains("inf"), "{drawn}");
        }
        assert!(line(&points(&[]), &[1.0]).is_none());
        assert!(line(&points(&[1.0]), &[]).is_none());
    }

    #[test]
    fn a_deviation_is_held_against_both_sides_of_the_mean() {
        let evidence =
            Evidence::DeviationFromMean { mean: 10.0, sigma: 2.0, z: 6.0, k: 3.0, n: 5, window_minutes: 60 };
        assert_eq!(limits(&evidence), [4.0, 16.0]);
        assert_eq!(limits(&Evidence::NoData { interval_seconds: 5 }), [0.0; 0]);
    }
}

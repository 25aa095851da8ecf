//! Medians, spreads, and the axis on which percentiles are plotted.

use hdrhistogram::Histogram;

/// The least, the middle and the greatest of some values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spread {
    pub least: f64,
    pub median: f64,
    pub most: f64,
}

impl Spread {
    /// `None` if there is no value.
    pub fn of(values: &[f64]) -> Option<Spread> {
        let mut values = values.to_vec();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = (values.len() - 1) / 2;
        let median = (values[middle] + values[values.len() / 2]) / 2.0;
        Some(Spread { least, median, most })
    }
}

/// Makes a histogram of nanoseconds: three digits, up to a minute.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(NANOS_MIN, NANOS_MAX, 3).expect("these are good bounds")
}

/// Records a span in nanoseconds; beyond a minute it counts as a minute.
pub fn record(histogram: &mut Histogram<u64>, nanos: u64) {
    histogram.saturating_record(nanos);
}

/// Gives the place of a quantile on an axis that is twice as far for each half of what is left:
/// 0.9 at 1, 0.99 at 2, 0.999 at 3.
pub fn axis(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

/// Gives the quantile at a place of that axis.
pub fn quantile(place: f64) -> f64 {
    1.0 - 10f64.powf(-place)
}

/// Gives a curve of microseconds over that axis, as far as the values tell anything: the last place
/// is where one value alone lies beyond.
pub fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    if histogram.is_empty() {
        return Vec::new();
    }
    let end = (histogram.len() as f64).log10();
    let steps = (end * STEPS_PER_DECADE).ceil() as usize;
    let place = |step: usize| (step as f64 / STEPS_PER_DECADE).min(end);
    let at = |place: f64| {
        let nanos = histogram.value_at_quantile(quantile(place));
        (place, nanos as f64 / 1000.0)
    };
    (0..=steps).map(|step| at(place(step))).collect()
}

const NANOS_MIN: u64 = 100;
const NANOS_MAX: u64 = 60_000_000_000;
const STEPS_PER_DECADE: f64 = 12.0;

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_least_the_median_and_the_most() {
        let of = |values: &[f64]| Spread::of(values).map(|s| (s.least, s.median, s.most));
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[3.0]), Some((3.0, 3.0, 3.0)));
        assert_eq!(of(&[9.0, 1.0, 2.0]), Some((1.0, 2.0, 9.0)));
        assert_eq!(of(&[4.0, 1.0, 2.0, 9.0]), Some((1.0, 3.0, 9.0)));
    }

    #[test]
    fn nines_are_equally_far_apart() {
        for (value, place) in [(0.0, 0.0), (0.9, 1.0), (0.99, 2.0), (0.999, 3.0)] {
            assert!((axis(value) - place).abs() < 1e-9, "{value}");
            assert!((quantile(place) - value).abs() < 1e-9, "{value}");
        }
    }

    #[test]
    fn a_curve_rises_and_ends_where_one_value_is_left() {
        let mut values = histogram();
        (1..=1000).for_each(|value| record(&mut values, value * 1000));
        let curve = curve(&values);
        assert!(curve.is_sorted_by(|one, next| one.0 <= next.0 && one.1 <= next.1));
        let (place, us) = *curve.last().unwrap();
        assert!((place - 3.0).abs() < 1e-9 && (999.0..1002.0).contains(&us), "{place} {us}");
    }

    #[test]
    fn what_takes_longer_than_a_minute_counts_as_a_minute() {
        let mut values = histogram();
        record(&mut values, 90_000_000_000);
        assert!(values.max() >= NANOS_MAX);
    }
}

//! Ticks of axes.
//!
//! Promises round numbers, few enough to read, for any values. Refuses an axis for no values.

/// Fewer decades than this also have ticks at 2 and 5.
const CLOSE: f64 = 2.6;
/// Ticks of a log axis at most.
const TICKS_MAX: usize = 10;
/// The least that is placed, in milliseconds: one nanosecond; below is only 0.
const LEAST: f64 = 1e-6;

/// A log axis in powers of ten of milliseconds, from a round number to a round number.
#[derive(Clone, Debug)]
pub struct LogAxis {
    /// Its least power.
    pub low: f64,
    /// Its greatest, above the least.
    pub high: f64,
    /// Where the round numbers are.
    pub ticks: Vec<f64>,
}

impl Default for LogAxis {
    fn default() -> Self {
        Self { low: 0.0, high: 1.0, ticks: vec![0.0, 1.0] }
    }
}

impl LogAxis {
    /// One that holds these values; none without values.
    pub fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let values = values.filter(|value| value.is_finite()).map(|value| value.max(LEAST));
        let (low, high) = values.fold(None, |ends: Option<(f64, f64)>, value| {
            let (low, high) = ends.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        })?;
        let all: Vec<_> =
            (-7..=15).flat_map(|power| [1.0, 2.0, 5.0].map(|step: f64| step.log10() + f64::from(power))).collect();
        // A value that is a round number is its own bound, whatever the last bit says.
        let (low, high) = (low.log10() + 1e-9, high.log10() - 1e-9);
        let first = all.partition_point(|tick| *tick <= low).saturating_sub(1);
        let last = all.partition_point(|tick| *tick < high).clamp(first + 1, all.len() - 1);
        let (low, high) = (all[first], all[last]);
        let mut ticks = all[first..=last].to_vec();
        if high - low > CLOSE {
            ticks.retain(|tick| is_whole(*tick));
        }
        for step in 2.. {
            if ticks.len() <= TICKS_MAX {
                break;
            }
            ticks.retain(|tick| (tick.round() as i32).rem_euclid(step) == 0);
        }
        Some(Self { low, high, ticks })
    }

    /// Where a value is on it.
    pub fn place(&self, ms: f64) -> f64 {
        ms.max(LEAST).log10().clamp(self.low, self.high)
    }
}

fn is_whole(number: f64) -> bool {
    (number - number.round()).abs() < 1e-9
}

/// 0 and the multiples of 1, 2 or 5 times a power of ten up to `end`, so many steps at most.
pub fn nice_steps(end: f64, most: usize) -> Vec<f64> {
    let rough = (end / most as f64).max(f64::MIN_POSITIVE);
    let power = 10f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|step| step * power).into_iter().find(|step| *step >= rough * 0.999_999);
    let step = step.unwrap_or(rough);
    let steps = (end / step + 1e-9) as usize;
    (0..=steps).map(|at| at as f64 * step).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_axis_holds_its_values_and_has_a_few_ticks() {
        for values in
            [vec![0.0], vec![1.0], vec![0.5, 3.0], vec![0.011, 900.0], vec![1e-6, 1e12], vec![7.3], vec![2.0, 5.0]]
        {
            let axis = LogAxis::of(values.iter().copied()).expect("values");
            assert!(axis.low < axis.high, "{values:?} {axis:?}");
            assert!((1..=TICKS_MAX).contains(&axis.ticks.len()), "{values:?} {axis:?}");
            for tick in &axis.ticks {
                assert!((axis.low..=axis.high).contains(tick), "{values:?} {axis:?}");
            }
            for value in values {
                assert!((axis.place(value) - value.max(LEAST).log10()).abs() < 1e-6, "{value} {axis:?}");
            }
        }
        assert!(LogAxis::of([f64::NAN].into_iter()).is_none());
    }

    #[test]
    fn steps_are_round_and_few() {
        assert_eq!(nice_steps(10.0, 10), (0..=10).map(f64::from).collect::<Vec<_>>());
        assert_eq!(nice_steps(1.0, 2), [0.0, 0.5, 1.0]);
        assert_eq!(nice_steps(3_600.0, 10), [0.0, 500.0, 1_000.0, 1_500.0, 2_000.0, 2_500.0, 3_000.0, 3_500.0]);
        for end in [0.3, 7.0, 123_456.0, 3.2e7] {
            assert!((2..=11).contains(&nice_steps(end, 10).len()), "{end}");
        }
    }
}

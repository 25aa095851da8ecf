//! Cumulative sums (Page, 1954): they tell a small shift that stays from noise that passes.
//!
//! Each sample is compared with the usual level learned so far, in standard deviations. What
//! exceeds the allowed drift is summed up, and a sum beyond the threshold is a shift.

/// Watches one signal.
#[derive(Clone, Debug)]
pub struct Cusum {
    rules: ShiftRules,
    samples: u32,
    mean: f64,
    variance: f64,
    high: f64,
    low: f64,
}

/// What counts as a shift.
#[derive(Clone, Copy, Debug)]
pub struct ShiftRules {
    /// How far a sample may be off without being summed up, in standard deviations.
    pub drift: f64,
    /// The sum that makes a shift, in standard deviations.
    pub threshold: f64,
    /// The least standard deviation, in units of the signal: a smaller one counts as this.
    pub deviation_min: f64,
}

/// A shift of the signal.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Shift {
    /// The signal has grown; else it has fallen.
    pub is_up: bool,
    /// The usual level before.
    pub mean: f64,
    /// How far samples were usually off.
    pub deviation: f64,
}

impl Cusum {
    /// Begins without having learned anything.
    pub fn new(rules: ShiftRules) -> Cusum {
        Cusum { rules, samples: 0, mean: 0.0, variance: 0.0, high: 0.0, low: 0.0 }
    }

    /// Takes the next sample. The first [`Cusum::LEARNED`] samples only teach what is usual. After
    /// a shift the new level is learned in the same way, so that a shift is reported once.
    pub fn add(&mut self, sample: f64) -> Option<Shift> {
        let ShiftRules { drift, threshold, deviation_min } = self.rules;
        let deviation = self.variance.sqrt().max(deviation_min);
        let (mean, off) = (self.mean, (sample - self.mean) / deviation);
        if self.samples >= Cusum::LEARNED {
            self.high = (self.high + off - drift).max(0.0);
            self.low = (self.low - off - drift).max(0.0);
            if self.high > threshold || self.low > threshold {
                let is_up = self.high > threshold;
                *self = Cusum::new(self.rules);
                return Some(Shift { is_up, mean, deviation });
            }
        }
        self.learn(sample, deviation);
        None
    }

    /// Moves the usual level towards the sample. A sample far off counts as three deviations off: a
    /// slow shift must not be learned before it is noticed.
    fn learn(&mut self, sample: f64, deviation: f64) {
        self.samples = (self.samples + 1).min(MEMORY);
        let is_learning = self.samples <= Cusum::LEARNED;
        let far = if is_learning { f64::INFINITY } else { 3.0 * deviation };
        // `clamp` would do the same, and bring the writing of floating point into the program: its
        // panic shows the bounds.
        let off = (sample - self.mean).max(-far).min(far);
        let share = 1.0 / f64::from(if is_learning { self.samples } else { MEMORY });
        self.mean += off * share;
        self.variance = (1.0 - share) * (self.variance + share * off * off);
    }

    /// How many samples teach what is usual before any is judged.
    pub const LEARNED: u32 = 16;
}

/// How many samples the usual level averages.
const MEMORY: u32 = 256;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::random::Random;

    const RULES: ShiftRules = ShiftRules { drift: 0.5, threshold: 8.0, deviation_min: 1.0 };

    /// Returns an about normal number: the sum of twelve uniform ones.
    fn noise(random: &mut Random) -> f64 {
        (0..12).map(|_| random.between(0, 1000) as f64 / 1000.0).sum::<f64>() - 6.0
    }

    /// Feeds noise around `mean`. Returns the number of the sample that was a shift, if any was.
    fn first_shift(
        watch: &mut Cusum,
        random: &mut Random,
        mean: f64,
        samples: usize,
    ) -> Option<(usize, Shift)> {
        (0..samples).find_map(|n| Some((n, watch.add(mean + 10.0 * noise(random))?)))
    }

    #[test]
    fn noise_alone_is_no_shift() {
        let mut alarms = 0;
        for seed in 0..20 {
            let mut random = Random::new(seed);
            let mut watch = Cusum::new(RULES);
            let mut left = 2000;
            while let Some((n, _)) = first_shift(&mut watch, &mut random, 100.0, left) {
                alarms += 1;
                left -= n + 1;
            }
        }
        // 40,000 samples: this threshold allows one in some thousand.
        assert!(alarms <= 12, "{alarms}");
    }

    #[test]
    fn a_shift_of_two_deviations_is_told_within_some_samples_and_once() {
        for (seed, (mean, is_up)) in [(120.0, true), (80.0, false)].into_iter().enumerate() {
            let mut random = Random::new(seed as u64);
            let mut watch = Cusum::new(RULES);
            assert_eq!(first_shift(&mut watch, &mut random, 100.0, 100), None);
            let (after, shift) =
                first_shift(&mut watch, &mut random, mean, 100).expect("it has shifted");
            assert!((2..20).contains(&after), "{after}");
            assert_eq!(shift.is_up, is_up);
            assert!((90.0..110.0).contains(&shift.mean), "{shift:?}");
            assert_eq!(first_shift(&mut watch, &mut random, mean, 100), None, "it is learned");
        }
    }

    #[test]
    fn silence_with_a_blip_is_no_shift_and_a_leak_is_one() {
        let mut watch = Cusum::new(RULES);
        let blips = (0..1000).find_map(|n| watch.add(if n % 50 == 0 { 4.0 } else { 0.0 }));
        assert_eq!(blips, None);
        let leak = (0..200).find(|_| watch.add(2.0).is_some());
        assert!(leak.is_some_and(|n| n < 20), "{leak:?}");
    }
}

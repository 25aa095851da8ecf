//! Token bucket in eight bytes.

use crate::time::{Instant, Moment};

/// Limits a rate: `rate` tokens come each second, at most twice as many are saved up.
///
/// What is stored is the debt, so that a new bucket, all zeros, is full.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    debt_milli: u32,
    at: Moment,
}

impl Bucket {
    /// Takes one token, if there is one. `rate` is in tokens per second and at most a million.
    pub fn take(&mut self, now: Instant, rate: u32) -> bool {
        let elapsed_ms = now.since(self.at.near(now)).as_millis() as u64;
        let paid = elapsed_ms.saturating_mul(u64::from(rate));
        let debt = u64::from(self.debt_milli).saturating_sub(paid);
        self.at = now.into();
        let fits = debt + TOKEN_MILLI <= u64::from(rate) * 2 * TOKEN_MILLI;
        self.debt_milli = (debt + if fits { TOKEN_MILLI } else { 0 }) as u32;
        fits
    }
}

const TOKEN_MILLI: u64 = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twice_the_rate_at_once_and_then_the_rate() {
        let mut bucket = Bucket::default();
        let start = Instant::from_millis(1 << 33);
        let burst = (0..100).filter(|_| bucket.take(start, 10)).count();
        assert_eq!(burst, 20);
        assert!(!bucket.take(Instant::from_millis((1 << 33) + 99), 10));
        assert!(bucket.take(Instant::from_millis((1 << 33) + 100), 10));
        assert!(!bucket.take(Instant::from_millis((1 << 33) + 100), 10));
    }
}

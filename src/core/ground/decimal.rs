//! Decimal numbers in text, read and written without what floating point would bring along: its
//! tables of powers are 30 kB of a small program.

use std::fmt::{self, Write};
use std::time::Duration;

/// A number with a few decimal places.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decimal {
    value: u64,
    places: u32,
}

impl Decimal {
    /// Makes the number `value` / 10^`places`, of which there are 19 at most.
    pub fn new(value: u64, places: u32) -> Decimal {
        debug_assert!(places <= 19, "a power of ten that a u64 holds");
        Decimal { value, places }
    }

    /// Makes a number of seconds. A span of more than 584 years is told as that.
    pub fn seconds(span: Duration) -> Decimal {
        Decimal::new(span.as_nanos().try_into().unwrap_or(u64::MAX), 9)
    }
}

impl From<u64> for Decimal {
    fn from(value: u64) -> Decimal {
        Decimal::new(value, 0)
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut unit = 10_u64.pow(self.places);
        write!(f, "{}", self.value / unit)?;
        let mut rest = self.value % unit;
        if rest > 0 {
            f.write_char('.')?;
        }
        while rest > 0 {
            unit /= 10;
            f.write_char(char::from(b'0' + (rest / unit) as u8))?;
            rest %= unit;
        }
        Ok(())
    }
}

/// Reads a number such as `0.3`, `1` or `3e-1`. One of more than 15 digits may be off by its last
/// bit.
pub(crate) fn parse(text: &str) -> Option<f64> {
    let (sign, text) = match text.strip_prefix('-') {
        Some(text) => (-1.0, text),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    // Digits that a u64 does not hold count for nothing but their place.
    let (mut value, mut exponent) = (0_u64, exponent.clamp(-EXPONENT_MAX, EXPONENT_MAX));
    for (place, byte) in whole.bytes().chain(fraction.bytes()).enumerate() {
        let digit = char::from(byte).to_digit(10)?;
        let more = value.checked_mul(10).and_then(|value| value.checked_add(digit.into()));
        value = more.unwrap_or(value);
        exponent += i32::from(more.is_none()) - i32::from(place >= whole.len());
    }
    if value == 0 {
        return Some(sign * 0.0);
    }
    let power = (0..exponent.unsigned_abs()).fold(1.0, |power, _| power * 10.0);
    let value = value as f64;
    Some(sign * if exponent < 0 { value / power } else { value * power })
}

/// Writes a number from 0 to 1 with as few decimal places as tell it, at least one. What is no such
/// number does not read as one.
pub(crate) fn share(share: f64) -> String {
    if !share.is_finite() {
        return "NaN".into();
    }
    if share < 0.0 {
        return format!("-{}", self::share((-share).max(LEAST)));
    }
    let scaled = |places: u32| (share * 10_u64.pow(places) as f64).round();
    let is_told = |places: &u32| scaled(*places) / 10_u64.pow(*places) as f64 == share;
    let places = (1..PLACES_MAX).find(is_told).unwrap_or(PLACES_MAX);
    let text = Decimal::new(scaled(places) as u64, places).to_string();
    if text.contains('.') { text } else { text + ".0" }
}

/// Writes a number with one decimal place, a half to the even one. It holds below 10^18.
#[cfg(feature = "program")]
pub(crate) fn tenths(number: f64) -> String {
    let sign = if number.is_sign_negative() { "-" } else { "" };
    let tenths = (number.abs() * 10.0).round_ties_even() as u64;
    format!("{sign}{}.{}", tenths / 10, tenths % 10)
}

/// Beyond it a number is nothing, or without end.
const EXPONENT_MAX: i32 = 400;

const PLACES_MAX: u32 = 18;

/// What is below zero must not be written as zero.
const LEAST: f64 = 1e-18;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::random::Random;

    #[test]
    fn a_decimal_is_written_without_needless_zeros() {
        for (value, places, text) in [
            (0, 0, "0"),
            (0, 9, "0"),
            (1500, 3, "1.5"),
            (2000, 3, "2"),
            (1, 6, "0.000001"),
            (u64::MAX, 0, "18446744073709551615"),
            (u64::MAX, 19, "1.8446744073709551615"),
        ] {
            assert_eq!(Decimal::new(value, places).to_string(), text);
        }
        assert_eq!(Decimal::seconds(Duration::from_millis(1250)).to_string(), "1.25");
        assert_eq!(Decimal::seconds(Duration::MAX), Decimal::new(u64::MAX, 9));
    }

    #[test]
    fn numbers_are_read_as_the_standard_library_reads_them() {
        let mut random = Random::new(7);
        let shares = (0..10_000).map(|_| {
            let places = random.between(1, 15) as usize;
            format!("0.{:0places$}", random.between(0, 10_u64.pow(places as u32) - 1))
        });
        let others = "0 1 -1 +1 1. .5 0.30 3e-1 3E-1 2.5e+2 1e400 1e-400 0e999999 -0.25 00.1 \
                      0.1000000000000000055 123456789012345678901234567890 . + - e1 1e 1e+ a 1a \
                      0x1 1_0 1.2.3 --1 +-1 ٣ 1e1.5";
        let others = others.split(' ').map(str::to_owned).chain([String::new(), " 1".into()]);
        for text in shares.chain(others) {
            assert_eq!(parse(&text), text.parse().ok(), "{text}");
        }
    }

    #[test]
    fn a_share_is_written_as_the_standard_library_writes_it() {
        let mut random = Random::new(7);
        let shares = (0..10_000).map(|_| random.between(0, 1_000_000_000) as f64 / 1e9);
        for number in shares.chain([0.0, 1.0, 0.1, 0.3, 0.25, 0.1 + 0.2, 1.0 / 3.0, 0.00005]) {
            assert_eq!(parse(&share(number)), Some(number));
            if number == 0.0 || number >= 1e-4 {
                assert_eq!(share(number), format!("{number:?}"));
            }
        }
        for number in [f64::NAN, f64::INFINITY, f64::MAX, -f64::MIN_POSITIVE, -0.5, 1.5] {
            let read = parse(&share(number));
            assert!(read.is_none_or(|share| !(0.0..=1.0).contains(&share)), "{number}");
        }
    }

    #[cfg(feature = "program")]
    #[test]
    fn tenths_are_written_as_the_standard_library_writes_them() {
        let mut random = Random::new(7);
        let sizes = (0..10_000).map(|_| random.between(0, 1 << 40) as f64 / 1024.0);
        let others = [0.0, -0.0, 0.25, 0.75, -0.25, -0.04, 0.96, 1.5, -2.0, 1e17, u32::MAX.into()];
        for number in sizes.chain(others) {
            assert_eq!(tenths(number), format!("{number:.1}"));
            assert_eq!(tenths(-number), format!("{:.1}", -number));
        }
    }
}

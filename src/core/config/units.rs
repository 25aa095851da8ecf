//! Durations and sizes as text: `250ms`, `5s`, `2m`, `1h`, `1d` and `64k`, `1m`, `1g`.
//!
//! A duration always has its unit; a size without one is in bytes. Both are whole numbers, shown in
//! the largest unit that divides them.

use std::time::Duration;

use crate::core::ground::time::millis_up;

/// Reads a duration; `None` if the text is not one, or too long a one.
pub(crate) fn read_duration(text: &str) -> Option<Duration> {
    let (number, unit) = split(text)?;
    let (_, ms) = MILLISECONDS.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*ms).map(Duration::from_millis)
}

/// Shows a duration as [`read_duration`] reads it, rounded up to whole milliseconds.
pub(crate) fn show_duration(span: Duration) -> String {
    show(millis_up(span), &MILLISECONDS)
}

/// Reads a size in bytes; `None` if the text is not one, or too large a one.
pub(crate) fn read_size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let (_, bytes) = BYTES.iter().find(|(name, _)| *name == unit)?;
    number.checked_mul(*bytes)
}

/// Shows a size as [`read_size`] reads it.
pub(crate) fn show_size(bytes: u64) -> String {
    show(bytes, &BYTES)
}

/// Units of time in milliseconds, the largest first.
const MILLISECONDS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Units of memory in bytes, the largest first.
const BYTES: [(&str, u64); 4] = [("g", 1 << 30), ("m", 1 << 20), ("k", 1 << 10), ("", 1)];

/// Splits a text into its digits, at least one, and the rest.
fn split(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    Some((number.parse().ok()?, unit))
}

fn show(amount: u64, units: &[(&str, u64)]) -> String {
    let divides = |(_, size): &&(&str, u64)| amount >= *size && amount.is_multiple_of(*size);
    match units.iter().find(divides) {
        Some((unit, size)) => format!("{}{unit}", amount / size),
        None => format!("0{}", units[units.len() - 1].0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_a_whole_number_and_a_unit() {
        for (text, ms) in [
            ("250ms", 250),
            ("5s", 5_000),
            ("2m", 120_000),
            ("1h", 3_600_000),
            ("24d", 24 * 86_400_000),
            ("0s", 0),
        ] {
            assert_eq!(read_duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_duration_is_refused() {
        for text in [
            "",
            "5",
            "s",
            "-5s",
            "+5s",
            "5 s",
            " 5s",
            "5S",
            "1.5s",
            "1m30s",
            "5µs",
            "18446744073709551615s",
            "18446744073709551616ms",
        ] {
            assert_eq!(read_duration(text), None, "{text}");
        }
    }

    #[test]
    fn a_duration_is_shown_in_the_largest_unit_that_divides() {
        for (ms, text) in [
            (0, "0ms"),
            (1, "1ms"),
            (1_500, "1500ms"),
            (90_000, "90s"),
            (60_000, "1m"),
            (5_400_000, "90m"),
            (86_400_000, "1d"),
        ] {
            assert_eq!(show_duration(Duration::from_millis(ms)), text);
        }
        assert_eq!(show_duration(Duration::from_nanos(1)), "1ms");
    }

    #[test]
    fn a_size_may_have_a_unit() {
        for (text, bytes) in [("0", 0), ("1000", 1_000), ("64k", 65_536), ("3m", 3 << 20)] {
            assert_eq!(read_size(text), Some(bytes));
            assert_eq!(show_size(bytes), text);
        }
        for text in ["", "k", "-1", "64kb", "64K", "1.5m", "1e3", "17179869184g"] {
            assert_eq!(read_size(text), None, "{text}");
        }
    }
}

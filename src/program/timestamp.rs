//! The time as log lines bear it.

/// Returns a time as `2026-11-29T14:05:09.007Z`. It is in milliseconds since 1970, UTC.
pub(super) fn timestamp(unix_ms: u64) -> String {
    let (seconds, millis) = (unix_ms / 1000, unix_ms % 1000);
    let (year, month, day) = date(seconds / DAY_SECONDS);
    let second = seconds % DAY_SECONDS;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Returns year, month and day of the day that comes `days` after 1970-01-01.
///
/// Years begin on 1 March here, so that the leap day is the last of its year, and are counted from
/// the year 0. Then months have 31, 30, 31, 30, 31 days, twice and a part: 153 days each time.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_TO_1970;
    let (era, day) = (days / ERA_DAYS, days % ERA_DAYS);
    // The leap days of the era before this day.
    let leap_days = day / 1460 - day / 36_524 + day / (ERA_DAYS - 1);
    let year = (day - leap_days) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

const DAY_SECONDS: u64 = 24 * 3600;
/// From 0000-03-01 to 1970-01-01.
const DAYS_TO_1970: u64 = 719_468;
/// After 400 years the calendar repeats.
const ERA_DAYS: u64 = 146_097;

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_time_has_its_milliseconds() {
        assert_eq!(timestamp(1_764_425_109_007), "2025-11-29T14:05:09.007Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
    }

    /// Another crate says which day it is.
    #[test]
    fn every_day_of_five_centuries_has_its_date() {
        const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
        for days in 0..500 * 366 {
            let (year, month, day) = date(days);
            let name = &MONTHS[3 * (month as usize - 1)..][..3];
            let other = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(days * 86_400));
            assert_eq!(&other[5..16], format!("{day:02} {name} {year}"));
        }
    }
}

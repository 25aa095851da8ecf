//! What is read of a certificate (X.509, in DER): its names and its dates. Whether it is valid is
//! for the handshake to say; nothing is read here that was not judged there, or by the operator.

/// The names and the dates of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of the subject: the last, if there are several.
    pub common_name: Option<String>,
    /// DNS names and URIs of the subject's alternative names.
    pub names: Vec<String>,
    /// From when it is valid, in seconds since 1970.
    pub not_before: i64,
    /// Until when.
    pub not_after: i64,
}

impl Certificate {
    /// Reads a certificate. None if it cannot be read.
    pub fn read(der: &[u8]) -> Option<Certificate> {
        let mut found = Certificate::default();
        let certificate = Der(der).expect(SEQUENCE)?;
        let mut fields = Der(Der(certificate).expect(SEQUENCE)?);
        fields.skip_if(VERSION);
        // Serial number, signature, issuer.
        for _ in 0..3 {
            fields.next()?;
        }
        let mut validity = Der(fields.expect(SEQUENCE)?);
        found.not_before = validity.time()?;
        found.not_after = validity.time()?;
        let mut subject = Der(fields.expect(SEQUENCE)?);
        while let Some(set) = subject.expect(SET) {
            let mut pair = Der(Der(set).expect(SEQUENCE)?);
            if pair.expect(OBJECT_ID)? == COMMON_NAME {
                found.common_name = text(pair.next()?.1);
            }
        }
        // The key; then perhaps ids, then extensions.
        fields.next()?;
        while let Some((tag, value)) = fields.next() {
            if tag == EXTENSIONS {
                found.names = read_names(value)?;
            }
        }
        Some(found)
    }
}

/// Returns the seconds since 1970 of a moment of UTC, by the calendar of today.
pub fn unix_seconds(date: [i64; 3], time: [i64; 3]) -> i64 {
    let [year, month, day] = date;
    // Years begin in March, so that the day that some lack is the last.
    let year = year - i64::from(month <= 2);
    let (era, of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    let [hour, minute, second] = time;
    ((days * 24 + hour) * 60 + minute) * 60 + second
}

/// UTCTime or GeneralizedTime, both as RFC 5280, 4.1.2.5 has them: with seconds and in UTC.
fn read_time((tag, value): (u8, &[u8])) -> Option<i64> {
    let text = std::str::from_utf8(value).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, text.get(2..)?)
        }
        GENERALIZED_TIME => (text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => return None,
    };
    if rest.len() != 10 {
        return None;
    }
    let two = |at: usize| rest[at..at + 2].parse::<i64>().ok();
    Some(unix_seconds([year, two(0)?, two(2)?], [two(4)?, two(6)?, two(8)?]))
}

fn read_names(extensions: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut extensions = Der(Der(extensions).expect(SEQUENCE)?);
    while let Some(extension) = extensions.expect(SEQUENCE) {
        let mut extension = Der(extension);
        if extension.expect(OBJECT_ID)? != ALTERNATIVE_NAMES {
            continue;
        }
        extension.skip_if(BOOLEAN);
        let mut all = Der(Der(extension.expect(OCTETS)?).expect(SEQUENCE)?);
        while let Some((tag, value)) = all.next() {
            if matches!(tag, DNS_NAME | URI) {
                names.extend(text(value));
            }
        }
    }
    Some(names)
}

/// Returns what a name says, if it is text that can stand in a log line and in a file of tokens.
fn text(value: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(value).ok()?;
    let is_good = text.len() <= NAME_BYTES_MAX && !text.chars().any(char::is_control);
    is_good.then(|| text.to_owned())
}

/// Values of DER that follow each other.
pub struct Der<'a>(pub &'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next value, with its tag.
    #[expect(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&[tag, first], rest) = self.0.split_first_chunk::<2>()?;
        let (len, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first & 3))?;
                (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(len)?;
        self.0 = rest;
        Some((tag, value))
    }

    /// Takes the next value, which must have this tag.
    pub fn expect(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Takes a moment, in seconds since 1970.
    pub fn time(&mut self) -> Option<i64> {
        read_time(self.next()?)
    }

    /// Takes the next value if it has this tag.
    pub fn skip_if(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

const BOOLEAN: u8 = 0x01;
const OCTETS: u8 = 0x04;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const DNS_NAME: u8 = 0x82;
const URI: u8 = 0x86;

/// 2.5.4.3 and 2.5.29.17.
const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 0x1d, 0x11];

const NAME_BYTES_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_are_counted_as_everybody_counts_them() {
        for (date, time, seconds) in [
            ([1970, 1, 1], [0, 0, 0], 0),
            ([2000, 2, 29], [12, 0, 0], 951_825_600),
            ([2038, 1, 19], [3, 14, 8], 1 << 31),
            ([1969, 12, 31], [23, 59, 59], -1),
            ([2100, 3, 1], [0, 0, 0], 4_107_542_400),
        ] {
            assert_eq!(unix_seconds(date, time), seconds, "{date:?}");
        }
    }

    #[test]
    fn what_is_cut_or_changed_anywhere_is_no_panic() {
        let der = include_bytes!("../../../../tests/tls/certificates/client.der");
        let whole = Certificate::read(der).unwrap();
        assert_eq!(whole.common_name.as_deref(), Some("device-7"));
        assert_eq!(whole.names, ["device-7.example.org", "urn:example:device:7"]);
        assert!(whole.not_before < whole.not_after);
        for at in 0..der.len() {
            let _ = Certificate::read(&der[..at]);
            for bit in 0..8 {
                let mut changed = der.to_vec();
                changed[at] ^= 1 << bit;
                let _ = Certificate::read(&changed);
            }
        }
    }
}

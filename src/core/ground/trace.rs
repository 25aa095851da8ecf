//! Trace contexts (W3C Trace Context, `traceparent`): which work of which caller something belongs
//! to. They are passed on; spans are made by applications.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A trace context: the trace, the span of the caller in it, and flags. Cloning shares it.
///
/// It is written as `traceparent` has it:
/// `00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Trace(Arc<[u8; Trace::BYTES]>);

/// A text is no trace context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadTrace;

impl Trace {
    /// The bytes of a trace context: 16 of the trace, 8 of the span, one of flags.
    pub const BYTES: usize = 25;

    /// Makes a trace context of its bytes, which [`Trace::to_bytes`] gave.
    pub(crate) fn from_bytes(bytes: &[u8; Trace::BYTES]) -> Trace {
        Trace(Arc::new(*bytes))
    }

    /// Returns its bytes: the trace's, the span's, the flags.
    pub fn to_bytes(&self) -> [u8; Trace::BYTES] {
        *self.0
    }

    /// Returns the number of the trace, which is the same for all that belongs together. It is not
    /// zero.
    pub fn trace_id(&self) -> u128 {
        self.0[..16].iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
    }

    /// Returns the number of the caller's span. It is not zero.
    pub fn span_id(&self) -> u64 {
        self.0[16..24].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    /// Returns whether the caller may have recorded its span.
    pub fn is_sampled(&self) -> bool {
        self.0[24] & SAMPLED != 0
    }

    /// Returns what a log line says of a trace context, with a blank before it; nothing of none.
    pub(crate) fn shown(trace: Option<&Trace>) -> String {
        trace.map(|trace| format!(" trace={trace}")).unwrap_or_default()
    }
}

/// Of a later version than 00 what is known here is read, as the rule for versions has it: of the
/// flags only whether it is sampled.
impl FromStr for Trace {
    type Err = BadTrace;

    fn from_str(text: &str) -> Result<Trace, BadTrace> {
        let text = text.as_bytes();
        let (known, more) = text.split_at_checked(LEN).ok_or(BadTrace)?;
        let mut version = [0];
        let mut bytes = [0; Trace::BYTES];
        let has_dashes = [2, 35, 52].iter().all(|at| known[*at] == b'-');
        let is_read = has_dashes
            && read(&known[..2], &mut version)
            && read(&known[3..35], &mut bytes[..16])
            && read(&known[36..52], &mut bytes[16..24])
            && read(&known[53..], &mut bytes[24..]);
        let is_whole = match version {
            [0] => more.is_empty(),
            [0xff] => false,
            _ => more.first().is_none_or(|next| *next == b'-'),
        };
        let is_set = |bytes: &[u8]| bytes.iter().any(|byte| *byte != 0);
        if !is_read || !is_whole || !is_set(&bytes[..16]) || !is_set(&bytes[16..24]) {
            return Err(BadTrace);
        }
        if version != [0] {
            bytes[24] &= SAMPLED;
        }
        Ok(Trace(Arc::new(bytes)))
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span, flags) = (self.trace_id(), self.span_id(), self.0[24]);
        write!(f, "00-{trace:032x}-{span:016x}-{flags:02x}")
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Trace({self})")
    }
}

impl fmt::Display for BadTrace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a trace context is 00-, 32, 16 and 2 digits, with neither number zero")
    }
}

impl std::error::Error for BadTrace {}

/// Reads hexadecimal digits, two for each byte. Returns whether they are such: none is a capital.
fn read(digits: &[u8], bytes: &mut [u8]) -> bool {
    let value = |digit: &u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    digits.chunks_exact(2).zip(bytes).all(|(pair, byte)| {
        let both = value(&pair[0]).zip(value(&pair[1]));
        both.is_some_and(|(high, low)| {
            *byte = high << 4 | low;
            true
        })
    })
}

/// The length of version 00.
const LEN: usize = 55;
const SAMPLED: u8 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn it_reads_what_it_writes() {
        let trace: Trace = GOOD.parse().unwrap();
        assert_eq!(trace.to_string(), GOOD);
        assert_eq!(trace.trace_id(), 0x0af7651916cd43dd8448eb211c80319c);
        assert_eq!((trace.span_id(), trace.is_sampled()), (0xb7ad6b7169203331, true));
        assert_eq!(Trace::from_bytes(&trace.to_bytes()), trace);
        assert_eq!(format!("{trace:?}"), format!("Trace({GOOD})"));
        let quiet = GOOD.replace("-01", "-fe");
        let trace: Trace = quiet.parse().unwrap();
        assert_eq!((trace.to_string(), trace.is_sampled()), (quiet, false));
    }

    #[test]
    fn a_later_version_is_read_as_far_as_it_is_known() {
        for (text, flags) in [
            (GOOD.replace("00-", "01-"), "01"),
            (GOOD.replace("00-", "fe-") + "-", "01"),
            (GOOD.replace("00-", "cc-").replace("-01", "-fe") + "-what-the.future/brings", "00"),
        ] {
            let trace: Trace = text.parse().unwrap();
            assert_eq!(trace.to_string(), GOOD.replace("-01", &format!("-{flags}")), "{text}");
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        let zeros = |from: usize, to: usize| {
            let mut text = GOOD.to_owned();
            text.replace_range(from..to, &"0".repeat(to - from));
            text
        };
        for text in [
            String::new(),
            "00".into(),
            "ü".repeat(30),
            GOOD[..54].into(),
            GOOD.to_owned() + "-",
            GOOD.to_owned() + "0",
            GOOD.replace("00-", "ff-"),
            GOOD.replace("00-", "01-") + "0",
            GOOD.replace("00-", "0g-"),
            GOOD.to_uppercase(),
            GOOD.replace('-', "_"),
            GOOD.replace("-b7", "b-7"),
            format!(" {}", &GOOD[..54]),
            zeros(3, 35),
            zeros(36, 52),
        ] {
            assert_eq!(text.parse::<Trace>(), Err(BadTrace), "{text}");
        }
    }
}

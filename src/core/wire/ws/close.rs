//! The payload of a close frame (RFC 6455, 5.5.1 and 7.4).

use tungstenite::Utf8Bytes;

use super::Violation;

/// Why the peer closes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CloseFrame {
    /// The close code: one that may be sent.
    pub code: u16,
    /// The reason in words, often empty.
    pub reason: Utf8Bytes,
}

impl CloseFrame {
    /// Reads the unmasked payload of a close frame; an empty one gives `None`.
    ///
    /// # Errors
    ///
    /// [`Violation::ClosePayload`], [`Violation::CloseCode`] or [`Violation::Utf8`].
    pub fn parse(payload: &[u8]) -> Result<Option<CloseFrame>, Violation> {
        let (code, reason) = match payload {
            [] => return Ok(None),
            [_] => return Err(Violation::ClosePayload),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        if !is_allowed(code) {
            return Err(Violation::CloseCode);
        }
        let reason = std::str::from_utf8(reason).map_err(|_| Violation::Utf8)?;
        Ok(Some(CloseFrame { code, reason: reason.into() }))
    }
}

/// Returns whether a close frame may have the code: those of the RFC and its IANA registry, and the
/// free ones.
pub fn is_allowed(code: u16) -> bool {
    matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(code: u16, reason: &[u8]) -> Result<Option<CloseFrame>, Violation> {
        CloseFrame::parse(&[&code.to_be_bytes(), reason].concat())
    }

    #[test]
    fn a_payload_is_empty_or_a_code_and_a_reason() {
        assert_eq!(CloseFrame::parse(&[]), Ok(None));
        assert_eq!(CloseFrame::parse(&[3]), Err(Violation::ClosePayload));
        let frame = CloseFrame { code: 1000, reason: "".into() };
        assert_eq!(CloseFrame::parse(&[3, 0xe8]), Ok(Some(frame)));
        let frame = CloseFrame { code: 4000, reason: "später".into() };
        assert_eq!(parse(4000, "später".as_bytes()), Ok(Some(frame)));
        assert_eq!(parse(1000, b"\xc3"), Err(Violation::Utf8));
        assert_eq!(parse(1000, b"\xff"), Err(Violation::Utf8));
    }

    #[test]
    fn codes_that_may_not_be_sent_are_refused() {
        for code in 0..=u16::MAX {
            let is_refused = matches!(
                code,
                0..=999 | 1004 | 1005 | 1006 | 1015 | 1016..=2999 | 5000..=u16::MAX
            );
            assert_eq!(parse(code, b"") == Err(Violation::CloseCode), is_refused, "{code}");
        }
    }
}

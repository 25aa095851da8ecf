//! What a client offers, and what a server's answer means (RFC 7692, 7.1).

use super::agreement::{WINDOW_BITS_MAX, WINDOW_BITS_MIN, is_flag, parameters, read_bits};

/// What a client offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// The server's messages may refer back by 2 to the power of this, from 9 to 15; `None`: each
    /// is to be compressed by itself.
    pub window_bits: Option<u8>,
}

/// What a server has agreed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// The server's messages may refer back to those before, by 2 to the power of this, from 8 to
    /// 15; `None`: they do not.
    pub window_bits: Option<u8>,
    /// The client's messages may refer back within themselves by 2 to the power of this, from 9 to
    /// 15; `None`: by less than any compressor here honours, so that none may be compressed.
    pub own_bits: Option<u8>,
}

impl Offer {
    /// Returns the value of `Sec-WebSocket-Extensions` in the upgrade.
    ///
    /// The client says that it compresses each of its messages by itself, and that it can keep to a
    /// smaller window there.
    pub fn line(self) -> String {
        let mut line =
            String::from("permessage-deflate; client_no_context_takeover; client_max_window_bits");
        match self.window_bits {
            None => line += "; server_no_context_takeover",
            // Not every server can keep to another one.
            Some(WINDOW_BITS_MAX) => {}
            Some(bits) => line += &format!("; server_max_window_bits={bits}"),
        }
        line
    }

    /// Reads the one element of `Sec-WebSocket-Extensions` in the answer; `None` if it is none that
    /// this offer allows: the connection must be ended then.
    pub fn read(self, answer: &[u8]) -> Option<Answered> {
        let answer = parameters(str::from_utf8(answer).ok()?)?;
        let [no_server_context, no_client_context, server_bits, client_bits] = answer;
        // Without it the server may inflate with a window that it keeps: that changes nothing.
        is_flag(no_client_context)?;
        let bits = |value: Option<Option<&str>>| match value {
            None => Some(WINDOW_BITS_MAX),
            Some(value) => read_bits(value?),
        };
        let server_bits = bits(server_bits)?;
        // RFC 7692, 7.1.2.1 and 7.1.1.1: what was asked for must be granted.
        let window_bits = match (self.window_bits, is_flag(no_server_context)?) {
            (Some(asked), _) if server_bits > asked => return None,
            (None, false) => return None,
            (_, true) => None,
            (Some(_), false) => Some(server_bits),
        };
        let own_bits = Some(bits(client_bits)?).filter(|bits| *bits >= WINDOW_BITS_MIN);
        Some(Answered { window_bits, own_bits })
    }
}

#[cfg(test)]
mod tests {
    use super::super::choose;
    use super::*;

    const WHOLE: Offer = Offer { window_bits: Some(15) };
    const SMALL: Offer = Offer { window_bits: Some(11) };
    const NONE: Offer = Offer { window_bits: None };

    /// RFC 7692, 7.1, and 5.1: an answer that was not asked for ends the connection.
    #[test]
    fn each_answer_is_taken_or_refused() {
        let taken = |window_bits, own_bits| Some(Answered { window_bits, own_bits });
        let whole = taken(Some(15), Some(15));
        for (offer, parameters, expected) in [
            (WHOLE, "", whole),
            (WHOLE, "; client_no_context_takeover", whole),
            (WHOLE, " ;\tCLIENT_no_context_takeover", whole),
            (WHOLE, "; server_no_context_takeover", taken(None, Some(15))),
            (WHOLE, "; server_max_window_bits=9", taken(Some(9), Some(15))),
            (WHOLE, "; server_max_window_bits=\"8\"", taken(Some(8), Some(15))),
            (WHOLE, "; client_max_window_bits=9", taken(Some(15), Some(9))),
            (WHOLE, "; client_max_window_bits=8", taken(Some(15), None)),
            (
                WHOLE,
                "; server_no_context_takeover; server_max_window_bits=10; \
                 client_no_context_takeover; client_max_window_bits=12",
                taken(None, Some(12)),
            ),
            (SMALL, "; server_max_window_bits=11", taken(Some(11), Some(15))),
            (SMALL, "; server_max_window_bits=9", taken(Some(9), Some(15))),
            (SMALL, "; server_max_window_bits=12", None),
            (SMALL, "", None),
            (SMALL, "; server_no_context_takeover", None),
            (NONE, "; server_no_context_takeover", taken(None, Some(15))),
            (NONE, "; server_no_context_takeover; server_max_window_bits=9", taken(None, Some(15))),
            (NONE, "", None),
            (NONE, "; client_no_context_takeover", None),
            (WHOLE, "; server_max_window_bits", None),
            (WHOLE, "; server_max_window_bits=7", None),
            (WHOLE, "; server_max_window_bits=16", None),
            (WHOLE, "; server_max_window_bits=010", None),
            (WHOLE, "; server_max_window_bits=", None),
            (WHOLE, "; client_max_window_bits", None),
            (WHOLE, "; client_max_window_bits=16", None),
            (WHOLE, "; client_max_window_bits=0", None),
            (WHOLE, "; server_no_context_takeover=1", None),
            (WHOLE, "; client_no_context_takeover=", None),
            (WHOLE, "; client_no_context_takeover; client_no_context_takeover", None),
            (WHOLE, "; server_max_window_bits=9; server_max_window_bits=9", None),
            (WHOLE, "; unknown", None),
            (WHOLE, ";", None),
        ] {
            let answer = format!("permessage-deflate{parameters}");
            assert_eq!(offer.read(answer.as_bytes()), expected, "{offer:?} {answer:?}");
        }
        for other in ["permessage-bzip2", "x-webkit-deflate-frame", "", "permessage-deflate\u{e4}"]
        {
            assert_eq!(WHOLE.read(other.as_bytes()), None, "{other:?}");
        }
        assert_eq!(WHOLE.read(b"permessage-deflate\xff"), None);
    }

    #[test]
    fn our_server_grants_what_our_client_offers() {
        for window_bits in (9..=15).map(Some).chain([None]) {
            let offer = Offer { window_bits };
            let agreed = choose([offer.line().as_bytes()].into_iter()).expect("it is accepted");
            let answered = offer.read(agreed.answer().as_bytes());
            assert_eq!(answered, Some(Answered { window_bits, own_bits: Some(15) }), "{offer:?}");
        }
    }
}

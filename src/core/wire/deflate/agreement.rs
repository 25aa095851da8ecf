//! What a client offers, and what the server agrees to (RFC 7692, 7.1).

/// What was agreed on with a peer.
///
/// The client never keeps its window from one message to the next: each message that comes is
/// inflated by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Agreed {
    /// The window of the peer's inflater is 2 to the power of this, from 9 to 15: no compressed
    /// message may refer further back.
    pub window_bits: u8,
    /// The client has asked for a window of at most some size: the answer must name one, be it the
    /// largest (RFC 7692, 7.1.2.1).
    pub names_window: bool,
    /// The peer keeps its window: a message may refer to the one before.
    pub keeps_window: bool,
}

impl Agreed {
    /// Returns the value of `Sec-WebSocket-Extensions` in the answer.
    pub fn answer(self) -> String {
        let mut answer = String::from("permessage-deflate; client_no_context_takeover");
        if !self.keeps_window {
            answer += "; server_no_context_takeover";
        }
        if self.names_window {
            answer += &format!("; server_max_window_bits={}", self.window_bits);
        }
        answer
    }
}

/// Returns what is agreed on with a client that makes these offers, in its order; `None` if none
/// of them can be accepted.
///
/// An offer with a parameter that is unknown, doubled or out of its bounds is declined, and so is
/// one of a window of 256 bytes, which no compressor here honours: the next offer is tried.
pub fn choose<'a>(offers: impl Iterator<Item = &'a [u8]>) -> Option<Agreed> {
    offers.filter_map(|offer| read_offer(str::from_utf8(offer).ok()?)).next()
}

fn read_offer(offer: &str) -> Option<Agreed> {
    let [no_server_context, no_client_context, server_bits, client_bits] = parameters(offer)?;
    is_flag(no_client_context)?;
    // What the client says of its own window changes nothing: the largest is inflated.
    if let Some(Some(value)) = client_bits {
        read_bits(value)?;
    }
    let window_bits = match server_bits {
        None => WINDOW_BITS_MAX,
        Some(value) => read_bits(value?).filter(|bits| *bits >= WINDOW_BITS_MIN)?,
    };
    let keeps_window = !is_flag(no_server_context)?;
    Some(Agreed { window_bits, names_window: server_bits.is_some(), keeps_window })
}

/// Reads what permessage-deflate comes with: its parameters in the order of [`PARAMETERS`], `None`
/// for one that is not there, with the value if there is one. `None` for another extension, and if
/// a parameter is unknown or doubled.
pub(super) fn parameters(element: &str) -> Option<[Option<Option<&str>>; PARAMETERS.len()]> {
    let mut parts = element.split(';').map(|part| part.trim_matches([' ', '\t']));
    if !parts.next()?.eq_ignore_ascii_case("permessage-deflate") {
        return None;
    }
    let mut found = [None; PARAMETERS.len()];
    for part in parts {
        let (name, value) = match part.split_once('=') {
            Some((name, value)) => (name.trim_end(), Some(value.trim_start())),
            None => (part, None),
        };
        let index = PARAMETERS.iter().position(|known| known.eq_ignore_ascii_case(name))?;
        if found[index].replace(value).is_some() {
            return None;
        }
    }
    Some(found)
}

/// Returns whether a parameter without a value is there; `None` if it has one.
pub(super) fn is_flag(parameter: Option<Option<&str>>) -> Option<bool> {
    match parameter {
        Some(Some(_)) => None,
        found => Some(found.is_some()),
    }
}

/// Reads 8 to 15, without leading zeros, perhaps quoted.
pub(super) fn read_bits(value: &str) -> Option<u8> {
    let quoted = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    match quoted.unwrap_or(value) {
        "8" => Some(8),
        "9" => Some(9),
        "10" => Some(10),
        "11" => Some(11),
        "12" => Some(12),
        "13" => Some(13),
        "14" => Some(14),
        "15" => Some(15),
        _ => None,
    }
}

const PARAMETERS: [&str; 4] = [
    "server_no_context_takeover",
    "client_no_context_takeover",
    "server_max_window_bits",
    "client_max_window_bits",
];
pub(super) const WINDOW_BITS_MIN: u8 = 9;
pub(super) const WINDOW_BITS_MAX: u8 = 15;

#[cfg(test)]
mod tests {
    use super::*;

    const DECLINED: Option<u8> = None;

    /// Returns the window that is agreed on for the elements of a header line.
    fn agreed(line: &str) -> Option<u8> {
        let offers = line.split(',').map(|offer| offer.trim().as_bytes());
        choose(offers).map(|agreed| agreed.window_bits)
    }

    /// RFC 7692, 7.1, and FAULTS 12: what clients of the field offer, and what no client should.
    #[test]
    fn each_offer_is_accepted_or_declined() {
        for (line, window_bits) in [
            ("permessage-deflate", Some(15)),
            // Chromium and ws; Firefox; Safari before 16; Python websockets; Autobahn.
            ("permessage-deflate; client_max_window_bits", Some(15)),
            ("x-webkit-deflate-frame", DECLINED),
            ("permessage-deflate; server_max_window_bits=12; client_max_window_bits=12", Some(12)),
            ("permessage-deflate; client_no_context_takeover; client_max_window_bits=9", Some(15)),
            ("PerMessage-Deflate;Server_No_Context_Takeover", Some(15)),
            ("permessage-deflate ; server_max_window_bits = \"10\"", Some(10)),
            ("permessage-deflate;\tserver_max_window_bits=9", Some(9)),
            ("permessage-deflate; server_max_window_bits=8", DECLINED),
            ("permessage-deflate; client_max_window_bits=8", Some(15)),
            ("permessage-deflate; server_max_window_bits", DECLINED),
            ("permessage-deflate; server_max_window_bits=16", DECLINED),
            ("permessage-deflate; server_max_window_bits=7", DECLINED),
            ("permessage-deflate; server_max_window_bits=010", DECLINED),
            ("permessage-deflate; server_max_window_bits=+9", DECLINED),
            ("permessage-deflate; server_max_window_bits=", DECLINED),
            ("permessage-deflate; server_max_window_bits=\"9", DECLINED),
            ("permessage-deflate; client_max_window_bits=16", DECLINED),
            ("permessage-deflate; client_max_window_bits=0", DECLINED),
            ("permessage-deflate; server_no_context_takeover=1", DECLINED),
            ("permessage-deflate; client_no_context_takeover=", DECLINED),
            (
                "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
                DECLINED,
            ),
            ("permessage-deflate; client_max_window_bits; client_max_window_bits=9", DECLINED),
            ("permessage-deflate; unknown", DECLINED),
            ("permessage-deflate; constructor; server_max_window_bits=abc", DECLINED),
            ("permessage-deflate;", DECLINED),
            ("permessage-deflate;;client_max_window_bits", DECLINED),
            ("permessage-deflate\u{e4}", DECLINED),
            ("", DECLINED),
            // The next offer is tried.
            ("x-webkit-deflate-frame, permessage-deflate", Some(15)),
            (
                "permessage-deflate; server_max_window_bits=8, \
                 permessage-deflate; server_max_window_bits=10, permessage-deflate",
                Some(10),
            ),
            ("permessage-deflate; unknown, permessage-bzip2, permessage-deflate", Some(15)),
        ] {
            assert_eq!(agreed(line), window_bits, "{line:?}");
        }
    }

    #[test]
    fn the_answer_says_what_holds() {
        let answer = |offer: &str| choose([offer.as_bytes()].into_iter()).unwrap().answer();
        let plain = "permessage-deflate; client_no_context_takeover";
        for (offered, answered) in [
            ("", ""),
            ("; client_max_window_bits=9", ""),
            ("; server_max_window_bits=9", "; server_max_window_bits=9"),
            ("; server_max_window_bits=15", "; server_max_window_bits=15"),
            ("; server_no_context_takeover", "; server_no_context_takeover"),
        ] {
            let offer = format!("permessage-deflate{offered}");
            assert_eq!(answer(&offer), format!("{plain}{answered}"), "{offer}");
        }
        let keeps = |offer: &[u8]| choose([offer].into_iter()).unwrap().keeps_window;
        assert!(keeps(b"permessage-deflate"));
        assert!(!keeps(b"permessage-deflate; server_no_context_takeover"));
    }
}

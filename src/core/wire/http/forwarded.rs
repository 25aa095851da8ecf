//! Whom a request comes from, as the proxies on its way have noted it: `X-Forwarded-For`, and
//! `Forwarded` (RFC 7239).
//!
//! Each proxy appends the address that it was connected from, so what stands furthest to the right
//! was written by the proxy that connected to us, and what stands to the left of a proxy's note may
//! have been written by anyone. Everything is therefore read from the right, also the quotes of
//! `Forwarded`: nothing that stands to the left changes how what stands to the right is read.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Request;
use super::syntax::is_token;

/// Which header lines are believed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Forwarded {
    /// None.
    #[default]
    Off,
    /// `X-Forwarded-For`.
    XForwardedFor,
    /// `Forwarded`.
    Forwarded,
}

impl Forwarded {
    /// Returns whom a request of a trusted peer comes from: the first address from the right that
    /// is not trusted, or the leftmost if all are. At what is no address it stops, with the address
    /// to the right of that. `None` if there is none: the request comes from the peer itself.
    pub(crate) fn client(
        self,
        request: &Request,
        is_trusted: impl Fn(IpAddr) -> bool,
    ) -> Option<IpAddr> {
        let (name, has_quotes) = match self {
            Forwarded::Off => return None,
            Forwarded::XForwardedFor => ("x-forwarded-for", false),
            Forwarded::Forwarded => ("forwarded", true),
        };
        let lines: Vec<&[u8]> = request.header_values(name).collect();
        let mut found = None;
        for line in lines.into_iter().rev() {
            let elements = Elements { left: Some(line), at: b',', has_quotes };
            for element in elements.filter(|element| !element.trim_ascii().is_empty()) {
                let ip = match has_quotes {
                    true => read_element(element),
                    false => text(element).and_then(node),
                };
                let Some(ip) = ip else { return found };
                found = Some(ip);
                if !is_trusted(ip) {
                    return found;
                }
            }
        }
        found
    }
}

/// The elements of a list, from the right.
struct Elements<'l> {
    left: Option<&'l [u8]>,
    at: u8,
    /// What stands in quotes parts nothing.
    has_quotes: bool,
}

impl<'l> Iterator for Elements<'l> {
    type Item = &'l [u8];

    fn next(&mut self) -> Option<&'l [u8]> {
        let left = self.left.take()?;
        let mut is_quoted = false;
        for (index, byte) in left.iter().enumerate().rev() {
            if *byte == b'"' && self.has_quotes {
                is_quoted ^= !is_escaped(&left[..index]);
            } else if *byte == self.at && !is_quoted {
                self.left = Some(&left[..index]);
                return Some(&left[index + 1..]);
            }
        }
        Some(left)
    }
}

/// Returns whether what follows is taken as it is (RFC 9110, 5.6.4).
fn is_escaped(before: &[u8]) -> bool {
    before.iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

fn text(element: &[u8]) -> Option<&str> {
    str::from_utf8(element.trim_ascii()).ok()
}

/// Reads an element of `Forwarded`, which has one `for`.
fn read_element(element: &[u8]) -> Option<IpAddr> {
    let mut found = None;
    let pairs = Elements { left: Some(element), at: b';', has_quotes: true };
    for pair in pairs.filter(|pair| !pair.trim_ascii().is_empty()) {
        let (name, value) = text(pair)?.split_once('=')?;
        if !is_token(name.as_bytes()) {
            return None;
        }
        if name.eq_ignore_ascii_case("for") {
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let earlier = found.replace(node(quoted.unwrap_or(value))?);
            if earlier.is_some() {
                return None;
            }
        }
    }
    found
}

/// Reads an address, perhaps with a port: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
/// `[2001:db8::1]`, `[2001:db8::1]:80`. The port may be hidden: `_x`.
fn node(text: &str) -> Option<IpAddr> {
    let (ip, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':')?) };
            (IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?), port)
        }
        None => match text.parse() {
            Ok(ip) => (ip, None),
            Err(_) => {
                let (ip, port) = text.split_once(':')?;
                (IpAddr::V4(ip.parse::<Ipv4Addr>().ok()?), Some(port))
            }
        },
    };
    let is_port = |port: &str| match port.strip_prefix('_') {
        Some(hidden) => is_token(hidden.as_bytes()),
        None => port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok(),
    };
    let is_good = port.is_none_or(is_port) && !ip.is_unspecified();
    is_good.then(|| ip.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::random::Random;
    use crate::core::wire::http::head::tests::request;

    /// Whom a request with these lines comes from, if 10.0.0.0/8 and 2001:db8:a::/48 are trusted.
    fn client(which: Forwarded, lines: &[&str]) -> String {
        let name = match which {
            Forwarded::Forwarded => "Forwarded",
            _ => "X-Forwarded-For",
        };
        let lines: String = lines.iter().map(|line| format!("{name}: {line}\r\n")).collect();
        let request = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        let is_trusted = |ip: IpAddr| match ip {
            IpAddr::V4(ip) => ip.octets()[0] == 10,
            IpAddr::V6(ip) => ip.segments()[..3] == [0x2001, 0xdb8, 0xa],
        };
        which.client(&request, is_trusted).map_or("the peer".into(), |ip| ip.to_string())
    }

    /// FAULTS 211. 192.0.2.1 is the client; 6.6.6.6 is whom it says it is.
    #[test]
    fn nothing_that_a_client_writes_changes_whom_it_comes_from() {
        let spoofs = [
            "6.6.6.6",
            "6.6.6.6, 6.6.6.6",
            "127.0.0.1",
            "10.0.0.1",
            "10.0.0.1, 10.0.0.2",
            "::1",
            "[::1]:80",
            "unknown",
            "_hidden",
            "",
            ",",
            ", ,",
            "\"",
            "\"6.6.6.6",
            "6.6.6.6\"",
            "\\",
            "\"\\",
            "for=6.6.6.6",
            "for=\"6.6.6.6",
            "for=\"6.6.6.6\\\"",
            "for=6.6.6.6;for=\"",
            "for=\"[::1]\", for=\"",
            "6.6.6.6;",
            "6.6.6.6 10.0.0.1",
            "6.6.6.6\t",
            "6.6.6.6:99999",
            "999.999.999.999",
            "0x6060606",
            "101058054",
            "6.6.6.06",
            "::ffff:6.6.6.6",
            "0.0.0.0",
            "::",
            "(6.6.6.6)",
            "6.6.6.6, 10.0.0.1, garbage",
            "<script>",
            "' OR 1=1 --",
            "\u{661}.1.1.1",
            "localhost",
            "for=_6;by=10.0.0.1;host=\"a,b;c\"",
        ];
        assert_eq!(spoofs.len(), 40);
        for spoof in spoofs {
            for tail in ["192.0.2.1", "192.0.2.1, 10.0.0.9", "192.0.2.1:9,10.0.0.9:80 , 10.1.2.3"] {
                let one = format!("{spoof}, {tail}");
                assert_eq!(client(Forwarded::XForwardedFor, &[&one]), "192.0.2.1", "{one}");
                assert_eq!(client(Forwarded::XForwardedFor, &[spoof, tail]), "192.0.2.1", "{one}");
            }
            for tail in [
                "for=192.0.2.1",
                "for=192.0.2.1;proto=https;host=\"a,b;for=6.6.6.6\", For=\"10.0.0.9:80\"",
                "proto=http; FOR=\"192.0.2.1:_x\" , for=10.0.0.9;by=\"[2001:db8:a::1]:80\"",
            ] {
                let one = format!("{spoof}, {tail}");
                assert_eq!(client(Forwarded::Forwarded, &[&one]), "192.0.2.1", "{one}");
                assert_eq!(client(Forwarded::Forwarded, &[spoof, tail]), "192.0.2.1", "{one}");
            }
        }
    }

    #[test]
    fn whatever_stands_to_the_left_changes_nothing() {
        const LETTERS: &[u8] = b",;\"\\=for[]:.016 \t_x-";
        let mut random = Random::new(7);
        for _ in 0..1000 {
            let letter = |random: &mut Random| {
                char::from(LETTERS[random.between(0, LETTERS.len() as u64 - 1) as usize])
            };
            let left: String = (0..random.between(0, 40)).map(|_| letter(&mut random)).collect();
            let line = format!("x{left}, for=\"192.0.2.1:80\";host=\"a,b\", for=10.0.0.1");
            assert_eq!(client(Forwarded::Forwarded, &[&line]), "192.0.2.1", "{line}");
            let line = format!("x{left}, 192.0.2.1, 10.0.0.1");
            assert_eq!(client(Forwarded::XForwardedFor, &[&line]), "192.0.2.1", "{line}");
        }
    }

    #[test]
    fn what_is_no_address_stops_the_search() {
        for (line, expected) in [
            ("unknown", "the peer"),
            ("192.0.2.1, unknown", "the peer"),
            ("192.0.2.1, unknown, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, _x, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, 10.0.0.2, garbage, 10.0.0.1", "10.0.0.1"),
            ("192.0.2.1, fe80::1%eth0", "the peer"),
            ("192.0.2.1, [192.0.2.2]", "the peer"),
            ("192.0.2.1, [::1]80", "the peer"),
            ("192.0.2.1, 192.0.2.2:", "the peer"),
            ("192.0.2.1, 192.0.2.2:+1", "the peer"),
        ] {
            assert_eq!(client(Forwarded::XForwardedFor, &[line]), expected, "{line}");
        }
        for (line, expected) in [
            ("for=192.0.2.1, for=unknown", "the peer"),
            ("for=192.0.2.1, for=_x, for=10.0.0.1", "10.0.0.1"),
            ("for=192.0.2.1, by=10.0.0.1", "the peer"),
            ("for=192.0.2.1;for=192.0.2.2", "the peer"),
            ("for=192.0.2.1;host=\"a\\\",for=192.0.2.2;b\";", "192.0.2.1"),
            ("for = 192.0.2.1", "the peer"),
            ("for=\"192.0.2.1", "the peer"),
            ("for=\"19\\2.0.2.1\"", "the peer"),
            ("192.0.2.1", "the peer"),
        ] {
            assert_eq!(client(Forwarded::Forwarded, &[line]), expected, "{line}");
        }
    }

    #[test]
    fn where_all_are_trusted_the_leftmost_is_the_client() {
        let x = Forwarded::XForwardedFor;
        assert_eq!(client(x, &["10.0.0.1, 10.0.0.2", "10.0.0.3"]), "10.0.0.1");
        assert_eq!(client(x, &["[2001:db8:a::1]:80, ::ffff:10.0.0.2"]), "2001:db8:a::1");
        assert_eq!(client(Forwarded::Forwarded, &["for=10.0.0.1, for=10.0.0.2"]), "10.0.0.1");
        assert_eq!(client(x, &[]), "the peer");
        assert_eq!(client(Forwarded::Off, &["192.0.2.1"]), "the peer");
    }

    #[test]
    fn an_address_may_have_a_port_and_brackets() {
        for (line, expected) in [
            ("192.0.2.1:65535", "192.0.2.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:80", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
        ] {
            assert_eq!(client(Forwarded::XForwardedFor, &[line]), expected, "{line}");
            let quoted = format!("for=\"{line}\"");
            assert_eq!(client(Forwarded::Forwarded, &[&quoted]), expected, "{quoted}");
        }
    }
}

//! `host[:port]`, as it stands in Host, in Origin and in absolute request targets.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A host, and a port if there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Authority<'a> {
    /// The name or the address (IPv6 in its brackets), as it was sent.
    pub host: &'a str,
    /// The port, if there is one.
    pub port: Option<u16>,
}

impl<'a> Authority<'a> {
    /// Parses `host[:port]`; `None` if the text is something else.
    ///
    /// This is stricter than RFC 3986: a name has letters, digits, `-`, `.`, `_` and `~`. No user
    /// information, no percent-encoding, nothing empty but the port (`host:`). A link-local address
    /// may have the zone that some clients leave in it (`[fe80::1%eth0]`, RFC 6874).
    pub fn parse(text: &'a str) -> Option<Authority<'a>> {
        let host_end = match text.strip_prefix('[') {
            Some(rest) => rest.find(']')? + 2,
            None => text.find(':').unwrap_or(text.len()),
        };
        let (host, rest) = text.split_at(host_end);
        let port = match rest.strip_prefix(':') {
            Some("") => None,
            Some(digits) => Some(parse_port(digits)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        (is_ipv6(host) || is_name(host)).then_some(Authority { host, port })
    }

    /// Returns whether the host is an IPv4 or a bracketed IPv6 address.
    pub fn is_address(&self) -> bool {
        is_ipv6(self.host) || self.host.parse::<Ipv4Addr>().is_ok()
    }

    /// Returns the host without the final dot of a full domain name.
    pub fn name(&self) -> &'a str {
        self.host.strip_suffix('.').unwrap_or(self.host)
    }
}

fn is_ipv6(host: &str) -> bool {
    let inner = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let Some(inner) = inner else { return false };
    match inner.split_once('%') {
        None => inner.parse::<Ipv6Addr>().is_ok(),
        Some((address, zone)) => {
            address.parse().is_ok_and(|ip: Ipv6Addr| ip.is_unicast_link_local()) && is_name(zone)
        }
    }
}

fn is_name(host: &str) -> bool {
    let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    !host.is_empty() && host.bytes().all(is_name_byte)
}

/// Parses a port of digits only, because `u16::from_str` also takes a sign.
fn parse_port(digits: &str) -> Option<u16> {
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_ports_are_taken_apart() {
        for (text, host, port) in [
            ("localhost", "localhost", None),
            ("a-b.example.:80", "a-b.example.", Some(80)),
            ("1.2.3.4:65535", "1.2.3.4", Some(65535)),
            ("[::1]", "[::1]", None),
            ("[fe80::1]:8765", "[fe80::1]", Some(8765)),
            ("host:", "host", None),
            ("[fe80::1%eth0]:8765", "[fe80::1%eth0]", Some(8765)),
            ("[fe80::1%25wlan0.1]", "[fe80::1%25wlan0.1]", None),
        ] {
            assert_eq!(Authority::parse(text), Some(Authority { host, port }), "{text:?}");
        }
    }

    #[test]
    fn tricks_are_no_authority() {
        for text in [
            "",
            ":80",
            "a b",
            "user@host",
            "user:pass@host",
            "host:+80",
            "host:65536",
            "host:8o",
            "a:1:2",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "[::1%25lo]",
            "[2001:db8::1%eth0]",
            "[fe80::1%]",
            "[fe80::1%a%b]",
            "[fe80::1%a/b]",
            "[v1.a]",
            "a/b",
            "a\\b",
            "a%41",
            "a,b",
            "*",
            "\u{e4}",
            "a\tb",
        ] {
            assert_eq!(Authority::parse(text), None, "{text:?}");
        }
    }
}

//! The PROXY protocol, versions 1 and 2: the header in which a proxy tells whom it connects for,
//! ahead of all else that it sends.
//!
//! Version 1 is one line of text, version 2 a head of 16 bytes, addresses, and values by type and
//! length (TLV). The first bytes tell them apart. What is no header is known as soon as a byte
//! cannot be one's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::core::ground::crc::{CASTAGNOLI, crc32};

/// A header that has come as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProxyHeader {
    /// How many bytes it has: those behind it are the client's.
    pub len: usize,
    /// The client's address. `None` if the proxy speaks for itself (LOCAL), or does not say whom it
    /// connects for (UNKNOWN, UNSPEC, a Unix socket): the address of the connection stands then.
    pub source: Option<SocketAddr>,
}

/// What the bytes break.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// The most bytes of a header: a head and 4 KiB behind it. A version 1 header has at most 107.
pub const PROXY_HEADER_BYTES_MAX: usize = HEAD_BYTES + BODY_BYTES_MAX;

/// Reads the header that `bytes` begin with; `None` if they are the first part of one. It looks at
/// no more than [`PROXY_HEADER_BYTES_MAX`] bytes.
///
/// # Errors
///
/// What is wrong, if `bytes` are not the beginning of a header.
pub fn read_proxy_header(bytes: &[u8]) -> Result<Option<ProxyHeader>, Malformed> {
    let begins = |with: &[u8]| bytes.iter().zip(with).all(|(byte, expected)| byte == expected);
    if begins(SIGNATURE) {
        read_binary(bytes)
    } else if begins(WORD) {
        read_line(bytes)
    } else {
        Err(Malformed("the first bytes are no PROXY header"))
    }
}

/// Reads a header of version 1: `PROXY TCP4 SOURCE DESTINATION PORT PORT` and CR LF.
fn read_line(bytes: &[u8]) -> Result<Option<ProxyHeader>, Malformed> {
    let looked_at = &bytes[..bytes.len().min(LINE_BYTES_MAX)];
    let Some(end) = looked_at.iter().position(|byte| *byte == b'\n') else {
        return match looked_at.len() {
            LINE_BYTES_MAX => Err(Malformed("the line is too long")),
            _ => Ok(None),
        };
    };
    let line = looked_at[..end].strip_suffix(b"\r").ok_or(Malformed("the line ends without CR"))?;
    let rest = line.strip_prefix(WORD).ok_or(Malformed("the line is none of PROXY"))?;
    let source = match rest {
        b"UNKNOWN" => None,
        _ if rest.starts_with(b"UNKNOWN ") => None,
        _ => Some(read_addresses(rest).ok_or(Malformed("the line has no good addresses"))?),
    };
    Ok(Some(ProxyHeader { len: end + 1, source: source.filter(is_somebody) }))
}

fn read_addresses(rest: &[u8]) -> Option<SocketAddr> {
    let mut parts = str::from_utf8(rest).ok()?.split(' ');
    let family = parts.next()?;
    let mut address = || -> Option<IpAddr> {
        match family {
            "TCP4" => parts.next()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
            "TCP6" => parts.next()?.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
            _ => None,
        }
    };
    let (source, _) = (address()?, address()?);
    let mut port = || -> Option<u16> {
        let text = parts.next()?;
        let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
        let is_short = text == "0" || !text.starts_with('0');
        text.parse().ok().filter(|_| is_number && is_short)
    };
    let (source_port, _) = (port()?, port()?);
    parts.next().is_none().then(|| SocketAddr::new(source, source_port))
}

/// Reads a header of version 2.
fn read_binary(bytes: &[u8]) -> Result<Option<ProxyHeader>, Malformed> {
    let Some((head, rest)) = bytes.split_first_chunk::<HEAD_BYTES>() else { return Ok(None) };
    let [.., version, family, high, low] = *head;
    let body_len = usize::from(u16::from_be_bytes([high, low]));
    if body_len > BODY_BYTES_MAX {
        return Err(Malformed("the header is too long"));
    }
    let is_local = match version {
        0x20 => true,
        0x21 => false,
        _ => return Err(Malformed("there is no such version or command")),
    };
    let Some(body) = rest.get(..body_len) else { return Ok(None) };
    let addresses_len = match family >> 4 {
        0 => 0,
        1 => 2 * 4 + 2 * 2,
        2 => 2 * 16 + 2 * 2,
        3 => 2 * 108,
        // With LOCAL what follows means nothing, whatever it is.
        _ if is_local => body_len,
        _ => return Err(Malformed("there is no such family of addresses")),
    };
    if family & 0xf > 2 && !is_local {
        return Err(Malformed("there is no such transport"));
    }
    let len = HEAD_BYTES + body_len;
    if is_local && body_len < addresses_len {
        return Ok(Some(ProxyHeader { len, source: None }));
    }
    let (addresses, values) =
        body.split_at_checked(addresses_len).ok_or(Malformed("the addresses are cut off"))?;
    check_values(&bytes[..len], values)?;
    let is_told = !is_local && family & 0xf != 0;
    let source = is_told.then(|| source_of(addresses)).flatten();
    Ok(Some(ProxyHeader { len, source: source.filter(is_somebody) }))
}

/// Returns the first of two IP addresses.
fn source_of(addresses: &[u8]) -> Option<SocketAddr> {
    match addresses {
        [a, b, c, d, _, _, _, _, high, low, _, _] => {
            let port = u16::from_be_bytes([*high, *low]);
            Some((Ipv4Addr::new(*a, *b, *c, *d), port).into())
        }
        [addresses @ .., high, low, _, _] if addresses.len() == 32 => {
            let (source, _) = addresses.split_first_chunk::<16>()?;
            Some((Ipv6Addr::from(*source), u16::from_be_bytes([*high, *low])).into())
        }
        _ => None,
    }
}

/// Returns whether an address can be a client's: `::` means none to a proxy that keeps it.
fn is_somebody(address: &SocketAddr) -> bool {
    !address.ip().is_unspecified()
}

/// Checks the lengths of all values, and the checksum of the header if there is one.
fn check_values(header: &[u8], mut values: &[u8]) -> Result<(), Malformed> {
    let mut sum_at = None;
    while !values.is_empty() {
        let at = header.len() - values.len();
        let (kind, value, rest) = split_value(values)?;
        match kind {
            CHECKSUM if value.len() != 4 || sum_at.is_some() => {
                return Err(Malformed("the checksum is not one of 4 bytes"));
            }
            CHECKSUM => sum_at = Some(at + VALUE_HEAD_BYTES),
            SSL => check_inner(value.get(SSL_HEAD_BYTES..).ok_or(LYING)?)?,
            _ => {}
        }
        values = rest;
    }
    let Some(at) = sum_at else { return Ok(()) };
    let (before, rest) = header.split_at(at);
    let (sum, behind) = rest.split_at(4);
    // The checksum counts as zeros.
    let parts = [before, &[0; 4], behind];
    match crc32(CASTAGNOLI, parts.into_iter().flatten()).to_be_bytes() == *sum {
        true => Ok(()),
        false => Err(Malformed("the checksum is wrong")),
    }
}

fn check_inner(mut values: &[u8]) -> Result<(), Malformed> {
    while !values.is_empty() {
        (_, _, values) = split_value(values)?;
    }
    Ok(())
}

/// Splits the first value off: its type, its bytes, what follows.
fn split_value(values: &[u8]) -> Result<(u8, &[u8], &[u8]), Malformed> {
    let ([kind, high, low], rest) = values.split_first_chunk().ok_or(LYING)?;
    let len = usize::from(u16::from_be_bytes([*high, *low]));
    let (value, rest) = rest.split_at_checked(len).ok_or(LYING)?;
    Ok((*kind, value, rest))
}

const LYING: Malformed = Malformed("a value is longer than what is left for it");

const WORD: &[u8] = b"PROXY ";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// The longest line, with CR LF: what the protocol says to be ready for.
const LINE_BYTES_MAX: usize = 107;

/// Signature, version and command, family and transport, length.
const HEAD_BYTES: usize = 16;
const BODY_BYTES_MAX: usize = 4096;

/// Type and length.
const VALUE_HEAD_BYTES: usize = 3;
const CHECKSUM: u8 = 0x03;

/// What the proxy knows of the client's TLS. Values of its own follow its head.
const SSL: u8 = 0x20;
const SSL_HEAD_BYTES: usize = 5;

#[cfg(test)]
mod tests {
    use super::*;

    fn v2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let len = (body.len() as u16).to_be_bytes();
        [SIGNATURE, &[command, family], &len, body].concat()
    }

    fn value(kind: u8, bytes: &[u8]) -> Vec<u8> {
        [&[kind], &(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
    }

    /// 192.0.2.1:1000 to 192.0.2.2:80.
    const V4: &[u8] = &[192, 0, 2, 1, 192, 0, 2, 2, 3, 232, 0, 80];

    fn v6() -> Vec<u8> {
        let [from, to] = ["2001:db8::1", "2001:db8::2"].map(|ip| ip.parse::<Ipv6Addr>().unwrap());
        [&from.octets()[..], &to.octets(), &[3, 232, 0, 80]].concat()
    }

    /// Returns the address in a header of these bytes and no others; however they are cut, they are
    /// the first part of one before.
    #[track_caller]
    fn source(bytes: &[u8]) -> Option<String> {
        for cut in 0..bytes.len() {
            assert_eq!(read_proxy_header(&bytes[..cut]), Ok(None), "cut at {cut}");
        }
        let header = read_proxy_header(bytes).unwrap().expect("it is complete");
        assert_eq!(header.len, bytes.len());
        let behind = [bytes, b"\r\nGET"].concat();
        assert_eq!(read_proxy_header(&behind), Ok(Some(header)), "what follows is the client's");
        header.source.map(|source| source.to_string())
    }

    #[test]
    fn a_line_has_the_address_of_the_client() {
        let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff \
                       ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
        assert_eq!(longest.len(), LINE_BYTES_MAX);
        for (line, expected) in [
            ("PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n", Some("192.0.2.1:1000")),
            ("PROXY TCP4 255.255.255.255 0.0.0.0 0 65535\r\n", Some("255.255.255.255:0")),
            ("PROXY TCP6 2001:db8::1 ::1 1000 80\r\n", Some("[2001:db8::1]:1000")),
            ("PROXY TCP6 ::ffff:192.0.2.1 ::1 1000 80\r\n", Some("[::ffff:192.0.2.1]:1000")),
            ("PROXY TCP6 :: ::1 1000 80\r\n", None),
            ("PROXY UNKNOWN\r\n", None),
            ("PROXY UNKNOWN 192.0.2.1 whatever\r\n", None),
            (longest, None),
        ] {
            assert_eq!(source(line.as_bytes()).as_deref(), expected, "{line}");
        }
    }

    #[test]
    fn what_is_no_line_of_the_protocol_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LINE_BYTES_MAX - 15));
        for line in [
            "G",
            "GET / HTTP/1.1\r\n",
            "proxy TCP4 192.0.2.1 192.0.2.2 1000 80\r\n",
            "PROXY\r\n",
            "PROXY \r\n",
            "PROXY TCP4\r\n",
            "PROXY UNKNOWNS\r\n",
            "PROXY UNKNOWN\n",
            "PROXY TCP5 192.0.2.1 192.0.2.2 1000 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80 \r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1000 80 1\r\n",
            "PROXY TCP4  192.0.2.1 192.0.2.2 1000 80\r\n",
            "PROXY TCP4\t192.0.2.1 192.0.2.2 1000 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1000\r\n",
            "PROXY TCP4 192.0.2.1 1000 80\r\n",
            "PROXY TCP4 192.0.2.256 192.0.2.2 1000 80\r\n",
            "PROXY TCP4 192.0.2.1 nowhere 1000 80\r\n",
            "PROXY TCP4 192.0.02.1 192.0.2.2 1000 80\r\n",
            "PROXY TCP4 192.0.2 192.0.2.2 1000 80\r\n",
            "PROXY TCP4 2001:db8::1 ::1 1000 80\r\n",
            "PROXY TCP6 192.0.2.1 192.0.2.2 1000 80\r\n",
            "PROXY TCP6 fe80::1%1 ::1 1000 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 65536 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 +1000 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 01000 80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1000 -80\r\n",
            "PROXY TCP4 192.0.2.1 192.0.2.2 1000 \r\n",
            "PROXY TCP4 192.0.2.1\0 192.0.2.2 1000 80\r\n",
            &long,
            &long[..LINE_BYTES_MAX],
        ] {
            assert!(read_proxy_header(line.as_bytes()).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_binary_header_has_the_address_of_the_client() {
        let unix = [b'/'; 216];
        let noise = [V4, &value(4, &[0; 4084 - 3])].concat();
        assert_eq!(noise.len(), BODY_BYTES_MAX);
        let tls = [
            V4,
            &value(0x20, &[&[7, 0, 0, 0, 0], &value(0x22, b"cn")[..]].concat()),
            &value(5, b"id"),
            &value(0xee, b""),
        ];
        let v4 = Some("192.0.2.1:1000");
        for (header, expected) in [
            (v2(0x21, 0x11, V4), v4),
            (v2(0x21, 0x12, V4), v4),
            (v2(0x21, 0x21, &v6()), Some("[2001:db8::1]:1000")),
            (v2(0x21, 0x11, &noise), v4),
            (v2(0x21, 0x11, &tls.concat()), v4),
            (v2(0x21, 0x10, V4), None),
            (v2(0x21, 0x31, &unix), None),
            (v2(0x21, 0x00, &[]), None),
            (v2(0x21, 0x00, &value(4, &[0; 9])), None),
            (v2(0x20, 0x00, &[]), None),
            (v2(0x20, 0x11, V4), None),
            (v2(0x20, 0x11, &[]), None),
            (v2(0x20, 0x11, &V4[..11]), None),
            (v2(0x20, 0xff, b"anything"), None),
            (v2(0x21, 0x21, &[&[0; 16], &v6()[16..]].concat()), None),
        ] {
            assert_eq!(source(&header).as_deref(), expected, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn a_binary_header_that_lies_is_refused() {
        let behind = |values: &[u8]| v2(0x21, 0x11, &[V4, values].concat());
        let sum = value(3, &[0; 4]);
        for header in [
            v2(0x11, 0x11, V4),
            v2(0x31, 0x11, V4),
            v2(0x22, 0x11, V4),
            v2(0x21, 0x41, V4),
            v2(0x21, 0x13, V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x11, &[]),
            v2(0x21, 0x21, V4),
            v2(0x21, 0x31, &[b'/'; 215]),
            v2(0x21, 0x11, &[0; BODY_BYTES_MAX + 1]),
            behind(&[4]),
            behind(&[4, 0]),
            behind(&[4, 0, 1]),
            behind(&[4, 255, 255, 0, 0]),
            behind(&value(3, &[0; 3])),
            behind(&value(3, &[0; 5])),
            behind(&[&sum[..], &sum[..]].concat()),
            behind(&value(0x20, &[0; 4])),
            behind(&value(0x20, &[0, 0, 0, 0, 0, 0x22, 0, 9, b'x'])),
            v2(0x21, 0x00, &[1]),
            [&SIGNATURE[..11], b"\r"].concat(),
            b"\r\n\r\nGET".to_vec(),
        ] {
            assert!(read_proxy_header(&header).is_err(), "{}", header.escape_ascii());
        }
        let long = v2(0x21, 0x11, &[0; BODY_BYTES_MAX + 1]);
        assert!(read_proxy_header(&long[..16]).is_err(), "its head says so already");
    }

    #[test]
    fn a_checksum_is_verified() {
        assert_eq!(crc32(CASTAGNOLI, b"123456789".iter()), 0xe306_9283, "RFC 3720's own");
        let body = [V4, &value(5, b"id"), &value(3, &[0; 4]), &value(4, &[0; 7])].concat();
        let mut header = v2(0x21, 0x11, &body);
        let at = HEAD_BYTES + V4.len() + 5 + VALUE_HEAD_BYTES;
        let sum = crc32(CASTAGNOLI, header.iter());
        header[at..at + 4].copy_from_slice(&sum.to_be_bytes());
        assert_eq!(source(&header).as_deref(), Some("192.0.2.1:1000"));
        // A changed bit makes another header, of another length or family perhaps, and no good one;
        // but for the type of the checksum, which is none then.
        for bit in (0..8 * header.len()).filter(|bit| bit / 8 != at - VALUE_HEAD_BYTES) {
            let mut changed = header.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let read = read_proxy_header(&changed);
            assert!(!matches!(read, Ok(Some(ProxyHeader { source: Some(_), .. }))), "{bit}");
        }
    }
}

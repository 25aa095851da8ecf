//! Where to listen: `host:port`, `[v6]:port`, `*:port` or `unix:/path`; also `proxy:` and one of
//! these, with the feature `tls` `tls:` and `proxy+tls:`.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV6};
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on, as it was written.
///
/// A host name is looked up when the listener is bound, not before; port 0 lets the system choose.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host:port` or `[v6]:port`, in the form that [`std::net::ToSocketAddrs`] takes; or `*:port`
    /// for all addresses of this machine, IPv4 and IPv6.
    Tcp(String),
    /// An absolute path of at most 107 bytes, the limit of the kernel.
    Unix(PathBuf),
    /// TLS, spoken at the address inside, which is one of the two.
    #[cfg(feature = "tls")]
    Tls(Box<Address>),
    /// A PROXY header, and after it what is spoken at the address inside, which is one of the
    /// others.
    Proxy(Box<Address>),
}

/// The text is none of the forms of an [`Address`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressError;

impl Address {
    /// Returns what is bound: the address without what is spoken there.
    pub(crate) fn socket(&self) -> &Address {
        match self {
            #[cfg(feature = "tls")]
            Address::Tls(inside) => inside,
            Address::Proxy(inside) => inside.socket(),
            address => address,
        }
    }

    /// Returns whether TLS is spoken there, perhaps behind a PROXY header.
    pub fn is_tls(&self) -> bool {
        match self {
            #[cfg(feature = "tls")]
            Address::Tls(_) => true,
            Address::Proxy(inside) => inside.is_tls(),
            _ => false,
        }
    }

    /// Returns whether a connection there begins with a PROXY header.
    pub fn is_proxy(&self) -> bool {
        matches!(self, Address::Proxy(_))
    }

    /// Returns whether a text would be an address of TLS, if this build had TLS.
    #[cfg(not(feature = "tls"))]
    pub(super) fn names_tls(text: &str) -> bool {
        text.starts_with("tls:") || text.starts_with("proxy+tls:")
    }

    /// Returns whether it means all IPv6 addresses of this machine, and no IPv4 address.
    fn is_any_ipv6_alone(&self) -> bool {
        let Address::Tcp(text) = self.socket() else { return false };
        text.parse::<SocketAddrV6>().is_ok_and(|address| address.ip().is_unspecified())
    }

    /// Returns whether it means all IPv4 addresses of this machine, alone or with others.
    fn takes_any_ipv4(&self) -> bool {
        let Address::Tcp(text) = self.socket() else { return false };
        let host = text.rsplit_once(':').map(|(host, _)| host);
        host == Some("*") || host.is_some_and(|host| host.parse() == Ok(Ipv4Addr::UNSPECIFIED))
    }

    /// Returns the addresses that seem to take IPv4 connections too, but do not.
    pub(super) fn without_ipv4(all: &[Address]) -> impl Iterator<Item = &Address> {
        let has_any_ipv4 = all.iter().any(Address::takes_any_ipv4);
        all.iter().filter(move |address| address.is_any_ipv6_alone() && !has_any_ipv4)
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Address, AddressError> {
        if let Some(inside) = text.strip_prefix("proxy:") {
            return parse_socket(inside).map(|inside| Address::Proxy(inside.into()));
        }
        #[cfg(feature = "tls")]
        if let Some(inside) = text.strip_prefix("tls:") {
            return parse_socket(inside).map(|inside| Address::Tls(inside.into()));
        }
        #[cfg(feature = "tls")]
        if let Some(inside) = text.strip_prefix("proxy+tls:") {
            let tls = Address::Tls(parse_socket(inside)?.into());
            return Ok(Address::Proxy(tls.into()));
        }
        parse_socket(text)
    }
}

/// Reads an address without what is spoken there.
fn parse_socket(text: &str) -> Result<Address, AddressError> {
    match text.strip_prefix("unix:") {
        Some(path) if is_path(path) => Ok(Address::Unix(path.into())),
        None if is_host_and_port(text) => Ok(Address::Tcp(text.into())),
        _ => Err(AddressError),
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(text) => f.write_str(text),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "tls")]
            Address::Tls(inside) => write!(f, "tls:{inside}"),
            Address::Proxy(inside) => {
                write!(f, "proxy{}{inside}", if inside.is_tls() { "+" } else { ":" })
            }
        }
    }
}

impl fmt::Display for AddressError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be host:port, [v6]:port, *:port or unix:/path (of at most 107 bytes)")
    }
}

impl std::error::Error for AddressError {}

/// `sun_path` has 108 bytes, the last of them a NUL (unix(7)).
const PATH_BYTES_MAX: usize = 107;

fn is_path(path: &str) -> bool {
    path.starts_with('/') && path.len() <= PATH_BYTES_MAX && !path.contains(['\0', ','])
}

fn is_host_and_port(text: &str) -> bool {
    if text.starts_with('[') {
        return text.parse::<SocketAddrV6>().is_ok();
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let in_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    let in_number = |byte: u8| byte.is_ascii_digit() || byte == b'.';
    // A mistyped number such as 127.0.0.256 must not become a query to the name server.
    let is_host = host == "*"
        || !host.is_empty()
            && host.bytes().all(in_host)
            && (!host.bytes().all(in_number) || host.parse::<Ipv4Addr>().is_ok());
    is_host && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_as_it_was_written() {
        for text in [
            "127.0.0.1:8765",
            "0.0.0.0:0",
            "localhost:80",
            "my-device.local:65535",
            "*:80",
            "*:0",
            "[::]:8765",
            "[fe80::1%2]:80",
            "unix:/run/heartwheel.sock",
        ] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn tls_stands_before_any_address_and_once() {
        for text in ["tls:127.0.0.1:8765", "tls:*:443", "tls:[::]:8765", "tls:unix:/run/h.sock"] {
            let address = text.parse::<Address>().unwrap();
            assert_eq!(address.to_string(), text);
            assert!(address.is_tls() && !address.socket().is_tls());
        }
        for text in ["tls:", "tls:8765", "tls:tls:*:443", "tls://h:1", "TLS:*:443"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[cfg(feature = "tls")]
    #[test]
    fn a_proxy_header_comes_before_tls() {
        for text in ["proxy+tls:127.0.0.1:8765", "proxy+tls:unix:/run/h.sock"] {
            let address = text.parse::<Address>().unwrap();
            assert_eq!(address.to_string(), text);
            assert!(address.is_tls() && address.is_proxy() && !address.socket().is_tls());
        }
        for text in ["proxy:tls:*:443", "tls:proxy:*:443", "tls+proxy:*:443", "proxy+tls:tls:*:1"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn proxy_stands_before_any_address_and_once() {
        for text in ["proxy:127.0.0.1:8765", "proxy:*:80", "proxy:[::]:1", "proxy:unix:/run/h"] {
            let address = text.parse::<Address>().unwrap();
            assert_eq!(address.to_string(), text);
            assert!(address.is_proxy() && !address.is_tls() && !address.socket().is_proxy());
        }
        for text in ["proxy:", "proxy:8765", "proxy:proxy:*:1", "proxy://h:1", "PROXY:*:1"] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        for text in [
            "",
            "8765",
            ":8765",
            "localhost",
            "localhost:",
            "localhost:+80",
            "localhost:65536",
            "127.0.0.256:80",
            "::1:80",
            "*",
            "*:",
            "*.local:80",
            "[*]:80",
            "[::1]",
            "[::1:80",
            "[localhost]:80",
            "http://localhost:80",
            "local host:80",
            "unix:",
            "unix:relative",
            "unix:/a,b",
        ] {
            assert_eq!(text.parse::<Address>(), Err(AddressError), "{text}");
        }
    }

    #[test]
    fn a_unix_path_longer_than_the_kernel_takes_is_refused() {
        let path = |bytes: usize| format!("unix:/{}", "x".repeat(bytes - 1));
        assert!(path(107).parse::<Address>().is_ok());
        assert!(path(108).parse::<Address>().is_err());
    }
}

//! The address of a peer.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The peer's address in 18 bytes: an IPv4 address as IPv6 maps it, and for a Unix socket the
/// address that means none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PeerAddress {
    ip: [u8; 16],
    port: u16,
}

impl PeerAddress {
    pub fn new(address: Option<SocketAddr>) -> PeerAddress {
        let ip = match address.map(|address| address.ip()) {
            Some(IpAddr::V4(ip)) => ip.to_ipv6_mapped(),
            Some(IpAddr::V6(ip)) => ip,
            None => Ipv6Addr::UNSPECIFIED,
        };
        PeerAddress { ip: ip.octets(), port: address.map_or(0, |address| address.port()) }
    }

    pub fn address(&self) -> Option<SocketAddr> {
        let ip = Ipv6Addr::from(self.ip);
        (!ip.is_unspecified()).then(|| SocketAddr::from((ip.to_canonical(), self.port)))
    }
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address() {
            // A proxy has told an address without a port.
            Some(address) if address.port() == 0 => address.ip().fmt(f),
            Some(address) => address.fmt(f),
            None => f.write_str("unix"),
        }
    }
}

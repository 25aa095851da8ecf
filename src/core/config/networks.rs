//! Networks, and the peers that are in one of them.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// A list of networks, and perhaps all Unix sockets. The default is empty: nobody is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Unix,
    Network(Network),
}

impl Networks {
    /// Returns whether nobody is in it.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Returns whether an address is in one of the networks. IPv4 addresses that IPv6 maps are
    /// taken as IPv4.
    pub fn has(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.networks().any(|network| network.has(ip))
    }

    /// Returns whether a peer is in one of the networks; `None` is one on a Unix socket.
    pub fn has_peer(&self, peer: Option<SocketAddr>) -> bool {
        match peer {
            Some(address) => self.has(address.ip()),
            None => self.entries.contains(&Entry::Unix),
        }
    }

    /// Returns the networks.
    pub fn networks(&self) -> impl Iterator<Item = Network> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Unix => None,
            Entry::Network(network) => Some(*network),
        })
    }
}

/// A network: all addresses that begin with the same bits. In text `192.0.2.0/24`, or an address
/// alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    ip: IpAddr,
    bits: u8,
}

impl Network {
    /// Returns whether it has all addresses of a family.
    pub fn is_everyone(&self) -> bool {
        self.bits == 0
    }

    fn has(&self, ip: IpAddr) -> bool {
        match (self.ip, ip) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let apart = u32::from(own) ^ u32::from(other);
                apart.leading_zeros() >= self.bits.into()
            }
            (IpAddr::V6(own), IpAddr::V6(other)) => {
                let apart = u128::from(own) ^ u128::from(other);
                apart.leading_zeros() >= self.bits.into()
            }
            _ => false,
        }
    }

    /// Returns whether all bits behind the first ones are zeros.
    fn is_whole(&self) -> bool {
        let zeros = match self.ip {
            IpAddr::V4(ip) => u32::from(ip).trailing_zeros(),
            IpAddr::V6(ip) => u128::from(ip).trailing_zeros(),
        };
        zeros + u32::from(self.bits) >= self.bits_max().into()
    }

    fn bits_max(&self) -> u8 {
        if self.ip.is_ipv4() { 32 } else { 128 }
    }
}

impl FromStr for Network {
    type Err = ();

    fn from_str(text: &str) -> Result<Network, ()> {
        let (ip, bits) = text.split_once('/').map_or((text, None), |(ip, bits)| (ip, Some(bits)));
        let ip: IpAddr = ip.parse().map_err(|_| ())?;
        let all = Network { ip, bits: if ip.is_ipv4() { 32 } else { 128 } };
        let bits = match bits {
            None => all.bits,
            Some(bits) if bits.starts_with('+') => return Err(()),
            Some(bits) => bits.parse().map_err(|_| ())?,
        };
        let network = Network { ip, bits };
        // A mapped address never comes as such; bits behind the first ones are a slip.
        let is_mapped = ip.to_canonical() != ip;
        match bits <= all.bits && network.is_whole() && !is_mapped {
            true => Ok(network),
            false => Err(()),
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bits == self.bits_max() {
            true => self.ip.fmt(f),
            false => write!(f, "{}/{}", self.ip, self.bits),
        }
    }
}

/// Networks and `unix`, comma-separated, or `off`.
impl FromStr for Networks {
    type Err = ();

    fn from_str(text: &str) -> Result<Networks, ()> {
        if text == "off" {
            return Ok(Networks::default());
        }
        let entry = |text: &str| match text {
            "unix" => Ok(Entry::Unix),
            network => network.parse().map(Entry::Network),
        };
        let entries = text.split(',').map(|text| entry(text.trim())).collect::<Result<_, ()>>()?;
        Ok(Networks { entries })
    }
}

impl fmt::Display for Networks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_empty() {
            return f.write_str("off");
        }
        for (index, entry) in self.entries.iter().enumerate() {
            f.write_str(if index > 0 { "," } else { "" })?;
            match entry {
                Entry::Unix => f.write_str("unix")?,
                Entry::Network(network) => network.fmt(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_has_the_addresses_that_begin_with_its_bits() {
        let networks: Networks =
            "10.0.0.0/8, 192.0.2.7,2001:db8::/33,unix".parse().expect("they are networks");
        for (ip, expected) in [
            ("10.255.255.255", true),
            ("11.0.0.0", false),
            ("192.0.2.7", true),
            ("192.0.2.6", false),
            ("::ffff:10.1.2.3", true),
            ("2001:db8:7fff::1", true),
            ("2001:db8:8000::1", false),
            ("::a00:1", false),
        ] {
            assert_eq!(networks.has(ip.parse().unwrap()), expected, "{ip}");
        }
        assert!(networks.has_peer(None));
        assert!(!"10.0.0.0/8".parse::<Networks>().unwrap().has_peer(None));
        let everyone: Networks = "0.0.0.0/0".parse().unwrap();
        assert!(everyone.has("203.0.113.1".parse().unwrap()));
        assert!(!everyone.has("::1".parse().unwrap()));
        assert!(everyone.networks().all(|network| network.is_everyone()));
    }

    #[test]
    fn networks_are_shown_as_they_are_read() {
        for text in ["off", "unix", "10.0.0.0/8,unix,::1", "0.0.0.0/0", "::/0", "fc00::/7"] {
            assert_eq!(text.parse::<Networks>().unwrap().to_string(), text);
        }
        assert_eq!("192.0.2.7/32".parse::<Networks>().unwrap().to_string(), "192.0.2.7");
        for text in [
            "",
            ",",
            "10.0.0.0/8,",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.1/8",
            "::1/127",
            "10/8",
            "::ffff:10.0.0.0/104",
            "::/129",
            "::/256",
            "localhost",
            "unix:/x",
            "on",
        ] {
            assert_eq!(text.parse::<Networks>(), Err(()), "{text}");
        }
    }
}

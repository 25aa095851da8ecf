//! Which clients are the canary: by a stable hash of what names a client. So a client stays in its
//! cohort, here and on other machines, and the canary keeps its clients when it grows.
//!
//! The hash is the CRC-32 of gzip and Ethernet, of the salt and the key behind it, modulo 10,000:
//! balancers and scripts have it at hand and can pick out the same clients.

use std::fmt;
use std::str::FromStr;

use crate::core::ground::cohort::Cohort;
use crate::core::ground::crc::{GZIP, crc32};
use crate::core::wire::http::{Request, is_token};

/// What names a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CohortKey {
    /// The first value of this header.
    Header(String),
    /// The first value of this name in the query, decoded.
    Query(String),
    /// The identity.
    Identity,
    /// The IP address.
    Ip,
}

impl CohortKey {
    /// Returns the cohort of a request's client: that which the hundredths of a percent pick out
    /// are the canary. A client that the key does not name is not.
    pub fn cohort(&self, request: &Request, hundredths: u32, salt: &str) -> Cohort {
        let bucket = match self {
            CohortKey::Header(name) => {
                request.header_values(name).next().map(|value| bucket(salt, value))
            }
            CohortKey::Query(name) => {
                request.query_value(name).map(|value| bucket(salt, value.as_bytes()))
            }
            CohortKey::Identity => request.identity().map(|name| bucket(salt, name.as_bytes())),
            CohortKey::Ip => {
                let address = request.peer().map(|address| address.to_canonical().to_string());
                address.map(|address| bucket(salt, address.as_bytes()))
            }
        };
        match bucket {
            Some(bucket) if bucket < hundredths => Cohort::Canary,
            _ => Cohort::Stable,
        }
    }
}

impl Default for CohortKey {
    fn default() -> CohortKey {
        CohortKey::Header("X-Device-Id".into())
    }
}

impl FromStr for CohortKey {
    type Err = ();

    fn from_str(text: &str) -> Result<CohortKey, ()> {
        match text.split_once(':') {
            None if text == "identity" => Ok(CohortKey::Identity),
            None if text == "ip" => Ok(CohortKey::Ip),
            Some(("header", name)) if is_token(name.as_bytes()) => {
                Ok(CohortKey::Header(name.to_owned()))
            }
            Some(("query", name)) if !name.is_empty() => Ok(CohortKey::Query(name.to_owned())),
            _ => Err(()),
        }
    }
}

impl fmt::Display for CohortKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CohortKey::Header(name) => write!(f, "header:{name}"),
            CohortKey::Query(name) => write!(f, "query:{name}"),
            CohortKey::Identity => f.write_str("identity"),
            CohortKey::Ip => f.write_str("ip"),
        }
    }
}

/// Returns a number below 10,000. An empty key is as any other.
fn bucket(salt: &str, key: &[u8]) -> u32 {
    crc32(GZIP, salt.as_bytes().iter().chain(key)) % BUCKETS
}

const BUCKETS: u32 = 10_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// The same on all machines: `zlib.crc32(salt + key) % 10000` in Python.
    #[test]
    fn buckets_are_those_of_the_standard_hash() {
        for (salt, key, expected) in [
            ("", "", 0),
            ("", "123456789", 0xCBF4_3926_u32 % 10_000),
            ("1234", "56789", 0xCBF4_3926_u32 % 10_000),
            ("v2", "device-17", 9231),
            ("v3", "device-17", 6145),
            ("", "\u{e4}\u{20ac}", 7472),
        ] {
            assert_eq!(bucket(salt, key.as_bytes()), expected, "{salt} {key}");
        }
    }

    #[test]
    fn a_share_is_what_it_is_called_and_grows_by_others() {
        for salt in ["", "2026-11"] {
            let counts = (0..1_000_000_u32).fold([0; 2], |mut counts, number| {
                let bucket = bucket(salt, format!("device-{number:07}").as_bytes());
                counts[0] += u32::from(bucket < 500);
                counts[1] += u32::from(bucket < 1000);
                counts
            });
            assert!((49_000..=51_000).contains(&counts[0]), "{counts:?}");
            assert!((99_000..=101_000).contains(&counts[1]), "{counts:?}");
        }
    }

    #[test]
    fn a_key_is_shown_as_it_is_read() {
        for key in ["header:X-Device-Id", "query:device", "identity", "ip"] {
            assert_eq!(key.parse::<CohortKey>().unwrap().to_string(), key);
        }
        for bad in ["", "header", "header:", "header:a b", "query:", "Ip", "jwt:sub"] {
            assert_eq!(bad.parse::<CohortKey>(), Err(()), "{bad}");
        }
    }
}

//! Where a client connects to: a URL.

use std::fmt;
use std::str::FromStr;

use crate::core::wire::http::Authority;

/// The address of a server: `ws://HOST[:PORT][/PATH][?QUERY]`, or `wss:`.
///
/// `http` and `https` are taken as `ws` and `wss`. A URL without a path means `/ws`. User
/// information and a fragment are refused (RFC 6455, 3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    is_secure: bool,
    #[cfg(feature = "mqtt")]
    is_broker: bool,
    /// The name or the address, without brackets.
    name: String,
    port: u16,
    /// As it stands in Host.
    host: String,
    path: String,
}

impl Target {
    /// Returns whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.is_secure
    }

    /// Returns the host's name or address: of IPv6 without its brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns the value of `Host`: with the port, unless it is the usual one.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the path with its query.
    pub fn path(&self) -> &str {
        &self.path
    }
}

impl FromStr for Target {
    type Err = TargetError;

    fn from_str(text: &str) -> Result<Target, TargetError> {
        let (scheme, rest) = text.split_once("://").ok_or(TargetError::Scheme)?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "ws" | "http" => false,
            "wss" | "https" => true,
            _ => return Err(TargetError::Scheme),
        };
        Target::parse(is_secure, rest, if is_secure { 443 } else { 80 })
    }
}

impl Target {
    /// Reads the address of an MQTT broker: `mqtt://HOST[:PORT]`, or `mqtts:`. The ports are 1883
    /// and 8883.
    ///
    /// # Errors
    ///
    /// As of other addresses; a path is an error, too.
    #[cfg(feature = "mqtt")]
    pub fn broker(text: &str) -> Result<Target, TargetError> {
        let (scheme, rest) = text.split_once("://").ok_or(TargetError::Broker)?;
        let is_secure = match scheme.to_ascii_lowercase().as_str() {
            "mqtt" => false,
            "mqtts" => true,
            _ => return Err(TargetError::Broker),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        if rest.contains(['/', '?', '#']) {
            return Err(TargetError::Broker);
        }
        let mut target = Target::parse(is_secure, rest, if is_secure { 8883 } else { 1883 })?;
        target.path.clear();
        target.is_broker = true;
        Ok(target)
    }

    fn parse(is_secure: bool, rest: &str, usual: u16) -> Result<Target, TargetError> {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let Authority { host, port } = Authority::parse(authority).ok_or(TargetError::Host)?;
        let port = port.unwrap_or(usual);
        if port == 0 {
            return Err(TargetError::Host);
        }
        let is_clean = path.bytes().all(|byte| matches!(byte, b'!'..=b'~') && byte != b'#');
        if !is_clean {
            return Err(TargetError::Path);
        }
        let path = match path.as_bytes() {
            [] => "/ws".to_owned(),
            [b'?', ..] => format!("/ws{path}"),
            _ => path.to_owned(),
        };
        let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let host = match port == usual {
            true => host.to_owned(),
            false => format!("{host}:{port}"),
        };
        Ok(Target {
            is_secure,
            #[cfg(feature = "mqtt")]
            is_broker: false,
            name,
            port,
            host,
            path,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "wss" } else { "ws" };
        #[cfg(feature = "mqtt")]
        let scheme = match (self.is_broker, self.is_secure) {
            (true, false) => "mqtt",
            (true, true) => "mqtts",
            (false, _) => scheme,
        };
        write!(f, "{scheme}://{}{}", self.host, self.path)
    }
}

/// Why a URL is none of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetError {
    /// It does not begin with `ws://`, `wss://`, `http://` or `https://`.
    Scheme,
    /// It is not `mqtt://host[:port]`, or `mqtts:`.
    #[cfg(feature = "mqtt")]
    Broker,
    /// What follows is not `host[:port]`.
    Host,
    /// The path has a fragment, or anything but visible ASCII.
    Path,
}

impl fmt::Display for TargetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TargetError::Scheme => "must begin with ws://, wss://, http:// or https://",
            #[cfg(feature = "mqtt")]
            TargetError::Broker => "must be mqtt://HOST[:PORT] or mqtts://HOST[:PORT]",
            TargetError::Host => "must name a host, perhaps with a port, and no user",
            TargetError::Path => "must have a path of visible ASCII, without a fragment",
        })
    }
}

impl std::error::Error for TargetError {}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(url: &str) -> (bool, String, u16, String, String) {
        let target: Target = url.parse().unwrap_or_else(|error| panic!("{url}: {error}"));
        let Target { is_secure, name, port, host, path, .. } = target;
        (is_secure, name, port, host, path)
    }

    #[test]
    fn urls_are_read() {
        for (url, is_secure, name, port, host, path) in [
            ("ws://a", false, "a", 80, "a", "/ws"),
            ("ws://a/", false, "a", 80, "a", "/"),
            ("HTTP://a:8765", false, "a", 8765, "a:8765", "/ws"),
            ("wss://a.b:443/x?y=1", true, "a.b", 443, "a.b", "/x?y=1"),
            ("https://[::1]:9/", true, "::1", 9, "[::1]:9", "/"),
            ("ws://10.0.0.1?after=0-0", false, "10.0.0.1", 80, "10.0.0.1", "/ws?after=0-0"),
        ] {
            let expected = (is_secure, name.into(), port, host.into(), path.into());
            assert_eq!(parts(url), expected, "{url}");
            let target: Target = url.parse().unwrap();
            assert_eq!(target.to_string().parse(), Ok(target), "{url}");
        }
    }

    #[test]
    #[cfg(feature = "mqtt")]
    fn brokers_have_schemes_and_ports_of_their_own() {
        for (url, is_secure, name, port, shown) in [
            ("mqtt://a", false, "a", 1883, "mqtt://a"),
            ("MQTTS://a.b/", true, "a.b", 8883, "mqtts://a.b"),
            ("mqtt://[::1]:9", false, "::1", 9, "mqtt://[::1]:9"),
            ("mqtts://10.0.0.1:1883", true, "10.0.0.1", 1883, "mqtts://10.0.0.1:1883"),
        ] {
            let target = Target::broker(url).unwrap();
            let parts = (target.is_secure(), target.name(), target.port());
            assert_eq!(parts, (is_secure, name, port), "{url}");
            assert_eq!(target.to_string(), shown);
        }
        for url in ["ws://a", "mqtt:a", "mqtt://a/topic", "mqtt://a?x", "mqtt://a#x"] {
            assert_eq!(Target::broker(url), Err(TargetError::Broker), "{url}");
        }
        for url in ["mqtt://", "mqtt://user@a", "mqtt://a:0"] {
            assert_eq!(Target::broker(url), Err(TargetError::Host), "{url}");
        }
        assert_eq!("mqtt://a".parse::<Target>(), Err(TargetError::Scheme));
    }

    #[test]
    fn what_is_no_url_of_a_server_is_refused() {
        use TargetError::{Host, Path, Scheme};
        for (url, error) in [
            ("", Scheme),
            ("a", Scheme),
            ("ftp://a", Scheme),
            ("://a", Scheme),
            ("ws:///x", Host),
            ("ws://", Host),
            ("ws://user@a", Host),
            ("ws://user:word@a/", Host),
            ("ws://a:0", Host),
            ("ws://a:65536", Host),
            ("ws://a b", Host),
            ("ws://[::1", Host),
            ("ws://a#b", Host),
            ("ws://a/#b", Path),
            ("ws://a/b c", Path),
            ("ws://a/\r\nX: y", Path),
            ("ws://a/ü", Path),
        ] {
            assert_eq!(url.parse::<Target>(), Err(error), "{url:?}");
        }
    }
}

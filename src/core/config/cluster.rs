//! What [`Config`](super::Config) says of a cluster.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::kinds::{Shown, ValueKind};
use super::{Config, Term};

/// Which Redis several servers share, and what becomes of publications while it is away.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Cluster {
    /// Where Redis is. Default none: the server is alone.
    pub redis: Option<RedisUrl>,
    /// The name of the cluster, which its servers share. Default `heartwheel`; 1 to 64 characters
    /// of `A-Z a-z 0-9 . _ -`.
    pub name: String,
    /// The name of this server, which no other server of the cluster has. Default: the name of the
    /// machine.
    pub node: Option<String>,
    /// About how many events the log in Redis retains. Default 100,000; 100 to 100,000,000.
    pub retain_events: u64,
    /// What becomes of publications while Redis is away. Default: they are refused.
    pub offline: Offline,
    /// How long Redis may be away before `/readyz` says so. Default 10 s.
    pub grace: Duration,
}

impl Default for Cluster {
    fn default() -> Cluster {
        Cluster {
            redis: None,
            name: "heartwheel".into(),
            node: None,
            retain_events: 100_000,
            offline: Offline::Refuse,
            grace: Duration::from_secs(10),
        }
    }
}

/// What becomes of publications while Redis is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offline {
    /// They are refused.
    Refuse,
    /// They wait for it: 256 KiB of them, for 10 s.
    Queue,
}

/// Where Redis is. What is shown of it has no password.
///
/// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss:` over TLS; `unix:/path` or
/// `unix://USER:PASSWORD@/path`; or
/// `sentinel://[USER:PASSWORD@]HOST[:PORT],HOST[:PORT]/NAME[?sentinel=[USER]:PASSWORD]`, where the
/// sentinels say where the master `NAME` is, and `sentinels:`, which speaks TLS with them and with
/// the master. User and password may be written in percent encoding. What stands before the hosts
/// goes to Redis, and to sentinels that ask for a password, unless `?sentinel=` names another one.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    /// How it is found.
    pub(crate) place: RedisPlace,
    pub(crate) credentials: Option<Credentials>,
    pub(crate) database: u32,
}

/// How a Redis is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RedisPlace {
    /// At a host and a port.
    Tcp(String, u16),
    /// There, by TLS.
    Tls(String, u16),
    /// At a socket in the file system.
    Unix(String),
    /// Where one of these says that the master is.
    Sentinel(Sentinels),
}

/// Those who say where a master is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sentinels {
    /// Where they are.
    pub hosts: Vec<(String, u16)>,
    /// The name of the master.
    pub master: String,
    /// They speak TLS, and so does the master.
    pub is_secure: bool,
    /// Who asks them, and the password; otherwise they are told what Redis is told, if they ask.
    pub credentials: Option<Credentials>,
}

/// A user, if one is named, and a password. Nothing of it is shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub user: Option<String>,
    pub password: String,
}

impl Credentials {
    /// Reads `[USER]:PASSWORD` in percent encoding.
    fn read(text: &str) -> Result<Credentials, RedisUrlError> {
        let (user, password) = text.split_once(':').ok_or(RedisUrlError)?;
        let user = Some(decoded(user)?).filter(|user| !user.is_empty());
        match decoded(password)? {
            password if password.is_empty() => Err(RedisUrlError),
            password => Ok(Credentials { user, password }),
        }
    }

    /// Returns what stands for them: a user's name may hold what is special in a URL, so it is not
    /// shown either.
    fn shown(&self) -> &'static str {
        if self.user.is_some() { "***:***" } else { ":***" }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(***)")
    }
}

impl RedisUrl {
    /// Returns whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        match &self.place {
            RedisPlace::Tls(..) => true,
            RedisPlace::Sentinel(sentinels) => sentinels.is_secure,
            RedisPlace::Tcp(..) | RedisPlace::Unix(_) => false,
        }
    }
}

impl FromStr for RedisUrl {
    type Err = RedisUrlError;

    fn from_str(text: &str) -> Result<RedisUrl, RedisUrlError> {
        if let Some(path) = text.strip_prefix("unix:") {
            return read_unix(path);
        }
        let (scheme, rest) = text.split_once("://").ok_or(RedisUrlError)?;
        let (credentials, rest) = match rest.rsplit_once('@') {
            Some((credentials, rest)) => (Some(Credentials::read(credentials)?), rest),
            None => (None, rest),
        };
        let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (place, database) = match scheme {
            "sentinel" | "sentinels" => {
                let sentinels = read_sentinels(hosts, path, scheme == "sentinels")?;
                (RedisPlace::Sentinel(sentinels), 0)
            }
            "redis" | "rediss" => {
                let (host, port) = read_host(hosts, 6379)?;
                let database = if path.is_empty() { Ok(0) } else { path.parse() };
                let place = match scheme {
                    "redis" => RedisPlace::Tcp(host, port),
                    _ => RedisPlace::Tls(host, port),
                };
                (place, database.map_err(|_| RedisUrlError)?)
            }
            _ => return Err(RedisUrlError),
        };
        Ok(RedisUrl { place, credentials, database })
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.credentials.as_ref().map(Credentials::shown);
        let scheme = match &self.place {
            RedisPlace::Unix(path) => {
                return match shown {
                    Some(shown) => write!(f, "unix://{shown}@{path}"),
                    None => write!(f, "unix:{path}"),
                };
            }
            RedisPlace::Tcp(..) => "redis",
            RedisPlace::Tls(..) => "rediss",
            RedisPlace::Sentinel(sentinels) if sentinels.is_secure => "sentinels",
            RedisPlace::Sentinel(_) => "sentinel",
        };
        write!(f, "{scheme}://")?;
        if let Some(shown) = shown {
            write!(f, "{shown}@")?;
        }
        match &self.place {
            RedisPlace::Tcp(host, port) | RedisPlace::Tls(host, port) => {
                write_host(f, host, *port)?;
                if self.database > 0 {
                    write!(f, "/{}", self.database)?;
                }
                Ok(())
            }
            RedisPlace::Unix(_) => Ok(()),
            RedisPlace::Sentinel(Sentinels { hosts, master, credentials, .. }) => {
                for (index, (host, port)) in hosts.iter().enumerate() {
                    f.write_str(if index > 0 { "," } else { "" })?;
                    write_host(f, host, *port)?;
                }
                write!(f, "/{master}")?;
                match credentials {
                    Some(credentials) => write!(f, "?sentinel={}", credentials.shown()),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Without the password, too.
impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}

/// The text does not say where a Redis is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RedisUrlError;

impl fmt::Display for RedisUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(RULE)
    }
}

impl std::error::Error for RedisUrlError {}

fn write_host(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    match host.contains(':') {
        true => write!(f, "[{host}]:{port}"),
        false => write!(f, "{host}:{port}"),
    }
}

/// Reads what stands behind `unix:`.
fn read_unix(text: &str) -> Result<RedisUrl, RedisUrlError> {
    let behind = text.strip_prefix("//").filter(|rest| !rest.starts_with('/'));
    let (credentials, path) = match behind.and_then(|rest| rest.split_once("@/")) {
        Some((credentials, path)) => (Some(Credentials::read(credentials)?), format!("/{path}")),
        // A password would be shown as part of the path.
        None if behind.is_some_and(|rest| rest.contains('@')) => return Err(RedisUrlError),
        None => (None, text.to_owned()),
    };
    let is_good = path.starts_with('/') && !path.contains(char::is_control);
    let place = RedisPlace::Unix(path);
    if is_good { Ok(RedisUrl { place, credentials, database: 0 }) } else { Err(RedisUrlError) }
}

/// Reads where sentinels are, the name of their master, and what stands behind it.
fn read_sentinels(hosts: &str, path: &str, is_secure: bool) -> Result<Sentinels, RedisUrlError> {
    let (master, credentials) = match path.split_once('?') {
        Some((master, more)) => {
            let text = more.strip_prefix("sentinel=").ok_or(RedisUrlError)?;
            (master, Some(Credentials::read(text)?))
        }
        None => (path, None),
    };
    let hosts = hosts.split(',').map(|host| read_host(host, 26379)).collect::<Result<_, _>>()?;
    match is_name(master) {
        true => Ok(Sentinels { hosts, master: master.into(), is_secure, credentials }),
        false => Err(RedisUrlError),
    }
}

/// Reads a host and its port; an address of IPv6 stands in brackets.
fn read_host(text: &str, usual: u16) -> Result<(String, u16), RedisUrlError> {
    let (host, port) = match text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        Some((host, rest)) if rest.is_empty() || rest.starts_with(':') => {
            (host, rest.strip_prefix(':'))
        }
        Some(_) => return Err(RedisUrlError),
        None => match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
    let is_plain = !text.starts_with('[') && host.contains(':');
    if host.is_empty() || is_plain || !host.bytes().all(is_host) {
        return Err(RedisUrlError);
    }
    let port = port.map_or(Ok(usual), str::parse).map_err(|_| RedisUrlError)?;
    if port == 0 { Err(RedisUrlError) } else { Ok((host.into(), port)) }
}

/// Decodes the percent encoding.
fn decoded(text: &str) -> Result<String, RedisUrlError> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        bytes.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => (high * 16 + low) as u8,
                _ => return Err(RedisUrlError),
            },
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| RedisUrlError)
}

/// Returns whether a text may name a cluster, a server or a master.
fn is_name(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(is_allowed)
}

/// Returns a text without what may be a password in a URL.
pub(super) fn without_password(text: &str) -> String {
    match text.split_once("://") {
        // Where a password begins and ends is not known then.
        Some((scheme, rest)) if rest.contains('?') => format!("{scheme}://***"),
        Some((scheme, rest)) => match rest.rsplit_once('@') {
            Some((_, host)) => format!("{scheme}://***@{host}"),
            None => text.into(),
        },
        None => text.into(),
    }
}

/// Where Redis is.
pub(super) struct Redis;

impl ValueKind<RedisUrl> for Redis {
    fn read(&self, text: &str) -> Result<RedisUrl, String> {
        let url = text.parse::<RedisUrl>().map_err(|error| error.to_string())?;
        match url.is_secure() && cfg!(not(feature = "tls")) {
            true => Err("must not speak TLS: this build has none: feature `tls`".into()),
            false => Ok(url),
        }
    }

    fn show(&self, url: &RedisUrl) -> Shown {
        Shown::Text(url.to_string())
    }
}

/// A name of a cluster or a server.
pub(super) struct ClusterName;

impl ValueKind<String> for ClusterName {
    fn read(&self, text: &str) -> Result<String, String> {
        match is_name(text) {
            true => Ok(text.into()),
            false => Err("must be 1 to 64 characters of A-Z a-z 0-9 . _ -".into()),
        }
    }

    fn show(&self, name: &String) -> Shown {
        Shown::Text(name.clone())
    }
}

impl Config {
    /// Two logs cannot both issue the ids.
    pub(super) fn cluster_contradiction(&self) -> Option<String> {
        #[cfg(feature = "store")]
        if self.cluster.redis.is_some() && !self.store.topics.is_empty() {
            return Some(
                "cluster.redis: the log is in Redis then: store.topics must be off".into(),
            );
        }
        None
    }

    /// Warns of keys for nothing.
    pub(super) fn cluster_doubt(&self) -> Option<String> {
        let alone = Cluster { redis: None, ..Cluster::default() };
        let is_idle = self.cluster.redis.is_none() && self.cluster != alone;
        is_idle.then(|| "cluster.*: nothing of it acts while cluster.redis = off".into())
    }

    /// Returns what waits for Redis, and what is read from it.
    pub(super) fn cluster_terms(&self) -> Vec<Term> {
        if self.cluster.redis.is_none() {
            return Vec::new();
        }
        let most = |bytes: usize| self.limits.message_bytes.max(bytes as u64);
        let term = |what, bytes| Term { what, count: 1, bytes, is_budgeted: false };
        vec![
            term("publications for Redis", 3 * most(CLUSTER_QUEUE_BYTES)),
            term("answers of Redis", self.cluster_answer_bytes()),
        ]
    }

    /// Returns the most that one answer of Redis may take.
    pub(crate) fn cluster_answer_bytes(&self) -> u64 {
        4 * self.limits.message_bytes.max(1 << 20)
    }
}

/// How many bytes of publications may wait for Redis while it is away; one may always.
pub(crate) const OFFLINE_QUEUE_BYTES: usize = 256 * 1024;
/// How many may wait while it is there.
pub(crate) const CLUSTER_QUEUE_BYTES: usize = 4 * 1024 * 1024;

const RULE: &str = "must be redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss:, unix:/path \
    or sentinel://HOST,HOST/NAME[?sentinel=[USER]:PASSWORD], sentinels:";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_read_and_shown_without_their_passwords() {
        for (text, shown) in [
            ("redis://a", "redis://a:6379"),
            ("redis://10.0.0.1:7000/3", "redis://10.0.0.1:7000/3"),
            ("redis://[::1]", "redis://[::1]:6379"),
            ("redis://:pw@a", "redis://:***@a:6379"),
            ("rediss://me:p%40w@a:1", "rediss://***:***@a:1"),
            ("unix:/run/redis.sock", "unix:/run/redis.sock"),
            ("sentinel://a,b:7,[::1]/main", "sentinel://a:26379,b:7,[::1]:26379/main"),
            ("sentinel://:pw@a/main", "sentinel://:***@a:26379/main"),
            ("sentinels://a/main", "sentinels://a:26379/main"),
            ("sentinel://a/main?sentinel=:pw", "sentinel://a:26379/main?sentinel=:***"),
            (
                "sentinels://me:p%3Fw@a/main?sentinel=it:p%40w",
                "sentinels://***:***@a:26379/main?sentinel=***:***",
            ),
            ("unix://:p%40%2Fw@/run/redis.sock", "unix://:***@/run/redis.sock"),
            ("unix://me:pw@/run/a@/redis.sock", "unix://***:***@/run/a@/redis.sock"),
            ("unix:///run/redis.sock", "unix:///run/redis.sock"),
        ] {
            let url: RedisUrl = text.parse().unwrap();
            assert_eq!(url.to_string(), shown, "{text}");
            assert_eq!(format!("{url:?}"), format!("RedisUrl({shown})"));
            assert_eq!(shown.parse::<RedisUrl>().unwrap().to_string(), shown);
        }
        let url: RedisUrl = "redis://me:p%40:w@a".parse().unwrap();
        let both = |url: RedisUrl| url.credentials.map(|both| (both.user, both.password));
        assert_eq!(both(url), Some((Some("me".into()), "p@:w".into())));
        let url: RedisUrl = "unix://:p%40%2Fw@/run/redis.sock".parse().unwrap();
        assert_eq!(url.place, RedisPlace::Unix("/run/redis.sock".into()));
        assert_eq!(both(url), Some((None, "p@/w".into())));
        let url: RedisUrl = "sentinels://:a@h/main?sentinel=it:p%3Aw".parse().unwrap();
        assert!(url.is_secure());
        let RedisPlace::Sentinel(sentinels) = url.place else { panic!("sentinels") };
        let credentials = sentinels.credentials.unwrap();
        assert_eq!((credentials.user.as_deref(), &*credentials.password), (Some("it"), "p:w"));
    }

    #[test]
    fn of_what_is_no_place_no_password_is_shown() {
        for text in [
            "sentinel://:secret@a/main?sentinel=secret",
            "sentinel://a/main?sentinel=:s@secret",
            "sentinels://a/main?secret",
            "redis://:sec?ret:secret@a:x",
            "unix://:secret@redis.sock",
            "unix://secret@/run/redis.sock",
        ] {
            assert!(text.parse::<RedisUrl>().is_err(), "{text}");
            assert!(!without_password(text).contains("secret"), "{text}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in [
            "",
            "a",
            "http://a",
            "redis://",
            "redis://a:0",
            "redis://a:x",
            "redis://a/x",
            "redis://::1",
            "redis://me@a",
            "redis://me:%4@a",
            "redis://a b",
            "unix:redis.sock",
            "sentinel://a",
            "sentinel://a/",
            "sentinel://a,/main",
            "sentinel://a/b c",
            "sentinel://a/main?",
            "sentinel://a/main?sentinel=pw",
            "sentinel://a/main?sentinel=me:",
            "sentinel://a/main?other=:pw",
            "sentinels://a",
            "unix://:@/run/redis.sock",
            "unix://me@/run/redis.sock",
        ] {
            assert_eq!(text.parse::<RedisUrl>(), Err(RedisUrlError), "{text:?}");
        }
        for text in ["rediss://a", "sentinels://a/main"] {
            assert_eq!(Redis.read(text).is_ok(), cfg!(feature = "tls"), "{text}");
        }
    }

    #[test]
    fn keys_that_do_nothing_are_warned_of_and_passwords_are_not_shown() {
        let mut config = Config::default();
        config.set("cluster.node", "a").unwrap();
        assert!(config.check().warnings[0].starts_with("cluster.*: nothing of it acts"));
        config.set("cluster.redis", "redis://:secret@a").unwrap();
        assert_eq!(config.check(), crate::config::Report::default());
        assert!(!format!("{config:?}").contains("secret"));
        assert!(!config.to_toml().contains("secret"));
        for (name, text) in
            [("cluster.name", "a b"), ("cluster.node", ""), ("cluster.retain_events", "9")]
        {
            assert!(config.set(name, text).is_err(), "{name}");
        }
        let fault = config.set("cluster.redis", "redis://:secret@").unwrap_err().to_string();
        assert!(!fault.contains("secret"), "{fault}");
    }

    #[cfg(feature = "store")]
    #[test]
    fn there_is_one_log() {
        let mut config = Config::default();
        config.set("cluster.redis", "redis://a").unwrap();
        config.set("store.topics", "a").unwrap();
        config.set("store.file", "/data/ring").unwrap();
        assert!(config.check().faults[0].starts_with("cluster.redis: the log is in Redis"));
    }
}

//! To whom a connection is made, and how: [`Dial`].

use std::fmt;
#[cfg(any(feature = "tls", feature = "mqtt"))]
use std::path::PathBuf;
use std::sync::Arc;
#[cfg(feature = "tls")]
use std::sync::OnceLock;

use crate::core::client::ask::Ask;
#[cfg(feature = "mqtt")]
use crate::core::client::broker::Login;
use crate::core::client::{Purpose, Resume, Rules, Setup};
#[cfg(feature = "bridge")]
use crate::core::config::Bridge;
use crate::core::config::Config;
use crate::core::ground::subprotocol::Subprotocol;
use crate::core::wire::http::RequestError;
use crate::core::wire::target::{Target, TargetError};
#[cfg(feature = "tls")]
use crate::system::tls::{ConnectorFiles, connector};

/// A server to connect to, and how: what [`Handle::connect`](crate::Handle::connect),
/// [`Links::connect`](crate::Links::connect) and [`Client`](crate::Client) take.
///
/// ```
/// use heartwheel::Dial;
///
/// let dial = Dial::to("ws://gateway.local:8765/ws")?.token("s3cret").topics();
/// # Ok::<(), heartwheel::DialError>(())
/// ```
///
/// A clone shares what it has: a thousand connections of one `Dial` cost little more than one.
#[derive(Clone)]
pub struct Dial {
    pub(crate) setup: Arc<Setup>,
    pub(crate) token: Option<String>,
    pub(crate) renews: Option<Arc<TokenSource>>,
    /// It speaks the messages of `/ws`.
    pub(crate) has_topics: bool,
    pub(crate) pending_max: usize,
    /// Of a message, or of the payload of an event.
    message_bytes: u64,
    #[cfg(feature = "tls")]
    tls: Security,
}

/// Where credentials come from.
pub(crate) type TokenSource = dyn Fn() -> Option<String> + Send + Sync;

/// What TLS goes by, read once for all clones.
#[cfg(feature = "tls")]
#[derive(Clone, Default)]
pub(crate) struct Security {
    files: ConnectorFiles,
    read: Arc<OnceLock<Result<Arc<rustls::ClientConfig>, String>>>,
}

/// Why there is no such server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialError {
    /// The URL is none of a server.
    Url {
        /// The URL.
        url: String,
        /// The rule that it breaks.
        rule: String,
    },
    /// A header line, a subprotocol or the token cannot be sent.
    Request(RequestError),
    /// A file of TLS cannot be used.
    Tls(String),
    /// This build has no TLS.
    NoTls,
    /// Too many plain requests of the loop are under way, or too many bytes of them: try again
    /// later.
    Full,
    /// The server on whose loop it was to be made has ended.
    Ended,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DialError::Url { url, rule } => write!(f, "{url}: {rule}"),
            DialError::Request(error) => error.fmt(f),
            DialError::Tls(error) => f.write_str(error),
            DialError::NoTls => f.write_str("this build has no TLS: feature `tls`"),
            DialError::Full => f.write_str("too many plain requests are under way"),
            DialError::Ended => f.write_str("the server has ended"),
        }
    }
}

impl std::error::Error for DialError {}

impl Dial {
    /// Begins with the URL of a server: `ws://HOST[:PORT][/PATH]`, or `wss://`. `http` and `https`
    /// are taken as these; a URL without a path means `/ws`.
    ///
    /// # Errors
    ///
    /// [`DialError::Url`]; [`DialError::NoTls`] where it asks for TLS and the build has none.
    pub fn to(url: &str) -> Result<Dial, DialError> {
        Ok(Dial::new(target(url)?))
    }

    fn new(target: Target) -> Dial {
        let config = Config::default();
        let setup = Setup::new(vec![target], Rules::from(&config));
        Dial {
            setup: Arc::new(setup),
            token: None,
            renews: None,
            has_topics: false,
            pending_max: config.client.pending_bytes,
            message_bytes: config.limits.message_bytes,
            #[cfg(feature = "tls")]
            tls: Security::default(),
        }
    }

    /// Begins with the service that `admission.request` names; `None` if there is none.
    ///
    /// # Errors
    ///
    /// Why it could never be asked: a URL or a file of TLS that cannot be used.
    pub(crate) fn to_service(config: &Config) -> Result<Option<Dial>, String> {
        let Some(url) = &config.admission.request else { return Ok(None) };
        let made = Dial::to(url).and_then(|dial| dial.config(config));
        let checked = made.and_then(|dial| dial.check().map(|()| Some(dial)));
        checked.map_err(|error| format!("admission.request = {url}: {error}"))
    }

    /// Begins with the far side of a bridge, another heartwheel.
    ///
    /// # Errors
    ///
    /// Why it could never be connected to: a URL or a file that cannot be used.
    #[cfg(feature = "bridge")]
    pub(crate) fn to_far_side(settings: &Bridge, config: &Config) -> Result<Dial, String> {
        let bad = |fault: String| format!("bridge.{}: {fault}", settings.name());
        let url = settings.url.as_deref().unwrap_or_default();
        #[cfg(feature = "mqtt")]
        if settings.is_to_broker() {
            let login = login(settings, config).map_err(bad)?;
            let dial = Dial::to_broker(url, login).and_then(|dial| dial.config(config));
            let dial = dial.map_err(|fault| bad(fault.to_string()))?.files_of(settings);
            dial.check().map_err(|fault| bad(fault.to_string()))?;
            return Ok(dial);
        }
        let dial = Dial::to(url).and_then(|dial| dial.config(config));
        let mut dial = dial.map_err(|fault| bad(fault.to_string()))?.topics();
        // The bridge's window bounds it.
        dial.pending_max = usize::MAX;
        dial = dial.files_of(settings);
        if let Some(file) = settings.password_file.clone() {
            let read = move || std::fs::read_to_string(&file).map(|text| text.trim().to_owned());
            read().map_err(|error| bad(format!("password_file: {error}")))?;
            // It is read again when the far side wants another token.
            dial = dial.token_from(move || read().ok());
        }
        dial.check().map_err(|fault| bad(fault.to_string()))?;
        Ok(dial)
    }

    /// Checks that the service and the far sides of bridges can be connected to, if there are any.
    ///
    /// # Errors
    ///
    /// Why some could never be, a line for each.
    pub(crate) fn check_all(config: &Config) -> Result<(), Vec<String>> {
        let faults = Dial::to_service(config).err().into_iter();
        #[cfg(feature = "bridge")]
        let faults = {
            let bridges = config.bridges.iter().filter(|bridge| bridge.url.is_some());
            faults.chain(bridges.filter_map(|bridge| Dial::to_far_side(bridge, config).err()))
        };
        let faults: Vec<String> = faults.collect();
        if faults.is_empty() { Ok(()) } else { Err(faults) }
    }

    /// Takes the files of TLS of a bridge.
    #[cfg(feature = "bridge")]
    fn files_of(self, _settings: &Bridge) -> Dial {
        #[cfg(feature = "tls")]
        let mut dial = self;
        #[cfg(feature = "tls")]
        if let Some(ca) = &_settings.ca {
            dial = dial.ca(ca);
        }
        #[cfg(feature = "tls")]
        if let (Some(certificate), Some(key)) = (&_settings.certificate, &_settings.key) {
            dial = dial.certificate(certificate, key);
        }
        #[cfg(not(feature = "tls"))]
        let dial = self;
        dial
    }

    /// Begins with the address of an MQTT broker, and as whom it is spoken to.
    ///
    /// # Errors
    ///
    /// As [`Dial::to`].
    #[cfg(feature = "mqtt")]
    fn to_broker(url: &str, login: Login) -> Result<Dial, DialError> {
        let target = Target::broker(url).map_err(|rule| wrong(url, rule))?;
        let mut dial = Dial::new(supported(target)?);
        dial.change(|setup| setup.purpose = Purpose::Broker(Arc::new(login)));
        Ok(dial)
    }

    /// Adds another address of the same server: they are tried in turn, each with a breaker of its
    /// own.
    ///
    /// # Errors
    ///
    /// As [`Dial::to`].
    pub fn or_to(mut self, url: &str) -> Result<Dial, DialError> {
        let target = target(url)?;
        self.change(|setup| setup.targets.push(target));
        Ok(self)
    }

    /// Follows this configuration: `client.*`, `heartbeat.*`, and of `deadlines.*` and `limits.*`
    /// what concerns an open WebSocket. By default that of [`Config::default`].
    ///
    /// # Errors
    ///
    /// [`DialError::Url`], if `client.proxy` is no URL of a proxy.
    pub fn config(mut self, config: &Config) -> Result<Dial, DialError> {
        let proxy = config.client.proxy.as_deref().map(target).transpose()?;
        if let Some(proxy) = proxy.as_ref().filter(|proxy| proxy.is_secure()) {
            // It would be spoken to in plain text.
            let rule = "a proxy must be http://HOST:PORT".to_owned();
            return Err(DialError::Url { url: proxy.to_string(), rule });
        }
        self.pending_max = config.client.pending_bytes;
        self.message_bytes = config.limits.message_bytes;
        self.change(|setup| {
            setup.rules = Rules::from(config);
            setup.proxy = proxy;
        });
        Ok(self.with_frames())
    }

    /// Sends this token as `Authorization: Bearer`.
    pub fn token(mut self, token: impl Into<String>) -> Dial {
        self.token = Some(token.into());
        self
    }

    /// Asks for a token before the first try, and again when the server answers 401 or closes with
    /// 3000: `None` stops the client then. A client of topics asks also when the server says that
    /// its token soon expires, and hands in the new one without a break; with `None` the connection
    /// lasts until the old one's end. The function is called on the loop: it must not block.
    pub fn token_from(
        mut self,
        source: impl Fn() -> Option<String> + Send + Sync + 'static,
    ) -> Dial {
        self.renews = Some(Arc::new(source));
        self.change(|setup| setup.renews = true);
        self
    }

    /// Adds a header line to the upgrade, and to other requests. It stands in place of what the
    /// client would send by itself: an `Authorization` in place of the token, `Accept` and
    /// `Cache-Control` in place of those of an event stream. A line of the same name that
    /// [`Ask::header`](crate::Ask::header) adds stands in place of this one.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Dial {
        let line = (name.into(), value.into());
        self.change(|setup| setup.headers.push(line));
        self
    }

    /// Offers a subprotocol; the most wanted first.
    pub fn protocol(mut self, name: impl Into<String>) -> Dial {
        let name = name.into();
        self.change(|setup| setup.protocols.push(name));
        self
    }

    /// Speaks the messages of `/ws` with a heartwheel server: topics can be subscribed to and
    /// published to, and are resumed after a break.
    ///
    /// It offers the subprotocols `heartwheel.v1.cbor` (with the feature `cbor`) and
    /// `heartwheel.v1`, and speaks what the server chooses. Bytes can be published in CBOR alone.
    /// Where [`Dial::protocol`] has offered one of the two before, it does not offer the other.
    pub fn topics(mut self) -> Dial {
        use Subprotocol::{Cbor, Json};
        self.has_topics = true;
        self.change(|setup| {
            setup.awaits_greeting = true;
            setup.purpose = Purpose::WebSocket;
        });
        let is_own = |name: &String| matches!(Subprotocol::of(Some(name)), Json | Cbor);
        if !self.setup.protocols.iter().any(is_own) {
            let own = [Cbor, Json].into_iter().filter(|one| cfg!(feature = "cbor") || *one == Json);
            let own = own.map(|one| one.label().to_owned());
            self.change(|setup| drop(setup.protocols.splice(0..0, own)));
        }
        self.with_frames()
    }

    /// Reads the event stream that the URL answers with (`text/event-stream`), instead of opening a
    /// WebSocket. A URL without a path means `/ws` here, too. Its events are told as
    /// [`LinkEvent::Event`](crate::LinkEvent::Event). After a break it is asked for again with the
    /// id of the last event in `Last-Event-ID`; a [header line](Dial::header) of that name begins
    /// behind an event that is known already.
    pub fn events(mut self) -> Dial {
        self.has_topics = false;
        self.change(|setup| {
            setup.awaits_greeting = false;
            setup.purpose = Purpose::Events(Resume::default());
        });
        self.with_frames()
    }

    /// Takes the longest message that may come. The JSON around a payload does not count in
    /// `limits.message_bytes`, nor does what it makes of the payload: of one byte six at most. On
    /// an event stream base64 makes four bytes of three.
    fn with_frames(mut self) -> Dial {
        let grown = |bytes: u64| bytes.saturating_add(ENVELOPE_BYTES);
        let most = match &self.setup.purpose {
            _ if self.has_topics => grown(self.message_bytes.saturating_mul(6)),
            Purpose::Events(_) => grown(self.message_bytes.saturating_mul(4) / 3),
            _ => self.message_bytes,
        };
        self.change(|setup| setup.rules.frames.message_bytes = most);
        self
    }

    /// Trusts the certificates that those in this PEM file have signed, and no others; by default
    /// those of the file that `SSL_CERT_FILE` names, else of the system.
    #[cfg(feature = "tls")]
    pub fn ca(mut self, file: impl Into<PathBuf>) -> Dial {
        self.tls.files.ca = Some(file.into());
        self.tls.read = Arc::default();
        self
    }

    /// Trusts one certificate alone, that with this SHA-256 of its DER, no matter which authority
    /// has signed it and what names it bears.
    #[cfg(feature = "tls")]
    pub fn pin(mut self, sha256: [u8; 32]) -> Dial {
        self.tls.files.pin = Some(sha256);
        self.tls.read = Arc::default();
        self
    }

    /// Shows this certificate (PEM: the chain, and its key).
    #[cfg(feature = "tls")]
    pub fn certificate(mut self, chain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Dial {
        self.tls.files.certificate = Some((chain.into(), key.into()));
        self.tls.read = Arc::default();
        self
    }

    /// Makes it one of a plain request, and checks that.
    pub(crate) fn asking(mut self, ask: Ask) -> Result<Dial, DialError> {
        self.has_topics = false;
        let purpose = Purpose::Request(ask.or_limit(self.message_bytes));
        self.change(|setup| setup.purpose = purpose);
        self.check()?;
        Ok(self)
    }

    /// Returns whether one of the addresses is spoken to over TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn is_secure(&self) -> bool {
        self.setup.targets.iter().any(Target::is_secure)
    }

    /// Takes over what another one has read of the same files.
    #[cfg(all(feature = "tls", feature = "ffi"))]
    pub(crate) fn share_files(mut self, other: &Dial) -> Dial {
        debug_assert_eq!(self.tls.files, other.tls.files);
        self.tls.read = other.tls.read.clone();
        self
    }

    /// Reads the files of TLS, once.
    #[cfg(feature = "tls")]
    pub(crate) fn connector(&self) -> Result<Arc<rustls::ClientConfig>, String> {
        self.tls.read.get_or_init(|| connector(&self.tls.files)).clone()
    }

    /// Checks that a request can be made of it, and that the files of TLS can be used.
    pub(crate) fn check(&self) -> Result<(), DialError> {
        #[cfg(feature = "tls")]
        if self.is_secure() {
            self.connector().map_err(DialError::Tls)?;
        }
        self.setup.check(self.token.as_deref()).map_err(DialError::Request)
    }

    fn change(&mut self, change: impl FnOnce(&mut Setup)) {
        change(Arc::make_mut(&mut self.setup));
    }
}

impl fmt::Debug for Dial {
    /// Without the token and the headers, which may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.setup.targets.iter().map(Target::to_string).collect();
        f.debug_tuple("Dial").field(&urls).finish()
    }
}

/// Returns as whom a broker is spoken to.
#[cfg(feature = "mqtt")]
fn login(settings: &Bridge, config: &Config) -> Result<Login, String> {
    let read = |file: &PathBuf| {
        let text = std::fs::read_to_string(file);
        text.map(|text| text.trim_end_matches(['\r', '\n']).as_bytes().to_vec())
            .map_err(|error| format!("password_file: {error}"))
    };
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let own_id = || format!("heartwheel-{node}-{}", settings.name());
    Ok(Login {
        client_id: settings.client_id.clone().unwrap_or_else(own_id),
        user: settings.user.clone(),
        password: settings.password_file.as_ref().map(read).transpose()?,
        version: settings.version,
        qos: settings.qos,
        window: u16::try_from(settings.window).unwrap_or(u16::MAX),
        ack: settings.ack,
        keep_alive: settings.keep_alive,
        filters: settings.rules()?.subscriptions().map(str::to_owned).collect(),
        packet_max: u32::try_from(config.limits.message_bytes).unwrap_or(u32::MAX),
        node,
    })
}

fn target(url: &str) -> Result<Target, DialError> {
    supported(url.parse().map_err(|rule| wrong(url, rule))?)
}

fn wrong(url: &str, rule: TargetError) -> DialError {
    DialError::Url { url: url.to_owned(), rule: rule.to_string() }
}

fn supported(target: Target) -> Result<Target, DialError> {
    match target.is_secure() && cfg!(not(feature = "tls")) {
        true => Err(DialError::NoTls),
        false => Ok(target),
    }
}

/// Of an event without its payload: the name of its topic, its id.
const ENVELOPE_BYTES: u64 = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_holds_whether_topics_are_asked_for_before_or_after() {
        let mut config = Config::default();
        config.set("client.pending_bytes", "5k").unwrap();
        config.set("limits.message_bytes", "100").unwrap();
        let dial = || Dial::to("ws://localhost").unwrap();
        let ends = [dial().topics().config(&config), dial().config(&config).map(Dial::topics)];
        for dial in ends.map(Result::unwrap) {
            assert_eq!((dial.has_topics, dial.pending_max), (true, 5 << 10));
            assert_eq!(dial.setup.rules.frames.message_bytes, 600 + ENVELOPE_BYTES);
        }
        let plain = dial().config(&config).unwrap();
        assert_eq!(plain.setup.rules.frames.message_bytes, 100);
    }
}

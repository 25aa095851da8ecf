//! One client, from the first try until it is stopped.

mod asking;
#[cfg(feature = "mqtt")]
mod broker;
#[cfg(feature = "deflate")]
mod compressed;
mod ending;
mod open;
mod streaming;
mod tries;

use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::core::client::ask::Ask;
use crate::core::client::breaker::Breaker;
#[cfg(feature = "mqtt")]
use crate::core::client::broker::{Login, Session};
use crate::core::client::connecting::Connecting;
use crate::core::client::exchange::Exchange;
use crate::core::client::feed::{Feed, Resume};
use crate::core::client::link::{Closing, Link, Stage, after, with_stall};
use crate::core::client::rules::Rules;
use crate::core::client::told::{State, Told};
use crate::core::client::why::Why;
use crate::core::ground::random::Random;
use crate::core::ground::time::{Instant, SPAN_MAX, millis_up, sooner};
use crate::core::outbox::{Kind, Outbox, Spares};
#[cfg(feature = "deflate")]
use crate::core::wire::deflate::Coders;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{Asked, OutgoingRequest, RequestError, ResponseReader, UpgradeKey};
use crate::core::wire::message::Message;
use crate::core::wire::spare_memory::SpareMemory;
use crate::core::wire::sse::CONTENT_TYPE;
use crate::core::wire::target::Target;

/// What a client is made with. Clients of the same configuration share it.
#[derive(Clone, Debug)]
pub struct Setup {
    /// The addresses of the server: at least one. They are tried in turn.
    pub targets: Vec<Target>,
    /// The proxy through which they are connected to.
    pub proxy: Option<Target>,
    /// The subprotocols offered.
    pub protocols: Vec<String>,
    /// Header lines of the request.
    pub headers: Vec<(String, String)>,
    /// Whether credentials can be asked for again.
    pub renews: bool,
    /// Whether the server greets: until it has, the upgrade is not over.
    pub awaits_greeting: bool,
    /// What connections are made for.
    pub purpose: Purpose,
    /// The spans and limits.
    pub rules: Rules,
}

/// What connections are made for.
#[derive(Clone, Debug, Default)]
pub enum Purpose {
    /// A WebSocket.
    #[default]
    WebSocket,
    /// An event stream, and where it goes on.
    Events(Resume),
    /// One plain request.
    Request(Ask),
    /// MQTT with a broker.
    #[cfg(feature = "mqtt")]
    Broker(Arc<Login>),
}

impl Setup {
    /// Begins with the addresses of a server: its clients make WebSockets, and say nothing of
    /// themselves.
    pub fn new(targets: Vec<Target>, rules: Rules) -> Setup {
        Setup {
            targets,
            proxy: None,
            protocols: Vec::new(),
            headers: Vec::new(),
            renews: false,
            awaits_greeting: false,
            purpose: Purpose::WebSocket,
            rules,
        }
    }

    /// Checks that requests can be made of it.
    ///
    /// # Errors
    ///
    /// What no request can bear.
    pub fn check(&self, token: Option<&str>) -> Result<(), RequestError> {
        #[cfg(feature = "mqtt")]
        if let Purpose::Broker(_) = &self.purpose {
            return Ok(());
        }
        let key = UpgradeKey::new([0; 16]);
        self.targets.iter().try_for_each(|target| self.request(target, token, &key).map(drop))
    }

    /// Makes the request that a connection begins with. The key is of use to upgrades alone.
    fn request(
        &self,
        target: &Target,
        token: Option<&str>,
        key: &UpgradeKey,
    ) -> Result<OutgoingRequest, RequestError> {
        let mut request = match &self.purpose {
            Purpose::WebSocket => self.upgrade(target, key)?,
            Purpose::Events(resume) => self.stream(target, resume.last_id.as_deref())?,
            Purpose::Request(ask) => ask.request(target)?,
            // Nothing of HTTP is said.
            #[cfg(feature = "mqtt")]
            Purpose::Broker(_) => OutgoingRequest::new("GET", target.host(), target.path())?,
        };
        for (name, value) in self.lines() {
            request = request.header(name, value)?;
        }
        match token {
            Some(token) if !self.has_line("Authorization") => {
                request.header("Authorization", &format!("Bearer {token}"))
            }
            _ => Ok(request),
        }
    }

    fn upgrade(&self, target: &Target, key: &UpgradeKey) -> Result<OutgoingRequest, RequestError> {
        let protocols: Vec<&str> = self.protocols.iter().map(String::as_str).collect();
        let request = OutgoingRequest::upgrade(target.host(), target.path(), key, &protocols)?;
        #[cfg(feature = "deflate")]
        if let Some(offer) = self.rules.compression.offer {
            return Ok(request.extension(&offer.line()));
        }
        Ok(request)
    }

    /// Asks for an event stream behind this event, or behind none where the id is empty.
    fn stream(
        &self,
        target: &Target,
        last_id: Option<&str>,
    ) -> Result<OutgoingRequest, RequestError> {
        let mut request = OutgoingRequest::new("GET", target.host(), target.path())?;
        for (name, value) in [("Accept", CONTENT_TYPE), ("Cache-Control", "no-store")] {
            if !self.has_line(name) {
                request = request.header(name, value)?;
            }
        }
        match last_id {
            None | Some("") => Ok(request),
            Some(id) => request.header(LAST_ID, id),
        }
    }

    /// Returns the application's header lines: those of a plain request stand in place of others
    /// with their names, and what a server of events has said of ids in place of what the
    /// application has named.
    fn lines(&self) -> impl Iterator<Item = &(String, String)> {
        let (own, has_id) = match &self.purpose {
            Purpose::WebSocket => (&[][..], false),
            Purpose::Events(resume) => (&[][..], resume.last_id.is_some()),
            Purpose::Request(ask) => (ask.headers(), false),
            #[cfg(feature = "mqtt")]
            Purpose::Broker(_) => (&[][..], false),
        };
        let general = self.headers.iter().filter(move |(name, _)| {
            let is_told = has_id && name.eq_ignore_ascii_case(LAST_ID);
            !is_told && !own.iter().any(|(other, _)| other.eq_ignore_ascii_case(name))
        });
        general.chain(own)
    }

    fn has_line(&self, name: &str) -> bool {
        self.lines().any(|(other, _)| other.eq_ignore_ascii_case(name))
    }

    /// Returns for how long the server of an event stream wants clients to stay away.
    fn retry(&self) -> Duration {
        match &self.purpose {
            Purpose::Events(resume) => resume.retry,
            _ => Duration::ZERO,
        }
    }
}

/// What all clients of a loop share.
#[derive(Debug)]
pub struct Common {
    /// For masks, keys and jitter.
    pub random: Random,
    /// Memory of outboxes.
    pub spares: Spares,
    /// Memory of large messages: none is kept until this is given a limit.
    pub memory: SpareMemory,
    /// What compresses and inflates.
    #[cfg(feature = "deflate")]
    pub coders: Coders,
}

impl Common {
    /// Begins with nothing, and this seed of the system's.
    pub fn new(seed: u64) -> Common {
        Common {
            random: Random::new(seed),
            spares: Spares::default(),
            memory: SpareMemory::none(),
            #[cfg(feature = "deflate")]
            coders: Coders::default(),
        }
    }

    /// Lends it for a call.
    pub fn means(&mut self, now: Instant) -> Means<'_> {
        Means {
            now,
            random: &mut self.random,
            spares: &mut self.spares,
            memory: &mut self.memory,
            #[cfg(feature = "deflate")]
            coders: &mut self.coders,
        }
    }
}

/// What all clients of a loop share, lent for a call.
pub struct Means<'m> {
    /// The time.
    pub now: Instant,
    /// For masks, keys and jitter: seeded by the system.
    pub random: &'m mut Random,
    /// Memory of outboxes.
    pub spares: &'m mut Spares,
    /// Memory of large messages.
    pub memory: &'m mut SpareMemory,
    /// What compresses and inflates.
    #[cfg(feature = "deflate")]
    pub coders: &'m mut Coders,
}

/// What is to be done with the client's sockets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Look up a name; [`Dialler::resolved`] takes the answer with this number.
    Resolve(u32, String, u16),
    /// Connect to an address, as the try of this number of the client's try of that number.
    Connect(u8, SocketAddr),
    /// This try is the connection from now on: close all others.
    Keep(u8),
    /// Begin TLS on the connection, for this name.
    Secure(String),
    /// Ask for credentials; [`Dialler::renewed`] takes them.
    Renew,
    /// Close the connection, and every try: in good order, or by a reset.
    Close {
        /// By a reset.
        abort: bool,
    },
}

/// One client.
#[derive(Debug)]
pub struct Dialler {
    setup: Arc<Setup>,
    phase: Phase,
    /// The deadline of the phase, where it has one alone; of a plain request, that of the whole.
    until: Instant,
    /// Which of the addresses is tried.
    target: u32,
    /// One for each address; none where there is nothing to remember.
    breakers: Box<[Option<Box<Breaker>>]>,
    /// How many tries were made; names the answers of the name service.
    tries: u32,
    /// Which retry comes next.
    retries: u32,
    /// Tries that failed since a connection has held.
    failures: u32,
    /// Credentials were renewed, and no connection has held since.
    has_renewed: bool,
    /// The application has stopped it: an end that is under way is the last.
    is_stopping: bool,
    token: Option<Box<str>>,
    outbox: Outbox,
    /// What outlasts the connections to a broker.
    #[cfg(feature = "mqtt")]
    broker: Option<Box<Session>>,
    /// What the server asked for before it went away.
    asked_wait_ms: u32,
    /// None in a client at rest.
    news: Option<Box<News>>,
}

/// What the loop and the application have not taken yet.
#[derive(Debug, Default)]
struct News {
    actions: VecDeque<Action>,
    told: Vec<Told>,
    told_bytes: usize,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Resolving,
    Connecting(Box<Connecting>),
    /// Connected to a proxy, which was asked to connect to the server.
    Tunnelling(Box<ResponseReader>),
    Securing,
    Upgrading(Box<Upgrading>),
    Open(Box<Link>),
    /// An event stream is open.
    Streaming(Box<Feed>),
    /// A plain request was sent. Its deadline is that of the whole.
    Asking(Box<Exchange>),
    /// Connected to a broker: its state is in the session.
    #[cfg(feature = "mqtt")]
    Broker(Box<Held>),
    Closing(Box<Closing>),
    Broken,
    Stopped,
}

#[derive(Debug)]
struct Upgrading {
    key: UpgradeKey,
    reader: ResponseReader,
}

/// How long a connection to a broker has held.
#[cfg(feature = "mqtt")]
#[derive(Debug)]
struct Held {
    opened_at: Instant,
    is_stable: bool,
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendRefused {
    /// There is no open connection.
    NotOpen,
    /// More would wait than `limits.outbox_bytes`.
    Full,
}

impl Dialler {
    /// Makes a client, which tries at once.
    pub fn new(setup: Arc<Setup>, token: Option<String>, now: Instant) -> Dialler {
        debug_assert!(!setup.targets.is_empty(), "there is an address");
        Dialler {
            breakers: vec![None; setup.targets.len()].into(),
            #[cfg(feature = "mqtt")]
            broker: match &setup.purpose {
                Purpose::Broker(login) => Some(Box::new(Session::new(login.clone()))),
                _ => None,
            },
            setup,
            phase: Phase::Waiting,
            until: now,
            target: 0,
            tries: 0,
            retries: 0,
            failures: 0,
            has_renewed: false,
            is_stopping: false,
            token: token.map(String::into_boxed_str),
            outbox: Outbox::default(),
            asked_wait_ms: 0,
            news: None,
        }
    }

    /// Returns where the client is.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Waiting => State::Waiting,
            Phase::Resolving => State::Resolving,
            Phase::Connecting(_) | Phase::Tunnelling(_) => State::Connecting,
            Phase::Securing => State::Securing,
            Phase::Upgrading(_) => State::Upgrading,
            Phase::Open(_) | Phase::Streaming(_) | Phase::Asking(_) => State::Open,
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => self.broker_state(),
            Phase::Closing(_) => State::Closing,
            Phase::Broken => State::Broken,
            Phase::Stopped => State::Stopped,
        }
    }

    /// Returns the server's address that is tried, or was last.
    pub fn target(&self) -> &Target {
        &self.setup.targets[self.target as usize]
    }

    /// Returns the spans and limits it follows.
    pub fn rules(&self) -> &Rules {
        &self.setup.rules
    }

    /// Takes the next thing to be done with the sockets.
    pub fn poll_action(&mut self) -> Option<Action> {
        let action = self.news.as_mut()?.actions.pop_front();
        self.news.take_if(|news| news.actions.is_empty() && news.told.is_empty());
        action
    }

    /// Takes what the application is to be told, in its order.
    pub fn take_told(&mut self) -> Vec<Told> {
        let Some(news) = &mut self.news else { return Vec::new() };
        news.told_bytes = 0;
        let told = std::mem::take(&mut news.told);
        self.news.take_if(|news| news.actions.is_empty());
        told
    }

    /// Returns whether the connection may be read from: not while too much waits to be told.
    pub fn wants_read(&self) -> bool {
        #[cfg(feature = "mqtt")]
        if self.broker.as_ref().is_some_and(|session| !session.wants_read()) {
            return false;
        }
        self.news
            .as_ref()
            .is_none_or(|news| news.told.len() < TOLD_MAX && news.told_bytes < TOLD_BYTES_MAX)
    }

    /// Returns whether bytes wait to be written.
    pub fn wants_write(&self) -> bool {
        !self.outbox.is_empty()
    }

    /// Lends the bytes to write next: see [`Outbox::gather`].
    pub fn gather<'a>(&'a mut self, slices: &mut [IoSlice<'a>], scratch: &'a mut Vec<u8>) -> usize {
        self.outbox.gather(usize::MAX, slices, scratch, GATHER_BYTES).0
    }

    /// Returns the moment by which [`Dialler::timeout`] must be called; `None` when it is stopped.
    pub fn poll_timeout(&self, now: Instant) -> Option<Instant> {
        let rules = &self.setup.rules;
        match &self.phase {
            Phase::Stopped => None,
            Phase::Connecting(connecting) => sooner(Some(self.due_at()), connecting.next_at()),
            Phase::Open(link) => {
                let at = link.due(rules, now).map(|(at, _)| at);
                let at = with_stall(at, self.outbox.waiting_since(true), rules, now);
                // Heartbeats and deadlines may be off: silence still ends, if late.
                Some(at.unwrap_or(now + LOOK_EVERY))
            }
            Phase::Streaming(feed) => {
                Some(feed.due(rules).map_or_else(|| now + LOOK_EVERY, |(at, _)| at))
            }
            #[cfg(feature = "mqtt")]
            Phase::Broker(held) => Some(self.broker_due(held, now)),
            _ => Some(self.due_at()),
        }
    }

    // -- What happens to it ---------------------------------------------------------------------

    /// Acts on what is due.
    pub fn timeout(&mut self, means: &mut Means<'_>) {
        let now = means.now;
        if self.poll_timeout(now).is_none_or(|at| at > now) {
            return;
        }
        let is_over = self.due_at() <= now;
        match &mut self.phase {
            Phase::Waiting | Phase::Broken => {
                if let Purpose::Request(ask) = &self.setup.purpose {
                    self.until = after(now, ask.span().min(SPAN_MAX));
                }
                self.begin_try(means);
            }
            Phase::Connecting(connecting) if !is_over => {
                if let Some((number, address)) = connecting.poll(now) {
                    self.news().actions.push_back(Action::Connect(number, address));
                }
            }
            Phase::Resolving
            | Phase::Connecting(_)
            | Phase::Tunnelling(_)
            | Phase::Securing
            | Phase::Upgrading(_)
            | Phase::Asking(_) => self.finish(means, Why::TimedOut(self.state()), true),
            Phase::Open(_) => self.timeout_open(means),
            Phase::Streaming(_) => self.timeout_stream(means),
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => self.timeout_broker(means),
            Phase::Closing(closing) => {
                let why = closing.why.clone();
                let abort = closing.stage == Stage::Sending;
                self.finish(means, why, abort);
            }
            Phase::Stopped => {}
        }
    }

    /// Takes the answer of the name service to the look-up of this number.
    pub fn resolved(
        &mut self,
        means: &mut Means<'_>,
        number: u32,
        found: Result<Vec<SocketAddr>, String>,
    ) {
        if !matches!(self.phase, Phase::Resolving) || number != self.tries {
            return;
        }
        match found {
            Ok(addresses) if !addresses.is_empty() => self.connect(means, addresses),
            Ok(_) => self.finish(means, Why::Name("the name has no address".into()), false),
            Err(error) => self.finish(means, Why::Name(error), false),
        }
    }

    /// Takes note that a try of an address has connected.
    pub fn connected(&mut self, means: &mut Means<'_>, number: u8) {
        let Phase::Connecting(connecting) = &self.phase else { return };
        if !connecting.has(number) {
            return;
        }
        self.news().actions.push_back(Action::Keep(number));
        if self.setup.proxy.is_none() {
            return self.connected_to_server(means);
        }
        let target = self.target();
        let host = if target.name().contains(':') {
            format!("[{}]:{}", target.name(), target.port())
        } else {
            format!("{}:{}", target.name(), target.port())
        };
        let request = format!("CONNECT {host} HTTP/1.1\r\nHost: {host}\r\n\r\n");
        self.queue(means, Frame::raw(request.into_bytes()), Kind::Response);
        self.phase = Phase::Tunnelling(Box::default());
    }

    /// Takes note that a try of an address has failed.
    pub fn connect_failed(&mut self, means: &mut Means<'_>, number: u8, error: String) {
        let Phase::Connecting(connecting) = &mut self.phase else { return };
        if !connecting.has(number) {
            return;
        }
        connecting.failed(means.now, number, error);
        if let Some((number, address)) = connecting.poll(means.now) {
            self.news().actions.push_back(Action::Connect(number, address));
        } else if connecting.is_over() {
            let error = std::mem::take(&mut connecting.error);
            self.finish(means, Why::Unreachable(error), true);
        }
    }

    /// Takes note that the TLS handshake is done.
    pub fn secured(&mut self, means: &mut Means<'_>) {
        if matches!(self.phase, Phase::Securing) {
            self.begin_request(means);
        }
    }

    /// Takes new credentials; `None` if there are none.
    pub fn renewed(&mut self, means: &mut Means<'_>, token: Option<String>) {
        if matches!(self.phase, Phase::Stopped) {
            return;
        }
        if !token.is_some_and(|token| self.set_token(&token)) {
            let why = Why::Status { status: 401, retry_after: None };
            self.news().actions.push_back(Action::Close { abort: true });
            self.stop_for(means.now, why);
        }
    }

    /// Has the next tries go with another token. Returns whether they can.
    pub fn set_token(&mut self, token: &str) -> bool {
        let is_good = self.setup.check(Some(token)).is_ok();
        if is_good {
            self.token = Some(token.into());
        }
        is_good
    }

    /// Takes bytes from the server, all of them.
    pub fn receive(&mut self, means: &mut Means<'_>, input: &mut [u8]) {
        let mut rest = input;
        while !rest.is_empty() {
            #[cfg(feature = "deflate")]
            if self.leaves_unread(rest) {
                return;
            }
            let input = &mut *rest;
            let used = match &mut self.phase {
                Phase::Tunnelling(reader) => {
                    let read = reader.read(Asked::Head, input, &self.setup.rules.head);
                    match read {
                        Ok((used, Some(head))) => {
                            self.take_proxys_answer(means, &head);
                            used
                        }
                        Ok((used, None)) => used,
                        Err(error) => {
                            return self.finish(means, Why::Unreachable(error.to_string()), true);
                        }
                    }
                }
                Phase::Upgrading(upgrading) => {
                    let asked = match &self.setup.purpose {
                        Purpose::WebSocket => Asked::Upgrade,
                        _ => Asked::Any,
                    };
                    match upgrading.reader.read(asked, input, &self.setup.rules.head) {
                        Ok((used, Some(head))) => {
                            self.take_answer(means, &head);
                            used
                        }
                        Ok((used, None)) => used,
                        Err(error) => {
                            return self.finish(means, Why::Answer(error.to_string()), true);
                        }
                    }
                }
                Phase::Asking(exchange) => {
                    match exchange.receive(input) {
                        Ok(Some(answer)) => self.finish_answered(means, answer),
                        Ok(None) => {}
                        Err(error) => self.finish(means, Why::Answer(error.to_string()), true),
                    }
                    return;
                }
                Phase::Streaming(_) => return self.receive_stream(means, input),
                #[cfg(feature = "mqtt")]
                Phase::Broker(_) => return self.receive_broker(means, input),
                Phase::Open(_) => self.receive_open(means, input),
                Phase::Closing(closing) => {
                    if closing.receive(input) {
                        self.take_close_reply(means);
                    }
                    return;
                }
                _ => return,
            };
            rest = &mut std::mem::take(&mut rest)[used..];
        }
    }

    /// Takes the end of what the server sends: FIN, or an error.
    pub fn lost(&mut self, means: &mut Means<'_>, error: Option<String>) {
        if let Phase::Asking(_) = &self.phase {
            return self.lost_asking(means, error);
        }
        let why = match &mut self.phase {
            Phase::Tunnelling(_) => Why::Unreachable(said(error, "the proxy closed")),
            Phase::Securing => Why::Tls(said(error, "the server closed")),
            Phase::Upgrading(_) => Why::Answer(said(error, "the server closed")),
            Phase::Open(_) => Why::Lost(said(error, "FIN without a close frame")),
            Phase::Streaming(feed) => error.map_or_else(|| feed.close(), Why::Lost),
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => Why::Lost(said(error, "the broker closed")),
            Phase::Closing(closing) => closing.why.clone(),
            _ => return,
        };
        self.finish(means, why, false);
    }

    /// Takes note that TLS was refused or broke.
    pub fn tls_failed(&mut self, means: &mut Means<'_>, why: Why) {
        let why = match &self.phase {
            Phase::Securing | Phase::Upgrading(_) => why,
            Phase::Open(_) | Phase::Streaming(_) | Phase::Asking(_) => why,
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => why,
            Phase::Closing(closing) => closing.why.clone(),
            _ => return,
        };
        self.finish(means, why, true);
    }

    /// Takes note that the kernel took bytes.
    pub fn written(&mut self, means: &mut Means<'_>, len: usize) {
        let left = self.outbox.written(means.now, len, means.spares, means.memory);
        if left.ping
            && let Phase::Open(link) = &mut self.phase
        {
            link.heartbeat.ping_sent(means.now);
        }
        if left.close {
            self.note_close_sent(means);
        }
    }

    /// Takes note that the server has greeted.
    pub fn note_greeted(&mut self) {
        if let Phase::Open(link) = &mut self.phase {
            link.is_greeted = true;
        }
    }

    /// Begins or ends a pause of reading, because the application takes nothing: the server is not
    /// judged for what is not read.
    pub fn set_paused(&mut self, now: Instant, is_paused: bool) {
        match &mut self.phase {
            Phase::Open(link) => link.set_paused(now, is_paused),
            Phase::Streaming(feed) => feed.set_paused(now, is_paused),
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => self.pause_broker(now, is_paused),
            _ => {}
        }
    }

    /// Takes note that time has jumped: the process could not run.
    pub fn handle_time_jump(&mut self, means: &mut Means<'_>) {
        match &mut self.phase {
            Phase::Open(link) => {
                link.heartbeat.spread(means.random);
                link.heard_at = means.now.into();
            }
            Phase::Streaming(feed) => feed.spare(means.now),
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => self.spare_broker(means.now),
            _ => {}
        }
    }

    // -- What the application asks for ----------------------------------------------------------

    /// Queues a message.
    ///
    /// # Errors
    ///
    /// See [`SendRefused`]. An empty outbox takes one message of any length.
    pub fn send(&mut self, means: &mut Means<'_>, message: Message) -> Result<(), SendRefused> {
        if !matches!(self.phase, Phase::Open(_)) {
            return Err(SendRefused::NotOpen);
        }
        let held = self.outbox.held_bytes();
        let most = self.setup.rules.outbox_bytes;
        if held > 0 && held.saturating_add(message.len() + Outbox::ENTRY_BYTES) > most {
            return Err(SendRefused::Full);
        }
        let frame = self.encode(means, message);
        self.queue(means, frame, Kind::Message);
        Ok(())
    }

    /// Returns the bytes that wait to be sent.
    pub fn outbox_bytes(&self) -> usize {
        self.outbox.bytes()
    }

    /// Notes for how long the server asked to stay away, before it goes.
    pub fn note_goaway(&mut self, wait: Duration) {
        self.asked_wait_ms = millis_up(wait).try_into().unwrap_or(u32::MAX);
    }

    /// Ends the client: an open connection in good order, behind what was sent before.
    pub fn stop(&mut self, means: &mut Means<'_>, code: u16, reason: &str) {
        self.is_stopping = true;
        match &self.phase {
            Phase::Stopped | Phase::Closing(_) => {}
            Phase::Open(_) => self.begin_closing(means, Why::Stopped, code, reason),
            Phase::Streaming(_) => self.finish(means, Why::Stopped, false),
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => self.leave_broker(means, Why::Stopped),
            _ => self.finish(means, Why::Stopped, true),
        }
    }

    /// Ends an open connection, and tries again as after any other end: with other credentials, or
    /// because the application knows that the connection is of no more use.
    pub fn reconnect(&mut self, means: &mut Means<'_>) {
        match &self.phase {
            Phase::Open(_) => {
                let why = Why::Closed { code: 1000, reason: "".into() };
                self.begin_closing(means, why, 1000, "");
            }
            Phase::Streaming(_) => self.finish(means, Why::Ended, false),
            #[cfg(feature = "mqtt")]
            Phase::Broker(_) => self.leave_broker(means, Why::Ended),
            _ => {}
        }
    }
}

fn said(error: Option<String>, otherwise: &str) -> String {
    error.unwrap_or_else(|| otherwise.to_owned())
}

/// How much may wait to be told before no more is read.
const TOLD_MAX: usize = 256;
const TOLD_BYTES_MAX: usize = 256 << 10;

/// How much of a long text is encoded at once.
const GATHER_BYTES: usize = 64 << 10;

/// Names the last event that a client of an event stream has got.
const LAST_ID: &str = "Last-Event-ID";

/// How often a connection without any deadline is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(60);

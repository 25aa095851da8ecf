//! One server, its events pulled by the host.

use std::any::Any;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use log::{LevelFilter, warn};

use super::asked::AskedTable;
use super::event::HeartwheelEvent;
use super::failure::{Code, Failure};
#[cfg(feature = "sessions")]
use super::sessions::{self, Told};
use crate::core::config::{Address, Config, ConfigError};
use crate::core::contract::event::{Done, Event, Outcome, Session, Task};
use crate::core::contract::route::Face;
use crate::core::engine::{Refused, Served};
use crate::core::ground::id::ConnectionId;
use crate::core::topics::{After, Payload};
use crate::core::wire::message::Message;
use crate::core::wire::ws;
use crate::io::listener::LocalAddress;
use crate::io::manual_clock::ManualClock;
use crate::server::Server;

/// A server, and what its host is handling.
pub(super) struct Host {
    pub(super) server: Server,
    /// The events that the host is handling, all of one connection.
    pub(super) job: Option<Pulled>,
    /// The event pulled last: the host borrows its data.
    pub(super) event: Option<Event>,
    /// The requests that the host has not answered, if it asks for requests.
    pub(super) asked: Option<Box<dyn AskedTable>>,
    /// What else the host borrows until the next turn: text, or the newest event of a topic.
    pub(super) shown: Option<Box<dyn Any + Send>>,
    /// The clients that the host has made and not seen the end of.
    #[cfg(feature = "client")]
    pub(super) links: Vec<crate::threads::link::Link>,
    /// What the clients were first made of: it has the files of TLS.
    #[cfg(all(feature = "client", feature = "tls"))]
    pub(super) first_dial: Option<crate::threads::dial::Dial>,
    /// The event of a client that was pulled last: the host borrows its data.
    #[cfg(feature = "client")]
    pub(super) link_event: Option<Box<super::links::LinkPulled>>,
    /// The routes whose sessions outlast connections, and the host's functions for them.
    #[cfg(feature = "sessions")]
    pub(super) session_routes: Vec<(usize, std::sync::Arc<super::sessions::Calls>)>,
    pub(super) level: LevelFilter,
    /// The clock that the host moves, if it does, and its milliseconds at the first call.
    clock: Option<(ManualClock, u64)>,
    /// A turn has reported that the drain is over.
    is_over_told: bool,
}

/// A job in the hands of the host.
pub(super) struct Pulled {
    pub id: ConnectionId,
    pub route: usize,
    pub session: Option<Session>,
    events: VecDeque<Event>,
    messages_handled: u64,
}

impl Host {
    /// Builds a server from TOML, and the descriptor that wakes it.
    pub fn new(toml: Option<&str>) -> Result<(Host, OwnedFd), Failure> {
        let config = configure(toml)?;
        config.check().warnings.iter().for_each(|warning| warn!("{warning}"));
        let level = config.log;
        let server = Server::builder().config(config).build_with(None)?;
        let wake = server.inner.wake_descriptor().map_err(crate::server::Error::Io)?;
        let host = Host {
            server,
            job: None,
            event: None,
            asked: None,
            shown: None,
            #[cfg(feature = "client")]
            links: Vec::new(),
            #[cfg(all(feature = "client", feature = "tls"))]
            first_dial: None,
            #[cfg(feature = "client")]
            link_event: None,
            #[cfg(feature = "sessions")]
            session_routes: Vec::new(),
            level,
            clock: None,
            is_over_told: false,
        };
        Ok((host, wake))
    }

    pub fn log_level(&self) -> LevelFilter {
        self.level
    }

    /// Moves the server's clock, which is the host's from the first call on.
    pub fn set_clock(&mut self, ms: u64) -> Result<(), Failure> {
        if let Some((clock, began)) = &self.clock {
            clock.advance_to(Duration::from_millis(ms.saturating_sub(*began)));
            return Ok(());
        }
        let clock = ManualClock::new();
        if !self.server.inner.follow(clock.clone()) {
            return Err(Failure::new(
                Code::Argument,
                c"the clock is chosen before the first heartwheel_turn",
            ));
        }
        self.clock = Some((clock, ms));
        Ok(())
    }

    /// Binds an address and returns its port, 0 for a Unix socket.
    pub fn listen(&mut self, address: &str, face: Face) -> Result<u16, Failure> {
        let address: Address = address
            .parse()
            .map_err(|error| Failure::told(Code::Argument, &format!("{address}: {error}")))?;
        let bound = self.server.listen(&address, face)?;
        Ok(bound.first().and_then(LocalAddress::as_tcp).map_or(0, |address| address.port()))
    }

    pub fn add_routes(&mut self, specs: Vec<Served>) -> Result<(), Failure> {
        Ok(self.server.inner.add_routes(specs)?)
    }

    pub fn descriptor(&self) -> RawFd {
        self.server.as_fd().as_raw_fd()
    }

    /// Returns the milliseconds until the next turn, -1 if nothing is due.
    pub fn next_timeout_ms(&self) -> i64 {
        if self.server.is_over() && !self.is_over_told {
            // The next turn reports it.
            return 0;
        }
        let wait = self.server.next_timeout();
        wait.map_or(-1, |wait| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX))
    }

    /// Does a turn. Returns whether a drain is over.
    pub fn turn(&mut self) -> Result<bool, Failure> {
        self.event = None;
        self.shown = None;
        #[cfg(feature = "client")]
        {
            self.link_event = None;
        }
        if self.job.as_ref().is_some_and(|job| job.events.is_empty()) {
            self.finish_job();
        }
        self.server.turn()?;
        if let Some(asked) = &mut self.asked {
            asked.go_on(true);
        }
        self.is_over_told = self.server.is_over();
        Ok(self.is_over_told)
    }

    /// Pulls the next event. The host may use its data until the next event or the next turn.
    pub fn next_event(&mut self) -> Option<HeartwheelEvent> {
        self.event = None;
        if let Some(asked) = &mut self.asked {
            asked.go_on(false);
        }
        loop {
            if let Some(job) = &mut self.job {
                if let Some(event) = job.events.pop_front() {
                    job.note(&event);
                    #[cfg(feature = "sessions")]
                    let mut event = event;
                    #[cfg(feature = "sessions")]
                    match sessions::follow(&self.session_routes, job, &mut event) {
                        Told::Event => {}
                        Told::Nothing => continue,
                        Told::Unsaved(why) => {
                            return Some(HeartwheelEvent::of_unsaved(job.id, why));
                        }
                    }
                    let event = self.event.insert(event);
                    return Some(HeartwheelEvent::new(job.id, event));
                }
                self.finish_job();
            }
            #[cfg(feature = "client")]
            if let Some(event) = self.next_link_event() {
                return Some(event);
            }
            let Some(job) = self.server.inner.poll_job() else { return self.next_ended() };
            let (id, route) = (job.id, job.route);
            let (request, is_judged) = match job.task {
                Task::Events { session, events } => {
                    self.job = Some(Pulled { id, route, session, events, messages_handled: 0 });
                    continue;
                }
                Task::Authorize(request) => (request, true),
                Task::Answer(request) => (request, false),
                // A host begins no answers over time and has no hooks; jobs of timers run in turns.
                Task::Pull(_) | Task::Step(..) | Task::Call(_) | Task::Offer(_) => continue,
            };
            debug_assert!(self.asked.is_some(), "the host asks for requests");
            return Some(self.asked.as_mut()?.take(id, route, request, is_judged));
        }
    }

    /// Pulls the end of a request that the host has not answered.
    fn next_ended(&mut self) -> Option<HeartwheelEvent> {
        let engine = self.server.inner.engine();
        let ended = self.asked.as_mut()?.poll_ended(&|id| engine.is_asking(id))?;
        self.server.inner.finish_job(ended.done);
        Some(ended.event)
    }

    /// Sends a message of `len` bytes, which `make` copies if it is accepted.
    pub fn send(
        &mut self,
        id: ConnectionId,
        len: usize,
        make: &dyn Fn() -> Option<Message>,
    ) -> Result<(), Failure> {
        #[cfg(feature = "client")]
        if let Some(sent) = self.send_to_server(id, make) {
            return sent;
        }
        // An answer to the event pulled last may be as long as that event.
        let from = self.job.as_ref().map(|job| job.id);
        Ok(self.server.inner.send(from, id, len, make)?)
    }

    pub fn publish(&mut self, topic: &str, payload: Payload) -> Result<(), Failure> {
        Ok(self.server.inner.publish(topic, payload)?)
    }

    /// Subscribes a peer. Returns whether events after the position are missing.
    pub fn subscribe(
        &mut self,
        id: ConnectionId,
        topic: &str,
        after: After,
    ) -> Result<bool, Failure> {
        #[cfg(feature = "client")]
        if let Some(subscribed) = self.subscribe_at_server(id, topic, Some(after)) {
            return subscribed;
        }
        Ok(self.server.inner.subscribe(id, topic, after)?)
    }

    pub fn unsubscribe(&mut self, id: ConnectionId, topic: &str) -> Result<(), Failure> {
        #[cfg(feature = "client")]
        if let Some(ended) = self.subscribe_at_server(id, topic, None) {
            return ended.map(|_| ());
        }
        Ok(self.server.inner.unsubscribe(id, topic)?)
    }

    /// Closes a connection. None of its messages comes after this.
    pub fn close(&mut self, id: ConnectionId, code: u16, text: &str) -> Result<(), Failure> {
        if !ws::is_allowed_close_code(code) {
            return Err(Failure::new(Code::Argument, c"this close code must not be sent"));
        }
        #[cfg(feature = "client")]
        if let Some(stopped) = self.stop_link(id, code, text) {
            return stopped;
        }
        let job = self.job.as_mut().filter(|job| job.id == id);
        let cancelled = || job.map_or(0, Pulled::forget_messages);
        Ok(self.server.inner.close_for_host(id, code, text.into(), cancelled)?)
    }

    /// Takes back the event of a timer that the host has not pulled of its job. Returns whether
    /// there was one.
    pub fn cancel_in_hand(&mut self, id: ConnectionId, token: u64) -> bool {
        let Some(job) = self.job.as_mut().filter(|job| job.id == id) else { return false };
        let before = job.events.len();
        job.events.retain(|event| !matches!(event, Event::Timer(own) if *own == token));
        before > job.events.len()
    }

    /// Returns the place of the session of a peer, until its end was pulled and left behind.
    pub fn session_of(&mut self, id: ConnectionId) -> Result<&mut Option<Session>, Failure> {
        match &mut self.job {
            Some(job) if job.id == id => Ok(&mut job.session),
            _ => Ok(self.server.inner.session_of(id).ok_or(Refused::Gone)?),
        }
    }

    pub fn drain(&mut self) {
        self.server.inner.drain();
    }

    /// Closes every socket, after a panic.
    pub fn abandon(&mut self) {
        self.server.inner.abandon();
    }

    fn finish_job(&mut self) {
        let Some(Pulled { id, route, session, events, messages_handled }) = self.job.take() else {
            return;
        };
        let outcome = Outcome::Events { session, messages_handled, events };
        self.server.inner.finish_job(Done { id, route, outcome });
    }
}

impl Pulled {
    /// Keeps what the engine wants to know of an event.
    fn note(&mut self, event: &Event) {
        match event {
            // A session means that the host was told of the connection.
            Event::Opened(_) => self.session = Some(Box::new(())),
            Event::Message(_) => self.messages_handled += 1,
            // With the end the engine drops the session, when the host has seen it.
            Event::Closed(_)
            | Event::Suspect
            | Event::Drained
            | Event::Pong(_)
            | Event::Timer(_)
            | Event::Visit(_)
            | Event::Offered(_) => {}
        }
    }

    /// Drops the messages that were not pulled yet and returns their number.
    fn forget_messages(&mut self) -> u64 {
        let before = self.events.len();
        self.events.retain(|event| !matches!(event, Event::Message(_)));
        (before - self.events.len()) as u64
    }
}

/// Reads a configuration and makes it one for a host.
pub(super) fn configure(toml: Option<&str>) -> Result<Config, Failure> {
    let mut config = Config::default();
    let faults = toml.map_or(Vec::new(), |toml| merge(&mut config, toml));
    if !faults.is_empty() {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        return Err(Failure::told(Code::Config, &lines.join("; ")));
    }
    take_over(&mut config)?;
    Ok(config)
}

#[cfg(feature = "toml")]
fn merge(config: &mut Config, toml: &str) -> Vec<ConfigError> {
    config.merge_toml(toml)
}

#[cfg(not(feature = "toml"))]
fn merge(config: &mut Config, toml: &str) -> Vec<ConfigError> {
    config.merge_plain_toml(toml)
}

/// Makes the configuration one for a host: no address unless it was set, and no workers.
fn take_over(config: &mut Config) -> Result<(), Failure> {
    if config.workers > 0 && config.is_set("workers") {
        let text = format!(
            "workers = {}: events are pulled, so there is nothing for a worker to do: must be 0",
            config.workers
        );
        return Err(Failure::told(Code::Config, &text));
    }
    config.workers = 0;
    if !config.is_set("admin_listen") {
        config.admin_listen.clear();
    }
    if !config.is_set("listen") {
        config.listen.clear();
    }
    Ok(())
}

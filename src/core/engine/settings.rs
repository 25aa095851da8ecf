//! What the engine follows: the configuration, and what is made of it once.

use std::time::Duration;

use log::warn;

use crate::core::admission::credentials::Credentials;
#[cfg(feature = "deflate")]
use crate::core::config::Compression;
use crate::core::config::{Config, Limits, OverflowPolicy, Takeover};
use crate::core::connection::{Connection, RouteIndex, Spans};
use crate::core::contract::route::RouteSpec;
use crate::core::engine::services::Paths;
use crate::core::engine::{Served, Setup};
use crate::core::ground::time::Instant;
use crate::core::topics;
use crate::core::wire::http::HeadLimits;
use crate::core::wire::ws;

/// The configuration, the routes, and what follows from them.
#[derive(Debug)]
pub(super) struct Settings {
    pub config: Config,
    pub routes: Vec<Served>,
    /// The order in which routes are looked for.
    pub paths: Paths,
    /// This machine's name, one of the Host names answered.
    pub machine_name: String,
    /// What `limits.memory_bytes = auto` stands for.
    pub memory_auto: u64,
    /// What connections follow whose route has no values of its own.
    common: Rules,
    /// What the others follow, by the numbers of their routes; no longer than it must be.
    own: Vec<Option<Box<Rules>>>,
    /// What some peer sends is counted: mostly nothing is, and no connection is looked up for it.
    pub counts_input: bool,
    pub head_limits: HeadLimits,
    /// What requests are let in by.
    pub credentials: Credentials,
}

impl Settings {
    pub fn new(setup: Setup) -> Settings {
        let Setup { config, routes, machine_name, memory_auto, .. } = setup;
        let mut settings = Settings {
            paths: Paths::default(),
            common: Rules::new(&config, None),
            own: Vec::new(),
            counts_input: false,
            head_limits: head_limits(&config),
            credentials: Credentials::default(),
            config,
            routes: Vec::new(),
            machine_name,
            memory_auto,
        };
        settings.add(routes);
        settings
    }

    /// Adds routes. Returns the number of the first.
    pub fn add(&mut self, routes: Vec<Served>) -> usize {
        let first = self.routes.len();
        self.routes.extend(routes);
        self.paths.add(&self.routes, first);
        (first..self.routes.len()).for_each(|route| self.derive(route));
        self.note_counting();
        first
    }

    /// Returns what a connection follows.
    #[inline]
    pub fn rules<'a>(&'a self, connection: &Connection) -> &'a Rules {
        // Mostly no route has values of its own.
        match self.own.is_empty() {
            true => &self.common,
            false => self.route_rules(connection.ruling_route()),
        }
    }

    /// Returns what connections of a route follow; without a route, what all follow before they
    /// have one.
    pub fn route_rules(&self, route: Option<RouteIndex>) -> &Rules {
        let own = route.and_then(|route| self.own.get(usize::from(route))?.as_deref());
        own.unwrap_or(&self.common)
    }

    /// Returns what the deadlines of a connection are derived from.
    pub fn spans<'a>(&'a self, connection: &Connection) -> &'a Spans {
        &self.rules(connection).spans
    }

    /// Returns what deadlines are derived from where there is no connection.
    pub fn common_spans(&self) -> &Spans {
        &self.common.spans
    }

    /// Begins the last stage of a drain, at whose end nothing stays open.
    pub fn end_at(&mut self, at: Instant) {
        let own = self.own.iter_mut().flatten().map(Box::as_mut);
        for rules in own.chain([&mut self.common]) {
            rules.spans.drain_ends_at = Some(at);
        }
    }

    /// Follows another configuration. The end of a drain in progress does not change.
    pub fn follow(&mut self, config: Config) {
        self.common = Rules::new(&config, self.common.spans.drain_ends_at);
        self.head_limits = head_limits(&config);
        self.config = config;
        (0..self.routes.len()).for_each(|route| self.derive(route));
        self.note_counting();
    }

    /// Returns what a route would set with another value of this key.
    ///
    /// # Errors
    ///
    /// The faults of the key, or what contradicts the configuration then.
    #[cfg(feature = "ffi")]
    pub fn changed(
        &self,
        route: usize,
        key: &str,
        value: &str,
    ) -> Result<Vec<(String, String)>, Vec<String>> {
        let mut changes = self.routes[route].changes.clone();
        changes.retain(|(name, _)| name != key);
        changes.push((key.to_owned(), value.to_owned()));
        self.config.changed_by(&changes)?;
        Ok(changes)
    }

    /// Has a route follow changes that were found sound.
    #[cfg(feature = "ffi")]
    pub fn change(&mut self, route: usize, changes: Vec<(String, String)>) {
        self.routes[route].spec.changes = changes;
        self.derive(route);
        self.note_counting();
    }

    fn note_counting(&mut self) {
        let all = self.own.iter().flatten().map(Box::as_ref).chain([&self.common]);
        self.counts_input = all
            .map(|rules| &rules.limits)
            .any(|limits| limits.messages_per_second > 0 || limits.bytes_per_second > 0);
    }

    /// Derives what connections of a route follow, if the route has values of its own. Where they
    /// contradict a configuration that was reloaded, the route keeps what it has.
    fn derive(&mut self, route: usize) {
        let RouteSpec { path, changes, .. } = &self.routes[route].spec;
        if changes.is_empty() {
            return;
        }
        match self.config.changed_by(changes) {
            Ok(config) => {
                let rules = Rules::new(&config, self.common.spans.drain_ends_at);
                self.own.resize_with(self.own.len().max(route + 1), || None);
                self.own[route] = Some(Box::new(rules));
            }
            Err(faults) => {
                for fault in faults {
                    warn!("a route keeps what it had before a reload path={path} {fault}");
                }
            }
        }
    }
}

/// What a connection follows of the configuration: that of its route, or that of all.
#[derive(Debug)]
pub(super) struct Rules {
    pub limits: Limits,
    pub overflow: OverflowPolicy,
    /// What a connection does to an older one of its identity.
    pub takeover: Takeover,
    /// How long a WebSocket may be open.
    pub lifetime: Option<Duration>,
    /// What deadlines are derived from.
    pub spans: Spans,
    pub frame_limits: ws::Limits,
    /// Which messages are compressed.
    #[cfg(feature = "deflate")]
    pub compression: Compression,
}

impl Rules {
    fn new(config: &Config, drain_ends_at: Option<Instant>) -> Rules {
        let limits = &config.limits;
        Rules {
            overflow: config.overflow.policy,
            takeover: config.admission.takeover,
            lifetime: config.deadlines.lifetime,
            spans: Spans { drain_ends_at, ..Spans::from(config) },
            frame_limits: ws::Limits {
                message_bytes: limits.message_bytes,
                fragments: limits.fragments,
            },
            limits: limits.clone(),
            #[cfg(feature = "deflate")]
            compression: config.compression.clone(),
        }
    }
}

fn head_limits(config: &Config) -> HeadLimits {
    let limits = &config.limits;
    HeadLimits { head_bytes: limits.head_bytes, headers: limits.headers }
}

pub(super) fn topic_rules(config: &Config) -> topics::Rules {
    topics::Rules {
        retain_events: config.topics.retain_events,
        retain_bytes: config.topics.retain_bytes,
        retain_for: config.topics.retain_for,
        topics_max: config.limits.topics,
        subscriptions_max: config.limits.subscriptions,
    }
}

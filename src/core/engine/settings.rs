//! What the engine follows: the configuration, and what is made of it once.

use crate::core::admission::tokens::Tokens;
use crate::core::config::Config;
use crate::core::connection::Spans;
use crate::core::contract::route::RouteSpec;
use crate::core::engine::Setup;
use crate::core::topics;
use crate::core::wire::http::HeadLimits;
use crate::core::wire::ws;

/// The configuration, the routes, and what follows from them.
#[derive(Debug)]
pub(super) struct Settings {
    pub config: Config,
    pub routes: Vec<RouteSpec>,
    /// This machine's name, one of the Host names answered.
    pub machine_name: String,
    /// What `limits.memory_bytes = auto` stands for.
    pub memory_auto: u64,
    /// What deadlines are derived from.
    pub spans: Spans,
    pub frame_limits: ws::Limits,
    pub head_limits: HeadLimits,
    /// The tokens of which requests must bear one; `None` if they need none.
    pub tokens: Option<Tokens>,
}

impl Settings {
    pub fn new(setup: Setup) -> Settings {
        let Setup { config, routes, machine_name, memory_auto, .. } = setup;
        Settings {
            spans: Spans::from(&config),
            frame_limits: frame_limits(&config),
            head_limits: head_limits(&config),
            tokens: None,
            config,
            routes,
            machine_name,
            memory_auto,
        }
    }

    /// Follows another configuration. The end of a drain in progress does not change.
    pub fn follow(&mut self, config: Config) {
        let drain_ends_at = self.spans.drain_ends_at;
        self.spans = Spans { drain_ends_at, ..Spans::from(&config) };
        self.frame_limits = frame_limits(&config);
        self.head_limits = head_limits(&config);
        self.config = config;
    }
}

fn frame_limits(config: &Config) -> ws::Limits {
    let limits = &config.limits;
    ws::Limits { message_bytes: limits.message_bytes, fragments: limits.fragments }
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

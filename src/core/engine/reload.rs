//! What follows from the configuration: at the beginning, and when it changes while connections are
//! open.

use log::{info, warn};

use crate::core::admission::tokens::Tokens;
use crate::core::config::{Config, Key};
use crate::core::connection::Rules;
use crate::core::engine::Engine;
use crate::core::engine::rounds::Beats;
use crate::core::ground::time::Instant;
use crate::core::topics;
use crate::core::wire::http;
use crate::core::wire::ws;

impl Engine {
    /// Follows another configuration from now on; [`Config::check`] has found no fault in it.
    /// Nobody is dropped by the change itself: limits hold for what comes, deadlines count from
    /// where they began. Where heartbeats change, each peer is pinged within one new interval, and
    /// judged by nothing before. What takes a restart is kept as it is, and said.
    pub(super) fn reload(&mut self, now: Instant, mut config: Config, tokens: Option<Tokens>) {
        let changed = self.setup.config.differences(&config);
        let (kept, changed): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| key.takes_restart());
        config.keep(&kept, &self.setup.config);
        let names = |keys: &[&Key]| keys.iter().map(|key| key.name).collect::<Vec<_>>().join(",");
        let token_count = tokens.as_ref().map_or(0, Tokens::len);
        info!("reloaded changed={} tokens={token_count}", names(&changed));
        if !kept.is_empty() {
            warn!("reload keeps what takes a restart keys={}", names(&kept));
        }
        let drain_ends_at = self.rules.drain_ends_at;
        let beats_change = changed
            .iter()
            .any(|key| key.section() == "heartbeat" || key.name == "deadlines.read_idle");
        self.rules = Rules { drain_ends_at, ..Rules::from(&config) };
        self.frame_limits = frame_limits(&config);
        self.head_limits = head_limits(&config);
        self.topics.reload(topic_rules(&config));
        self.budget.reload(&config, self.setup.memory_auto);
        self.setup.config = config;
        self.count_addresses();
        let beats = if beats_change { Beats::Reload } else { Beats::Stay };
        self.change_tokens(now, tokens, beats);
    }
}

pub(super) fn frame_limits(config: &Config) -> ws::Limits {
    let limits = &config.limits;
    ws::Limits { message_bytes: limits.message_bytes, fragments: limits.fragments }
}

pub(super) fn head_limits(config: &Config) -> http::HeadLimits {
    let limits = &config.limits;
    http::HeadLimits { head_bytes: limits.head_bytes, headers: limits.headers }
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

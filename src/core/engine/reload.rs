//! What follows from the configuration: at the beginning, and when it changes while connections are
//! open.

use log::{info, warn};

use crate::core::admission::credentials::Credentials;
use crate::core::admission::tokens::Tokens;
use crate::core::config::{Config, Key};
use crate::core::contract::event::{Command, Order};
use crate::core::engine::Engine;
use crate::core::engine::rounds::Beats;
use crate::core::engine::settings::topic_rules;
use crate::core::ground::time::Instant;

impl Engine {
    /// Makes a command that puts a configuration without faults in force, with what its files say
    /// of who is let in.
    pub fn reload_command(config: Config, credentials: Credentials) -> Command {
        let reload = move |engine: &mut Engine, now| engine.reload(now, config, credentials);
        let order = Order::of(reload);
        Command::Order(order.unbounded())
    }

    /// Follows another configuration from now on; [`Config::check`] has found no fault in it. The
    /// change itself ends no connection, but where `admission.revoke` says so: limits hold for what
    /// comes, deadlines count from where they began. If heartbeats change, each peer is pinged
    /// within one new interval, and not judged by what was before. Settings that take a restart
    /// stay as they are, and are logged.
    fn reload(&mut self, now: Instant, mut config: Config, credentials: Credentials) {
        let changed = self.settings.config.differences(&config);
        let (kept, changed): (Vec<_>, Vec<_>) =
            changed.into_iter().partition(|key| key.takes_restart());
        config.keep(&kept, &self.settings.config);
        let names = |keys: &[&Key]| keys.iter().map(|key| key.name).collect::<Vec<_>>().join(",");
        let token_count = credentials.tokens.as_ref().map_or(0, Tokens::len);
        info!("reloaded changed={} tokens={token_count}", names(&changed));
        if !kept.is_empty() {
            warn!("reload keeps what takes a restart keys={}", names(&kept));
        }
        let beats = Beats::after(changed.iter().map(|key| key.name));
        self.topics.reload(topic_rules(&config));
        self.budget.reload(&config, self.settings.memory_auto);
        self.spares.memory.set_limit(self.budget.spare_max());
        self.settings.follow(config);
        #[cfg(feature = "presence")]
        self.reload_presence(now);
        #[cfg(feature = "bridge")]
        self.bridged.note_reload();
        self.count_addresses();
        self.change_credentials(now, credentials, beats);
    }
}

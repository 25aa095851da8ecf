//! Hooks that are told when a topic gets its first subscriber, and when it loses its last one: jobs
//! of the server's own, one of each topic at a time.
//!
//! A topic counts against `limits.topics` until its hooks have returned, so that what waits for a
//! hook that blocks is bounded.

use std::fmt;
use std::sync::Arc;

use crate::core::contract::event::{Call, Outcome, Run};
use crate::core::engine::Engine;
use crate::core::topics::{Change, Name};

/// What is called with the name of a topic. Returns whether the hook returned: `false` is a panic.
pub type AudienceHook = Arc<dyn Fn(&Name) -> bool + Send + Sync>;

/// The hooks, in the order in which they were added.
#[derive(Default)]
pub(super) struct AudienceHooks(Vec<(Change, AudienceHook)>);

impl fmt::Debug for AudienceHooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AudienceHooks").field(&self.0.len()).finish()
    }
}

impl Engine {
    /// Has a hook be told of changes of this kind, from now on.
    pub fn hook_audience(&mut self, change: Change, hook: AudienceHook) {
        self.audience.0.push((change, hook));
        self.topics.watch_audience();
    }

    /// Has hooks be told what has become of topics' subscribers. To be called when it may have
    /// changed.
    #[inline]
    pub(super) fn tell_audience(&mut self) {
        if self.topics.is_audience_watched() {
            self.tell_changes();
        }
    }

    #[cold]
    fn tell_changes(&mut self) {
        while let Some((topic, change)) = self.topics.poll_change() {
            let is_for = |(wanted, _): &&(Change, AudienceHook)| *wanted == change;
            let hooks = self.audience.0.iter().filter(is_for).map(|(_, hook)| hook.clone());
            let hooks: Vec<_> = hooks.collect();
            if hooks.is_empty() {
                self.topics.note_change_told(&topic);
                continue;
            }
            let run: Run = Box::new(move |tick| {
                let mut panics = 0;
                for hook in hooks {
                    tick();
                    panics += u64::from(!hook(&topic));
                }
                tick();
                Outcome::Told { topic, panics }
            });
            self.queue_call(Call { number: 0, run });
        }
    }

    /// Takes note that the hooks of a topic have returned.
    pub(super) fn handle_told(&mut self, topic: &Name, panics: u64) {
        self.stats.handler_panics += panics;
        self.topics.note_change_told(topic);
        self.tell_audience();
    }
}

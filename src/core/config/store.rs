//! What [`Config`](super::Config) says of durable topics.

use std::path::PathBuf;
use std::time::Duration;

use super::units::show_duration;
use super::{Config, Term};
use crate::core::admission::patterns::Patterns;
use crate::core::store::PAGE_BYTES;

/// Which topics outlast a restart, where they are kept, and what that may cost.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Store {
    /// The file of the ring, which no other process uses. Default none.
    pub file: Option<PathBuf>,
    /// The size of the file: when the ring is full, the oldest events make room. Default 1 MiB,
    /// 64 KiB to 1 GiB, in whole pages of 4 KiB.
    pub bytes: u64,
    /// The topics that are kept. Default none.
    pub topics: Patterns,
    /// How long an event may wait until it is on flash: at most as much is lost to a power cut.
    /// Default 1 s.
    pub sync: Duration,
    /// When a publisher is answered. Default at once.
    pub ack: StoreAck,
    /// How many bytes may be written in a day. Default any number.
    pub budget: Option<u64>,
    /// What becomes of events for which the budget does not suffice. Default: they wait.
    pub when_spent: WhenSpent,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            file: None,
            bytes: 1 << 20,
            topics: Patterns::default(),
            sync: Duration::from_secs(1),
            ack: StoreAck::Memory,
            budget: None,
            when_spent: WhenSpent::Slow,
        }
    }
}

/// When the publisher of an event of a durable topic is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAck {
    /// When the event has its id.
    Memory,
    /// When the event is on flash.
    Flash,
}

/// What becomes of events while no more may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenSpent {
    /// They wait to be written, as far as there is room for them.
    Slow,
    /// They stay in memory alone.
    Memory,
}

impl Config {
    /// Keys of the store that do nothing, or that contradict each other.
    pub(super) fn store_contradictions(&self) -> Vec<String> {
        let store = &self.store;
        let mut faults = Vec::new();
        if store.file.is_none() && !store.topics.is_empty() {
            faults.push("store.topics: needs store.file".into());
        }
        if !store.bytes.is_multiple_of(PAGE_BYTES as u64) {
            faults.push(format!("store.bytes: must be a multiple of {PAGE_BYTES}"));
        }
        if store.ack == StoreAck::Flash && store.when_spent == WhenSpent::Memory {
            faults.push(
                "store.when_spent = memory: must be slow where store.ack = flash, which no event \
                 in memory alone can have"
                    .into(),
            );
        }
        if store.ack == StoreAck::Flash && store.sync >= self.deadlines.handshake {
            faults.push(format!(
                "store.sync = {}: must be shorter than deadlines.handshake = {} where \
                 store.ack = flash, or no answer comes in time",
                show_duration(store.sync),
                show_duration(self.deadlines.handshake)
            ));
        }
        faults
    }

    /// Warns of a file for nothing.
    pub(super) fn store_doubt(&self) -> Option<String> {
        let is_idle = self.store.file.is_some() && self.store.topics.is_empty();
        is_idle.then(|| "store.file: nothing is kept while store.topics = off".into())
    }

    /// Returns what waits to be written.
    pub(super) fn store_term(&self) -> Option<Term> {
        self.store.file.as_ref()?;
        let bytes = self.limits.message_bytes.max(STORE_QUEUE_BYTES as u64);
        Some(Term { what: "events for the store", count: 1, bytes, is_budgeted: false })
    }
}

/// How many bytes of events may wait for the disk; one event may always.
pub(crate) const STORE_QUEUE_BYTES: usize = 256 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pairs: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let mut config = Config::default();
        for (name, text) in pairs {
            config.set(name, text).unwrap();
        }
        let report = config.check();
        (report.faults, report.warnings)
    }

    #[test]
    fn keys_that_need_each_other_are_named() {
        let file = ("store.file", "/data/ring");
        let topics = ("store.topics", "orders,devices.*");
        let flash = ("store.ack", "flash");
        assert_eq!(check(&[file, topics]), (vec![], vec![]));
        for (pairs, fault) in [
            ([topics].as_slice(), "store.topics: needs store.file"),
            (&[file, topics, ("store.bytes", "100000")], "store.bytes: must be a multiple"),
            (
                &[file, topics, flash, ("store.when_spent", "memory")],
                "store.when_spent = memory: must be slow where store.ack = flash",
            ),
            (
                &[file, topics, flash, ("store.sync", "5s")],
                "store.sync = 5s: must be shorter than deadlines.handshake = 5s",
            ),
        ] {
            let (faults, _) = check(pairs);
            assert!(faults.len() == 1 && faults[0].starts_with(fault), "{faults:?}");
        }
        let (faults, warnings) = check(&[file]);
        assert!(
            faults.is_empty() && warnings[0].starts_with("store.file: nothing"),
            "{warnings:?}"
        );
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for text in ["", "a b", "$stats", "a,", "a/#"] {
            let fault = Config::default().set("store.topics", text).unwrap_err().to_string();
            assert!(fault.contains("must be a list of topics"), "{fault}");
        }
    }
}

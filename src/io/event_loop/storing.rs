//! The store of durable topics, as the loop has it.

use std::mem;
use std::path::Path;

use log::{error, info, warn};

use crate::core::config::Store as Settings;
use crate::core::contract::backbone::Logged;
use crate::core::contract::event::Command;
use crate::core::ground::time::Instant;
use crate::core::store::{PAGE_BYTES, Pages, Ring};
use crate::core::topics::Past;
use crate::io::event_loop::EventLoop;
use crate::system::store::RingFile;
use crate::threads::store::Store;

impl EventLoop {
    /// Takes the events of durable topics from the store, and gives it those that come. Whatever is
    /// wrong with its file, the server goes on.
    pub(super) fn begin_store(&mut self) {
        let settings = self.engine.config().store.clone();
        if let Some(path) = settings.file.as_deref().filter(|_| !settings.topics.is_empty()) {
            self.outside.store = Some(self.open_store(path, &settings));
        }
    }

    fn open_store(&mut self, path: &Path, settings: &Settings) -> Store {
        let now = self.outside.clock.now();
        let unix_ms = self.outside.clock.unix_ms();
        let file = path.display();
        // No more than all logs together may have.
        let bytes_max = usize::try_from(self.engine.memory_limit() / 2).unwrap_or(usize::MAX);
        let (pages, mut found) = match RingFile::open(path, settings.bytes, bytes_max) {
            Ok(opened) => opened,
            Err(fault) => {
                error!("store.file = {file}: {fault}: durable topics are in memory alone");
                self.engine.keep(now, unix_ms, Past { has_loss: true, ..Past::default() });
                return Store::without_disk();
            }
        };
        let (events, damaged) = (mem::take(&mut found.past.events), found.damaged);
        info!("store opened file={file} events={}", events.len());
        if damaged > 0 {
            warn!("store.file = {file}: pages damaged={damaged}: what they had is a gap");
        }
        if found.past.has_loss {
            warn!("store.file = {file}: not closed, or damaged: its last events may be lost");
        }
        #[cfg(feature = "bridge")]
        self.outside.bridges.resume(&found.positions);
        let first = self.engine.keep(now, unix_ms, Past { events, ..found.past.clone() });
        let ring = Ring::begin(&found, PAGE_BYTES, pages.count(), first);
        Store::start(ring, pages, settings, self.handle()).unwrap_or_else(|fault| {
            error!("store: {fault}: durable topics are in memory alone");
            Store::without_disk()
        })
    }

    /// Gives the store the events that were published since the last call.
    pub(super) fn give_to_store(&mut self, now: Instant) {
        let mut refused = Vec::new();
        let Some(store) = &mut self.outside.store else { return };
        while let Some((kept, ticket)) = self.engine.poll_kept() {
            refused.extend(store.give(now, kept, ticket));
        }
        store.look(now);
        #[cfg(feature = "bridge")]
        if let Some((positions, is_news)) = self.outside.bridges.poll_positions(&self.engine) {
            store.note_positions(positions, is_news);
        }
        for ticket in refused {
            let command = Command::Logged(Box::new(Logged::Kept(ticket, None)));
            self.engine.take_command(now, &mut self.outside, None, command);
        }
    }

    /// Has the store write what it has.
    pub(super) fn end_store(&mut self, now: Instant) {
        self.give_to_store(now);
        let last = self.engine.position();
        if let Some(store) = &mut self.outside.store {
            store.stop(last);
        }
    }
}

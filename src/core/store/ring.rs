//! Writing the ring.

use std::io;

use super::page::Head;
use super::record::Record;
use super::{Found, Pages};
use crate::core::topics::{EventId, Kept, Name};

/// A ring that is written: one run after the other, each from where the last one ended.
// Invariants:
// - Pages from `synced + 1` to `next - 1` are written, and not synced.
// - `page` is the page that comes next: a place for its head, then its records.
#[derive(Debug)]
pub struct Ring {
    page_bytes: usize,
    slots: u64,
    run: u32,
    process: u16,
    next: u64,
    synced: u64,
    last: EventId,
    lost: Option<EventId>,
    page: Vec<u8>,
    /// The id of the last record that began before this page.
    before: EventId,
    first: Option<u16>,
    names: Vec<Name>,
    /// How far readers have come, by their names, and whether the ring is still to be told.
    positions: Vec<(String, EventId, bool)>,
    /// The page that was next when all positions were stated; 0 if it may not be there.
    stated: u64,
}

impl Ring {
    /// Begins a run behind what was found. `first` is the first position of this process, and bears
    /// its number. If the run before did not end well, what is written first says so.
    pub fn begin(found: &Found, page_bytes: usize, slots: u64, first: EventId) -> Ring {
        let mut ring = Ring {
            page_bytes,
            slots,
            run: found.run.wrapping_add(1),
            process: first.process(),
            next: found.newest + 1,
            synced: found.newest,
            last: found.past.last,
            lost: None,
            page: Vec::new(),
            before: found.past.last,
            first: None,
            names: Vec::new(),
            positions: Vec::new(),
            stated: found.newest + 1,
        };
        ring.set_positions(&found.positions);
        ring.turn_page();
        match found.past.has_loss {
            true => ring.lost = Some(first),
            false => ring.write(&Record::Mark(first)),
        }
        ring
    }

    /// Appends an event: writes pages that are full, and syncs before they are too many. Returns
    /// whether the ring keeps the event: not one that would take more than a quarter of the ring.
    ///
    /// # Errors
    ///
    /// As [`Pages`]. What was appended since the last commit is lost, this event too; the next
    /// commit says so.
    pub fn append(&mut self, pages: &mut impl Pages, event: Kept) -> io::Result<bool> {
        let most = self.room() as u64 * (self.slots / 4);
        let id = event.id;
        if event.payload.len() as u64 + EVENT_HEAD_MAX > most {
            self.lose(id);
            return Ok(false);
        }
        let told = self.tell_lost(pages);
        let put = told.and_then(|()| self.put(pages, &Record::Event(event)));
        put.inspect_err(|_| self.fail(id)).map(|()| true)
    }

    /// Notes that an event is not kept: what is written next says so.
    pub fn lose(&mut self, id: EventId) {
        self.lost = self.lost.max(Some(id));
    }

    /// Sets how far readers have come, all of them: the next commit says so. What a crash leaves is
    /// one of a commit before, perhaps an older one.
    pub fn set_positions(&mut self, positions: &[(String, EventId)]) {
        let is_known = |name: &str, at: EventId| {
            let known = self.positions.iter().find(|(known, _, _)| known == name);
            known.is_some_and(|(_, before, is_new)| *before == at && !is_new)
        };
        let news = |(name, at): &(String, EventId)| (name.clone(), *at, !is_known(name, *at));
        self.positions = positions.iter().map(news).collect();
    }

    /// Returns whether a commit would write anything.
    pub fn has_news(&self) -> bool {
        self.next > self.synced + 1 || self.has_more()
    }

    fn has_more(&self) -> bool {
        let has_position = self.positions.iter().any(|(_, _, is_new)| *is_new);
        self.page.len() > Head::BYTES || self.lost.is_some() || has_position
    }

    /// Returns how many pages a commit has yet to write.
    pub fn pages_to_write(&self) -> u64 {
        u64::from(self.has_more())
    }

    /// Writes what was appended, and syncs. Nothing of it is lost to a power cut from now on.
    ///
    /// # Errors
    ///
    /// As [`Pages`]. What was appended since the last commit is lost; the next commit says so.
    pub fn commit(&mut self, pages: &mut impl Pages) -> io::Result<()> {
        let told = self.tell_lost(pages);
        let stated = told.and_then(|()| self.state_positions(pages));
        stated.and_then(|()| self.write_out(pages, false)).inspect_err(|_| self.fail(self.last))
    }

    /// Commits, and then notes that nothing was published behind `last`. Nothing may be appended
    /// after it.
    ///
    /// # Errors
    ///
    /// As [`Ring::commit`].
    pub fn close(&mut self, pages: &mut impl Pages, last: EventId) -> io::Result<()> {
        self.commit(pages)?;
        self.put(pages, &Record::Mark(last.max(self.last)))?;
        self.write_out(pages, true)
    }

    /// States the positions that have changed; and all, before the ring has come round to where
    /// they were stated last.
    fn state_positions(&mut self, pages: &mut impl Pages) -> io::Result<()> {
        let is_due = self.page.len() > Head::BYTES && self.next - self.stated >= self.slots / 4;
        if is_due {
            self.stated = self.next;
        }
        for place in 0..self.positions.len() {
            let (name, at, is_new) = &mut self.positions[place];
            if is_due || *is_new {
                *is_new = false;
                let record = Record::Position(self.last, name.clone(), *at);
                self.put(pages, &record)?;
            }
        }
        Ok(())
    }

    fn write_out(&mut self, pages: &mut impl Pages, is_clean: bool) -> io::Result<()> {
        if self.page.len() > Head::BYTES {
            self.write_page(pages, is_clean)?;
        }
        self.sync(pages)
    }

    fn sync(&mut self, pages: &mut impl Pages) -> io::Result<()> {
        if self.next > self.synced + 1 {
            pages.sync()?;
            self.synced = self.next - 1;
        }
        Ok(())
    }

    /// Begins another run, since pages of this one may be written or not. All that was appended
    /// since the last commit is lost.
    fn fail(&mut self, last: EventId) {
        self.run = self.run.wrapping_add(1);
        self.next = self.synced + 1;
        self.lose(last.max(self.last));
        // What was stated may not be there.
        self.stated = 0;
        self.positions.iter_mut().for_each(|(_, _, is_new)| *is_new = true);
        self.turn_page();
    }

    fn tell_lost(&mut self, pages: &mut impl Pages) -> io::Result<()> {
        match self.lost.take() {
            Some(id) => self.put(pages, &Record::Lost(id.max(self.last))),
            None => Ok(()),
        }
    }

    /// Puts a record behind those of the page that comes next, and writes pages that are full.
    fn put(&mut self, pages: &mut impl Pages, record: &Record) -> io::Result<()> {
        self.write(record);
        self.spill(pages)
    }

    fn write(&mut self, record: &Record) {
        debug_assert!(self.page.len() < self.page_bytes, "a record begins in the page");
        let place = (self.page.len() - Head::BYTES) as u16;
        self.first.get_or_insert(place);
        record.write(self.last, &mut self.names, &mut self.page);
        self.last = record.id();
    }

    /// Writes pages as long as one is full.
    fn spill(&mut self, pages: &mut impl Pages) -> io::Result<()> {
        while self.page.len() >= self.page_bytes {
            self.write_page(pages, false)?;
            if self.next - self.synced > self.slots / 4 {
                self.sync(pages)?;
            }
        }
        Ok(())
    }

    /// Writes one page of records; what does not fit goes into the next page.
    fn write_page(&mut self, pages: &mut impl Pages, is_clean: bool) -> io::Result<()> {
        let rest = match self.page.len() > self.page_bytes {
            true => self.page.split_off(self.page_bytes),
            false => Vec::new(),
        };
        let used = (self.page.len() - Head::BYTES) as u16;
        let head = Head {
            number: self.next,
            before: self.before,
            run: self.run,
            process: self.process,
            used,
            first: self.first.unwrap_or(used),
            is_clean: is_clean && rest.is_empty(),
        };
        self.page.resize(self.page_bytes, 0);
        head.seal(&mut self.page);
        pages.write(self.next % self.slots, &self.page)?;
        self.next += 1;
        self.turn_page();
        self.page.extend_from_slice(&rest);
        Ok(())
    }

    fn turn_page(&mut self) {
        self.page.clear();
        self.page.resize(Head::BYTES, 0);
        self.before = self.last;
        self.first = None;
        self.names.clear();
    }

    fn room(&self) -> usize {
        self.page_bytes - Head::BYTES
    }
}

/// What an event takes beside its payload at most.
const EVENT_HEAD_MAX: u64 = 11 + 3 * 9 + 1 + Name::LEN_MAX as u64;

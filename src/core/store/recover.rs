//! Reading the ring.

use std::io;

use super::Pages;
use super::page::Head;
use super::record::{self, Reading, Record};
use crate::core::topics::{EventId, Kept, Name, Past};

/// What was found in a ring. The default is what a ring has that was made just now.
#[derive(Debug, Default)]
pub struct Found {
    /// The events, and what is known of the processes that published them.
    pub past: Past,
    /// Pages that were lost between others, or that made no sense.
    pub damaged: u64,
    /// The slots of the pages that count, oldest first, and the number of the newest page.
    pub slots: Vec<u64>,
    /// How far readers had come, by their names: as a commit said that was not the last, perhaps.
    pub positions: Vec<(String, EventId)>,
    pub(super) newest: u64,
    pub(super) run: u32,
    /// The memory of the events.
    bytes: usize,
}

impl Found {
    /// Reads a ring. Takes as many reads as there are pages, and one more for each that counts. Of
    /// the events it takes the newest of at most so many bytes; the others are lost.
    ///
    /// What cannot be read counts as damaged; a ring of nothing but that is an empty one whose
    /// events were lost.
    pub fn read(pages: &mut impl Pages, page_bytes: usize, bytes_max: usize) -> Found {
        let mut page = vec![0; page_bytes];
        let (mut heads, mut rubbish) = (Vec::new(), Vec::new());
        for slot in 0..pages.count() {
            match read_page(pages, slot, &mut page) {
                Some(head) => heads.push((head, slot)),
                None if page.iter().all(|byte| *byte == 0) => {}
                None => rubbish.push(slot),
            }
        }
        let mut found = Found::default();
        found.past.has_loss = true;
        // What lies behind the newest page of the newest run is of a commit that failed.
        let newest = heads.iter().map(|(head, _)| (head.run, head.number)).max();
        let Some((run, newest)) = newest else { return found };
        found.run = run;
        found.newest = newest;
        heads.retain(|(head, _)| head.number <= newest);
        heads.sort_unstable_by_key(|(head, _)| head.number);
        let mut open = Open::default();
        for &(head, slot) in &heads {
            if head.run < open.run {
                // So is a page that a later run was to overwrite.
                continue;
            }
            // It was whole a moment ago.
            let is_same = read_page(pages, slot, &mut page) == Some(head);
            if is_same {
                open.take(&mut found, head, &page[Head::BYTES..][..usize::from(head.used)]);
                found.forget_beyond(bytes_max);
                found.slots.push(slot);
            }
            found.past.has_loss = !(is_same && head.number == newest && head.is_clean);
        }
        // A page that followed the last one may have been there, and be damaged.
        found.past.has_loss |= open.is_broken || rubbish.contains(&((newest + 1) % pages.count()));
        found
    }

    /// Returns whether any page counts.
    pub fn has_pages(&self) -> bool {
        !self.slots.is_empty()
    }

    /// Forgets the oldest events beyond so many bytes.
    fn forget_beyond(&mut self, bytes_max: usize) {
        while self.bytes > bytes_max
            && let Some(event) = self.past.events.pop_front()
        {
            self.bytes -= bytes_of(&event);
            self.past.floor = self.past.floor.max(event.id);
        }
    }

    fn note_position(&mut self, name: String, at: EventId) {
        if !name.contains(FAR) {
            // Ids up to a position of our own topics are used up, though their events may be lost.
            self.note_process(at.process(), at);
            self.past.last = self.past.last.max(at);
        }
        match self.positions.iter_mut().find(|(known, _)| *known == name) {
            Some((_, before)) => *before = at,
            None => self.positions.push((name, at)),
        }
    }

    fn note_process(&mut self, process: u16, last: EventId) {
        match self.past.spans.iter_mut().find(|(number, _)| *number == process) {
            Some((_, before)) => *before = last.max(*before),
            None => self.past.spans.push((process, last)),
        }
    }
}

/// Stands in the names of positions in topics of another server.
pub const FAR: char = '<';

fn read_page(pages: &mut impl Pages, slot: u64, page: &mut [u8]) -> Option<Head> {
    if pages.read(slot, page).is_err() {
        page.fill(UNREADABLE);
    }
    Head::read(page)
}

/// What a page is taken to hold that cannot be read: not what a page has that was never written.
const UNREADABLE: u8 = 0xFF;

/// Where the reading of records stands.
#[derive(Default)]
struct Open {
    /// The page before.
    number: u64,
    run: u32,
    process: u16,
    /// The id of the last record.
    last: EventId,
    /// The topics of the page in which the last record began.
    names: Vec<Name>,
    /// The beginning of a record that goes on in the next page.
    partial: Vec<u8>,
    /// What this page has makes no sense.
    is_broken: bool,
}

impl Open {
    /// Takes the records of the next page.
    fn take(&mut self, found: &mut Found, head: Head, records: &[u8]) {
        let is_next = self.number + 1 == head.number && !self.is_broken;
        if !is_next {
            // Of what was before the first page nothing is known but where it ended.
            found.damaged += u64::from(self.number != 0 && !self.is_broken);
            found.past.floor = found.past.floor.max(head.before);
        }
        let (end, own) = records.split_at(usize::from(head.first));
        let mut partial = std::mem::take(&mut self.partial);
        if is_next && self.run == head.run && !partial.is_empty() {
            partial.extend_from_slice(end);
            let rest = self.read(found, &partial);
            if own.is_empty() && head.first == head.used {
                self.partial = rest;
            }
        }
        self.number = head.number;
        self.run = head.run;
        if own.is_empty() {
            // Names and process are still those of the page in which the record began.
            return;
        }
        self.process = head.process;
        self.last = head.before;
        self.names.clear();
        self.is_broken = false;
        found.past.last = found.past.last.max(head.before);
        self.partial = self.read(found, own);
    }

    /// Reads whole records. Returns the beginning of the one that is not whole.
    fn read(&mut self, found: &mut Found, mut bytes: &[u8]) -> Vec<u8> {
        while !bytes.is_empty() {
            match record::read(bytes, self.last, self.process, &mut self.names) {
                Reading::Record(taken, record) => {
                    bytes = &bytes[taken..];
                    self.note(found, record);
                }
                Reading::Partial => return bytes.to_vec(),
                Reading::Damaged => {
                    found.damaged += 1;
                    self.is_broken = true;
                    break;
                }
            }
        }
        Vec::new()
    }

    fn note(&mut self, found: &mut Found, record: Record) {
        let id = record.id();
        self.last = id;
        if !matches!(record, Record::Position(..)) {
            found.note_process(self.process, id);
        }
        let is_next = found.past.events.back().is_none_or(|event| event.id < id);
        match record {
            Record::Event(event) if is_next => {
                found.bytes += bytes_of(&event);
                found.past.events.push_back(event);
            }
            // Ids that do not increase: no ring has written this.
            Record::Event(_) => found.past.floor = found.past.floor.max(id),
            Record::Lost(_) => found.past.floor = found.past.floor.max(id),
            Record::Mark(_) => {}
            Record::Position(_, name, at) => found.note_position(name, at),
        }
        found.past.last = found.past.last.max(id);
    }
}

fn bytes_of(event: &Kept) -> usize {
    size_of::<Kept>() + event.payload.len()
}

/// Copies the pages that count to another ring, perhaps of another size, as many as it has room
/// for.
///
/// # Errors
///
/// As [`Pages`].
pub fn copy(
    found: &Found,
    from: &mut impl Pages,
    to: &mut impl Pages,
    page_bytes: usize,
) -> io::Result<()> {
    let mut page = vec![0; page_bytes];
    let slots = to.count();
    for slot in found.slots.iter().rev().take(slots as usize).rev() {
        if let Some(head) = read_page(from, *slot, &mut page) {
            to.write(head.number % slots, &page)?;
        }
    }
    to.sync()
}

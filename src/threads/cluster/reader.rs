//! The thread that reads the log.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use log::{info, warn};

use super::session::{Backoff, look};
use super::{Shared, lock};
use crate::core::cluster::{Findings, Follower, JOIN, NEXT_ID, Reason, Verdict, read_place};
use crate::core::contract::backbone::Logged;
use crate::core::wire::resp::Value;
use crate::system::redis::{Link, LinkError};
use crate::threads::handle::Handle;

pub(super) struct Reader {
    shared: Arc<Shared>,
    handle: Handle,
    stopping: Receiver<()>,
    follower: Follower,
    backoff: Backoff,
    /// How many entries are asked for, and how many at most: fewer where so many took too much,
    /// until the end of the log is reached.
    count: usize,
    count_max: usize,
    /// What the loop is to be told next.
    told: Vec<Logged>,
    told_bytes: usize,
    /// The log had more than was read when it was looked at; and yet nothing came since.
    has_more: bool,
    is_stuck: bool,
    is_warned: bool,
    has_connected: bool,
}

impl Reader {
    pub fn new(shared: Arc<Shared>, handle: Handle, stopping: Receiver<()>) -> Reader {
        let follower = Follower::new(&shared.process);
        Reader {
            shared,
            handle,
            stopping,
            follower,
            backoff: Backoff::new(),
            count: COUNT_MAX,
            count_max: COUNT_MAX,
            told: Vec::new(),
            told_bytes: 0,
            has_more: false,
            is_stuck: false,
            is_warned: false,
            has_connected: false,
        }
    }

    /// Reads until the loop ends: connects, follows the log, and connects anew.
    pub fn run(&mut self) {
        while !self.shared.is_over() {
            let fault = match self.follow() {
                Ok(()) => return,
                Err(fault) => fault,
            };
            *self.shared.reading() = None;
            if self.shared.is_over() {
                return;
            }
            if let LinkError::TooLarge = fault {
                self.count = (self.count / 8).max(1);
                self.count_max = self.count;
            }
            if self.shared.is_reached.swap(false, Ordering::SeqCst) || !self.is_warned {
                self.is_warned = true;
                warn!("cluster away: {}", fault.sentence());
                self.told.clear();
                if !self.handle.logged_patiently(vec![Logged::Reached(false)]) {
                    return;
                }
            }
            let wait = self.backoff.next();
            if let Err(RecvTimeoutError::Disconnected) = self.stopping.recv_timeout(wait) {
                return;
            }
        }
    }

    /// Connects and follows the log until something fails, or the loop has ended.
    fn follow(&mut self) -> Result<(), LinkError> {
        let mut link = Link::connect(&self.shared.url, self.shared.limits)?;
        *self.shared.reading() = Some(link.closer()?);
        let (found, verdict) = look(&self.shared, &mut link, false)?;
        match self.follower.seen() {
            None => self.join(&mut link, &found)?,
            Some(_) => self.follow_verdict(&found, &verdict),
        }
        if std::mem::replace(&mut self.has_connected, true) {
            self.shared.reconnects.fetch_add(1, Ordering::Relaxed);
        }
        self.told.push(Logged::Reached(true));
        if !self.flush() {
            return Ok(());
        }
        self.is_warned = false;
        self.shared.is_reached.store(true, Ordering::SeqCst);
        info!("cluster reached redis={}", self.shared.url);
        let mut looked_at = StdInstant::now();
        while self.read(&mut link)? {
            self.backoff.reset();
            if looked_at.elapsed() >= BLOCK {
                looked_at = StdInstant::now();
                let (found, verdict) = look(&self.shared, &mut link, self.is_stuck)?;
                self.follow_verdict(&found, &verdict);
                if !self.flush() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Leaves out what was trimmed.
    fn follow_verdict(&mut self, found: &Findings, verdict: &Verdict) {
        self.is_stuck = false;
        self.has_more = self.follower.seen().is_some_and(|seen| found.has_more_than(seen));
        if let (Verdict::Skip(last), Some(epoch)) = (verdict, &found.epoch) {
            let count = Some(epoch.count);
            self.told.extend(self.follower.go_to(epoch.number, *last, count, Reason::Trimmed));
        }
    }

    /// Begins with the newest events of the log, so that clients of other servers can go on here.
    fn join(&mut self, link: &mut Link, found: &Findings) -> Result<(), LinkError> {
        let Some(epoch) = &found.epoch else {
            return Err(LinkError::Broken("the log has no epoch".into()));
        };
        let numbers = [epoch.first.to_string(), epoch.number.to_string()];
        let most = [HISTORY_MAX.to_string(), HISTORY_BYTES_MAX.to_string()];
        let parts =
            [JOIN, "1", &self.shared.keys.log, &numbers[0], &numbers[1], &most[0], &most[1]];
        let parts = parts.map(str::as_bytes);
        let answer = link.ask([b"EVAL".as_slice()].into_iter().chain(parts))?;
        let text = |place: usize| answer.list().and_then(|list| list.get(place)?.text());
        let oldest = text(0).and_then(|id| id.parse().ok());
        let place = text(1).and_then(read_place);
        let gap = match (oldest, place) {
            (Some(oldest), Some((number, 0))) => {
                self.follower.go_to(number, oldest, Some(0), Reason::Joined)
            }
            (Some(oldest), Some((number, count))) => {
                self.follower.go_to(number, oldest.before(), Some(count - 1), Reason::Joined)
            }
            _ => self.follower.go_to(epoch.number, epoch.last, Some(epoch.count), Reason::Joined),
        };
        self.told.extend(gap);
        Ok(())
    }

    /// Reads what comes next. Returns whether the loop is still there.
    fn read(&mut self, link: &mut Link) -> Result<bool, LinkError> {
        let Some(seen) = self.follower.seen().copied() else { return Ok(false) };
        let (count, block) = (self.count.to_string(), BLOCK.as_millis().to_string());
        let last = seen.id.to_string();
        let parts =
            ["XREAD", "COUNT", &count, "BLOCK", &block, "STREAMS", &self.shared.keys.log, &last];
        link.queue(parts.map(str::as_bytes));
        link.send()?;
        let answer = match link.receive(BLOCK + SILENCE_MAX) {
            Err(LinkError::TooLarge) if self.count == 1 => return self.skip_one(),
            answer => answer?,
        };
        if let Value::Error(error) = answer {
            return Err(LinkError::Broken(error));
        }
        let entries = match answer.list() {
            Some([stream]) => match stream.list() {
                Some([_, entries]) => entries.list().unwrap_or_default(),
                _ => return Err(LinkError::Broken("an odd answer to XREAD".into())),
            },
            None if answer == Value::Nil => &[],
            _ => return Err(LinkError::Broken("an odd answer to XREAD".into())),
        };
        for entry in entries {
            let (told, bytes) = (&mut self.told, &mut self.told_bytes);
            self.follower.take(entry, |logged| {
                *bytes += logged.len();
                told.push(logged);
            });
            if (self.told.len() >= TOLD_MAX || self.told_bytes >= TOLD_BYTES_MAX) && !self.flush() {
                return Ok(false);
            }
        }
        // Redis has waited in vain, though the log had more.
        self.is_stuck = self.has_more && entries.is_empty();
        self.has_more = false;
        let is_full = entries.len() >= self.count;
        if !entries.is_empty() && self.follower.seen() == Some(&seen) {
            return Err(LinkError::Broken("entries of XREAD that are not behind the last".into()));
        }
        if is_full {
            self.count = (self.count * 2).min(self.count_max);
        } else {
            self.count_max = COUNT_MAX;
        }
        let is_there = self.flush();
        self.shared.note_end(!is_full);
        Ok(is_there)
    }

    /// Finds the id of an entry that takes more than an answer may, by another connection: what
    /// comes by this one is not understood any more.
    fn skip_one(&mut self) -> Result<bool, LinkError> {
        let Some(seen) = self.follower.seen() else { return Ok(false) };
        let mut link = Link::connect(&self.shared.url, self.shared.limits)?;
        let last = seen.id.to_string();
        let parts = [NEXT_ID, "1", &self.shared.keys.log, &last].map(str::as_bytes);
        let answer = link.ask([b"EVAL".as_slice()].into_iter().chain(parts))?;
        if let Some(id) = answer.text().and_then(|id| id.parse().ok()) {
            warn!("cluster leaves an entry out that takes too much id={id}");
            self.follower.skip(id);
        }
        self.flush();
        Err(LinkError::TooLarge)
    }

    /// Tells the loop, and waits until it has room. Returns whether it is still there.
    fn flush(&mut self) -> bool {
        *lock(&self.shared.seen) = self.follower.seen().copied();
        lock(&self.shared.counts).clone_from(self.follower.counts());
        self.told_bytes = 0;
        let told = std::mem::take(&mut self.told);
        told.is_empty() || self.handle.logged_patiently(told)
    }
}

/// How long Redis waits for the next entry.
const BLOCK: Duration = Duration::from_secs(5);
/// How long its answer may take beyond that.
const SILENCE_MAX: Duration = Duration::from_secs(2);
/// How many entries are read at once.
const COUNT_MAX: usize = 512;
/// How much the loop is told at once.
const TOLD_MAX: usize = 128;
const TOLD_BYTES_MAX: usize = 64 * 1024;
/// How much of the log a server reads that joins.
const HISTORY_MAX: usize = 4096;
const HISTORY_BYTES_MAX: usize = 4 * 1024 * 1024;

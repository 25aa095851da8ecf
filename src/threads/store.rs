//! The thread that writes events of durable topics to flash, and the loop's end of its queue. The
//! loop never waits for a disk: what the queue has no room for stays in memory alone, is counted,
//! and is told as a gap after a restart.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
#[cfg(feature = "bridge")]
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use log::{info, warn};

use crate::core::config::{STORE_QUEUE_BYTES, Store as Settings, WhenSpent};
use crate::core::contract::backbone::{Logged, Ticket};
use crate::core::ground::time::Instant;
use crate::core::observe::stats::Histogram;
use crate::core::observe::store::StoreFigures;
use crate::core::store::{Budget, PAGE_BYTES, Pages, Ring};
use crate::core::topics::{EventId, Kept};
use crate::system::spawn::spawn;
use crate::threads::handle::Handle;

/// The loop's end.
#[derive(Debug)]
pub(crate) struct Store {
    /// None if there is no disk.
    thread: Option<Thread>,
    figures: Arc<Figures>,
    /// The last event that there was no room for.
    lost: Option<EventId>,
    /// When to look whether the disk is stuck.
    look_at: Option<Instant>,
    is_stuck: bool,
    #[cfg(feature = "bridge")]
    positions: Arc<Positions>,
}

/// How far bridges have come, for the thread, which takes them with its next commit.
#[cfg(feature = "bridge")]
#[derive(Debug, Default)]
struct Positions(Mutex<Option<Vec<(String, EventId)>>>);

#[derive(Debug)]
struct Thread {
    orders: Sender<Order>,
    /// Kept so that the thread learns of the end before it has taken all orders.
    _running: Sender<()>,
    ended: Receiver<()>,
}

#[derive(Debug)]
enum Order {
    Keep(Kept, Option<Ticket>),
    Lost(EventId),
    /// Bridges have come on: that is to be committed before long.
    #[cfg(feature = "bridge")]
    Positions,
    Stop(EventId),
}

impl Store {
    /// Makes a store without a disk: each event stays in memory alone, and is counted.
    pub fn without_disk() -> Store {
        let figures = Arc::default();
        Store {
            thread: None,
            figures,
            lost: None,
            look_at: None,
            is_stuck: false,
            #[cfg(feature = "bridge")]
            positions: Arc::default(),
        }
    }

    /// Begins the run of a ring on its disk, and starts the thread that goes on with it. The loop
    /// is told by its handle what is on flash.
    ///
    /// # Errors
    ///
    /// If the system has no thread.
    pub fn start(
        ring: Ring,
        pages: impl Pages + Send + 'static,
        settings: &Settings,
        handle: Handle,
    ) -> io::Result<Store> {
        let (orders, taken) = unbounded();
        let (running, stopping) = bounded(0);
        let (ending, ended) = bounded(0);
        let mut store = Store::without_disk();
        let mut keeper = Keeper::new(ring, pages, settings, store.figures.clone(), handle);
        #[cfg(feature = "bridge")]
        {
            keeper.positions = store.positions.clone();
        }
        // No event is delivered before the disk knows of this run.
        keeper.commit();
        let run = move || {
            keeper.run(&taken, &stopping);
            drop(ending);
        };
        spawn("heartwheel-store".into(), Some(STACK_BYTES), Box::new(run))?;
        store.thread = Some(Thread { orders, _running: running, ended });
        Ok(store)
    }

    /// Gives an event to the thread. Returns its ticket if there is no room for it, so that its
    /// publisher is told.
    pub fn give(&mut self, now: Instant, kept: Kept, ticket: Option<Ticket>) -> Option<Ticket> {
        let bytes = bytes_of(&kept);
        let waiting = self.figures.queued.load(Ordering::Relaxed);
        let has_room = waiting == 0 || waiting + bytes <= STORE_QUEUE_BYTES;
        let Some(thread) = self.thread.as_ref().filter(|_| has_room) else {
            self.lost = Some(kept.id);
            self.figures.lost.fetch_add(1, Ordering::Relaxed);
            return ticket;
        };
        self.figures.queued.fetch_add(bytes, Ordering::Relaxed);
        // The thread ends after the loop: it takes what is sent.
        if let Some(id) = self.lost.take() {
            let _ = thread.orders.send(Order::Lost(id));
        }
        let _ = thread.orders.send(Order::Keep(kept, ticket));
        self.look_at.get_or_insert(now + STUCK_AFTER);
        None
    }

    /// Says how far bridges have come, all of them. If `is_news`, that is committed within a minute
    /// though no event is.
    #[cfg(feature = "bridge")]
    pub fn note_positions(&mut self, positions: Vec<(String, EventId)>, is_news: bool) {
        let before = self.positions.lock().replace(positions);
        if let Some(thread) = self.thread.as_ref().filter(|_| is_news && before.is_none()) {
            let _ = thread.orders.send(Order::Positions);
        }
    }

    /// Returns when to look whether the disk is stuck.
    pub fn look_at(&self) -> Option<Instant> {
        self.look_at
    }

    /// Looks whether the disk is stuck, if it is time.
    pub fn look(&mut self, now: Instant) {
        if self.look_at.is_none_or(|at| at > now) {
            return;
        }
        let busy_for = self.figures.busy_for();
        let is_stuck = busy_for.is_some_and(|span| span >= STUCK_AFTER);
        match busy_for {
            Some(span) if is_stuck && !self.is_stuck => {
                warn!(
                    "store stuck ms={}: events stay in memory alone when {} wait",
                    span.as_millis(),
                    STORE_QUEUE_BYTES
                );
            }
            _ if self.is_stuck && !is_stuck => info!("store goes on"),
            _ => {}
        }
        self.is_stuck = is_stuck;
        self.look_at = busy_for.map(|_| now + STUCK_AFTER / 10);
    }

    /// Returns what is reported of it.
    pub fn figures(&self) -> StoreFigures {
        self.figures.read()
    }

    /// Has the thread write what it has, and ends it. Waits for it, but not for long. `last` is the
    /// last position of this process.
    pub fn stop(&mut self, last: EventId) {
        let Some(Thread { orders, _running, ended }) = self.thread.take() else { return };
        if let Some(id) = self.lost.take() {
            let _ = orders.send(Order::Lost(id));
        }
        let _ = orders.send(Order::Stop(last));
        drop(_running);
        if let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(FLUSH_MAX) {
            warn!("store left ms={}: its last events may be lost", FLUSH_MAX.as_millis());
        }
    }
}

/// What both threads know.
#[derive(Debug)]
struct Figures {
    /// The bytes of the events that wait in the queue.
    queued: AtomicUsize,
    pages: AtomicUsize,
    lost: AtomicUsize,
    is_failing: AtomicBool,
    began: StdInstant,
    /// Since when the disk is at work, in milliseconds since `began`; 0 while it is not.
    busy_since: AtomicUsize,
    took_sum_us: AtomicUsize,
    took: [AtomicUsize; Histogram::BUCKETS],
}

impl Default for Figures {
    fn default() -> Figures {
        Figures {
            queued: AtomicUsize::new(0),
            pages: AtomicUsize::new(0),
            lost: AtomicUsize::new(0),
            is_failing: AtomicBool::new(false),
            began: StdInstant::now(),
            busy_since: AtomicUsize::new(0),
            took_sum_us: AtomicUsize::new(0),
            took: Default::default(),
        }
    }
}

impl Figures {
    fn busy_for(&self) -> Option<Duration> {
        let since = self.busy_since.load(Ordering::Relaxed);
        // Of 32 bits the count begins anew after 49 days.
        let span = self.milliseconds().wrapping_sub(since);
        let span = if span > usize::MAX / 2 { 0 } else { span };
        (since > 0).then(|| Duration::from_millis(span as u64))
    }

    fn milliseconds(&self) -> usize {
        self.began.elapsed().as_millis() as usize
    }

    fn begin_work(&self) -> StdInstant {
        self.busy_since.store(self.milliseconds().max(1), Ordering::Relaxed);
        StdInstant::now()
    }

    fn end_work(&self) {
        self.busy_since.store(0, Ordering::Relaxed);
    }

    fn note_commit(&self, took: Duration) {
        let us = took.as_micros() as u64;
        self.took[Histogram::bucket_of(us)].fetch_add(1, Ordering::Relaxed);
        self.took_sum_us.fetch_add(us as usize, Ordering::Relaxed);
    }

    fn read(&self) -> StoreFigures {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed) as u64;
        StoreFigures {
            bytes_written: count(&self.pages) * PAGE_BYTES as u64,
            lost: count(&self.lost),
            took: Histogram::of(
                std::array::from_fn(|n| count(&self.took[n])),
                count(&self.took_sum_us),
            ),
            is_stuck: self.busy_for().is_some_and(|span| span >= STUCK_AFTER),
            is_failing: self.is_failing.load(Ordering::Relaxed),
        }
    }
}

/// Pages whose writes are counted.
struct Counted<P> {
    pages: P,
    figures: Arc<Figures>,
}

impl<P: Pages> Pages for Counted<P> {
    fn count(&self) -> u64 {
        self.pages.count()
    }

    fn read(&mut self, slot: u64, page: &mut [u8]) -> io::Result<()> {
        self.pages.read(slot, page)
    }

    fn write(&mut self, slot: u64, page: &[u8]) -> io::Result<()> {
        self.figures.pages.fetch_add(1, Ordering::Relaxed);
        self.pages.write(slot, page)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.pages.sync()
    }
}

/// The thread's end.
struct Keeper<P> {
    ring: Ring,
    pages: Counted<P>,
    sync: Duration,
    budget: Option<Budget>,
    when_spent: WhenSpent,
    is_spent: bool,
    figures: Arc<Figures>,
    handle: Handle,
    /// How many events were appended that are not yet on flash, and those of them whose publishers
    /// wait for that.
    uncommitted: usize,
    waiting: Vec<(Ticket, EventId)>,
    /// When to commit; while the disk fails, when to try it again.
    due_at: Option<StdInstant>,
    began: StdInstant,
    #[cfg(feature = "bridge")]
    positions: Arc<Positions>,
}

#[cfg(feature = "bridge")]
impl Positions {
    fn lock(&self) -> MutexGuard<'_, Option<Vec<(String, EventId)>>> {
        // Nothing under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<P: Pages> Keeper<P> {
    fn new(
        ring: Ring,
        pages: P,
        settings: &Settings,
        figures: Arc<Figures>,
        handle: Handle,
    ) -> Keeper<P> {
        let began = figures.began;
        let budget = settings.budget.map(|per_day| Budget::new(Instant::from_millis(0), per_day));
        Keeper {
            ring,
            pages: Counted { pages, figures: figures.clone() },
            sync: settings.sync,
            budget,
            when_spent: settings.when_spent,
            is_spent: false,
            figures,
            handle,
            uncommitted: 0,
            waiting: Vec::new(),
            due_at: None,
            began,
            #[cfg(feature = "bridge")]
            positions: Arc::default(),
        }
    }

    fn run(&mut self, orders: &Receiver<Order>, stopping: &Receiver<()>) {
        loop {
            let order = match self.due_at {
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => orders.recv_deadline(at),
            };
            match order {
                Ok(Order::Keep(kept, ticket)) => self.keep(kept, ticket, stopping),
                Ok(Order::Lost(id)) => self.ring.lose(id),
                #[cfg(feature = "bridge")]
                Ok(Order::Positions) => {
                    let at = StdInstant::now() + self.sync.max(POSITIONS_AFTER);
                    self.due_at.get_or_insert(at);
                }
                Ok(Order::Stop(last)) => return self.stop(last),
                Err(RecvTimeoutError::Timeout) => {}
                // The loop is gone, and its last position is not known.
                Err(RecvTimeoutError::Disconnected) => return self.commit(),
            }
            if self.due_at.is_some_and(|at| at <= StdInstant::now()) {
                self.commit_within_budget();
            }
        }
    }

    fn keep(&mut self, kept: Kept, ticket: Option<Ticket>, stopping: &Receiver<()>) {
        let id = kept.id;
        let bytes = bytes_of(&kept);
        let has_budget = self.has_budget(stopping);
        self.figures.queued.fetch_sub(bytes, Ordering::Relaxed);
        if !has_budget || self.is_failing() {
            return self.lose(id, ticket);
        }
        let written = self.written();
        self.figures.begin_work();
        let appended = self.ring.append(&mut self.pages, kept);
        self.figures.end_work();
        self.spend_since(written);
        if let Ok(false) = appended {
            self.lose(id, ticket);
        } else {
            self.uncommitted += 1;
            self.waiting.extend(ticket.map(|ticket| (ticket, id)));
        }
        if let Err(error) = appended {
            return self.fail(&error);
        }
        // Positions alone may wait longer.
        let at = StdInstant::now() + self.sync;
        self.due_at = Some(self.due_at.map_or(at, |due_at| due_at.min(at)));
    }

    fn commit_within_budget(&mut self) {
        let bytes = self.ring.pages_to_write() * PAGE_BYTES as u64;
        let wait = self.wait_for(bytes);
        match wait.is_zero() {
            true => self.commit(),
            false => self.due_at = Some(StdInstant::now() + wait),
        }
    }

    fn commit(&mut self) {
        self.take_positions();
        let written = self.written();
        let began = self.figures.begin_work();
        let committed = self.ring.commit(&mut self.pages);
        self.figures.end_work();
        self.spend_since(written);
        if let Err(error) = committed {
            return self.fail(&error);
        }
        self.figures.note_commit(began.elapsed());
        self.due_at = None;
        if self.figures.is_failing.swap(false, Ordering::Relaxed) {
            info!("store works again");
        }
        self.answer_all(true);
    }

    fn take_positions(&mut self) {
        #[cfg(feature = "bridge")]
        if let Some(positions) = self.positions.lock().take() {
            self.ring.set_positions(&positions);
        }
    }

    fn stop(&mut self, last: EventId) {
        self.take_positions();
        self.figures.begin_work();
        let closed = self.ring.close(&mut self.pages, last);
        self.figures.end_work();
        match closed {
            Ok(()) => self.answer_all(true),
            Err(error) => self.fail(&error),
        }
    }

    /// Loses what was not committed, and leaves the disk alone for a while.
    fn fail(&mut self, error: &io::Error) {
        if !self.figures.is_failing.swap(true, Ordering::Relaxed) {
            warn!("store failing: {error}: events stay in memory alone");
        }
        self.figures.lost.fetch_add(self.uncommitted, Ordering::Relaxed);
        self.answer_all(false);
        self.due_at = Some(StdInstant::now() + RETRY_AFTER);
    }

    fn lose(&mut self, id: EventId, ticket: Option<Ticket>) {
        self.ring.lose(id);
        self.figures.lost.fetch_add(1, Ordering::Relaxed);
        self.tell(ticket.map(|ticket| Logged::Kept(ticket, None)).into_iter().collect());
        self.due_at.get_or_insert_with(|| StdInstant::now() + self.sync);
    }

    fn is_failing(&self) -> bool {
        self.figures.is_failing.load(Ordering::Relaxed)
    }

    fn answer_all(&mut self, is_kept: bool) {
        self.uncommitted = 0;
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        let told = waiting.map(|(ticket, id)| Logged::Kept(ticket, is_kept.then_some(id)));
        self.tell(told.collect());
    }

    fn tell(&self, told: Vec<Logged>) {
        // Nobody waits any more where the loop has ended.
        let _ = told.is_empty() || self.handle.logged_patiently(told);
    }

    /// Returns whether there is budget for a page, perhaps after a wait.
    fn has_budget(&mut self, stopping: &Receiver<()>) -> bool {
        let mut wait = self.wait_for(PAGE_BYTES as u64);
        while self.when_spent == WhenSpent::Slow
            && !wait.is_zero()
            && stopping.recv_timeout(wait) == Err(RecvTimeoutError::Timeout)
        {
            wait = self.wait_for(PAGE_BYTES as u64);
        }
        wait.is_zero() || self.when_spent == WhenSpent::Slow
    }

    /// Returns how long to wait for so many bytes of the budget.
    fn wait_for(&mut self, bytes: u64) -> Duration {
        let Some(budget) = &mut self.budget else { return Duration::ZERO };
        let now = Instant::from_millis(self.began.elapsed().as_millis() as u64);
        let wait = budget.wait(now, bytes);
        if !std::mem::replace(&mut self.is_spent, !wait.is_zero()) && !wait.is_zero() {
            warn!("store.budget spent: the next page may be written in ms={}", wait.as_millis());
        }
        wait
    }

    fn written(&self) -> usize {
        self.figures.pages.load(Ordering::Relaxed)
    }

    fn spend_since(&mut self, written: usize) {
        let pages = self.written().wrapping_sub(written);
        if let Some(budget) = &mut self.budget {
            budget.spend((pages * PAGE_BYTES) as u64);
        }
    }
}

/// What an event takes in the queue.
fn bytes_of(kept: &Kept) -> usize {
    size_of::<Order>() + kept.topic.len() + kept.payload.len()
}

/// After so long at one piece of work the disk counts as stuck.
const STUCK_AFTER: Duration = Duration::from_secs(10);
/// How long a disk that has failed is left alone.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// How long the end waits for the disk.
const FLUSH_MAX: Duration = Duration::from_millis(500);
/// How long positions of bridges wait for a commit of events.
#[cfg(feature = "bridge")]
const POSITIONS_AFTER: Duration = Duration::from_secs(60);
const STACK_BYTES: usize = 64 * 1024;

//! Keeps the sessions of one route: what stands between its connections and the store.
//!
//! What is done with the store is done in order, one thing at a time: by a thread of its own, or,
//! if the store never waits, by the thread that has something to do, and by timers of the loop. The
//! lock is held for looks at the table alone, never for a call of the store or of a handler.

use std::any::Any;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::{error, info, warn};

use super::resume::{Resume, Resuming};
use super::table::{Ask, Flags, Lost, Note, Op, Table, unavailable};
use super::{
    BadSession, Claim, Listener, Save, SessionId, SessionKey, SessionStore, StoreError, Unsaved,
};
use crate::core::config::Config;
use crate::core::contract::event::{Call, Command, Order, Run, Visit};
use crate::core::contract::sessions::{Claiming, Claims};
use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::observe::sessions::SessionFigures;
use crate::core::wire::http::{Borne, Refusal, Request};
use crate::system::spawn::spawn;
use crate::threads::handle::{Handle, SendError};
use crate::threads::handler::run_call;

/// The keeper of a route.
pub(crate) struct Keeper {
    me: Weak<Keeper>,
    route: Box<str>,
    key: SessionKey,
    store: Arc<dyn SessionStore>,
    thaw: Box<Thaw>,
    /// Nothing of a host is called but by the thread that is inside its server: that of the loop.
    /// Neither is the log.
    is_of_host: bool,
    table: Mutex<Table>,
    /// The table is busy, or the server is over.
    is_busy: Condvar,
    begun: OnceLock<Begun>,
    hasher: RandomState,
    /// Something is done with the store.
    is_working: AtomicBool,
    /// The loop is about to take the notes.
    is_posted: AtomicBool,
    /// Timers of the loop are set.
    is_armed: [AtomicBool; 2],
}

/// Makes a session of bytes.
pub(crate) type Thaw = dyn Fn(&[u8]) -> Result<Box<dyn Any + Send>, BadSession> + Send + Sync;

/// What there is from when the server is built.
struct Begun {
    handle: Handle,
    rules: Rules,
    thread: Mutex<Option<Thread>>,
    /// What the store has given for the listener.
    hearing: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Begun {
    /// Has the engine do something at once: not when the call of a handler has returned that this
    /// thread may be in. Others wait for it.
    fn order(
        &self,
        act: impl FnOnce(&mut Engine, Instant) + Send + 'static,
    ) -> Result<(), SendError> {
        self.handle.shared.submit_from_elsewhere(Command::Order(Order::of(act)))
    }
}

struct Rules {
    save: Duration,
    ttl: Duration,
    lease: Duration,
    bytes_max: usize,
    handshake: Duration,
    /// How long an older connection has to let go.
    patience: Duration,
}

struct Thread {
    wakes: Sender<()>,
    ended: Receiver<()>,
    joins: JoinHandle<()>,
}

/// What lets time pass where there is no thread.
#[derive(Clone, Copy)]
enum Clock {
    Asks,
    Holds,
}

impl Keeper {
    /// Makes the keeper of a route, and what calls its handler.
    pub fn new<H: Resume>(
        route: &str,
        handler: H,
        key: SessionKey,
        store: Arc<dyn SessionStore>,
    ) -> (Arc<Keeper>, Resuming<H>) {
        let handler = Arc::new(handler);
        let resuming = Resuming(handler.clone());
        let thaw = move |frozen: &[u8]| {
            let session = handler.thaw(frozen)?;
            Ok(Box::new(session) as Box<dyn Any + Send>)
        };
        (Keeper::of(route, key, store, Box::new(thaw), false), resuming)
    }

    /// Makes the keeper of a route whose events a host pulls. `thaw` is called by the thread of the
    /// loop alone.
    #[cfg(feature = "ffi")]
    pub fn of_host(
        route: &str,
        key: SessionKey,
        store: Arc<dyn SessionStore>,
        thaw: Box<Thaw>,
    ) -> Arc<Keeper> {
        Keeper::of(route, key, store, thaw, true)
    }

    fn of(
        route: &str,
        key: SessionKey,
        store: Arc<dyn SessionStore>,
        thaw: Box<Thaw>,
        is_of_host: bool,
    ) -> Arc<Keeper> {
        Arc::new_cyclic(|me| Keeper {
            me: me.clone(),
            route: route.into(),
            key,
            store,
            thaw,
            is_of_host,
            table: Mutex::default(),
            is_busy: Condvar::new(),
            begun: OnceLock::new(),
            hasher: RandomState::new(),
            is_working: AtomicBool::new(false),
            is_posted: AtomicBool::new(false),
            is_armed: Default::default(),
        })
    }

    /// Begins, with the server; starts the thread if the store may wait.
    ///
    /// # Errors
    ///
    /// If the system has no thread.
    pub fn begin(self: &Arc<Self>, handle: Handle, config: &Config) -> io::Result<()> {
        let handshake = config.deadlines.handshake;
        let sessions = &config.sessions;
        let rules = Rules {
            save: sessions.save,
            ttl: sessions.ttl,
            lease: sessions.lease(),
            bytes_max: sessions.bytes,
            handshake,
            patience: PATIENCE.min(handshake / 2),
        };
        let thread = match self.store.is_immediate() {
            true => None,
            false => Some(self.start()?),
        };
        let begun = Begun { handle, rules, thread: Mutex::new(thread), hearing: Mutex::default() };
        let is_first = self.begun.set(begun).is_ok();
        debug_assert!(is_first, "a route is in one server");
        let hearing = self.store.listen(Listener::new(self.me.clone()));
        *lock(&self.begun.get().expect("it has begun").hearing) = Some(hearing);
        Ok(())
    }

    fn start(self: &Arc<Self>) -> io::Result<Thread> {
        let (wakes, waking) = bounded(1);
        let (ending, ended) = bounded::<()>(0);
        let keeper = self.clone();
        let run = move || {
            keeper.run(&waking);
            // Whatever is its last owner, the store is closed by another thread from now on.
            drop(keeper);
            drop(ending);
        };
        let joins = spawn("heartwheel-sess".into(), None, Box::new(run))?;
        Ok(Thread { wakes, ended, joins })
    }

    /// Does what is to be done with the store until the server ends.
    fn run(&self, waking: &Receiver<()>) {
        let mut last = StdInstant::now();
        loop {
            self.work();
            let elapsed = last.elapsed();
            last += elapsed;
            self.pass(Clock::Asks, elapsed);
            self.pass(Clock::Holds, elapsed);
            self.work();
            self.post();
            let asks = self.pass(Clock::Asks, Duration::ZERO);
            let holds = self.pass(Clock::Holds, Duration::ZERO);
            let woken = match asks.into_iter().chain(holds).min() {
                Some(wait) => waking.recv_timeout(wait),
                None => waking.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            if woken == Err(RecvTimeoutError::Disconnected) {
                self.work();
                // What was claimed when the server ended is let go.
                self.drop_notes();
                return self.work();
            }
        }
    }

    /// Has everything done that is to be done.
    fn drive(&self) {
        let Some(begun) = self.begun.get() else { return };
        if self.store.is_immediate() {
            self.work();
            self.arm(Clock::Asks);
            self.arm(Clock::Holds);
        } else if let Some(thread) = &*lock(&begun.thread) {
            // If it is full, the thread is about to look.
            let _ = thread.wakes.try_send(());
        }
        self.post();
    }

    /// Lets time pass. Returns when to do so next.
    fn pass(&self, clock: Clock, elapsed: Duration) -> Option<Duration> {
        let rules = &self.begun.get()?.rules;
        let mut table = self.table();
        match clock {
            Clock::Asks => {
                let is_unposted = table.has_news() && !self.is_posted.load(Ordering::Acquire);
                let next = table.pass_for_asks(elapsed, rules.patience);
                next.or(is_unposted.then_some(POST_AGAIN))
            }
            Clock::Holds => table.pass_for_holds(elapsed, rules.save, rules.ttl),
        }
    }

    /// Sets a timer of the loop, if time is to pass and none is set.
    fn arm(&self, clock: Clock) {
        let Some(begun) = self.begun.get() else { return };
        let is_armed = &self.is_armed[clock as usize];
        if is_armed.load(Ordering::Acquire) {
            return;
        }
        let Some(span) = self.pass(clock, Duration::ZERO) else { return };
        if is_armed.swap(true, Ordering::AcqRel) {
            return;
        }
        let order = || {
            let keeper = self.me.clone();
            let ring = move || {
                let Some(keeper) = keeper.upgrade() else { return };
                keeper.is_armed[clock as usize].store(false, Ordering::Release);
                keeper.pass(clock, span);
                keeper.drive();
            };
            let run: Run = Box::new(move |tick| run_call(ring, tick));
            let call = Call { number: u32::MAX, run };
            Order::of(move |engine: &mut Engine, now| engine.call_after(now, span, call))
        };
        let shared = &begun.handle.shared;
        let set = shared.submit_from_elsewhere(Command::Order(order()));
        // What a call of the server gives has room when it returns. The timer before is one: behind
        // it nothing may come that would set this one.
        if set.or_else(|_| shared.submit(Command::Order(order()))).is_err() {
            // Whatever comes next sets it.
            is_armed.store(false, Ordering::Release);
        }
    }

    /// Does what is to be done with the store, unless another thread is at it: then that thread
    /// does.
    fn work(&self) {
        while !self.is_working.swap(true, Ordering::AcqRel) {
            while let Some(op) = {
                let mut table = self.table();
                table.next_op()
            } {
                match op {
                    Op::Claim(id) => self.claim_now(id),
                    Op::Save(id) => self.save_now(id),
                }
            }
            self.is_working.store(false, Ordering::Release);
            // What came meanwhile was left to this thread.
            if self.table().ops.is_empty() {
                return;
            }
        }
    }

    fn claim_now(&self, id: ConnectionId) {
        let Some(begun) = self.begun.get() else { return };
        let rules = &begun.rules;
        let asked = {
            let mut table = self.table();
            match table.asks.get(&id) {
                // The last saves have little time, and nobody is left to be answered.
                Some(_) if table.is_over => {
                    table.refuse(id);
                    None
                }
                Some(ask) if ask.began.elapsed() > rules.handshake => {
                    table.refuse(id);
                    None
                }
                Some(ask) if table.has_unsaved(&ask.session) => {
                    table.refuse(id);
                    None
                }
                Some(ask) => Some((ask.session.clone(), ask.force())),
                None => None,
            }
        };
        let Some((session, force)) = asked else { return };
        let claim = Claim { force, ttl: rules.ttl, lease: rules.lease };
        let claimed = attempt(|| self.store.claim(&session, &claim));
        self.note_failure(claimed.as_ref().err());
        let taken = self.table().claimed(id, claimed);
        if let Some((ask, number, frozen)) = taken {
            self.open(id, ask, number, frozen);
        }
    }

    /// Has an upgrade go on with its session.
    fn open(&self, id: ConnectionId, ask: Ask, number: u64, frozen: Option<Vec<u8>>) {
        let Ask { session, request, .. } = ask;
        let flags = Arc::new(Flags::default());
        self.table().hold(id, session, number, flags.clone());
        self.is_busy.notify_all();
        let Some(keeper) = self.me.upgrade() else { return };
        let last = frozen.as_ref().map(|frozen| self.hasher.hash_one(frozen));
        let hold = Hold { id, keeper, flags, last, is_too_big: false, has_ended: false };
        let found = Found { request, frozen, hold };
        let note = match self.is_of_host {
            true => Note::Thaw(id, Box::new(found)),
            false => Note::Answer(id, self.thaw(found)),
        };
        let mut table = self.table();
        table.notes.push_back(note);
        table.want_if_awaited(id);
    }

    /// Thaws a session. What cannot be read stays saved as it is.
    fn thaw(&self, found: Found) -> Result<Box<Request>, Refusal> {
        let Found { mut request, frozen, hold } = found;
        let thaw = |frozen: &Vec<u8>| {
            let thawed = catch_unwind(AssertUnwindSafe(|| (self.thaw)(frozen)));
            thawed.unwrap_or_else(|_| Err(BadSession::new("the handler panicked")))
        };
        let answer = match frozen.as_ref().map(thaw).transpose() {
            Ok(thawed) => {
                let opening = Opening { thawed, hold: Some(hold) };
                *request.borne() = Borne::Session(Box::new(opening));
                Ok(request)
            }
            Err(error) => {
                error!("a session of {} cannot be read: {error}", self.route);
                drop(hold);
                Err(Refusal::new(500, "the session cannot be read"))
            }
        };
        let opened = &mut self.table().figures.opened;
        match (&answer, &frozen) {
            (Err(_), _) => opened.unreadable += 1,
            (Ok(_), Some(_)) => opened.resumed += 1,
            (Ok(_), None) => opened.new += 1,
        }
        answer
    }

    fn save_now(&self, id: ConnectionId) {
        let Some(begun) = self.begun.get() else { return };
        let taken = self.table().take_save(id);
        let Some((session, (number, turn), frozen, end)) = taken else { return };
        let Rules { ttl, lease, .. } = begun.rules;
        let save = Save { number, turn, frozen: frozen.as_deref(), end, ttl, lease };
        let saved = attempt(|| self.store.save(&session, &save));
        self.note_failure(saved.as_ref().err());
        self.table().saved(id, frozen, end, &saved);
    }

    /// Tells the log when the store begins to fail, and when it goes on.
    fn note_failure(&self, error: Option<&StoreError>) {
        {
            let mut table = self.table();
            let was_failing = std::mem::replace(&mut table.is_failing, error.is_some());
            if was_failing != error.is_some() {
                table.untold = Some(error.cloned());
            }
        }
        if !self.is_of_host {
            self.tell_failure();
        }
    }

    fn tell_failure(&self) {
        let (untold, is_lost) = {
            let mut table = self.table();
            let is_lost = table.lost == Lost::Untold;
            if is_lost {
                table.lost = Lost::Told;
            }
            (table.untold.take(), is_lost)
        };
        if is_lost {
            let route = &self.route;
            warn!("sessions of {route} that ended are given up: too much waits, or for too long");
        }
        match untold {
            Some(Some(error)) => warn!("the sessions of {} cannot be kept: {error}", self.route),
            Some(None) => info!("the sessions of {} are kept again", self.route),
            None => {}
        }
    }

    /// Has the loop take the notes.
    fn post(&self) {
        let Some(begun) = self.begun.get() else { return };
        if !self.table().has_news() || self.is_posted.swap(true, Ordering::AcqRel) {
            return;
        }
        let Some(keeper) = self.me.upgrade() else { return };
        let taken = begun.order(move |engine, now| keeper.deliver(engine, now));
        if let Err(error) = taken {
            // They are posted again before long.
            self.is_posted.store(false, Ordering::Release);
            if error == SendError::Ended {
                self.drop_notes();
            }
        }
    }

    /// Drops what nobody takes any more. What it bears ends its claims.
    fn drop_notes(&self) {
        let notes = std::mem::take(&mut self.table().notes);
        drop(notes);
    }

    /// Has the engine follow the notes, some of them.
    fn deliver(&self, engine: &mut Engine, now: Instant) {
        self.is_posted.store(false, Ordering::Release);
        self.tell_failure();
        for _ in 0..NOTES_MAX {
            let Some(note) = ({
                let mut table = self.table();
                table.notes.pop_front()
            }) else {
                return;
            };
            match note {
                Note::Answer(id, answer) => engine.follow_claim(now, id, answer),
                Note::Thaw(id, found) => engine.follow_claim(now, id, self.thaw(*found)),
                Note::HandOver(id) => engine.hand_over(now, id, Visit::of(|_| ())),
                Note::Visit(id) => engine.visit(id, Visit::of(|_| ())),
            }
        }
        self.post();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        lock(&self.table)
    }

    /// Has a connection give up its session, which another server wants, or has taken.
    pub(super) fn hear_wanted(&self, session: &SessionId, number: u64) {
        if self.table().hear_wanted(session, number) {
            self.drive();
        }
    }

    /// Has a session claimed that an upgrade here waits for.
    pub(super) fn hear_free(&self, session: &SessionId) {
        if self.table().hear_free(session) {
            self.drive();
        }
    }

    /// Waits for so long, and on while there is nothing to be told of. Returns whether there may
    /// be something: the server runs.
    pub(super) fn wait_until_busy(&self, span: Duration) -> bool {
        let until = StdInstant::now() + span;
        let mut table = self.table();
        while !table.is_over {
            let left = until.saturating_duration_since(StdInstant::now());
            table = match (left.is_zero(), table.is_busy()) {
                (true, true) => return true,
                (true, false) => self.is_busy.wait(table).unwrap_or_else(PoisonError::into_inner),
                (false, _) => {
                    let waited = self.is_busy.wait_timeout(table, left);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
        false
    }

    pub(super) fn is_over(&self) -> bool {
        self.table().is_over
    }
}

impl Claims for Keeper {
    fn claim(&self, id: ConnectionId, mut request: Box<Request>) -> Claiming {
        let session = match self.key.find(&self.route, &request) {
            Ok(Some(session)) => session,
            Ok(None) => {
                self.table().figures.opened.keyless += 1;
                *request.borne() = Borne::Nothing;
                return Claiming::Known(request);
            }
            Err(sentence) => {
                self.table().figures.opened.bad_key += 1;
                return Claiming::Refused(Refusal::new(400, sentence));
            }
        };
        if !self.table().ask(id, session, request) {
            return Claiming::Refused(unavailable());
        }
        self.is_busy.notify_all();
        self.drive();
        Claiming::Waits
    }

    fn figures(&self) -> SessionFigures {
        SessionFigures { evicted: self.store.evicted(), ..self.table().read_figures() }
    }

    fn end(&self) {
        let Some(begun) = self.begun.get() else { return };
        self.table().end();
        self.is_busy.notify_all();
        let hearing = lock(&begun.hearing).take();
        drop(hearing);
        let thread = lock(&begun.thread).take();
        let Some(Thread { wakes, ended, joins }) = thread else {
            self.work();
            self.drop_notes();
            self.work();
            return self.tell_failure();
        };
        drop(wakes);
        match ended.recv_timeout(FLUSH_MAX) {
            Err(RecvTimeoutError::Timeout) => {
                warn!("the sessions of {} that ended last may not be saved", self.route);
            }
            // It has nothing left to do: a host may unload its library, or end.
            _ => drop(joins.join()),
        }
        self.tell_failure();
    }
}

/// A session that was claimed for an upgrade, and is still to be thawed.
pub(super) struct Found {
    request: Box<Request>,
    frozen: Option<Vec<u8>>,
    hold: Hold,
}

/// What a connection is opened with.
#[derive(Default)]
pub(crate) struct Opening {
    /// The session; `None` if there was none.
    pub thawed: Option<Box<dyn Any + Send>>,
    pub hold: Option<Hold>,
}

/// The handler's side of a claim. To drop it ends the claim, and saves nothing.
pub(crate) struct Hold {
    id: ConnectionId,
    keeper: Arc<Keeper>,
    flags: Arc<Flags>,
    /// The hash of what was saved last.
    last: Option<u64>,
    is_too_big: bool,
    has_ended: bool,
}

impl Hold {
    /// Takes note that the session may have changed.
    pub fn note_changed(&self) {
        if !self.flags.changed.load(Ordering::Relaxed) {
            self.flags.changed.store(true, Ordering::Release);
        }
    }

    /// Takes what the handler is to be told.
    pub fn take_unsaved(&self) -> Option<Unsaved> {
        self.flags.take_unsaved()
    }

    /// Returns whether the session is to be given up.
    pub fn is_wanted(&self) -> bool {
        self.flags.wanted.load(Ordering::Acquire)
    }

    /// Returns whether a newer connection has it.
    pub fn is_fenced(&self) -> bool {
        self.flags.fenced.load(Ordering::Acquire)
    }

    /// Returns whether it is to be frozen now; once.
    pub fn take_due(&self) -> bool {
        self.flags.due.swap(false, Ordering::AcqRel)
    }

    /// Saves a session that is frozen now, if it has changed.
    pub fn save(&mut self, frozen: Vec<u8>) {
        let news = self.news(frozen);
        self.renew(news);
    }

    /// Renews the claim, and saves what is new.
    pub fn renew(&mut self, news: Option<Vec<u8>>) {
        self.keeper.table().save(self.id, news);
        self.keeper.drive();
    }

    /// Saves it for the last time, and ends the claim.
    pub fn end_with(&mut self, frozen: Vec<u8>) {
        let news = self.news(frozen);
        self.end(news);
    }

    /// Ends the claim, and saves what is new for the last time.
    pub fn end(&mut self, frozen: Option<Vec<u8>>) {
        if !std::mem::replace(&mut self.has_ended, true) {
            self.keeper.table().let_go(self.id, frozen);
            self.keeper.drive();
        }
    }

    /// Returns the most bytes that a session may have.
    pub fn bytes_max(&self) -> usize {
        self.keeper.begun.get().map_or(0, |begun| begun.rules.bytes_max)
    }

    /// Returns the bytes if they are others than those saved last, and not too many.
    pub fn news(&mut self, frozen: Vec<u8>) -> Option<Vec<u8>> {
        if frozen.len() > self.bytes_max() {
            self.note_too_big();
            return None;
        }
        self.is_too_big = false;
        let hash = self.keeper.hasher.hash_one(&frozen);
        let is_same = self.last.replace(hash) == Some(hash);
        let has_failed = self.flags.failed.swap(false, Ordering::AcqRel);
        (has_failed || !is_same).then_some(frozen)
    }

    /// Takes note that the session is too long to be saved.
    pub fn note_too_big(&mut self) {
        let mut table = self.keeper.table();
        table.figures.saves.too_big += 1;
        if !std::mem::replace(&mut self.is_too_big, true) {
            self.flags.tell(Unsaved::TooBig);
            table.notes.push_back(Note::Visit(self.id));
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.end(None);
    }
}

/// Calls a store, for which a panic is a failure.
fn attempt<T>(call: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let result = catch_unwind(AssertUnwindSafe(call));
    result.unwrap_or_else(|_| Err(StoreError::new("the store panicked")))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How long an older connection has to let go of a session, unless half of `deadlines.handshake` is
/// shorter.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long the end of a server waits for the last saves.
const FLUSH_MAX: Duration = Duration::from_secs(2);
/// When notes are posted again that the loop had no room for.
const POST_AGAIN: Duration = Duration::from_millis(20);
/// Notes that the loop follows in one go.
const NOTES_MAX: usize = 256;

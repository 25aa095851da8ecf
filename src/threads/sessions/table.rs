//! Who holds which session of a route, who waits for one, and what is to be done about it: without
//! a thread or a clock. How much time has passed is told.
//!
//! ```text
//!   ask ──► claim ──► taken ──► hold ──► wanted by another ──► ended, saved, gone
//!    ▲        │                  │                                   │
//!    │      held by another      └── every `sessions.save`:          │
//!    │        ▼                      freeze, or renew the claim      │
//!    └── wait, ask again, at last by force ◄── is told ◄─────────────┘
//! ```

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::time::{Duration, Instant as StdInstant};

use super::keeper::Found;
use super::{Claimed, Saved, SessionId, StoreError, Unsaved};
use crate::core::ground::id::ConnectionId;
use crate::core::observe::sessions::SessionFigures;
use crate::core::wire::http::{Refusal, Request};

#[derive(Default)]
pub(super) struct Table {
    pub asks: HashMap<ConnectionId, Ask>,
    pub holds: HashMap<ConnectionId, Holding>,
    /// The newest connection that holds a session.
    newest: HashMap<SessionId, ConnectionId>,
    pub ops: VecDeque<Op>,
    pub notes: VecDeque<Note>,
    pub figures: SessionFigures,
    /// How much of the way to the next step of the round is behind; `None` while nobody holds
    /// anything.
    stepped: Option<Duration>,
    /// The connections whose turn it is in this step.
    step: usize,
    /// The store has failed last.
    pub is_failing: bool,
    /// The server has ended.
    pub is_over: bool,
    /// What the log is to be told: why the store fails, or that it goes on.
    pub untold: Option<Option<StoreError>>,
    /// The bytes that connections have left which have ended.
    left_bytes: usize,
    /// Something was given up since all that was left was saved.
    pub lost: Lost,
}

/// Whether the log is to be told that something was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Lost {
    #[default]
    Nothing,
    Untold,
    Told,
}

/// An upgrade that waits for its session.
pub(super) struct Ask {
    pub session: SessionId,
    pub request: Box<Request>,
    pub began: StdInstant,
    /// The claim is with the store, or is about to be.
    is_asking: bool,
    /// How long it has waited for another connection to let go; `None` until time is looked at.
    waited: Option<Duration>,
    retry_after: Duration,
    retry_in: Duration,
    /// It has waited for another connection.
    was_held: bool,
    /// The number of the claim that it waits for.
    held_by: Option<u64>,
    force: bool,
}

impl Ask {
    /// Returns the number of the claim that it takes the session from.
    pub fn force(&self) -> Option<u64> {
        self.held_by.filter(|_| self.force)
    }
}

/// A connection that holds a session.
pub(super) struct Holding {
    session: SessionId,
    number: u64,
    /// How many saves were tried.
    turn: u64,
    flags: Arc<Flags>,
    /// What is to be saved.
    unsaved: Option<Vec<u8>>,
    /// The connection has given it up: when it is saved it is gone from here.
    has_ended: bool,
    /// A save waits, or is with the store.
    is_queued: bool,
    is_failing: bool,
    /// For how long it has been tried in vain to save it for the last time.
    tried_for: Duration,
}

/// What the keeper and the handler's side of a hold tell each other.
#[derive(Debug, Default)]
pub(super) struct Flags {
    /// The handler was called.
    pub changed: AtomicBool,
    /// It is to be frozen at the next visit.
    pub due: AtomicBool,
    /// It is to be given up at the next visit.
    pub wanted: AtomicBool,
    /// A newer connection has it.
    pub fenced: AtomicBool,
    /// What was frozen last is not saved.
    pub failed: AtomicBool,
    unsaved: AtomicU8,
}

/// See [`Table::take_save`].
pub(super) type TakenSave = (SessionId, (u64, u64), Option<Vec<u8>>, bool);

/// What is to be done with the store.
#[derive(Clone, Copy)]
pub(super) enum Op {
    Claim(ConnectionId),
    Save(ConnectionId),
}

/// What is to be told to the loop.
pub(super) enum Note {
    /// The answer to an upgrade.
    Answer(ConnectionId, Result<Box<Request>, Refusal>),
    /// The session of an upgrade, which is thawed by the loop.
    Thaw(ConnectionId, Box<Found>),
    /// A newer connection has the session of this one, or wants it.
    HandOver(ConnectionId),
    /// Something is to be done where the handler of this connection runs.
    Visit(ConnectionId),
}

impl Table {
    /// Takes an upgrade that asks for its session. Returns whether there is room.
    pub fn ask(&mut self, id: ConnectionId, session: SessionId, request: Box<Request>) -> bool {
        if self.asks.len() >= ASKS_MAX {
            self.figures.opened.unavailable += 1;
            return false;
        }
        let holder = self.newest.get(&session).copied();
        let ask = Ask {
            session,
            request,
            began: StdInstant::now(),
            is_asking: holder.is_none(),
            waited: None,
            retry_after: RETRY_FIRST,
            retry_in: RETRY_FIRST,
            was_held: holder.is_some(),
            held_by: holder.and_then(|id| self.holds.get(&id)).map(|holding| holding.number),
            force: false,
        };
        self.asks.insert(id, ask);
        match holder {
            None => self.ops.push_back(Op::Claim(id)),
            Some(holder) => self.want(holder),
        }
        true
    }

    /// Has a connection give its session up.
    fn want(&mut self, id: ConnectionId) {
        let Some(holding) = self.holds.get(&id).filter(|holding| !holding.has_ended) else {
            return;
        };
        if !holding.flags.wanted.swap(true, Ordering::AcqRel) {
            self.notes.push_back(Note::HandOver(id));
        }
    }

    /// Has a connection that was given its session give it up again, if another one waits for it
    /// here: what that one was told before was told to others.
    pub fn want_if_awaited(&mut self, id: ConnectionId) {
        let Some(holding) = self.holds.get(&id) else { return };
        if self.asks.values().any(|ask| ask.session == holding.session) {
            self.want(id);
        }
    }

    /// Has the connection give up its session whose claim has this number. Returns whether there
    /// is one.
    pub fn hear_wanted(&mut self, session: &SessionId, number: u64) -> bool {
        let Some(id) = self.newest.get(session).copied() else { return false };
        let is_it = self.holds.get(&id).is_some_and(|holding| holding.number == number);
        if is_it {
            self.want(id);
        }
        is_it
    }

    /// Has a session claimed that is free elsewhere. Returns whether one waits for it here.
    pub fn hear_free(&mut self, session: &SessionId) -> bool {
        !self.newest.contains_key(session) && self.claim_next(session)
    }

    /// Has the claim made that has waited longest. Returns whether there is one.
    fn claim_next(&mut self, session: &SessionId) -> bool {
        let waits = |ask: &Ask| !ask.is_asking && ask.session == *session;
        let next = self.asks.iter_mut().filter(|(_, ask)| waits(ask));
        let Some((id, ask)) = next.min_by_key(|(_, ask)| ask.began) else { return false };
        ask.is_asking = true;
        self.ops.push_back(Op::Claim(*id));
        true
    }

    /// Returns whether a connection holds a session, or waits for one.
    pub fn is_busy(&self) -> bool {
        !self.holds.is_empty() || !self.asks.is_empty()
    }

    /// Takes what a claim has come to. Returns the upgrade that has its session now.
    pub fn claimed(
        &mut self,
        id: ConnectionId,
        claimed: Result<Claimed, StoreError>,
    ) -> Option<(Ask, u64, Option<Vec<u8>>)> {
        let ask = self.asks.get_mut(&id)?;
        match claimed {
            Err(_) => self.refuse(id),
            Ok(Claimed::Held { number }) => {
                (ask.is_asking, ask.was_held) = (false, true);
                if ask.held_by.replace(number).is_some_and(|before| before != number) {
                    // Another one has it now, which has its own time to let go.
                    (ask.waited, ask.force) = (None, false);
                }
                if let Some(holder) = self.newest.get(&ask.session).copied() {
                    self.want(holder);
                }
            }
            Ok(Claimed::Taken { number, frozen }) => {
                let ask = self.asks.remove(&id)?;
                let taken_over = &mut self.figures.taken_over;
                taken_over.forced += u64::from(ask.force);
                taken_over.handed += u64::from(ask.was_held && !ask.force);
                return Some((ask, number, frozen));
            }
        }
        None
    }

    /// Refuses an upgrade because the store does not answer.
    pub fn refuse(&mut self, id: ConnectionId) {
        if self.asks.remove(&id).is_some() {
            self.figures.opened.unavailable += 1;
            self.notes.push_back(Note::Answer(id, Err(unavailable())));
        }
    }

    /// Takes note that a connection holds a session. Others that wait for it, wait for this one
    /// now: it has its own time to let go.
    pub fn hold(&mut self, id: ConnectionId, session: SessionId, number: u64, flags: Arc<Flags>) {
        for ask in self.asks.values_mut().filter(|ask| ask.session == session) {
            (ask.waited, ask.force, ask.held_by) = (None, false, Some(number));
        }
        self.newest.insert(session.clone(), id);
        let holding = Holding {
            session,
            number,
            turn: 0,
            flags,
            unsaved: None,
            has_ended: false,
            is_queued: false,
            is_failing: false,
            tried_for: Duration::ZERO,
        };
        self.holds.insert(id, holding);
    }

    /// Has a session saved, or, without bytes, its claim renewed.
    pub fn save(&mut self, id: ConnectionId, frozen: Option<Vec<u8>>) {
        let Some(holding) = self.holds.get_mut(&id).filter(|holding| !holding.has_ended) else {
            return;
        };
        if frozen.is_some() {
            holding.unsaved = frozen;
        }
        self.queue_save(id);
    }

    /// Has a session saved for the last time, and its claim ended.
    pub fn let_go(&mut self, id: ConnectionId, frozen: Option<Vec<u8>>) {
        let Some(holding) = self.holds.get_mut(&id).filter(|holding| !holding.has_ended) else {
            return;
        };
        let last = frozen.or(holding.unsaved.take());
        holding.has_ended = true;
        if holding.flags.fenced.load(Ordering::Acquire) && !holding.is_queued {
            return self.forget(id);
        }
        let bytes = last.as_ref().map_or(0, Vec::len);
        if self.left_bytes + bytes <= LEFT_BYTES_MAX {
            self.left_bytes += bytes;
            holding.unsaved = last;
        } else {
            self.note_lost();
        }
        self.queue_save(id);
    }

    /// Takes note that what a connection has left is given up.
    fn note_lost(&mut self) {
        self.figures.saves.lost += 1;
        if self.lost == Lost::Nothing {
            self.lost = Lost::Untold;
        }
    }

    /// Takes what is to be saved now: the session, the number of its claim and which save of it
    /// this is, the bytes, and whether it is the last one.
    pub fn take_save(&mut self, id: ConnectionId) -> Option<TakenSave> {
        let holding = self.holds.get_mut(&id)?;
        holding.turn += 1;
        let frozen = holding.unsaved.take();
        if holding.has_ended {
            self.left_bytes -= frozen.as_ref().map_or(0, Vec::len);
        }
        let numbers = (holding.number, holding.turn);
        Some((holding.session.clone(), numbers, frozen, holding.has_ended))
    }

    fn queue_save(&mut self, id: ConnectionId) {
        if let Some(holding) = self.holds.get_mut(&id)
            && !holding.is_queued
        {
            holding.is_queued = true;
            self.ops.push_back(Op::Save(id));
        }
    }

    /// Takes what a save has come to: these bytes, if there were any.
    pub fn saved(
        &mut self,
        id: ConnectionId,
        frozen: Option<Vec<u8>>,
        was_end: bool,
        saved: &Result<Saved, StoreError>,
    ) {
        let Some(holding) = self.holds.get_mut(&id) else { return };
        holding.is_queued = false;
        match saved {
            Ok(Saved::Taken) => {
                self.figures.saves.saved += u64::from(frozen.is_some());
                holding.is_failing = false;
                if was_end {
                    self.forget(id);
                    // From now on it is told again.
                    if self.left_bytes == 0 && self.lost == Lost::Told {
                        self.lost = Lost::Nothing;
                    }
                    return;
                }
                if holding.has_ended || holding.unsaved.is_some() {
                    self.queue_save(id);
                }
            }
            Ok(Saved::Fenced) => {
                self.figures.saves.fenced += 1;
                holding.flags.fenced.store(true, Ordering::Release);
                if holding.has_ended {
                    return self.forget(id);
                }
                self.want(id);
            }
            Err(_) => {
                self.figures.saves.failed += 1;
                if holding.has_ended {
                    if holding.unsaved.is_none() {
                        self.left_bytes += frozen.as_ref().map_or(0, Vec::len);
                        holding.unsaved = frozen;
                    }
                    return;
                }
                // Bytes are kept for those alone that cannot be frozen again.
                holding.unsaved = None;
                holding.flags.failed.store(true, Ordering::Release);
                holding.flags.changed.store(true, Ordering::Release);
                if !std::mem::replace(&mut holding.is_failing, true) {
                    holding.flags.tell(Unsaved::Store);
                    self.notes.push_back(Note::Visit(id));
                }
            }
        }
    }

    /// Forgets a hold, and has the next claim of its session made.
    fn forget(&mut self, id: ConnectionId) {
        let Some(holding) = self.holds.remove(&id) else { return };
        if holding.has_ended {
            self.left_bytes -= holding.unsaved.as_ref().map_or(0, Vec::len);
        }
        if self.newest.get(&holding.session) == Some(&id) {
            self.newest.remove(&holding.session);
        }
        self.claim_next(&holding.session);
    }

    /// Lets time pass for those that wait. Returns when to do so next.
    pub fn pass_for_asks(&mut self, elapsed: Duration, patience: Duration) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        let mut forced = Vec::new();
        for (id, ask) in self.asks.iter_mut().filter(|(_, ask)| !ask.is_asking) {
            next = Some(LOOK_AFTER);
            if elapsed.is_zero() {
                continue;
            }
            // It may have come just now.
            let waited = ask.waited.map_or(Duration::ZERO, |waited| waited + elapsed);
            ask.waited = Some(waited);
            ask.retry_in = ask.retry_in.saturating_sub(elapsed);
            ask.force = waited >= patience;
            // What this server holds is told: only others are asked again.
            let is_here = self.newest.contains_key(&ask.session);
            if ask.force || ask.retry_in.is_zero() && !is_here {
                ask.is_asking = true;
                ask.retry_after *= 2;
                ask.retry_in = ask.retry_after;
                forced.push((*id, ask.session.clone()));
            }
        }
        for (id, session) in forced {
            // What an older connection has left here is saved first.
            if let Some(holder) = self.newest.get(&session).copied()
                && self.holds.get(&holder).is_some_and(|holding| holding.has_ended)
            {
                self.queue_save(holder);
            }
            self.ops.push_back(Op::Claim(id));
        }
        next
    }

    /// Returns whether an older connection has left something here that is not saved: it would be
    /// lost to whatever claims the session now.
    pub fn has_unsaved(&self, session: &SessionId) -> bool {
        let holder = self.newest.get(session).and_then(|holder| self.holds.get(holder));
        holder.is_some_and(|holding| holding.has_ended && holding.unsaved.is_some())
    }

    /// Lets time pass for those that hold a session: each has its turn once in a round of `save`.
    /// Returns when to do so next.
    pub fn pass_for_holds(
        &mut self,
        elapsed: Duration,
        save: Duration,
        ttl: Duration,
    ) -> Option<Duration> {
        if self.holds.is_empty() {
            self.stepped = None;
            return None;
        }
        let span = save / STEPS as u32;
        // The first may have come just now.
        let mut stepped = self.stepped.map_or(Duration::ZERO, |stepped| stepped + elapsed);
        let mut steps = 0;
        while stepped >= span && steps < STEPS {
            stepped -= span;
            self.step = (self.step + 1) % STEPS;
            steps += 1;
            self.take_step(save, ttl);
        }
        // After a stop of the process one round is enough.
        let stepped = stepped.min(span);
        self.stepped = Some(stepped);
        Some((span - stepped).max(Duration::from_millis(1)))
    }

    fn take_step(&mut self, save: Duration, ttl: Duration) {
        let step = self.step;
        let ids = self.holds.keys().filter(|id| id.key() % STEPS == step);
        let ids: Vec<ConnectionId> = ids.copied().collect();
        for id in ids {
            let Some(holding) = self.holds.get_mut(&id) else { continue };
            if holding.has_ended {
                holding.tried_for += save;
                if holding.tried_for > ttl {
                    if holding.unsaved.is_some() {
                        self.note_lost();
                    }
                    self.forget(id);
                    continue;
                }
            } else if holding.flags.changed.swap(false, Ordering::AcqRel)
                || holding.flags.due.load(Ordering::Acquire)
            {
                self.notes.push_back(Note::Visit(id));
                if !holding.flags.due.swap(true, Ordering::AcqRel) {
                    continue;
                }
                // Its handler has been in a call since the last round: the claim is renewed.
            }
            self.queue_save(id);
        }
    }

    /// Has all saved that can be, for the last time.
    pub fn end(&mut self) {
        self.is_over = true;
        let ids: Vec<ConnectionId> = self.holds.keys().copied().collect();
        for id in ids {
            if self.holds.get(&id).is_some_and(|holding| holding.has_ended) {
                self.queue_save(id);
            }
        }
    }

    /// Returns whether there is anything to be told.
    pub fn has_news(&self) -> bool {
        !self.notes.is_empty() || self.untold.is_some() || self.lost == Lost::Untold
    }

    /// Returns the next thing to do with the store.
    pub fn next_op(&mut self) -> Option<Op> {
        self.ops.pop_front()
    }

    /// Returns the figures, with those of this moment.
    pub fn read_figures(&self) -> SessionFigures {
        SessionFigures {
            held: self.holds.len() as u64,
            unsaved_bytes: self.unsaved_bytes() as u64,
            ..self.figures
        }
    }

    fn unsaved_bytes(&self) -> usize {
        self.holds.values().filter_map(|holding| holding.unsaved.as_ref()).map(Vec::len).sum()
    }
}

impl Flags {
    /// Tells the handler at its next visit.
    pub fn tell(&self, why: Unsaved) {
        self.unsaved.store(1 + why as u8, Ordering::Release);
    }

    /// Takes what the handler is to be told.
    pub fn take_unsaved(&self) -> Option<Unsaved> {
        match self.unsaved.swap(0, Ordering::AcqRel) {
            0 => None,
            1 => Some(Unsaved::Store),
            _ => Some(Unsaved::TooBig),
        }
    }
}

pub(super) fn unavailable() -> Refusal {
    Refusal::new(503, "the session cannot be had now: try again later")
}

/// Upgrades that wait for their session; more are refused.
const ASKS_MAX: usize = 1024;
/// Bytes of sessions whose connections have ended, and that are still to be saved. One more that
/// was with the store, which has failed, may come back.
const LEFT_BYTES_MAX: usize = 16 << 20;
/// A session that another server holds is asked for again after so long, then after twice as long.
const RETRY_FIRST: Duration = Duration::from_millis(20);
/// How often those are looked at that wait for another connection.
const LOOK_AFTER: Duration = Duration::from_millis(20);
/// Holds have their turns in so many steps, so that they do not come all at once.
const STEPS: usize = 16;

// What the guide says of a session that is held, and of an upgrade that waits: an entry of a table
// that has just grown takes less than two and a third of it (src/guide/sessions.md). Beside them
// are the flags, the names, and the hold in the handler's session, or the request.
#[cfg(target_pointer_width = "64")]
const _: () = {
    const fn in_table(bytes: usize) -> usize {
        (bytes + 1) * 7 / 3
    }
    let hold = in_table(size_of::<(ConnectionId, Holding)>())
        + in_table(size_of::<(SessionId, ConnectionId)>())
        + size_of::<Flags>()
        + size_of::<super::keeper::Hold>()
        + 3 * 16;
    assert!(hold <= 400);
    let ask = in_table(size_of::<(ConnectionId, Ask)>()) + size_of::<Request>() + 2 * 16;
    assert!(ask <= 600);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ground::id::Generation;

    const KIB_64: usize = 64 << 10;

    fn hold(table: &mut Table, n: usize) -> ConnectionId {
        let id = ConnectionId::new(n, Generation::FIRST);
        let session = SessionId::new("/a", &n.to_string()).unwrap();
        table.hold(id, session, n as u64, Arc::default());
        id
    }

    fn sum(table: &Table) -> usize {
        let left = table.holds.values().filter(|holding| holding.has_ended);
        left.filter_map(|holding| holding.unsaved.as_ref()).map(Vec::len).sum()
    }

    // FAULTS 292.
    #[test]
    fn open_sessions_take_no_room_of_what_ended_ones_leave() {
        let mut table = Table::default();
        for n in 0..300 {
            let id = hold(&mut table, n);
            table.save(id, Some(vec![1; KIB_64]));
        }
        let ended: Vec<ConnectionId> = (300..560).map(|n| hold(&mut table, n)).collect();
        for (index, id) in ended.iter().enumerate() {
            table.let_go(*id, Some(vec![2; KIB_64]));
            assert_eq!(table.figures.saves.lost, (index as u64 + 1).saturating_sub(256));
            assert_eq!((table.left_bytes, table.left_bytes <= LEFT_BYTES_MAX), (sum(&table), true));
        }
        assert_eq!(table.lost, Lost::Untold, "the log is told");
        table.lost = Lost::Told;
        // What a connection has left before its end counts, too.
        let before = ConnectionId::new(0, Generation::FIRST);
        table.let_go(before, None);
        assert_eq!((table.figures.saves.lost, table.left_bytes), (5, LEFT_BYTES_MAX));
        for id in ended {
            let (_, _, frozen, is_end) = table.take_save(id).unwrap();
            table.saved(id, frozen, is_end, &Err(StoreError::new("as asked")));
            assert_eq!(table.left_bytes, sum(&table));
            let (_, _, frozen, is_end) = table.take_save(id).unwrap();
            assert!(is_end);
            table.saved(id, frozen, is_end, &Ok(Saved::Taken));
            assert_eq!(table.left_bytes, sum(&table));
        }
        assert_eq!((table.left_bytes, table.lost), (0, Lost::Nothing));
    }
}

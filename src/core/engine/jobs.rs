//! Jobs for handlers: at most one of a connection is out at a time, so its events come in order and
//! its session needs no lock.

use std::collections::{HashMap, VecDeque};
use std::iter;

use crate::core::connection::{Connection, Mark, Told};
use crate::core::contract::event::{Done, Event, Job, Outcome, Session, Task};
use crate::core::contract::route::Placement;
use crate::core::engine::queue::pop;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::Response;

/// What waits for handlers. Jobs for the loop thread and jobs for the workers wait apart, so that
/// blocked workers hold up nothing else.
#[derive(Debug, Default)]
pub(super) struct Jobs {
    inline: Queue,
    workers: Queue,
    /// Jobs that were taken and have not come back.
    out: usize,
    /// Jobs that have come back.
    returned: u64,
    /// Bytes that jobs of ended connections hold, queued or out.
    left: HashMap<ConnectionId, usize>,
    /// The sum of `left`.
    left_bytes: usize,
    /// Connections that ended while a job was out.
    pub orphans: HashMap<ConnectionId, Orphan>,
    /// Why connections ended whose uploads were in jobs, and whether their handlers had begun.
    pub cut: HashMap<ConnectionId, (CloseReason, bool)>,
}

#[derive(Debug, Default)]
struct Queue {
    /// The last events of connections that have ended.
    last: VecDeque<Job>,
    /// Connections for which something waits.
    runnable: VecDeque<ConnectionId>,
}

impl Queue {
    fn is_empty(&self) -> bool {
        self.last.is_empty() && self.runnable.is_empty()
    }
}

/// A connection that ended while a job of it was out.
#[derive(Debug)]
pub(super) struct Orphan {
    pub events: VecDeque<Event>,
    pub reason: CloseReason,
    pub identity: Option<Identity>,
}

impl Jobs {
    /// Returns whether no job waits or is out.
    pub fn is_empty(&self) -> bool {
        self.inline.is_empty() && self.workers.is_empty() && self.out == 0
    }

    /// Returns about how many jobs wait to be handed to the workers.
    pub fn waiting(&self) -> usize {
        self.workers.last.len() + self.workers.runnable.len()
    }

    /// Returns the memory of messages and requests whose connections have ended.
    pub fn left_bytes(&self) -> usize {
        self.left_bytes
    }

    /// Notes how many bytes handlers have, or are to be given, for a connection that has ended.
    pub fn note_left(&mut self, id: ConnectionId, bytes: usize) {
        if bytes > 0 {
            self.left_bytes += bytes;
            self.left_bytes -= self.left.insert(id, bytes).unwrap_or(0);
        }
    }

    /// Notes that the job of an ended connection has come back.
    fn forget_left(&mut self, id: ConnectionId) {
        if self.left.is_empty() {
            return;
        }
        self.left_bytes -= self.left.remove(&id).unwrap_or(0);
        debug_assert!(!self.left.is_empty() || self.left_bytes == 0, "the sum of none is none");
        if self.left.is_empty() {
            self.left.shrink_to(LEFT_KEPT_MAX);
        }
    }

    /// Notes that something is out which comes back as a job does.
    pub fn note_out(&mut self) {
        self.out += 1;
    }

    /// Returns how many jobs are out.
    pub fn out(&self) -> usize {
        self.out
    }

    /// Returns how many jobs have come back.
    pub fn returned(&self) -> u64 {
        self.returned
    }

    pub fn has_inline(&self) -> bool {
        !self.inline.is_empty()
    }

    fn of(&mut self, placement: Placement) -> &mut Queue {
        match placement {
            Placement::Inline => &mut self.inline,
            Placement::Worker => &mut self.workers,
        }
    }
}

impl Engine {
    /// Takes the next job for handlers of this placement. Its outcome returns as
    /// [`Command::Done`](crate::core::contract::event::Command::Done).
    pub fn poll_job(&mut self, placement: Placement) -> Option<Job> {
        let job = self.next_job(placement);
        let is_for_handler = |job: &Job| match job.task {
            Task::Authorize(_) => self.settings.routes[job.route].authorizes,
            Task::Pull(_) | Task::Step(..) | Task::Call(_) | Task::Offer(_) => true,
            _ => {
                let route = &self.settings.routes[job.route];
                route.kind.has_handler() || route.hooks().is_some()
            }
        };
        debug_assert!(job.as_ref().is_none_or(is_for_handler), "there is none to do this job");
        self.jobs.out += usize::from(job.is_some());
        job
    }

    fn next_job(&mut self, placement: Placement) -> Option<Job> {
        if let Some(job) = pop(&mut self.jobs.of(placement).last) {
            return Some(job);
        }
        while let Some(id) = pop(&mut self.jobs.of(placement).runnable) {
            let Some(connection) = self.get_mut(id) else { continue };
            connection.marks.clear(Mark::Runnable);
            let job = self.take_request(id).or_else(|| self.take_pull(id));
            let job = job.or_else(|| self.take_step(id)).or_else(|| self.take_job(id));
            if job.is_some() {
                self.mark_ready_again(id);
                return job;
            }
        }
        None
    }

    /// Makes a job of the request that a connection waits to have decided.
    fn take_request(&mut self, id: ConnectionId) -> Option<Job> {
        let connection = find_mut(&mut self.connections, id)?;
        let identity = self.admission.identity(connection);
        let (request, pending) = connection.take_request()?;
        let route = pending.route;
        let task = match self.settings.routes[route].authorizes && !pending.is_judged {
            true => Task::Authorize(request),
            false => {
                connection.note_upload_asked();
                Task::Answer(request)
            }
        };
        Some(Job { id, route, identity, task })
    }

    /// Goes on reading from a connection whose inbox has just been emptied.
    fn mark_ready_again(&mut self, id: ConnectionId) {
        let is_ready =
            |connection: &Connection| connection.is_paused() && !self.is_behind(connection);
        if self.get(id).is_some_and(is_ready) {
            self.mark_ready(id);
        }
    }

    /// Makes a job of the events of a connection, as many as its outbox has room for the answers
    /// to.
    ///
    /// A handler on this thread is given no more than the turn has left. To hand events over is not
    /// to handle them: a worker is given all that was read together, so that the answers leave
    /// together, too. How many commands come back in a turn is bounded apart.
    fn take_job(&mut self, id: ConnectionId) -> Option<Job> {
        let connection = self.get(id)?;
        let route = usize::from(connection.route?);
        let outbox_limit = self.settings.rules(connection).limits.outbox_bytes;
        let placement = self.settings.routes[route].placement;
        let budget = match placement {
            Placement::Inline => self.allowance.messages_left(),
            Placement::Worker => usize::MAX,
        };
        let connection = find_mut(&mut self.connections, id)?;
        let waiting = connection.outbox.held_bytes();
        let inbox = connection.inbox.as_mut().filter(|_| connection.flags.told != Told::Out)?;
        let mut count = 0;
        for event in &inbox.events {
            if let Some(bytes) = event.message_bytes() {
                let cost = bytes + Frame::HEAD_BYTES_MAX;
                let fits = waiting + inbox.promised + cost <= outbox_limit;
                if !fits && waiting + inbox.promised > 0 {
                    break;
                }
                inbox.promised += cost;
                inbox.messages -= 1;
                inbox.bytes -= bytes;
                inbox.given += 1;
            } else if let Event::Timer(_) = event {
                // It begins a job: until then the handler may move or cancel it.
                if count > 0 {
                    break;
                }
                inbox.timers -= 1;
            }
            count += 1;
            if count == budget {
                break;
            }
        }
        if count == 0 {
            return None;
        }
        let events = match count == inbox.events.len() {
            true => std::mem::take(&mut inbox.events),
            false => {
                let mut events = VecDeque::with_capacity(count);
                events.extend(iter::from_fn(|| inbox.events.pop_front()).take(count));
                events
            }
        };
        let given = inbox.given as usize;
        debug_assert!(connection.flags.told != Told::Out, "one job at a time");
        connection.flags.told = Told::Out;
        let session = connection.session.take();
        let identity = self.admission.identity(connection);
        if placement == Placement::Inline {
            self.allowance.charge_messages(given);
        }
        Some(Job { id, route, identity, task: Task::Events { session, events } })
    }

    /// Returns whether a job waits for the loop thread.
    pub fn has_inline_jobs(&self) -> bool {
        self.jobs.has_inline()
    }

    /// Takes the outcome of a job.
    pub(super) fn handle_done(&mut self, now: Instant, done: Done) {
        let id = done.id;
        self.jobs.out = self.jobs.out.saturating_sub(1);
        self.jobs.returned += 1;
        self.jobs.forget_left(id);
        match done.outcome {
            Outcome::Verdict(request, verdict) => {
                self.take_verdict(now, id, done.route, request, verdict);
            }
            Outcome::Answer(response) => {
                self.note_upload_answered(now, id);
                self.handle_answer(now, id, response);
            }
            Outcome::Kept(state) => self.handle_kept(now, id, done.route, state),
            Outcome::Pulled(source, next) => self.handle_pulled(now, id, source, next),
            Outcome::Called => {}
            Outcome::Told { topic, panics } => self.handle_told(&topic, panics),
            Outcome::Events { session, messages_handled, events } => {
                self.stats.messages_handled += messages_handled;
                self.take_back(done.route, id, session, events);
            }
            Outcome::Panicked { session, messages_handled, messages_lost } => {
                self.stats.handler_panics += 1;
                self.stats.messages_handled += messages_handled;
                self.stats.messages_panicked += messages_lost;
                self.handle_panic(now, done.route, id, session);
            }
        }
        self.advance(now, id);
    }

    /// Gives a session back to its connection, or, if the connection has ended, to the handler for
    /// the last time.
    fn take_back(
        &mut self,
        route: usize,
        id: ConnectionId,
        session: Option<Session>,
        spent: VecDeque<Event>,
    ) {
        let Some(connection) = self.get_mut(id) else {
            return self.take_back_orphan(route, id, session);
        };
        connection.session = session;
        if connection.flags.told == Told::Out {
            connection.flags.told = Told::Yes;
        }
        if let Some(inbox) = &mut connection.inbox {
            inbox.promised = 0;
            inbox.given = 0;
            if inbox.events.capacity() == 0 {
                inbox.events = spent;
            }
        }
        self.mark_runnable(id);
    }

    fn take_back_orphan(&mut self, route: usize, id: ConnectionId, session: Option<Session>) {
        let Some(mut orphan) = self.jobs.orphans.remove(&id) else { return };
        debug_assert!(self.get(id).is_none(), "it has ended");
        if session.is_none() {
            // The handler panicked in its first call.
            return;
        }
        orphan.events.push_back(Event::Closed(orphan.reason));
        let task = Task::Events { session, events: orphan.events };
        self.queue_job(Job { id, route, identity: orphan.identity, task });
    }

    fn handle_panic(
        &mut self,
        now: Instant,
        route: usize,
        id: ConnectionId,
        session: Option<Session>,
    ) {
        self.note_upload_answered(now, id);
        let is_first = session.is_none();
        // Some messages are lost. Later messages are dropped too, so that the handler sees no gap.
        self.forget_messages(id);
        self.take_back(route, id, session, VecDeque::new());
        let Some(connection) = self.get_mut(id) else { return };
        // A handler that panicked in its first call keeps nothing and is told nothing more.
        if is_first {
            connection.flags.told = Told::Not;
            if let Some(inbox) = &mut connection.inbox {
                inbox.events.clear();
                inbox.timers = 0;
            }
        }
        if connection.is_deciding() {
            connection.end_behind_upgrade();
            let response = Response::new(500).text("the handler panicked\n");
            self.handle_answer(now, id, response);
        } else {
            self.fail(now, id, CloseReason::Panic);
        }
    }

    /// Drops the messages that still wait for the handler of a connection, ended or not.
    pub(super) fn forget_messages(&mut self, id: ConnectionId) {
        let events = match self.jobs.orphans.get_mut(&id) {
            Some(orphan) => &mut orphan.events,
            None => {
                let connection = find_mut(&mut self.connections, id);
                let Some(inbox) = connection.and_then(|c| c.inbox.as_deref_mut()) else { return };
                inbox.messages = 0;
                inbox.bytes = 0;
                &mut inbox.events
            }
        };
        let before = events.len();
        events.retain(|event| event.message_bytes().is_none());
        self.stats.messages_cancelled += (before - events.len()) as u64;
    }

    /// Returns the messages that wait for handlers of connections that have ended.
    pub(super) fn messages_left(&self) -> u64 {
        let last = self.jobs.inline.last.iter().chain(&self.jobs.workers.last);
        let last = last.filter_map(|job| match &job.task {
            Task::Events { events, .. } => Some(events),
            _ => None,
        });
        let orphaned = self.jobs.orphans.values().map(|orphan| &orphan.events);
        last.chain(orphaned).flatten().filter_map(Event::message_bytes).count() as u64
    }

    pub(super) fn queue_job(&mut self, job: Job) {
        if let Task::Events { events, .. } = &job.task {
            self.jobs.note_left(job.id, memory_of(events));
        }
        let placement = match job.task {
            Task::Call(_) if self.settings.config.workers > 0 => Placement::Worker,
            Task::Call(_) => Placement::Inline,
            _ => self.settings.routes[job.route].placement,
        };
        self.jobs.of(placement).last.push_back(job);
    }

    pub(super) fn mark_runnable(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if connection.flags.told == Told::Out
            || connection.marks.has(Mark::Runnable)
            || !connection.has_job()
        {
            return;
        }
        let Some(route) = connection.route else { return };
        let is_new = connection.marks.set(Mark::Runnable);
        debug_assert!(is_new, "it waits once");
        let placement = self.settings.routes[usize::from(route)].placement;
        let runnable = &mut self.jobs.of(placement).runnable;
        runnable.push_back(id);
        // While the workers are blocked, connections come and go: entries of ended ones are
        // removed.
        if runnable.len() > 2 * self.connections.len() + RUNNABLE_SPARE {
            let connections = &mut self.connections;
            runnable.retain(|id| find_mut(connections, *id).is_some());
        }
    }

    /// Takes an inbox from a connection for which nothing waits.
    pub(super) fn release_inbox(&mut self, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if let Some(inbox) = connection.inbox.take_if(|inbox| inbox.is_idle()) {
            self.spares.inboxes.keep(inbox);
        }
    }
}

/// Returns the bytes of events that bear messages. The few other events are not counted.
pub(super) fn memory_of(events: &VecDeque<Event>) -> usize {
    let bytes = events.iter().filter_map(Event::message_bytes);
    bytes.map(|bytes| bytes + size_of::<Event>()).sum()
}

const LEFT_KEPT_MAX: usize = 64;
const RUNNABLE_SPARE: usize = 64;

//! The application: it echoes, answers, closes and panics, on workers that take their time.
//!
//! It holds every job against the promises: one at a time for each connection, `Opened` first,
//! `Closed` last, messages as they were sent, the session that it gave back.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use heartwheel::Accept;
use heartwheel::core::contract::event::{Command, Done, Job, Order, Outcome, Session, Task};
use heartwheel::core::contract::handlers::Said;
use heartwheel::core::engine::Engine;
use heartwheel::http::{Refusal, Request, Response};
use heartwheel::topics::{After, EventId};
use heartwheel::{CloseReason, ConnectionId, Event, Message};

use crate::common::rng::Rng;
use crate::peer::Peer;
use crate::plan::{Chaos, pick};
use crate::topical::{self, TOPICS};

/// What a handler did: its commands, and what came of it.
pub struct Work {
    pub from: ConnectionId,
    pub commands: Vec<Command>,
    pub done: Done,
}

/// One worker's call that has not returned.
struct Call {
    returns_at: u64,
    work: Work,
}

/// What the application knows of one connection.
#[derive(Debug, Default)]
pub struct Record {
    /// Which peer it is.
    pub peer: usize,
    pub job_out: bool,
    opened: bool,
    /// Told to be over, or lost to a panic in `Opened`.
    pub over: bool,
    /// What it was told of the end: the label and the code.
    pub reason: Option<String>,
    pub code: u16,
    pub messages: usize,
    decided: bool,
    pub answers_out: usize,
    pub panicked: bool,
    /// The upgrade was refused.
    pub refused: bool,
    pub closed_with: Option<u16>,
    pub returned_at: u64,
    /// Messages given to the engine, in order.
    pub issued: VecDeque<Message>,
    pub issued_count: u64,
    /// Somebody else's handler has sent to it.
    pub has_pushes: bool,
    /// A hook decides on what it publishes: its orders are verdicts.
    pub is_hooked: bool,
    /// Timers that it was not told of, by token, and when each is due.
    pub timers: BTreeMap<u64, u64>,
    /// What was ordered of timers: each token, and its span in milliseconds unless it is cancelled.
    orders: VecDeque<(u64, Option<u64>)>,
}

pub struct Application {
    rng: Rng,
    workers: usize,
    queue_max: usize,
    queue: VecDeque<Job>,
    calls: Vec<Call>,
    /// In the order of their ids, so that nothing depends on chance that is not the seed's.
    pub records: BTreeMap<ConnectionId, Record>,
    pub messages_sent: u64,
    pushes: u64,
    pub now: u64,
    timed: u64,
}

impl Record {
    /// Says whether messages may still wait for its handler.
    pub fn is_awaited(&self) -> bool {
        !self.over || self.job_out
    }

    /// Takes note that the engine now sets, or cancels, a timer.
    pub fn take_order(&mut self, now: u64) {
        let (token, span_ms) = self.orders.pop_front().expect("it was given");
        match span_ms {
            None => _ = self.timers.remove(&token),
            Some(ms) if self.timers.len() < TIMERS || self.timers.contains_key(&token) => {
                self.timers.insert(token, now + ms);
            }
            Some(_) => {}
        }
    }

    fn hear_end(&mut self, reason: CloseReason) {
        self.reason = Some(reason.label().into());
        self.code = reason.code();
    }

    /// Says whether a handler that was told of the beginning was told of the end.
    pub fn is_told(&self) -> bool {
        self.opened == self.over
    }
}

impl Application {
    pub fn new(rng: Rng, workers: usize, queue_max: usize) -> Application {
        Application {
            rng,
            workers,
            queue_max,
            queue: VecDeque::new(),
            calls: Vec::new(),
            records: BTreeMap::new(),
            messages_sent: 0,
            pushes: 0,
            now: 0,
            timed: 0,
        }
    }

    /// Takes note of a connection that was accepted.
    pub fn meet(&mut self, id: ConnectionId, peer: usize) {
        let record = Record { peer, ..Record::default() };
        assert!(self.records.insert(id, record).is_none(), "an id is used once");
    }

    /// Gives when the next call returns.
    pub fn next_at(&self) -> Option<u64> {
        self.calls.iter().map(|call| call.returns_at).min()
    }

    /// Says whether no job of a connection is out.
    pub fn has_no_job_of(&self, id: ConnectionId) -> bool {
        let queued = self.queue.iter().any(|job| job.id == id);
        !queued && !self.calls.iter().any(|call| call.work.from == id)
    }

    pub fn is_idle(&self) -> bool {
        self.calls.is_empty() && self.queue.is_empty()
    }

    /// Takes a job for the workers, or gives it back.
    pub fn try_send(&mut self, job: Job) -> Result<(), Job> {
        if self.queue.len() >= self.queue_max {
            return Err(job);
        }
        self.queue.push_back(job);
        Ok(())
    }

    /// Lets idle workers begin.
    pub fn work(&mut self, now: u64, peers: &[Peer], chaos: &Chaos) {
        self.now = now;
        while self.calls.len() < self.workers
            && let Some(job) = self.queue.pop_front()
        {
            let slow = self.rng.chance(chaos.slow_worker);
            let takes_ms = if slow { self.rng.below(chaos.slow_ms_max) } else { 0 };
            let work = self.run(job, peers, chaos);
            self.calls.push(Call { returns_at: now + takes_ms, work });
        }
    }

    /// Takes a call that has returned.
    pub fn poll_returned(&mut self, now: u64) -> Option<Work> {
        let at = self.calls.iter().position(|call| call.returns_at <= now)?;
        Some(self.calls.remove(at).work)
    }

    /// Takes note that what came of a job is with the engine.
    pub fn returned(&mut self, now: u64, done: &Done) {
        let record = self.record(done.id);
        record.job_out = false;
        record.answers_out = 0;
        record.returned_at = now;
    }

    pub fn record(&mut self, id: ConnectionId) -> &mut Record {
        self.records.get_mut(&id).expect("a job is for a connection that was accepted")
    }

    /// Does a job at once.
    pub fn run(&mut self, Job { id, route, task, .. }: Job, peers: &[Peer], chaos: &Chaos) -> Work {
        let mut commands = Vec::new();
        let outcome = match task {
            Task::Authorize(request) => self.authorize(id, request, chaos),
            Task::Answer(request) => self.answer(id, &request, chaos),
            Task::Pull(_) | Task::Step(..) => unreachable!("no handler here streams"),
            Task::Offer(offered) => self.decide_posted(id, *offered, chaos, &mut commands),
            Task::Events { session, events } => {
                let sent = &peers[self.record(id).peer].sent;
                // The engine makes the sessions of hooks: one may be told of the end alone.
                match session.as_ref().is_some_and(|session| session.is::<bool>()) {
                    true => self.decide_all(id, session, events, sent, chaos, &mut commands),
                    false => self.take(id, session, events, sent, chaos, &mut commands),
                }
            }
            Task::Call(_) => unreachable!("the server has no timers of its own"),
        };
        Work { from: id, commands, done: Done { id, route, outcome } }
    }

    /// Takes a message on the short way. Says whether the handler returned.
    pub fn hear(
        &mut self,
        id: ConnectionId,
        session: &Session,
        message: Message,
        sent: &[Message],
        chaos: &Chaos,
        said: &mut Said,
    ) -> bool {
        let panics = self.rng.chance(chaos.panic);
        let record = self.record(id);
        assert!(record.opened && !record.over && !record.job_out, "in its turn");
        assert_eq!(session.downcast_ref(), Some(&id), "its own session");
        assert_eq!(sent.get(record.messages), Some(&message), "as it was sent");
        record.messages += 1;
        record.panicked |= panics;
        if !panics {
            self.issue(&Command::Send(id, message.clone()));
            said.answers.push(message);
            self.meddle(id, chaos, &mut said.commands);
            for command in &said.commands {
                self.issue(command);
                if let Command::Order(_) = command {
                    // The engine does so before this turn ends.
                    let now = self.now;
                    self.record(id).take_order(now);
                }
            }
        }
        !panics
    }

    /// Takes note of what a handler has told the engine.
    pub fn issue(&mut self, command: &Command) {
        match command {
            Command::Send(id, message) => {
                self.messages_sent += 1;
                let record = self.record(*id);
                record.issued.push_back(message.clone());
                record.issued_count += 1;
                record.has_pushes |= message.as_bytes().starts_with(b"push");
            }
            Command::Close(id, code, _) => {
                self.record(*id).closed_with.get_or_insert(*code);
            }
            Command::Subscribe(id, ..) => self.record(*id).has_pushes = true,
            _ => {}
        }
    }

    pub fn chance(&mut self, percent: u64) -> bool {
        self.rng.chance(percent)
    }

    fn authorize(&mut self, id: ConnectionId, request: Box<Request>, chaos: &Chaos) -> Outcome {
        let record = self.record(id);
        assert!(!std::mem::replace(&mut record.decided, true), "an upgrade is decided once");
        if self.rng.chance(chaos.panic) {
            self.record(id).panicked = true;
            return panicked(None, 0, 0);
        }
        if self.rng.chance(chaos.close) {
            self.record(id).refused = true;
            return Outcome::Verdict(request, Err(Refusal::new(403, "not you")));
        }
        Outcome::Verdict(request, Ok(Accept::default()))
    }

    fn answer(&mut self, id: ConnectionId, request: &Request, chaos: &Chaos) -> Outcome {
        let record = self.record(id);
        record.answers_out += 1;
        assert_eq!(record.answers_out, 1, "one request at a time");
        if self.rng.chance(chaos.panic) {
            self.record(id).panicked = true;
            return panicked(None, 0, 0);
        }
        let text = match request.method() {
            "POST" => String::from_utf8(request.body().to_vec()).expect("it was text"),
            _ => request.query().unwrap_or_default().to_owned(),
        };
        Outcome::Answer(Response::new(200).text(text))
    }

    fn take(
        &mut self,
        id: ConnectionId,
        mut session: Option<Session>,
        mut events: VecDeque<Event>,
        sent: &[Message],
        chaos: &Chaos,
        commands: &mut Vec<Command>,
    ) -> Outcome {
        assert!(!events.is_empty(), "a job has something to do");
        let record = self.record(id);
        assert!(!std::mem::replace(&mut record.job_out, true), "one job at a time");
        let is_message = |event: &&Event| matches!(event, Event::Message(_));
        let given = events.iter().filter(is_message).count() as u64;
        let mut handled = 0;
        while let Some(event) = events.pop_front() {
            let panics = self.rng.chance(chaos.panic) && !matches!(event, Event::Closed(_));
            let record = self.record(id);
            assert!(!record.over, "nothing follows the end: {event:?}");
            match event {
                Event::Opened(_) => {
                    assert!(!record.opened && session.is_none(), "opened once, before all else");
                    record.opened = true;
                    if panics {
                        record.over = true;
                        record.panicked = true;
                        return panicked(None, 0, given);
                    }
                    session = Some(Box::new(id));
                }
                Event::Closed(reason) => {
                    record.over = true;
                    record.hear_end(reason);
                    assert_session(id, session.take());
                }
                Event::Message(message) => {
                    assert!(record.opened, "opened first");
                    assert_eq!(sent.get(record.messages), Some(&message), "as it was sent");
                    record.messages += 1;
                    if panics {
                        record.panicked = true;
                        // The end is told all the same.
                        if let Some(Event::Closed(reason)) = events.pop_back() {
                            record.over = true;
                            record.hear_end(reason);
                            assert_session(id, session.take());
                        }
                        return panicked(session, handled, given - handled);
                    }
                    handled += 1;
                    commands.push(Command::Send(id, message));
                    self.meddle(id, chaos, commands);
                }
                Event::Timer(token) => {
                    assert!(record.opened, "opened first");
                    let due = record.timers.remove(&token);
                    assert!(due.is_some_and(|due| due < self.now), "{token} at {due:?}");
                }
                _ => assert!(record.opened, "opened first"),
            }
        }
        Outcome::Events { session, messages_handled: handled, events }
    }

    /// Sets timers, moves and cancels them. No chance is drawn: what a seed stands for stays.
    fn time(&mut self, id: ConnectionId, commands: &mut Vec<Command>) {
        self.timed += 1;
        let token = self.timed % 5;
        let span_ms = match self.timed % 7 {
            0..=2 => Some(self.timed * 37 % 3000),
            3 => None,
            _ => return,
        };
        self.record(id).orders.push_back((token, span_ms));
        let order = Order::of(move |engine: &mut Engine, now| match span_ms {
            Some(ms) => _ = engine.set_timer(now, id, Duration::from_millis(ms), token),
            None => _ = engine.cancel_timer(id, token),
        });
        commands.push(Command::Order(order));
    }

    /// Does what handlers do beside answering.
    fn meddle(&mut self, id: ConnectionId, chaos: &Chaos, commands: &mut Vec<Command>) {
        self.time(id, commands);
        if self.rng.chance(chaos.close) {
            commands.push(Command::Close(id, 4321, "enough".into()));
        }
        if self.rng.chance(chaos.publish) {
            let topic = pick(&mut self.rng, &TOPICS).to_owned();
            commands.push(match self.rng.below(5) {
                0 => Command::Subscribe(id, topic, After::Now),
                1 => Command::Subscribe(id, topic, After::Position(EventId::ZERO)),
                2 => Command::Unsubscribe(id, topic),
                _ => Command::Publish(topic, topical::payload(&mut self.rng).into()),
            });
        }
        if !self.rng.chance(chaos.push) {
            return;
        }
        // To anyone who ever was, so that many are gone.
        let known: Vec<_> = self.records.iter().filter(|(_, record)| record.opened).collect();
        let other = *known[self.rng.below(known.len() as u64) as usize].0;
        self.pushes += 1;
        let text = format!("push {}{}", self.pushes, "-".repeat(self.rng.below(600) as usize));
        commands.push(Command::Send(other, text.into()));
    }
}

/// `limits.timers` of all worlds.
pub const TIMERS: usize = 3;

fn assert_session(id: ConnectionId, session: Option<Session>) {
    let session = session.expect("the session comes back");
    assert_eq!(*session.downcast::<ConnectionId>().expect("as it was"), id, "its own session");
}

pub fn panicked(session: Option<Session>, messages_handled: u64, messages_lost: u64) -> Outcome {
    Outcome::Panicked { session, messages_handled, messages_lost }
}

//! Everything together: the engine, driven as the event loop drives it, its peers, its application, and time.

use std::collections::VecDeque;

use heartwheel::engine::{Action, Attempt, Engine, Setup};
use heartwheel::event::{Command, Job, Task};
use heartwheel::pump;
use heartwheel::route::{Face, Placement};
use heartwheel::time::Instant;
use heartwheel::{ConnectionId, Event};

use crate::application::{Application, Work};
use crate::common::rng::Rng;
use crate::journal;
use crate::link::{Link, ServerEnd};
use crate::peer::{Honest, Kind, Peer, Scripted, Seen};
use crate::plan::{Chaos, Plan, Upheaval, pick, routes};
use crate::script::Script;
use crate::witness::Witness;

/// One thing that was done, for the story of a failure.
#[derive(Clone, Debug)]
#[expect(dead_code, reason = "read through Debug")]
pub enum Step {
    Turn { at: u64 },
    Accept { peer: usize, name: &'static str, id: Option<ConnectionId> },
    Edge { peer: usize, edge: crate::link::Edge },
    Fill { id: ConnectionId },
    Flush { id: ConnectionId },
    Attempt(Attempt),
    Command { from: Option<ConnectionId>, what: &'static str },
    Ran { id: ConnectionId },
    Said { peer: usize, what: crate::witness::Gist },
    Action(Action),
    Ended(String),
    Reset { peer: usize },
    Jump,
    Calm,
}

pub struct World {
    pub plan: Plan,
    pub chaos: Chaos,
    pub now: u64,
    pub began: u64,
    rng: Rng,
    pub engine: Engine,
    pub peers: Vec<Peer>,
    /// By slot: which peer.
    pub slots: Vec<Option<usize>>,
    pub application: Application,
    parked: Option<Job>,
    shared: Box<[u8]>,
    steps: VecDeque<Step>,
    pub jumped_at: Option<u64>,
    pub drain_at: Option<u64>,
    pub shut_down_at: Option<u64>,
    upheaval_at: u64,
    turns_in_place: u32,
    pub frames_written: u64,
    /// Messages in jobs that the engine gave out.
    pub messages_given: u64,
    /// A running hash of everything that was done.
    pub digest: u64,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let setup = Setup {
            config: plan.config.clone(),
            routes: routes(),
            machine_name: "here".into(),
            seed: rng.next_u64(),
        };
        let now = plan.begins_ms;
        let peers = (0..plan.peers).map(|_| draw_peer(&mut rng, &plan)).collect();
        journal::begin();
        World {
            chaos: plan.chaos.clone(),
            now,
            began: now,
            engine: Engine::new(setup),
            peers,
            slots: Vec::new(),
            application: Application::new(Rng::new(rng.next_u64()), plan.workers, plan.queue_max),
            parked: None,
            shared: vec![0; plan.buffer_bytes].into(),
            steps: VecDeque::new(),
            jumped_at: None,
            drain_at: None,
            shut_down_at: None,
            upheaval_at: now + plan.faults_ms / 3 + rng.below(plan.faults_ms / 2),
            turns_in_place: 0,
            frames_written: 0,
            messages_given: 0,
            digest: seed,
            rng,
            plan,
        }
    }

    /// Ends the faults.
    pub fn calm_down(&mut self) {
        self.note(Step::Calm);
        self.chaos = Chaos { blocked_ms_max: 1, slow_ms_max: 1, ..Chaos::default() };
        self.upheaval_at = u64::MAX;
    }

    pub fn note(&mut self, step: Step) {
        if self.steps.len() == STEPS_KEPT {
            self.steps.pop_front();
        }
        self.steps.push_back(step);
    }

    pub fn story(&self) -> String {
        self.steps.iter().map(|step| format!("  {step:?}\n")).collect()
    }

    fn at(&self) -> Instant {
        Instant::from_millis(self.now)
    }

    /// Says whether the engine wants a turn at once.
    pub fn has_work_left(&self) -> bool {
        self.engine.has_work_left()
    }

    /// Goes to the next moment at which something can happen, at most to `until`, and does a turn.
    pub fn step(&mut self, until: u64) {
        let engine_at = self.engine.poll_timeout().map(|at| at.as_millis());
        let peers = self.peers.iter().filter_map(|peer| peer.next_at(self.now)).min();
        let upheaval = (self.upheaval_at != u64::MAX).then_some(self.upheaval_at);
        let times = [engine_at, peers, self.application.next_at(), upheaval, Some(until)];
        let mut next = times.into_iter().flatten().min().unwrap_or(until).max(self.now);
        if self.has_work_left() {
            next = self.now;
        } else {
            next += self.rng.below(self.chaos.lag_ms_max + 1);
        }
        self.turns_in_place = if next == self.now { self.turns_in_place + 1 } else { 0 };
        let wants: Vec<_> = self.peers.iter().map(|peer| peer.next_at(self.now)).collect();
        assert!(
            self.turns_in_place < TURNS_IN_PLACE_MAX,
            "the loop spins: engine {engine_at:?}, work {}, peers {wants:?}",
            self.has_work_left()
        );
        self.now = next;
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            peer.link.borrow_mut().advance(next);
            peer.act(next, &mut self.rng);
            // What has no way to go arrives at once.
            peer.link.borrow_mut().advance(next);
            if peer.id.is_some() && self.rng.below(5000) < self.chaos.reset_per_mille {
                peer.link.borrow_mut().reset();
                self.note(Step::Reset { peer: index });
            }
        }
        self.turn();
    }

    /// Does one turn, in the order of the event loop.
    pub fn turn(&mut self) {
        let now = self.at();
        self.note(Step::Turn { at: self.now });
        self.engine.begin_turn(1_700_000_000_000 + self.now);
        if self.rng.below(5000) < self.chaos.jump_per_mille {
            self.note(Step::Jump);
            self.jumped_at = Some(self.now);
            self.engine.handle_time_jump(now);
        }
        self.take_commands();
        self.note_readiness();
        self.accept();
        self.run_inline();
        while let Some(id) = self.engine.poll_ready() {
            self.fill(id);
            self.run_inline();
        }
        self.dispatch_to_workers();
        self.act_on_deadlines();
        while let Some(id) = self.engine.poll_dirty() {
            self.flush(id);
        }
        self.dispatch_to_workers();
        let stats = self.engine.stats();
        let done = [self.now, stats.received_bytes, stats.sent_bytes, stats.messages_handled];
        for number in done.into_iter().chain(stats.closed).chain(stats.deadlines_fired) {
            self.digest = (self.digest.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
    }

    fn take_commands(&mut self) {
        while let Some(Work { from, commands, done }) = self.application.poll_returned(self.now) {
            for command in commands {
                self.command(Some(from), command);
            }
            self.application.returned(self.now, &done);
            self.command(Some(from), Command::Done(done));
        }
        if self.now < self.upheaval_at {
            return;
        }
        self.upheaval_at = u64::MAX;
        match self.plan.upheaval {
            Upheaval::Nothing => {}
            Upheaval::Shutdown => self.command(None, Command::Shutdown),
            Upheaval::Drain => self.command(None, Command::Drain),
            Upheaval::DrainThenShutdown => {
                self.command(None, Command::Drain);
                self.plan.upheaval = Upheaval::Shutdown;
                self.upheaval_at = self.now + self.rng.below(2000);
            }
        }
    }

    pub fn command(&mut self, from: Option<ConnectionId>, command: Command) {
        let what = match &command {
            Command::Send(id, message) => {
                self.application.messages_sent += 1;
                let record = self.application.record(*id);
                record.issued.push_back(message.clone());
                record.issued_count += 1;
                record.has_pushes |= message.as_bytes().starts_with(b"push");
                "send"
            }
            Command::Close(id, code, _) => {
                self.application.record(*id).closed_with.get_or_insert(*code);
                "close"
            }
            Command::Done(_) => "done",
            Command::Drain => {
                self.drain_at.get_or_insert(self.now);
                "drain"
            }
            Command::Shutdown => {
                self.shut_down_at.get_or_insert(self.now);
                "shutdown"
            }
        };
        self.note(Step::Command { from, what });
        if let Some(id) = self.engine.wants_flush(from, &command) {
            self.flush(id);
        }
        self.engine.handle_command(self.at(), from, command);
        self.apply_actions();
    }

    fn note_readiness(&mut self) {
        for key in 0..self.slots.len() {
            let Some(peer) = self.slots[key] else { continue };
            let link = self.peers[peer].link.clone();
            let Some(edge) = link.borrow_mut().poll(&self.chaos, &mut self.rng) else { continue };
            self.note(Step::Edge { peer, edge });
            let closed = edge.closed || edge.error;
            self.engine.handle_readiness(key, edge.readable, edge.writable, closed);
            // The kernel tells an error once: here, or to the next who reads or writes.
            if edge.error
                && self.rng.chance(50)
                && let Some(id) = self.engine.id_of(key)
            {
                let error = std::io::ErrorKind::ConnectionReset.into();
                self.engine.handle_error(self.at(), id, &error);
            }
        }
        self.apply_actions();
    }

    fn accept(&mut self) {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            if peer.id.is_some() || peer.was_rejected || peer.starts_at > self.now {
                continue;
            }
            if self.engine.is_draining() || self.shut_down_at.is_some() {
                peer.was_rejected = true;
                continue;
            }
            let now = Instant::from_millis(self.now);
            let address = ([127, 0, 0, 1], 1000 + index as u16).into();
            let id = self.engine.accept(now, Face::Public, Some(address));
            peer.id = id;
            peer.was_rejected = id.is_none();
            peer.accepted_at = self.now;
            let name = peer.name();
            self.note(Step::Accept { peer: index, name, id });
            let Some(id) = id else { continue };
            self.peers[index].link.borrow_mut().register();
            self.application.meet(id, index);
            let key = id.as_u64() as u32 as usize;
            if self.slots.len() <= key {
                self.slots.resize(key + 1, None);
            }
            assert_eq!(self.slots[key].replace(index), None, "a slot is used by one at a time");
        }
    }

    fn fill(&mut self, id: ConnectionId) {
        self.note(Step::Fill { id });
        let Some(peer) = self.peer_of(id) else { return };
        let link = self.peers[peer].link.clone();
        let now = self.at();
        let link = &mut *link.borrow_mut();
        let mut end = ServerEnd { link: &mut *link, chaos: &self.chaos, rng: &mut self.rng };
        pump::fill(&mut self.engine, now, id, &mut end, &mut self.shared);
        self.after_io(peer, link);
    }

    fn flush(&mut self, id: ConnectionId) {
        self.note(Step::Flush { id });
        let Some(peer) = self.peer_of(id) else { return };
        let link = self.peers[peer].link.clone();
        let now = self.at();
        let link = &mut *link.borrow_mut();
        let mut end = ServerEnd { link: &mut *link, chaos: &self.chaos, rng: &mut self.rng };
        pump::flush(&mut self.engine, now, id, &mut end);
        self.after_io(peer, link);
    }

    fn after_io(&mut self, peer: usize, link: &mut Link) {
        self.watch(peer, link);
        self.apply_actions_to(Some((peer, link)));
    }

    fn peer_of(&self, id: ConnectionId) -> Option<usize> {
        assert!(self.engine.contains(id), "a connection that is gone is not served");
        self.slots[id.as_u64() as u32 as usize]
    }

    fn run_inline(&mut self) {
        while let Some(job) = self.poll_job(Placement::Inline) {
            self.note(Step::Ran { id: job.id });
            let peers = &self.peers;
            let work = self.application.run(job, peers, &self.chaos);
            let Work { from, commands, done } = work;
            for command in commands {
                self.command(Some(from), command);
            }
            self.application.returned(self.now, &done);
            self.command(Some(from), Command::Done(done));
            if self.engine.is_turn_spent() {
                break;
            }
        }
    }

    fn poll_job(&mut self, placement: Placement) -> Option<Job> {
        let job = self.engine.poll_job(placement)?;
        if let Task::Events { events, .. } = &job.task {
            let is_message = |event: &&Event| matches!(event, Event::Message(_));
            self.messages_given += events.iter().filter(is_message).count() as u64;
        }
        Some(job)
    }

    fn next_job_of_workers(&mut self) -> Option<Job> {
        self.parked.take().or_else(|| self.poll_job(Placement::Worker))
    }

    fn dispatch_to_workers(&mut self) {
        while let Some(job) = self.next_job_of_workers() {
            if let Err(job) = self.application.try_send(job) {
                self.parked = Some(job);
                break;
            }
        }
        self.application.work(self.now, &self.peers, &self.chaos);
    }

    fn act_on_deadlines(&mut self) {
        let now = self.at();
        let mut left = self.plan.expiries_per_turn;
        while let Some(attempt) = self.engine.handle_timeout(now, &mut left) {
            self.note(Step::Attempt(attempt));
            let id = match attempt {
                Attempt::Read(id) => {
                    self.engine.mark_readable(id);
                    self.fill(id);
                    id
                }
                Attempt::Write(id) => {
                    self.engine.mark_writable(id);
                    self.flush(id);
                    id
                }
            };
            self.engine.expire(now, id);
            self.run_inline();
        }
        self.apply_actions();
    }

    fn apply_actions(&mut self) {
        self.apply_actions_to(None);
    }

    /// Does to the sockets what the engine asks for; the socket that is in use is lent.
    fn apply_actions_to(&mut self, mut lent: Option<(usize, &mut Link)>) {
        let mut ends = VecDeque::from(journal::take());
        while let Some(action) = self.engine.poll_action() {
            self.note(Step::Action(action));
            let (Action::Shutdown(key)
            | Action::Upgraded(key)
            | Action::Close(key)
            | Action::Abort(key)) = action;
            let peer = self.slots[key].expect("an action is for a socket that is there");
            let link = self.peers[peer].link.clone();
            let mut borrowed;
            let link: &mut Link = match &mut lent {
                Some((index, link)) if *index == peer => link,
                _ => {
                    borrowed = link.borrow_mut();
                    &mut borrowed
                }
            };
            match action {
                Action::Shutdown(_) => link.server_shut(),
                Action::Upgraded(_) => {}
                Action::Close(_) | Action::Abort(_) => {
                    let aborts = matches!(action, Action::Abort(_));
                    let line = ends.pop_front().expect("an end is logged");
                    self.note(Step::Ended(line.clone()));
                    self.slots[key] = None;
                    self.end(peer, link, &line, aborts);
                    link.server_close(aborts);
                }
            }
        }
        assert!(ends.is_empty(), "an end is logged once: {ends:?}");
    }

    pub fn is_idle(&self) -> bool {
        self.engine.is_empty() && self.application.is_idle() && self.parked.is_none()
    }

    pub fn has_parked(&self) -> bool {
        self.parked.is_some()
    }

    pub fn turns(&self) -> u64 {
        self.engine.stats().turns
    }

    /// Does what a turn does when nobody has anything to say.
    pub fn rest(&mut self) {
        let now = self.at();
        self.engine.begin_turn(1_700_000_000_000 + self.now);
        assert!(self.engine.poll_ready().is_none() && self.engine.poll_dirty().is_none());
        let mut left = self.plan.expiries_per_turn;
        assert!(self.engine.handle_timeout(now, &mut left).is_none(), "nothing is due");
        self.apply_actions();
    }
}

fn draw_peer(rng: &mut Rng, plan: &Plan) -> Peer {
    let starts_at = plan.begins_ms + rng.below(plan.arrivals_ms);
    let is_honest = rng.chance(50);
    let mut link = Link::default();
    link.latency_ms = pick(rng, &[0, 1, 20, 50]);
    // An honest peer is not so slow that it is taken for a dishonest one.
    link.down_max = if is_honest { 256 << 10 } else { pick(rng, &[100, 2000, 64 << 10]) };
    link.up_max = if is_honest { 64 << 10 } else { pick(rng, &[2000, 16 << 10, 256 << 10]) };
    let kind = match is_honest {
        true => Kind::Honest(Box::new(Honest::draw(rng, starts_at))),
        false => Kind::Scripted(Box::new(Scripted::new(Script::draw(rng), starts_at))),
    };
    let sent = match &kind {
        Kind::Honest(_) => Vec::new(),
        Kind::Scripted(scripted) => scripted.script.messages.clone(),
    };
    Peer {
        starts_at,
        link: std::rc::Rc::new(std::cell::RefCell::new(link)),
        kind,
        id: None,
        accepted_at: 0,
        was_rejected: false,
        witness: Witness::default(),
        sent,
        seen: Seen::default(),
    }
}

const STEPS_KEPT: usize = 60;
/// With little budget in each turn a large message takes many.
const TURNS_IN_PLACE_MAX: u32 = 20_000;

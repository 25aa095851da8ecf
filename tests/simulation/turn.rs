//! What surrounds the engine in a turn, made of a seed: commands, edges, accepts, links, handlers.
//! Each step is seen, and held against what must be.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::Duration;

use heartwheel::ConnectionId;
use heartwheel::Message;
use heartwheel::core::admission::credentials::Credentials;
use heartwheel::core::contract::event::{Command, Done, Event, Job, Outcome, Session, Task};
use heartwheel::core::contract::handlers::{Handlers, Said};
use heartwheel::core::contract::route::{Face, Placement};
use heartwheel::core::engine::{self, Action, Engine, Readiness};
use heartwheel::core::ground::identity::Identity;
use heartwheel::core::ground::time::Instant;
use heartwheel::core::observe::figures::Surroundings;
use heartwheel::core::transport::Transport;
use heartwheel::http::Refusal;
use heartwheel::stats::DeadlineKind;

use crate::application::{Application, Work};
use crate::journal;
use crate::peer::Peer;
use crate::plan::{Chaos, Upheaval};
use crate::sealed::SealedEnd;
use crate::server_end::ServerEnd;
use crate::world::{Run, Step, World};

impl Run {
    /// Does one turn.
    pub fn turn(&mut self) {
        let Run { engine, world } = self;
        let now = world.at();
        world.begin_turn(engine);
        if !world.is_at_rest && world.rng.below(5000) < world.chaos.jump_per_mille {
            world.note(Step::Jump);
            world.jumped_at = Some(world.now);
            engine.handle_time_jump(now);
        }
        engine.turn(now, world.unix_ms(), world);
        while let Some(publication) = engine.poll_publication() {
            let log = world.log.as_mut().expect("there is a log to take it");
            log.take(world.now, publication);
        }
        assert_eq!(judged(engine), world.judged, "judged by what nobody has looked at");
        assert!(world.ends.is_empty(), "an end is logged once: {:?}", world.ends);
        let stats = engine.stats();
        let done = [world.now, stats.received_bytes, stats.sent_bytes, stats.messages_handled];
        let ends = stats.closed.iter().map(|closed| &closed[..]);
        for numbers in ends.chain([&done[..], &stats.deadlines_fired]) {
            for number in numbers {
                world.digest =
                    (world.digest.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
        }
    }
}

impl engine::World for World {
    type Incoming = usize;

    fn poll_commands(&mut self) -> Option<(Option<ConnectionId>, Vec<Command>)> {
        if self.is_at_rest {
            return None;
        }
        let unix_ms = self.unix_ms();
        if let Some(logged) = self.log.as_mut().and_then(|log| log.poll(self.now, unix_ms)) {
            return Some((None, vec![Command::Logged(Box::new(logged))]));
        }
        if let Some(Work { from, mut commands, done }) = self.application.poll_returned(self.now) {
            commands.push(Command::Done(done));
            return Some((Some(from), commands));
        }
        if !std::mem::replace(&mut self.has_drawn, true)
            && self.rng.below(5000) < self.chaos.reload_per_mille
        {
            let reload = Engine::reload_command(self.config.clone(), Credentials::default());
            return Some((None, vec![reload]));
        }
        if self.now < self.upheaval_at {
            return None;
        }
        self.upheaval_at = u64::MAX;
        Some((None, self.heave()))
    }

    fn command_bytes(&self) -> usize {
        0
    }

    fn tell_readiness(&mut self, mut note: impl FnMut(usize, Readiness)) {
        if self.is_at_rest {
            return;
        }
        for key in 0..self.slots.len() {
            let Some(peer) = self.slots[key] else { continue };
            let link = self.peers[peer].link.clone();
            let Some(edge) = link.borrow_mut().poll(&self.chaos, &mut self.rng) else { continue };
            self.note(Step::Edge { peer, edge });
            // The kernel tells an error once: here, or to the next who reads or writes.
            let tells = edge.error && self.rng.chance(50);
            note(
                key,
                Readiness {
                    readable: edge.readable,
                    writable: edge.writable,
                    closed: edge.closed || edge.error,
                    error: tells.then(|| ErrorKind::ConnectionReset.into()),
                },
            );
        }
    }

    fn poll_incoming(
        &mut self,
        engine: &mut Engine,
        now: Instant,
        left: &mut usize,
    ) -> Option<(usize, Face, Option<SocketAddr>)> {
        for index in 0..self.peers.len() {
            let peer = &mut self.peers[index];
            let is_over = self.is_at_rest || peer.id.is_some() || peer.was_rejected;
            if *left == 0 || is_over || peer.starts_at > self.now {
                continue;
            }
            let is_closed = self.has_stopped && peer.face != Face::Admin;
            if is_closed || self.shut_down_at.is_some() {
                peer.was_rejected = true;
                continue;
            }
            if !engine.may_accept(now, peer.face) {
                continue;
            }
            *left -= 1;
            // From a few addresses: those of this machine are exempt from a limit.
            let address = ([192, 0, 2, index as u8 % 4], 1000 + index as u16).into();
            let address = (!peer.is_unix).then_some(address);
            return Some((index, peer.face, address));
        }
        None
    }

    fn admit(&mut self, _: &Engine, id: ConnectionId, index: usize) -> io::Result<()> {
        let peer = &mut self.peers[index];
        peer.id = Some(id);
        peer.accepted_at = self.now;
        let name = peer.name();
        peer.link.borrow_mut().register();
        self.note(Step::Accept { peer: index, name, id: Some(id) });
        self.application.meet(id, index);
        let key = slot(id);
        if self.slots.len() <= key {
            self.slots.resize(key + 1, None);
        }
        assert_eq!(self.slots[key].replace(index), None, "a slot is used by one at a time");
        Ok(())
    }

    fn refuse(&mut self, _: &Engine, _: Instant, index: usize, _: Refusal) {
        self.rejected += 1;
        let peer = &mut self.peers[index];
        peer.was_rejected = true;
        let name = peer.name();
        self.note(Step::Accept { peer: index, name, id: None });
    }

    fn stop_listening(&mut self, _open: usize) {
        self.has_stopped = true;
    }

    fn lend(&mut self, key: usize) -> Option<(impl Transport, &mut [u8], impl Handlers)> {
        let World { application, chaos, rng, .. } = self;
        let Peer { link, sealing, sent, .. } = &mut self.peers[self.slots[key]?];
        let end = ServerEnd { link: link.borrow_mut(), chaos, rng };
        let socket = SealedEnd { end, sealing: sealing.as_mut() };
        Some((socket, &mut *self.shared, OnTheLoop { application, chaos, sent, id: None }))
    }

    fn run(&mut self, _: &mut Engine, job: Job) -> (Vec<Command>, Done) {
        self.note_job(&job);
        self.note(Step::Ran { id: job.id });
        self.application.now = self.now;
        let Work { commands, done, .. } = self.application.run(job, &self.peers, &self.chaos);
        (commands, done)
    }

    fn dispatch(&mut self, engine: &mut Engine) {
        if self.is_at_rest {
            return;
        }
        loop {
            let parked = self.parked.take();
            let next = parked.or_else(|| {
                let job = engine.poll_job(Placement::Worker)?;
                self.note_job(&job);
                Some(job)
            });
            let Some(job) = next else { break };
            if let Err(job) = self.application.try_send(job) {
                self.parked = Some(job);
                break;
            }
        }
        self.application.work(self.now, &self.peers, &self.chaos);
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings::default()
    }

    fn apply(&mut self, _: &Engine, action: Action) {
        self.note(Step::Action(action));
        self.ends.extend(journal::take());
        let (Action::Shutdown(key)
        | Action::Upgraded(key)
        | Action::Close(key)
        | Action::Abort(key)) = action;
        let peer = self.slots[key].expect("an action is for a socket that is there");
        let link = self.peers[peer].link.clone();
        let link = &mut *link.borrow_mut();
        match action {
            Action::Shutdown(_) => unreachable!("it is done by the transport"),
            Action::Upgraded(_) => {}
            Action::Close(_) | Action::Abort(_) => {
                let aborts = matches!(action, Action::Abort(_));
                let line = self.ends.pop_front().expect("an end is logged");
                self.note(Step::Ended(line.clone()));
                self.slots[key] = None;
                self.end(peer, link, &line, aborts);
                link.server_close(aborts);
            }
        }
    }

    fn expiries_max(&self) -> usize {
        self.plan.expiries_per_turn
    }

    fn observe(&mut self, engine: &Engine, step: engine::Step<'_>) {
        match step {
            engine::Step::Command { from, command } => self.note_command(from, command),
            engine::Step::Filling(id) => self.note(Step::Fill { id }),
            engine::Step::Flushing(id) => self.note(Step::Flush { id }),
            engine::Step::Filled(id) | engine::Step::Flushed(id) => {
                let peer = self.slots[slot(id)].expect("a socket that was used is there");
                let link = self.peers[peer].link.clone();
                self.watch(peer, &mut link.borrow_mut());
            }
            engine::Step::Attempt(attempt) => {
                assert_eq!(judged(engine), self.judged, "judged by what nobody has looked at");
                self.note(Step::Attempt(attempt));
            }
            engine::Step::Expired(id) => {
                self.judged = judged(engine);
                if let Some(peer) = self.slots[slot(id)] {
                    let Peer { seen, link, .. } = &mut self.peers[peer];
                    seen.unread_when_judged = link.borrow().inbound.len();
                }
            }
        }
        assert!(!self.is_at_rest, "a turn without cause does something");
    }
}

/// Handlers that hear messages while they are decoded.
struct OnTheLoop<'a> {
    application: &'a mut Application,
    chaos: &'a Chaos,
    sent: &'a [Message],
    id: Option<ConnectionId>,
}

impl Handlers for OnTheLoop<'_> {
    fn begin(&mut self, id: ConnectionId, _: usize, _: Option<Identity>) {
        assert_eq!(self.id.replace(id), None, "begun once before it ends");
    }

    fn call(&mut self, session: &mut Session, message: Message, said: &mut Said) -> bool {
        assert!(said.answers.is_empty() && said.commands.is_empty(), "nothing is lost");
        let id = self.id.expect("begun first");
        self.application.hear(id, session, message, self.sent, self.chaos, said)
    }

    fn end(&mut self) -> Duration {
        assert!(self.id.take().is_some(), "what was begun ends");
        Duration::ZERO
    }
}

impl World {
    fn begin_turn(&mut self, engine: &Engine) {
        self.note(Step::Turn { at: self.now });
        if self.rng.chance(self.chaos.wall_step) {
            self.wall_off_ms = self.rng.below(7_200_000) as i64 - 3_600_000;
        }
        self.has_drawn = false;
        self.judged = judged(engine);
    }

    /// What happens to all.
    fn heave(&mut self) -> Vec<Command> {
        match self.plan.upheaval {
            Upheaval::Nothing => Vec::new(),
            Upheaval::Shutdown => vec![Command::Shutdown],
            Upheaval::Shed => vec![Command::Shed(0.5), Command::Shed(0.5)],
            Upheaval::Kick => {
                self.peers.iter().filter_map(|peer| peer.id).map(Command::Kick).collect()
            }
            Upheaval::Drain => vec![Command::Drain],
            Upheaval::DrainThenShutdown => {
                self.plan.upheaval = Upheaval::Shutdown;
                self.upheaval_at = self.now + self.rng.below(2000);
                vec![Command::Drain]
            }
        }
    }

    /// Takes note of a command that is to be taken.
    fn note_command(&mut self, from: Option<ConnectionId>, command: &Command) {
        self.application.issue(command);
        let what = match command {
            Command::Send(..) => "send",
            Command::Close(..) => "close",
            Command::Done(done) => {
                self.application.returned(self.now, done);
                self.messages_returned += match &done.outcome {
                    Outcome::Events { messages_handled, .. } => *messages_handled,
                    Outcome::Panicked { messages_handled, messages_lost, .. } => {
                        *messages_handled + *messages_lost
                    }
                    _ => 0,
                };
                "done"
            }
            Command::More(_) => "more",
            Command::Took(_) => "took",
            Command::Order(_) => {
                let Some(id) = from else {
                    return self.note(Step::Command { from, what: "reload" });
                };
                let now = self.now;
                let record = self.application.record(id);
                match record.is_hooked {
                    true => "verdict",
                    false => {
                        record.take_order(now);
                        "timer"
                    }
                }
            }
            Command::Kick(_) | Command::Shed(_) => {
                self.told_to_go = true;
                "go"
            }
            Command::Table(..) => "table",
            Command::Drain => {
                self.drain_at.get_or_insert(self.now);
                "drain"
            }
            Command::Shutdown => {
                self.shut_down_at.get_or_insert(self.now);
                "shutdown"
            }
            Command::Subscribe(..) => "subscribe",
            Command::Publish(..) | Command::Unsubscribe(..) => "topics",
            Command::Logged(_) => "logged",
        };
        self.note(Step::Command { from, what });
    }

    fn note_job(&mut self, job: &Job) {
        if let Task::Events { events, .. } = &job.task {
            self.messages_given += events.iter().filter_map(Event::message_bytes).count() as u64;
        }
    }
}

fn slot(id: ConnectionId) -> usize {
    (id.as_u64() & 0xff_ffff) as usize
}

/// Gives how often silence has been judged: what bytes in the socket could prove wrong.
fn judged(engine: &Engine) -> u64 {
    use DeadlineKind::{CloseAck, KeepAlive, Pong, ReadIdle, WriteStall};
    let stats = engine.stats();
    [ReadIdle, Pong, KeepAlive, WriteStall, CloseAck].map(|kind| stats.fired(kind)).iter().sum()
}

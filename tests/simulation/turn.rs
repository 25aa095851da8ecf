//! One turn, in the order of the event loop, over fake sockets.

use std::collections::VecDeque;

use heartwheel::engine::{Action, Attempt};
use heartwheel::event::{Command, Job, Outcome, Task};
use heartwheel::pump;
use heartwheel::route::{Face, Placement};
use heartwheel::stats::DeadlineKind;
use heartwheel::time::Instant;
use heartwheel::{ConnectionId, Event};

use crate::application::Work;
use crate::journal;
use crate::link::Link;
use crate::plan::Upheaval;
use crate::server_end::ServerEnd;
use crate::world::{Step, World};

impl World {
    /// Does one turn, in the order of the event loop.
    pub fn turn(&mut self) {
        let now = self.at();
        self.note(Step::Turn { at: self.now });
        if self.rng.chance(self.chaos.wall_step) {
            self.wall_off_ms = self.rng.below(7_200_000) as i64 - 3_600_000;
        }
        self.engine.begin_turn(self.unix_ms());
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
        while let Some(id) = self.engine.deliver(now) {
            self.flush(id);
        }
        self.act_on_deadlines();
        while let Some(id) = self.engine.poll_dirty() {
            self.flush(id);
        }
        self.engine.end_turn(now);
        self.apply_actions();
        self.dispatch_to_workers();
        let stats = self.engine.stats();
        let done = [self.now, stats.received_bytes, stats.sent_bytes, stats.messages_handled];
        let ends = stats.closed.iter().map(|closed| &closed[..]);
        for numbers in ends.chain([&done[..], &stats.deadlines_fired]) {
            for number in numbers {
                self.digest =
                    (self.digest.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            }
        }
    }

    fn take_commands(&mut self) {
        // Where more is published than can be delivered, publishers wait.
        while !self.engine.is_flooded()
            && let Some(Work { from, commands, done }) = self.application.poll_returned(self.now)
        {
            for command in commands {
                self.command(Some(from), command);
            }
            self.application.returned(self.now, &done);
            self.command(Some(from), Command::Done(done));
        }
        if self.rng.below(5000) < self.chaos.reload_per_mille {
            let config = Box::new((self.plan.config.clone(), None));
            self.command(None, Command::Reload(config));
        }
        if self.now < self.upheaval_at {
            return;
        }
        self.upheaval_at = u64::MAX;
        match self.plan.upheaval {
            Upheaval::Nothing => {}
            Upheaval::Shutdown => self.command(None, Command::Shutdown),
            Upheaval::Shed => {
                self.command(None, Command::Shed(0.5));
                self.command(None, Command::Shed(0.5));
            }
            Upheaval::Kick => {
                let ids: Vec<_> = self.peers.iter().filter_map(|peer| peer.id).collect();
                for id in ids {
                    self.command(None, Command::Kick(id));
                }
            }
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
            Command::Done(done) => {
                self.messages_returned += match done.outcome {
                    Outcome::Events { messages_handled, .. } => messages_handled,
                    Outcome::Panicked { messages_handled, messages_lost, .. } => {
                        messages_handled + messages_lost
                    }
                    _ => 0,
                };
                "done"
            }
            Command::Took(_) => "took",
            Command::Kick(_) | Command::Shed(_) => {
                self.told_to_go = true;
                "go"
            }
            Command::Table(..) => "table",
            Command::Alarms(_) => "alarms",
            Command::Drain => {
                self.drain_at.get_or_insert(self.now);
                "drain"
            }
            Command::Shutdown => {
                self.shut_down_at.get_or_insert(self.now);
                "shutdown"
            }
            Command::Subscribe(id, ..) => {
                self.application.record(*id).has_pushes = true;
                "subscribe"
            }
            Command::Publish(..) | Command::Unsubscribe(..) => "topics",
            Command::Reload(_) => "reload",
            Command::Report(_) => "report",
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
            let is_draining = self.engine.is_draining() && peer.face != Face::Admin;
            if is_draining || self.shut_down_at.is_some() {
                peer.was_rejected = true;
                continue;
            }
            let now = Instant::from_millis(self.now);
            // From a few addresses: those of this machine are exempt from a limit.
            let address = ([192, 0, 2, index as u8 % 4], 1000 + index as u16).into();
            let address = (!peer.is_unix).then_some(address);
            let id = self.engine.accept(now, peer.face, address).ok();
            self.rejected += u64::from(id.is_none());
            peer.id = id;
            peer.was_rejected = id.is_none();
            peer.accepted_at = self.now;
            let name = peer.name();
            self.note(Step::Accept { peer: index, name, id });
            let Some(id) = id else { continue };
            self.peers[index].link.borrow_mut().register();
            self.application.meet(id, index);
            let key = (id.as_u64() & 0xff_ffff) as usize;
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
        self.slots[(id.as_u64() & 0xff_ffff) as usize]
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
        let mut judged = self.judged();
        while let Some(attempt) = self.engine.handle_timeout(now, &mut left) {
            assert_eq!(self.judged(), judged, "judged by what nobody has looked at");
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
            judged = self.judged();
            self.run_inline();
        }
        assert_eq!(self.judged(), judged, "judged by what nobody has looked at");
        self.apply_actions();
    }

    /// Gives how often silence has been judged: what bytes in the socket could prove wrong.
    fn judged(&self) -> u64 {
        use DeadlineKind::{CloseAck, KeepAlive, Pong, ReadIdle, WriteStall};
        let stats = self.engine.stats();
        [ReadIdle, Pong, KeepAlive, WriteStall, CloseAck].map(|kind| stats.fired(kind)).iter().sum()
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

    /// Does what a turn does when nobody has anything to say.
    pub fn rest(&mut self) {
        let now = self.at();
        self.engine.begin_turn(self.unix_ms());
        assert!(self.engine.poll_ready().is_none() && self.engine.poll_dirty().is_none());
        let mut left = self.plan.expiries_per_turn;
        assert!(self.engine.handle_timeout(now, &mut left).is_none(), "nothing is due");
        self.apply_actions();
    }
}

//! One turn in the order of the event loop, every loop in it bounded, and what holds behind it.

use super::*;

impl World {
    pub fn turn(&mut self, source: &mut Source) {
        let now = self.at();
        self.engine.begin_turn(UNIX_MS + self.now);
        self.has_news = false;
        self.note_readiness();
        self.run_inline(source);
        let mut left = LOOP_MAX;
        while let Some(id) = self.engine.poll_ready() {
            count_down(&mut left, "reads");
            self.fill(id);
            self.run_inline(source);
        }
        self.hand_out();
        while let Some(id) = self.engine.deliver(now) {
            count_down(&mut left, "deliveries");
            self.flush(id);
        }
        self.act_on_deadlines(source);
        while let Some(id) = self.engine.poll_dirty() {
            count_down(&mut left, "writes");
            self.flush(id);
        }
        self.engine.end_turn(now);
        self.apply_actions();
        self.hand_out();
        self.check();
    }

    /// Turns without time passing until none is wanted; one more changes nothing.
    pub fn rest(&mut self, source: &mut Source) {
        let mut left = TURNS_IN_PLACE_MAX;
        while !self.is_at_rest() {
            count_down(&mut left, "turns in place");
            self.turn(source);
        }
        let (before, timeout) = (self.picture(), self.engine.poll_timeout());
        self.turn(source);
        assert_eq!(self.picture(), before, "a turn without cause has changed something");
        // It may find that something is not due after all.
        let later = self.engine.poll_timeout();
        assert!(
            later.is_none() || later >= timeout,
            "a turn without cause: {later:?} < {timeout:?}"
        );
    }

    fn is_at_rest(&self) -> bool {
        let is_due = self.engine.poll_timeout().is_some_and(|at| at <= self.at());
        let has_edge = self.sockets.iter().flatten().any(Socket::has_edge);
        !(is_due || has_edge || self.has_news || self.engine.has_work_left())
    }

    /// Everything that counts what was done.
    fn picture(&self) -> [u64; 12] {
        let stats = self.engine.stats();
        [
            self.engine.len() as u64,
            self.jobs.len() as u64,
            stats.closed_total(),
            stats.received_bytes,
            stats.queued_bytes,
            stats.sent_bytes,
            stats.discarded_bytes,
            stats.messages_received,
            stats.messages_sent,
            stats.messages_dropped(),
            stats.gaps,
            stats.deadlines_fired.iter().sum(),
        ]
    }

    fn note_readiness(&mut self) {
        for key in 0..self.sockets.len() {
            let edge = self.sockets[key].as_mut().and_then(Socket::take_edge);
            if let Some(Edge { readable, writable, closed }) = edge {
                self.engine.handle_readiness(key, readable, writable, closed);
            }
        }
        self.apply_actions();
    }

    fn fill(&mut self, id: ConnectionId) {
        let now = self.at();
        let socket = self.sockets[slot(id)].as_mut().expect("who is read from is there");
        pump::fill(&mut self.engine, now, id, socket, &mut self.shared);
        self.apply_actions();
    }

    fn flush(&mut self, id: ConnectionId) {
        let now = self.at();
        let socket = self.sockets[slot(id)].as_mut().expect("who is written to is there");
        pump::flush(&mut self.engine, now, id, socket);
        self.apply_actions();
    }

    pub fn give(&mut self, from: Option<ConnectionId>, command: Command) {
        if let Some(id) = self.engine.wants_flush(from, &command) {
            self.flush(id);
        }
        self.engine.handle_command(self.at(), from, command);
        self.apply_actions();
    }

    fn run_inline(&mut self, source: &mut Source) {
        let mut left = LOOP_MAX;
        while let Some(job) = self.engine.poll_job(Placement::Inline) {
            count_down(&mut left, "calls");
            self.application.take(&job);
            self.run_job(job, source);
            if self.engine.is_turn_spent() {
                break;
            }
        }
    }

    pub fn run_job(&mut self, job: Job, source: &mut Source) {
        let from = job.id;
        let (commands, done) = self.application.run(job, source);
        for command in commands {
            self.give(Some(from), command);
        }
        self.give(Some(from), Command::Done(done));
    }

    /// Gives the workers what they have room for.
    fn hand_out(&mut self) {
        while self.jobs.len() < JOBS_MAX
            && let Some(job) = self.engine.poll_job(Placement::Worker)
        {
            self.application.take(&job);
            self.jobs.push_back(job);
        }
    }

    fn act_on_deadlines(&mut self, source: &mut Source) {
        let now = self.at();
        let mut budget = self.expiries_per_turn;
        let mut left = LOOP_MAX;
        while let Some(attempt) = self.engine.handle_timeout(now, &mut budget) {
            count_down(&mut left, "deadlines");
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
            self.run_inline(source);
        }
        self.apply_actions();
    }

    pub fn apply_actions(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            let (Action::Shutdown(key)
            | Action::Upgraded(key)
            | Action::Close(key)
            | Action::Abort(key)) = action;
            let socket = &mut self.sockets[key];
            match action {
                Action::Shutdown(_) => socket.as_mut().expect("a socket to shut").shut(),
                Action::Upgraded(_) => assert!(socket.is_some(), "a socket to set up"),
                Action::Close(_) | Action::Abort(_) => {
                    let socket = socket.take().expect("a socket to close");
                    self.read_bytes += socket.read_bytes;
                    self.written_bytes += socket.written_bytes;
                }
            }
        }
    }

    fn check(&self) {
        let engine = &self.engine;
        let stats = engine.stats();
        assert_eq!(engine.deadlines_armed(), engine.len(), "one deadline for each connection");
        assert_eq!(self.sockets.iter().flatten().count(), engine.len(), "a socket for each");
        assert_eq!(stats.accepted, engine.len() as u64 + stats.closed_total(), "none is lost");
        let timeout = engine.poll_timeout().map(|at| at.as_millis());
        assert!(timeout.is_some() || engine.is_empty(), "a connection without a deadline");
        let far = self.now + FARTHEST_MS;
        assert!(timeout.is_none_or(|at| at <= far), "a wake-up far away: {timeout:?} > {far}");
        let (read, written) = (|s: &Socket| s.read_bytes, |s: &Socket| s.written_bytes);
        let open = self.sockets.iter().flatten();
        assert_eq!(stats.received_bytes, self.read_bytes + open.clone().map(read).sum::<u64>());
        assert_eq!(stats.sent_bytes, self.written_bytes + open.map(written).sum::<u64>());
        assert!(stats.queued_bytes >= stats.sent_bytes + stats.discarded_bytes);
        let settled = stats.messages_handled + stats.messages_panicked + stats.messages_cancelled;
        assert!(stats.messages_received >= settled, "no message is counted twice");
    }

    pub fn check_end(&self) {
        let engine = &self.engine;
        let stats = engine.stats();
        assert!(engine.is_empty() && engine.deadlines_armed() == 0 && !engine.has_work_left());
        assert!(engine.is_drained() || !engine.is_draining(), "the drain has ended");
        assert_eq!(stats.queued_bytes, stats.sent_bytes + stats.discarded_bytes, "bytes balance");
        let settled = stats.messages_handled + stats.messages_panicked + stats.messages_cancelled;
        assert_eq!(stats.messages_received, settled, "messages balance");
        self.application.check_end();
    }
}

fn count_down(left: &mut usize, of_what: &str) {
    *left = left.checked_sub(1).unwrap_or_else(|| panic!("no end of {of_what}"));
}

/// Of anything within one turn.
const LOOP_MAX: usize = 20_000;
const TURNS_IN_PLACE_MAX: usize = 20_000;
/// Jobs that the workers take before they return one.
const JOBS_MAX: usize = 3;
/// The longest span that any configuration here names, and a tick of a second.
const FARTHEST_MS: u64 = 77_000;

//! Requests whose handlers take the body in pieces: the handler is asked first, then the body is
//! read as fast as the handler takes it, at most one job at a time.

use crate::core::connection::http::Pending;
use crate::core::connection::{Connection, Remains, RouteIndex, Upload};
use crate::core::contract::event::{BodyState, BodyStep, Job, Task};
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::outbox::Kind;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{self, BodyReader, Head};

impl Engine {
    /// Has a request be judged and begun before its body is read. A refusal ends the connection,
    /// unless there is no body.
    pub(super) fn begin_upload(
        &mut self,
        now: Instant,
        id: ConnectionId,
        head: Head,
        mut pending: Pending,
        limit: u64,
    ) {
        let keep = pending.keep;
        pending.keep &= head.body.is_empty();
        let reader = http::check_encoding(&head.request)
            .and_then(|()| BodyReader::new(head.body, limit, &self.settings.head_limits));
        match reader {
            Err(refusal) => self.answer(now, id, refusal.into(), &pending),
            Ok(reader) => {
                let rules = self.settings.route_rules(RouteIndex::new(pending.route));
                let reader = reader.with_room(rules.limits.inbox_bytes);
                let Some(connection) = self.get_mut(id) else { return };
                connection.expect_upload(Upload::new(reader, head.expects_continue, keep));
                self.decide(now, id, Box::new(head.request), pending);
            }
        }
    }

    /// Takes back the state of a handler that takes the body, or has taken a piece.
    pub(super) fn handle_kept(
        &mut self,
        now: Instant,
        id: ConnectionId,
        route: usize,
        state: BodyState,
    ) {
        let Some(connection) = find_mut(&mut self.connections, id) else {
            let cut = self.jobs.cut.remove(&id);
            debug_assert!(cut.is_some(), "the end of the connection was noted");
            let (reason, was_begun) = cut.unwrap_or((CloseReason::Eof, true));
            self.stats.uploads += u64::from(!was_begun);
            return self.cut_upload(id, route, state, reason);
        };
        self.stats.uploads += u64::from(connection.note_upload_begun());
        let tells = connection.take_back_state(now, state);
        if tells {
            self.push_frame(now, id, Frame::raw(http::CONTINUE), Kind::Response);
        }
        self.hand_out(now, id);
        self.mark_ready(id);
    }

    /// Has the handler be given what has come of a body, or be told its end.
    pub(super) fn hand_out(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        connection.queue_step(now, &self.settings.rules(connection).limits);
        self.mark_runnable(id);
        self.touch(id);
    }

    /// Makes a job of the next step of a body.
    pub(super) fn take_step(&mut self, id: ConnectionId) -> Option<Job> {
        let connection = self.get_mut(id)?;
        let (route, state, step) = connection.take_step()?;
        // No peer is handed to an upload.
        Some(Job { id, route: route.into(), identity: None, task: Task::Step(state, step) })
    }

    /// Takes note that a handler has answered, or has panicked: nothing more of the body is read.
    pub(super) fn note_upload_answered(&mut self, now: Instant, id: ConnectionId) {
        if cfg!(feature = "streams") {
            match self.get_mut(id) {
                Some(connection) => connection.note_upload_answered(now),
                None => drop(self.jobs.cut.remove(&id)),
            }
        }
    }

    /// Has a handler be told that its upload has ended with the connection.
    pub(super) fn tell_upload(
        &mut self,
        id: ConnectionId,
        route: usize,
        connection: &mut Connection,
        reason: CloseReason,
    ) {
        match connection.take_upload() {
            Remains::Nothing => {}
            Remains::State(state) => self.cut_upload(id, route, state, reason),
            Remains::Job { is_begun } => {
                self.jobs.cut.insert(id, (reason, is_begun));
            }
        }
    }

    fn cut_upload(
        &mut self,
        id: ConnectionId,
        route: usize,
        state: BodyState,
        reason: CloseReason,
    ) {
        self.stats.uploads_cut += 1;
        let task = Task::Step(state, BodyStep::Cut(reason));
        self.queue_job(Job { id, route, identity: None, task });
    }
}

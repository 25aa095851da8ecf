//! A request whose body the handler takes in pieces: while a bounded amount waits for the handler,
//! nothing more is read. So a body of any length costs what may wait.
//!
//! ```text
//!   Deciding ────────► Upload ────────► Deciding ───► Answering
//!    the handler begins  │ the body comes   │ what is left of it, then its end
//!                        └──────────────────┴─────────► the handler ends it before
//! ```

use tungstenite::Bytes;

use crate::core::config::Limits;
use crate::core::connection::http::Pending;
use crate::core::connection::phase::Phase;
use crate::core::connection::receive::{Decoded, Received};
use crate::core::connection::{Connection, RouteIndex};
use crate::core::contract::event::{BodyState, BodyStep};
use crate::core::ground::time::{Instant, SomeMoment};
use crate::core::wire::http::{BodyReader, Refusal};

/// The body of a request, from its head to its answer.
#[derive(Debug)]
pub(crate) struct Upload {
    reader: BodyReader,
    /// Bytes in the job that is out.
    given: usize,
    /// Bytes of the body since the deadline was last moved.
    progress: usize,
    /// The last bytes of the body, until the handler is given them.
    last: Bytes,
    /// Since when nothing is read, because as much waits for the handler as may wait.
    held_at: Option<SomeMoment>,
    with: With,
    /// The handler takes the body.
    is_begun: bool,
    /// The body has come as a whole.
    is_complete: bool,
    /// The client waits to be told that the body may come.
    expects_continue: bool,
    /// Another request may follow the answer, if the body is read to its end.
    keep: bool,
}

/// Where the handler's state is.
#[derive(Debug)]
enum With {
    /// Nobody: the handler was not asked.
    Nobody,
    /// The connection.
    Here(BodyState),
    /// The connection; a job waits to be handed out.
    Queued(BodyState),
    /// A job that is out.
    Job,
}

/// What is left of an upload whose connection has ended.
#[derive(Debug)]
pub(crate) enum Remains {
    /// Nothing: the handler knows of none.
    Nothing,
    /// The state, for the handler to be told of the end.
    State(BodyState),
    /// A job has the state, or is to make it.
    Job { is_begun: bool },
}

impl Upload {
    /// Makes the upload of a request whose head has come.
    pub fn new(reader: BodyReader, expects_continue: bool, keep: bool) -> Upload {
        Upload {
            reader,
            given: 0,
            progress: 0,
            last: Bytes::new(),
            held_at: None,
            with: With::Nobody,
            is_begun: false,
            is_complete: false,
            expects_continue,
            keep,
        }
    }

    /// Takes a part of the body, as much as may wait. Returns how many bytes were used, and whether
    /// something waits for the handler.
    fn read(&mut self, input: &[u8], limits: &Limits) -> Result<(usize, bool), Refusal> {
        let room = limits.inbox_bytes.saturating_sub(self.waiting_bytes()).max(1);
        let before = self.reader.waiting();
        let (used, whole) = self.reader.read(&input[..input.len().min(room)])?;
        if let Some(last) = whole {
            self.is_complete = true;
            self.last = last;
        } else {
            self.progress += self.reader.waiting() - before;
        }
        Ok((used, self.has_step()))
    }

    /// A body of no bytes is complete at once: nothing is to come.
    fn complete_if_empty(&mut self) {
        self.is_complete = matches!(self.reader.read(&[]), Ok((_, Some(_))));
    }

    /// Returns the bytes that wait for the handler, or that it has.
    fn waiting_bytes(&self) -> usize {
        self.reader.waiting() + self.last.len() + self.given
    }

    fn held_bytes(&self) -> usize {
        self.reader.held_bytes() + self.last.len()
    }

    fn has_step(&self) -> bool {
        self.is_complete || self.reader.waiting() > 0
    }

    fn next_step(&mut self) -> BodyStep {
        let piece = match self.is_complete {
            true => std::mem::take(&mut self.last),
            false => self.reader.take().into_boxed_slice().into(),
        };
        self.given = piece.len();
        match piece.is_empty() {
            true => BodyStep::End,
            false => BodyStep::Piece(piece),
        }
    }

    fn is_queued(&self) -> bool {
        matches!(self.with, With::Queued(_))
    }
}

impl Connection {
    /// Begins an upload: the handler is to be asked first.
    pub fn expect_upload(&mut self, upload: Upload) {
        self.extra.get_or_insert_default().upload = Some(Box::new(upload));
    }

    /// Returns the upload, if the request under way is one.
    pub(super) fn upload(&self) -> Option<&Upload> {
        let extra = self.extra.as_ref().filter(|_| cfg!(feature = "streams"))?;
        extra.upload.as_deref()
    }

    pub(super) fn upload_mut(&mut self) -> Option<&mut Upload> {
        let extra = self.extra.as_mut().filter(|_| cfg!(feature = "streams"))?;
        extra.upload.as_deref_mut()
    }

    /// Takes note that the handler is asked whether it takes the body.
    pub fn note_upload_asked(&mut self) {
        if let Some(upload) = self.upload_mut() {
            upload.with = With::Job;
        }
    }

    /// Takes a part of the body.
    pub(super) fn receive_upload(
        &mut self,
        now: Instant,
        input: &[u8],
        limits: &Limits,
    ) -> Decoded {
        let Some(upload) = self.upload_mut() else { return Decoded::nothing(input.len()) };
        let read = upload.read(input, limits);
        if upload.progress >= PROGRESS_BYTES {
            upload.progress = 0;
            self.phase_at = now.into();
        }
        match read {
            Ok((used, true)) => Decoded { found: Some(Received::Pieces), ..Decoded::nothing(used) },
            Ok((used, false)) => Decoded::nothing(used),
            Err(refusal) => {
                let found = Some(Received::Refusal { refusal, is_for_head: false });
                Decoded { found, ..Decoded::nothing(input.len()) }
            }
        }
    }

    /// Has the next step of the upload wait for the handler, if the handler has nothing to do. A
    /// complete body is to be answered.
    pub fn queue_step(&mut self, now: Instant, limits: &Limits) {
        let Some(upload) = self.upload_mut() else { return };
        let is_idle = matches!(upload.with, With::Here(_));
        if is_idle
            && upload.has_step()
            && let With::Here(state) = std::mem::replace(&mut upload.with, With::Job)
        {
            upload.with = With::Queued(state);
            if self.is_deciding() {
                // Each step has its time.
                self.phase_at = now.into();
                self.flags.relink = true;
            }
        }
        let Some(upload) = self.upload_mut() else { return };
        let (is_complete, keep) = (upload.is_complete, upload.keep);
        if is_complete && self.is_uploading() {
            self.conclude_upload(now, keep);
        } else if self.is_upload_held(limits)
            && let Some(upload) = self.upload_mut()
        {
            upload.held_at.get_or_insert(now.into());
            self.flags.relink = true;
        }
    }

    /// Takes the next step of the upload, if the connection waits to hand it out.
    pub fn take_step(&mut self) -> Option<(RouteIndex, BodyState, BodyStep)> {
        let route = self.route?;
        if !self.has_step() {
            return None;
        }
        let upload = self.upload_mut()?;
        match std::mem::replace(&mut upload.with, With::Job) {
            With::Queued(state) => Some((route, state, upload.next_step())),
            other => {
                upload.with = other;
                None
            }
        }
    }

    /// Returns whether a step of the upload waits to be handed out.
    pub(super) fn has_step(&self) -> bool {
        (self.is_deciding() || self.is_uploading()) && self.upload().is_some_and(Upload::is_queued)
    }

    /// Takes note that the handler takes the body. Returns whether that is new.
    pub fn note_upload_begun(&mut self) -> bool {
        let upload = self.upload_mut();
        upload.is_some_and(|upload| !std::mem::replace(&mut upload.is_begun, true))
    }

    /// Takes the state back from a job. Returns whether the client is to be told now that the body
    /// may come.
    pub fn take_back_state(&mut self, now: Instant, state: BodyState) -> bool {
        let Some(upload) = self.upload_mut() else { return false };
        debug_assert!(matches!(upload.with, With::Job), "it was out");
        upload.with = With::Here(state);
        upload.given = 0;
        let held_at = upload.held_at.take();
        let (is_complete, expects) = (upload.is_complete, upload.expects_continue);
        if let Some(held_at) = held_at {
            // Time in which nothing was read does not count.
            let held_for = now.since(held_at.near(now));
            self.phase_at = (self.phase_at.near(now) + held_for).min(now).into();
            self.flags.relink = true;
        }
        if is_complete || !self.is_deciding() {
            return false;
        }
        if let Some(pending) = self.take_pending() {
            self.enter(now, Phase::Upload(Box::new(pending)));
        }
        if let Some(upload) = self.upload_mut() {
            upload.complete_if_empty();
        }
        expects
    }

    /// Takes note that the handler has answered, perhaps before the end of the body: then the
    /// connection ends behind the answer.
    pub fn note_upload_answered(&mut self, now: Instant) {
        if !self.has_upload() {
            return;
        }
        if self.is_uploading() {
            self.conclude_upload(now, false);
        }
        if let Some(extra) = &mut self.extra {
            extra.upload = None;
        }
    }

    /// Takes what is left of the upload from a connection that has ended.
    pub fn take_upload(&mut self) -> Remains {
        let upload = self.extra.as_mut().filter(|_| cfg!(feature = "streams"));
        let upload = upload.and_then(|extra| extra.upload.take());
        match upload.map(|upload| (upload.with, upload.is_begun)) {
            None | Some((With::Nobody, _)) => Remains::Nothing,
            Some((With::Here(state) | With::Queued(state), _)) => Remains::State(state),
            Some((With::Job, is_begun)) => Remains::Job { is_begun },
        }
    }

    /// Forgets an upload that no handler was asked about.
    pub(super) fn forget_upload(&mut self) {
        if let Some(extra) = &mut self.extra {
            debug_assert!(
                extra.upload.as_ref().is_none_or(|upload| matches!(upload.with, With::Nobody)),
                "its handler has answered, or the connection ends"
            );
            extra.upload = None;
        }
    }

    /// Has the connection end behind the answer to its upload.
    pub(super) fn end_behind_upload(&mut self) {
        if let Some(upload) = self.upload_mut() {
            upload.keep = false;
        }
    }

    /// Returns whether the request under way is an upload that its handler has not answered.
    pub fn has_upload(&self) -> bool {
        self.upload().is_some()
    }

    /// Returns whether as much waits for the handler as may wait.
    pub(super) fn is_upload_held(&self, limits: &Limits) -> bool {
        self.upload().is_some_and(|upload| upload.waiting_bytes() >= limits.inbox_bytes)
    }

    /// Returns since when the body is not read because its handler is behind.
    pub(super) fn upload_held_at(&self) -> Option<SomeMoment> {
        self.upload()?.held_at
    }

    /// Returns whether nothing more of the body can come, and it is not complete.
    pub(super) fn is_upload_cut(&self) -> bool {
        let has_rest = self.inbox.as_ref().is_some_and(|inbox| inbox.has_rest());
        self.flags.reading.has_ended() && !has_rest
    }

    /// Returns the bytes of the body that its handler has.
    pub(super) fn upload_given_bytes(&self) -> usize {
        self.upload().map_or(0, |upload| upload.given)
    }

    /// Returns the memory of what has come of the body and is not with its handler.
    pub(super) fn upload_held_bytes(&self) -> usize {
        self.upload().map_or(0, Upload::held_bytes)
    }

    /// Has the request be answered.
    fn conclude_upload(&mut self, now: Instant, keep: bool) {
        let waiting = Phase::Upload(Box::default());
        match std::mem::replace(&mut self.phase, waiting) {
            Phase::Upload(pending) => {
                let pending = Box::new(Pending { keep, ..*pending });
                self.enter(now, Phase::Deciding(pending));
            }
            other => self.phase = other,
        }
    }
}

/// So much of a body must come within each `deadlines.body`.
const PROGRESS_BYTES: usize = 16 * 1024;

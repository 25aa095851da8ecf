//! Requests that the host was asked about and has not answered.
//!
//! The host may take its time, up to the deadline of the request, and handle other events
//! meanwhile. So each request stands here until the host answers, or until the host was told that
//! nobody waits for the answer any more. Only a host that asks for requests has this; for the
//! others nothing of it is linked.

use std::any::Any;
use std::collections::BTreeMap;
use std::ffi::c_void;
use std::ops::Bound;
use std::ptr;

use super::event::HeartwheelEvent;
use super::failure::{Code, Failure};
use super::host::Host;
use crate::core::contract::event::{Done, Event, Outcome};
use crate::core::engine::Refused;
use crate::core::ground::id::ConnectionId;
use crate::core::wire::http::{HeaderError, HeaderLines, Refusal, Request, Response};

/// A request in the hands of the host.
pub(super) struct Asked {
    pub id: ConnectionId,
    route: usize,
    pub request: Box<Request>,
    /// Whether the host is to let it in, and not to answer it.
    pub is_judged: bool,
    pub lines: HeaderLines,
    pub user: *mut c_void,
}

// The host gave the pointer and gets it back, and one thread at a time uses the handle. Here it is
// only a number.
unsafe impl Send for Asked {}

/// The requests of a server that its host has not answered.
#[derive(Default)]
pub(super) struct AskedRequests {
    waiting: BTreeMap<ConnectionId, Asked>,
    /// How far they were looked through for those that have ended; `None` until the next turn.
    looked_at: Option<Bound<ConnectionId>>,
    /// The one whose end was pulled last: the host may still ask for its pointer.
    ended: Option<Asked>,
}

/// What a host that asks for requests needs of them where others need nothing.
pub(super) trait AskedTable: Send {
    /// Takes a request, and describes it.
    fn take(
        &mut self,
        id: ConnectionId,
        route: usize,
        request: Box<Request>,
        is_judged: bool,
    ) -> HeartwheelEvent;

    /// Finds the next request whose end the host has to be told of.
    fn poll_ended(&mut self, is_waiting: &dyn Fn(ConnectionId) -> bool) -> Option<Ended>;

    /// Forgets the request whose end was pulled last. After a turn all are looked through anew.
    fn go_on(&mut self, is_turn: bool);

    fn requests(&mut self) -> &mut AskedRequests;
}

/// A request that has ended without an answer of the host.
pub(super) struct Ended {
    pub event: HeartwheelEvent,
    pub done: Done,
}

impl AskedTable for AskedRequests {
    fn take(
        &mut self,
        id: ConnectionId,
        route: usize,
        request: Box<Request>,
        is_judged: bool,
    ) -> HeartwheelEvent {
        let event = HeartwheelEvent::of_request(id, &request, is_judged);
        let (lines, user) = (HeaderLines::default(), ptr::null_mut());
        let asked = Asked { id, route, request, is_judged, lines, user };
        let before = self.waiting.insert(id, asked);
        debug_assert!(before.is_none(), "a connection asks for one thing at a time");
        event
    }

    fn poll_ended(&mut self, is_waiting: &dyn Fn(ConnectionId) -> bool) -> Option<Ended> {
        while let Some(from) = self.looked_at.take() {
            let (id, asked) = self.waiting.range((from, Bound::Unbounded)).next()?;
            let (id, route) = (*id, asked.route);
            self.looked_at = Some(Bound::Excluded(id));
            if !is_waiting(id) {
                self.ended = self.waiting.remove(&id);
                // It is no answer any more: the engine lets go of what it counted.
                let done = Done { id, route, outcome: Outcome::Answer(Response::new(503)) };
                return Some(Ended { event: HeartwheelEvent::of_end(id), done });
            }
        }
        None
    }

    fn go_on(&mut self, is_turn: bool) {
        self.ended = None;
        if is_turn {
            self.looked_at = Some(Bound::Unbounded);
        }
    }

    fn requests(&mut self) -> &mut AskedRequests {
        self
    }
}

impl AskedRequests {
    /// Returns the request of a connection that the host has not answered, or whose end was pulled
    /// last.
    pub fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Asked> {
        let ended = self.ended.as_mut().filter(|ended| ended.id == id);
        self.waiting.get_mut(&id).or(ended)
    }
}

impl Host {
    /// Returns the requests of this host, made if it asks for the first time.
    pub fn asked_for(&mut self) -> &mut AskedRequests {
        let table = self.asked.get_or_insert_with(|| Box::<AskedRequests>::default());
        table.requests()
    }

    /// Returns the request of a connection that the host has not answered, or whose end is the
    /// event in hand.
    pub fn asked_of(&mut self, id: ConnectionId) -> Option<&mut Asked> {
        self.asked.as_mut()?.requests().get_mut(id)
    }

    /// Returns the request of a connection that waits for the host's answer.
    pub fn waiting(&mut self, id: ConnectionId) -> Result<&mut Asked, Failure> {
        let is_waiting = self.server.inner.engine().is_asking(id);
        let asked = self.asked_for().waiting.get_mut(&id).filter(|_| is_waiting);
        Ok(asked.ok_or(Refused::Gone)?)
    }

    /// Gives the engine the outcome of a request that waits.
    pub fn decide(
        &mut self,
        id: ConnectionId,
        outcome: impl FnOnce(Asked) -> Outcome,
    ) -> Result<(), Failure> {
        self.waiting(id)?;
        let asked = self.asked_for().waiting.remove(&id).ok_or(Refused::Gone)?;
        let route = asked.route;
        self.server.inner.finish_job(Done { id, route, outcome: outcome(asked) });
        Ok(())
    }

    /// Returns the request of a peer: one that was not answered, the one that opened it while its
    /// event is in hand, or one that was kept.
    pub fn request_of(&mut self, id: ConnectionId) -> Result<&Request, Failure> {
        let asked = self.asked.as_mut().and_then(|table| table.requests().waiting.get(&id));
        if let Some(asked) = asked {
            return Ok(&asked.request);
        }
        if let Some(Event::Opened(request)) = &self.event
            && self.job.as_ref().is_some_and(|job| job.id == id)
        {
            return Ok(request);
        }
        let session = match &self.job {
            Some(job) if job.id == id => &job.session,
            _ => &*self.server.inner.session_of(id).ok_or(Refused::Gone)?,
        };
        let kept = session.as_ref().and_then(|session| session.downcast_ref::<Kept>());
        let request = kept.and_then(|kept| kept.request.as_deref());
        request.ok_or(Failure::new(Code::None, c"the request of this peer is not kept"))
    }
}

/// What a host keeps with a peer. Only a peer for which there is something has one.
pub(super) struct Kept {
    pub user: *mut c_void,
    pub request: Option<Box<Request>>,
    /// The claim of its session, if that outlasts the connection.
    #[cfg(feature = "sessions")]
    pub held: Option<Box<super::sessions::Held>>,
}

// As for `Asked`.
unsafe impl Send for Kept {}

impl Kept {
    /// Returns what is kept in the session of a peer, made if there is nothing yet.
    pub fn of(session: &mut Option<Box<dyn Any + Send>>) -> &mut Kept {
        if !session.as_ref().is_some_and(|session| session.is::<Kept>()) {
            *session = Some(Box::new(Kept {
                user: ptr::null_mut(),
                request: None,
                #[cfg(feature = "sessions")]
                held: None,
            }));
        }
        let kept = session.as_mut().and_then(|session| session.downcast_mut());
        kept.expect("it is one, or was made so")
    }
}

/// Adds a header line to the answer that a request is to get.
pub(super) fn add_line(asked: &mut Asked, name: &str, value: &str) -> Result<(), Failure> {
    let len = u64::try_from(name.len() + value.len()).unwrap_or(u64::MAX);
    if asked.lines.as_str().len() as u64 + len > LINES_BYTES_MAX {
        return Err(Failure::new(Code::Full, c"the header lines have more than 4096 bytes"));
    }
    let pushed = asked.lines.push(name, value);
    pushed.map_err(|error: HeaderError| Failure::told(Code::Argument, &error.to_string()))
}

/// Makes a refusal with the lines that were added.
pub(super) fn refusal(status: u16, sentence: &str, lines: &HeaderLines) -> Refusal {
    Refusal::new(status, sentence.to_owned()).headers(lines)
}

const LINES_BYTES_MAX: u64 = 4096;

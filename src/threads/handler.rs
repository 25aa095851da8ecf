//! What applications write: handlers of WebSocket connections and of plain requests.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crate::core::contract::accept::Accept;
use crate::core::contract::event::{Event, Outcome, Session, Task};
use crate::core::ground::reason::CloseReason;
use crate::core::wire::http::{AnySource, Next, PIECE_BYTES, Refusal, Request, Response};
use crate::core::wire::message::Message;
use crate::threads::peer::Peer;

/// Handles the events of WebSocket connections.
///
/// Calls for one connection never overlap and come in order. Calls for different connections run
/// side by side, on as many workers as there are. A call may block: it delays only its own
/// connection, as long as a worker is free. A panic closes the connection with 1011 and affects
/// nothing else.
///
/// A closure `Fn(&Peer, Event)` is a handler without a session.
pub trait Handler: Send + Sync + 'static {
    /// The state that is kept for each connection. It travels with the calls, so it needs no lock;
    /// `()` costs nothing.
    type Session: Send + 'static;

    /// Called for a connection that `request` has just opened.
    fn open(&self, peer: &Peer, request: Request) -> Self::Session;

    /// Called for each message.
    fn message(&self, session: &mut Self::Session, peer: &Peer, message: Message);

    /// Called when a connection has ended: its last call, and there is always one.
    fn closed(&self, session: Self::Session, peer: &Peer, reason: CloseReason) {
        let _ = (session, peer, reason);
    }

    /// Called when two pings in a row went unanswered: the peer may be gone.
    fn suspect(&self, session: &mut Self::Session, peer: &Peer) {
        let _ = (session, peer);
    }

    /// Called with the round trip of a ping. Only for routes with
    /// [`Route::with_pongs`](crate::Route::with_pongs): an idle connection must wake no worker.
    fn pong(&self, session: &mut Self::Session, peer: &Peer, rtt: Duration) {
        let _ = (session, peer, rtt);
    }

    /// Called with the token of a timer that has fallen due: see [`Peer::after`].
    fn timer(&self, session: &mut Self::Session, peer: &Peer, token: u64) {
        let _ = (session, peer, token);
    }

    /// Returns what a job of [`Peer::run`] is given of a session.
    #[doc(hidden)]
    fn visited(session: &mut Self::Session) -> &mut dyn Any {
        session
    }

    /// Called when all that was queued for the peer is with the kernel, after it was not. Only for
    /// routes with [`Route::with_drained`](crate::Route::with_drained).
    fn drained(&self, session: &mut Self::Session, peer: &Peer) {
        let _ = (session, peer);
    }
}

impl<F: Fn(&Peer, Event) + Send + Sync + 'static> Handler for F {
    type Session = ();

    fn open(&self, peer: &Peer, request: Request) {
        self(peer, Event::Opened(Box::new(request)));
    }

    fn message(&self, _: &mut (), peer: &Peer, message: Message) {
        self(peer, Event::Message(message));
    }

    fn closed(&self, _: (), peer: &Peer, reason: CloseReason) {
        self(peer, Event::Closed(reason));
    }

    fn suspect(&self, _: &mut (), peer: &Peer) {
        self(peer, Event::Suspect);
    }

    fn pong(&self, _: &mut (), peer: &Peer, rtt: Duration) {
        self(peer, Event::Pong(rtt));
    }

    fn timer(&self, _: &mut (), peer: &Peer, token: u64) {
        self(peer, Event::Timer(token));
    }

    fn drained(&self, _: &mut (), peer: &Peer) {
        self(peer, Event::Drained);
    }
}

/// Decides on a request.
pub(crate) type Authorize = dyn Fn(&Request) -> Result<Accept, Refusal> + Send + Sync;

/// What a route runs, whatever the types of its handler.
pub(crate) trait Endpoint: Send + Sync {
    /// Does a job. `tick` is called before each call of the handler, and once after the last.
    fn run(&self, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome;

    /// Calls the handler of an open WebSocket with a message. Returns whether the handler returned:
    /// `false` is a panic.
    fn message(&self, _peer: &Peer, _session: &mut Session, _message: Message) -> bool {
        debug_assert!(false, "plain requests have no messages");
        true
    }
}

/// What a route runs. The engine makes jobs for what is there.
#[derive(Default)]
pub(crate) struct Place {
    pub endpoint: Option<Arc<dyn Endpoint>>,
    /// Judges requests before the endpoint, or the engine, answers them.
    pub authorize: Option<Arc<Authorize>>,
}

/// What all routes run, by the number of the route.
#[derive(Clone)]
pub(crate) struct Endpoints(Arc<[Place]>);

impl Endpoints {
    /// Does a job of a route, as [`Endpoint::run`] does.
    pub fn run(&self, route: usize, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome {
        match task {
            Task::Pull(source) => pull(source, tick),
            Task::Call(call) => (call.run)(tick),
            Task::Authorize(request) => self.judge(route, request, tick),
            Task::Events { .. } | Task::Answer(_) | Task::Step(..) | Task::Offer(_) => {
                let endpoint = self.0.get(route).and_then(|place| place.endpoint.as_ref());
                debug_assert!(endpoint.is_some(), "the engine makes jobs only for what is there");
                match endpoint {
                    Some(endpoint) => endpoint.run(peer, task, tick),
                    None => panicked(None, 0, 0),
                }
            }
        }
    }

    /// Calls a handler with a message, as [`Endpoint::message`] does.
    pub fn message(
        &self,
        route: usize,
        peer: &Peer,
        session: &mut Session,
        message: Message,
    ) -> bool {
        let endpoint = self.0.get(route).and_then(|place| place.endpoint.as_ref());
        debug_assert!(endpoint.is_some(), "only a route with a handler has sessions");
        endpoint.is_some_and(|endpoint| endpoint.message(peer, session, message))
    }

    #[cold]
    fn judge(&self, route: usize, request: Box<Request>, tick: &mut dyn FnMut()) -> Outcome {
        let authorize = self.0.get(route).and_then(|place| place.authorize.as_ref());
        debug_assert!(authorize.is_some(), "the engine asks only where there is one");
        match authorize {
            Some(authorize) => judge(&**authorize, request, tick),
            None => panicked(None, 0, 0),
        }
    }

    /// Puts an endpoint to the route of this number. It takes time by the number of routes.
    #[cfg(feature = "ffi")]
    pub fn put(&mut self, route: usize, endpoint: Arc<dyn Endpoint>) {
        let shared = Arc::get_mut(&mut self.0);
        debug_assert!(shared.is_some(), "no worker has them");
        let before = shared.into_iter().flatten().map(std::mem::take);
        let mut places: Vec<Place> = before.collect();
        places.resize_with(places.len().max(route + 1), Place::default);
        places[route].endpoint = Some(endpoint);
        self.0 = places.into();
    }
}

fn judge(authorize: &Authorize, request: Box<Request>, tick: &mut dyn FnMut()) -> Outcome {
    tick();
    let outcome = match catch_unwind(AssertUnwindSafe(|| authorize(&request))) {
        Ok(verdict) => Outcome::Verdict(request, verdict),
        Err(_) => panicked(None, 0, 0),
    };
    tick();
    outcome
}

impl From<Vec<Place>> for Endpoints {
    fn from(places: Vec<Place>) -> Endpoints {
        Endpoints(places.into())
    }
}

/// The endpoint of a WebSocket route.
pub(crate) struct WebSocketEndpoint<H>(pub H);

impl<H: Handler> Endpoint for WebSocketEndpoint<H> {
    fn run(&self, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome {
        let outcome = match task {
            Task::Events { session, events } => self.take(peer, session, events, tick),
            _ => panicked(None, 0, 0),
        };
        tick();
        outcome
    }

    fn message(&self, peer: &Peer, session: &mut Session, message: Message) -> bool {
        let session = session.downcast_mut::<H::Session>();
        debug_assert!(session.is_some(), "the session is as the handler made it");
        let Some(session) = session else { return true };
        let call = || self.0.message(session, peer, message);
        catch_unwind(AssertUnwindSafe(call)).is_ok()
    }
}

impl<H: Handler> WebSocketEndpoint<H> {
    fn take(
        &self,
        peer: &Peer,
        session: Option<Session>,
        mut events: VecDeque<Event>,
        tick: &mut dyn FnMut(),
    ) -> Outcome {
        let mut session = session.and_then(|session| session.downcast::<H::Session>().ok());
        let is_message = |event: &&Event| matches!(event, Event::Message(_));
        let given = events.iter().filter(is_message).count() as u64;
        let mut handled = 0;
        let result = catch_unwind(AssertUnwindSafe(|| {
            while let Some(event) = events.pop_front() {
                tick();
                let is_message = matches!(event, Event::Message(_));
                self.call(&mut session, peer, event);
                handled += u64::from(is_message);
            }
        }));
        if result.is_err()
            && let Some(Event::Closed(reason)) = events.pop_back()
        {
            // The handler is told of the end, whatever became of the calls before.
            let told = || self.call(&mut session, peer, Event::Closed(reason));
            let _ = catch_unwind(AssertUnwindSafe(told));
        }
        let session = session.map(|session| session as Box<dyn Any + Send>);
        match result {
            Ok(()) => Outcome::Events { session, messages_handled: handled, events },
            Err(_) => panicked(session, handled, given - handled),
        }
    }

    fn call(&self, session: &mut Option<Box<H::Session>>, peer: &Peer, event: Event) {
        if let Event::Opened(request) = event {
            *session = Some(Box::new(self.0.open(peer, *request)));
            return;
        }
        if let Event::Closed(reason) = event {
            if let Some(session) = session.take() {
                self.0.closed(*session, peer, reason);
            }
            return;
        }
        let Some(session) = session else { return };
        match event {
            Event::Message(message) => self.0.message(session, peer, message),
            Event::Suspect => self.0.suspect(session, peer),
            Event::Pong(rtt) => self.0.pong(session, peer, rtt),
            Event::Drained => self.0.drained(session, peer),
            Event::Timer(token) => self.0.timer(session, peer, token),
            Event::Visit(visit) => visit.pay(H::visited(session)),
            Event::Opened(_) | Event::Closed(_) | Event::Offered(_) => {}
        }
    }
}

/// The endpoint of a route that answers plain requests.
pub(crate) struct AnswerEndpoint<F>(pub F);

impl<F: Fn(&Request) -> Response + Send + Sync> Endpoint for AnswerEndpoint<F> {
    fn run(&self, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome {
        let Task::Answer(request) = task else { return panicked(None, 0, 0) };
        tick();
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.0(&request))) {
            Ok(response) => answered(response, peer),
            Err(_) => panicked(None, 0, 0),
        };
        tick();
        outcome
    }
}

/// Makes the outcome of a handler's answer.
pub(super) fn answered(mut response: Response, peer: &Peer) -> Outcome {
    if let Some(source) = response.source_mut() {
        source.attach(&mut || peer.waker());
    }
    Outcome::Answer(response)
}

/// Asks a source for its next piece.
fn pull(mut source: AnySource, tick: &mut dyn FnMut()) -> Outcome {
    tick();
    let next = catch_unwind(AssertUnwindSafe(|| source.next(PIECE_BYTES)));
    tick();
    Outcome::Pulled(source, next.unwrap_or(Next::Panicked))
}

/// Does a job of the server's own.
pub(crate) fn run_call(job: impl FnOnce(), tick: &mut dyn FnMut()) -> Outcome {
    tick();
    let outcome = match catch_unwind(AssertUnwindSafe(job)) {
        Ok(()) => Outcome::Called,
        Err(_) => panicked(None, 0, 0),
    };
    tick();
    outcome
}

pub(super) fn panicked(session: Option<Session>, handled: u64, lost: u64) -> Outcome {
    Outcome::Panicked { session, messages_handled: handled, messages_lost: lost }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use mio::{Poll, Token, Waker};

    use super::*;
    use crate::core::ground::id::{ConnectionId, Generation};
    use crate::threads::command_queue::Inlet;

    static CLOSED: AtomicU32 = AtomicU32::new(0);

    struct Brittle;

    impl Handler for Brittle {
        type Session = ();

        fn open(&self, _: &Peer, _: Request) {}

        fn message(&self, _: &mut (), _: &Peer, _: Message) {
            panic!("brittle");
        }

        fn closed(&self, _: (), _: &Peer, _: CloseReason) {
            CLOSED.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_panic_before_the_end_does_not_hide_the_end() {
        let poll = Poll::new().unwrap();
        let inlet = Inlet::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let peer = Peer::new(ConnectionId::new(0, Generation::FIRST), inlet.handle());
        let endpoint = WebSocketEndpoint(Brittle);
        let message = || Event::Message("x".into());
        let events = [message(), message(), Event::Closed(CloseReason::Eof)].into();
        let task = Task::Events { session: Some(Box::new(())), events };
        let outcome = endpoint.run(&peer, task, &mut || {});
        assert!(matches!(
            outcome,
            Outcome::Panicked { session: None, messages_handled: 0, messages_lost: 2 }
        ));
        assert_eq!(CLOSED.load(Ordering::Relaxed), 1);
    }
}

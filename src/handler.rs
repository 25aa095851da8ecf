//! What applications write: handlers of WebSocket connections and of plain requests.

use std::any::Any;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use crate::event::{Accept, Event, Outcome, Session, Task};
use crate::handle::Peer;
use crate::http::{Refusal, Request, Response};
use crate::message::Message;
use crate::reason::CloseReason;

/// Takes the events of WebSocket connections.
///
/// Calls for one connection never overlap and come in order; those of different connections run
/// side by side, on as many workers as there are. A call may block: it delays its own connection
/// alone, as long as a worker is free. A panic closes the connection with 1011 and touches nothing
/// else.
///
/// A closure `Fn(&Peer, Event)` is a handler without a session.
pub trait Handler: Send + Sync + 'static {
    /// What is kept for each connection. It travels with the calls, so it needs no lock; `()` costs
    /// nothing.
    type Session: Send + 'static;

    /// Takes a connection that has just been opened by `request`.
    fn open(&self, peer: &Peer, request: Request) -> Self::Session;

    /// Takes a message.
    fn message(&self, session: &mut Self::Session, peer: &Peer, message: Message);

    /// Takes the end of a connection: the last call for it, and there is always one.
    fn closed(&self, session: Self::Session, peer: &Peer, reason: CloseReason) {
        let _ = (session, peer, reason);
    }

    /// Takes note that two pings in a row went unanswered: the peer may be gone.
    fn suspect(&self, session: &mut Self::Session, peer: &Peer) {
        let _ = (session, peer);
    }

    /// Takes the round trip of a ping. Only for routes with
    /// [`Route::with_pongs`](crate::Route::with_pongs): an idle connection is to wake no worker.
    fn pong(&self, session: &mut Self::Session, peer: &Peer, rtt: Duration) {
        let _ = (session, peer, rtt);
    }

    /// Takes note that everything queued for the peer is with the kernel, after it was not. Only
    /// for routes with [`Route::with_drained`](crate::Route::with_drained).
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

    fn drained(&self, _: &mut (), peer: &Peer) {
        self(peer, Event::Drained);
    }
}

/// Decides on an upgrade.
pub(crate) type Authorize = dyn Fn(&Request) -> Result<Accept, Refusal> + Send + Sync;

/// What a route runs, whatever its handler's types.
pub(crate) trait Endpoint: Send + Sync {
    /// Does a job. `tick` is called before each call of the handler, and once after the last.
    fn run(&self, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome;
}

/// The endpoint of a WebSocket route.
pub(crate) struct WebSocketEndpoint<H> {
    pub handler: H,
    pub authorize: Option<Box<Authorize>>,
}

impl<H: Handler> Endpoint for WebSocketEndpoint<H> {
    fn run(&self, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome {
        let outcome = match task {
            Task::Authorize(request) => self.decide(request, tick),
            Task::Events { session, events } => self.take(peer, session, events, tick),
            Task::Answer(_) => Outcome::Answer(Response::new(500)),
        };
        tick();
        outcome
    }
}

impl<H: Handler> WebSocketEndpoint<H> {
    fn decide(&self, request: Box<Request>, tick: &mut dyn FnMut()) -> Outcome {
        let Some(authorize) = &self.authorize else {
            return Outcome::Verdict(request, Ok(Accept::default()));
        };
        tick();
        match catch_unwind(AssertUnwindSafe(|| authorize(&request))) {
            Ok(verdict) => Outcome::Verdict(request, verdict),
            Err(_) => panicked(None, 0, 0),
        }
    }

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
        let session = session.map(|session| session as Box<dyn Any + Send>);
        match result {
            Ok(()) => Outcome::Events { session, messages_handled: handled, events },
            Err(_) => panicked(session, handled, given - handled),
        }
    }

    fn call(&self, session: &mut Option<Box<H::Session>>, peer: &Peer, event: Event) {
        if let Event::Opened(request) = event {
            *session = Some(Box::new(self.handler.open(peer, *request)));
            return;
        }
        if let Event::Closed(reason) = event {
            if let Some(session) = session.take() {
                self.handler.closed(*session, peer, reason);
            }
            return;
        }
        let Some(session) = session else { return };
        match event {
            Event::Message(message) => self.handler.message(session, peer, message),
            Event::Suspect => self.handler.suspect(session, peer),
            Event::Pong(rtt) => self.handler.pong(session, peer, rtt),
            Event::Drained => self.handler.drained(session, peer),
            Event::Opened(_) | Event::Closed(_) => {}
        }
    }
}

/// The endpoint of a route that answers plain requests.
pub(crate) struct AnswerEndpoint<F>(pub F);

impl<F: Fn(&Request) -> Response + Send + Sync> Endpoint for AnswerEndpoint<F> {
    fn run(&self, _: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome {
        let Task::Answer(request) = task else { return panicked(None, 0, 0) };
        tick();
        let outcome = match catch_unwind(AssertUnwindSafe(|| self.0(&request))) {
            Ok(response) => Outcome::Answer(response),
            Err(_) => panicked(None, 0, 0),
        };
        tick();
        outcome
    }
}

fn panicked(session: Option<Session>, handled: u64, lost: u64) -> Outcome {
    Outcome::Panicked { session, messages_handled: handled, messages_lost: lost }
}

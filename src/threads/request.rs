//! Plain requests that are made on a loop: [`Ask`], and who is told the answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use log::error;

use crate::core::client::ask::{Answer, Ask};
use crate::core::client::{State, Why};
use crate::threads::dial::{Dial, DialError};
use crate::threads::handle::Handle;
use crate::threads::link::{
    Link, LinkEvent, LinkHandler, LinkOrder, LinkShared, ORDER_BYTES_MAX, StateChange,
};

/// Tells a function the answer, or why there is none: once, whatever happens to the order.
pub(crate) struct Answering(Option<(Function, Option<Room>)>);

type Function = Box<dyn FnOnce(Result<Answer, Why>) + Send>;

/// What the plain requests of a loop take.
#[derive(Default)]
pub(crate) struct Taken {
    requests: usize,
    /// Of those that the loop has not taken.
    bytes: usize,
}

/// What one request has of it, until the request is over.
struct Room {
    shared: Arc<LinkShared>,
    bytes: usize,
}

impl Room {
    fn take(shared: &Arc<LinkShared>, bytes: usize) -> Option<Room> {
        let mut taken = shared.taken();
        let has_bytes = taken.bytes == 0 || taken.bytes.saturating_add(bytes) <= ORDER_BYTES_MAX;
        if taken.requests >= REQUESTS_MAX || !has_bytes {
            return None;
        }
        taken.requests += 1;
        taken.bytes += bytes;
        Some(Room { shared: shared.clone(), bytes })
    }

    fn return_bytes(&mut self) {
        self.shared.taken().bytes -= std::mem::take(&mut self.bytes);
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        taken.bytes -= self.bytes;
        taken.requests -= 1;
    }
}

impl Answering {
    /// Takes note that the loop has taken the request.
    pub fn note_taken(&mut self) {
        if let Some((_, Some(room))) = &mut self.0 {
            room.return_bytes();
        }
    }

    /// Forgets the function uncalled: the caller is told instead that nothing was ordered.
    pub fn forget(mut self) {
        self.0 = None;
    }

    fn tell(&mut self, answer: Result<Answer, Why>) {
        let Some((function, room)) = self.0.take() else { return };
        // The function may make the next request.
        drop(room);
        if catch_unwind(AssertUnwindSafe(|| function(answer))).is_err() {
            error!("the function of a plain request panicked");
        }
    }
}

impl LinkHandler for Answering {
    fn on_event(&mut self, _: &Link, event: LinkEvent) {
        match event {
            LinkEvent::Answer(answer) => self.tell(Ok(*answer)),
            LinkEvent::State(StateChange { state: State::Stopped, why, .. }) => {
                self.tell(Err(why.unwrap_or(Why::Stopped)));
            }
            _ => {}
        }
    }
}

/// The request was ordered, and the loop has ended or has no room for it.
impl Drop for Answering {
    fn drop(&mut self) {
        self.tell(Err(Why::Stopped));
    }
}

impl LinkShared {
    /// Orders a request to be made.
    pub fn request(
        self: &Arc<Self>,
        dial: Dial,
        ask: Ask,
        handler: impl FnOnce(Result<Answer, Why>) + Send + 'static,
    ) -> Result<(), DialError> {
        let bytes = size_of::<LinkOrder>() + ask.bytes();
        let dial = dial.asking(ask)?;
        let room = Room::take(self, bytes).ok_or(DialError::Full)?;
        let answering = Answering(Some((Box::new(handler), Some(room))));
        self.ask(dial, answering).map_err(|_| DialError::Ended)
    }

    /// Orders a request of the server's own, which takes no room from those of the application.
    pub fn consult(
        self: &Arc<Self>,
        dial: Dial,
        ask: Ask,
        handler: impl FnOnce(Result<Answer, Why>) + Send + 'static,
    ) -> Result<(), DialError> {
        let answering = Answering(Some((Box::new(handler), None)));
        match dial.asking(ask) {
            Ok(dial) => self.ask(dial, answering).map_err(|_| DialError::Ended),
            Err(error) => {
                answering.forget();
                Err(error)
            }
        }
    }
}

impl Handle {
    /// Makes a plain request on the server's loop, on a connection of its own.
    ///
    /// If `Ok` is returned, the function is called once, on the loop's thread: it must not block.
    /// It is told the answer, whatever its status is, or why there is none. If the loop ends
    /// before, the function is told [`Why::Stopped`] on the thread that ends the loop. A request
    /// that it makes then may be refused with [`DialError::Ended`].
    ///
    /// # Errors
    ///
    /// The function is not called. [`DialError::Request`] and [`DialError::Tls`] if no request can
    /// be made; [`DialError::Full`] if 256 requests of the loop are not over, or if the path, the
    /// header lines and the body do not fit into the 256 KiB that may be under way to the loop: one
    /// request of any length fits where no other is; [`DialError::Ended`] if the server has ended.
    pub fn request(
        &self,
        dial: Dial,
        ask: Ask,
        handler: impl FnOnce(Result<Answer, Why>) + Send + 'static,
    ) -> Result<(), DialError> {
        let links = self.shared.links.get().ok_or(DialError::Ended)?;
        links.request(dial, ask, handler)
    }
}

/// How many plain requests of a loop may be ordered and not over: each has a connection.
const REQUESTS_MAX: usize = 256;

//! How a thread learns that a connection ends, while it does something for that connection.
//!
//! The first question of a thread goes to the loop, which answers, and keeps one end of a channel
//! as long as the connection is of use: to drop that end is to tell. So later questions cost no
//! way to the loop, and an idle connection costs nothing. A thread keeps the channel of the
//! connection it asked for last.

use std::cell::RefCell;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};

use crate::core::contract::event::{Command, Order};
use crate::core::engine::{Engine, Watch};
use crate::core::ground::id::ConnectionId;
use crate::threads::command_queue::{Shared, current_call};
use crate::threads::handle::{Handle, SendError};
use crate::threads::peer::Peer;

impl Peer {
    /// Returns the peer that this thread does something for: in a call of a handler its peer, in
    /// `authorize`, an answer or a piece of an answer the client of the request. `None` elsewhere.
    /// It bears no [`Peer::identity`]; the request does.
    ///
    /// ```
    /// use heartwheel::http::{Request, Response};
    /// use heartwheel::{Peer, Route};
    ///
    /// # fn look_on(_: u32) -> bool { true }
    /// let search = |_: &Request| {
    ///     let client = Peer::current();
    ///     for page in 0..1000 {
    ///         if client.as_ref().is_some_and(|client| !client.is_open()) {
    ///             return Response::new(503); // Nobody reads it.
    ///         }
    ///         look_on(page);
    ///     }
    ///     Response::new(200).text("searched")
    /// };
    /// let route = Route::get("/search", search);
    /// ```
    pub fn current() -> Option<Peer> {
        let (id, shared) = current_call()?;
        // A job of the server's own has the id of no connection.
        let is_of_peer = id.key() < ConnectionId::SLOTS_MAX - 1;
        is_of_peer.then(|| Handle::new(shared).peer(id))
    }

    /// Returns whether the connection is of use: `false` from when its client has gone or has ended
    /// its side, when it ends by a deadline or any other cause, when its server closes it, and when
    /// a drain has come to it. A request that a drain waits for is of use; a client that ends its
    /// side behind a request counts as gone, because most are, though it is still sent the answer.
    ///
    /// Any thread may ask. The first question of a thread about a connection waits for the answer
    /// of the loop, mostly some microseconds, at most a second; without one the connection counts
    /// as open. Later questions wait for nothing, as long as the thread asks about no other
    /// connection.
    ///
    /// A handler on the loop thread (`workers = 0`, inline routes) always gets `true`: the loop
    /// cannot notice an end during the call.
    pub fn is_open(&self) -> bool {
        self.ended().is_none_or(|ended| !ended.has_come(Duration::ZERO))
    }

    /// Waits until the connection is not open any more, as [`Peer::is_open`] says, for `span` at
    /// most. Returns whether it is so: what is done for the client can be cut short then.
    ///
    /// For handlers on workers, which may block, and for threads of the application's own. What the
    /// handler's call has sent so far leaves before ([`Peer::flush`]). The end is told when the
    /// turn of the loop ends in which it is noticed. The span is real time, whatever clock the
    /// server follows, and a worker that waits is not free for others: a handler that waits longer
    /// than `deadlines.handler` counts as stuck. A thread that turns the server itself learns
    /// nothing meanwhile; for a handler on the loop thread this returns `false` at once, because to
    /// wait would stop the loop.
    ///
    /// ```
    /// use std::time::Duration;
    /// use heartwheel::{Event, Peer};
    ///
    /// # fn reading() -> String { String::new() }
    /// let handler = |peer: &Peer, event: Event| {
    ///     if let Event::Message(_) = event {
    ///         // A reading each second, as long as somebody is there.
    ///         while !peer.closed_within(Duration::from_secs(1)) {
    ///             peer.send(reading());
    ///         }
    ///     }
    /// };
    /// # let _ = heartwheel::Server::builder().websocket("/readings", handler);
    /// ```
    pub fn closed_within(&self, span: Duration) -> bool {
        self.flush();
        self.ended().is_some_and(|ended| ended.has_come(span))
    }

    /// Returns what tells of the end: of this thread's last question, or of a new one. `None` if
    /// the loop cannot be asked.
    fn ended(&self) -> Option<Ended> {
        let shared = &self.handle().shared;
        if shared.is_called_by_loop() {
            return None;
        }
        let known = LAST.with_borrow(|last| {
            let is_it = |last: &&Ended| last.id == self.id() && last.is_of(shared);
            last.as_ref().filter(is_it).cloned()
        });
        known.or_else(|| {
            let asked = Ended::ask(self.id(), shared)?;
            // What was there before is dropped when nothing is borrowed any more.
            drop(LAST.replace(Some(asked.clone())));
            Some(asked)
        })
    }
}

/// What tells a thread that a connection is not open any more.
#[derive(Clone, Debug)]
struct Ended {
    id: ConnectionId,
    server: Weak<Shared>,
    /// Gives the answer to the question, then the end: the loop has dropped the other side.
    told: Receiver<()>,
    /// The thread that asked wants to know.
    _wanted: Arc<()>,
}

/// The loop's side.
struct Told {
    /// To drop it tells.
    _tell: Sender<()>,
    wanted: Weak<()>,
}

impl Watch for Told {
    fn is_wanted(&self) -> bool {
        self.wanted.strong_count() > 0
    }
}

impl Ended {
    /// Asks the loop, and waits for its answer. `None` if too many commands are under way.
    fn ask(id: ConnectionId, shared: &Arc<Shared>) -> Option<Ended> {
        let (tell, told) = bounded(1);
        let wanted = Arc::new(());
        let watch = Told { _tell: tell.clone(), wanted: Arc::downgrade(&wanted) };
        let act = move |engine: &mut Engine, _| {
            if engine.is_of_use(id) {
                // There is room for the one answer.
                let _ = tell.try_send(());
                engine.watch(id, Box::new(watch));
            }
        };
        let command = Command::Order(Order::of(act).unbounded());
        // If the server has ended the command is dropped, which tells.
        if shared.submit_from_elsewhere(command) == Err(SendError::Full) {
            return None;
        }
        let _ = told.recv_timeout(ANSWER_WAIT);
        Some(Ended { id, server: Arc::downgrade(shared), told, _wanted: wanted })
    }

    fn is_of(&self, shared: &Arc<Shared>) -> bool {
        Weak::as_ptr(&self.server) == Arc::as_ptr(shared)
    }

    /// Waits for the end, for this span at most. Returns whether it has come.
    fn has_come(&self, span: Duration) -> bool {
        let until = Instant::now().checked_add(span);
        loop {
            let left = until.map(|until| until.saturating_duration_since(Instant::now()));
            match self.told.recv_timeout(left.unwrap_or(Duration::MAX)) {
                // The answer to the question, which was late.
                Ok(()) => {}
                Err(RecvTimeoutError::Disconnected) => return true,
                Err(RecvTimeoutError::Timeout) => return false,
            }
        }
    }
}

thread_local! {
    /// What this thread has asked for last.
    static LAST: RefCell<Option<Ended>> = const { RefCell::new(None) };
}

/// How long a question waits for the answer of the loop.
const ANSWER_WAIT: Duration = Duration::from_secs(1);

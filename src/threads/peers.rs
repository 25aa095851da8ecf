//! What threads learn of peers, and have done where the handler of a peer runs.

use std::any::Any;
use std::time::Duration;

use crate::core::contract::event::{Command, Order, Visit};
use crate::core::contract::peer_info::PeerInfo;
use crate::core::engine::Engine;
use crate::core::topics::Payload;
use crate::threads::handle::{Handle, SendError, topic_of};
use crate::threads::peer::Peer;

impl Peer {
    /// Asks the loop what is known of the connection, and waits for the answer. `None` if the
    /// connection has ended, if no answer came within `wait`, or if the caller is a handler on the
    /// loop thread; that one finds the address in the request that opened the connection.
    ///
    /// It is the way to the peer's address and path on other threads: an idle connection keeps
    /// neither of them for its handler, which may keep what it needs of `Event::Opened`.
    pub fn info(&self, wait: Duration) -> Option<PeerInfo> {
        let id = self.id();
        let info = self.handle().ask(wait, |answerer| {
            let answer = move |engine: &mut Engine, now| answerer.tell(engine.peer_info(now, id));
            Command::Order(Order::of(answer).unbounded())
        });
        info.flatten()
    }

    /// Runs a job with the session of the connection's handler, where that handler runs: on a
    /// worker, or on the loop thread (`workers = 0`, inline routes). The job takes its turn behind
    /// the events that came before and never runs beside a call of the handler, so the session
    /// needs no lock. What it sends leaves as from the handler, and a panic closes the connection
    /// with 1011, as the handler's does.
    ///
    /// `S` is [`Handler::Session`](crate::Handler::Session); `()` for a closure. A job is dropped
    /// without having run, and counted among the stale commands, if the connection is not open any
    /// more when the loop takes the command, if it has no handler, if `limits.inbox_messages` jobs
    /// wait for it, or if the session is of another type. A job that waits when its connection ends
    /// runs before [`Handler::closed`](crate::Handler::closed); behind a panic it is dropped.
    ///
    /// ```
    /// use heartwheel::{Peer, SendError};
    ///
    /// struct Cart(Vec<String>);
    ///
    /// fn put(peer: &Peer, item: String) -> Result<(), SendError> {
    ///     let at = peer.clone();
    ///     peer.run(move |cart: &mut Cart| {
    ///         cart.0.push(item);
    ///         at.send(format!("{} items", cart.0.len()));
    ///     })
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`SendError::Full`] or [`SendError::Ended`]: the command was not taken.
    pub fn run<S: 'static>(
        &self,
        job: impl FnOnce(&mut S) + Send + 'static,
    ) -> Result<(), SendError> {
        let (id, handle) = (self.id(), self.handle().clone());
        let visit = Visit::of(move |session: &mut dyn Any| match session.downcast_mut() {
            Some(session) => job(session),
            None => {
                log::warn!("a job for id={id} is for a session of another type");
                let _ = handle.order(|engine, _| engine.stats_mut().commands_stale += 1);
            }
        });
        self.handle().order(move |engine, _| engine.visit(id, visit))
    }
}

impl Handle {
    /// Publishes to a topic, as [`Handle::publish`], but what the peer is subscribed to with this
    /// topic does not get the event: mostly because the peer has sent it. That holds for the event
    /// on its way. The topic retains it, so a client that comes back and asks for what it has
    /// missed gets it, and so does one that is still catching up with the topic; and if a log
    /// gives the ids, all subscribers get the event.
    ///
    /// ```
    /// use heartwheel::{Event, Peer};
    ///
    /// let room = |peer: &Peer, event: Event| match event {
    ///     Event::Opened(_) => drop(peer.subscribe("room")),
    ///     Event::Message(message) => {
    ///         let text = message.as_text().unwrap_or_default();
    ///         drop(peer.handle().publish_except(peer, "room", text));
    ///     }
    ///     _ => {}
    /// };
    /// # let _ = heartwheel::Server::builder().websocket("/room", room);
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Handle::publish`].
    pub fn publish_except(
        &self,
        peer: &Peer,
        topic: impl Into<String>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let (id, topic, payload) = (peer.id(), topic_of(topic)?, payload.into());
        let carried = topic.len() + payload.len();
        let act = move |engine: &mut Engine, now| engine.publish_except(now, id, &topic, payload);
        let order = Order::of(act);
        let bytes = order.bytes + carried;
        self.submit(Command::Order(Order { bytes, ..order }))
    }

    /// Walks all connections that are open: `take` is given what is known of each. The loop makes
    /// the list in slices of 64 at most and goes on between two of them, so one that ends before
    /// its slice is left out, and one that is opened meanwhile may be. Returns whether the walk is
    /// complete: not if a slice did not come within `wait`, or where [`Handle::vitals`] returns
    /// `None`.
    pub fn peers(&self, wait: Duration, mut take: impl FnMut(PeerInfo)) -> bool {
        let mut next = Some(0);
        while let Some(first) = next {
            let slice = self.ask(wait, |answerer| {
                let answer = move |engine: &mut Engine, now| {
                    answerer.tell(engine.peers_slice(now, first));
                };
                Command::Order(Order::of(answer).unbounded())
            });
            let Some((peers, place)) = slice else { return false };
            peers.into_iter().for_each(&mut take);
            next = place;
        }
        true
    }
}

//! Publications, and those that wait for a log which answers later:
//! [`backbone`](crate::core::contract::backbone) states the order of ids and of answers.
//!
//! If the server's own memory is the log, no publication waits. That costs one empty pointer, and
//! one byte in each connection.

mod book;

use std::borrow::Cow;

#[cfg(feature = "store")]
use crate::core::config::StoreAck;
use crate::core::connection::http::Pending;
use crate::core::connection::{Asking, Connection};
#[cfg(feature = "cluster")]
use crate::core::contract::backbone::Node;
use crate::core::contract::backbone::{Logged, Publication, Ticket};
use crate::core::engine::{Engine, find_mut, queue};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Author;
use crate::core::ground::time::Instant;
#[cfg(feature = "bridge")]
use crate::core::topics::ReaderKey;
use crate::core::topics::log::Log;
use crate::core::topics::{Content, EventId, Name, PublishError};
#[cfg(feature = "store")]
use crate::core::topics::{Kept, Past};
use crate::core::wire::http::{Refusal, Response};
use crate::core::wire::hub::{ErrorCode, ServerMessage};

#[cfg(feature = "bridge")]
use book::Asked;
pub use book::Followed;
use book::{Noted, TICKET_BYTES};

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Published {
    /// The event has its id, and is on its way to subscribers.
    Now(EventId),
    /// The log is asked. [`Engine::await_answer`] names the connection that is to be told.
    Later(Ticket),
}

/// Why nothing was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unpublished {
    /// No topic can have this name, or there are too many topics.
    Topic(PublishError),
    /// The log has as many publications to answer as may wait.
    Unavailable,
}

impl Unpublished {
    /// Returns it in words.
    pub fn sentence(self) -> &'static str {
        match self {
            Unpublished::Topic(error) => error.sentence(),
            Unpublished::Unavailable => BUSY,
        }
    }
}

impl From<PublishError> for Unpublished {
    fn from(error: PublishError) -> Unpublished {
        Unpublished::Topic(error)
    }
}

/// The publisher of a ticket.
#[derive(Debug)]
pub(super) enum Asker {
    /// A request, whose connection waits with it until it is answered.
    Post(ConnectionId),
    /// A client of `/ws`, with its `ref`.
    Hub(ConnectionId, Option<Box<str>>),
    /// A WebSocket of a topic, which is not told.
    Plain(ConnectionId),
    /// The application, which is not told.
    Application,
    /// The bridge of this reader, with its number.
    #[cfg(feature = "bridge")]
    Bridge(ReaderKey, u64),
}

/// The answer to a publisher.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Published(EventId),
    /// A hook has taken the event over.
    Taken,
    Refused(ErrorCode, Cow<'static, str>),
}

impl Asker {
    fn connection(&self) -> Option<ConnectionId> {
        match self {
            Asker::Post(id) | Asker::Hub(id, _) | Asker::Plain(id) => Some(*id),
            Asker::Application => None,
            #[cfg(feature = "bridge")]
            Asker::Bridge(..) => None,
        }
    }
}

impl Engine {
    /// Publishes without a check of rights. If a log answers later, [`Engine::await_answer`]
    /// follows.
    pub(super) fn publish(
        &mut self,
        now: Instant,
        topic: &str,
        content: impl Into<Content>,
    ) -> Result<Published, Unpublished> {
        let content = content.into();
        if self.queues.followed.tickets().is_some() {
            #[cfg(feature = "store")]
            if self.topics.is_keeping() {
                return self.publish_kept(now, topic, content);
            }
            return self.publish_later(now, topic, content);
        }
        self.publish_now(now, topic, content).map(Published::Now)
    }

    #[inline]
    fn publish_now(
        &mut self,
        now: Instant,
        topic: &str,
        content: Content,
    ) -> Result<EventId, Unpublished> {
        let added = log_bytes(&content);
        self.budget.add(added);
        let published = self.topics.publish(now, self.reports.date.unix_ms, topic, content);
        self.halve_logs(added);
        Ok(published?)
    }

    /// Publishes where the publishers of durable topics are answered when the store has the event.
    #[cfg(feature = "store")]
    #[cold]
    fn publish_kept(
        &mut self,
        now: Instant,
        topic: &str,
        content: Content,
    ) -> Result<Published, Unpublished> {
        if !self.topics.keeps(topic) {
            return self.publish_now(now, topic, content).map(Published::Now);
        }
        let carried = topic.len() + content.payload.len();
        let limit = self.budget.limit();
        let tickets = self.queues.followed.tickets();
        if !tickets.is_some_and(|tickets| tickets.has_room_for(carried + TICKET_BYTES, limit)) {
            self.stats.publishes_unavailable += 1;
            return Err(Unpublished::Unavailable);
        }
        let id = self.publish_now(now, topic, content)?;
        let Some(tickets) = self.queues.followed.tickets_mut() else {
            return Ok(Published::Now(id));
        };
        let ticket = tickets.insert(now, carried);
        tickets.kept.push_back(ticket);
        self.budget.add(carried + TICKET_BYTES);
        Ok(Published::Later(ticket))
    }

    /// Keeps the events of durable topics, and takes those that a store has of the processes before
    /// ([`Topics::keep`](crate::core::topics::Topics::keep)). From now on each such event is given
    /// out by [`Engine::poll_kept`]. Returns the first position of this process.
    #[cfg(feature = "store")]
    pub fn keep(&mut self, now: Instant, unix_ms: u64, past: Past) -> EventId {
        let store = &self.settings.config.store;
        let patterns = store.topics.clone();
        if store.ack == StoreAck::Flash {
            self.queues.followed.follow();
        }
        let is_durable = Box::new(move |topic: &str| patterns.name(topic));
        let first = self.topics.keep(now, unix_ms, past, is_durable);
        let added = self.topics.bytes();
        self.budget.add(added);
        self.halve_logs(added);
        first
    }

    /// Takes the next event for the store, in the order of ids, and the ticket that the store is to
    /// answer. To be called after each turn until it returns `None`.
    #[cfg(feature = "store")]
    pub fn poll_kept(&mut self) -> Option<(Kept, Option<Ticket>)> {
        let kept = self.topics.poll_kept()?;
        let tickets = self.queues.followed.tickets_mut();
        Some((kept, tickets.and_then(|tickets| queue::pop(&mut tickets.kept))))
    }

    /// Returns the position of a client that has seen everything published so far.
    #[cfg(feature = "store")]
    pub fn position(&self) -> EventId {
        self.topics.position()
    }

    /// Lets a log that answers later issue the ids; `last` is its last id. From now on each
    /// publication is given out by [`Engine::poll_publication`], and comes back by
    /// [`Command::Logged`](crate::core::contract::event::Command::Logged). To be called before the
    /// first event is published.
    #[cfg(feature = "backbone")]
    pub fn follow_log(&mut self, last: EventId) {
        self.topics.follow_log(last);
        self.queues.followed.follow();
    }

    /// Takes the next publication for the log, in the order of asking. To be called after each turn
    /// until it returns `None`.
    pub fn poll_publication(&mut self) -> Option<Publication> {
        let tickets = self.queues.followed.tickets_mut()?;
        let mut publication = queue::pop(&mut tickets.outgoing)?;
        let asked = tickets.find(publication.ticket);
        publication.known_by = asked.and_then(|asked| asked.known_by.clone());
        Some(publication)
    }

    /// Follows a log that is not reached yet, and may never be: a position of now is a gap when it
    /// is. To be called before the first event is published.
    #[cfg(feature = "cluster")]
    pub fn follow_log_when_reached(&mut self, now: Instant) {
        self.follow_log(EventId::new(0, 1));
        if let Some(tickets) = self.queues.followed.tickets_mut() {
            tickets.away_since = Some(now);
        }
    }

    /// Returns since when the log has not been reached; `None` if it is, or if there is none.
    #[cfg(feature = "cluster")]
    pub(super) fn log_away_since(&self) -> Option<Instant> {
        self.queues.followed.tickets()?.away_since
    }

    /// Returns the servers that share the log, as JSON: an array with a row on each line.
    #[cfg(feature = "cluster")]
    pub(super) fn nodes(&self, now: Instant) -> String {
        let told = self.queues.followed.tickets().and_then(|tickets| tickets.nodes.as_ref());
        let Some((told_at, nodes)) = told else { return "[]".into() };
        let age_ms = now.since(*told_at).as_millis() as u64;
        let is_there = |node: &&Node| node.seen_ms + age_ms <= NODE_SEEN_MS;
        let rows = nodes.iter().filter(is_there).map(|node| node.row(age_ms)).collect::<Vec<_>>();
        format!("[{}]", rows.join(",\n"))
    }

    /// Goes on with the log behind `first`: each subscriber is told a gap.
    #[cfg(feature = "cluster")]
    fn renew_log(&mut self, first: EventId) {
        for id in self.topics.renew_log(first) {
            match find_mut(&mut self.connections, id) {
                Some(connection) => {
                    connection.flags.feed.replays = true;
                    self.queues.hungry.push(connection);
                }
                None => self.wake_listener(id),
            }
        }
    }

    /// Publishes by a log that answers later.
    #[cold]
    pub(super) fn publish_later(
        &mut self,
        now: Instant,
        topic: &str,
        content: Content,
    ) -> Result<Published, Unpublished> {
        let added = log_bytes(&content);
        if Name::is_own(topic) {
            self.budget.add(added);
            let published = self.topics.publish_beside_log(now, topic, content.payload)?;
            self.halve_logs(added);
            return published.map(Published::Now).ok_or(Unpublished::Unavailable);
        }
        let name: Name = topic.parse().map_err(|_| PublishError::BadName)?;
        if !self.topics.has_room_for(topic) {
            return Err(PublishError::TopicsFull.into());
        }
        let bytes = name.len() + content.payload.len() + TICKET_BYTES;
        let limit = self.budget.limit();
        let tickets = self.queues.followed.tickets_mut();
        let Some(tickets) = tickets.filter(|tickets| tickets.has_room_for(bytes, limit)) else {
            self.stats.publishes_unavailable += 1;
            return Err(Unpublished::Unavailable);
        };
        let ticket = tickets.ask(now, name, content);
        self.budget.add(bytes);
        Ok(Published::Later(ticket))
    }

    /// Names the connection that is to be told the answer, behind the answers to its earlier
    /// publications. A connection for which as much waits as may wait for a handler is not read
    /// from.
    pub(super) fn await_answer(&mut self, ticket: Ticket, asker: Asker) {
        let Some(id) = asker.connection() else { return };
        let Some(tickets) = self.queues.followed.tickets_mut() else { return };
        tickets.name_asker(id, ticket, asker);
        self.update_asking(id);
    }

    /// Returns the bridge whose far side has published what this ticket is for.
    #[cfg(feature = "bridge")]
    fn bridge_of(&mut self, ticket: Option<Ticket>) -> Option<ReaderKey> {
        match self.queues.followed.tickets_mut()?.find(ticket?)?.asker {
            Asker::Bridge(key, _) => Some(key),
            _ => None,
        }
    }

    /// Names the bridge that is to be told the answer.
    #[cfg(feature = "bridge")]
    pub(super) fn name_bridge(&mut self, ticket: Ticket, asker: Asker) {
        let tickets = self.queues.followed.tickets_mut();
        if let Some(asked) = tickets.and_then(|tickets| tickets.find(ticket)) {
            asked.asker = asker;
        }
    }

    /// Lets a connection know whether it waits for answers, and whether it is read from meanwhile.
    fn update_asking(&mut self, id: ConnectionId) {
        if let Some(tickets) = self.queues.followed.tickets()
            && let Some(connection) = find_mut(&mut self.connections, id)
        {
            let limits = &self.settings.rules(connection).limits;
            connection.flags.asking = tickets.asking(id, limits);
        }
    }

    /// Lets a request wait for the answer to its publication.
    pub(super) fn await_post(&mut self, id: ConnectionId, ticket: Ticket, pending: Pending) {
        let Some(connection) = self.get_mut(id) else { return };
        connection.await_log(pending);
        self.await_answer(ticket, Asker::Post(id));
    }

    /// Lets a client of `/ws` send this publication again.
    pub(super) fn note_known_by(&mut self, ticket: Ticket, known_by: Option<(Author, i64)>) {
        let tickets = self.queues.followed.tickets_mut();
        if let Some(asked) = tickets.and_then(|tickets| tickets.find(ticket)) {
            asked.known_by = known_by;
        }
    }

    /// Returns a ticket with the same answer as that of another, for a publication that was sent
    /// again; `None` if that was answered before, or if no more may wait.
    pub(super) fn join_ticket(&mut self, now: Instant, first: Ticket) -> Option<Ticket> {
        let limit = self.budget.limit();
        let tickets = self.queues.followed.tickets_mut()?;
        if !tickets.has_room_for(TICKET_BYTES, limit) {
            return None;
        }
        let joined = tickets.join(now, first)?;
        self.budget.add(TICKET_BYTES);
        Some(joined)
    }

    /// Lets an answer wait behind the answers that a client of `/ws` waits for. Returns the answer
    /// if the client waits for none. Behind an answer that waits nothing more is read until the
    /// connection has been told another; so at most a few wait for each connection.
    pub(super) fn queue_answer(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reference: Option<&str>,
        answer: Answer,
    ) -> Option<Answer> {
        let is_asking = |connection: &Connection| connection.flags.asking != Asking::No;
        let waits = self.get(id).is_some_and(is_asking);
        let Some(tickets) = self.queues.followed.tickets_mut().filter(|_| waits) else {
            return Some(answer);
        };
        let carried = match &answer {
            Answer::Refused(_, sentence) => sentence.len(),
            Answer::Published(_) | Answer::Taken => 0,
        };
        let ticket = tickets.insert(now, carried);
        tickets.note_answer(ticket, answer);
        self.await_answer(ticket, Asker::Hub(id, reference.map(Box::from)));
        if let Some(connection) = self.get_mut(id) {
            connection.flags.asking = Asking::Enough;
        }
        None
    }

    /// Takes a message of the log.
    pub(super) fn handle_logged(&mut self, now: Instant, logged: Logged) {
        debug_assert!(self.queues.followed.tickets().is_some(), "the log is followed");
        if self.queues.followed.tickets().is_none() {
            return;
        }
        match logged {
            Logged::Event { ticket, id, topic, content } => {
                let added = log_bytes(&content);
                #[cfg(feature = "bridge")]
                let origin = self.bridge_of(ticket);
                #[cfg(feature = "bridge")]
                self.topics.set_origin(origin);
                if self.topics.take_logged(now, id, &topic, content) {
                    self.budget.add(added);
                    self.halve_logs(added);
                }
                #[cfg(feature = "bridge")]
                self.topics.set_origin(None);
                if let Some(ticket) = ticket {
                    self.answer_ticket(now, ticket, Answer::Published(id));
                }
            }
            Logged::Refused(ticket) => self.refuse_ticket(now, ticket, REFUSED),
            #[cfg(feature = "cluster")]
            Logged::Repeated(ticket, id) => {
                if self.answer_ticket(now, ticket, Answer::Published(id)) {
                    self.stats.publishes_repeated += 1;
                }
            }
            #[cfg(feature = "cluster")]
            Logged::Unknown(ticket) => self.leave_ticket(now, ticket),
            #[cfg(feature = "cluster")]
            Logged::Renewed(first) => self.renew_log(first),
            #[cfg(feature = "cluster")]
            Logged::Nodes(nodes) => {
                if let Some(tickets) = self.queues.followed.tickets_mut() {
                    tickets.nodes = Some((now, nodes));
                }
            }
            #[cfg(feature = "cluster")]
            Logged::Reached(is_reached) => {
                if let Some(tickets) = self.queues.followed.tickets_mut() {
                    let since = tickets.away_since.get_or_insert(now);
                    tickets.away_since = (!is_reached).then_some(*since);
                }
            }
            #[cfg(feature = "store")]
            Logged::Kept(ticket, Some(id)) => {
                self.answer_ticket(now, ticket, Answer::Published(id));
            }
            #[cfg(feature = "store")]
            Logged::Kept(ticket, None) => self.refuse_ticket(now, ticket, UNKEPT),
        }
    }

    /// Returns the moment at which the oldest publication has waited long enough, in whole ticks.
    pub(super) fn tickets_at(&self) -> Option<Instant> {
        self.queues.followed.tickets()?.due_at(self.settings.common_spans())
    }

    /// Refuses publications that the log has not answered in time, as many as the turn allows.
    pub(super) fn expire_tickets(&mut self, now: Instant, acts_left: &mut usize) {
        while *acts_left > 0
            && self.tickets_at().is_some_and(|at| at <= now)
            && let Some((ticket, _)) =
                self.queues.followed.tickets().and_then(|tickets| tickets.oldest())
        {
            *acts_left -= 1;
            self.leave_ticket(now, ticket);
        }
    }

    /// Refuses a publication that may be published all the same.
    fn leave_ticket(&mut self, now: Instant, ticket: Ticket) {
        // What is known of it stays as it is.
        self.note_known_by(ticket, None);
        self.refuse_ticket(now, ticket, LATE);
    }

    fn refuse_ticket(&mut self, now: Instant, ticket: Ticket, sentence: &'static str) {
        let answer = Answer::Refused(ErrorCode::Unavailable, sentence.into());
        if self.answer_ticket(now, ticket, answer) {
            self.stats.publishes_unavailable += 1;
        }
    }

    /// Answers a ticket; the answer may have to wait for earlier ones. Returns whether the ticket
    /// had no answer before.
    fn answer_ticket(&mut self, now: Instant, ticket: Ticket, answer: Answer) -> bool {
        let Some(noted) = self.note_answer(ticket, &answer) else { return false };
        let mut next = noted.joined;
        self.pass_answer(now, ticket, noted.connection);
        while let Some(ticket) = next.take() {
            let noted = self.note_answer(ticket, &answer);
            debug_assert!(noted.is_some(), "a ticket that has joined is not answered before");
            let Some(noted) = noted else { break };
            next = noted.joined;
            self.pass_answer(now, ticket, noted.connection);
        }
        true
    }

    /// Notes an answer, also for what the client may send again.
    fn note_answer(&mut self, ticket: Ticket, answer: &Answer) -> Option<Noted> {
        let noted = self.queues.followed.tickets_mut()?.note_answer(ticket, answer.clone())?;
        if let Some((author, number)) = &noted.known_by {
            let event = match answer {
                Answer::Published(event) => Some(*event),
                Answer::Taken | Answer::Refused(..) => None,
            };
            self.repeats.settle((author, *number), ticket, event);
        }
        Some(noted)
    }

    /// Passes the answer to a ticket on to its connection, with those that it held up.
    fn pass_answer(&mut self, now: Instant, ticket: Ticket, connection: Option<ConnectionId>) {
        let Some(id) = connection else {
            let tickets = self.queues.followed.tickets_mut();
            let asked = tickets.and_then(|tickets| tickets.remove(ticket));
            #[cfg(feature = "bridge")]
            if let Some(Asked { asker: Asker::Bridge(key, number), answer: Some(answer), .. }) =
                &asked
            {
                self.bridged.note_answer(*key, *number, answer);
            }
            drop(asked);
            return;
        };
        while let Some((asker, answer)) = self.poll_answer(id) {
            self.allowance.charge_answer();
            self.tell_answer(now, asker, answer);
        }
        self.advance(now, id);
    }

    /// Takes the next answer that a connection is to be told. It is read on if fewer publications
    /// than may wait are left.
    fn poll_answer(&mut self, id: ConnectionId) -> Option<(Asker, Answer)> {
        let tickets = self.queues.followed.tickets_mut()?;
        let next = tickets.poll_answer(id)?;
        self.update_asking(id);
        Some(next)
    }

    /// Tells an answer. If the connection has ended, the answer is dropped.
    fn tell_answer(&mut self, now: Instant, asker: Asker, answer: Answer) {
        match (asker, answer) {
            (Asker::Post(id), Answer::Published(event)) => {
                self.stats.messages_posted += 1;
                self.handle_answer(now, id, posted(event));
            }
            (Asker::Post(id), Answer::Taken) => self.handle_answer(now, id, taken()),
            (Asker::Post(id), Answer::Refused(_, sentence)) => {
                self.handle_answer(now, id, Refusal::new(503, sentence).into());
            }
            (Asker::Hub(id, reference), answer) => {
                self.tell_published(now, id, reference.as_deref(), answer);
            }
            (Asker::Plain(_) | Asker::Application, _) => {}
            #[cfg(feature = "bridge")]
            (Asker::Bridge(..), _) => {}
        }
    }

    /// Answers a publication of a client of `/ws`, if its connection has not ended.
    pub(super) fn tell_published(
        &mut self,
        now: Instant,
        id: ConnectionId,
        reference: Option<&str>,
        answer: Answer,
    ) {
        if !self.get(id).is_some_and(Connection::takes_messages) {
            return;
        }
        match answer {
            Answer::Published(event) => {
                let event = event.to_string();
                self.tell(now, id, &ServerMessage::Published { reference, id: Some(&event) });
            }
            Answer::Taken => self.tell(now, id, &ServerMessage::Published { reference, id: None }),
            Answer::Refused(code, sentence) => {
                let sentence = &sentence;
                self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
            }
        }
    }
}

/// Returns what an event takes in a log.
fn log_bytes(content: &Content) -> usize {
    let trace = content.trace.as_ref().map_or(0, |_| Log::TRACE_BYTES);
    content.payload.len() + Log::EVENT_BYTES + trace
}

/// Returns the answer to a POST whose event was published.
pub(super) fn posted(event: EventId) -> Response {
    Response::new(200).json(format!("{{\"id\":\"{event}\"}}"))
}

/// Returns the answer to a POST whose event a hook has taken over.
pub(super) fn taken() -> Response {
    Response::new(200).json("{\"id\":null}")
}

/// For how long a server is told that is not heard of.
#[cfg(feature = "cluster")]
const NODE_SEEN_MS: u64 = 30_000;

/// The sentence for a publication beyond what may wait.
const BUSY: &str = "the log has too much to answer: it was not published";
const REFUSED: &str = "the log did not take it: it was not published";
#[cfg(feature = "store")]
const UNKEPT: &str = "the store did not keep it: it is published, in memory alone";
const LATE: &str = "the log has not answered in time: it may be published all the same";

//! What subscribers get: replay, pulled as their outboxes drain, then live events, pushed as shared
//! frames. Each transport has its own form, encoded once for each event.

use std::collections::VecDeque;

use tungstenite::Bytes;

use crate::core::config::OverflowPolicy;
use crate::core::connection::allowance::Allowance;
use crate::core::connection::{Connection, Mark};
#[cfg(feature = "deflate")]
use crate::core::engine::compression::Serial;
use crate::core::engine::services::form;
use crate::core::engine::settings::Rules;
use crate::core::engine::{Engine, find_mut};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::outbox::{Kind, Outbox, Plan, Wanted, Yielding};
use crate::core::topics::{
    After, Delivery, Event, EventId, Gap, Payload, Replay, SubscribeError, SubscriptionKey,
    TOGETHER_MAX,
};
use crate::core::wire::encoded::Encoded;
use crate::core::wire::frame::Frame;
use crate::core::wire::hub::{self, ServerMessage};
use crate::core::wire::hub_cbor;
use crate::core::wire::message::Message;
use crate::core::wire::sse;
use crate::core::wire::ws;

/// How a connection is fed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A WebSocket of one topic: payloads alone.
    Plain,
    /// `/ws`: JSON messages.
    Hub,
    /// `/ws`: CBOR messages.
    #[cfg(feature = "cbor")]
    CborHub,
    /// An event stream of one topic.
    Stream,
    /// An event stream of several topics, which names them.
    NamedStream,
}

impl Form {
    /// How many there are.
    const COUNT: usize = Form::SOCKETS + 2;

    /// How many there are for WebSockets: the first ones.
    const SOCKETS: usize = 2 + cfg!(feature = "cbor") as usize;

    /// Returns whether it is one of `/ws`.
    pub fn is_hub(self) -> bool {
        match self {
            Form::Hub => true,
            #[cfg(feature = "cbor")]
            Form::CborHub => true,
            Form::Plain | Form::Stream | Form::NamedStream => false,
        }
    }
}

/// The encoded forms of the events that were delivered last, for the next subscribers.
#[derive(Debug, Default)]
pub(super) struct FormCache(VecDeque<EncodedEvent>);

#[derive(Debug)]
struct EncodedEvent {
    id: EventId,
    frames: [Option<Frame>; Form::COUNT],
    /// The compressed forms of those for WebSockets.
    #[cfg(feature = "deflate")]
    compressed: [Compressed; Form::SOCKETS],
}

/// What a form of an event is when it is compressed; `None` in it if it does not shrink.
#[cfg(feature = "deflate")]
#[derive(Debug, Default)]
pub(super) struct Compressed {
    /// By itself.
    pub alone: Option<Option<Frame>>,
    /// Behind the event before it.
    pub behind: Option<Behind>,
}

/// What an event is when it is compressed against another one.
#[cfg(feature = "deflate")]
#[derive(Debug)]
pub(super) struct Behind {
    /// The other one.
    pub last: Serial,
    /// The bytes of both.
    pub bytes: usize,
    /// The event; `None` if it does not shrink.
    pub frame: Option<Frame>,
}

impl FormCache {
    fn find(&self, id: EventId, form: Form) -> Option<&Frame> {
        let event = self.0.iter().rfind(|event| event.id == id)?;
        event.frames[form as usize].as_ref()
    }

    /// Keeps a form of an event beside those that go together with it.
    fn keep(&mut self, id: EventId, form: Form, frame: Frame) {
        if self.0.iter().all(|event| event.id != id) {
            if self.0.len() == TOGETHER_MAX {
                self.0.pop_front();
            }
            self.0.push_back(EncodedEvent {
                id,
                frames: [const { None }; Form::COUNT],
                #[cfg(feature = "deflate")]
                compressed: Default::default(),
            });
        }
        if let Some(event) = self.0.iter_mut().rfind(|event| event.id == id) {
            event.frames[form as usize] = Some(frame);
        }
    }

    /// Returns the compressed forms of an event that is kept itself.
    #[cfg(feature = "deflate")]
    pub fn compressed(&mut self, id: EventId, form: Form) -> Option<&mut Compressed> {
        let event = self.0.iter_mut().rfind(|event| event.id == id)?;
        event.compressed.get_mut(form as usize)
    }

    /// Returns the payloads of all frames.
    pub fn payloads(&self) -> impl Iterator<Item = &Bytes> {
        let frames = self.0.iter().flat_map(|event| event.frames.iter().flatten());
        #[cfg(feature = "deflate")]
        let frames = frames.chain(self.0.iter().flat_map(|event| {
            event.compressed.iter().flat_map(|forms| {
                let behind = forms.behind.iter().flat_map(|behind| &behind.frame);
                forms.alone.iter().flatten().chain(behind)
            })
        }));
        frames.map(Frame::payload)
    }

    /// Frees all events but the newest. To be called when no event is on its way.
    fn keep_newest(&mut self) {
        while self.0.len() > 1 {
            self.0.pop_front();
        }
    }
}

impl Engine {
    fn form(&self, connection: &Connection) -> Option<Form> {
        form(&self.settings.routes, connection)
    }

    /// Subscribes a connection, if it has not ended.
    pub(super) fn subscribe(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        after: After,
    ) -> Result<Option<SubscriptionKey>, SubscribeError> {
        let after = self.begin_inherited(id, topic, after);
        let Some(connection) = find_mut(&mut self.connections, id) else { return Ok(None) };
        let list = &mut connection.subscriptions;
        let subscribed = self.topics.subscribe(now, id, list, topic, after);
        let key = subscribed.inspect(|_| connection.flags.feed.replays = true);
        self.charge_looks();
        self.tell_audience();
        let key = key?;
        #[cfg(feature = "presence")]
        self.enter(now, id, key);
        if after != After::Now {
            let has_gap = self.topics.has_gap(key);
            self.stats.resumes_gap += u64::from(has_gap);
            self.stats.resumes_complete += u64::from(!has_gap);
        }
        Ok(Some(key))
    }

    pub(super) fn unsubscribe(&mut self, _now: Instant, id: ConnectionId, topic: &str) {
        #[cfg(feature = "presence")]
        self.leave(_now, id, topic);
        if let Some(connection) = find_mut(&mut self.connections, id)
            && let Some(key) = self.topics.find_subscription(&connection.subscriptions, topic)
        {
            self.topics.unsubscribe(&mut connection.subscriptions, key);
        }
        self.charge_looks();
        self.tell_audience();
    }

    pub(super) fn unsubscribe_all(&mut self, _now: Instant, id: ConnectionId) {
        #[cfg(feature = "presence")]
        self.leave_all(_now, id);
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.topics.unsubscribe_all(&mut connection.subscriptions);
            self.tell_audience();
        }
    }

    /// Goes on with the replay of a connection, as far as its outbox and the turn allow.
    pub(super) fn feed(&mut self, now: Instant, id: ConnectionId) {
        loop {
            let Some(connection) = self.get(id) else { return };
            let half = self.settings.rules(connection).limits.outbox_bytes / 2;
            if !connection.flags.feed.replays || connection.outbox.held_bytes() > half {
                return;
            }
            let Some(form) = self.form(connection) else { return };
            if self.allowance.is_spent() {
                return self.mark_hungry(id);
            }
            let Some((key, step)) = self.poll_replay(id, form) else {
                if let Some(connection) = self.get_mut(id) {
                    connection.flags.feed.replays = false;
                }
                return;
            };
            self.allowance.charge_message();
            match step {
                Replay::Event(event) => {
                    let frame = self.encode(form, key, &event, false);
                    self.push_frame(now, id, frame, Kind::Event(key, event.id));
                }
                Replay::Gap(gap) => self.tell_gap(now, id, form, key, gap),
                Replay::CaughtUp(last) if form.is_hub() => {
                    let topic = self.topics.topic_of(key).clone();
                    let last = last.to_string();
                    self.tell(now, id, &ServerMessage::Subscribed { topic: &topic, last: &last });
                }
                Replay::CaughtUp(_) => {}
            }
        }
    }

    fn poll_replay(&mut self, id: ConnectionId, form: Form) -> Option<(SubscriptionKey, Replay)> {
        let list = &find_mut(&mut self.connections, id)?.subscriptions;
        let step = match form {
            Form::NamedStream => self.topics.poll_replay_merged(list),
            _ => self.topics.poll_replay_next(list),
        };
        self.charge_looks();
        step
    }

    /// Charges the subscriptions that were looked at to the turn.
    pub(super) fn charge_looks(&mut self) {
        let looked_at = self.topics.take_looked_at();
        self.allowance.charge_looks(looked_at);
    }

    /// Hands live events to their subscribers, as far as the turn allows: an event for thousands
    /// takes several turns. Returns a connection to flush before the next call, `None` if there is
    /// none. Either it has been given all its events, or its outbox would overflow: after the flush
    /// only bytes count that really wait for the peer.
    pub fn deliver(&mut self, now: Instant) -> Option<ConnectionId> {
        self.publish_figures(now);
        #[cfg(feature = "presence")]
        self.tell_presence(now);
        self.halve_logs(0);
        if let Some(delivery) = self.queues.held.take() {
            let id = delivery.connection;
            if self.is_hungry(id) {
                // Its outbox waits for this turn's allowance, or waited for that of the last one.
                self.queues.held = Some(delivery);
                return self.take_hunger(id);
            }
            if self
                .get(id)
                .is_some_and(|peer| peer.marks.has(Mark::Dirty) && peer.flags.writing.has_room())
            {
                // Its client is told that the outbox has drained: that is to leave first.
                self.queues.held = Some(delivery);
                return Some(id);
            }
            self.deliver_one(now, &delivery, true);
        }
        while !self.allowance.is_spent()
            && let Some(delivery) = self.topics.poll_delivery()
        {
            self.allowance.charge_message();
            let (id, is_last) = (delivery.connection, delivery.is_last);
            debug_assert!(self.queues.held.is_none(), "events of a subscriber go in order");
            if !self.deliver_one(now, &delivery, false) {
                self.queues.held = Some(delivery);
                return Some(id);
            }
            if is_last && self.get(id).is_some_and(|connection| connection.flags.writing.has_room())
            {
                return Some(id);
            }
        }
        if self.topics.waiting_events() == 0 {
            self.spares.forms.keep_newest();
            self.excepted.clear();
        }
        while !self.allowance.is_spent()
            && let Some(id) = self.queues.hungry.pop(&mut self.connections)
        {
            self.weigh(now);
            if self.get(id).is_some_and(awaits_allowance) {
                return Some(id);
            }
            match self.is_listing(id) {
                true => self.list_on(now, id),
                false => self.feed(now, id),
            }
        }
        self.feed_listeners(now);
        if self.topics.next_sweep_at().is_some_and(|at| at <= now) {
            self.topics.sweep(now);
            self.repeats.expire(now);
        }
        None
    }

    /// Queues an event for its subscriber. Returns whether that is done. It is not done if the
    /// outbox would overflow, was not flushed just now, and has a socket that may take bytes.
    fn deliver_one(&mut self, now: Instant, delivery: &Delivery, was_flushed: bool) -> bool {
        let (id, key) = (delivery.connection, delivery.subscription);
        let Some(connection) = self.get(id) else {
            self.deliver_to_listener(now, delivery);
            return true;
        };
        let (waiting, is_writable) =
            (connection.outbox.held_bytes(), connection.flags.writing.has_room());
        let limit = self.settings.rules(connection).limits.outbox_bytes;
        let Some(form) = self.form(connection) else { return true };
        debug_assert!(!connection.subscriptions.is_none(), "it is subscribed");
        if self.excepted.has(delivery) {
            if delivery.gap {
                // It is told before the next event.
                self.mark_lost(id, key);
            }
            return true;
        }
        let frame = self.encode(form, key, &delivery.event, true);
        let overflows = waiting > 0 && waiting + frame.len() > limit;
        if overflows && is_writable && !was_flushed {
            return false;
        }
        // A loss is told when there is room again, so that messages about losses do not pile up.
        if !overflows || self.make_room(now, id, form, delivery, frame.len()) {
            if delivery.gap {
                let gap = Gap { first: Some(delivery.event.id) };
                self.tell_lost(now, id, form, key, gap);
            }
            if form == Form::NamedStream {
                self.tell_losses(now, id);
            }
            self.push_frame(now, id, frame, Kind::Event(key, delivery.event.id));
            if form.is_hub() {
                self.tell_pressure(now, id);
            }
        }
        true
    }

    /// Returns whether more waits to be delivered than a turn may read: then publishers have to
    /// wait.
    pub fn is_flooded(&self) -> bool {
        let (bytes, events) = (self.topics.waiting_bytes(), self.topics.waiting_events());
        let waiting = Allowance::cost_of_events(bytes, events);
        waiting > self.settings.config.turn.bytes
    }

    /// Returns whether a turn is for events that were left over, and not for reading. Every turn is
    /// while the engine is flooded, so that fast publishers are held up; else every second turn
    /// with events left.
    pub(super) fn is_delivery_first(&self) -> bool {
        self.is_flooded() || self.has_events_left() && !self.allowance.is_for_delivery()
    }

    /// Returns whether events wait for the next turn's allowance.
    pub(super) fn has_events_left(&self) -> bool {
        self.topics.has_deliveries()
            || self.queues.held.is_some()
            || !self.queues.hungry.is_empty()
            || self.listeners.has_hungry()
    }

    fn is_hungry(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| connection.marks.has(Mark::Hungry))
    }

    /// Returns the connection if it waits for an allowance and some is left, and ends its wait.
    fn take_hunger(&mut self, id: ConnectionId) -> Option<ConnectionId> {
        let has_allowance = !self.allowance.is_spent();
        let connection = self.get_mut(id)?;
        (has_allowance && connection.marks.clear(Mark::Hungry)).then_some(id)
    }

    pub(super) fn mark_hungry(&mut self, id: ConnectionId) {
        if let Some(connection) = find_mut(&mut self.connections, id) {
            self.queues.hungry.push(connection);
        }
    }

    /// Tells that events are missing. A plain WebSocket has no message for it.
    fn tell_gap(
        &mut self,
        now: Instant,
        id: ConnectionId,
        form: Form,
        key: SubscriptionKey,
        gap: Gap,
    ) {
        self.stats.gaps += 1;
        let first = gap.first.map(|first| first.to_string());
        let first = first.as_deref();
        let topic = self.topics.topic_of(key).clone();
        match encode_gap(form, &topic, first) {
            Some(frame) => self.push_frame(now, id, frame, Kind::Gap(key)),
            None => self.tell_plain_gap(now, id),
        }
    }

    /// Tells that live events were dropped; on a transport without such a message, only counts it.
    fn tell_lost(
        &mut self,
        now: Instant,
        id: ConnectionId,
        form: Form,
        key: SubscriptionKey,
        gap: Gap,
    ) {
        match form {
            Form::Plain => self.stats.gaps += 1,
            _ => self.tell_gap(now, id, form, key, gap),
        }
    }

    /// Tells losses that were not told yet, without knowing what follows. When the outbox has
    /// drained, since nothing may follow; and on a stream of several topics before an event of any
    /// topic, since a client that comes back with that event's id does not ask for older ones.
    pub(super) fn tell_losses(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get_mut(id) else { return };
        if !std::mem::take(&mut connection.flags.feed.has_lost) {
            return;
        }
        let mut behind = None;
        while let Some(connection) = find_mut(&mut self.connections, id)
            && let Some(form) = form(&self.settings.routes, connection)
            && let Some(key) = self.topics.poll_lost(&connection.subscriptions, behind)
        {
            self.allowance.charge_message();
            self.tell_lost(now, id, form, key, Gap { first: None });
            behind = Some(key);
        }
        self.charge_looks();
    }

    /// The gap that a replay begins with was a header of the 101, or was counted; one that comes
    /// later ends the connection, unless the policy drops.
    fn tell_plain_gap(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        if self.settings.rules(connection).overflow == OverflowPolicy::Close {
            self.fail(now, id, CloseReason::Overflow);
        }
    }

    /// Sends a message of `/ws`.
    pub(super) fn tell(&mut self, now: Instant, id: ConnectionId, message: &ServerMessage<'_>) {
        let message = self.encode_for(id, message);
        self.push_message(now, id, message);
    }

    /// Encodes a message of `/ws` as its client speaks.
    pub(super) fn encode_for(&self, id: ConnectionId, message: &ServerMessage<'_>) -> Message {
        match self.get(id).is_some_and(Connection::speaks_cbor) {
            true => Message::binary(hub_cbor::encode(message)),
            false => Message::text(message.encode()),
        }
    }

    /// Sends an encoded message.
    pub(super) fn push_message(&mut self, now: Instant, id: ConnectionId, message: Message) {
        self.push_frame(now, id, ws::encoder::message(message), Kind::Message);
    }

    /// Tells a client of `/ws` that the server closes, and when to come back.
    pub(super) fn say_goodbye(&mut self, now: Instant, id: ConnectionId, retry_ms: u64) {
        let form = self.get(id).and_then(|connection| self.form(connection));
        if form.is_some_and(Form::is_hub) {
            self.tell(now, id, &ServerMessage::Goaway { retry_ms });
        }
    }

    /// Tells a client of `/ws` when its outbox fills up, and when it has drained.
    pub(super) fn tell_pressure(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        let limit = self.settings.rules(connection).limits.outbox_bytes as u64;
        // A message about pressure causes none: with a small limit each would cause the next.
        let waiting = connection.outbox.held_bytes().saturating_sub(PRESSURE_WORD_BYTES) as u64;
        let before = connection.flags.feed.pressure;
        let level = match waiting * 100 / limit {
            _ if connection.outbox.is_empty() => 0,
            51.. if before < 1 => 1,
            76.. if before < 2 => 2,
            91.. if before < 3 => 3,
            _ => before,
        };
        if level != before && self.form(connection).is_some_and(Form::is_hub) {
            if let Some(connection) = self.get_mut(id) {
                connection.flags.feed.pressure = level;
            }
            self.tell(now, id, &ServerMessage::Pressure { level });
        }
    }

    /// Makes room for an event, as the overflow policy says. Returns whether to queue the event.
    fn make_room(
        &mut self,
        now: Instant,
        id: ConnectionId,
        form: Form,
        delivery: &Delivery,
        len: usize,
    ) -> bool {
        let Some(connection) = self.get(id) else { return false };
        let &Rules { overflow: policy, ref limits, .. } = self.settings.rules(connection);
        let limit = limits.outbox_bytes;
        let yielding = match policy {
            OverflowPolicy::Close => {
                self.count_refused(policy);
                self.fail(now, id, CloseReason::Overflow);
                return false;
            }
            OverflowPolicy::DropNewest => {
                self.drop_newest(id, delivery);
                return false;
            }
            OverflowPolicy::DropOldest => Yielding::Oldest,
            OverflowPolicy::Latest => Yielding::Superseded,
        };
        let subscription = delivery.subscription;
        let wanted = Wanted { subscription, id: delivery.event.id, len, limit, yielding };
        let plan = connection.outbox.plan_room(&wanted, |key| {
            let topic = self.topics.topic_for(id, key);
            let word = topic.and_then(|topic| encode_gap(form, topic, Some(LONGEST_ID)));
            word.map_or(0, |word| word.len() + Outbox::ENTRY_BYTES)
        });
        self.allowance.charge_looks(plan.looked_at);
        // The newest event of each topic stays, and nothing is dropped unless that makes enough
        // room.
        if !plan.is_enough && yielding == Yielding::Oldest {
            self.drop_newest(id, delivery);
            return false;
        }
        self.drop_planned(now, id, form, &plan);
        true
    }

    /// Drops an event. The loss is told before the next event, or when the outbox has drained.
    fn drop_newest(&mut self, id: ConnectionId, delivery: &Delivery) {
        self.count_refused(OverflowPolicy::DropNewest);
        self.mark_lost(id, delivery.subscription);
    }

    /// Tells each gap in place of the dropped events, or before the next event if none follows yet.
    /// On `/ws` always in place: a `subscribed` behind it says that nothing before it is missing.
    fn drop_planned(&mut self, now: Instant, id: ConnectionId, form: Form, plan: &Plan) {
        let policy = self.settings.config.overflow.policy;
        self.stats.messages_discarded[policy as usize] += plan.events;
        self.stats.discarded_bytes += plan.bytes as u64;
        let mut words = Vec::with_capacity(plan.losses.len());
        for loss in &plan.losses {
            if loss.next.is_none() && !form.is_hub() {
                self.mark_lost(id, loss.subscription);
                words.push(None);
                continue;
            }
            // A subscription that has ended meanwhile misses nothing.
            let topic = self.topics.topic_for(id, loss.subscription);
            let first = loss.next.map(|first| first.to_string());
            let word = topic.and_then(|topic| encode_gap(form, topic, first.as_deref()));
            let connection = self.get(id);
            let word = word.zip(connection).map(|(word, connection)| connection.framed(word));
            self.stats.gaps += u64::from(word.is_some() && !loss.is_told);
            self.stats.queued_bytes += word.as_ref().map_or(0, Frame::len) as u64;
            words.push(word);
        }
        if let Some(connection) = find_mut(&mut self.connections, id) {
            connection.outbox.drop_planned(now, plan, words);
        }
    }

    /// Notes that an event of a subscription did not go out. A gap is told before the next event,
    /// or when the outbox has drained.
    fn mark_lost(&mut self, id: ConnectionId, key: SubscriptionKey) {
        self.topics.mark_lost(id, key);
        if let Some(connection) = self.get_mut(id) {
            connection.flags.feed.has_lost = true;
        }
    }

    /// Encodes an event for a form, once.
    fn encode(&mut self, form: Form, key: SubscriptionKey, event: &Event, is_live: bool) -> Frame {
        if let Some(frame) = self.spares.forms.find(event.id, form) {
            return frame.clone();
        }
        let topic = self.topics.topic_of(key);
        let frame = encode(form, topic, event).joined_if_small();
        self.budget.add(frame.made_bytes());
        // Each byte of the payload was looked at, and what it has grown by was written.
        let grown = if frame.text().is_none() {
            frame.len().saturating_sub(event.payload.len())
        } else {
            0
        };
        self.allowance.charge_event(event.payload.len(), grown);
        // A replay during a fan-out would displace the forms that live subscribers are yet to get.
        match self.topics.waiting_events() {
            0 => {
                self.spares.forms.keep(event.id, form, frame.clone());
                self.spares.forms.keep_newest();
            }
            _ if is_live => self.spares.forms.keep(event.id, form, frame.clone()),
            _ => {}
        }
        frame
    }
}

/// The bytes, at most, of an outbox that holds two messages about pressure and nothing else.
const PRESSURE_WORD_BYTES: usize = Outbox::ENTRY_BYTES + 64;

/// No id takes more room than this one.
const LONGEST_ID: &str = "18446744073709551615-18446744073709551615";

/// Returns whether what a connection is to write waited for the allowance of a turn.
fn awaits_allowance(connection: &Connection) -> bool {
    #[cfg(feature = "deflate")]
    if connection.flags.writing.is_compressed() && connection.flags.writing.has_room() {
        return !connection.outbox.is_empty();
    }
    connection.outbox.is_encoding()
}

/// Encodes a message about a gap. `None` for a plain WebSocket, which has no such message.
fn encode_gap(form: Form, topic: &str, first: Option<&str>) -> Option<Frame> {
    match form {
        Form::Plain => None,
        Form::Hub => {
            let gap = ServerMessage::Gap { topic, first };
            Some(ws::encoder::message(Message::text(gap.encode())))
        }
        #[cfg(feature = "cbor")]
        Form::CborHub => {
            let gap = ServerMessage::Gap { topic, first };
            Some(ws::encoder::message(Message::binary(hub_cbor::encode(&gap))))
        }
        Form::Stream => Some(Frame::chunk(sse::gap(None, first))),
        Form::NamedStream => Some(Frame::chunk(sse::gap(Some(topic), first))),
    }
}

pub(super) fn encode(form: Form, topic: &str, event: &Event) -> Frame {
    let id = event.id.to_string();
    let text = |around| Encoded::new(around, event.payload.clone().into_bytes());
    let payload = payload(&event.payload);
    let stream = |name| {
        // Neither an id nor the name of a topic bears what a line could not.
        let around = sse::event_around(&id, name, payload);
        around.map_or(Frame::raw(""), |around| Frame::encoded(&[], text(around).into_chunk(false)))
    };
    match form {
        Form::Plain => ws::encoder::message(match event.payload.clone() {
            Payload::Text(text) | Payload::Json(text) => Message::Text(text),
            Payload::Binary(bytes) => Message::Binary(bytes),
        }),
        Form::Hub => {
            let around = hub::event_around(topic, &id, payload, event.trace.as_ref());
            ws::encoder::text(text(around))
        }
        #[cfg(feature = "cbor")]
        Form::CborHub => {
            let around = hub_cbor::event_around(topic, &id, payload, event.trace.as_ref());
            ws::encoder::binary(text(around))
        }
        Form::Stream => stream(None),
        Form::NamedStream => stream(Some(topic)),
    }
}

/// Lends a payload to an encoder.
pub(super) fn payload(payload: &Payload) -> crate::core::wire::payload::Payload<'_> {
    match payload {
        Payload::Text(text) => crate::core::wire::payload::Payload::Text(text),
        Payload::Json(json) => crate::core::wire::payload::Payload::Json(json),
        Payload::Binary(bytes) => crate::core::wire::payload::Payload::Binary(bytes),
    }
}

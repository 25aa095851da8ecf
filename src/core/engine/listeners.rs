//! Subscribers of the application's own. Each is given live events as they are delivered. One that
//! does not keep up goes back to the log, from where it is fed when there is room again: so it
//! misses only what the log has evicted, and is told that as a gap.

use std::collections::{BTreeMap, VecDeque};

use crate::core::contract::listener::{Heard, Listener};
use crate::core::engine::Engine;
use crate::core::ground::id::{ConnectionId, Generation};
use crate::core::ground::time::Instant;
use crate::core::topics::log::Log;
use crate::core::topics::{
    After, Delivery, Event, EventId, FirstSubscription, Gap, Read, Replay, SubscriptionKey,
};

/// All subscribers of the application's own.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    by_number: BTreeMap<u32, Subscriber>,
    /// Those whose replay goes on when the turn allows it.
    hungry: VecDeque<u32>,
    /// What is done for them, once there is one: a program that has none does not carry it.
    hooks: Option<&'static Hooks>,
}

#[derive(Debug)]
struct Hooks {
    deliver: fn(&mut Engine, Instant, &Delivery),
    feed: fn(&mut Engine, Instant, u32),
    bytes: fn(&Listeners) -> usize,
    end: fn(&mut Engine, Instant),
}

static HOOKS: Hooks = Hooks {
    deliver: Engine::deliver_to_listener_there,
    feed: Engine::feed_listener,
    bytes: Listeners::sum,
    end: Engine::end_listeners_there,
};

#[derive(Debug)]
struct Subscriber {
    list: FirstSubscription,
    key: SubscriptionKey,
    /// It has been given everything up to this id.
    position: EventId,
    listener: Box<dyn Listener>,
}

impl Listeners {
    /// Returns whether one of them waits for the next turn's allowance.
    #[inline]
    pub fn has_hungry(&self) -> bool {
        !self.hungry.is_empty()
    }

    /// Returns the bytes of what waits with them.
    pub fn bytes(&self) -> usize {
        self.hooks.map_or(0, |hooks| (hooks.bytes)(self))
    }

    fn sum(&self) -> usize {
        self.by_number.values().map(|subscriber| subscriber.listener.bytes()).sum()
    }
}

impl Engine {
    /// Subscribes a listener. The caller numbers them, and bounds how many there are.
    pub fn listen(
        &mut self,
        now: Instant,
        number: u32,
        topic: &str,
        after: After,
        mut listener: Box<dyn Listener>,
    ) {
        let mut list = FirstSubscription::NONE;
        let subscribed = self.topics.subscribe(now, id_of(number), &mut list, topic, after);
        self.charge_looks();
        self.tell_audience();
        let Ok(key) = subscribed else {
            self.stats.publishes_refused += 1;
            return listener.refuse();
        };
        let position = self.topics.position();
        self.listeners.hooks = Some(&HOOKS);
        let subscriber = Subscriber { list, key, position, listener };
        self.listeners.by_number.insert(number, subscriber);
        self.feed_listener(now, number);
    }

    /// Ends the subscription of a listener, if it has not ended.
    pub fn unlisten(&mut self, number: u32) {
        if let Some(mut subscriber) = self.listeners.by_number.remove(&number) {
            self.topics.unsubscribe_all(&mut subscriber.list);
            self.tell_audience();
        }
    }

    /// Returns the newest event of a topic; `None` if none is retained.
    pub fn newest_event(&mut self, now: Instant, topic: &str) -> Option<Event> {
        self.topics.latest(now, topic)
    }

    /// Reads the retained events of a topic.
    pub fn read_events(&mut self, now: Instant, topic: &str, after: After) -> Read<'_> {
        self.topics.read_after(now, topic, after)
    }

    /// Goes on with the replay of a listener, as far as there is room and the turn allows.
    pub fn feed_listener(&mut self, now: Instant, number: u32) {
        while let Some(subscriber) = self.listeners.by_number.get_mut(&number)
            && !self.topics.is_live(subscriber.key)
            && (subscriber.listener.has_room() || subscriber.listener.await_room())
        {
            if self.allowance.is_spent() {
                return self.listeners.hungry.push_back(number);
            }
            self.allowance.charge_message();
            let Some(replay) = self.topics.poll_replay(subscriber.key) else { return };
            self.take_replayed(now, number, replay);
        }
    }

    fn take_replayed(&mut self, now: Instant, number: u32, replay: Replay) {
        let Some(subscriber) = self.listeners.by_number.get_mut(&number) else { return };
        match replay {
            Replay::Event(event) => {
                subscriber.position = event.id;
                self.tell_listener(now, number, Heard::Event(event));
            }
            Replay::Gap(gap) => self.tell_listener(now, number, Heard::Gap(gap)),
            Replay::CaughtUp(last) => subscriber.position = last,
        }
    }

    /// Lets the replay of a listener go on, if the subscriber is one.
    #[cfg(feature = "cluster")]
    pub(super) fn wake_listener(&mut self, id: ConnectionId) {
        self.listeners.hungry.extend(number_of(id));
    }

    /// Goes on with the replays that waited for this turn.
    #[inline]
    pub(super) fn feed_listeners(&mut self, now: Instant) {
        while !self.allowance.is_spent()
            && let Some(hooks) = self.listeners.hooks
            && let Some(number) = self.listeners.hungry.pop_front()
        {
            (hooks.feed)(self, now, number);
        }
    }

    /// Gives every listener what the log still has for it, however much waits there already: the
    /// server ends, and nothing is published any more. Payloads are shared with the log.
    pub fn end_listeners(&mut self, now: Instant) {
        if let Some(hooks) = self.listeners.hooks {
            (hooks.end)(self, now);
        }
    }

    fn end_listeners_there(&mut self, now: Instant) {
        let numbers: Vec<u32> = self.listeners.by_number.keys().copied().collect();
        for number in numbers {
            if let Some(subscriber) = self.listeners.by_number.get_mut(&number)
                && self.topics.is_live(subscriber.key)
            {
                // Events may be on their way: the log has them behind this one.
                self.go_back_to_log(now, number);
            }
            while let Some(subscriber) = self.listeners.by_number.get_mut(&number)
                && !self.topics.is_live(subscriber.key)
                && let Some(replay) = self.topics.poll_replay(subscriber.key)
            {
                self.take_replayed(now, number, replay);
            }
        }
    }

    /// Gives a live event to a listener, if the subscription is one's.
    #[cold]
    pub(super) fn deliver_to_listener(&mut self, now: Instant, delivery: &Delivery) {
        if let Some(hooks) = self.listeners.hooks {
            (hooks.deliver)(self, now, delivery);
        }
    }

    fn deliver_to_listener_there(&mut self, now: Instant, delivery: &Delivery) {
        let Some(number) = number_of(delivery.connection) else { return };
        let Some(subscriber) = self.listeners.by_number.get_mut(&number) else { return };
        if subscriber.listener.has_room() || subscriber.listener.await_room() {
            debug_assert!(!delivery.gap, "it goes back to the log instead");
            subscriber.position = delivery.event.id;
            return self.tell_listener(now, number, Heard::Event(delivery.event.clone()));
        }
        // Also the events that are on their way: the log has them behind this one.
        self.go_back_to_log(now, number);
    }

    /// Lets the log replay what a live listener has not been given.
    fn go_back_to_log(&mut self, now: Instant, number: u32) {
        let Some(subscriber) = self.listeners.by_number.get_mut(&number) else { return };
        let topic = self.topics.topic_of(subscriber.key).clone();
        let after = After::Position(subscriber.position);
        let list = &mut subscriber.list;
        let again = self.topics.subscribe(now, id_of(number), list, &topic, after);
        debug_assert_eq!(again, Ok(subscriber.key), "it is subscribed");
        self.charge_looks();
    }

    fn tell_listener(&mut self, now: Instant, number: u32, heard: Heard) {
        let Some(subscriber) = self.listeners.by_number.get_mut(&number) else { return };
        match &heard {
            Heard::Event(event) => self.budget.add(event.payload.len() + Log::EVENT_BYTES),
            Heard::Gap(Gap { .. }) => self.stats.gaps += 1,
        }
        if !subscriber.listener.take(heard) {
            self.unlisten(number);
        }
        self.weigh(now);
    }
}

/// Returns the id under which topics know a listener: no server has as many connections.
fn id_of(number: u32) -> ConnectionId {
    ConnectionId::new(LISTENER_SLOT, Generation::from_bits(u64::from(number) + 1))
}

fn number_of(id: ConnectionId) -> Option<u32> {
    let generation = (id.key() == LISTENER_SLOT).then_some(id.as_u64() >> 24)?;
    u32::try_from(generation - 1).ok()
}

const LISTENER_SLOT: usize = ConnectionId::SLOTS_MAX - 2;

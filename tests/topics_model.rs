//! Topics against a model that never forgets: every event ever published, by any process.
//!
//! Clients subscribe with the last position they know, or with garbage, replay step by step and
//! then live, lose their connection anywhere, and come back. Meanwhile others publish, events are
//! evicted for every reason, deliveries are dropped by a policy, the clock steps, and the server is
//! restarted with nothing but a new process number. What each client has received of a topic must
//! be what was published after its position, once and in order; where it is not, a gap must have
//! been told first. And a gap is not told to one whose position the server can know to be good.
//!
//! Some clients keep a position for each topic, as on `/ws`; others one for all their topics, as an
//! event stream's Last-Event-ID.
//!
//! `SEED=` runs one program, `ROUNDS=` sets how many there are.

#[path = "common/rng.rs"]
mod rng;

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::time::Duration;

use heartwheel::ConnectionId;
use heartwheel::core::ground::time::Instant;
use heartwheel::topics::{
    After, Event, EventId, FirstSubscription, Payload, PublishError, Replay, Rules,
    SubscriptionKey, Topics,
};

use rng::Rng;

const NAMES: [&str; 4] = ["a", "b", "c", "$d"];

struct World {
    topics: Topics,
    rules: Rules,
    now_ms: u64,
    unix_ms: u64,
    process: u16,
    /// The newest id there was when this process began: its own ids are greater.
    began: EventId,
    /// All that was ever published, by topic, in order; the payload is the text's number.
    history: BTreeMap<&'static str, Vec<EventId>>,
    /// Whether anything may have been evicted in this process; the model does not know what.
    evictions_possible: bool,
    clients: Vec<Client>,
    connections: u64,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    received: u64,
    gaps: u64,
    dropped: u64,
    resumed: u64,
}

/// A client remembers what it last heard, over connections and restarts of the server.
struct Client {
    style: Style,
    connection: Option<Connection>,
    /// By topic: what it knows.
    known: BTreeMap<&'static str, Known>,
    /// One position in all topics, for `Style::Merged`.
    last_id: Option<EventId>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Style {
    EachTopic,
    Merged,
}

struct Connection {
    id: ConnectionId,
    list: FirstSubscription,
    subscriptions: BTreeMap<SubscriptionKey, &'static str>,
    /// The last event received on it.
    heard: EventId,
}

/// What a client knows of a topic.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Up to here it has everything.
    upto: EventId,
    /// The last event since it subscribed.
    heard: EventId,
    /// A gap was told, and no event since.
    excused: bool,
    /// An event was dropped, and no gap told since.
    lost: bool,
}

impl Known {
    fn upto(upto: EventId) -> Known {
        Known { upto, heard: EventId::ZERO, excused: false, lost: false }
    }
}

impl World {
    fn new(rng: &mut Rng) -> World {
        let rules = Rules {
            retain_events: pick(rng, &[0, 1, 3, 20, 1000]),
            retain_bytes: pick(rng, &[0, 10, 100, 100_000]),
            retain_for: Duration::from_millis(pick(rng, &[1, 500, 20_000, 1_000_000])),
            topics_max: pick(rng, &[3, 4, 4]),
            subscriptions_max: pick(rng, &[2, 4]),
        };
        let process = rng.below(1 << 16) as u16;
        let unix_ms = 1_000_000;
        let clients = (0..6).map(|n| Client {
            style: if n % 2 == 0 { Style::EachTopic } else { Style::Merged },
            connection: None,
            known: BTreeMap::new(),
            last_id: None,
        });
        World {
            topics: Topics::new(rules.clone(), process, unix_ms),
            now_ms: 0,
            unix_ms,
            process,
            began: EventId::ZERO,
            history: NAMES.iter().map(|&name| (name, Vec::new())).collect(),
            evictions_possible: World::may_evict(&rules),
            clients: clients.collect(),
            connections: 0,
            counts: Counts::default(),
            rules,
        }
    }

    fn may_evict(rules: &Rules) -> bool {
        rules.retain_events < 1000 || rules.retain_bytes < 100_000
    }

    fn step(&mut self, rng: &mut Rng) {
        let client = rng.below(self.clients.len() as u64) as usize;
        match rng.below(100) {
            0..30 => self.publish(rng),
            30..40 => self.connect(client, rng),
            40..43 => self.disconnect(client),
            43..46 => self.unsubscribe_one(client, rng),
            46..62 => self.replay(client, rng.below(6)),
            62..88 => self.deliver(rng),
            88..94 => self.pass_time(rng),
            94..97 => self.evict(rng),
            97 => self.step_clock(rng),
            98 if rng.chance(20) => self.restart(rng),
            _ => {}
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.now_ms)
    }

    fn publish(&mut self, rng: &mut Rng) {
        let name = pick(rng, &NAMES);
        let payload = Payload::text("x".repeat(rng.below(30) as usize));
        let before = self.topics.position();
        match self.topics.publish(self.now(), self.unix_ms, name, payload) {
            Ok(id) => {
                assert!(id > before, "ids increase");
                assert_eq!((id, id.process()), (self.topics.position(), self.process));
                self.history.get_mut(name).unwrap().push(id);
            }
            Err(error) => {
                assert_eq!(error, PublishError::TopicsFull);
                assert_eq!(self.topics.len(), self.rules.topics_max);
            }
        }
    }

    /// Subscribes to a topic on the connection there is, or connects.
    fn connect(&mut self, client: usize, rng: &mut Rng) {
        if self.clients[client].connection.is_none() {
            self.connections += 1;
            let number = NonZeroU64::new(self.connections << 24 | client as u64).unwrap();
            self.clients[client].connection = Some(Connection {
                id: ConnectionId::from_u64(number),
                list: FirstSubscription::NONE,
                subscriptions: BTreeMap::new(),
                heard: EventId::ZERO,
            });
            if self.clients[client].style == Style::Merged {
                let last_id = self.clients[client].last_id;
                let after = self.draw_after(last_id, rng);
                let first = rng.below(4) as usize;
                for n in 0..=rng.below(3) as usize {
                    self.subscribe(client, NAMES[(first + n) % 4], after);
                }
                return;
            }
        }
        if self.clients[client].style == Style::EachTopic {
            let name = pick(rng, &NAMES);
            let upto = self.clients[client].known.get(name).map(|known| known.upto);
            let after = self.draw_after(upto, rng);
            self.subscribe(client, name, after);
        }
    }

    fn draw_after(&mut self, position: Option<EventId>, rng: &mut Rng) -> After {
        match (rng.below(20), position) {
            (0, _) => After::Garbage,
            (1, _) => After::Position(EventId::new(rng.below(2_000_000), rng.next_u64() >> 30)),
            (2, _) => After::Position(EventId::ZERO),
            (3, _) => After::Now,
            (_, Some(position)) => {
                self.counts.resumed += 1;
                After::parse(&position.to_string())
            }
            (_, None) => After::Now,
        }
    }

    fn subscribe(&mut self, client: usize, name: &'static str, after: After) {
        let now = self.now();
        let client = &mut self.clients[client];
        let connection = client.connection.as_mut().unwrap();
        let had = self.topics.find_subscription(&connection.list, name);
        let subscribed =
            self.topics.subscribe(now, connection.id, &mut connection.list, name, after);
        let Ok(key) = subscribed else {
            let is_full = connection.subscriptions.len() == self.rules.subscriptions_max
                || self.topics.len() == self.rules.topics_max;
            assert!(had.is_none() && is_full);
            return;
        };
        assert!(had.is_none_or(|had| had == key), "begins again under its key");
        connection.subscriptions.insert(key, name);
        // From the beginning means of this process.
        let upto = match after {
            After::Now => self.topics.position(),
            After::Position(EventId::ZERO) => self.began,
            After::Position(position) => position,
            After::Garbage => EventId::ZERO,
        };
        client.known.insert(name, Known::upto(upto));
        if !self.evictions_possible && had.is_none() {
            let must_be_good = match after {
                After::Now => true,
                After::Garbage => false,
                After::Position(position) => self.is_own(position),
            };
            let mut probe = FirstSubscription::NONE;
            let id = ConnectionId::from_u64(NonZeroU64::MAX);
            if let Ok(key) = self.topics.subscribe(now, id, &mut probe, name, after) {
                let is_gap = matches!(self.topics.poll_replay(key), Some(Replay::Gap(_)));
                assert!(!(is_gap && must_be_good), "told needlessly: {after:?}");
                self.topics.unsubscribe_all(&mut probe);
            }
        }
    }

    fn is_own(&self, position: EventId) -> bool {
        let is_issued = self.history.values().flatten().any(|&id| id == position);
        position == EventId::ZERO
            || is_issued && position > self.began && position.process() == self.process
    }

    fn disconnect(&mut self, client: usize) {
        if let Some(mut connection) = self.clients[client].connection.take() {
            self.topics.unsubscribe_all(&mut connection.list);
            assert!(connection.list.is_none());
        }
    }

    fn unsubscribe_one(&mut self, client: usize, rng: &mut Rng) {
        let Some(connection) = &mut self.clients[client].connection else { return };
        let keys: Vec<_> = connection.subscriptions.keys().copied().collect();
        if !keys.is_empty() {
            let key = pick(rng, &keys);
            assert_eq!(self.topics.topic_of(key).as_str(), connection.subscriptions[&key]);
            self.topics.unsubscribe(&mut connection.list, key);
            connection.subscriptions.remove(&key);
        }
    }

    fn replay(&mut self, client: usize, steps: u64) {
        for _ in 0..steps {
            let Client { style, connection, .. } = &mut self.clients[client];
            let Some(connection) = connection else { return };
            let step = match style {
                Style::Merged => self.topics.poll_replay_merged(&connection.list),
                Style::EachTopic => connection
                    .subscriptions
                    .keys()
                    .find_map(|&key| Some((key, self.topics.poll_replay(key)?))),
            };
            let Some((key, step)) = step else { return };
            let name = self.clients[client].connection.as_ref().unwrap().subscriptions[&key];
            match step {
                Replay::Gap(gap) => self.hear_gap(client, name, gap.first),
                Replay::Event(event) => self.hear(client, name, &event),
                Replay::CaughtUp(position) => self.hear_position(client, name, position),
            }
        }
    }

    /// Delivers a few events, some of which a policy drops.
    fn deliver(&mut self, rng: &mut Rng) {
        let drops = rng.chance(10);
        for _ in 0..rng.below(8) {
            let Some(delivery) = self.topics.poll_delivery() else { return };
            let client = (delivery.connection.as_u64() & 0xff_ffff) as usize;
            let connection = self.clients[client].connection.as_mut().expect("it is connected");
            assert_eq!(connection.id, delivery.connection);
            let name = connection.subscriptions[&delivery.subscription];
            assert_eq!(name, self.topics.topic_of(delivery.subscription).as_str());
            if drops && rng.chance(50) {
                self.counts.dropped += 1;
                self.topics.mark_lost(connection.id, delivery.subscription);
                self.clients[client].known.get_mut(name).unwrap().lost = true;
                continue;
            }
            if self.clients[client].style == Style::Merged {
                self.hear_all_lost(client);
            }
            if delivery.gap {
                self.hear_gap(client, name, Some(delivery.event.id));
            }
            self.hear(client, name, &delivery.event);
        }
    }

    fn hear_all_lost(&mut self, client: usize) {
        let connection = self.clients[client].connection.as_mut().unwrap();
        let mut names = Vec::new();
        while let Some(key) = self.topics.poll_lost(&connection.list, None) {
            names.push(connection.subscriptions[&key]);
        }
        for name in names {
            self.hear_gap(client, name, None);
        }
    }

    fn hear_gap(&mut self, client: usize, name: &'static str, first: Option<EventId>) {
        self.counts.gaps += 1;
        let is_published = first.is_none_or(|id| self.history[name].binary_search(&id).is_ok());
        assert!(is_published, "a gap names an event");
        let known = self.clients[client].known.get_mut(name).unwrap();
        (known.excused, known.lost) = (true, false);
    }

    /// The heart of it: an event must be the next one, or a gap was told.
    fn hear(&mut self, client_index: usize, name: &'static str, event: &Event) {
        self.counts.received += 1;
        let client = &mut self.clients[client_index];
        let known = client.known.get_mut(name).unwrap();
        let history = &self.history[name];
        let place = history.binary_search(&event.id).expect("it was published");
        assert!(event.id > self.began, "of this process");
        assert!(known.heard < event.id, "{name}: twice or out of order");
        let next = history.partition_point(|&id| id <= known.upto);
        let is_next = history.get(next) == Some(&event.id);
        assert!(is_next || known.excused, "{name}: hole or duplicate at {place}");
        *known = Known { heard: event.id, ..Known::upto(event.id) };
        if client.style == Style::Merged {
            let connection = client.connection.as_mut().unwrap();
            assert!(connection.heard < event.id, "merged events come by id");
            connection.heard = event.id;
            client.last_id = Some(event.id);
            self.check_merged(client_index, event.id);
        }
    }

    /// The id of an event is the position in all topics of a stream: nothing older is outstanding.
    fn check_merged(&self, client: usize, position: EventId) {
        let client = &self.clients[client];
        for name in client.connection.as_ref().unwrap().subscriptions.values() {
            let known = client.known[name];
            let history = &self.history[name];
            let older = history.partition_point(|&id| id <= position);
            let newest = history[..older].last().copied().filter(|&id| id > self.began);
            let has_all = newest.is_none_or(|newest| newest <= known.upto);
            assert!(has_all || known.excused, "{name}: overtaken, nothing told");
        }
    }

    /// Who has caught up has all there is of it, and may resume from this position.
    fn hear_position(&mut self, client: usize, name: &'static str, position: EventId) {
        assert_eq!(position, self.topics.position());
        let client = &mut self.clients[client];
        let connection = client.connection.as_ref().unwrap();
        let names: Vec<_> = match client.style {
            Style::EachTopic => vec![name],
            Style::Merged => connection.subscriptions.values().copied().collect(),
        };
        client.last_id = Some(position);
        for name in names {
            let known = client.known.get_mut(name).unwrap();
            let newest = self.history[name].last().copied().filter(|&id| id > self.began);
            let has_all = newest.is_none_or(|newest| newest <= known.upto);
            assert!(has_all || known.excused, "{name}: caught up without all, nothing told");
            *known = Known { heard: known.heard, ..Known::upto(position) };
        }
        for key in self.topics.subscriptions_of(&connection.list) {
            let is_this = connection.subscriptions[&key] == name;
            assert!(self.topics.is_live(key) || client.style == Style::EachTopic && !is_this);
        }
    }

    fn pass_time(&mut self, rng: &mut Rng) {
        let ms = pick(rng, &[1, 1, 10, 10, 300, 5000]);
        self.now_ms += ms;
        self.unix_ms += ms;
        self.evictions_possible |= self.now() >= Instant::default() + self.rules.retain_for;
        if self.topics.next_sweep_at().is_some_and(|at| at <= self.now()) {
            self.topics.sweep(self.now());
            assert!(self.topics.next_sweep_at().is_none_or(|at| at > self.now()));
        }
    }

    fn evict(&mut self, rng: &mut Rng) {
        self.evictions_possible = true;
        for _ in 0..rng.below(10) {
            let bytes = self.topics.bytes();
            let freed = self.topics.trim_oldest();
            assert_eq!(self.topics.bytes() + freed, bytes);
            assert_eq!(freed == 0, bytes == 0);
        }
    }

    fn step_clock(&mut self, rng: &mut Rng) {
        self.unix_ms = self.unix_ms.saturating_add_signed(rng.below(4000) as i64 - 2000);
    }

    /// A new process has another number, and a clock that is not behind what the old one issued.
    fn restart(&mut self, rng: &mut Rng) {
        for client in 0..self.clients.len() {
            self.disconnect(client);
        }
        self.empty_of_subscribers();
        self.began = self.topics.position();
        self.process = self.process.wrapping_add(1 + rng.below(1000) as u16);
        self.unix_ms = self.unix_ms.max(self.began.ms() + 1);
        self.now_ms = 0;
        self.topics = Topics::new(self.rules.clone(), self.process, self.unix_ms);
        self.evictions_possible = World::may_evict(&self.rules);
    }

    /// With everybody gone and everything evicted nothing is left.
    fn empty_of_subscribers(&mut self) {
        assert!(self.topics.poll_delivery().is_none(), "nobody is subscribed");
        while self.topics.trim_oldest() > 0 {}
        let left = (self.topics.len(), self.topics.subscriptions(), self.topics.bytes());
        assert_eq!(left, (0, 0, 0));
        assert_eq!((self.topics.waiting_events(), self.topics.waiting_bytes()), (0, 0));
        assert_eq!(self.topics.next_sweep_at(), None);
    }

    /// Everybody connected gets everything: nothing published stays unheard without a gap.
    fn finish(&mut self) {
        for client in 0..self.clients.len() {
            self.replay(client, u64::MAX);
        }
        let mut quiet = Rng::new(0);
        while self.topics.has_deliveries() {
            self.deliver(&mut quiet);
        }
        for client in &self.clients {
            let Some(connection) = &client.connection else { continue };
            for (&key, name) in &connection.subscriptions {
                assert!(self.topics.is_live(key));
                let newest = self.history[name].last().copied().filter(|&id| id > self.began);
                let has_all = newest.is_none_or(|newest| newest <= client.known[name].upto);
                let known = client.known[name];
                assert!(has_all || known.lost || known.excused, "{name}: the end is missing");
            }
        }
        for client in 0..self.clients.len() {
            self.disconnect(client);
        }
        self.empty_of_subscribers();
    }
}

fn pick<T: Copy>(rng: &mut Rng, from: &[T]) -> T {
    from[rng.below(from.len() as u64) as usize]
}

/// Says what was running when a check fails.
struct Running(u64);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with SEED={}", self.0);
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

// FAULTS 127: silent loss 0, order kept, duplicates none but where a client begins again.
#[test]
fn every_subscriber_has_what_was_published_or_was_told_of_a_gap() {
    let seeds = match from_env("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("ROUNDS").unwrap_or(1000),
    };
    let mut all = Counts::default();
    for seed in seeds.clone() {
        let _running = Running(seed);
        let mut rng = Rng::new(seed);
        let mut world = World::new(&mut rng);
        for _ in 0..1500 {
            world.step(&mut rng);
        }
        world.finish();
        all.received += world.counts.received;
        all.gaps += world.counts.gaps;
        all.dropped += world.counts.dropped;
        all.resumed += world.counts.resumed;
    }
    println!("{} programs: {all:?}", seeds.count());
    assert!(all.received > 0);
}

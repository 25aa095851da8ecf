//! A model of who is on two topics, and random programs for it: connections come, go, come back,
//! are replaced, and change their names; time passes by fractions of a second. `SEED=` runs one
//! program, `ROUNDS=100000` so many.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU64;

use heartwheel::ConnectionId;
use heartwheel::core::ground::identity::Identity;
use heartwheel::core::ground::time::Instant;
use heartwheel::core::topics::presence::{DEBOUNCE, GRID, Presence, Seen};
use heartwheel::topics::Name;

use crate::common::rng::Rng;

const NAMES: [Option<&str>; 5] = [None, None, Some("ann"), Some("bob"), Some("cy")];
const CONNECTIONS: usize = 6;
/// Those from here on are connections of another server, which tells all of them together.
#[cfg(feature = "cluster")]
const FAR: u64 = 4;
const STEPS: u64 = 60;

/// A person: a name, or a connection without one.
type Person = (Option<&'static str>, u64);

#[derive(Default)]
struct Model {
    /// Who each connection on a topic is.
    on: BTreeMap<(usize, u64), Option<&'static str>>,
    /// When each person has come or gone last.
    changed_ms: BTreeMap<(usize, Person), u64>,
    /// Who was told to be there.
    told: BTreeSet<(usize, Person)>,
    /// When each person came last, and behind which listing; and who has come, was listed, and has
    /// gone, all untold.
    came: BTreeMap<(usize, Person), (u64, u64)>,
    passed: BTreeSet<(usize, Person)>,
    /// Which listing was each topic's last, and whom a client has on its list that has followed
    /// since.
    step: u64,
    listed: [u64; 2],
    lists: [BTreeSet<Person>; 2],
    joins: u64,
    leaves: u64,
}

struct Run {
    presence: Presence,
    topics: [Name; 2],
    model: Model,
    names: [Option<&'static str>; CONNECTIONS],
    now_ms: u64,
    /// Which connections of the other server are on which topics.
    #[cfg(feature = "cluster")]
    far: BTreeSet<(usize, u64)>,
}

fn person(name: Option<&'static str>, connection: u64) -> Person {
    (name, if name.is_some() { 0 } else { connection })
}

fn id(connection: u64) -> ConnectionId {
    ConnectionId::from_u64(NonZeroU64::new(connection + 1).unwrap())
}

impl Model {
    fn is_there(&self, topic: usize, of: Person) -> bool {
        let mut on = self.on.iter().filter(|((at, _), _)| *at == topic);
        on.any(|((_, connection), name)| person(*name, *connection) == of)
    }

    fn change(&mut self, topic: usize, of: Person, now_ms: u64, change: impl FnOnce(&mut Model)) {
        let before = self.is_there(topic, of);
        change(self);
        let is_there = self.is_there(topic, of);
        if is_there == before {
            return;
        }
        self.changed_ms.insert((topic, of), now_ms);
        if self.told.contains(&(topic, of)) {
            return;
        }
        if is_there {
            if !self.passed.remove(&(topic, of)) {
                self.came.insert((topic, of), (now_ms, self.step));
            }
        } else if self.listed[topic] > self.came[&(topic, of)].1 {
            self.passed.insert((topic, of));
        }
    }

    fn tell(&mut self, topic: usize, seen: &Seen, now_ms: u64, has_joined: bool) {
        let name = seen.identity.as_ref().map(Identity::as_str);
        let name = NAMES.into_iter().find(|known| *known == name).expect("a name of the test's");
        let of = person(name, seen.connection.as_u64() - 1);
        let has_passed = has_joined && self.passed.remove(&(topic, of));
        assert_eq!(self.is_there(topic, of) || has_passed, has_joined, "{of:?}");
        let list = &mut self.lists[topic];
        if has_joined {
            list.insert(of)
        } else {
            list.remove(&of)
        };
        let is_new = match has_joined {
            true => self.told.insert((topic, of)),
            false => self.told.remove(&(topic, of)),
        };
        assert!(is_new, "{of:?} was told twice to be there, or not");
        let changed_ms = match has_joined {
            true => self.came[&(topic, of)].0,
            false => self.changed_ms[&(topic, of)],
        };
        let since = now_ms - changed_ms;
        if has_passed {
            // It is told to have left as if it had gone now.
            self.changed_ms.insert((topic, of), now_ms);
        }
        assert!(since >= DEBOUNCE.as_millis() as u64, "{of:?} is told after {since} ms");
        *(if has_joined { &mut self.joins } else { &mut self.leaves }) += 1;
    }
}

impl Run {
    fn new() -> Run {
        Run {
            presence: Presence::default(),
            topics: ["a", "b"].map(|name| name.parse().unwrap()),
            model: Model::default(),
            names: [None; CONNECTIONS],
            now_ms: 5000,
            #[cfg(feature = "cluster")]
            far: BTreeSet::new(),
        }
    }

    /// Has the other server tell who is there, and the model note what that changes.
    #[cfg(feature = "cluster")]
    fn tell_far(&mut self) {
        let far = self.far.clone();
        let identity = |name: Option<&str>| name.map(|name| Identity::new(name).unwrap());
        let members: Vec<(Name, Seen)> = far
            .iter()
            .map(|(topic, connection)| {
                let identity = identity(self.names[*connection as usize]);
                let seen = Seen { identity, connection: id(*connection), info: None };
                (self.topics[*topic].clone(), seen)
            })
            .collect();
        self.presence.set_members_of(self.now(), "far", members);
        let now_ms = self.now_ms;
        // Who has come counts before who has gone: a person may be both.
        for (topic, connection) in &far {
            let name = self.names[*connection as usize];
            let of = person(name, *connection);
            self.model.change(*topic, of, now_ms, |model| {
                model.on.insert((*topic, *connection), name);
            });
        }
        let is_gone = |(topic, connection): &(usize, u64)| {
            *connection >= FAR && !far.contains(&(*topic, *connection))
        };
        let gone: Vec<_> = self.model.on.keys().filter(|key| is_gone(key)).copied().collect();
        for (topic, connection) in gone {
            let of = person(self.model.on[&(topic, connection)], connection);
            self.model.change(topic, of, now_ms, |model| {
                model.on.remove(&(topic, connection));
            });
        }
    }

    fn now(&self) -> Instant {
        Instant::from_millis(self.now_ms)
    }

    fn enter(&mut self, topic: usize, connection: u64) {
        let name = self.names[connection as usize];
        let identity = name.map(|name| Identity::new(name).unwrap());
        self.presence.enter(self.now(), &self.topics[topic], id(connection), identity.clone());
        if connection.is_multiple_of(2) {
            let info = "x".repeat(connection as usize);
            self.presence.describe(&self.topics[topic], id(connection), identity, &info);
        }
        let name = *self.model.on.get(&(topic, connection)).unwrap_or(&name);
        let (of, now_ms) = (person(name, connection), self.now_ms);
        self.model.change(topic, of, now_ms, |model| {
            model.on.insert((topic, connection), name);
        });
    }

    fn leave(&mut self, topic: usize, connection: u64) {
        let identity = self.names[connection as usize].map(|name| Identity::new(name).unwrap());
        self.presence.leave(self.now(), &self.topics[topic], id(connection), identity);
        if let Some(&name) = self.model.on.get(&(topic, connection)) {
            let (of, now_ms) = (person(name, connection), self.now_ms);
            self.model.change(topic, of, now_ms, |model| {
                model.on.remove(&(topic, connection));
            });
        }
    }

    fn step(&mut self, rng: &mut Rng) {
        let (topic, connection) = (rng.below(2) as usize, rng.below(CONNECTIONS as u64));
        #[cfg(feature = "cluster")]
        if connection >= FAR {
            match rng.below(6) {
                0..2 => drop(self.far.insert((topic, connection))),
                2 => drop(self.far.remove(&(topic, connection))),
                // It dies, or is cut off.
                3 => self.far.clear(),
                4 => return self.pass(rng.below(700)),
                _ if self.far.iter().all(|(_, on)| *on != connection)
                    && self.model.on.keys().all(|(_, on)| *on != connection) =>
                {
                    self.names[connection as usize] = NAMES[rng.below(5) as usize];
                }
                _ => {}
            }
            if rng.chance(70) {
                self.tell_far();
            }
            return self.check();
        }
        match rng.below(11) {
            10 => self.list(topic),
            0..3 => self.enter(topic, connection),
            3..5 => self.leave(topic, connection),
            // The connection ends.
            5 => (0..2).for_each(|topic| self.leave(topic, connection)),
            // Another one takes its place.
            6 => {
                let near = if cfg!(feature = "cluster") { 4 } else { CONNECTIONS as u64 };
                let next = (connection + 1) % near;
                (0..2).for_each(|topic| self.leave(topic, next));
                self.names[next as usize] = self.names[connection as usize];
                self.enter(topic, next);
                (0..2).for_each(|topic| self.leave(topic, connection));
            }
            // A connection keeps its name while it is on a topic.
            7 if self.model.on.keys().all(|(_, on)| *on != connection) => {
                self.names[connection as usize] = NAMES[rng.below(5) as usize];
            }
            _ => self.pass(rng.below(700)),
        }
        self.check();
    }

    fn pass(&mut self, ms: u64) {
        self.now_ms += ms;
        while let Some(told) = self.presence.poll_told(self.now()) {
            let topic = self.topics.iter().position(|topic| *topic == told.topic).unwrap();
            told.joined.iter().for_each(|seen| self.model.tell(topic, seen, self.now_ms, true));
            told.left.iter().for_each(|seen| self.model.tell(topic, seen, self.now_ms, false));
            assert!(!told.joined.is_empty() || !told.left.is_empty());
            assert_eq!(told.count, self.presence.count(&told.topic));
        }
        // What has stayed so for long has been told.
        let late = (DEBOUNCE + GRID).as_millis() as u64;
        for ((topic, of), changed_ms) in &self.model.changed_ms {
            let is_there = self.model.is_there(*topic, *of);
            let is_told = self.model.told.contains(&(*topic, *of)) == is_there;
            let has_passed = self.model.passed.contains(&(*topic, *of));
            assert!(is_told || has_passed || self.now_ms < changed_ms + late, "{of:?} is not told");
        }
        if self.presence.next_at().is_none() {
            for (topic, list) in self.model.lists.iter().enumerate() {
                let told = self.model.told.iter().filter(|(at, _)| *at == topic);
                let told: BTreeSet<Person> = told.map(|(_, of)| *of).collect();
                let is_listed = self.model.listed[topic] > 0;
                assert!(!is_listed || *list == told, "a list is wrong: {list:?}, {told:?}");
            }
        }
    }

    /// A client asks who is there, and follows what is told from then on.
    fn list(&mut self, topic: usize) {
        self.presence.note_listed(&self.topics[topic]);
        self.model.step += 1;
        self.model.listed[topic] = self.model.step;
        let members = self.presence.members(&self.topics[topic]);
        let known = |identity: Option<&str>| NAMES.into_iter().find(|name| *name == identity);
        self.model.lists[topic] = members
            .map(|(connection, identity, _)| {
                let name = known(identity.map(Identity::as_str)).expect("a name of the test's");
                person(name, connection.as_u64() - 1)
            })
            .collect();
    }

    /// Listed are all that are there, and one connection of each who has gone and was not told to.
    fn check(&self) {
        for (topic, name) in self.topics.iter().enumerate() {
            let mut gone: Vec<Person> = Vec::new();
            let mut there = 0;
            for (connection, identity, _) in self.presence.members(name) {
                let number = connection.as_u64() - 1;
                let known = identity.map(Identity::as_str);
                let is_on = self.model.on.get(&(topic, number)).is_some_and(|name| *name == known);
                if is_on {
                    there += 1;
                    continue;
                }
                let known = NAMES.into_iter().find(|name| *name == known).unwrap();
                gone.push(person(known, number));
                let of = (topic, person(known, number));
                let (told, passed) = (&self.model.told, &self.model.passed);
                assert!(told.contains(&of) || passed.contains(&of), "a ghost");
                assert!(!self.model.is_there(topic, person(known, number)));
            }
            let on = self.model.on.keys().filter(|(at, _)| *at == topic).count();
            assert_eq!((there, there + gone.len()), (on, self.presence.count(name)));
            gone.sort_unstable();
            assert!(gone.is_sorted_by(|one, other| one < other), "{gone:?}: once each");
        }
        let count: usize = self.topics.iter().map(|topic| self.presence.count(topic)).sum();
        assert_eq!(self.presence.len(), count);
        assert!(self.presence.bytes() >= count * Presence::MEMBER_BYTES);
    }
}

fn program(seed: u64) {
    let mut rng = Rng::new(seed);
    let mut run = Run::new();
    for _ in 0..STEPS {
        run.step(&mut rng);
    }
    #[cfg(feature = "cluster")]
    {
        run.far.clear();
        run.tell_far();
    }
    for connection in 0..CONNECTIONS as u64 {
        (0..2).for_each(|topic| run.leave(topic, connection));
    }
    // Who has passed is told to have joined, and to have left after that.
    for _ in 0..2 {
        run.pass((DEBOUNCE + GRID).as_millis() as u64);
    }
    run.check();
    assert_eq!(run.model.joins, run.model.leaves, "they balance");
    assert!(run.presence.is_empty() && run.model.told.is_empty());
    assert_eq!((run.presence.bytes(), run.presence.next_at()), (0, None));
}

// FAULTS 238, 239 and 291: joins and leaves balance, nobody joins twice or stays who is gone.
#[test]
fn joins_and_leaves_alternate_and_balance() {
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let (first, rounds) = match number("SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("ROUNDS").unwrap_or(3000)),
    };
    for seed in first..first + rounds {
        let outcome = std::panic::catch_unwind(|| program(seed));
        if let Err(panic) = outcome {
            eprintln!("SEED={seed}");
            std::panic::resume_unwind(panic);
        }
    }
}

#[test]
fn a_crowd_is_told_in_bounded_parts() {
    let mut presence = Presence::default();
    let topic: Name = "a".parse().unwrap();
    let now = Instant::from_millis(1);
    (0..250).for_each(|n| assert!(presence.enter(now, &topic, id(n), None)));
    assert_eq!(presence.poll_told(now), None);
    let at = presence.next_at().unwrap();
    assert!(at.since(now) >= DEBOUNCE && at.since(now) <= DEBOUNCE + GRID);
    let parts = std::iter::from_fn(|| presence.poll_told(at));
    let parts: Vec<_> =
        parts.map(|told| (told.joined.len(), told.left.len(), told.count)).collect();
    assert_eq!(parts, [(100, 0, 250), (100, 0, 250), (50, 0, 250)]);
    (0..250).for_each(|n| assert!(presence.leave(at, &topic, id(n), None)));
    assert_eq!(presence.count("a"), 250, "they may come back");
    let at = presence.next_at().unwrap();
    let parts = std::iter::from_fn(|| presence.poll_told(at));
    let parts: Vec<_> =
        parts.map(|told| (told.joined.len(), told.left.len(), told.count)).collect();
    assert_eq!(parts, [(0, 100, 150), (0, 100, 50), (0, 50, 0)]);
    assert!(presence.is_empty());
}

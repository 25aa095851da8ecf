//! Who is on a topic: the connections that are subscribed to it, and the persons behind them.
//!
//! Connections of one identity are one person, who joins with the first of them and leaves with the
//! last. A connection without an identity is a person of its own. What has become of a person is
//! told when it has stayed so for [`DEBOUNCE`]: a client that connects again makes no noise.
//!
//! ```text
//!                 enter                    1 s
//!      nobody ─────────────► came ───────────────────► there        told: joined
//!        ▲  ◄─────────────────┘                         │  ▲
//!        │         leave                          leave │  │ enter
//!        │                     1 s                      ▼  │
//!        └─────────────────────────────────────────── gone          told: left
//! ```
//!
//! A person who has gone is still listed until that is told: so a list, and what is told from then
//! on, never miss anybody who comes back meanwhile. A person who has come and was listed is told to
//! have joined though it has gone meanwhile, and then to have left: lists would keep it for good.
//!
//! Nothing here knows rights, patterns or messages. Who enters and leaves is the caller's to say.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use slab::Slab;

use super::Name;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;

/// How long a person must have come, or gone, before it is told. At most [`GRID`] is added to it,
/// so that what happens together is told together.
pub const DEBOUNCE: Duration = Duration::from_secs(1);

/// Moments at which something is told are whole multiples of it.
pub const GRID: Duration = Duration::from_millis(250);

/// The members of topics.
// Invariants:
// - A room has a member; otherwise it is forgotten.
// - A person who is there and told is not in `untold`. One who has come has members and has not
//   been told to have joined. One who has gone is one member, that of its last connection, and has
//   not been told to have left. One who has passed is one member, too, was listed, and has been
//   told neither.
// - `untold` and `due` hold the same persons.
#[derive(Debug, Default)]
pub struct Presence {
    /// Only ever asked for one name.
    by_topic: HashMap<Name, u32>,
    rooms: Slab<Room>,
    untold: BTreeMap<(u32, Who), Untold>,
    due: BTreeSet<(Instant, u32, Who)>,
    members: usize,
    /// How often members were listed.
    listings: u64,
    /// Identities and infos of members.
    text_bytes: usize,
    /// Which members are those of other servers, by their names.
    #[cfg(feature = "cluster")]
    others: BTreeMap<Box<str>, BTreeSet<(u32, Member)>>,
}

/// One topic, with what each member says of itself.
#[derive(Debug)]
struct Room {
    topic: Name,
    /// Which listing of members was its last; 0 if there was none.
    listed: u64,
    members: BTreeMap<Member, Option<Box<Info>>>,
}

/// A connection on a topic. Those of a person stand together.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Member {
    identity: Option<Identity>,
    connection: ConnectionId,
}

/// What a client says of itself. In a box it takes one word, and mostly there is none.
#[derive(Debug)]
struct Info(Box<str>);

/// A person.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Named(Identity),
    Unnamed(ConnectionId),
}

/// What has become of a person and was not told.
#[derive(Debug)]
struct Untold {
    /// How many listings there were before it.
    listings: u64,
    at: Instant,
    what: Change,
    /// The connection with which the person came or went.
    connection: ConnectionId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Came,
    Gone,
    Passed,
}

/// A member, as others see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Who it is; `None` if the server does not know.
    pub identity: Option<Identity>,
    /// The connection.
    pub connection: ConnectionId,
    /// What the client said of itself when it subscribed.
    pub info: Option<Box<str>>,
}

/// Persons of one topic who have joined and left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    /// The topic.
    pub topic: Name,
    /// Who has joined, with the connection that each of them came with.
    pub joined: Vec<Seen>,
    /// Who has left, with the connection that each of them had last.
    pub left: Vec<Seen>,
    /// How many members the topic has now.
    pub count: usize,
}

impl Presence {
    /// The memory of a member at most, without its texts: where names come in ascending order,
    /// trees are half full.
    pub const MEMBER_BYTES: usize = 72;

    /// The memory of what is untold of a person.
    pub const UNTOLD_BYTES: usize = 168;

    /// Takes note that a connection is on a topic. Returns whether it was not.
    pub fn enter(
        &mut self,
        now: Instant,
        topic: &Name,
        connection: ConnectionId,
        identity: Option<Identity>,
    ) -> bool {
        let key = self.find_or_make(topic);
        let member = Member { identity, connection };
        let who = member.who();
        let untold = (key, who.clone());
        let room = &self.rooms[key as usize];
        match self.untold.get(&untold).map(|untold| untold.what) {
            // The person is back before it was told to have left.
            Some(Change::Gone) => {
                let last = self.forget_change(untold);
                self.remove_member(key, &Member { connection: last, ..member.clone() });
            }
            Some(Change::Passed) => {
                let last = self.turn_change(&untold, Change::Came, connection);
                self.remove_member(key, &Member { connection: last, ..member.clone() });
            }
            _ if room.members.contains_key(&member) => return false,
            None if !room.has(&who) => self.note(now, untold, Change::Came, connection),
            _ => {}
        }
        self.members += 1;
        self.text_bytes += member.name_len();
        self.rooms[key as usize].members.insert(member, None);
        true
    }

    /// Notes what a member says of itself. Returns whether it is one.
    pub fn describe(
        &mut self,
        topic: &str,
        connection: ConnectionId,
        identity: Option<Identity>,
        info: &str,
    ) -> bool {
        let Some(key) = self.by_topic.get(topic) else { return false };
        let room = &mut self.rooms[*key as usize];
        let Some(place) = room.members.get_mut(&Member { identity, connection }) else {
            return false;
        };
        self.text_bytes += info.len();
        let before = place.replace(Box::new(Info(info.into())));
        self.text_bytes -= before.map_or(0, |before| before.0.len());
        true
    }

    /// Takes note that a connection, of the identity with which it entered, is not on a topic any
    /// more. Returns whether it was.
    pub fn leave(
        &mut self,
        now: Instant,
        topic: &str,
        connection: ConnectionId,
        identity: Option<Identity>,
    ) -> bool {
        let Some(&key) = self.by_topic.get(topic) else { return false };
        let member = Member { identity, connection };
        let room = &self.rooms[key as usize];
        if !room.members.contains_key(&member) {
            return false;
        }
        let who = member.who();
        let is_last = room.of(&who).nth(1).is_none();
        let untold = (key, who);
        let change = self.untold.get(&untold);
        let was_listed = change.is_some_and(|came| room.listed > came.listings);
        match change.map(|untold| untold.what) {
            Some(Change::Gone | Change::Passed) => return false,
            None if is_last => self.note(now, untold, Change::Gone, connection),
            Some(_) if is_last && was_listed => {
                self.turn_change(&untold, Change::Passed, connection);
            }
            came => {
                if came.is_some() && is_last {
                    // Nobody was told that the person came.
                    self.forget_change(untold);
                }
                self.remove_member(key, &member);
                self.forget_if_empty(key);
            }
        }
        true
    }

    /// Takes note of who is on the topics of another server now, in place of what was known. Nobody
    /// is, once it has gone. A person whose connection moves from server to server makes no noise.
    #[cfg(feature = "cluster")]
    pub fn set_members_of(
        &mut self,
        now: Instant,
        server: &str,
        members: impl IntoIterator<Item = (Name, Seen)>,
    ) {
        let mut next = BTreeSet::new();
        for (topic, Seen { identity, connection, info }) in members {
            self.enter(now, &topic, connection, identity.clone());
            if let Some(info) = info {
                self.describe(&topic, connection, identity.clone(), &info);
            }
            next.insert((self.by_topic[&*topic], Member { identity, connection }));
        }
        let before = self.others.remove(server).unwrap_or_default();
        for (key, member) in before.difference(&next) {
            // Two servers may have named one member: then its topic may be forgotten.
            if let Some(room) = self.rooms.get(*key as usize) {
                let topic = room.topic.clone();
                self.leave(now, &topic, member.connection, member.identity.clone());
            }
        }
        if !next.is_empty() {
            self.others.insert(server.into(), next);
        }
    }

    /// Has the members of other servers leave the topics that do not stay. Returns how many were
    /// looked at.
    #[cfg(feature = "cluster")]
    pub fn retain_others(&mut self, now: Instant, stays: impl Fn(&str) -> bool) -> usize {
        let mut looked_at = 0;
        let (mut left, mut others) = (Vec::new(), std::mem::take(&mut self.others));
        for members in others.values_mut() {
            looked_at += members.len();
            members.retain(|(key, member)| {
                let room = self.rooms.get(*key as usize);
                let is_kept = room.is_some_and(|room| stays(&room.topic));
                if let Some(room) = room.filter(|_| !is_kept) {
                    left.push((room.topic.clone(), member.clone()));
                }
                is_kept
            });
        }
        others.retain(|_, members| !members.is_empty());
        self.others = others;
        for (topic, member) in left {
            self.leave(now, &topic, member.connection, member.identity);
        }
        looked_at
    }

    /// Returns whether no topic has a member.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rooms.is_empty()
    }

    /// Returns how many members all topics have.
    pub fn len(&self) -> usize {
        self.members
    }

    /// Returns how many members a topic has.
    pub fn count(&self, topic: &str) -> usize {
        self.room(topic).map_or(0, |room| room.members.len())
    }

    /// Takes note that the members of a topic are listed now.
    pub fn note_listed(&mut self, topic: &str) {
        if let Some(key) = self.by_topic.get(topic) {
            self.listings += 1;
            self.rooms[*key as usize].listed = self.listings;
        }
    }

    /// Returns the members of a topic, those of a person together.
    pub fn members(
        &self,
        topic: &str,
    ) -> impl Iterator<Item = (ConnectionId, Option<&Identity>, Option<&str>)> {
        self.room(topic).into_iter().flat_map(|room| &room.members).map(|(member, info)| {
            let info = info.as_ref().map(|info| &*info.0);
            (member.connection, member.identity.as_ref(), info)
        })
    }

    /// Returns when [`Presence::poll_told`] has something to tell; `None` if nothing has changed.
    pub fn next_at(&self) -> Option<Instant> {
        self.due.first().map(|(at, _, _)| *at)
    }

    /// Returns who has joined and left by now: of one topic, and at most [`TOGETHER_MAX`].
    pub fn poll_told(&mut self, now: Instant) -> Option<Told> {
        let key = self.due.first().filter(|(at, _, _)| *at <= now)?.1;
        let (mut joined, mut left) = (Vec::new(), Vec::new());
        while joined.len() + left.len() < TOGETHER_MAX
            && self.due.first().is_some_and(|(at, of, _)| *at <= now && *of == key)
            && let Some((_, _, who)) = self.due.pop_first()
        {
            let untold = self.untold.remove(&(key, who.clone())).expect("what is due is untold");
            let member = who.with(untold.connection);
            let seen = self.rooms[key as usize].seen(&member);
            match untold.what {
                Change::Came => joined.push(seen),
                Change::Passed => {
                    joined.push(seen);
                    self.note(now, (key, who), Change::Gone, untold.connection);
                }
                Change::Gone => {
                    self.remove_member(key, &member);
                    left.push(seen);
                }
            }
        }
        let Room { topic, members, .. } = &self.rooms[key as usize];
        let told = Told { topic: topic.clone(), joined, left, count: members.len() };
        self.forget_if_empty(key);
        Some(told)
    }

    /// Returns the memory of all members.
    pub fn bytes(&self) -> usize {
        #[cfg(feature = "cluster")]
        let others = self.others.values().map(BTreeSet::len).sum::<usize>() * OTHER_BYTES;
        #[cfg(not(feature = "cluster"))]
        let others = 0;
        others
            + self.members * Presence::MEMBER_BYTES
            + self.text_bytes
            + self.untold.len() * Presence::UNTOLD_BYTES
            + self.rooms.len() * ROOM_BYTES
    }

    fn room(&self, topic: &str) -> Option<&Room> {
        self.by_topic.get(topic).map(|key| &self.rooms[*key as usize])
    }

    fn find_or_make(&mut self, topic: &Name) -> u32 {
        if let Some(key) = self.by_topic.get(&**topic) {
            return *key;
        }
        let room = Room { topic: topic.clone(), listed: 0, members: BTreeMap::new() };
        let key = self.rooms.insert(room) as u32;
        self.by_topic.insert(topic.clone(), key);
        key
    }

    fn note(&mut self, now: Instant, of: (u32, Who), what: Change, connection: ConnectionId) {
        let at = (now + DEBOUNCE + GRID).floor(GRID);
        self.due.insert((at, of.0, of.1.clone()));
        self.untold.insert(of, Untold { listings: self.listings, at, what, connection });
    }

    /// Makes something else of what is untold of a person, to be told at the same moment. Returns
    /// the connection that it was of.
    fn turn_change(&mut self, of: &(u32, Who), what: Change, by: ConnectionId) -> ConnectionId {
        let untold = self.untold.get_mut(of).expect("it was found");
        untold.what = what;
        std::mem::replace(&mut untold.connection, by)
    }

    /// Forgets what has become of a person, which is undone. Returns the connection of it.
    fn forget_change(&mut self, of: (u32, Who)) -> ConnectionId {
        let Untold { at, connection, .. } = self.untold.remove(&of).expect("it was found");
        self.due.remove(&(at, of.0, of.1));
        connection
    }

    fn remove_member(&mut self, key: u32, member: &Member) {
        if let Some(info) = self.rooms[key as usize].members.remove(member) {
            self.members -= 1;
            self.text_bytes -= member.name_len() + info.map_or(0, |info| info.0.len());
        }
    }

    /// Gives back the memory of a topic without members.
    fn forget_if_empty(&mut self, key: u32) {
        if !self.rooms[key as usize].members.is_empty() {
            return;
        }
        let room = self.rooms.remove(key as usize);
        self.by_topic.remove(&*room.topic);
        if self.rooms.is_empty() {
            debug_assert!(self.untold.is_empty() && self.due.is_empty());
            *self = Presence::default();
        }
    }
}

impl Room {
    /// Returns the members that are one person.
    fn of(&self, who: &Who) -> impl Iterator<Item = &Member> {
        let (first, last) = match who {
            Who::Named(_) => (ConnectionId::LEAST, ConnectionId::GREATEST),
            Who::Unnamed(connection) => (*connection, *connection),
        };
        self.members.range(who.with(first)..=who.with(last)).map(|(member, _)| member)
    }

    fn has(&self, who: &Who) -> bool {
        self.of(who).next().is_some()
    }

    fn seen(&self, member: &Member) -> Seen {
        let info = self.members.get(member).and_then(Option::as_ref);
        Seen {
            identity: member.identity.clone(),
            connection: member.connection,
            info: info.map(|info| info.0.clone()),
        }
    }
}

impl Member {
    fn who(&self) -> Who {
        self.identity.clone().map_or(Who::Unnamed(self.connection), Who::Named)
    }

    fn name_len(&self) -> usize {
        self.identity.as_ref().map_or(0, |identity| identity.as_str().len())
    }
}

impl Who {
    /// Returns the member that a connection of the person is.
    fn with(&self, connection: ConnectionId) -> Member {
        let identity = match self {
            Who::Named(identity) => Some(identity.clone()),
            Who::Unnamed(_) => None,
        };
        Member { identity, connection }
    }
}

/// What the server's own topics of joins and leaves begin with; the topic's name follows.
pub const OWN: &str = "$presence.";

/// Returns the topic whose right a topic needs: of the server's own ones that tell of a topic's
/// members, that topic.
pub fn subject(topic: &str) -> &str {
    topic.strip_prefix(OWN).unwrap_or(topic)
}

/// How many persons are told of together at most.
pub const TOGETHER_MAX: usize = 100;

/// What is known of a member of another server beside that it is one.
#[cfg(feature = "cluster")]
const OTHER_BYTES: usize = 64;

/// A topic's place in both tables, and its name.
const ROOM_BYTES: usize = 336;

const _: () = assert!(size_of::<Member>() <= 24 && size_of::<Who>() <= 16);

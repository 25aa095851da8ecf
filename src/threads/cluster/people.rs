//! The thread that tells other servers who is on this one's topics, and learns who is on theirs.
//!
//! ```text
//!   loop ──MemberChange──► people ══HSET══► node:N      (one hash for each server, for 25 s)
//!   loop ◄──members of N── people ◄═HGETALL═ node:N     (when its version has changed)
//! ```
//!
//! A server writes its hash whole: when its members have changed, and every 10 s. One that dies
//! does not, and its hash runs out: all its people leave together. The hash `people` has the
//! version of each.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant as StdInstant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};
use log::{debug, warn};

use crate::core::cluster::{DROP_TELLER, Keys};
use crate::core::config::{Config, RedisUrl};
use crate::core::contract::event::{Command, Order};
use crate::core::engine::{Engine, MemberChange};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::topics::Name;
use crate::core::topics::presence::Seen;
use crate::core::wire::resp::Value;
use crate::system::random_seed;
use crate::system::redis::{Link, LinkError};
use crate::system::spawn::spawn;
use crate::threads::cluster::session::Backoff;
use crate::threads::handle::Handle;

/// The loop's end.
#[derive(Debug)]
pub(crate) struct People {
    changes: Option<Sender<MemberChange>>,
    ended: Receiver<()>,
}

impl People {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// If the system has no thread.
    pub fn start(
        config: &Config,
        url: &RedisUrl,
        machine_name: &str,
        handle: Handle,
    ) -> io::Result<People> {
        let (changes, taken) = unbounded();
        let (ending, ended) = bounded(0);
        let node = config.cluster.node.clone().unwrap_or_else(|| machine_name.to_owned());
        let answer_max = usize::try_from(config.cluster_answer_bytes()).unwrap_or(usize::MAX);
        let mut teller = Teller {
            url: url.clone(),
            limits: (answer_max as u64 / 2, answer_max),
            keys: Keys::new(&config.cluster.name),
            node,
            process: format!("{:016x}", random_seed()),
            handle,
            changes: taken,
            own: BTreeMap::new(),
            has_changed: false,
            version: 0,
            others: BTreeMap::new(),
            written_at: None,
        };
        let run = move || {
            teller.run();
            drop(ending);
        };
        spawn("heartwheel-cluster-people".into(), Some(STACK_BYTES), Box::new(run))?;
        Ok(People { changes: Some(changes), ended })
    }

    /// Tells of a member of this server.
    pub fn tell(&self, change: MemberChange) {
        // The thread ends after the loop: it takes what is sent.
        let _ = self.changes.as_ref().map(|changes| changes.send(change));
    }

    /// Ends the thread, which says that nobody is here any more. Waits for it, but not for long.
    pub fn stop(&mut self) {
        self.changes = None;
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(END_MAX) {
            debug!("cluster's people left: Redis does not answer");
        }
    }
}

struct Teller {
    url: RedisUrl,
    limits: (u64, usize),
    keys: Keys,
    node: String,
    /// Drawn for this process: its versions are no earlier one's.
    process: String,
    handle: Handle,
    changes: Receiver<MemberChange>,
    /// The fields of this server's hash.
    own: BTreeMap<String, String>,
    has_changed: bool,
    version: u64,
    /// The versions of other servers, as they were read.
    others: BTreeMap<String, String>,
    written_at: Option<StdInstant>,
}

impl Teller {
    fn run(&mut self) {
        let mut backoff = Backoff::new();
        loop {
            let met = Link::connect(&self.url, self.limits)
                .and_then(|mut link| self.meet(&mut link, &mut backoff));
            match met {
                Ok(()) => return,
                Err(fault) => debug!("cluster's people away: {}", fault.sentence()),
            }
            self.written_at = None;
            let until = StdInstant::now() + backoff.next();
            while let Some(left) = until.checked_duration_since(StdInstant::now()) {
                match self.changes.recv_timeout(left) {
                    Ok(change) => self.take(change),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        }
    }

    /// Writes and reads until the server ends.
    fn meet(&mut self, link: &mut Link, backoff: &mut Backoff) -> Result<(), LinkError> {
        let connected_at = StdInstant::now();
        loop {
            // A large crowd is written less often.
            let every = EVERY * (1 + self.own.len() as u32 / CROWD);
            let until = StdInstant::now() + every;
            while let Some(left) = until.checked_duration_since(StdInstant::now()) {
                match self.changes.recv_timeout(left) {
                    Ok(change) => self.take(change),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return self.leave(link),
                }
            }
            if self.has_changed || self.written_at.is_none_or(|at| at.elapsed() >= WHOLE_EVERY) {
                self.write(link)?;
            }
            self.read(link, connected_at)?;
            backoff.reset();
        }
    }

    fn take(&mut self, change: MemberChange) {
        let field = |topic: &Name, seen: &Seen| format!("{} {topic}", seen.connection);
        match change {
            MemberChange::Here(topic, seen) => {
                // Neither has a line feed.
                let identity = seen.identity.as_ref().map_or("", Identity::as_str);
                let value = format!("{identity}\n{}", seen.info.as_deref().unwrap_or_default());
                self.own.insert(field(&topic, &seen), value);
                self.has_changed = true;
            }
            MemberChange::Left(topic, seen) => {
                self.own.remove(&field(&topic, &seen));
                self.has_changed = true;
            }
            // No version is empty: each server is read anew.
            MemberChange::Reloaded => self.others.values_mut().for_each(String::clear),
        }
    }

    /// Writes the hash whole, beside the old one, and puts it in its place.
    fn write(&mut self, link: &mut Link) -> Result<(), LinkError> {
        let key = self.keys.node(&self.node);
        let new = format!("{key}:new");
        link.ask(["DEL", &new].map(str::as_bytes))?;
        link.ask(["HSET", &new, "", "1"].map(str::as_bytes))?;
        let fields: Vec<(&String, &String)> = self.own.iter().collect();
        for part in fields.chunks(PART) {
            let pairs = part.iter().flat_map(|(field, value)| [field.as_bytes(), value.as_bytes()]);
            link.ask(["HSET", &new].map(str::as_bytes).into_iter().chain(pairs))?;
        }
        link.ask(["PEXPIRE", &new, LIVES_MS].map(str::as_bytes))?;
        link.ask(["RENAME", &new, &key].map(str::as_bytes))?;
        if self.has_changed || self.version == 0 {
            self.version += 1;
        }
        let version = format!("{} {}", self.process, self.version);
        link.ask(["HSET", &self.keys.people(), &self.node, &version].map(str::as_bytes))?;
        self.has_changed = false;
        self.written_at = Some(StdInstant::now());
        Ok(())
    }

    /// Reads the hashes of other servers that have changed, or run out.
    fn read(&mut self, link: &mut Link, connected_at: StdInstant) -> Result<(), LinkError> {
        let answer = link.ask(["HGETALL", &self.keys.people()].map(str::as_bytes))?;
        let found: BTreeMap<String, String> = pairs_of(&answer).collect();
        for (node, version) in &found {
            if *node == self.node {
                continue;
            }
            let key = self.keys.node(node);
            let is_known = self.others.get(node) == Some(version);
            if is_known && link.ask(["EXISTS", &key].map(str::as_bytes))? == Value::Number(1) {
                continue;
            }
            let answer = link.ask(["HGETALL", &key].map(str::as_bytes)).inspect_err(|fault| {
                if let LinkError::TooLarge = fault {
                    warn!("cluster: node {node} has more people on topics than can be read");
                    // What was known of it stays until it changes.
                    self.others.insert(node.clone(), version.clone());
                }
            })?;
            let fields: Vec<(String, String)> = pairs_of(&answer).collect();
            if !fields.is_empty() {
                self.others.insert(node.clone(), version.clone());
                self.give(node, fields.iter().filter_map(read_member).collect());
            } else if connected_at.elapsed() > GRACE {
                // Where Redis was away all write anew, and are waited for.
                self.forget(node);
                let parts = [DROP_TELLER, "2", &self.keys.people(), &key, node];
                let parts = parts.map(str::as_bytes);
                link.ask([b"EVAL".as_slice()].into_iter().chain(parts))?;
            }
        }
        let left = self.others.keys().filter(|node| !found.contains_key(*node));
        let left: Vec<String> = left.filter(|_| connected_at.elapsed() > GRACE).cloned().collect();
        left.iter().for_each(|node| self.forget(node));
        Ok(())
    }

    fn forget(&mut self, node: &str) {
        if self.others.remove(node).is_some() {
            self.give(node, Vec::new());
        }
    }

    /// Gives the loop the members of a server.
    fn give(&self, node: &str, members: Vec<(Name, Seen)>) {
        let node = node.to_owned();
        let order = Order::of(move |engine: &mut Engine, now| {
            engine.set_members_of(now, &node, members);
        });
        self.handle.order_patiently(Command::Order(order));
    }

    fn leave(&self, link: &mut Link) -> Result<(), LinkError> {
        link.ask(["DEL", &self.keys.node(&self.node)].map(str::as_bytes))?;
        link.ask(["HDEL", &self.keys.people(), &self.node].map(str::as_bytes))?;
        Ok(())
    }
}

/// Reads the pairs of a hash. What is no text is left out.
fn pairs_of(answer: &Value) -> impl Iterator<Item = (String, String)> {
    let pairs = answer.list().unwrap_or_default().chunks_exact(2);
    pairs.filter_map(|pair| Some((pair[0].text()?.to_owned(), pair[1].text()?.to_owned())))
}

/// Reads a member. What is none is left out.
fn read_member((field, value): &(String, String)) -> Option<(Name, Seen)> {
    let (connection, topic) = field.split_once(' ')?;
    let (identity, info) = value.split_once('\n')?;
    let connection = ConnectionId::from_u64(connection.parse().ok()?);
    let topic: Name = topic.parse().ok().filter(|topic: &Name| !Name::is_own(topic))?;
    let identity = match identity {
        "" => None,
        identity => Some(Identity::new(identity)?),
    };
    let info = (!info.is_empty()).then_some(info);
    let is_good = info.is_none_or(crate::core::wire::hub::is_info);
    is_good.then(|| (topic, Seen { identity, connection, info: info.map(Box::from) }))
}

const STACK_BYTES: usize = 512 * 1024;

/// How often members are told, if they have changed, and others are looked at.
const EVERY: Duration = Duration::from_millis(400);

/// With each so many members they are told so much less often.
const CROWD: u32 = 2000;

/// How often a hash is written in any case, and for how long it lives.
const WHOLE_EVERY: Duration = Duration::from_secs(10);
const LIVES_MS: &str = "25000";

/// How long others have to write anew, when Redis is there again.
const GRACE: Duration = Duration::from_secs(5);

/// How many fields are written at once.
const PART: usize = 500;

/// How long the end waits for the thread.
const END_MAX: Duration = Duration::from_secs(1);

//! Takeover, death and return in any order, through whole servers: three of them by one clock, over
//! a model of one store that answers late, not at all, or in vain, and whose messages come late,
//! twice or never. Servers are killed, stand still, are cut off from the store, and come back.
//!
//! In each run it holds, whatever happens:
//!
//! - what is saved goes on from what was saved before, and bears no older number: of two owners one
//!   saves;
//! - a connection begins with what was saved last;
//! - an owner whose session another one has ends with its next save at the latest, and one that a
//!   server has is one;
//! - a session that is open on a server which works is not lost, and one that nobody holds is gone
//!   when its time is over;
//! - upgrades are answered.
//!
//! In runs without faults nothing is lost at all: each connection has all that was answered before.
//!
//! `ROUNDS=100000` for so many runs, `SEED=` for the first one.

use std::any::Any;
use std::io::{Read, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use heartwheel::http::Request;
use heartwheel::{
    BadSession, Claim, Claimed, CloseReason, Config, Handler, Listener, ManualClock, MemoryNetwork,
    MemoryPeer, Message, Peer, Resume, Route, Save, Saved, Server, SessionId, SessionKey,
    SessionStore, StoreError,
};

use crate::common::frame::frame;
use crate::common::http::upgrade_request;
use crate::common::rng::Rng;
use crate::common::timing::{ms, rounds};

const SAVE: Duration = Duration::from_secs(1);
const TTL: Duration = Duration::from_secs(6);
/// The round of saves has steps, and a deadline may act a slot late.
const NEXT_SAVE: Duration = Duration::from_millis(1000 + 2 * 63 + 3 * 51);
/// `deadlines.handshake`, by which upgrades are answered, and a slot.
const ANSWERED: Duration = Duration::from_millis(10_000 + 2 * 51);

/// The store, and what is known of those who use it.
#[derive(Default)]
struct Model {
    clock: ManualClock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rng: Option<Rng>,
    /// Faults happen.
    is_hostile: bool,
    session: Option<Entry>,
    last_number: u64,
    later: Vec<(Duration, Later)>,
    users: Vec<User>,
    /// How often a session was gone, or taken by force: what was said before may be lost.
    losses: u32,
    forced: u32,
}

struct Entry {
    number: u64,
    turn: u64,
    owner: usize,
    frozen: Option<Vec<u8>>,
    ends_at: Duration,
    held_until: Duration,
    waits: Option<usize>,
}

/// What happens some time after it was sent.
enum Later {
    Claim(usize, Claim),
    Save((u64, u64), Option<Vec<u8>>, bool),
    Wanted(usize, u64),
    Free(usize),
}

/// A server, from its start to its death.
#[derive(Default)]
struct User {
    listener: Option<Listener>,
    is_dead: bool,
    is_stopped: bool,
    is_cut_off: bool,
    /// Since when nothing has failed.
    well_since: Duration,
    /// What its claims gave, and its handlers have not begun with.
    given: Vec<Option<Vec<u8>>>,
    /// Its handlers that are open.
    open: usize,
    /// Since when another one has the session.
    lost_since: Option<Duration>,
}

impl Model {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }
}

impl State {
    fn rng(&mut self) -> &mut Rng {
        self.rng.as_mut().expect("it was given")
    }

    /// Says whether a call of this user works now; else whether the store follows it all the same,
    /// now or later, though no answer comes.
    fn fate(&mut self, user: usize, now: Duration) -> Fate {
        let (is_dead, is_cut_off) = (self.users[user].is_dead, self.users[user].is_cut_off);
        let is_away = is_dead || is_cut_off;
        if !is_away && (!self.is_hostile || self.rng().chance(95)) {
            return Fate::Works;
        }
        self.users[user].well_since = now;
        if is_away {
            return Fate::Fails;
        }
        match self.rng().below(3) {
            0 => Fate::Fails,
            1 => Fate::Late(Duration::ZERO),
            _ => Fate::Late(ms(self.rng().below(5000))),
        }
    }

    fn forget(&mut self, now: Duration) {
        let Some(entry) = self.session.as_ref().filter(|entry| entry.ends_at <= now) else {
            return;
        };
        let owner = &self.users[entry.owner];
        let has_worked = !owner.is_dead && !owner.is_stopped && owner.well_since + TTL < now;
        assert!(owner.open == 0 || !has_worked, "an open session is lost at {now:?}");
        let owner = entry.owner;
        self.users[owner].lost_since.get_or_insert(now);
        self.session = None;
        self.losses += 1;
    }

    /// Sends a message, which may take its time.
    fn send(&mut self, now: Duration, make: impl Fn() -> Later) {
        let is_hostile = self.is_hostile;
        let copies = if is_hostile { [1, 1, 0, 2][self.rng().below(4) as usize] } else { 1 };
        for _ in 0..copies {
            let most_ms = [1, 20, 200, if is_hostile { 8000 } else { 200 }];
            let most_ms = most_ms[self.rng().below(4) as usize];
            let delay = ms(self.rng().below(most_ms));
            self.later.push((now + delay, make()));
        }
    }

    fn claim(&mut self, now: Duration, user: usize, claim: &Claim) -> Claimed {
        self.forget(now);
        if let Some(entry) = self.session.as_mut().filter(|entry| entry.held_until > now) {
            entry.waits = Some(user);
            let (owner, number) = (entry.owner, entry.number);
            self.send(now, || Later::Wanted(owner, number));
            if claim.force != Some(number) {
                return Claimed::Held { number };
            }
            self.losses += 1;
            self.forced += 1;
        }
        let before = self.session.take();
        if let Some(before) = before.as_ref().filter(|before| before.owner != user) {
            self.users[before.owner].lost_since = Some(now);
        }
        self.users[user].lost_since = None;
        self.last_number += 1;
        let (number, frozen) = (self.last_number, before.and_then(|entry| entry.frozen));
        self.session = Some(Entry {
            number,
            turn: 0,
            owner: user,
            frozen: frozen.clone(),
            ends_at: now + claim.ttl,
            held_until: now + claim.lease,
            waits: None,
        });
        Claimed::Taken { number, frozen }
    }

    fn save(
        &mut self,
        now: Duration,
        (number, turn): (u64, u64),
        frozen: Option<&[u8]>,
        end: bool,
    ) -> Saved {
        self.forget(now);
        let Some(entry) = self.session.as_mut().filter(|entry| entry.number == number) else {
            return Saved::Fenced;
        };
        if entry.turn >= turn {
            return Saved::Taken;
        }
        entry.turn = turn;
        if let Some(frozen) = frozen {
            let before = entry.frozen.as_deref().unwrap_or_default();
            assert!(frozen.starts_with(before), "{before:?} is overwritten by {frozen:?}");
            entry.frozen = Some(frozen.into());
        }
        entry.ends_at = now + TTL;
        entry.held_until = if end { Duration::ZERO } else { now + 3 * SAVE };
        let waits = entry.waits.take_if(|_| end);
        if end && entry.frozen.is_none() {
            self.session = None;
        }
        if let Some(waits) = waits {
            self.send(now, || Later::Free(waits));
        }
        Saved::Taken
    }
}

enum Fate {
    Works,
    Fails,
    Late(Duration),
}

/// The store as one server sees it.
struct View {
    model: Arc<Model>,
    user: usize,
}

impl SessionStore for View {
    fn claim(&self, _: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        let (now, mut state) = (self.model.now(), self.model.state());
        match state.fate(self.user, now) {
            Fate::Works => {}
            Fate::Fails => return Err(StoreError::new("it is not there")),
            Fate::Late(delay) => {
                state.later.push((now + delay, Later::Claim(self.user, *claim)));
                return Err(StoreError::new("no answer in time"));
            }
        }
        let claimed = state.claim(now, self.user, claim);
        if let Claimed::Taken { frozen, .. } = &claimed {
            state.users[self.user].given.push(frozen.clone());
        }
        Ok(claimed)
    }

    fn save(&self, _: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        let (now, mut state) = (self.model.now(), self.model.state());
        let numbers = (save.number, save.turn);
        match state.fate(self.user, now) {
            Fate::Works => Ok(state.save(now, numbers, save.frozen, save.end)),
            Fate::Fails => Err(StoreError::new("it is not there")),
            Fate::Late(delay) => {
                let frozen = save.frozen.map(Into::into);
                let later = Later::Save(numbers, frozen, save.end);
                state.later.push((now + delay, later));
                Err(StoreError::new("no answer in time"))
            }
        }
    }

    fn listen(&self, listener: Listener) -> Box<dyn Any + Send> {
        self.model.state().users[self.user].listener = Some(listener);
        Box::new(())
    }

    fn is_immediate(&self) -> bool {
        true
    }
}

/// A handler whose session is what its clients have said, a byte each. It answers with all of it.
struct Keeps {
    model: Arc<Model>,
    user: usize,
}

impl Keeps {
    fn begin(&self, session: &[u8]) {
        let mut state = self.model.state();
        let user = &mut state.users[self.user];
        user.open += 1;
        // A claim whose client has gone meanwhile opens nothing.
        let given = user.given.drain(..).next_back().expect("it was claimed");
        assert_eq!(session, given.unwrap_or_default(), "what was saved last");
    }
}

impl Handler for Keeps {
    type Session = Vec<u8>;

    fn open(&self, peer: &Peer, _: Request) -> Vec<u8> {
        self.begin(&[]);
        peer.send(".");
        Vec::new()
    }

    fn message(&self, session: &mut Vec<u8>, peer: &Peer, message: Message) {
        session.extend(message.as_bytes());
        peer.send(format!(".{}", String::from_utf8_lossy(session)));
    }

    fn closed(&self, _: Vec<u8>, _: &Peer, _: CloseReason) {
        self.model.state().users[self.user].open -= 1;
    }
}

impl Resume for Keeps {
    fn freeze(&self, session: &Vec<u8>) -> Vec<u8> {
        session.clone()
    }

    fn thaw(&self, frozen: &[u8]) -> Result<Vec<u8>, BadSession> {
        Ok(frozen.to_vec())
    }

    fn resumed(&self, session: &mut Vec<u8>, peer: &Peer, _: Request) {
        self.begin(session);
        peer.send(format!(".{}", String::from_utf8_lossy(session)));
    }
}

/// A server, and its clients.
struct Node {
    user: usize,
    server: Server,
    network: MemoryNetwork,
    resumes_at: Option<Duration>,
}

struct Client {
    user: usize,
    wire: MemoryPeer,
    received: Vec<u8>,
    since: Duration,
    phase: Phase,
    /// What its handler has answered first or last.
    heard: Option<Vec<u8>>,
    /// What was answered to others before it came, unless something was lost since.
    due: Option<(u32, Vec<u8>)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Asks,
    Open,
    Over,
}

impl Client {
    /// Reads what has come. Says whether anything has.
    fn attend(&mut self) -> bool {
        let (mut buffer, mut has_moved) = ([0; 4096], false);
        while self.phase != Phase::Over {
            match self.wire.read(&mut buffer) {
                Ok(0) => self.phase = Phase::Over,
                Ok(count) => self.received.extend(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(_) => self.phase = Phase::Over,
            }
            has_moved = true;
        }
        if self.phase == Phase::Asks {
            self.read_head();
        }
        while self.phase == Phase::Open && self.read_frame() {}
        has_moved
    }

    fn read_head(&mut self) {
        let Some(end) = self.received.windows(4).position(|four| four == b"\r\n\r\n") else {
            return;
        };
        let is_open = self.received.starts_with(b"HTTP/1.1 101");
        self.phase = if is_open { Phase::Open } else { Phase::Over };
        self.received.drain(..end + 4);
    }

    fn read_frame(&mut self) -> bool {
        let [first, len, ..] = self.received[..] else { return false };
        let (head, len) = match len {
            126 => match self.received[..] {
                [_, _, high, low, ..] => (4, usize::from(u16::from_be_bytes([high, low]))),
                _ => return false,
            },
            len => (2, usize::from(len)),
        };
        if self.received.len() < head + len {
            return false;
        }
        let payload: Vec<u8> = self.received.drain(..head + len).skip(head).collect();
        match first {
            0x81 => self.heard = Some(payload[1..].to_vec()),
            0x88 => {
                let _ = self.wire.write_all(&frame(0x88, &payload));
            }
            0x89 => {
                let _ = self.wire.write_all(&frame(0x8a, &payload));
            }
            _ => panic!("a frame of {first:#x}"),
        }
        true
    }
}

struct World {
    model: Arc<Model>,
    nodes: Vec<Node>,
    clients: Vec<Client>,
    /// The longest that was answered since the last loss.
    answered: (u32, Vec<u8>),
    said: u8,
    is_hostile: bool,
}

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let is_hostile = rng.chance(75);
        let model = Arc::<Model>::default();
        *model.state() = State { rng: Some(rng), is_hostile, ..State::default() };
        let nodes = (0..3).map(|_| start(&model)).collect();
        let (clients, answered) = (Vec::new(), (0, Vec::new()));
        World { model, nodes, clients, answered, said: b'a', is_hostile }
    }

    fn below(&self, n: u64) -> u64 {
        self.model.state().rng().below(n)
    }

    /// Does one thing.
    fn step(&mut self) {
        let place = self.below(3) as usize;
        match self.below(if self.is_hostile { 20 } else { 14 }) {
            0..4 => self.connect(place),
            4..8 => self.say(),
            8..10 => self.end_client(),
            10..14 => {
                let spans = [1, 20, 50, 200, 900, 1100, 3100, 6100];
                self.pass(ms(spans[self.below(8) as usize]));
            }
            14 | 15 => {
                // The handlers of a process that is killed do nothing more.
                self.model.state().users[self.nodes[place].user].is_dead = true;
                self.nodes[place] = start(&self.model);
            }
            16 | 17 => {
                let until = self.model.now() + ms(self.below(15_000));
                self.nodes[place].resumes_at = Some(until);
                self.model.state().users[self.nodes[place].user].is_stopped = true;
            }
            _ => {
                let mut state = self.model.state();
                let user = &mut state.users[self.nodes[place].user];
                user.is_cut_off = !user.is_cut_off;
                user.well_since = self.model.clock.elapsed();
            }
        }
        self.settle();
    }

    fn connect(&mut self, place: usize) {
        self.note_losses();
        let node = &self.nodes[place];
        let mut wire = node.network.connect().expect("the server listens");
        wire.write_all(upgrade_request("/keeps?sid=a", "").as_bytes()).expect("there is room");
        self.clients.push(Client {
            user: node.user,
            wire,
            received: Vec::new(),
            since: self.model.now(),
            phase: Phase::Asks,
            heard: None,
            due: Some(self.answered.clone()),
        });
    }

    fn note_losses(&mut self) {
        let losses = self.model.state().losses;
        if self.answered.0 != losses {
            self.answered = (losses, Vec::new());
        }
    }

    fn say(&mut self) {
        let place = self.below(4) as usize;
        let mut open = self.clients.iter_mut().filter(|client| client.phase == Phase::Open);
        if let Some(client) = open.nth(place) {
            let _ = client.wire.write_all(&frame(0x81, &[self.said]));
            self.said = if self.said == b'z' { b'a' } else { self.said + 1 };
        }
    }

    fn end_client(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let place = self.below(self.clients.len() as u64) as usize;
        match self.below(2) {
            0 => drop(self.clients.remove(place)),
            _ => {
                let _ = self.clients[place].wire.write_all(&frame(0x88, &1000_u16.to_be_bytes()));
            }
        }
    }

    /// Lets time pass, from one thing that is due to the next.
    fn pass(&mut self, span: Duration) {
        let end = self.model.now() + span;
        loop {
            self.settle();
            let now = self.model.now();
            if now >= end {
                return;
            }
            let runs = |node: &&Node| node.resumes_at.is_none();
            let timeouts =
                self.nodes.iter().filter(runs).filter_map(|node| node.server.next_timeout());
            let resumes = self.nodes.iter().filter_map(|node| node.resumes_at);
            let state = self.model.state();
            let due = state.later.iter().map(|(at, _)| *at).chain(resumes);
            let due = due.map(|at| at.saturating_sub(now)).filter(|wait| !wait.is_zero());
            let wait = timeouts.chain(due).chain([end - now]).min().expect("the end");
            drop(state);
            self.model.clock.advance(wait.max(ms(1)));
        }
    }

    /// Has everybody do what is to be done at this time.
    fn settle(&mut self) {
        let mut has_moved = true;
        let mut rounds = 0;
        while has_moved {
            rounds += 1;
            assert!(rounds < 10_000, "it spins");
            has_moved = self.resume() | self.follow_later();
            for node in self.nodes.iter_mut().filter(|node| node.resumes_at.is_none()) {
                node.server.turn().expect("the poller works");
                while node.server.next_timeout() == Some(Duration::ZERO) {
                    node.server.turn().expect("the poller works");
                }
            }
            self.note_losses();
            let losses = self.answered.0;
            for client in &mut self.clients {
                has_moved |= client.attend();
                let Some(heard) = client.heard.take() else { continue };
                let due = client.due.take().filter(|(before, _)| *before == losses);
                if let (false, Some((_, due))) = (self.is_hostile, due) {
                    assert!(heard.starts_with(&due), "{due:?} was answered, {heard:?} is there");
                }
                if heard.len() > self.answered.1.len() {
                    self.answered.1 = heard;
                }
            }
            self.clients.retain(|client| client.phase != Phase::Over);
        }
        self.judge();
    }

    fn resume(&mut self) -> bool {
        let now = self.model.now();
        let due = |node: &&mut Node| node.resumes_at.is_some_and(|at| at <= now);
        let mut has_moved = false;
        for node in self.nodes.iter_mut().filter(due) {
            node.resumes_at = None;
            let mut state = self.model.state();
            let user = &mut state.users[node.user];
            (user.is_stopped, user.well_since, has_moved) = (false, now, true);
        }
        has_moved
    }

    /// Has the store and the servers take what comes to them now.
    fn follow_later(&mut self) -> bool {
        let (now, mut state) = (self.model.now(), self.model.state());
        // Who stands still hears nothing; who is dead never does.
        let stopped: Vec<bool> = state.users.iter().map(|user| user.is_stopped).collect();
        let waits = |later: &Later| match later {
            Later::Wanted(user, _) | Later::Free(user) => stopped[*user],
            Later::Claim(..) | Later::Save(..) => false,
        };
        let (due, rest) = std::mem::take(&mut state.later)
            .into_iter()
            .partition::<Vec<_>, _>(|(at, later)| *at <= now && !waits(later));
        state.later = rest;
        drop(state);
        let id = SessionId::new("/keeps", "a").expect("it is good");
        let has_moved = !due.is_empty();
        for (_, later) in due {
            let mut state = self.model.state();
            let listener = match &later {
                Later::Wanted(user, _) | Later::Free(user) => {
                    let user = &state.users[*user];
                    user.listener.clone().filter(|_| !user.is_dead && !user.is_cut_off)
                }
                _ => None,
            };
            match later {
                Later::Claim(user, claim) => drop(state.claim(now, user, &claim)),
                Later::Save(numbers, frozen, end) => {
                    state.save(now, numbers, frozen.as_deref(), end);
                }
                Later::Wanted(_, number) => {
                    drop(state);
                    listener.iter().for_each(|listener| listener.wanted(&id, number));
                }
                Later::Free(_) => {
                    drop(state);
                    listener.iter().for_each(|listener| listener.free(&id));
                }
            }
        }
        has_moved
    }

    /// Nobody has lost a session and does not learn of it; everybody is answered.
    fn judge(&mut self) {
        let (now, mut state) = (self.model.now(), self.model.state());
        state.forget(now);
        for (index, user) in state.users.iter().enumerate() {
            if user.is_dead || user.is_stopped || user.is_cut_off {
                continue;
            }
            assert!(user.open <= 1, "{} owners on one server", user.open);
            let since = user.lost_since.map(|since| since.max(user.well_since));
            let is_late = since.is_some_and(|since| now > since + NEXT_SAVE);
            assert!(user.open == 0 || !is_late, "an owner of {index} lives on at {now:?}");
        }
        for client in self.clients.iter().filter(|client| client.phase == Phase::Asks) {
            let user = &state.users[client.user];
            let since = client.since.max(user.well_since);
            let is_late = !user.is_stopped && now > since + ANSWERED;
            assert!(!is_late, "an upgrade waits since {since:?} at {now:?}");
        }
    }

    /// All is well again: whoever comes now is let in; whoever has gone leaves nothing when its
    /// time is over.
    fn end(&mut self) {
        for node in &mut self.nodes {
            node.resumes_at = node.resumes_at.map(|_| Duration::ZERO);
        }
        self.model.state().is_hostile = false;
        let now = self.model.now();
        self.model.state().users.iter_mut().filter(|user| user.is_cut_off).for_each(|user| {
            (user.is_cut_off, user.well_since) = (false, now);
        });
        self.pass(2 * NEXT_SAVE + ms(5000));
        let place = self.below(3) as usize;
        let since = self.model.now();
        self.connect(place);
        self.pass(ms(2500));
        let last = self.clients.last().filter(|client| client.since == since);
        let phase = last.map(|client| client.phase);
        assert_eq!(phase, Some(Phase::Open), "whoever comes is let in");
        self.clients.clear();
        self.pass(NEXT_SAVE);
        let held = |node: &Node| {
            let metrics = node.server.metrics();
            metrics.lines().any(|line| line == "heartwheel_sessions_held 0")
        };
        assert!(self.nodes.iter().all(held), "a session that nobody holds is held");
        self.pass(TTL);
        let mut state = self.model.state();
        let now = self.model.now();
        state.forget(now);
        assert!(state.session.is_none(), "a ghost is there");
    }
}

fn start(model: &Arc<Model>) -> Node {
    let user = {
        let mut state = model.state();
        state.users.push(User { well_since: model.now(), ..User::default() });
        state.users.len() - 1
    };
    let mut config = Config::default();
    for (key, value) in [("workers", "0"), ("sessions.save", "1s"), ("sessions.ttl", "6s")] {
        config.set(key, value).expect("it is a key");
    }
    let (view, keeps) = (View { model: model.clone(), user }, Keeps { model: model.clone(), user });
    let route = Route::sessions("/keeps", keeps, SessionKey::query("sid"), Arc::new(view));
    let builder = Server::builder().seed(7).route(route).config(config);
    let network = MemoryNetwork::new();
    let builder = builder.clock(model.clock.clone());
    let server = builder.listen_memory(&network).expect("the configuration is sound");
    Node { user, server, network, resumes_at: None }
}

/// One run: a client, or several of one key, that go from server to server. Returns how many
/// claims there were, and how many by force.
fn run(seed: u64) -> (u64, u32) {
    let mut world = World::new(seed);
    for _ in 0..10 + world.below(30) {
        world.step();
    }
    world.end();
    let state = world.model.state();
    (state.last_number, state.forced)
}

// FAULTS 268.
#[test]
fn one_owner_saves_whatever_becomes_of_the_others() {
    let first = std::env::var("SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let runs = rounds(200) as u64;
    let (mut claims, mut forced) = (0, 0);
    for seed in first..first + runs {
        let Ok(run) = std::panic::catch_unwind(|| run(seed)) else { panic!("SEED={seed}") };
        claims += run.0;
        forced += run.1;
    }
    println!("runs={runs} claims={claims} forced={forced}");
}

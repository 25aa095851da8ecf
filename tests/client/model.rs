//! The state machine of a client against a model: any input in any state.
//!
//! The model knows what a client was told to do by the table of its guide, and judges what the
//! machine does: its sockets, its deadlines, its waits, its breakers, and what it tells.
//!
//! `SEED=` runs one program, `ROUNDS=` sets how many there are.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use heartwheel::Message;
use heartwheel::core::client::{Dialler, Means, Rules, State, Told, Why};

use super::common::rng::Rng;
use super::rig::{Rig, close_frame, frame, rules, setup, stopped_within};

/// What the breaker of one address must do.
#[derive(Clone, Debug, Default)]
struct Breaker {
    tries: Vec<(u64, bool)>,
    open_until: Option<u64>,
    is_probing: bool,
    opened: u32,
}

impl Breaker {
    fn begin(&mut self, now: u64) {
        assert!(!self.is_probing, "a second probe");
        if let Some(until) = self.open_until.take() {
            assert!(until <= now, "a try while the breaker is open");
            self.is_probing = true;
        }
    }

    fn held(&mut self, now: u64, rules: &Rules) {
        (self.is_probing, self.open_until, self.opened) = (false, None, 0);
        self.count(now, rules, false);
    }

    fn ended(&mut self, now: u64, rules: &Rules, failed: bool) {
        if !self.is_probing {
            if !failed {
                return;
            }
            self.count(now, rules, true);
            let failures = self.tries.iter().filter(|(_, failed)| *failed).count();
            if self.tries.len() < 5 || failures * 10 < self.tries.len() * 7 {
                return;
            }
        }
        let longest = (30 * 60_000).max(ms(rules.breaker.broken_for));
        let span = ms(rules.breaker.broken_for).saturating_mul(1 << self.opened.min(30));
        self.open_until = Some(now + span.min(longest));
        self.opened += 1;
        self.is_probing = false;
        self.tries.clear();
    }

    fn count(&mut self, now: u64, rules: &Rules, failed: bool) {
        self.tries.retain(|(at, _)| now - at <= ms(rules.breaker.window));
        self.tries.push((now, failed));
        if self.tries.len() > 32 {
            self.tries.remove(0);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stop,
    Renew,
    Retry,
}

/// The table of the guide.
fn verdict(why: &Why) -> Verdict {
    let of_code = |code: u16| match code {
        1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 4409 | 4500..=4999 => Verdict::Stop,
        3000 => Verdict::Renew,
        _ => Verdict::Retry,
    };
    match why {
        Why::Stopped | Why::AcceptKey | Why::Certificate(_) => Verdict::Stop,
        Why::Status { status: 400 | 403 | 404 | 405 | 426, .. } => Verdict::Stop,
        Why::Status { status: 401, .. } => Verdict::Renew,
        Why::Closed { code, .. } => of_code(*code),
        Why::Violation(_) => of_code(why.code()),
        _ => Verdict::Retry,
    }
}

/// Whether a server was reached, and failed.
fn is_fault(why: &Why) -> bool {
    match why {
        Why::Name(_) | Why::Unreachable(_) | Why::TimedOut(_) | Why::Stopped => false,
        Why::Status { status, .. } => !(400..500).contains(status),
        Why::Closed { code, .. } => {
            !matches!(code, 1000 | 1001 | 1012 | 3000) && !(4000..=4999).contains(code)
        }
        _ => true,
    }
}

struct World {
    rig: Rig,
    rng: Rng,
    rules: Rules,
    renews: bool,
    breakers: BTreeMap<String, Breaker>,
    state: State,
    /// When the connection was opened, until its end begins.
    opened_at: Option<u64>,
    has_held: bool,
    retries: u32,
    failures: u32,
    has_renewed: bool,
    has_credentials: bool,
    /// No try before then.
    waits_until: u64,
    /// The least that the server has asked for, on this connection.
    goaway: Duration,
    stopped_at: Option<u64>,
    is_alarmed: bool,
    /// The target that is tried.
    target: String,
    /// How often what happens leads on, of a hundred times.
    sense: u64,
    /// How often the server takes the upgrade.
    success: u64,
}

type Seen = BTreeMap<(&'static str, &'static str), u64>;

const URLS: [&str; 4] =
    ["ws://10.0.0.1:80/", "ws://one.example/x", "wss://10.0.0.2/", "wss://two.example"];

impl World {
    fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let rules = rules(&[
            ("client.stable", ["1s", "10s"][rng.below(2) as usize]),
            ("client.window", ["5s", "1m"][rng.below(2) as usize]),
            ("client.delay", ["1s", "100ms"][rng.below(2) as usize]),
            ("client.delay_max", ["1s", "30s"][rng.below(2) as usize]),
            ("client.broken_for", ["20s", "5m"][rng.below(2) as usize]),
            ("limits.message_bytes", "4k"),
            ("limits.outbox_bytes", "16k"),
        ]);
        let count = 1 + rng.below(3) as usize;
        let first = rng.below(4) as usize;
        let urls: Vec<&str> = (0..count).map(|index| URLS[(first + index) % 4]).collect();
        let mut setup = setup(&urls, rules.clone());
        setup.renews = rng.chance(70);
        if rng.chance(20) {
            setup.proxy =
                Some(["http://proxy:3128", "http://10.9.9.9:3128"][count % 2].parse().unwrap());
        }
        let renews = setup.renews;
        let (sense, success) = (30 + rng.below(65), rng.below(100));
        // Near the wrap of 32 bits in some programs.
        let now = [0, 7, (1 << 32) - 20_000, 1 << 40][rng.below(4) as usize];
        let rig = Rig::new(setup, rng.next_u64(), now);
        World {
            rig,
            rng,
            rules,
            renews,
            breakers: BTreeMap::new(),
            state: State::Waiting,
            opened_at: None,
            has_held: false,
            retries: 0,
            failures: 0,
            has_renewed: false,
            has_credentials: true,
            waits_until: 0,
            goaway: Duration::ZERO,
            stopped_at: None,
            is_alarmed: false,
            target: String::new(),
            sense,
            success,
        }
    }

    fn act(&mut self, act: impl FnOnce(&mut Dialler, &mut Means<'_>)) {
        self.rig.act(act);
        self.judge();
    }

    /// Chooses what happens: often what leads on, else any thing.
    fn choose(&mut self) -> u64 {
        if !self.rng.chance(self.sense) {
            return self.rng.below(26);
        }
        match self.state {
            State::Broken if self.rng.chance(50) => self.rng.below(26),
            State::Waiting | State::Broken => 0,
            State::Resolving => 5,
            State::Connecting if self.rig.is_kept => 15,
            State::Connecting => 6,
            State::Securing => 9,
            State::Upgrading if self.rng.chance(self.success) => 12,
            State::Upgrading => 15,
            _ => self.rng.below(26),
        }
    }

    /// Does one thing, any thing. Returns its name.
    fn step(&mut self) -> &'static str {
        let now = self.rig.now_ms;
        let due = self.rig.dialler.poll_timeout(self.rig.now()).map(|at| at.as_millis());
        match self.choose() {
            0..3 => {
                let due = due.unwrap_or(now);
                self.advance(due.max(now));
                "its deadline"
            }
            3 => {
                let before = due.unwrap_or(now + 5).saturating_sub(1).max(now);
                self.advance(before);
                "just before its deadline"
            }
            4 => {
                let span = 1 << self.rng.below(22);
                self.advance(now + span);
                "any time"
            }
            5 => {
                let number = match self.rng.chance(80) {
                    true => self.rig.asked.last().copied().unwrap_or(1),
                    false => self.rng.below(5) as u32,
                };
                let count = [0, 1, 2, 40][self.rng.below(4) as usize];
                let all: Vec<SocketAddr> = (0..count).map(|n| ([10, 1, 0, n], 80).into()).collect();
                let found = if self.rng.chance(90) { Ok(all) } else { Err("no such host".into()) };
                self.act(|dialler, means| dialler.resolved(means, number, found));
                "a name is found, or not"
            }
            6..8 => {
                let number = self.any_try();
                self.act(|dialler, means| dialler.connected(means, number));
                "connected"
            }
            8 => {
                let number = self.any_try();
                self.act(|dialler, means| dialler.connect_failed(means, number, "refused".into()));
                "not connected"
            }
            9 => {
                self.act(|dialler, means| dialler.secured(means));
                "secured"
            }
            10 => {
                let why = match self.rng.chance(80) {
                    true => Why::Tls("alert".into()),
                    false => Why::Certificate("expired".into()),
                };
                self.act(|dialler, means| dialler.tls_failed(means, why));
                "TLS failed"
            }
            11 => {
                let token = ["fresh", "", "bad\r\n"][self.rng.below(3) as usize];
                let token = self.rng.chance(60).then(|| token.to_owned());
                let is_good = token.as_deref().is_some_and(|token| token != "bad\r\n");
                self.has_credentials = is_good;
                self.act(|dialler, means| dialler.renewed(means, token));
                assert!(is_good || self.state == State::Stopped);
                "renewed"
            }
            12..15 => {
                self.rig.write_all();
                self.judge();
                if let Some(answer) = self.rig.answer().filter(|_| self.rig.is_kept) {
                    self.receive(answer.as_bytes());
                }
                "101"
            }
            15 => {
                let status = match self.state {
                    State::Connecting => [200, 200, 200, 407],
                    _ if self.rng.chance(self.sense) => [200, 302, 502, 503],
                    _ if self.rng.chance(70) => [401, 407, 429, 302],
                    _ => [400, 403, 404, 426],
                };
                let status = status[self.rng.below(4) as usize];
                let after = ["", "", "", "Retry-After: 40\r\n", "Retry-After: 99999999999\r\n"];
                let after = after[self.rng.below(5) as usize];
                self.receive(format!("HTTP/1.1 {status} X\r\n{after}\r\n").as_bytes());
                "a status"
            }
            16 => {
                let length = self.rng.below(200) as usize;
                let bytes: Vec<u8> = (0..length).map(|_| self.rng.next_u64() as u8).collect();
                self.receive(&bytes);
                "garbage"
            }
            17 => {
                let opcode = [0, 1, 2, 9, 10][self.rng.below(5) as usize];
                let length = [0, 4, 125, 126, 5000][self.rng.below(5) as usize];
                self.receive(&frame(opcode, &vec![b'x'; length]));
                "a frame"
            }
            18 => {
                self.receive(&frame(9, b"ping").repeat(400));
                "pings"
            }
            19 => {
                let codes =
                    [1000, 1001, 1002, 1008, 1011, 1012, 1013, 3000, 3008, 4000, 4409, 4999];
                let code = codes[self.rng.below(codes.len() as u64) as usize];
                let reason = ["", "retry=7000", "retry=x", "retry=4294967295"];
                let reason = reason[self.rng.below(4) as usize];
                self.receive(&close_frame(code, reason));
                "a close frame"
            }
            20 => {
                let error = self.rng.chance(50).then(|| "reset".to_owned());
                self.act(|dialler, means| dialler.lost(means, error));
                "FIN"
            }
            21 => {
                let most = 1 << self.rng.below(14);
                self.rig.write(most);
                self.judge();
                "written"
            }
            22 => {
                let length = [0, 100, 20_000][self.rng.below(3) as usize];
                let is_open = self.state == State::Open;
                let message = Message::binary(vec![7; length]);
                let taken = self.rig.act(|dialler, means| dialler.send(means, message));
                assert!(is_open || taken.is_err(), "nothing is taken without a connection");
                assert!(self.rig.dialler.outbox_bytes() <= (16 << 10) + 30_000);
                self.judge();
                "send"
            }
            23 => {
                let wait = Duration::from_secs(self.rng.below(60));
                if self.state == State::Open {
                    self.rig.dialler.note_goaway(wait);
                    self.goaway = wait;
                }
                "goaway"
            }
            24 => {
                match self.rng.chance(60) {
                    true => self.act(|dialler, means| dialler.reconnect(means)),
                    false => self.act(|dialler, means| dialler.handle_time_jump(means)),
                }
                "reconnect"
            }
            _ => {
                if self.rng.chance(15) {
                    self.stopped_at.get_or_insert(now);
                    self.act(|dialler, means| dialler.stop(means, 1000, "bye"));
                }
                "stop"
            }
        }
    }

    fn any_try(&mut self) -> u8 {
        match self.rng.chance(80) {
            true => self.rig.tries.first().copied().unwrap_or(0),
            false => self.rng.below(10) as u8,
        }
    }

    /// Gives bytes to the client, whole or in two pieces.
    fn receive(&mut self, bytes: &[u8]) {
        let cut = self.rng.below(bytes.len() as u64 + 1) as usize;
        let (head, tail) = bytes.split_at(if self.rng.chance(50) { cut } else { bytes.len() });
        self.rig.receive(head);
        self.judge();
        self.rig.receive(tail);
        self.judge();
    }

    /// Lets time pass. What is due acts then, not before, and does not stay due.
    fn advance(&mut self, to: u64) {
        self.rig.now_ms = to;
        for _ in 0..10 {
            let due = self.rig.dialler.poll_timeout(self.rig.now()).map(|at| at.as_millis());
            let connects = self.rig.connects;
            let outbox = self.rig.dialler.outbox_bytes();
            self.rig.act(|dialler, means| dialler.timeout(means));
            if due.is_none_or(|due| due > to) {
                assert!(self.rig.told.is_empty(), "it acted early: {:?}", self.rig.told);
                assert_eq!(
                    (connects, outbox),
                    (self.rig.connects, self.rig.dialler.outbox_bytes())
                );
                self.hold();
                return;
            }
            self.judge();
        }
        panic!("a deadline stays due");
    }

    /// The connection holds, if it has been open for long enough.
    fn hold(&mut self) {
        let now = self.rig.now_ms;
        let is_old = |at: u64| now >= at + ms(self.rules.stable);
        if self.opened_at.is_some_and(is_old) && !self.has_held {
            self.has_held = true;
            (self.retries, self.failures, self.has_renewed) = (0, 0, false);
            self.is_alarmed = false;
            self.breakers.entry(self.target.clone()).or_default().held(now, &self.rules);
        }
    }

    /// Judges what was told, and what is so at any time.
    fn judge(&mut self) {
        for told in std::mem::take(&mut self.rig.told) {
            match told {
                Told::State { state, wait, failures, why } => {
                    let is_wait = matches!(state, State::Waiting | State::Broken);
                    assert_eq!(wait.is_some(), is_wait, "{state}");
                    assert_eq!(why.is_some(), is_wait || state == State::Stopped, "{state}");
                    self.enter(state, wait, why);
                    assert_eq!(failures, self.failures, "{state}");
                }
                Told::Alarm => {
                    assert!(!self.is_alarmed, "told once");
                    self.is_alarmed = true;
                    // What ended is told behind it.
                    assert_eq!(self.failures + 1, 5);
                }
                Told::Message(_) => assert_eq!(self.state, State::Open),
                _ => {}
            }
        }
        let (dialler, now) = (&self.rig.dialler, self.rig.now_ms);
        assert_eq!(dialler.state(), self.state, "told and true");
        let due = dialler.poll_timeout(self.rig.now());
        assert_eq!(due.is_none(), self.state == State::Stopped, "{}", self.state);
        let has_socket =
            matches!(self.state, State::Securing | State::Upgrading | State::Open | State::Closing);
        assert!(self.rig.is_kept || !has_socket, "{} without a socket", self.state);
        let rests = matches!(self.state, State::Waiting | State::Broken | State::Stopped);
        let has_none = !self.rig.is_kept && self.rig.tries.is_empty();
        assert!(has_none || !rests, "a socket stays");
        assert!(self.failures < 5 || self.is_alarmed || self.state == State::Stopped);
        if let Some(at) = self.stopped_at {
            let until = at + ms(stopped_within(&self.rules));
            let due = due.map_or(now, |due| due.as_millis());
            assert!(self.state == State::Stopped || due <= until, "it does not stop in time");
        }
    }

    fn enter(&mut self, state: State, wait: Option<Duration>, why: Option<Why>) {
        use State::*;
        let was = std::mem::replace(&mut self.state, state);
        let may = match state {
            Resolving => matches!(was, Waiting | Broken),
            Connecting => matches!(was, Waiting | Broken | Resolving),
            Securing => was == Connecting,
            Upgrading => matches!(was, Connecting | Securing),
            Open => was == Upgrading,
            Closing => was == Open,
            Waiting | Broken => !matches!(was, Waiting | Broken | Stopped),
            _ => was != Stopped,
        };
        assert!(may, "{was} -> {state}");
        assert!(self.stopped_at.is_none() || matches!(state, Closing | Stopped), "{state}");
        let now = self.rig.now_ms;
        match state {
            Resolving | Connecting if matches!(was, Waiting | Broken) => {
                assert!(now >= self.waits_until, "a try before its time");
                self.target = self.rig.dialler.target().to_string();
                self.breakers.entry(self.target.clone()).or_default().begin(now);
                self.goaway = Duration::ZERO;
            }
            Open => (self.opened_at, self.has_held) = (Some(now), false),
            Closing => {
                self.hold();
                self.opened_at = None;
            }
            _ => {}
        }
        let Some(why) = why else { return };
        if was == Open {
            self.hold();
        }
        let had_held = std::mem::take(&mut self.has_held) && matches!(was, Open | Closing);
        self.opened_at = None;
        if matches!(why, Why::Stopped) {
            assert!(self.stopped_at.is_some() && state == Stopped);
            return;
        }
        if !self.has_credentials {
            return assert_eq!(state, Stopped);
        }
        self.failures = if had_held { 0 } else { self.failures + 1 };
        let failed = is_fault(&why) && !had_held;
        let breaker = self.breakers.entry(self.target.clone()).or_default();
        breaker.ended(now, &self.rules, failed);
        match verdict(&why) {
            Verdict::Stop => return assert_eq!(state, Stopped, "{why}"),
            Verdict::Renew if !self.renews || self.has_renewed => {
                return assert_eq!(state, Stopped, "twice in a row: {why}");
            }
            Verdict::Renew => {
                self.has_renewed = true;
                assert_eq!(self.rig.renewals, 1, "credentials are asked for once");
                self.rig.renewals = 0;
            }
            Verdict::Retry => assert_eq!(self.rig.renewals, 0),
        }
        let wait = wait.expect("it goes on");
        self.waits_until = now + ms(wait);
        let day = Duration::from_secs(24 * 60 * 60);
        let asked = why.asked_wait().max(self.goaway).min(day);
        assert!(wait >= asked, "{wait:?} after {asked:?} was asked for");
        assert!(wait <= day, "{wait:?}: nobody may ask for so long");
        let next = self.rig.dialler.target().to_string();
        let is_open = |breaker: &Breaker| breaker.open_until.is_some_and(|until| until > now);
        let next_is_open = self.breakers.get(&next).is_some_and(is_open);
        if state == Broken {
            let until = self.breakers[&next].open_until.unwrap();
            assert!(self.breakers.values().all(is_open), "one could be tried");
            let soonest = self.breakers.values().filter_map(|breaker| breaker.open_until).min();
            assert_eq!(Some(until), soonest);
            assert_eq!(self.waits_until, until.max(now + ms(asked)));
        } else {
            assert!(!next_is_open);
            let factor = 1u32 << self.retries.min(20);
            let most = (self.rules.backoff.delay * factor).min(self.rules.backoff.delay_max);
            assert!(wait <= most.max(asked), "retry {} waits {wait:?}", self.retries);
            self.retries += 1;
        }
    }
}

fn ms(span: Duration) -> u64 {
    span.as_millis() as u64
}

struct Running(u64, Vec<&'static str>);

impl Drop for Running {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let last = self.1.len().saturating_sub(12);
            eprintln!("failed with SEED={}, at last {:?}", self.0, &self.1[last..]);
        }
    }
}

fn from_env(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

/// Programs of 150 steps each: no two sockets, no state without a deadline, no deadline early, no
/// second probe, no try before its time, no end without what the table says follows.
#[test]
fn any_input_in_any_state_agrees_with_the_model() {
    let seeds = match from_env("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("ROUNDS").unwrap_or(4000),
    };
    let is_short = seeds.end - seeds.start < 2000;
    let mut seen = Seen::new();
    for seed in seeds {
        let mut world = World::new(seed);
        let mut running = Running(seed, Vec::new());
        for _ in 0..150 {
            let state = world.state.label();
            let step = world.step();
            running.1.push(step);
            *seen.entry((state, step)).or_default() += 1;
            if world.state == State::Stopped && world.rng.chance(30) {
                break;
            }
        }
        // A client that was stopped ends by its deadlines alone.
        let now = world.rig.now_ms;
        world.stopped_at.get_or_insert(now);
        world.act(|dialler, means| dialler.stop(means, 1000, ""));
        while world.state != State::Stopped {
            let at = world.rig.dialler.poll_timeout(world.rig.now()).unwrap().as_millis();
            world.advance(at.max(world.rig.now_ms));
        }
    }
    let steps: std::collections::BTreeSet<&str> = seen.keys().map(|(_, step)| *step).collect();
    let states = State::ALL.map(State::label);
    let missing: Vec<_> = states
        .iter()
        .flat_map(|state| steps.iter().map(move |step| (*state, *step)))
        .filter(|pair| !seen.contains_key(pair))
        .collect();
    assert!(
        is_short || (steps.len() == 21 && missing.is_empty()),
        "{} never: {missing:?}",
        steps.len()
    );
}

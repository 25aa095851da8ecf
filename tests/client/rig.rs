//! One state machine of a client without sockets, which a test feeds by hand.

use std::collections::BTreeSet;
use std::io::IoSlice;
use std::sync::Arc;
use std::time::Duration;

use heartwheel::Config;
use heartwheel::core::client::{Action, Common, Dialler, Means, Rules, Setup, State, Told};
use heartwheel::core::ground::time::Instant;
use tungstenite::handshake::derive_accept_key;

/// A client, what it shares with others, and what became of its sockets.
pub struct Rig {
    pub dialler: Dialler,
    common: Common,
    pub now_ms: u64,
    /// There is a connection.
    pub is_kept: bool,
    /// Tries of addresses that are under way.
    pub tries: BTreeSet<u8>,
    /// Look-ups that were asked for.
    pub asked: Vec<u32>,
    /// How often credentials were asked for.
    pub renewals: u32,
    /// How many addresses were tried.
    pub connects: u64,
    /// What the client has written on this connection.
    pub written: Vec<u8>,
    pub told: Vec<Told>,
    /// Header lines of the answer to an upgrade, beside those that it must have.
    pub lines: String,
}

impl Rig {
    pub fn new(setup: Setup, seed: u64, now_ms: u64) -> Rig {
        let now = Instant::from_millis(now_ms);
        Rig {
            dialler: Dialler::new(Arc::new(setup), Some("secret".into()), now),
            common: Common::new(seed),
            now_ms,
            is_kept: false,
            tries: BTreeSet::new(),
            asked: Vec::new(),
            renewals: 0,
            connects: 0,
            written: Vec::new(),
            told: Vec::new(),
            lines: String::new(),
        }
    }

    pub fn now(&self) -> Instant {
        Instant::from_millis(self.now_ms)
    }

    /// Lets something happen to the client, and follows what it does with its sockets.
    pub fn act<T>(&mut self, act: impl FnOnce(&mut Dialler, &mut Means<'_>) -> T) -> T {
        let now = self.now();
        let acted = act(&mut self.dialler, &mut self.common.means(now));
        while let Some(action) = self.dialler.poll_action() {
            self.follow(action);
        }
        self.told.extend(self.dialler.take_told());
        acted
    }

    fn follow(&mut self, action: Action) {
        match action {
            Action::Resolve(number, _, _) => self.asked.push(number),
            Action::Connect(number, _) => {
                assert!(!self.is_kept, "it connects beside its connection");
                assert!(self.tries.insert(number), "two tries have one number");
                assert!(self.tries.len() <= 8, "too many tries at once");
                self.connects += 1;
            }
            Action::Keep(number) => {
                assert!(!self.is_kept, "there are two connections");
                assert!(self.tries.contains(&number), "it keeps what is not there");
                self.tries.clear();
                self.is_kept = true;
                self.written.clear();
            }
            Action::Secure(_) => assert!(self.is_kept, "TLS on nothing"),
            Action::Renew => self.renewals += 1,
            Action::Close { .. } => {
                self.tries.clear();
                self.is_kept = false;
            }
        }
    }

    /// Takes what the client writes, at most `most` bytes of it.
    pub fn write(&mut self, most: usize) -> usize {
        if !self.is_kept {
            return 0;
        }
        let mut scratch = Vec::new();
        let mut slices = [IoSlice::new(&[]); 16];
        let count = self.dialler.gather(&mut slices, &mut scratch);
        let mut bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
        bytes.truncate(most);
        self.act(|dialler, means| dialler.written(means, bytes.len()));
        self.written.extend_from_slice(&bytes);
        bytes.len()
    }

    /// Takes all that the client writes.
    pub fn write_all(&mut self) {
        while self.write(usize::MAX) > 0 {}
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        let mut bytes = bytes.to_vec();
        self.act(|dialler, means| dialler.receive(means, &mut bytes));
        #[cfg(feature = "deflate")]
        while self.act(|dialler, means| dialler.receive_unread(means)) {}
    }

    /// Returns the answer to the upgrade that was written.
    pub fn answer(&self) -> Option<String> {
        let text = String::from_utf8_lossy(&self.written);
        let (_, rest) = text.rsplit_once("Sec-WebSocket-Key: ")?;
        let (key, _) = rest.split_once("\r\n")?;
        let accept = derive_accept_key(key.as_bytes());
        Some(format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n{}\r\n",
            self.lines
        ))
    }

    /// Lets time pass to the client's deadline and acts on it, as often as it lies before `until`.
    pub fn pass_to(&mut self, until_ms: u64) {
        for _ in 0..100_000 {
            let at = self.dialler.poll_timeout(self.now()).map(Instant::as_millis);
            let Some(at) = at.filter(|at| *at <= until_ms) else {
                self.now_ms = self.now_ms.max(until_ms);
                return;
            };
            self.now_ms = self.now_ms.max(at);
            self.act(|dialler, means| dialler.timeout(means));
        }
        panic!("the deadline does not move");
    }

    /// Goes to an open connection, from any state that leads there by itself.
    pub fn open(&mut self) {
        for _ in 0..20 {
            match self.dialler.state() {
                State::Waiting | State::Broken => {
                    let at = self.dialler.poll_timeout(self.now()).unwrap();
                    self.now_ms = self.now_ms.max(at.as_millis());
                    self.act(|dialler, means| dialler.timeout(means));
                }
                State::Resolving => {
                    let number = *self.asked.last().unwrap();
                    let found = Ok(vec!["10.0.0.1:80".parse().unwrap()]);
                    self.act(|dialler, means| dialler.resolved(means, number, found));
                }
                State::Connecting if self.is_kept => {
                    self.receive(b"HTTP/1.1 200 OK\r\n\r\n");
                    self.write_all();
                }
                State::Connecting => {
                    let number = *self.tries.first().unwrap();
                    self.act(|dialler, means| dialler.connected(means, number));
                    self.write_all();
                }
                State::Securing => {
                    self.act(|dialler, means| dialler.secured(means));
                    self.write_all();
                }
                State::Upgrading => {
                    self.write_all();
                    let answer = self.answer().expect("it has asked for an upgrade");
                    self.receive(answer.as_bytes());
                }
                _ => return,
            }
        }
    }
}

/// Rules of the defaults, changed by these keys.
pub fn rules(settings: &[(&str, &str)]) -> Rules {
    let mut config = Config::default();
    settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
    Rules::from(&config)
}

pub fn setup(urls: &[&str], rules: Rules) -> Setup {
    Setup::new(urls.iter().map(|url| url.parse().unwrap()).collect(), rules)
}

/// A frame of a server: final, with an opcode, not masked.
pub fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x80 | opcode];
    match payload.len() {
        len @ 0..=125 => bytes.push(len as u8),
        len @ 126..=65_535 => {
            bytes.push(126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(payload);
    bytes
}

/// A close frame of a server.
pub fn close_frame(code: u16, reason: &str) -> Vec<u8> {
    frame(8, &[&code.to_be_bytes()[..], reason.as_bytes()].concat())
}

/// What the client's deadlines add up to once it was told to stop.
pub fn stopped_within(rules: &Rules) -> Duration {
    rules.close_send + 2 * rules.close_ack + Duration::from_millis(3)
}

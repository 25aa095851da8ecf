//! An honest peer that is a client of ours, without its socket.

use std::io::{ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;
use std::time::Duration;

use heartwheel::core::client::{Action, Common, Dialler, Means, Rules, Setup, State, Told};
use heartwheel::core::ground::time::Instant;
use heartwheel::{Config, Message};

use crate::link::Link;

/// A client of one connection: what comes behind its end is another peer's.
pub struct Ours {
    dialler: Dialler,
    common: Common,
    was_connected: bool,
    /// When it last did something.
    now: u64,
    /// Its connection has ended.
    pub is_over: bool,
}

impl Ours {
    pub fn new(path: &str, seed: u64, now: u64) -> Ours {
        let target = format!("ws://127.0.0.1{path}").parse().expect("it is a URL");
        let setup = Setup::new(vec![target], patient(seed));
        Ours {
            dialler: Dialler::new(Arc::new(setup), None, Instant::from_millis(now)),
            common: Common::new(seed),
            was_connected: false,
            now,
            is_over: false,
        }
    }

    pub fn is_open(&self) -> bool {
        !self.is_over && self.dialler.state() == State::Open
    }

    /// Gives when it has something to do by itself.
    pub fn next_at(&self) -> Option<u64> {
        let at = self.dialler.poll_timeout(Instant::from_millis(self.now));
        at.filter(|_| !self.is_over).map(Instant::as_millis)
    }

    pub fn send(&mut self, now: u64, message: Message) {
        let sent = self.step(now, |dialler, means| dialler.send(means, message));
        sent.expect("there is room for what honest peers send");
    }

    pub fn stop(&mut self, now: u64) {
        self.step(now, |dialler, means| dialler.stop(means, 1000, ""));
    }

    /// Does what is due, reads and writes. Gives what it has to tell.
    pub fn act(&mut self, now: u64, link: &mut Link) -> Vec<Told> {
        self.now = now;
        while self.next_at().is_some_and(|at| at <= now) {
            self.step(now, |dialler, means| dialler.timeout(means));
        }
        self.read(now, link);
        self.write(now, link);
        if self.is_over {
            link.client_close();
        }
        self.dialler.take_told()
    }

    fn read(&mut self, now: u64, link: &mut Link) {
        let mut buffer = [0; 4096];
        while !self.is_over && self.was_connected && self.dialler.wants_read() {
            #[cfg(feature = "deflate")]
            if self.step(now, |dialler, means| dialler.receive_unread(means)) {
                continue;
            }
            match Read::read(link, &mut buffer) {
                Ok(0) => return self.step(now, |dialler, means| dialler.lost(means, None)),
                Ok(len) => {
                    self.step(now, |dialler, means| dialler.receive(means, &mut buffer[..len]))
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => {
                    let error = Some(error.to_string());
                    return self.step(now, |dialler, means| dialler.lost(means, error));
                }
            }
        }
    }

    fn write(&mut self, now: u64, link: &mut Link) {
        while !self.is_over && self.was_connected {
            let mut scratch = Vec::new();
            let mut slices = [IoSlice::new(&[]); 16];
            let count = self.dialler.gather(&mut slices, &mut scratch);
            let bytes: Vec<u8> = slices[..count].iter().flat_map(|slice| slice.to_vec()).collect();
            if bytes.is_empty() {
                return;
            }
            // What cannot be written tells of itself when it is read.
            let Ok(len) = Write::write(link, &bytes) else { return };
            self.step(now, |dialler, means| dialler.written(means, len));
        }
    }

    /// Lets something happen to the client, and follows what it does with its socket.
    fn step<T>(&mut self, now: u64, act: impl FnOnce(&mut Dialler, &mut Means<'_>) -> T) -> T {
        let Ours { dialler, common, .. } = self;
        let mut means = common.means(Instant::from_millis(now));
        let acted = act(dialler, &mut means);
        while let Some(action) = dialler.poll_action() {
            match action {
                // Its connection is the one it was made for.
                Action::Connect(number, _) if !self.was_connected => {
                    self.was_connected = true;
                    dialler.connected(&mut means, number);
                }
                Action::Keep(_) => {}
                Action::Connect(..) | Action::Close { .. } => self.is_over = true,
                other => panic!("nothing of that was asked for: {other:?}"),
            }
        }
        acted
    }
}

/// It judges no server: a slow one is the engine's own, under faults. It offers compression, with a
/// window of any size or none.
fn patient(_seed: u64) -> Rules {
    let long = Duration::from_secs(20 * 24 * 60 * 60);
    let mut config = Config::default();
    config.heartbeat.interval = None;
    config.deadlines.read_idle = None;
    for key in ["message", "write_stall", "close_send", "close_ack"] {
        config.set(&format!("deadlines.{key}"), "20d").expect("it is a span");
    }
    config.limits.outbox_bytes = 1 << 30;
    config.limits.pings_per_second = 1000;
    #[cfg(feature = "deflate")]
    {
        use heartwheel::config::{CompressionHistory, CompressionMode};
        config.compression.mode = CompressionMode::On;
        match _seed % 8 {
            7 => config.compression.history = CompressionHistory::Off,
            bits => config.client.history_bytes = 512 << bits,
        }
    }
    Rules { connect: long, upgrade: long, ..Rules::from(&config) }
}

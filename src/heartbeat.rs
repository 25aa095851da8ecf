//! When to ping, and when to give up.
//!
//! ```text
//!             due                  with the kernel
//!   Quiet ───────────► Queued ───────────────────► Waiting ──┐ pong wait over: missed + 1,
//!     ▲                                               │      │ and the next ping goes out
//!     └───────────── any byte received ◄──────────────┘ ◄────┘ (`max_missed` in a row: give up)
//! ```
//!
//! Jitter is one-sided, so that no interval is longer than the configured one. A ping due far
//! enough ahead is moved down to a whole second, so that the pings of thousands of idle connections
//! share wake-ups. While the server itself has paused reading from the peer no pong can be seen:
//! pings still go out each interval, and none counts as missed.

use std::time::Duration;

use crate::config::Config;
use crate::random::Random;
use crate::time::{Instant, Moment, millis_up};

/// What the heartbeats of all connections follow.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    interval: Option<Duration>,
    jitter: f64,
    pong: Duration,
    max_missed: u32,
    adaptive: bool,
    min: Duration,
    max: Duration,
    read_idle: Option<Duration>,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        let heartbeat = &config.heartbeat;
        Rules {
            interval: heartbeat.interval,
            jitter: heartbeat.jitter,
            pong: heartbeat.pong,
            max_missed: heartbeat.max_missed,
            adaptive: heartbeat.adaptive,
            min: heartbeat.min,
            max: heartbeat.max,
            read_idle: config.deadlines.read_idle,
        }
    }
}

/// The heartbeat of one connection.
#[derive(Clone, Copy, Debug)]
pub struct Heartbeat {
    state: State,
    missed: u8,
    rtt_ms: u16,
    rtt_var_ms: u16,
    /// How long nothing must have been received until the next ping, drawn anew for each.
    quiet_ms: u32,
    /// What `quiet_ms` is drawn from: the configured interval, or the adapted one.
    interval_ms: u32,
    /// When the newest ping was queued: its payload.
    pinged_at: Moment,
    /// When its last byte went to the kernel.
    sent_at: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Quiet,
    Queued,
    Waiting,
}

/// What is due at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// A ping.
    Ping(Instant),
    /// The end of the wait for a pong.
    Pong(Instant),
    /// Nothing: heartbeats are off, or a ping waits for room to be written.
    Nothing,
}

/// What follows when no pong came in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Ping again.
    Again,
    /// Ping again, and tell the application: this is the second ping in a row.
    Suspect,
    /// `max_missed` in a row: close.
    GiveUp,
}

impl Heartbeat {
    /// Begins with a first ping anywhere in the interval, so that connections opened together do
    /// not ping together.
    pub fn new(rules: &Rules, random: &mut Random) -> Heartbeat {
        let interval_ms = rules.interval.map_or(0, |interval| millis_up(interval) as u32);
        let mut heartbeat = Heartbeat {
            state: State::Quiet,
            missed: 0,
            rtt_ms: 0,
            rtt_var_ms: 0,
            quiet_ms: 0,
            interval_ms,
            pinged_at: Moment::default(),
            sent_at: Moment::default(),
        };
        heartbeat.spread(random);
        heartbeat
    }

    /// Lets the next ping fall anywhere in the interval from now on: at the beginning, and when
    /// time has jumped.
    pub fn spread(&mut self, random: &mut Random) {
        self.state = State::Quiet;
        self.quiet_ms = random.between(0, u64::from(self.interval_ms)) as u32;
    }

    /// Says what is due next. `heard_at` is when the last byte was received; `paused` that reading
    /// has been paused.
    pub fn due(&self, rules: &Rules, heard_at: Instant, paused: bool, now: Instant) -> Due {
        if rules.interval.is_none() {
            return Due::Nothing;
        }
        let sent_at = self.sent_at.near(now);
        match self.state {
            State::Queued => Due::Nothing,
            State::Waiting if paused => Due::Ping(self.on_grid(heard_at.max(sent_at))),
            State::Waiting => Due::Pong(sent_at + self.pong_wait(rules) + Instant::RESOLUTION),
            State::Quiet => Due::Ping(self.on_grid(heard_at)),
        }
    }

    /// Says whether a ping has been sent and nothing received since.
    pub fn is_waiting(&self) -> bool {
        self.state == State::Waiting
    }

    /// Gives the pings missed in a row.
    pub fn missed(&self) -> u8 {
        self.missed
    }

    /// Gives the smoothed round trip, once there is one.
    pub fn rtt(&self) -> Option<Duration> {
        (self.rtt_ms > 0).then(|| Duration::from_millis(u64::from(self.rtt_ms)))
    }

    /// Takes note that a ping is queued and gives its payload.
    pub fn ping(&mut self, rules: &Rules, now: Instant, random: &mut Random) -> [u8; 4] {
        self.state = State::Queued;
        self.pinged_at = now.into();
        self.draw(rules, random);
        self.pinged_at.bits().to_be_bytes()
    }

    /// Takes note that the ping's last byte went to the kernel: the wait begins.
    pub fn ping_sent(&mut self, now: Instant) {
        if self.state == State::Queued {
            self.state = State::Waiting;
            self.sent_at = now.into();
        }
    }

    /// Takes note that bytes came: the peer lives. Says whether a wait has ended.
    pub fn heard(&mut self) -> bool {
        let waited = self.state == State::Waiting;
        if waited {
            self.state = State::Quiet;
        }
        let was_missing = std::mem::take(&mut self.missed) > 0;
        waited || was_missing
    }

    /// Takes a pong; gives the round trip if it answers the newest ping and is the first to do so.
    pub fn pong(&mut self, rules: &Rules, payload: &[u8], now: Instant) -> Option<Duration> {
        let pinged = self.pinged_at != Moment::default() && self.state != State::Queued;
        if !pinged || payload != self.pinged_at.bits().to_be_bytes() {
            return None;
        }
        self.pinged_at = Moment::default();
        let rtt = now.since(self.sent_at.near(now));
        self.measure(rtt);
        if rules.adaptive {
            self.interval_ms = self.interval_ms + self.interval_ms / 4;
            self.limit_interval(rules);
        }
        Some(rtt)
    }

    /// Takes note that no pong came in time.
    pub fn miss(&mut self, rules: &Rules) -> Missed {
        self.missed = self.missed.saturating_add(1);
        if rules.adaptive {
            self.interval_ms /= 2;
            self.limit_interval(rules);
        }
        match u32::from(self.missed) {
            missed if missed >= rules.max_missed => Missed::GiveUp,
            2 => Missed::Suspect,
            _ => Missed::Again,
        }
    }

    /// Moves the wait for a pong to where it stood when reading was paused.
    pub fn resume(&mut self, paused_at: Instant, now: Instant) {
        let waited = paused_at.since(self.sent_at.near(now));
        self.sent_at = (now - waited).into();
    }

    /// Gives the time a pong may take: as TCP computes its retransmission timeout (RFC 6298, 2), if
    /// adaptive.
    pub fn pong_wait(&self, rules: &Rules) -> Duration {
        match self.rtt() {
            Some(rtt) if rules.adaptive => {
                let variance = Duration::from_millis(u64::from(self.rtt_var_ms) * 4);
                (rtt + variance).max(PONG_WAIT_MIN).min(rules.pong)
            }
            _ => rules.pong,
        }
    }

    fn draw(&mut self, rules: &Rules, random: &mut Random) {
        let most = u64::from(self.interval_ms);
        let least = (most as f64 * (1.0 - rules.jitter)) as u64;
        self.quiet_ms = random.between(least.min(most), most) as u32;
    }

    fn on_grid(&self, heard_at: Instant) -> Instant {
        let due = heard_at + Duration::from_millis(u64::from(self.quiet_ms));
        if due.since(heard_at) > GRID_AHEAD { due.floor(GRID) } else { due }
    }

    /// RFC 6298, 2.2 and 2.3: the smoothed round trip and its variation.
    fn measure(&mut self, rtt: Duration) {
        let sample = u16::try_from(rtt.as_millis()).unwrap_or(u16::MAX).max(1);
        if self.rtt_ms == 0 {
            self.rtt_ms = sample;
            self.rtt_var_ms = sample / 2;
            return;
        }
        let off = u32::from(self.rtt_ms.abs_diff(sample));
        self.rtt_var_ms = ((u32::from(self.rtt_var_ms) * 3 + off) / 4) as u16;
        self.rtt_ms = ((u32::from(self.rtt_ms) * 7 + u32::from(sample)) / 8).max(1) as u16;
    }

    /// Keeps the adapted interval within its bounds, and short enough that all pings can be missed
    /// before `read_idle`.
    fn limit_interval(&mut self, rules: &Rules) {
        let mut most = rules.max;
        if let Some(read_idle) = rules.read_idle {
            most = most.min(read_idle.saturating_sub(self.pong_wait(rules) * rules.max_missed));
        }
        let least = millis_up(rules.min) as u32;
        self.interval_ms = self.interval_ms.min(millis_up(most) as u32).max(least);
    }
}

const GRID: Duration = Duration::from_secs(1);
const GRID_AHEAD: Duration = Duration::from_secs(5);
/// RFC 6298, 2.4 asks for a second at least.
const PONG_WAIT_MIN: Duration = Duration::from_secs(1);

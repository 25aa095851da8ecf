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

use crate::core::config::Config;
use crate::core::ground::random::Random;
use crate::core::ground::time::{Instant, Moment, millis_up};

/// What the heartbeats of all connections follow.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    pub interval: Option<Duration>,
    pub jitter: f64,
    pong: Duration,
    max_missed: u32,
    adaptive: bool,
    min: Duration,
    max: Duration,
    read_idle: Option<Duration>,
}

impl From<&Config> for Rhythm {
    fn from(config: &Config) -> Rhythm {
        let heartbeat = &config.heartbeat;
        Rhythm {
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
    state: PingState,
    missed: u8,
    /// The client has connected again: a missed pong ends this connection.
    is_probed: bool,
    rtt_ms: u16,
    rtt_var_ms: u16,
    /// How long nothing must have been received until the next ping: drawn anew for each ping.
    quiet_ms: u32,
    /// What `quiet_ms` is drawn from: the configured interval, or the adapted one.
    interval_ms: u32,
    /// When the newest ping was queued. This is its payload.
    pinged_at: Moment,
    /// When the last byte of the newest ping went to the kernel.
    sent_at: Moment,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PingState {
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

/// What follows when no pong has come in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missed {
    /// Ping again.
    Again,
    /// Ping again, and tell the application: this is the second ping in a row.
    Suspect,
    /// `max_missed` in a row: close.
    GiveUp,
    /// The client has connected again: close.
    Replaced,
}

impl Heartbeat {
    /// Begins with a first ping anywhere in the interval, so that connections opened together do
    /// not ping together.
    pub fn new(rhythm: &Rhythm, random: &mut Random) -> Heartbeat {
        let mut heartbeat = Heartbeat {
            state: PingState::Quiet,
            missed: 0,
            is_probed: false,
            rtt_ms: 0,
            rtt_var_ms: 0,
            quiet_ms: 0,
            interval_ms: interval_ms(rhythm),
            pinged_at: Moment::default(),
            sent_at: Moment::default(),
        };
        heartbeat.spread(random);
        heartbeat
    }

    /// Lets the next ping fall anywhere in the interval from now on: at the beginning, and when
    /// time has jumped.
    pub fn spread(&mut self, random: &mut Random) {
        self.state = PingState::Quiet;
        self.quiet_ms = random.between(0, u64::from(self.interval_ms)) as u32;
    }

    /// Follows other rules: the next ping falls anywhere in the new interval.
    pub fn reload(&mut self, rhythm: &Rhythm, random: &mut Random) {
        self.interval_ms = interval_ms(rhythm);
        self.spread(random);
    }

    /// Returns what is due next. `heard_at` is when the last byte was received; `paused` says
    /// whether reading is paused.
    pub fn due(&self, rhythm: &Rhythm, heard_at: Instant, paused: bool, now: Instant) -> Due {
        if rhythm.interval.is_none() && !self.is_probed {
            return Due::Nothing;
        }
        let sent_at = self.sent_at.near(now);
        match self.state {
            PingState::Queued => Due::Nothing,
            PingState::Waiting if paused => {
                // Not from `sent_at`, because pauses move it.
                Due::Ping(self.on_grid(heard_at.max(self.pinged_at.near(now))))
            }
            PingState::Waiting => Due::Pong(sent_at + self.pong_wait(rhythm) + Instant::RESOLUTION),
            PingState::Quiet => Due::Ping(self.on_grid(heard_at)),
        }
    }

    /// Returns whether a ping has been sent and nothing received since.
    pub fn is_waiting(&self) -> bool {
        self.state == PingState::Waiting
    }

    /// Returns the pings missed in a row.
    pub fn missed(&self) -> u8 {
        self.missed
    }

    /// Returns the smoothed round trip; `None` before the first pong.
    pub fn rtt(&self) -> Option<Duration> {
        (self.rtt_ms > 0).then(|| Duration::from_millis(u64::from(self.rtt_ms)))
    }

    /// Notes that a ping is queued. Returns its payload.
    pub fn ping(&mut self, rhythm: &Rhythm, now: Instant, random: &mut Random) -> [u8; 4] {
        self.state = PingState::Queued;
        self.pinged_at = now.into();
        self.draw(rhythm, random);
        self.pinged_at.bits().to_be_bytes()
    }

    /// Takes note that the ping's last byte went to the kernel: the wait begins.
    pub fn ping_sent(&mut self, now: Instant) {
        if self.state == PingState::Queued {
            self.state = PingState::Waiting;
            self.sent_at = now.into();
        }
    }

    /// Has a missed pong end the connection. Returns whether a ping must ask for one.
    pub fn probe(&mut self) -> bool {
        self.is_probed = true;
        self.state == PingState::Quiet
    }

    /// Takes note that bytes came: the peer lives. Returns whether a wait has ended.
    pub fn heard(&mut self) -> bool {
        let waited = self.state == PingState::Waiting;
        if waited {
            self.state = PingState::Quiet;
        }
        self.is_probed = false;
        let was_missing = std::mem::take(&mut self.missed) > 0;
        waited || was_missing
    }

    /// Takes a pong. Returns the round trip; `None` unless it is the first to answer the newest
    /// ping.
    pub fn pong(&mut self, rhythm: &Rhythm, payload: &[u8], now: Instant) -> Option<Duration> {
        let pinged = self.pinged_at != Moment::default() && self.state != PingState::Queued;
        if !pinged || payload != self.pinged_at.bits().to_be_bytes() {
            return None;
        }
        self.pinged_at = Moment::default();
        let rtt = now.since(self.sent_at.near(now));
        self.measure(rtt);
        if rhythm.adaptive {
            self.interval_ms = self.interval_ms + self.interval_ms / 4;
            self.limit_interval(rhythm);
        }
        Some(rtt)
    }

    /// Takes note that no pong came in time.
    pub fn miss(&mut self, rhythm: &Rhythm) -> Missed {
        self.missed = self.missed.saturating_add(1);
        if self.is_probed {
            return Missed::Replaced;
        }
        if rhythm.adaptive {
            self.interval_ms /= 2;
            self.limit_interval(rhythm);
        }
        match u32::from(self.missed) {
            missed if missed >= rhythm.max_missed => Missed::GiveUp,
            2 => Missed::Suspect,
            _ => Missed::Again,
        }
    }

    /// Moves the wait for a pong to where it stood when reading was paused.
    pub fn resume(&mut self, paused_at: Instant, now: Instant) {
        let waited = paused_at.since(self.sent_at.near(now));
        self.sent_at = (now - waited).into();
    }

    /// Returns the time a pong may take. If adaptive, it is computed as TCP's retransmission
    /// timeout (RFC 6298, 2).
    pub fn pong_wait(&self, rhythm: &Rhythm) -> Duration {
        match self.rtt() {
            Some(rtt) if rhythm.adaptive => {
                let variance = Duration::from_millis(u64::from(self.rtt_var_ms) * 4);
                (rtt + variance).max(PONG_WAIT_MIN).min(rhythm.pong)
            }
            _ => rhythm.pong,
        }
    }

    fn draw(&mut self, rhythm: &Rhythm, random: &mut Random) {
        let most = u64::from(self.interval_ms);
        let least = (most as f64 * (1.0 - rhythm.jitter)) as u64;
        self.quiet_ms = random.between(least.min(most), most) as u32;
    }

    fn on_grid(&self, heard_at: Instant) -> Instant {
        let quiet = Duration::from_millis(u64::from(self.quiet_ms));
        let due = heard_at + quiet + Instant::RESOLUTION;
        if quiet > GRID_AHEAD { due.floor(GRID) } else { due }
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
    fn limit_interval(&mut self, rhythm: &Rhythm) {
        let mut most = rhythm.max;
        if let Some(read_idle) = rhythm.read_idle {
            most = most.min(read_idle.saturating_sub(self.pong_wait(rhythm) * rhythm.max_missed));
        }
        let least = millis_up(rhythm.min) as u32;
        self.interval_ms = self.interval_ms.min(millis_up(most) as u32).max(least);
    }
}

fn interval_ms(rhythm: &Rhythm) -> u32 {
    rhythm.interval.map_or(0, |interval| millis_up(interval) as u32)
}

const GRID: Duration = Duration::from_secs(1);
const GRID_AHEAD: Duration = Duration::from_secs(5);

const _: () = assert!(GRID.as_millis() <= GRID_AHEAD.as_millis(), "what is moved stays ahead");

/// RFC 6298, 2.4 asks for a second at least.
const PONG_WAIT_MIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    fn rhythm(set: &[(&str, &str)]) -> Rhythm {
        let mut config = Config::default();
        for (key, value) in set {
            config.set(key, value).expect("a good key");
        }
        Rhythm::from(&config)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn ping_at(due: Due) -> Instant {
        match due {
            Due::Ping(at) => at,
            other => panic!("{other:?} instead of a ping"),
        }
    }

    /// Pings at `ms` and hands the ping to the kernel at once. Returns its payload.
    fn ping(heartbeat: &mut Heartbeat, rhythm: &Rhythm, ms: u64) -> [u8; 4] {
        let payload = heartbeat.ping(rhythm, at(ms), &mut Random::new(ms));
        heartbeat.ping_sent(at(ms));
        payload
    }

    #[test]
    fn the_first_ping_falls_anywhere_and_later_ones_within_the_jitter() {
        let rhythm = rhythm(&[]);
        let mut random = Random::new(7);
        let (mut first_min, mut first_max) = (u64::MAX, 0);
        for _ in 0..1000 {
            let mut heartbeat = Heartbeat::new(&rhythm, &mut random);
            let first = ping_at(heartbeat.due(&rhythm, at(100_000), false, at(100_000)));
            first_min = first_min.min(first.as_millis());
            first_max = first_max.max(first.as_millis());
            heartbeat.ping(&rhythm, at(0), &mut random);
            heartbeat.ping_sent(at(0));
            heartbeat.heard();
            let next = ping_at(heartbeat.due(&rhythm, at(100_000), false, at(100_000)));
            // 30 s x (0.7 .. 1), moved down to a whole second.
            assert!((120_000..=130_000).contains(&next.as_millis()), "{next:?}");
            assert_eq!(next.as_millis() % 1000, 0);
        }
        assert!(first_min < 101_000 && first_max >= 129_000, "{first_min} to {first_max}");
    }

    #[test]
    fn a_ping_due_soon_stays_off_the_grid() {
        let rhythm = rhythm(&[("heartbeat.interval", "5s"), ("heartbeat.jitter", "0")]);
        let mut heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        heartbeat.ping(&rhythm, at(0), &mut Random::new(1));
        heartbeat.ping_sent(at(0));
        heartbeat.heard();
        // The further millisecond is there because moments are cut to milliseconds.
        assert_eq!(heartbeat.due(&rhythm, at(777), false, at(777)), Due::Ping(at(5778)));
    }

    #[test]
    fn the_wait_begins_with_the_kernel_and_ends_with_any_byte() {
        let rhythm = rhythm(&[]);
        let mut heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        heartbeat.ping(&rhythm, at(1000), &mut Random::new(1));
        assert_eq!(heartbeat.due(&rhythm, at(0), false, at(1000)), Due::Nothing);
        heartbeat.ping_sent(at(4000));
        assert_eq!(heartbeat.due(&rhythm, at(0), false, at(4000)), Due::Pong(at(14_001)));
        assert!(heartbeat.heard());
        assert!(matches!(heartbeat.due(&rhythm, at(5000), false, at(5000)), Due::Ping(_)));
    }

    #[test]
    fn misses_add_up_until_something_is_heard() {
        let rhythm = rhythm(&[]);
        let mut heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        let expected = [Missed::Again, Missed::Suspect, Missed::GiveUp];
        assert_eq!([(); 3].map(|()| heartbeat.miss(&rhythm)), expected);
        heartbeat.heard();
        assert_eq!([(); 3].map(|()| heartbeat.miss(&rhythm)), expected);
    }

    #[test]
    fn only_the_answer_to_the_newest_ping_is_measured_and_only_once() {
        let rhythm = rhythm(&[]);
        let mut heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        let older = ping(&mut heartbeat, &rhythm, 1000);
        let newer = ping(&mut heartbeat, &rhythm, 11_000);
        assert_eq!(heartbeat.pong(&rhythm, &older, at(11_010)), None);
        assert_eq!(heartbeat.pong(&rhythm, b"other", at(11_020)), None);
        let rtt = Some(Duration::from_millis(40));
        assert_eq!(heartbeat.pong(&rhythm, &newer, at(11_040)), rtt);
        assert_eq!(heartbeat.pong(&rhythm, &newer, at(11_050)), None);
        assert_eq!(heartbeat.rtt(), rtt);
    }

    #[test]
    fn while_reading_is_paused_pings_go_out_and_none_is_missed() {
        let rhythm = rhythm(&[("heartbeat.jitter", "0")]);
        let mut heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        ping(&mut heartbeat, &rhythm, 10_000);
        assert_eq!(heartbeat.due(&rhythm, at(0), true, at(10_000)), Due::Ping(at(40_000)));
        // Paused 4 s after the ping, for a minute: 6 s of the wait are left.
        heartbeat.resume(at(14_000), at(74_000));
        assert_eq!(heartbeat.due(&rhythm, at(0), false, at(74_000)), Due::Pong(at(80_001)));
        // A ping that went out during the pause has its whole wait before it.
        ping(&mut heartbeat, &rhythm, 90_000);
        heartbeat.resume(at(85_000), at(95_000));
        assert_eq!(heartbeat.due(&rhythm, at(0), false, at(95_000)), Due::Pong(at(105_001)));
    }

    #[test]
    fn adaptive_waits_follow_the_round_trip_within_their_bounds() {
        let rhythm = rhythm(&[("heartbeat.adaptive", "true"), ("deadlines.read_idle", "10m")]);
        let mut heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        assert_eq!(heartbeat.pong_wait(&rhythm), Duration::from_secs(10));
        for round in 1..40 {
            let payload = ping(&mut heartbeat, &rhythm, round * 100_000);
            heartbeat.pong(&rhythm, &payload, at(round * 100_000 + 30));
            heartbeat.heard();
        }
        assert_eq!(heartbeat.pong_wait(&rhythm), Duration::from_secs(1));
        assert_eq!(heartbeat.interval_ms, 300_000);
        heartbeat.miss(&rhythm);
        assert_eq!(heartbeat.interval_ms, 150_000);
        for _ in 0..20 {
            heartbeat.miss(&rhythm);
        }
        assert_eq!(heartbeat.interval_ms, 5000);
    }

    #[test]
    fn an_adaptive_interval_leaves_room_for_all_misses_before_read_idle() {
        let rhythm = rhythm(&[("heartbeat.adaptive", "true")]);
        let mut heartbeat = Heartbeat::new(&rhythm, &mut Random::new(1));
        for round in 1..40 {
            let payload = ping(&mut heartbeat, &rhythm, round * 100_000);
            heartbeat.pong(&rhythm, &payload, at(round * 100_000 + 30));
        }
        // read_idle 60 s less three waits of 1 s.
        assert_eq!(heartbeat.interval_ms, 57_000);
    }
}

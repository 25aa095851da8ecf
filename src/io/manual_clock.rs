//! A clock that stands still until it is told to move.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::threads::command_queue::Shared;

/// A clock for servers that moves only when it is told to: a day of deadlines passes in
/// milliseconds, and a test never depends on how busy the machine is.
///
/// Cloning gives another handle of the same clock. Any thread may move it, and any number of
/// servers may use it ([`Builder::clock`](crate::Builder::clock)). Moving the clock wakes these
/// servers: also one that [runs](crate::Server::run) on a thread of its own, which waits only for
/// this clock, its sockets and commands.
///
/// Everything that a server decides depends on this clock: deadlines, heartbeats, drains, what
/// topics retain. So do the `Date` header and the ids of events, which begin on 1 January 2001.
/// Only real work is measured in real time: how long a handler runs (`deadlines.handler`) and how
/// long a turn takes.
///
/// However far the clock is moved, one turn takes its server to the next deadline and no further;
/// [`Server::next_timeout`](crate::Server::next_timeout) is zero until the server has caught up. So
/// each deadline acts in its own tick and in order, and a peer can answer in between. The server
/// sees what a peer does at the time that the server has come to: let the server catch up before a
/// peer acts.
///
/// ```
/// use std::time::Duration;
/// use heartwheel::stats::DeadlineKind;
/// use heartwheel::{Event, ManualClock, Peer, Server};
///
/// let clock = ManualClock::new();
/// let mut server = Server::builder()
///     .workers(0)
///     .clock(clock.clone())
///     .websocket("/echo", |_: &Peer, _: Event| {})
///     .listen("127.0.0.1:0")?;
/// let silent = std::net::TcpStream::connect(server.local_addresses()[0].as_tcp().unwrap())?;
/// while server.connections() == 0 {
///     server.turn()?;
/// }
/// clock.advance(Duration::from_secs(5)); // `deadlines.handshake`
/// while server.next_timeout() == Some(Duration::ZERO) {
///     server.turn()?;
/// }
/// assert_eq!(server.stats().fired(DeadlineKind::Handshake), 0, "not before its time");
/// clock.advance(server.next_timeout().unwrap());
/// server.turn()?;
/// assert_eq!(server.stats().fired(DeadlineKind::Handshake), 1);
/// # Ok::<(), heartwheel::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct ManualClock {
    shared: Arc<Mutex<ClockState>>,
}

#[derive(Default)]
struct ClockState {
    time: Time,
    /// Servers that go by this clock.
    servers: Vec<Weak<Shared>>,
}

/// What a manual clock shows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Time {
    /// Time in which servers could run.
    pub passed: Duration,
    /// Time in which servers could not run.
    pub suspended: Duration,
    pub date: SystemTime,
}

impl Default for Time {
    fn default() -> Time {
        let (passed, suspended) = (Duration::ZERO, Duration::ZERO);
        Time { passed, suspended, date: UNIX_EPOCH + BEGINNING }
    }
}

impl ManualClock {
    /// Makes a clock that stands at zero, on 1 January 2001.
    pub fn new() -> ManualClock {
        ManualClock::default()
    }

    /// Returns all the time that has passed since the clock was made, also by `suspend`.
    pub fn elapsed(&self) -> Duration {
        let time = self.read();
        time.passed.saturating_add(time.suspended)
    }

    /// Lets `span` pass: the following turns act on all deadlines that are due by then, one after
    /// the other.
    pub fn advance(&self, span: Duration) {
        self.change(|time| {
            time.passed = time.passed.saturating_add(span);
            time.date = time.date.checked_add(span).unwrap_or(time.date);
        });
    }

    /// Lets time pass until [`elapsed`](ManualClock::elapsed) is this much. A host that has a clock
    /// of its own calls this before each [`next_timeout`](crate::Server::next_timeout) and
    /// [`turn`](crate::Server::turn). A moment that has passed already changes nothing.
    pub fn advance_to(&self, elapsed: Duration) {
        self.advance(elapsed.saturating_sub(self.elapsed()));
    }

    /// Lets time pass in which nothing could run, as when a laptop's lid is closed or a process is
    /// stopped: the date moves, the deadlines do not. After ten seconds or more every peer is
    /// pinged within one interval, instead of being judged.
    pub fn suspend(&self, span: Duration) {
        self.change(|time| {
            time.suspended = time.suspended.saturating_add(span);
            time.date = time.date.checked_add(span).unwrap_or(time.date);
        });
    }

    /// Returns the date.
    pub fn date(&self) -> SystemTime {
        self.read().date
    }

    /// Sets the date, forwards or backwards, as when a machine's clock is set. No deadline depends
    /// on the date but the ends of tokens (`admission.jwt`), which no server believes before 2025.
    pub fn set_date(&self, date: SystemTime) {
        self.change(|time| time.date = date);
    }

    pub(crate) fn read(&self) -> Time {
        self.lock().time
    }

    /// Wakes a server whenever this clock moves, for as long as the server is there.
    pub(crate) fn attach(&self, server: &Arc<Shared>) {
        let mut state = self.lock();
        state.servers.retain(|server| server.strong_count() > 0);
        state.servers.push(Arc::downgrade(server));
    }

    fn change(&self, change: impl FnOnce(&mut Time)) {
        let mut state = self.lock();
        change(&mut state.time);
        state.servers.iter().filter_map(Weak::upgrade).for_each(|server| server.wake());
    }

    /// Nothing panics while the lock is held, except a clock that overflows.
    fn lock(&self) -> MutexGuard<'_, ClockState> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ManualClock").field(&self.read()).finish()
    }
}

/// 1 January 2001, in UTC: the same in each run.
const BEGINNING: Duration = Duration::from_secs(978_307_200);

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn time_passes_for_all_who_hold_the_clock() {
        let clock = ManualClock::new();
        let other = clock.clone();
        clock.advance(seconds(5));
        other.suspend(seconds(7));
        assert_eq!((clock.elapsed(), other.elapsed()), (seconds(12), seconds(12)));
        assert_eq!(clock.date(), UNIX_EPOCH + BEGINNING + seconds(12));
        assert_eq!(clock.read().passed, seconds(5));
    }

    #[test]
    fn it_never_goes_back() {
        let clock = ManualClock::new();
        clock.advance_to(seconds(5));
        clock.advance_to(seconds(3));
        assert_eq!(clock.elapsed(), seconds(5));
        clock.set_date(UNIX_EPOCH);
        assert_eq!((clock.elapsed(), clock.date()), (seconds(5), UNIX_EPOCH));
        clock.advance(Duration::MAX);
        clock.suspend(Duration::MAX);
        assert_eq!(clock.elapsed(), Duration::MAX);
    }
}

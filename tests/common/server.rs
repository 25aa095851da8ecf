//! A server on a thread of the test, whose counters can be looked at while it runs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heartwheel::http::Response;
use heartwheel::{
    Builder, CloseReason, Config, Event, Handle, Peer, Route, SendError, Server, Stats, app,
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

use super::process::{own_tid, raise_descriptors};
use super::timing::{EPS, PATIENCE, Span, eventually, lock, within};

/// A running server. It ends with the value, or with [`TestServer::stop`].
pub struct TestServer {
    /// Of its listener; port 0 where it listens on no TCP.
    pub address: SocketAddr,
    /// Of the operator's listener, if there is one.
    pub admin: Option<SocketAddr>,
    pub handle: Handle,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
    since: Span,
}

/// What a turn of the server left behind.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub stats: Stats,
    /// Connections open.
    pub connections: usize,
    /// CPU time of the loop thread.
    pub cpu: Duration,
    /// When the last turn began in which the kernel took bytes.
    pub sent_at: Option<Instant>,
    /// How often the loop was woken by time alone.
    timeouts: u64,
    /// The loop's own thread.
    tid: u32,
    /// How many turns have been looked at, and whether another one goes on.
    turns: u64,
    is_turning: bool,
    is_over: bool,
}

#[derive(Default)]
struct Seen {
    snapshot: Mutex<Snapshot>,
    turned: Condvar,
}

impl Seen {
    /// Gives what the last turn left behind. Of a turn that goes on the end is awaited: what a
    /// client has seen of it is counted then. A turn in which a handler blocks the loop has none.
    fn look(&self) -> MutexGuard<'_, Snapshot> {
        let snapshot = lock(&self.snapshot);
        let turns = snapshot.turns;
        let goes_on = |seen: &mut Snapshot| seen.is_turning && seen.turns == turns;
        let waited = self.turned.wait_timeout_while(snapshot, Duration::from_secs(3), goes_on);
        waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl TestServer {
    /// Starts a server with these keys set and the usual routes: `/echo`, `/inline` (an echo on the
    /// loop thread), `/`.
    pub fn start(pairs: &[(&str, &str)]) -> TestServer {
        TestServer::start_with(pairs, |builder| builder)
    }

    /// Starts a server with the usual routes and further ones.
    pub fn start_with(
        pairs: &[(&str, &str)],
        routes: impl FnOnce(Builder) -> Builder,
    ) -> TestServer {
        let builder = Server::builder()
            .websocket("/echo", app::echo)
            .route(Route::websocket("/inline", app::echo).inline())
            .route(Route::get("/", |_| Response::new(200).text("hello\n")).inline());
        TestServer::serve(pairs, routes(builder))
    }

    /// Starts a server with these keys set and the routes of `builder`.
    pub fn serve(pairs: &[(&str, &str)], builder: Builder) -> TestServer {
        raise_descriptors();
        TestServer::of(builder.config(config(pairs)).build().expect("the configuration is sound"))
    }

    /// Runs a server that has been built.
    pub fn of(server: Server) -> TestServer {
        let address = server.local_addresses()[0].as_tcp().unwrap_or(([0; 4], 0).into());
        let admin = server.admin_addresses().first().and_then(|address| address.as_tcp());
        let handle = server.handle();
        let seen = Arc::new(Seen::default());
        let thread = thread::spawn({
            let seen = seen.clone();
            move || turn_until_over(server, &seen)
        });
        eventually("the loop has begun", || lock(&seen.snapshot).tid != 0);
        TestServer { address, admin, handle, seen, thread: Some(thread), since: Span::begin() }
    }

    /// Gives what the last turn left behind.
    pub fn snapshot(&self) -> Snapshot {
        self.seen.look().clone()
    }

    pub fn stats(&self) -> Stats {
        self.snapshot().stats
    }

    /// Gives how many connections are open.
    pub fn open(&self) -> usize {
        self.seen.look().connections
    }

    /// Gives how often the loop was woken by time alone.
    pub fn timeouts(&self) -> u64 {
        self.seen.look().timeouts
    }

    /// Gives the number by which the kernel knows the loop's thread.
    pub fn tid(&self) -> u32 {
        lock(&self.seen.snapshot).tid
    }

    pub fn is_over(&self) -> bool {
        lock(&self.seen.snapshot).is_over
    }

    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.seen.look().stats.closed_by(reason)
    }

    /// Gives how the connections so far have ended.
    pub fn ends(&self) -> Vec<(&'static str, u64)> {
        ends(&self.stats())
    }

    /// Waits until the counters are as said, for [`PATIENCE`] at the most.
    #[track_caller]
    pub fn wait_until(&self, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let patience = Instant::now() + PATIENCE;
        let mut snapshot = lock(&self.seen.snapshot);
        while !is_so(&snapshot) {
            let left = patience.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "it never came so: {snapshot:?}");
            snapshot = self.seen.turned.wait_timeout(snapshot, left).expect("nobody panicked").0;
        }
        snapshot.clone()
    }

    /// Waits until this many connections have ended for this reason, and none for another.
    #[track_caller]
    pub fn wait_closed(&self, reason: CloseReason, count: u64) -> Stats {
        let stats = self.wait_until(|seen| seen.stats.closed_total() >= count).stats;
        assert_eq!(ends(&stats), [(reason.label(), count)], "ends by reason");
        stats
    }

    /// Waits until so many connections have ended for this reason, as long as a deadline may be
    /// late, and asserts that it stays so.
    #[track_caller]
    pub fn expect_closed(&self, reason: CloseReason, count: u64) {
        let label = reason.label();
        within(EPS, &format!("{count} ended by {label}: {:?}", self.ends()), || {
            self.closed_by(reason) >= count
        });
        assert_eq!(self.closed_by(reason), count, "{label}: {:?}", self.ends());
    }

    /// Asserts that no deadline so far acted later than it may.
    #[track_caller]
    pub fn assert_in_time(&self) {
        let lateness = self.stats().deadline_lateness;
        println!("deadlines: {} acted, the latest by {} ms", lateness.count(), lateness.max());
        let most = self.since.lateness_max();
        assert!(u128::from(lateness.max()) <= most.as_millis(), "{lateness:?}");
    }

    /// Ends the server and gives its counters, which must balance.
    #[track_caller]
    pub fn stop(mut self) -> Stats {
        self.end();
        let stats = self.stats();
        assert_eq!(stats.accepted, stats.closed_total(), "each connection ends once");
        let gone = stats.sent_bytes + stats.discarded_bytes;
        assert_eq!(stats.queued_bytes, gone, "each byte queued is sent or discarded");
        stats
    }

    #[track_caller]
    fn end(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        // While others fill the channel it is not taken, and the thread would never end.
        while self.handle.shut_down() == Err(SendError::Full) {
            thread::yield_now();
        }
        if thread.join().is_err() && !thread::panicking() {
            panic!("the loop panicked");
        }
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.end();
    }
}

/// Gives the reasons for which connections ended, and how many for each.
pub fn ends(stats: &Stats) -> Vec<(&'static str, u64)> {
    let counts = CloseReason::ALL.iter().map(|reason| (reason.label(), stats.closed_by(*reason)));
    counts.filter(|(_, count)| *count > 0).collect()
}

fn turn_until_over(mut server: Server, seen: &Seen) {
    lock(&seen.snapshot).tid = own_tid();
    while !server.is_over() {
        let was_ready = wait_for(&server, server.next_timeout());
        lock(&seen.snapshot).is_turning = true;
        let (began, sent_bytes) = (Instant::now(), server.stats().sent_bytes);
        server.turn().expect("the poller works");
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        let mut snapshot = lock(&seen.snapshot);
        if server.stats().sent_bytes > sent_bytes {
            snapshot.sent_at = Some(began);
        }
        snapshot.stats = *server.stats();
        snapshot.connections = server.connections();
        snapshot.cpu = Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32);
        snapshot.timeouts += u64::from(!was_ready);
        snapshot.turns += 1;
        snapshot.is_turning = false;
        seen.turned.notify_all();
    }
    let mut snapshot = lock(&seen.snapshot);
    snapshot.stats = *server.stats();
    snapshot.is_over = true;
}

/// Waits as a host's own loop does; says whether the server's descriptor was ready.
pub fn wait_for(server: &Server, timeout: Option<Duration>) -> bool {
    let timeout = timeout.map(timespec);
    let mut watched = [PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN)];
    match poll(&mut watched, timeout.as_ref()) {
        Ok(ready) => ready > 0,
        Err(rustix::io::Errno::INTR) => false,
        Err(error) => panic!("poll failed: {error}"),
    }
}

pub fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() }
}

/// Gives an address to listen on that no other test uses: one that still connects to a port it had
/// before must not meet another's server there.
pub fn own_address() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("127.0.{}.{}:0", 1 + number / 200, 1 + number % 200)
}

/// Gives a configuration for tests: a free port, a short tick, and no ping that nobody expects.
/// Deadlines that are not set here are seconds away.
pub fn config(pairs: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    let own = own_address();
    let base = [
        ("listen", own.as_str()),
        ("admin_listen", "off"),
        ("tick", "10ms"),
        ("heartbeat.interval", "off"),
    ];
    for (key, value) in base.iter().chain(pairs) {
        config.set(key, value).unwrap_or_else(|error| panic!("{error}"));
    }
    // With TLS=1, servers speak TLS where a test says nothing of that.
    #[cfg(feature = "tls")]
    if !pairs.iter().any(|(key, _)| *key == "listen" || key.starts_with("tls.")) {
        for (key, value) in super::link::settings(&own) {
            config.set(key, &value).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    config
}

/// Sends every message back.
pub fn echo(peer: &Peer, event: Event) {
    if let Event::Message(message) = event {
        peer.send(message);
    }
}

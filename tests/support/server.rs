//! A server on a thread of the test, whose counters can be looked at while it runs.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use heartwheel::config::Config;
use heartwheel::{Builder, CloseReason, Event, Handle, Peer, SendError, Server, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Span, eventually, within};

/// A running server. It is ended when this is dropped.
pub struct Running {
    pub address: SocketAddr,
    /// Of the operator's listener, if there is one.
    pub admin: Option<SocketAddr>,
    pub handle: Handle,
    shared: Arc<Mutex<Shared>>,
    thread: Option<JoinHandle<()>>,
    since: Span,
}

#[derive(Default)]
struct Shared {
    stats: Stats,
    open: usize,
    /// How often the loop was woken by time alone.
    timeouts: u64,
    /// The loop's own thread.
    tid: u32,
    is_over: bool,
}

impl Running {
    /// Starts a server with the routes of `builder`; each pair is a key of the configuration and
    /// its value.
    pub fn start(pairs: &[(&str, &str)], builder: Builder) -> Running {
        Running::of(builder.config(config(pairs)).build().expect("the configuration is sound"))
    }

    /// Runs a server that has been built.
    pub fn of(server: Server) -> Running {
        let address = server.local_addresses()[0].as_tcp().expect("it listens on TCP");
        let admin = server.admin_addresses().first().and_then(|address| address.as_tcp());
        let handle = server.handle();
        let shared = Arc::new(Mutex::new(Shared::default()));
        let shown = shared.clone();
        let thread = std::thread::spawn(move || serve(server, &shown));
        eventually("the loop has begun", || lock(&shared).tid != 0);
        Running { address, admin, handle, shared, thread: Some(thread), since: Span::begin() }
    }

    pub fn stats(&self) -> Stats {
        lock(&self.shared).stats.clone()
    }

    pub fn open(&self) -> usize {
        lock(&self.shared).open
    }

    /// Gives how often the loop was woken by time alone.
    pub fn timeouts(&self) -> u64 {
        lock(&self.shared).timeouts
    }

    /// Asserts that no deadline so far acted later than it may.
    #[track_caller]
    pub fn assert_in_time(&self) {
        let lateness = self.stats().deadline_lateness;
        println!("deadlines: {} acted, the latest by {} ms", lateness.count(), lateness.max());
        let most = self.since.lateness_max();
        assert!(u128::from(lateness.max()) <= most.as_millis(), "{lateness:?}");
    }

    pub fn is_over(&self) -> bool {
        lock(&self.shared).is_over
    }

    /// Gives the number by which the kernel knows the loop's thread.
    pub fn tid(&self) -> u32 {
        lock(&self.shared).tid
    }

    pub fn closed_by(&self, reason: CloseReason) -> u64 {
        self.stats().closed_by(reason)
    }

    /// Waits until so many connections have ended for this reason, and asserts that it stays so.
    #[track_caller]
    pub fn expect_closed(&self, reason: CloseReason, count: u64) {
        let label = reason.label();
        within(super::EPS, &format!("{count} ended by {label}: {:?}", self.ends()), || {
            self.closed_by(reason) >= count
        });
        assert_eq!(self.closed_by(reason), count, "{label}: {:?}", self.ends());
    }

    /// Gives how the connections so far have ended.
    pub fn ends(&self) -> Vec<(&'static str, u64)> {
        let stats = self.stats();
        let ends = CloseReason::ALL.iter().map(|reason| (reason.label(), stats.closed_by(*reason)));
        ends.filter(|(_, count)| *count > 0).collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // While others fill the channel it is not taken, and the thread would never end.
        while self.handle.shut_down() == Err(SendError::Full) {
            std::thread::yield_now();
        }
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
            && !std::thread::panicking()
        {
            panic!("the loop panicked");
        }
    }
}

fn serve(mut server: Server, shown: &Mutex<Shared>) {
    lock(shown).tid = super::process::own_tid();
    while !server.is_over() {
        let was_ready = wait_for(&server, server.next_timeout());
        server.turn().expect("the poller works");
        let mut shown = lock(shown);
        shown.stats = server.stats().clone();
        shown.open = server.connections();
        shown.timeouts += u64::from(!was_ready);
    }
    lock(shown).is_over = true;
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
    config
}

/// Sends every message back.
pub fn echo(peer: &Peer, event: Event) {
    if let Event::Message(message) = event {
        peer.send(message);
    }
}

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

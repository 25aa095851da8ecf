//! A server in a thread of the test: on a port of its own, with counters to look at.

// Each test takes what it needs.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use heartwheel::http::Response;
use heartwheel::{CloseReason, Config, Handle, LocalAddress, Route, Server, Stats, app};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};

pub use heartwheel::Builder;

/// A running server. It ends with the value, or with [`TestServer::stop`].
pub struct TestServer {
    address: LocalAddress,
    handle: Handle,
    seen: Arc<Seen>,
    thread: Option<JoinHandle<Stats>>,
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
}

#[derive(Default)]
struct Seen {
    snapshot: Mutex<Snapshot>,
    turned: Condvar,
}

impl TestServer {
    /// Starts a server with these keys set and the usual routes: `/echo`, `/inline` (an echo on the
    /// loop thread), `/`.
    pub fn start(settings: &[(&str, &str)]) -> TestServer {
        TestServer::start_with(settings, |builder| builder)
    }

    /// Starts a server with further routes.
    pub fn start_with(
        settings: &[(&str, &str)],
        routes: impl FnOnce(Builder) -> Builder,
    ) -> TestServer {
        let mut config = Config::default();
        // No pings of its own accord between the frames that tests count.
        let own = [
            ("listen", "127.0.0.1:0"),
            ("admin_listen", "off"),
            ("tick", "10ms"),
            ("heartbeat.interval", "off"),
        ];
        for (name, text) in own.iter().chain(settings) {
            config.set(name, text).expect("the key and its value are known");
        }
        let builder = Server::builder()
            .config(config)
            .websocket("/echo", app::echo)
            .route(Route::websocket("/inline", app::echo).inline())
            .route(Route::get("/", |_| Response::new(200).text("hello\n")).inline());
        let server = routes(builder).build().expect("the server can be built");
        let address = server.local_addresses()[0].clone();
        let handle = server.handle();
        let seen = Arc::new(Seen::default());
        let thread = thread::spawn({
            let seen = seen.clone();
            move || turn_until_over(server, &seen)
        });
        TestServer { address, handle, seen, thread: Some(thread) }
    }

    /// Gives the TCP address bound.
    pub fn address(&self) -> SocketAddr {
        self.address.as_tcp().expect("the server listens on TCP")
    }

    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Gives what the last turn left behind.
    pub fn snapshot(&self) -> Snapshot {
        self.seen.snapshot.lock().expect("the server's thread did not panic").clone()
    }

    /// Waits until the counters are as said, for five seconds at the most.
    #[track_caller]
    pub fn wait_until(&self, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let patience = Instant::now() + Duration::from_secs(5);
        let mut snapshot = self.seen.snapshot.lock().expect("the server's thread did not panic");
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
        assert_eq!(closed_by(&stats), [(reason.label(), count)], "ends by reason");
        stats
    }

    /// Ends the server and gives its counters, which must balance.
    #[track_caller]
    pub fn stop(mut self) -> Stats {
        self.handle.shut_down().expect("the server is there");
        let thread = self.thread.take().expect("it is stopped once");
        let stats = thread.join().expect("the server's thread did not panic");
        assert_eq!(stats.accepted, stats.closed_total(), "each connection ends once");
        let gone = stats.sent_bytes + stats.discarded_bytes;
        assert_eq!(stats.queued_bytes, gone, "each byte queued is sent or discarded");
        stats
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        // A test that fails leaves its server to the end of the process.
        let _ = self.handle.shut_down();
    }
}

/// Gives the reasons for which connections ended, and how many for each.
pub fn closed_by(stats: &Stats) -> Vec<(&'static str, u64)> {
    let counts = CloseReason::ALL.map(|reason| (reason.label(), stats.closed_by(reason)));
    counts.into_iter().filter(|(_, count)| *count > 0).collect()
}

fn turn_until_over(mut server: Server, seen: &Seen) -> Stats {
    let mut sent_at = None;
    while !server.is_over() {
        let timeout = server.next_timeout().map(|wait| Timespec {
            tv_sec: wait.as_secs() as i64,
            tv_nsec: wait.subsec_nanos().into(),
        });
        let fd = server.as_fd();
        let mut watched = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
        match poll(&mut watched, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("poll: {error}"),
        }
        let (began, sent_bytes) = (Instant::now(), server.stats().sent_bytes);
        server.turn().expect("the poller works");
        if server.stats().sent_bytes > sent_bytes {
            sent_at = Some(began);
        }
        let cpu = clock_gettime(ClockId::ThreadCPUTime);
        *seen.snapshot.lock().expect("the test did not panic in here") = Snapshot {
            stats: server.stats().clone(),
            connections: server.connections(),
            cpu: Duration::new(cpu.tv_sec as u64, cpu.tv_nsec as u32),
            sent_at,
        };
        seen.turned.notify_all();
    }
    server.stats().clone()
}

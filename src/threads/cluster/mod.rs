//! The threads that share topics with other servers by a log in Redis: one writes, one reads. The
//! loop never waits for Redis.
//!
//! ```text
//!   loop ──Publication──► writer ══EVALSHA══► Redis ══XREAD══► reader ──Logged──► loop
//! ```
//!
//! Each has a connection of its own, and looks at the log whenever it has connected, before
//! anything else. The writer has one only while the reader has: what is published would not come
//! back.

#[cfg(feature = "presence")]
mod people;
mod reader;
mod session;
mod writer;

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant as StdInstant, SystemTime, UNIX_EPOCH};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, unbounded};

use crate::core::cluster::{Counts, Keys, Reason, Seen};
use crate::core::config::{CLUSTER_QUEUE_BYTES, Config, Offline, RedisUrl};
use crate::core::contract::backbone::{Node, Publication, Ticket};
use crate::core::observe::cluster::ClusterFigures;
use crate::system::random_seed;
use crate::system::redis::Closer;
use crate::system::spawn::spawn;
use crate::threads::handle::Handle;

#[cfg(feature = "presence")]
pub(crate) use people::People;
use reader::Reader;
#[cfg(feature = "sessions")]
pub(in crate::threads) use session::Backoff;
use session::Claim;
use writer::Writer;

/// The loop's end.
#[derive(Debug)]
pub(crate) struct Cluster {
    shared: Arc<Shared>,
    orders: Option<Sender<Order>>,
    /// Kept so that the threads learn of the end.
    running: Option<Sender<()>>,
    ended: Receiver<()>,
}

impl Cluster {
    /// Claims the server's name, and starts the threads.
    ///
    /// # Errors
    ///
    /// If another server has this name, or the system has no thread.
    pub fn start(
        config: &Config,
        url: &RedisUrl,
        machine_name: &str,
        handle: &Handle,
    ) -> io::Result<Cluster> {
        let shared = Arc::new(Shared::new(config, url, machine_name));
        match session::claim_at_start(&shared) {
            Claim::Granted | Claim::Unknown => {}
            Claim::Taken => {
                let node = &shared.node;
                let text = format!("cluster.node = {node}: another server of this name runs");
                return Err(io::Error::other(text));
            }
        }
        let (orders, taken) = unbounded();
        let (running, stopping) = bounded(0);
        let (ending, ended) = bounded(0);
        let mut reader = Reader::new(shared.clone(), handle.clone(), stopping.clone());
        let has_ended = ending.clone();
        let read = move || {
            reader.run();
            drop(has_ended);
        };
        spawn("heartwheel-cluster-read".into(), Some(STACK_BYTES), Box::new(read))?;
        let mut writer = Writer::new(shared.clone(), handle.clone(), taken);
        let write = move || {
            writer.run();
            drop((ending, stopping));
        };
        spawn("heartwheel-cluster-write".into(), Some(STACK_BYTES), Box::new(write))?;
        Ok(Cluster { shared, orders: Some(orders), running: Some(running), ended })
    }

    /// Gives a publication to the log. Returns its ticket if too much waits for the writer already,
    /// so that its publisher is told.
    pub fn give(&self, publication: Publication) -> Option<Ticket> {
        let (bytes, queued) = (writer::bytes_of(&publication), &self.shared.queued);
        let waiting = queued.load(Ordering::Relaxed);
        if waiting > 0 && waiting + bytes > CLUSTER_QUEUE_BYTES {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Some(publication.ticket);
        }
        queued.fetch_add(bytes, Ordering::Relaxed);
        self.order(Order::Publish(publication));
        None
    }

    /// Takes note of how the server does, for the registry, which is told at once when a drain
    /// begins.
    pub fn note(&self, connections: usize, is_draining: bool) {
        self.shared.connections.store(connections, Ordering::Relaxed);
        if is_draining && !self.shared.is_draining.swap(true, Ordering::Relaxed) {
            self.order(Order::Register);
        }
    }

    fn order(&self, order: Order) {
        // The writer ends after the loop: it takes what is sent.
        let _ = self.orders.as_ref().map(|orders| orders.send(order));
    }

    /// Returns what is reported of it.
    pub fn figures(&self) -> ClusterFigures {
        self.shared.figures()
    }

    /// Ends the threads: the writer gives up its claim. Waits for them, but not for long.
    pub fn stop(&mut self) {
        self.shared.is_over.store(true, Ordering::SeqCst);
        self.orders = None;
        self.running = None;
        if let Some(closer) = &*self.shared.reading() {
            closer.close();
        }
        if let Err(RecvTimeoutError::Timeout) = self.ended.recv_timeout(END_MAX) {
            log::warn!("cluster left ms={}: Redis does not answer", END_MAX.as_millis());
        }
    }
}

/// What the writer is told.
#[derive(Debug)]
enum Order {
    Publish(Publication),
    Register,
}

/// What the threads share, and the loop reads.
#[derive(Debug)]
struct Shared {
    url: RedisUrl,
    keys: Keys,
    /// The claim of this server's name.
    claim: String,
    node: String,
    /// Drawn for this process: by it, it knows its own events.
    process: String,
    retain_events: u64,
    offline: Offline,
    /// What one string of an answer may take, and a whole answer.
    limits: (u64, usize),
    is_over: AtomicBool,
    /// Ends the connection that is read from.
    reading: Mutex<Option<Closer>>,
    /// How far the log has been read.
    seen: Mutex<Option<Seen>>,
    counts: Mutex<Counts>,
    began: StdInstant,
    is_reached: AtomicBool,
    /// When the reader was last at the end of the log, in milliseconds since it began.
    end_at_ms: AtomicUsize,
    is_at_end: AtomicBool,
    published: AtomicUsize,
    duplicates: AtomicUsize,
    refused: AtomicUsize,
    reconnects: AtomicUsize,
    nodes: AtomicUsize,
    /// What the registry is told.
    started_ms: u64,
    connections: AtomicUsize,
    is_draining: AtomicBool,
    /// The bytes of publications that the writer has yet to look at.
    queued: AtomicUsize,
}

impl Shared {
    fn new(config: &Config, url: &RedisUrl, machine_name: &str) -> Shared {
        let cluster = &config.cluster;
        let keys = Keys::new(&cluster.name);
        let node = cluster.node.clone().unwrap_or_else(|| machine_name.to_owned());
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        let started_ms = started.map_or(0, |since| since.as_millis() as u64);
        let answer_max = usize::try_from(config.cluster_answer_bytes()).unwrap_or(usize::MAX);
        Shared {
            url: url.clone(),
            claim: keys.claim(&node),
            keys,
            node,
            process: format!("{:016x}", random_seed()),
            retain_events: cluster.retain_events,
            offline: cluster.offline,
            limits: (answer_max as u64 / 2, answer_max),
            is_over: AtomicBool::new(false),
            reading: Mutex::default(),
            seen: Mutex::default(),
            counts: Mutex::default(),
            began: StdInstant::now(),
            is_reached: AtomicBool::new(false),
            end_at_ms: AtomicUsize::new(0),
            is_at_end: AtomicBool::new(false),
            published: AtomicUsize::new(0),
            duplicates: AtomicUsize::new(0),
            refused: AtomicUsize::new(0),
            reconnects: AtomicUsize::new(0),
            nodes: AtomicUsize::new(0),
            started_ms,
            connections: AtomicUsize::new(0),
            is_draining: AtomicBool::new(false),
            queued: AtomicUsize::new(0),
        }
    }

    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn is_reached(&self) -> bool {
        self.is_reached.load(Ordering::SeqCst)
    }

    fn seen(&self) -> Option<Seen> {
        *lock(&self.seen)
    }

    fn reading(&self) -> MutexGuard<'_, Option<Closer>> {
        lock(&self.reading)
    }

    fn note_end(&self, is_at_end: bool) {
        self.end_at_ms.store(self.began.elapsed().as_millis() as usize, Ordering::Relaxed);
        self.is_at_end.store(is_at_end, Ordering::Relaxed);
    }

    /// Returns what the registry is told.
    fn node(&self) -> Node {
        let figures = self.figures();
        Node {
            name: self.node.clone(),
            instance: self.process.clone(),
            started_ms: self.started_ms,
            connections: self.connections.load(Ordering::Relaxed) as u64,
            lag_ms: figures.lag.as_millis() as u64,
            is_draining: self.is_draining.load(Ordering::Relaxed),
            version: env!("CARGO_PKG_VERSION").into(),
            gaps: figures.gaps_told(),
            seen_ms: 0,
        }
    }

    fn figures(&self) -> ClusterFigures {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed) as u64;
        let counts = lock(&self.counts);
        let is_connected = self.is_reached();
        let since_ms =
            (self.began.elapsed().as_millis() as u64).saturating_sub(count(&self.end_at_ms));
        let waits = is_connected && self.is_at_end.load(Ordering::Relaxed);
        ClusterFigures {
            is_connected,
            lag: if waits { Duration::ZERO } else { Duration::from_millis(since_ms) },
            published: count(&self.published),
            duplicates: count(&self.duplicates),
            refused: count(&self.refused),
            foreign: counts.foreign as u64,
            reconnects: count(&self.reconnects),
            nodes: count(&self.nodes),
            gaps: std::array::from_fn(|place| {
                (Reason::ALL[place].label(), counts.gaps[place] as u64)
            }),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing under the locks panics.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// TLS takes some, and so do names of hosts.
const STACK_BYTES: usize = 512 * 1024;

/// How long the end waits for the threads.
const END_MAX: Duration = Duration::from_secs(1);

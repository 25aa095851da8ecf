//! The phases, one after the other.

use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::common::machine::{pin, raise_descriptor_limit};
use crate::common::process::Memory;
use crate::common::rng::Rng;
use crate::herd::Herd;
use crate::options::Options;
use crate::script::{HONEST_PERCENT, Kind, STANDING, Scripts};
use crate::server::{Figures, Server};
use crate::tally::Tally;

/// All that was measured.
pub struct Record {
    pub phases: Vec<Phase>,
    pub seconds: Vec<Second>,
    /// After the warm-up, and after each phase, without abusive clients.
    pub edges: Vec<Edge>,
    pub descriptors: (usize, usize),
    pub figures: Figures,
    pub tally: Tally,
    /// Abusive clients that the server had not ended when their time was over.
    pub outlived: usize,
    /// How long the server took to be rid of the last ones.
    pub cleared_after: Duration,
    pub log_lines: usize,
}

/// A phase, and what its honest clients saw.
pub struct Phase {
    pub with_abuse: bool,
    pub latency: Histogram<u64>,
    pub blind: Histogram<u64>,
    pub lasted: Duration,
    pub connections: u64,
    /// CPU time of the server: its loop, its workers, its log.
    pub cpu: [Duration; 3],
    /// The longest turn so far.
    pub turn_max_us: u64,
}

pub struct Second {
    pub at: f64,
    pub with_abuse: bool,
    pub memory_kib: u64,
    pub p50_us: u64,
    pub p99_us: u64,
    pub connections: usize,
}

pub struct Edge {
    pub connections: u64,
    /// What the process has, and of that what is no file's.
    pub rss_kib: u64,
    pub anonymous_kib: u64,
    /// What it has in use.
    pub live_bytes: u64,
}

/// Runs all of it.
pub fn run(options: &Options) -> Record {
    raise_descriptor_limit();
    if options.is_pinned {
        stay_on(0);
    }
    let server = Server::start(&options.settings);
    if options.is_pinned {
        stay_on(1);
    }
    // What a start opens is open after a request.
    server.figures();
    std::thread::sleep(Duration::from_millis(50));
    let descriptors_before = descriptors(&server);
    let mut run = Run::new(options, &server);
    run.settle();
    let mut phases = Vec::new();
    let mut edges = Vec::new();
    run.phase(true, options.warm_up());
    edges.push(run.edge());
    for _ in 0..options.rounds {
        for with_abuse in [false, true] {
            if with_abuse || !options.is_steady {
                phases.push(run.phase(with_abuse, options.phase()));
                edges.push(run.edge());
            }
        }
    }
    let (outlived, cleared_after) = run.leave_alone();
    run.catch_up();
    run.honest.drop_all(&mut run.tally);
    std::thread::sleep(Duration::from_millis(200));
    let figures = server.figures();
    std::thread::sleep(Duration::from_millis(50));
    Record {
        phases,
        seconds: run.seconds,
        edges,
        descriptors: (descriptors_before, descriptors(&server)),
        figures,
        tally: run.tally,
        outlived,
        cleared_after,
        log_lines: server.log_lines(),
    }
}

struct Run<'a> {
    options: &'a Options,
    server: &'a Server,
    scripts: Scripts,
    rng: Rng,
    tally: Tally,
    honest: Herd,
    abusive: Herd,
    began: Instant,
    next_second: Instant,
    /// When the honest clients were looked after last.
    looked_at: Instant,
    seconds: Vec<Second>,
}

/// Who comes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Arrivals {
    Nobody,
    Honest,
    All,
}

impl<'a> Run<'a> {
    fn new(options: &'a Options, server: &'a Server) -> Run<'a> {
        let now = Instant::now();
        let mut run = Run {
            options,
            server,
            scripts: Scripts::new(),
            rng: Rng::new(options.seed),
            tally: Tally::new(),
            honest: Herd::new(),
            abusive: Herd::new(),
            began: now,
            next_second: now,
            looked_at: now,
            seconds: Vec::new(),
        };
        for _ in 0..STANDING {
            run.connect(Kind::Standing);
        }
        run
    }

    fn phase(&mut self, with_abuse: bool, span: Duration) -> Phase {
        let connected = self.tally.connected;
        let cpu = self.cpu();
        self.tally.phase.reset();
        self.tally.blind.reset();
        self.tally.since = Instant::now();
        let began = Instant::now();
        let arrivals = if with_abuse { Arrivals::All } else { Arrivals::Honest };
        self.turn_until(began + span, arrivals, |_| false);
        let used = self.cpu();
        Phase {
            with_abuse,
            latency: self.tally.phase.clone(),
            blind: self.tally.blind.clone(),
            lasted: began.elapsed(),
            connections: self.tally.connected - connected,
            cpu: std::array::from_fn(|index| used[index] - cpu[index]),
            turn_max_us: self.server.figures().turn_max_us,
        }
    }

    /// Ends the abusive clients, waits until those who pass have passed, and measures.
    fn edge(&mut self) -> Edge {
        self.abusive.drop_all(&mut self.tally);
        self.settle();
        let Memory { rss_kib, anonymous_kib } = self.server.process().memory().expect(RUNS);
        let live_bytes = self.server.live_bytes();
        Edge { connections: self.tally.connected, rss_kib, anonymous_kib, live_bytes }
    }

    /// Waits until only the standing clients are left, and a moment longer.
    fn settle(&mut self) {
        let is_settled = |run: &Run| run.honest.len() <= STANDING;
        self.turn_until(Instant::now() + SETTLE_MAX, Arrivals::Nobody, is_settled);
        self.turn_until(Instant::now() + SETTLE, Arrivals::Nobody, |_| false);
    }

    /// A burst of abusive clients that nobody but the server ends. Gives how many it did not end in
    /// their time, and when it had ended the last one.
    fn leave_alone(&mut self) -> (usize, Duration) {
        let began = Instant::now();
        self.turn_until(began + Duration::from_secs(1), Arrivals::All, |_| false);
        let began = Instant::now();
        self.turn_until(began + LIFE_MAX, Arrivals::Nobody, |run| run.abusive.len() == 0);
        let outlived = self.abusive.len();
        self.abusive.drop_all(&mut self.tally);
        let cleared_after = began.elapsed();
        self.settle();
        (outlived, cleared_after)
    }

    /// Sends nothing more and waits until every message has been echoed.
    fn catch_up(&mut self) {
        self.tally.is_over = true;
        let is_even = |run: &Run| run.tally.echoed == run.tally.sent;
        self.turn_until(Instant::now() + SETTLE_MAX, Arrivals::Nobody, is_even);
        self.tally.lost = self.tally.sent - self.tally.echoed;
    }

    fn connect(&mut self, kind: Kind) {
        let herd = if kind.is_honest() { &mut self.honest } else { &mut self.abusive };
        herd.connect(self.server.address, kind, &self.scripts, &mut self.rng, &mut self.tally);
    }

    /// Lets the clients live until a moment, or until it is over.
    fn turn_until(&mut self, end: Instant, who: Arrivals, is_over: impl Fn(&Run) -> bool) {
        let mut next_arrival = Instant::now();
        loop {
            self.look_after_honest();
            let now = Instant::now();
            if now >= end || is_over(self) {
                return;
            }
            self.note_second(now, who == Arrivals::All);
            for _ in 0..BATCH {
                if who == Arrivals::Nobody || next_arrival > now {
                    break;
                }
                next_arrival += self.draw_gap();
                let is_honest = self.rng.below(100) < HONEST_PERCENT;
                if is_honest {
                    self.connect(Kind::Passing);
                } else if who == Arrivals::All {
                    let index = self.rng.below(self.options.kinds.len() as u64) as usize;
                    self.connect(self.options.kinds[index]);
                }
            }
            self.look_after_honest();
            self.abusive.gather();
            for _ in 0..BATCH {
                if !self.abusive.serve_one(&mut self.tally) {
                    break;
                }
            }
            let next = (who != Arrivals::Nobody).then_some(next_arrival);
            self.sleep(next.map_or(end, |next| next.min(end)));
        }
    }

    fn look_after_honest(&mut self) {
        self.tally.blind += self.looked_at.elapsed().as_micros() as u64;
        self.honest.gather();
        while self.honest.serve_one(&mut self.tally) {}
        self.looked_at = Instant::now();
    }

    /// Waits until a client has something to do. Time spent here is not blindness.
    fn sleep(&mut self, end: Instant) {
        if self.abusive.is_ready() {
            return;
        }
        let moments = [self.honest.next_at(), self.abusive.next_at(), Some(end)];
        let next = moments.into_iter().flatten().min().unwrap_or(end);
        let wait = next.saturating_duration_since(Instant::now());
        if !wait.is_zero() {
            let wait =
                Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() };
            let mut herds = [self.honest.as_fd(), self.abusive.as_fd()]
                .map(|herd| PollFd::from_borrowed_fd(herd, PollFlags::IN));
            // Interrupted, it has not waited long enough: no harm.
            let _ = poll(&mut herds, Some(&wait));
        }
        self.looked_at = Instant::now();
    }

    /// Connections come by chance, as many as were asked for on average.
    fn draw_gap(&mut self) -> Duration {
        let chance = (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        Duration::from_secs_f64(-(1.0 - chance).ln() / self.options.rate as f64)
    }

    fn note_second(&mut self, now: Instant, with_abuse: bool) {
        if now < self.next_second {
            return;
        }
        self.next_second = now + Duration::from_secs(1);
        self.seconds.push(Second {
            at: self.began.elapsed().as_secs_f64(),
            with_abuse,
            memory_kib: self.server.process().memory_roughly().expect(RUNS),
            p50_us: self.tally.second.value_at_quantile(0.5),
            p99_us: self.tally.second.value_at_quantile(0.99),
            connections: self.honest.len() + self.abusive.len(),
        });
        self.tally.second.reset();
    }

    fn cpu(&self) -> [Duration; 3] {
        let mut cpu = [Duration::ZERO; 3];
        for (name, used) in self.server.process().cpu_by_thread().expect(RUNS) {
            let index = match name.as_str() {
                "heartwheel-log" => 2,
                name if name.starts_with("heartwheel-") => 1,
                // The main thread has the name of the file.
                _ => 0,
            };
            cpu[index] += used;
        }
        cpu
    }
}

fn stay_on(core: usize) {
    if !pin(core) {
        eprintln!("core {core} cannot be had");
    }
}

fn descriptors(server: &Server) -> usize {
    server.process().descriptors().expect(RUNS)
}

/// How many steps of abusive clients come before the honest ones are looked after again.
const BATCH: usize = 4;
const SETTLE: Duration = Duration::from_millis(150);
const SETTLE_MAX: Duration = Duration::from_secs(2);
/// What the deadlines, one behind the other, add up to: a minute message, a stalled echo of it that
/// may be three times as old, a close frame, the wait for its answer and for FIN.
const LIFE_MAX: Duration = Duration::from_secs(8);
const RUNS: &str = "the program runs";

//! Echoes: as fast as each connection gets its answers (`echo`), and at a given rate (`rate`).
//!
//! In the closed loop every connection keeps `depth` messages under way; a latency is from before
//! the write to behind the read, and says how long a queue of that length takes. In the open loop a
//! message goes out when its time has come, whatever became of those before it, and its latency is
//! counted from that time: a server that stands still is charged for everything that should have
//! been sent meanwhile.

use std::io;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::common::process::Process;
use super::common::program::Admin;
use super::common::rng::Rng;
use super::herd::{Act, Herd, Told};
use super::options::{Mode, Options};
use super::progress::Progress;
use super::record::{Record, Run};
use super::ring::Ring;
use super::stats::{histogram, record};
use super::target::{Purpose, Server, Target};
use super::window::{Spent, Window};

/// How many connections, messages of what size, and how many under way on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    pub connections: usize,
    pub size: usize,
    pub depth: usize,
}

/// What the generator is to do with its connections.
#[derive(Clone, Copy)]
enum Pace {
    Closed,
    /// This many messages a second, over all connections.
    Open(f64),
}

/// What came of it.
pub struct Outcome {
    spent: Spent,
    latency: Histogram<u64>,
    /// Echoes that came inside the window.
    echoed: u64,
    /// How late the generator sent, in nanoseconds.
    behind: Option<Histogram<u64>>,
}

/// Measures the closed loop.
pub fn echo(options: &Options, targets: &[Target], record: &mut Record, progress: &mut Progress) {
    let asked = (options.connections, options.size, options.depth);
    let loads = match asked {
        (None, None, None) => STANDARD.to_vec(),
        (connections, size, depth) => vec![Load {
            connections: connections.unwrap_or(64),
            size: size.unwrap_or(125),
            depth: depth.unwrap_or(1),
        }],
    };
    let rounds = options.rounds(3);
    progress.expect(loads.len() * rounds * targets.len());
    for load in loads {
        for_each_round(rounds, targets, |round, target| {
            let name = load.name();
            progress.step(&format!("echo {name} {}", target.name));
            let run = Run::new(Mode::Echo, name, &target.name, round);
            record.runs.push(measure(options, target, load, Pace::Closed, run));
        });
    }
}

/// Measures the closed loop by the standard loads, for the table that compares with the machine's
/// limit.
pub fn matrix(options: &Options, targets: &[Target], record: &mut Record, progress: &mut Progress) {
    let rounds = options.rounds(5);
    progress.expect(STANDARD.len() * rounds * targets.len());
    for load in STANDARD {
        for_each_round(rounds, targets, |round, target| {
            let name = load.name();
            progress.step(&format!("matrix {name} {}", target.name));
            let run = Run::new(Mode::Matrix, name, &target.name, round);
            record.runs.push(measure(options, target, load, Pace::Closed, run));
        });
    }
}

/// Measures the open loop.
pub fn rate(options: &Options, targets: &[Target], record: &mut Record, progress: &mut Progress) {
    let load = Load {
        connections: options.connections.unwrap_or(200),
        size: options.size.unwrap_or(125),
        depth: 1,
    };
    let rate = options.rate.unwrap_or(5000.0);
    let rounds = options.rounds(3);
    progress.expect(rounds * targets.len());
    for_each_round(rounds, targets, |round, target| {
        let name = format!("{rate}/s over {}x{}", load.connections, load.size);
        progress.step(&format!("rate {name} {}", target.name));
        let run = Run::new(Mode::Rate, name, &target.name, round);
        record.runs.push(measure(options, target, load, Pace::Open(rate), run));
    });
}

/// Takes the servers by turns, every other time in reverse: what drifts hits all of them.
pub fn for_each_round(rounds: usize, targets: &[Target], mut each: impl FnMut(usize, &Target)) {
    for round in 0..rounds {
        let mut order: Vec<&Target> = targets.iter().collect();
        if round % 2 == 1 {
            order.reverse();
        }
        order.into_iter().for_each(|target| each(round, target));
    }
}

/// One run; what keeps it from being one is its error.
fn measure(options: &Options, target: &Target, load: Load, pace: Pace, mut run: Run) -> Run {
    let server = match target.start(options, &load.purpose()) {
        Ok(server) => server,
        Err(error) => return failed(run, &error),
    };
    let mut herd = load.herd(options, &server);
    match herd.open(&server.endpoint, load.connections) {
        0 => run.notes.push("no connection could be opened".to_owned()),
        _ => match drive(&mut herd, &server, options, load, pace) {
            Ok(outcome) => note(&mut run, outcome, load),
            Err(error) => run = failed(run, &error),
        },
    }
    run.errors.add(&herd.errors);
    herd.drop_all();
    run
}

/// The server cannot be started, or has ended.
pub fn failed(mut run: Run, error: &io::Error) -> Run {
    run.errors.lost += 1;
    run.errors.note(format!("the server: {error}"));
    run
}

/// Notes an outcome as a run's figures.
pub fn note(run: &mut Run, outcome: Outcome, load: Load) {
    run.set_spent(&outcome.spent, outcome.echoed);
    run.set_latency(outcome.latency);
    let bytes = outcome.echoed as f64 * load.size as f64;
    run.set("mib", bytes / outcome.spent.lasted.as_secs_f64() / f64::from(1 << 20));
    if let Some(behind) = outcome.behind {
        run.set("behind", behind.value_at_quantile(0.99) as f64 / 1000.0);
    }
}

fn drive(
    herd: &mut Herd,
    server: &Server,
    options: &Options,
    load: Load,
    pace: Pace,
) -> io::Result<Outcome> {
    let span = options.seconds(if options.mode == Mode::Matrix { 1.2 } else { 3.0 });
    match pace {
        Pace::Open(rate) => by_the_clock(herd, server.process, options, rate, span),
        Pace::Closed => {
            let outcome = closed(herd, server, load.depth, options.warmup(), span);
            herd.catch_up(|_| ());
            outcome
        }
    }
}

/// Sends this many messages a second, over all connections, for a while, after the warm-up.
///
/// # Errors
///
/// If the server has ended.
pub fn by_the_clock(
    herd: &mut Herd,
    process: Option<Process>,
    options: &Options,
    rate: f64,
    span: Duration,
) -> io::Result<Outcome> {
    let mut open = Open::new(herd, rate, options.seed);
    open.run(herd, options.warmup(), &mut None);
    let window = Window::open(process)?;
    let mut measured = Some(Measured::new(herd.now()));
    open.run(herd, span, &mut measured);
    let spent = window.close()?;
    let mut measured = measured.expect("it was put there");
    let echoed = measured.latency.len();
    herd.catch_up(|told| measured.take(told));
    let behind = Some(measured.behind);
    Ok(Outcome { spent, latency: measured.latency, echoed, behind })
}

fn closed(
    herd: &mut Herd,
    server: &Server,
    depth: usize,
    warmup: Duration,
    span: Duration,
) -> io::Result<Outcome> {
    let keys: Vec<usize> = herd.connections.iter().map(|(key, _)| key).collect();
    for key in keys {
        let now = herd.now();
        herd.send(key, depth, now);
    }
    let again =
        |told| if matches!(told, Told::Message { .. }) { Act::Send(1) } else { Act::Nothing };
    let end = Instant::now() + warmup;
    while Instant::now() < end {
        herd.turn(Some(end), |_, told| again(told));
    }
    let mut latency = histogram();
    let window = Window::open(server.process)?;
    let end = Instant::now() + span;
    while Instant::now() < end && !herd.connections.is_empty() {
        herd.turn(Some(end), |_, told| {
            if let Told::Message { stamp: Some(stamp), now } = told {
                record(&mut latency, now - stamp);
            }
            again(told)
        });
    }
    let spent = window.close()?;
    let echoed = latency.len();
    Ok(Outcome { spent, latency, echoed, behind: None })
}

/// Messages sent by the clock, over the connections in an order drawn once.
pub struct Open {
    order: Vec<usize>,
    gap_nanos: f64,
    /// Where gaps are drawn by chance, and are as long as that on average only.
    chance: Option<Rng>,
    /// When the next message is to be sent.
    due: f64,
    sent: usize,
}

/// Latencies of the messages whose time came after a moment.
struct Measured {
    from: u64,
    latency: Histogram<u64>,
    behind: Histogram<u64>,
}

impl Open {
    /// Messages come evenly.
    fn new(herd: &Herd, rate: f64, seed: u64) -> Open {
        let mut order: Vec<usize> = herd.connections.iter().map(|(key, _)| key).collect();
        let mut rng = Rng::new(seed);
        for index in (1..order.len()).rev() {
            order.swap(index, rng.below(index as u64 + 1) as usize);
        }
        let due = herd.now() as f64;
        Open { order, gap_nanos: 1e9 / rate, chance: None, due, sent: 0 }
    }

    /// Messages come by chance.
    pub fn by_chance(herd: &Herd, rate: f64, seed: u64) -> Open {
        Open { chance: Some(Rng::new(seed)), ..Open::new(herd, rate, seed) }
    }

    /// Goes on for a while, unmeasured.
    pub fn go_on(&mut self, herd: &mut Herd, span: Duration) {
        self.run(herd, span, &mut None);
    }

    /// Goes on for a while.
    fn run(&mut self, herd: &mut Herd, span: Duration, measured: &mut Option<Measured>) {
        let end = herd.now() + span.as_nanos() as u64;
        loop {
            let mut now = herd.now();
            for _ in 0..BATCH {
                let due = self.due as u64;
                if due > now || due >= end || self.order.is_empty() {
                    break;
                }
                if let Some(measured) = measured {
                    record(&mut measured.behind, now - due);
                }
                herd.send(self.order[self.sent % self.order.len()], 1, due);
                self.sent += 1;
                self.due += self.draw_gap();
                now = herd.now();
            }
            if now >= end {
                return;
            }
            let wait = Duration::from_nanos((self.due as u64).min(end).saturating_sub(now));
            herd.turn(Some(Instant::now() + wait), |_, told| {
                if let Some(measured) = measured {
                    measured.take(told);
                }
                Act::Nothing
            });
        }
    }

    fn draw_gap(&mut self) -> f64 {
        let Some(rng) = &mut self.chance else { return self.gap_nanos };
        let chance = (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
        -(1.0 - chance).ln() * self.gap_nanos
    }
}

impl Measured {
    fn new(from: u64) -> Measured {
        Measured { from, latency: histogram(), behind: histogram() }
    }

    fn take(&mut self, told: Told) {
        if let Told::Message { stamp: Some(stamp), now } = told
            && stamp >= self.from
        {
            record(&mut self.latency, now.saturating_sub(stamp));
        }
    }
}

impl Load {
    pub fn name(self) -> String {
        format!("{}x{}x{}", self.connections, self.size, self.depth)
    }

    /// Gives what the program needs to serve it: by default it takes less.
    pub fn purpose(self) -> Purpose<'static> {
        let mut settings = Vec::new();
        if self.size > 1 << 20 {
            settings.push(format!("limits.message_bytes={}", self.size));
        }
        if self.connections > 9_000 {
            settings.push(format!("limits.connections={}", self.connections + 100));
        }
        Purpose { path: "/echo", settings, is_fanout: false, admin: Admin::Off }
    }

    /// Makes a herd for it, without connections.
    pub fn herd(self, options: &Options, server: &Server) -> Herd {
        let framing = server.endpoint.framing(self.size);
        let ring = Ring::new(framing, options.kind, self.size, self.depth, options.seed);
        let mut herd = Herd::new(ring, framing, self.size);
        herd.verifies = options.verifies;
        herd.is_singly = options.is_singly;
        herd
    }
}

/// Messages sent before answers are looked after again.
const BATCH: usize = 64;

const STANDARD: [Load; 5] = [
    Load { connections: 64, size: 125, depth: 1 },
    Load { connections: 64, size: 125, depth: 16 },
    Load { connections: 1000, size: 1024, depth: 4 },
    Load { connections: 64, size: 16_384, depth: 4 },
    Load { connections: 10, size: 1 << 20, depth: 1 },
];

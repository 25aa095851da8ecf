//! One connection publishes, all others receive.
//!
//! The next message goes out when the last one is with everybody, or by the clock with `--rate`. A
//! latency is from before the write until the last reader has it. Then, in slices of a quarter of a
//! second by turns, one message and two in one write: a server that puts both into one system call
//! for each reader pays little more for two.

use std::io;
use std::time::{Duration, Instant};

use super::common::program::Admin;
use super::echo::{Load, failed, for_each_round};
use super::herd::{Act, Herd, Told};
use super::options::{Mode, Options};
use super::progress::Progress;
use super::record::{Record, Run};
use super::stats::{histogram, record};
use super::target::{Purpose, Server, Target};
use super::window::Window;

pub fn fanout(options: &Options, targets: &[Target], record: &mut Record, progress: &mut Progress) {
    let readers = options.connections.unwrap_or(1000);
    let size = options.size.unwrap_or(125);
    let rounds = options.rounds(3);
    progress.expect(rounds * targets.len());
    for_each_round(rounds, targets, |round, target| {
        let pace = options.rate.map_or(String::new(), |rate| format!(", {rate}/s"));
        let load = format!("{readers} readers x {size}{pace}");
        progress.step(&format!("fanout {load} {}", target.name));
        let run = Run::new(Mode::Fanout, load, &target.name, round);
        let load = Load { connections: readers, size, depth: 2 };
        record.runs.push(measure(options, target, load, run));
    });
}

fn measure(options: &Options, target: &Target, load: Load, mut run: Run) -> Run {
    let purpose = Purpose {
        path: "/topics/load",
        settings: load.purpose().settings,
        is_fanout: true,
        admin: Admin::Off,
    };
    let server = match target.start(options, &purpose) {
        Ok(server) => server,
        Err(error) if target.is_peer => {
            run.notes.push(format!("left out, it does not start with --fanout: {error}"));
            return run;
        }
        Err(error) => return failed(run, &error),
    };
    let mut herd = load.herd(options, &server);
    herd.begin_apart = false;
    match Stage::set(&mut herd, &server, load.connections) {
        None => herd.errors.refuse("nobody receives what is published"),
        Some(mut stage) => {
            if let Err(error) = stage.play(&mut run, options) {
                run = failed(run, &error);
            }
        }
    }
    run.errors.add(&herd.errors);
    herd.drop_all();
    run
}

/// One who publishes, and those who receive.
struct Stage<'a> {
    herd: &'a mut Herd,
    server: &'a Server,
    publisher: usize,
    readers: usize,
    /// Whether the publisher receives its own.
    hears_itself: bool,
}

impl<'a> Stage<'a> {
    /// Opens all connections, the publisher first, and finds out who receives.
    fn set(herd: &'a mut Herd, server: &'a Server, readers: usize) -> Option<Stage<'a>> {
        herd.open(&server.endpoint, 1);
        let (publisher, _) = herd.connections.iter().next()?;
        let readers = herd.open(&server.endpoint, readers);
        let mut stage = Stage { herd, server, publisher, readers, hears_itself: false };
        let now = stage.herd.now();
        stage.send(1, now);
        let mut received = 0;
        let end = Instant::now() + FIRST;
        while Instant::now() < end {
            let Stage { herd, hears_itself, .. } = &mut stage;
            herd.turn(Some(end), |key, told| {
                if matches!(told, Told::Message { .. }) {
                    *hears_itself |= key == publisher;
                    received += usize::from(key != publisher);
                }
                Act::Nothing
            });
        }
        (readers > 0 && received == readers).then_some(stage)
    }

    fn play(&mut self, run: &mut Run, options: &Options) -> io::Result<()> {
        let deliveries = self.readers + usize::from(self.hears_itself);
        run.set("readers", self.readers as f64);
        self.publish_for(options.warmup(), 1, None, |_| ());
        let mut latency = histogram();
        let window = Window::open(self.server.process)?;
        let count = self.publish_for(options.seconds(2.0), 1, options.rate, |nanos| {
            record(&mut latency, nanos);
        });
        let spent = window.close()?;
        run.set_latency(latency);
        run.set_spent(&spent, count * deliveries as u64);
        if options.rate.is_some() {
            return Ok(());
        }
        let mut costs = [(Duration::ZERO, 0); 2];
        let end = Instant::now() + options.seconds(2.0);
        while Instant::now() < end && self.is_whole() {
            for (index, (cpu, count)) in costs.iter_mut().enumerate() {
                let window = Window::open(self.server.process)?;
                *count += self.publish_for(SLICE, index + 1, None, |_| ());
                *cpu += window.close()?.server.unwrap_or_default().cpu;
            }
        }
        let [one, two] = costs.map(|(cpu, count)| cpu.as_secs_f64() / count as f64);
        if one > 0.0 && two.is_finite() {
            run.set("pair", two / one);
        }
        Ok(())
    }

    /// Publishes for a while, `at_once` messages in one write; gives how many times, and tells the
    /// nanoseconds that each took to reach the last reader.
    fn publish_for(
        &mut self,
        span: Duration,
        at_once: usize,
        rate: Option<f64>,
        mut took: impl FnMut(u64),
    ) -> u64 {
        let began = self.herd.now();
        let end = began + span.as_nanos() as u64;
        let mut count = 0;
        while self.is_whole() {
            let due = rate.map(|rate| began + (count as f64 * 1e9 / rate) as u64);
            while let Some(due) = due.filter(|due| *due > self.herd.now() && *due < end) {
                let wait = Duration::from_nanos(due - self.herd.now().min(due));
                self.herd.turn(Some(Instant::now() + wait), |_, _| Act::Nothing);
            }
            if due.unwrap_or(self.herd.now()) >= end {
                break;
            }
            let due = due.unwrap_or(self.herd.now());
            self.send(at_once, due);
            let Some(last) = self.await_all(at_once) else { break };
            took(last.saturating_sub(due));
            count += 1;
        }
        count
    }

    /// Waits until everybody has this many messages. Gives when the last reader had them.
    fn await_all(&mut self, at_once: usize) -> Option<u64> {
        let publisher = self.publisher;
        let mut waiting = (self.readers + usize::from(self.hears_itself)) * at_once;
        let mut last = 0;
        let patience = Instant::now() + PATIENCE;
        while waiting > 0 {
            if Instant::now() > patience || !self.is_whole() {
                self.herd.errors.unanswered += waiting as u64;
                self.herd.errors.note("a message did not reach everybody");
                return None;
            }
            self.herd.turn(Some(patience), |key, told| {
                if let Told::Message { now, .. } = told {
                    waiting = waiting.saturating_sub(1);
                    last = if key == publisher { last } else { now };
                }
                Act::Nothing
            });
        }
        Some(last)
    }

    fn send(&mut self, count: usize, stamp: u64) {
        self.herd.send(self.publisher, count, stamp);
        // What comes back is counted, not matched.
        if let Some(publisher) = self.herd.connections.get_mut(self.publisher) {
            publisher.stamps.clear();
        }
    }

    fn is_whole(&self) -> bool {
        self.herd.connections.len() == self.readers + 1
    }
}

/// How long the first message may take to reach everybody; and others may come that nobody waits
/// for.
const FIRST: Duration = Duration::from_millis(500);
const SLICE: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(5);

//! How late deadlines act, seen from outside: without other traffic, and with echoes at full speed.
//!
//! Many connections let deadlines pass, a few dozen for each kind, begun at moments drawn by chance
//! so that they lie anywhere against the ticks of the wheel. What their own observer adds is
//! measured too, by moments at which nothing but itself was due: `observer`. Echoes come from a
//! second thread of lower priority. What cannot be seen from outside, because its beginning is the
//! kernel's (`write_stall`, `close_send`), is in the server's own histogram, which closes the list.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use super::common::program::Admin;
use super::common::rng::Rng;
use super::echo::{Load, failed};
use super::herd::{Act, Herd, Told};
use super::options::{Mode, Options};
use super::progress::Progress;
use super::record::{Record, Run};
use super::target::{Purpose, Server, Target};
use super::watcher::{Ending, Kind, Sample, Seen, Watcher};
use super::window::Window;

pub fn deadlines(
    options: &Options,
    targets: &[Target],
    record: &mut Record,
    progress: &mut Progress,
) {
    // With workers the loop is the same; deadlines are its.
    let Some(target) = targets.iter().find(|target| target.is_heartwheel()) else { return };
    progress.expect(4);
    for is_loaded in [false, true] {
        let state = if is_loaded { "beside echoes" } else { "alone" };
        for takes_pings in [false, true] {
            progress.step(&format!("deadlines {state}"));
            let runs = measure(options, target, takes_pings, is_loaded);
            let runs = runs.unwrap_or_else(|error| {
                vec![failed(Run::new(Mode::Deadlines, state, &target.name, 0), &error)]
            });
            record.runs.extend(runs);
        }
    }
}

/// Watches the kinds that one server can show.
fn measure(
    options: &Options,
    target: &Target,
    takes_pings: bool,
    is_loaded: bool,
) -> io::Result<Vec<Run>> {
    let kinds = Kind::EACH.into_iter().filter(|kind| kind.takes_pings() == takes_pings);
    let kinds: Vec<Kind> = kinds.collect();
    let mut settings: Vec<String> = kinds.iter().map(|kind| kind.setting()).collect();
    settings.extend(match takes_pings {
        true => ["jitter=0", "max_missed=1"].map(|setting| format!("heartbeat.{setting}")).to_vec(),
        false => vec!["heartbeat.interval=off".to_owned()],
    });
    let purpose = Purpose { path: "/echo", settings, is_fanout: false, admin: Admin::On };
    let server = target.start(options, &purpose)?;
    let is_over = AtomicBool::new(false);
    let (mut watch, echoed, spent) = thread::scope(|scope| {
        let echoes = is_loaded.then(|| scope.spawn(|| echo_beside(options, &server, &is_over)));
        let mut watch = Watch::new(&kinds, server.endpoint.address, options.seed);
        watch.run(options.warmup());
        watch.forget();
        let window = Window::open(server.process);
        watch.run(options.seconds(10.0));
        let spent = window.and_then(Window::close);
        is_over.store(true, Ordering::Relaxed);
        (watch, echoes.map(|echoes| echoes.join().unwrap_or(0)), spent)
    });
    let spent = spent?;
    let state = if is_loaded { "beside echoes" } else { "alone" };
    let mut runs = Vec::new();
    for (index, kind) in kinds.iter().enumerate() {
        let load = format!("{} {}ms, {state}", kind.name(), kind.span().as_millis());
        let mut run = Run::new(Mode::Deadlines, load, &target.name, 0);
        note(&mut run, &mut watch.samples[index]);
        run.set_others(&spent);
        run.errors.lost = watch.strays[index];
        if watch.strays[index] > 0 {
            run.errors.note("ended otherwise than by this deadline");
        }
        runs.push(run);
    }
    let part = if takes_pings { "with pings" } else { "without pings" };
    let mut run = Run::new(Mode::Deadlines, format!("observer {part}, {state}"), "itself", 0);
    note(&mut run, &mut watch.own);
    run.set_others(&spent);
    if let Some(echoed) = echoed {
        let rate = echoed as f64 / (options.seconds(10.0) + options.warmup()).as_secs_f64();
        run.notes.push(format!("beside {rate:.0} echoes a second"));
    }
    runs.push(run);
    let mut run = Run::new(
        Mode::Deadlines,
        format!("all kinds {part}, {state}"),
        &format!("{} says", target.name),
        0,
    );
    note_histogram(&mut run, server.admin)?;
    run.set_others(&spent);
    runs.push(run);
    Ok(runs)
}

/// Echoes at full speed until it is over; connections whose lifetime ends are replaced.
fn echo_beside(options: &Options, server: &Server, is_over: &AtomicBool) -> u64 {
    // If it cannot be had the observer measures what that costs it.
    let _ = rustix::process::nice(10);
    let load = Load { connections: 64, size: 125, depth: 16 };
    let mut herd: Herd = load.herd(options, server);
    let mut echoed = 0;
    let mut begun = 0;
    while !is_over.load(Ordering::Relaxed) {
        while herd.connections.len() < load.connections {
            if herd.connect(&server.endpoint, None, begun).is_err() {
                break;
            }
            begun += 1;
        }
        herd.turn(Some(Instant::now() + Duration::from_millis(100)), |_, told| match told {
            Told::Opened { .. } => Act::Send(load.depth),
            Told::Message { .. } => {
                echoed += 1;
                Act::Send(1)
            }
            _ => Act::Nothing,
        });
    }
    herd.drop_all();
    echoed
}

/// Many watchers on one poller.
struct Watch<'a> {
    kinds: &'a [Kind],
    address: SocketAddr,
    rng: Rng,
    poll: Poll,
    /// By token: each has a place of its own, and may be between two connections.
    watchers: Vec<(Option<Watcher>, Instant)>,
    /// By the kind's index.
    samples: Vec<Vec<Sample>>,
    /// Connections that ended otherwise, by the kind's index.
    strays: Vec<u64>,
    own: Vec<Sample>,
}

impl<'a> Watch<'a> {
    fn new(kinds: &'a [Kind], address: SocketAddr, seed: u64) -> Watch<'a> {
        let mut rng = Rng::new(seed);
        let now = Instant::now();
        let begin = |_| (None, now + Duration::from_millis(rng.below(1000)));
        Watch {
            kinds,
            address,
            watchers: (0..kinds.len() * EACH).map(begin).collect(),
            rng,
            poll: Poll::new().expect("a poller can be had"),
            samples: vec![Vec::new(); kinds.len()],
            strays: vec![0; kinds.len()],
            own: Vec::new(),
        }
    }

    fn forget(&mut self) {
        self.samples.iter_mut().for_each(Vec::clear);
        self.strays.fill(0);
        self.own.clear();
    }

    fn run(&mut self, span: Duration) {
        let end = Instant::now() + span;
        let mut events = Events::with_capacity(1024);
        loop {
            let now = Instant::now();
            if now >= end {
                return;
            }
            self.begin_due(now);
            let pauses = self.watchers.iter().filter(|(watcher, _)| watcher.is_none());
            let next = pauses.map(|(_, at)| *at).chain([end]).min().expect("there is the end");
            // Rounded up here, and not by the poller, so that it is known what was asked for.
            let wait = next.saturating_duration_since(Instant::now()).as_millis() as u64 + 1;
            let due = Instant::now() + Duration::from_millis(wait);
            // Interrupted, it gives nothing: then there is nothing.
            let _ = self.poll.poll(&mut events, Some(Duration::from_millis(wait)));
            let now = Instant::now();
            if events.is_empty() && now >= due {
                let late = (now - due).as_nanos() as i64;
                self.own.push(Sample { late, margin: late });
            }
            for event in &events {
                let ending = match (event.is_error(), event.is_read_closed()) {
                    (true, _) => Ending::Reset,
                    (false, true) => Ending::Fin,
                    (false, false) => Ending::None,
                };
                self.go_on(event.token().0, ending);
            }
        }
    }

    fn begin_due(&mut self, now: Instant) {
        for (index, (watcher, at)) in self.watchers.iter_mut().enumerate() {
            if watcher.is_some() || *at > now {
                continue;
            }
            let kind = self.kinds[index / EACH];
            let Ok(mut begun) = Watcher::begin(kind, self.address) else {
                self.strays[index / EACH] += 1;
                *at = now + Duration::from_millis(100);
                continue;
            };
            let both = Interest::READABLE | Interest::WRITABLE;
            let registered = self.poll.registry().register(&mut begun.stream, Token(index), both);
            registered.expect("a socket can be watched");
            *watcher = Some(begun);
        }
    }

    fn go_on(&mut self, index: usize, ending: Ending) {
        let Some((place, at)) = self.watchers.get_mut(index) else { return };
        let Some(watcher) = place else { return };
        let kind = index / EACH;
        loop {
            let sample = match watcher.go_on(ending) {
                Seen::Nothing => return,
                Seen::Acted(sample) => {
                    self.samples[kind].push(sample);
                    continue;
                }
                Seen::Over(sample) => sample,
            };
            match sample {
                Some(sample) => self.samples[kind].push(sample),
                // Pings go on until the connection's lifetime is over.
                None if watcher.kind == Kind::Ping => {}
                None => self.strays[kind] += 1,
            }
            *place = None;
            *at = Instant::now() + Duration::from_millis(self.rng.below(300));
            return;
        }
    }
}

fn note(run: &mut Run, samples: &mut [Sample]) {
    samples.sort_by_key(|sample| sample.late);
    run.set("count", samples.len() as f64);
    if samples.is_empty() {
        return;
    }
    let us = |nanos: i64| nanos as f64 / 1000.0;
    let at = |quantile: f64| {
        let index = (samples.len() as f64 * quantile).ceil() as usize;
        us(samples[index.saturating_sub(1)].late)
    };
    // All by the best estimate. Whether one was early is judged by the earliest right moment alone.
    run.set("min", us(samples[0].late));
    run.set("p50", at(0.5));
    run.set("p99", at(0.99));
    run.set("max", at(1.0));
    run.set("early", samples.iter().filter(|sample| sample.margin < 0).count() as f64);
}

/// Reads what the server itself counted: of each percentile, the upper end of its part.
fn note_histogram(run: &mut Run, admin: Option<SocketAddr>) -> io::Result<()> {
    let Some(admin) = admin else { return Ok(()) };
    let mut stream = TcpStream::connect(admin)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let turns = histogram(&answer, "heartwheel_turn_seconds");
    let all = turns.last().map_or(0.0, |(_, count)| *count);
    let longest = turns.iter().find(|(_, up_to)| *up_to >= all);
    run.set("turn_us", longest.map_or(0.0, |(end, _)| end * 1e6));
    let parts = histogram(&answer, "heartwheel_deadline_lateness_seconds");
    let count = parts.last().map_or(0.0, |(_, count)| *count);
    run.set("count", count);
    if count > 0.0 {
        let at = |quantile: f64| {
            let part = parts.iter().find(|(_, up_to)| *up_to >= quantile * count);
            part.map_or(0.0, |(end, _)| end * 1e6)
        };
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
            // The last part has no end.
            if at(quantile).is_finite() {
                run.set(name, at(quantile));
            }
        }
    }
    Ok(())
}

/// Gives the parts of a histogram: their ends in seconds, and how many are within.
fn histogram(metrics: &str, name: &str) -> Vec<(f64, f64)> {
    let part = |line: &str| {
        let rest = line.strip_prefix(name)?.strip_prefix("_bucket{le=\"")?;
        let (end, count) = rest.split_once("\"} ")?;
        Some((end.parse().ok()?, count.trim().parse().ok()?))
    };
    metrics.lines().filter_map(part).collect()
}

/// Watchers of each kind at once.
const EACH: usize = 40;

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_histogram_are_read() {
        let metrics = "# TYPE x histogram\n\
            heartwheel_deadline_lateness_seconds_bucket{le=\"0.04\"} 3\n\
            heartwheel_deadline_lateness_seconds_bucket{le=\"+Inf\"} 4\n\
            heartwheel_deadline_lateness_seconds_sum 0.1\n";
        let parts = histogram(metrics, "heartwheel_deadline_lateness_seconds");
        assert_eq!(parts, [(0.04, 3.0), (f64::INFINITY, 4.0)]);
    }

    #[test]
    fn the_least_is_no_more_than_the_median_and_early_is_judged_by_the_earliest_right_moment() {
        let mut run = Run::new(Mode::Deadlines, "", "", 0);
        let sample = |late, margin| Sample { late, margin };
        note(&mut run, &mut [sample(-3000, 100), sample(9000, 9500), sample(1000, -2000)]);
        assert_eq!(run.figure("early"), Some(1.0));
        assert_eq!(run.figure("min"), Some(-3.0));
        assert_eq!((run.figure("p50"), run.figure("max")), (Some(1.0), Some(9.0)));
        // A ping's earliest right moment is a millisecond before the best estimate of it.
        let mut run = Run::new(Mode::Deadlines, "", "", 0);
        note(&mut run, &mut [sample(200_000, 1_200_000), sample(300_000, 1_300_000)]);
        let [min, p50, max] = ["min", "p50", "max"].map(|name| run.figure(name).unwrap());
        assert!(min <= p50 && p50 <= max, "{min} {p50} {max}");
    }
}

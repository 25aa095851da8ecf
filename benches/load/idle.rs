//! Connections that do nothing: memory, wake-ups, CPU time, and how their pings spread.
//!
//! The memory of a connection is the difference of the process's anonymous memory with all of them
//! and with none, over their number; one connection has come and gone before, so that what is
//! allocated once is not charged to them. What the kernel keeps for a socket is not in it, and it
//! is more.

use std::io;
use std::time::{Duration, Instant};

use super::common::process::Memory;
use super::common::program::Admin;
use super::echo::{Load, failed};
use super::herd::{Act, Herd, Told};
use super::options::{Mode, Options};
use super::progress::Progress;
use super::record::{Record, Run};
use super::target::{Purpose, Server, Target};
use super::window::Window;

/// What becomes of pings.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pings {
    Answered,
    Unanswered,
    /// None comes due while it is measured.
    NotDue,
}

/// Measures each server; the program also without answers to its pings, and without pings.
pub fn idle(options: &Options, targets: &[Target], record: &mut Record, progress: &mut Progress) {
    let most = (record.machine.descriptors_max as usize).saturating_sub(RESERVE);
    let asked = options.connections.unwrap_or(if options.is_quick { 2000 } else { PROMISED });
    let count = asked.min(most);
    // The program's workers have nothing to do with it: whoever is in a hurry leaves them out.
    let is_shown = |(index, target): &(usize, &Target)| {
        !options.is_quick || *index == 0 || !target.is_heartwheel()
    };
    for pings in Pings::EACH {
        for (_, target) in targets.iter().enumerate().filter(is_shown) {
            // Only the program can be told when to ping.
            let is_wanted = match pings {
                Pings::Answered => true,
                Pings::Unanswered => target.is_heartwheel() && !options.is_quick,
                Pings::NotDue => target.is_heartwheel(),
            };
            if !is_wanted {
                continue;
            }
            progress.expect(1);
            progress.step(&format!("idle {count} {} {}", pings.name(), target.name));
            let mut run = Run::new(Mode::Idle, pings.load(count), &target.name, 0);
            if count < PROMISED {
                run.notes.push(few(count));
            }
            if count < asked {
                run.notes.push(format!("{asked} connections do not fit the descriptor limit"));
            }
            record.runs.push(measure(options, target, pings, count, run));
        }
    }
}

fn measure(options: &Options, target: &Target, pings: Pings, count: usize, mut run: Run) -> Run {
    let span = match (options.seconds, options.is_quick) {
        (None, true) => QUICK,
        _ => options.seconds(30.0),
    };
    let load = Load { connections: count, size: options.size.unwrap_or(125), depth: 1 };
    let mut settings = pings.settings(span);
    settings.push(format!("limits.connections={}", count + 100));
    let purpose = Purpose { path: "/echo", settings, is_fanout: false, admin: Admin::Off };
    let server = match target.start(options, &purpose) {
        Ok(server) => server,
        Err(error) => return failed(run, &error),
    };
    let mut herd = load.herd(options, &server);
    if let Err(error) = hold(&mut run, &mut herd, &server, pings, count, span) {
        run = failed(run, &error);
    }
    run.errors.add(&herd.errors);
    run
}

fn hold(
    run: &mut Run,
    herd: &mut Herd,
    server: &Server,
    pings: Pings,
    count: usize,
    span: Duration,
) -> io::Result<()> {
    let start = memory(server)?;
    if herd.open(&server.endpoint, 1) == 1
        && let Some(began) = server.began
    {
        run.set("start_us", began.elapsed().as_secs_f64() * 1e6);
    }
    exchange(herd);
    herd.drop_all();
    settle(herd);
    let base = memory(server)?;

    let began = Instant::now();
    let opened = herd.open(&server.endpoint, count);
    run.set("opens", opened as f64 / began.elapsed().as_secs_f64());
    run.set("count", opened as f64);
    let answers = pings != Pings::Unanswered;
    herd.connections.iter_mut().for_each(|(_, connection)| connection.answers_pings = answers);
    settle(herd);
    let full = memory(server)?;
    if span > STEADY_AFTER {
        pass(herd, STEADY_AFTER);
    } else {
        run.notes.push(SHORT.to_owned());
    }

    let window = Window::open(server.process)?;
    let began = Instant::now();
    run.over_time = vec![0; PARTS];
    while began.elapsed() < span {
        herd.turn(Some(began + span), |_, told| {
            if told == Told::Ping {
                let part = began.elapsed().as_secs_f64() / span.as_secs_f64() * PARTS as f64;
                run.over_time[(part as usize).min(PARTS - 1)] += 1;
            }
            Act::Nothing
        });
    }
    let spent = window.close()?;
    run.set_others(&spent);
    note_pings(run);
    if let (Some(server), pings) = (spent.server, run.figure("pings").unwrap_or(0.0)) {
        run.set("wakes", server.voluntary as f64 / spent.lasted.as_secs_f64());
        run.set("held_cpu_ms", server.cpu.as_secs_f64() * 1000.0);
        if pings > 0.0 {
            run.set("cpu_us", server.cpu.as_secs_f64() * 1e6 / pings);
        }
    }

    exchange(herd);
    settle(herd);
    let used = memory(server)?;
    herd.drop_all();
    settle(herd);
    let rest = memory(server)?;
    if let (Some(start), Some(base), Some(full)) = (start, base, full) {
        let each = |with: Memory| {
            let kib = with.anonymous_kib as f64 - base.anonymous_kib as f64;
            kib * 1024.0 / opened.max(1) as f64
        };
        run.set("start_kib", start.rss_kib as f64);
        run.set("start_anon_kib", start.anonymous_kib as f64);
        run.set("idle_bytes", each(full));
        run.set("used_bytes", each(used.unwrap_or(full)));
        run.set("full_kib", full.rss_kib as f64);
        run.set("rest_kib", rest.unwrap_or(full).rss_kib as f64);
    }
    Ok(())
}

/// Has every connection send a message and receive it.
fn exchange(herd: &mut Herd) {
    let keys: Vec<usize> = herd.connections.iter().map(|(key, _)| key).collect();
    for key in keys {
        let now = herd.now();
        herd.send(key, 1, now);
    }
    herd.catch_up(|_| ());
}

/// What has just been done may still be in progress; pings are answered meanwhile.
fn settle(herd: &mut Herd) {
    pass(herd, SETTLE);
}

fn pass(herd: &mut Herd, span: Duration) {
    let end = Instant::now() + span;
    while Instant::now() < end {
        herd.turn(Some(end), |_, _| Act::Nothing);
    }
}

fn memory(server: &Server) -> io::Result<Option<Memory>> {
    server.process.map(|process| process.memory()).transpose()
}

fn note_pings(run: &mut Run) {
    let pings: u64 = run.over_time.iter().sum();
    run.set("pings", pings as f64);
    if pings == 0 {
        run.over_time.clear();
    } else {
        let most = run.over_time.iter().copied().max().unwrap_or(0);
        run.set("ping_peak", most as f64 * PARTS as f64 / pings as f64);
    }
}

impl Pings {
    const EACH: [Pings; 3] = [Pings::Answered, Pings::Unanswered, Pings::NotDue];

    fn name(self) -> &'static str {
        match self {
            Pings::Answered => "pings answered",
            Pings::Unanswered => "pings unanswered",
            Pings::NotDue => "no pings due",
        }
    }

    fn load(self, count: usize) -> String {
        format!("{count}, {}", self.name())
    }

    /// One interval takes as long as is measured, so that every connection is pinged in it; the
    /// default interval at most.
    fn settings(self, span: Duration) -> Vec<String> {
        let interval = format!("heartbeat.interval={}ms", span.as_millis().min(30_000));
        let settings: &[&str] = match self {
            Pings::Answered => &[&interval],
            Pings::Unanswered => &[&interval, "heartbeat.pong=10m", "deadlines.read_idle=off"],
            Pings::NotDue => &["heartbeat.interval=off", "deadlines.read_idle=1h"],
        };
        settings.iter().map(|setting| (*setting).to_owned()).collect()
    }
}

/// With fewer connections the promise is not judged.
fn few(count: usize) -> String {
    format!(
        "{count} connections: the promise of 256 bytes for each is for {PROMISED}, because what \
         grows in steps weighs more on few"
    )
}

/// How many connections the promise of the documentation is for.
pub const PROMISED: usize = 9000;
/// Descriptors that are not for connections, here and in the server.
const RESERVE: usize = 200;
const QUICK: Duration = Duration::from_secs(6);
/// What opening leaves behind comes due once: the program looks at each connection again after
/// `deadlines.write_stall`, 10 s, and pings due in the next five seconds are not on the grid of
/// whole seconds. A longer window begins behind that.
const STEADY_AFTER: Duration = Duration::from_secs(11);
const SHORT: &str = "the window is short: wake-ups that opening left on the wheel are in it";
const SETTLE: Duration = Duration::from_millis(400);
/// A window is cut into this many parts, to see how pings spread over it.
const PARTS: usize = 30;

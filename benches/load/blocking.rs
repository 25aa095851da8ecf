//! Why there is a pool: what the others feel while some handlers block.
//!
//! A few connections have a handler that sleeps (`--block-ms`, 20); their messages come by chance,
//! from a second thread of the generator, and half of one thread's time is slept away. All others
//! are echoed, a thousand messages a second by the clock. The server is this benchmark itself,
//! started again with routes of its own: handlers on the loop (`workers=0`), and on 1, 2 and 4
//! workers, where the others are echoed by the loop, or by the same workers.

use std::io;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use heartwheel::{Event, Peer, Route, app, program};

use super::common::program::{Admin, Program};
use super::connection::{Endpoint, Speech};
use super::echo::{self, Load, Open, failed};
use super::herd::Herd;
use super::options::{Mode, Options};
use super::progress::Progress;
use super::record::{Record, Run};
use super::ring::Ring;
use super::target::on_its_core;

/// Where handlers run.
#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    workers: u32,
    /// The path of the others.
    others: &'static str,
}

/// Measures each case, or those with as many workers as were asked for.
pub fn blocking(options: &Options, record: &mut Record, progress: &mut Progress) {
    let is_wanted = |case: &Case| options.workers.is_none_or(|asked| asked == case.workers);
    let load = Load {
        connections: options.connections.unwrap_or(200),
        size: options.size.unwrap_or(125),
        depth: 1,
    };
    let (connections, span) = (load.connections, options.block.as_millis());
    let name = format!("{connections} beside {BLOCKERS} that block {span} ms");
    for case in CASES.into_iter().filter(is_wanted) {
        progress.expect(1);
        progress.step(&format!("blocking, {}", case.name));
        let mut run = Run::new(Mode::Blocking, name.clone(), case.name, 0);
        if let Err(error) = measure(options, case, load, &mut run) {
            run = failed(run, &error);
        }
        record.runs.push(run);
    }
}

fn measure(options: &Options, case: Case, load: Load, run: &mut Run) -> io::Result<()> {
    let mut settings = vec![format!("workers={}", case.workers)];
    settings.extend(options.settings.iter().cloned());
    let mut command = Command::new(std::env::current_exe()?);
    command.env_clear().env(SERVE, options.block.as_millis().to_string());
    let server = on_its_core(options, || Program::start_as(command, &settings, Admin::Off))?;
    let open = |path: &str, count: usize| {
        let speech = Speech::WebSocket(path.to_owned());
        let endpoint = Endpoint { address: server.address, speech, is_tls: false };
        let framing = endpoint.framing(load.size);
        let ring = Ring::new(framing, options.kind, load.size, 1, options.seed);
        let mut herd = Herd::new(ring, framing, load.size);
        herd.open(&endpoint, count);
        herd
    };
    let (mut others, mut blockers) =
        (open(case.others, load.connections), open("/block", BLOCKERS));
    let is_over = AtomicBool::new(false);
    let (rate, span) = (options.rate.unwrap_or(1000.0), options.seconds(5.0));
    let outcome = thread::scope(|scope| {
        scope.spawn(|| block(options, &mut blockers, &is_over));
        let process = Some(server.process());
        let outcome = echo::by_the_clock(&mut others, process, options, rate, span);
        is_over.store(true, Ordering::Relaxed);
        outcome
    });
    run.errors.add(&others.errors);
    run.errors.add(&blockers.errors);
    others.drop_all();
    blockers.drop_all();
    echo::note(run, outcome?, load);
    Ok(())
}

/// Has handlers block for half of the time of one thread.
fn block(options: &Options, herd: &mut Herd, is_over: &AtomicBool) {
    let rate = 0.5 / options.block.as_secs_f64().max(0.001);
    let mut open = Open::by_chance(herd, rate, options.seed);
    while !is_over.load(Ordering::Relaxed) {
        open.go_on(herd, Duration::from_millis(20));
    }
    herd.catch_up(|_| ());
}

/// Gives for how long handlers block, if this process is the server.
pub fn serves() -> Option<Duration> {
    let text = std::env::var(SERVE).ok()?;
    text.parse().ok().map(Duration::from_millis)
}

/// Runs the server: the program with routes of our own.
pub fn serve(span: Duration) -> ExitCode {
    let block = move |peer: &Peer, event: Event| {
        if let Event::Message(message) = event {
            thread::sleep(span);
            peer.send(message);
        }
    };
    program::run(move |builder| {
        app::routes(builder)
            .websocket("/block", block)
            .route(Route::websocket("/inline", app::echo).inline())
    })
}

/// Set in the server's environment.
const SERVE: &str = "LOAD_SERVES_HANDLERS_THAT_BLOCK_MS";
const BLOCKERS: usize = 10;
const CASES: [Case; 7] = [
    Case { name: "handlers on the loop", workers: 0, others: "/inline" },
    Case { name: "1 worker", workers: 1, others: "/inline" },
    Case { name: "2 workers", workers: 2, others: "/inline" },
    Case { name: "4 workers", workers: 4, others: "/inline" },
    Case { name: "1 worker, shared", workers: 1, others: "/echo" },
    Case { name: "2 workers, shared", workers: 2, others: "/echo" },
    Case { name: "4 workers, shared", workers: 4, others: "/echo" },
];

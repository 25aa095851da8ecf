//! What does the server cost, how long do its clients wait, and do its deadlines act in time?
//!
//! `cargo bench --bench load -- MODE` starts the program, and whatever it is compared with, each in
//! a process of its own, talks to it over loopback, and prints what it saw.
//!
//! | mode | measures |
//! |---|---|
//! | `echo` | as many echoes as there can be: each connection keeps `--depth` messages under way |
//! | `matrix` | the same by five loads, without workers and with two, in multiples of what `rawecho.c` costs: one table |
//! | `rate` | echoes by the clock: latency counted from when a message should have been sent |
//! | `idle` | connections that do nothing: memory, wake-ups, CPU time, how pings spread |
//! | `fanout` | one publishes, all receive: time to the last reader, CPU of each delivery, two messages against one |
//! | `churn` | connect, upgrade, close: latency of the handshake, CPU of each connection |
//! | `deadlines` | how late each kind of deadline acts, alone and beside echoes at full speed |
//! | `blocking` | what the others feel while some handlers block, on the loop and on workers |
//! | `all` | all of these but `matrix`; with `--quick` in about a minute |
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `--conns N` | 64; `rate` and `blocking` 200; `idle` 9000; `fanout` 1000 | connections; `churn`: handshakes at once, 64 |
//! | `--size N` | 125 | bytes of a message, also `16k`, `1m` |
//! | `--depth N` | 1 | messages under way on each connection, `echo` |
//! | `--rate N` | `rate` 5000, `blocking` 1000 | messages a second; `fanout` and `churn`: by the clock instead of as fast as it goes |
//! | `--seconds S` | 3; `matrix` 1.2, `idle` 30, `fanout` 2 and 2, `churn` 2, `deadlines` 10, `blocking` 5 | what is measured, of each run |
//! | `--warmup S` | 0.5; `matrix` 0.3 | what goes before, unmeasured |
//! | `--rounds N` | 3; `matrix` 5; `idle`, `deadlines`, `blocking` 1 | how often; servers take turns, every other time in reverse |
//! | `--quick` | | a third of the time, one round, fewer idle connections, the program without workers |
//! | `--seed N` | 1 | of contents, orders and gaps |
//! | `--workers N` | 0, and 2 as a server of its own | of the program |
//! | `--set KEY=VALUE` | | a setting of the program; repeatable |
//! | `--peers [NAMES]` | | builds `benches/peers` and runs these of them, or all, comma-separated |
//! | `--tls` | | TLS to the program, by rustls's client, every handshake a full one; takes `cargo bench --features tls`; not `deadlines`, `blocking`, `all` |
//! | `--url URL` | | only this server, which runs already: `ws://` or `wss://HOST:PORT/PATH`, or `tcp://HOST:PORT` for one that sends bare bytes back |
//! | `--against URL` | | this one, too; repeatable |
//! | `--text` | | text messages, not binary ones: the server must look whether they are UTF-8 |
//! | `--singly` | | each message goes out in a write of its own, as soon as the echo has come that it waits for, not with others that the same read answers |
//! | `--verify` | | compares every byte that comes back with what was sent |
//! | `--block-ms N` | 20 | how long a handler blocks, `blocking` |
//! | `--fail-if 'p99>800ms'` | | exit status 1 if it is so of any server but the peers; repeatable. Any figure by its name in the JSON |
//! | `--json FILE`, `--html FILE` | | writes everything; a page that stands alone |
//! | `--cores S,G` | 0,1 | the core of the servers, with all their threads, and of the generator: better not two threads of one core |
//! | `--no-pin` | | all may run on all cores |
//! | `--help` | | prints this |
//!
//! Without `--conns`, `--size` and `--depth`, `echo` measures five loads: 64x125x1, 64x125x16,
//! 1000x1024x4, 64x16384x4 and 10x1048576x1. 64x125x1 is 64 connections x messages of 125 bytes x
//! a depth of 1: as many messages are under way on each connection.
//!
//! Figures to beat in the matrix, in multiples of `rawecho`, with `workers=0` and with two workers:
//! 1.02 and 1.20 at 64x125x1, 1.12 and 1.50 at a depth of 16, 1.08 and 1.50 at 1 KiB, 1.05 and 1.50
//! at 16 KiB, 1.30 and 1.60 at 1 MiB. In the other modes, as ratios within one run: with
//! `workers=0`, CPU time for each echo in multiples of that of bare bytes sent back (`raw`, a
//! peer): 1.05 at depth 1, 1.15 at depth 16 and at 1 KiB, 1.2 at 16 KiB, 1.05 at 1 MiB; with
//! workers, at most 1.5 times the program's own without them, and in `rate` 1.6 times and 40 us
//! more of median latency. A delivery of `fanout`: 1.05 times a bare send; two messages published
//! at once: 1.3 times the CPU time of one. On any machine: at most 256 bytes for each of 9,000 idle
//! connections, 280 after a message; no wake-up while no ping is due; no deadline early, and 99 of
//! 100 no later than a tick (50 ms) and 5 ms; no errors.
//!
//! What the figures do not say. Loopback has no loss and no distance, and work of receiving is done
//! by whoever sends. The closed loop measures queues of the length that it makes. Messages a second
//! depend on what else the machine does: `others` says how much that was, and a run in which it was
//! more than a tenth is marked. One generator thread can be the bottleneck: its own CPU time is
//! beside the server's, and more than 95% is marked. A server of several processes shows the CPU
//! time of the first alone. Memory is what the process has; what the kernel keeps for each socket
//! is not in it. The generator masks every message with the same mask, once, beforehand.
//!
//! Modules: `options`, `help` (these lines), `target` (servers), `herd` with `connection`,
//! `stream`, `reader` and `ring` (the generator), `window` (readings of /proc), `echo`, `idle`,
//! `fanout`, `churn`, `deadlines` with `watcher`, `blocking` (the modes), `record` with `figure`,
//! `condition`, `errors` and `stats` (what was measured), `table`, `json`, `page` with `pictures`
//! and `chart` (how it is told).

mod blocking;
mod chart;
mod churn;
#[path = "../common/mod.rs"]
mod common;
mod condition;
mod connection;
mod deadlines;
mod echo;
mod errors;
mod fanout;
mod figure;
mod help;
mod herd;
mod idle;
mod json;
mod options;
mod page;
mod pictures;
mod progress;
mod reader;
mod record;
mod ring;
mod stats;
mod stream;
mod table;
mod target;
mod watcher;
mod window;

use std::ffi::OsString;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};
use std::{fs, io};

use common::machine::{Machine, pin};
use options::{Mode, Options};
use progress::Progress;
use record::Record;
use target::Target;

fn main() -> ExitCode {
    if let Some(span) = blocking::serves() {
        return blocking::serve(span);
    }
    let arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
    if arguments.iter().any(|word| word == "--help" || word == "-h") {
        print!("{}", help::text());
        return ExitCode::SUCCESS;
    }
    match run(arguments.into_iter()) {
        Ok(failures) if failures.is_empty() => ExitCode::SUCCESS,
        Ok(failures) => {
            failures.iter().for_each(|failure| eprintln!("FAILED {failure}"));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(2)
        }
    }
}

/// Measures what the arguments ask for. Gives what must not be and is.
pub fn run(arguments: impl Iterator<Item = OsString>) -> io::Result<Vec<String>> {
    let options = Options::parse(arguments).map_err(io::Error::other)?;
    let machine = Machine::read();
    if let Some((server, generator)) = options.cores
        && !(pin(server) && pin(generator))
    {
        let what = format!("cores {server} and {generator} cannot be had: see --cores, --no-pin");
        return Err(io::Error::other(what));
    }
    let targets = Target::all(&options)?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let peers = targets.iter().filter(|target| target.is_peer);
    let mut record = Record {
        machine,
        cores: options.cores,
        began,
        command: format!("cargo bench --bench load -- {}", options.command),
        peers: peers.map(|target| target.name.clone()).collect(),
        servers: targets.iter().map(|t| (t.name.clone(), t.description.clone())).collect(),
        runs: Vec::new(),
    };
    let mut progress = Progress::new();
    let is_asked = |mode: &Mode| match options.mode {
        Mode::All => mode.is_of_all(),
        asked => *mode == asked,
    };
    for mode in Mode::EACH.into_iter().filter(is_asked) {
        match mode {
            Mode::Echo => echo::echo(&options, &targets, &mut record, &mut progress),
            Mode::Matrix => echo::matrix(&options, &targets, &mut record, &mut progress),
            Mode::Rate => echo::rate(&options, &targets, &mut record, &mut progress),
            Mode::Idle => idle::idle(&options, &targets, &mut record, &mut progress),
            Mode::Fanout => fanout::fanout(&options, &targets, &mut record, &mut progress),
            Mode::Churn => churn::churn(&options, &targets, &mut record, &mut progress),
            Mode::Deadlines => {
                deadlines::deadlines(&options, &targets, &mut record, &mut progress);
            }
            Mode::Blocking => blocking::blocking(&options, &mut record, &mut progress),
            Mode::All => {}
        }
    }
    progress.end();
    print!("{}", table::text(&record));
    if let Some(path) = &options.json {
        fs::write(path, json::text(&record))?;
    }
    if let Some(path) = &options.html {
        fs::write(path, page::html(&record))?;
    }
    Ok(record.failures(&options.conditions))
}

//! Connections that come and go: connect, upgrade, close, and wait for the server's FIN.
//!
//! A latency is from before `connect` to the complete answer to the upgrade; by the clock, with
//! `--rate`, from when it should have been begun. A server of bare bytes has no handshake: there it
//! is until the echo of one message. Connections come from several addresses, so that ports that
//! linger do not run out.

use std::io;
use std::time::{Duration, Instant};

use super::common::rng::Rng;
use super::connection::{Speech, source};
use super::echo::{Load, failed, for_each_round};
use super::herd::{Act, Herd, Told};
use super::options::{Mode, Options};
use super::progress::Progress;
use super::record::{Record, Run};
use super::stats::{histogram, record};
use super::target::{Server, Target};
use super::window::Window;

pub fn churn(options: &Options, targets: &[Target], record: &mut Record, progress: &mut Progress) {
    let at_once = options.connections.unwrap_or(64);
    let rounds = options.rounds(3);
    progress.expect(rounds * targets.len());
    for_each_round(rounds, targets, |round, target| {
        let load = match options.rate {
            Some(rate) => format!("{rate}/s"),
            None => format!("{at_once} at once"),
        };
        progress.step(&format!("churn {load} {}", target.name));
        let run = Run::new(Mode::Churn, load, &target.name, round);
        record.runs.push(measure(options, target, at_once, run));
    });
}

fn measure(options: &Options, target: &Target, at_once: usize, mut run: Run) -> Run {
    let load = Load { connections: at_once, size: options.size.unwrap_or(125), depth: 1 };
    let server = match target.start(options, &load.purpose()) {
        Ok(server) => server,
        Err(error) => return failed(run, &error),
    };
    let mut herd = load.herd(options, &server);
    let mut churn = Churn {
        server: &server,
        begun_at: Vec::new(),
        begun: Rng::new(options.seed).below(1000) as usize,
        at_once,
        rate: options.rate,
        ended: 0,
    };
    churn.run(&mut herd, options.warmup(), |_| ());
    let mut latency = histogram();
    let ended = churn.ended;
    let result = Window::open(server.process).and_then(|window| {
        churn.run(&mut herd, options.seconds(2.0), |nanos| record(&mut latency, nanos));
        window.close()
    });
    match result {
        Ok(spent) => {
            run.set_spent(&spent, churn.ended - ended);
            run.set_latency(latency);
        }
        Err(error) => run = failed(run, &error),
    }
    run.errors.add(&herd.errors);
    herd.drop_all();
    run
}

struct Churn<'a> {
    server: &'a Server,
    /// When each connection was begun, or should have been, by its key.
    begun_at: Vec<u64>,
    /// How many were begun.
    begun: usize,
    at_once: usize,
    rate: Option<f64>,
    /// How many went their whole way.
    ended: u64,
}

impl Churn<'_> {
    /// Goes on for a while; tells the nanoseconds that each handshake took.
    fn run(&mut self, herd: &mut Herd, span: Duration, mut took: impl FnMut(u64)) {
        let began = herd.now();
        let end = began + span.as_nanos() as u64;
        let mut count = 0;
        loop {
            let now = herd.now();
            if now >= end {
                return;
            }
            let due = self.rate.map(|rate| began + (count as f64 * 1e9 / rate) as u64);
            let is_time = match due {
                Some(due) => due <= now,
                None => herd.connections.len() < self.at_once,
            };
            if is_time {
                count += 1;
                if let Err(error) = self.begin(herd, due.unwrap_or(now)) {
                    herd.errors.refuse(&format!("connect: {error}"));
                }
            }
            let until = if is_time { now } else { due.unwrap_or(end).min(end) };
            let wait = Duration::from_nanos(until.saturating_sub(now));
            self.turn(herd, wait, &mut took);
        }
    }

    fn begin(&mut self, herd: &mut Herd, due: u64) -> io::Result<()> {
        let endpoint = &self.server.endpoint;
        let key = herd.connect(endpoint, source(endpoint, self.begun), self.begun)?;
        self.begun += 1;
        self.begun_at.resize(self.begun_at.len().max(key + 1), 0);
        self.begun_at[key] = due;
        Ok(())
    }

    fn turn(&mut self, herd: &mut Herd, wait: Duration, took: &mut impl FnMut(u64)) {
        let is_bare = self.server.endpoint.speech == Speech::Tcp;
        let Churn { begun_at, ended, .. } = self;
        herd.turn(Some(Instant::now() + wait), |key, told| match told {
            Told::Opened { .. } if is_bare => Act::Send(1),
            Told::Opened { now } | Told::Message { now, .. } => {
                took(now.saturating_sub(begun_at[key]));
                Act::Leave
            }
            Told::Ended => {
                *ended += 1;
                Act::Nothing
            }
            Told::Refused | Told::Ping => Act::Nothing,
        });
    }
}

//! What does the server cost, how long do its clients wait, and do its deadlines act in time?

// Until all modes are here.
#![allow(dead_code)]

#[path = "../common/mod.rs"]
mod common;
mod condition;
mod connection;
mod echo;
mod figure;
mod herd;
mod json;
mod options;
mod progress;
mod reader;
mod record;
mod ring;
mod stats;
mod table;
mod target;
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
    let arguments = std::env::args_os().skip(1);
    match run(arguments) {
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
    if options.is_pinned && !(pin(0) && pin(1)) {
        return Err(io::Error::other("cores 0 and 1 cannot be had: see --no-pin"));
    }
    let targets = Target::all(&options)?;
    let began = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let peers = targets.iter().filter(|target| target.is_peer());
    let mut record = Record {
        machine,
        began,
        command: format!("cargo bench --bench load -- {}", options.command),
        peers: peers.map(|target| target.name.clone()).collect(),
        servers: targets.iter().map(|t| (t.name.clone(), t.description.clone())).collect(),
        runs: Vec::new(),
    };
    let mut progress = Progress::new();
    for mode in Mode::EACH.into_iter().filter(|mode| [*mode, Mode::All].contains(&options.mode)) {
        match mode {
            Mode::Echo => echo::echo(&options, &targets, &mut record, &mut progress),
            Mode::Rate => echo::rate(&options, &targets, &mut record, &mut progress),
            _ => {}
        }
    }
    progress.end();
    print!("{}", table::text(&record));
    if let Some(path) = &options.json {
        fs::write(path, json::text(&record))?;
    }
    Ok(record.failures(&options.conditions))
}

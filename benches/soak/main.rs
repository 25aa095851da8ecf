//! What do abusive clients cost the honest ones, and what do they leave behind?
//!
//! `cargo bench --bench soak` starts the program in a process of its own, so that its memory, its
//! descriptors and its CPU time are its own, and connects to it 500 times a second: a fifth are
//! honest clients, who upgrade, get three messages echoed and close; the rest are abusive, drawn
//! from twelve kinds by a seed (`script.rs`). Fifty honest clients stay all the time and exchange a
//! thousand messages a second. Phases without the abusive ones take turns with phases with them, so
//! that both are measured on the same machine in the same minute.
//!
//! | option | default | meaning |
//! |---|---|---|
//! | `--seconds N` | 60 | about how long |
//! | `--quick` | | 12 seconds |
//! | `--rate N` | 500 | connections a second |
//! | `--seed N` | 1 | of who comes when and does what |
//! | `--only KIND` | all | this abusive kind; repeatable |
//! | `--steady` | | abuse all the time, no comparison: for memory over a long time |
//! | `--html FILE` | | writes a picture |
//! | `--pin` | | server and generator on a core each |
//! | `--set KEY=VALUE` | | a setting of the program; repeatable |
//!
//! Figures to beat, the verdicts at the end: the p99 of honest echoes at most twice that without
//! abuse (the median of the rounds' ratios); memory in use, by the count of its allocator, that
//! grows by less than 1 KiB for 10,000 connections, or by what fills up once; as many descriptors
//! at the end as at the start; every honest message echoed and no honest connection ended; every
//! abusive connection ended by the server in its time; as many ends counted as connections
//! accepted. If one is broken, the exit status is 1.
//!
//! The generator is one thread that polls. It looks after its honest clients first, and again after
//! every few steps of the abusive ones; how long it leaves them alone it measures, too (`blind`):
//! that much of a latency may be its own. Deadlines are short, so that each is reached often.

mod allocator;
mod client;
#[path = "../common/mod.rs"]
mod common;
mod herd;
mod inbound;
mod options;
mod picture;
mod report;
mod run;
mod script;
mod server;
mod tally;

use std::process::ExitCode;

use options::Options;

fn main() -> ExitCode {
    if let Some(status) = server::serve() {
        return status;
    }
    let options = match Options::parse() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let record = run::run(&options);
    report::print(&record);
    println!("{}", picture::text(&record));
    if let Some(path) = &options.html {
        std::fs::write(path, picture::html(&record)).expect("the picture can be written");
        println!("picture: {}", path.display());
    }
    match report::judge(&record, &options) {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

//! A service of your own: options, configuration file, signals, systemd, exit status.
//!
//! [`run`] does everything but decide what is served: that is the caller's, so that another program
//! can serve other routes under the same options. Stdout has only what was asked for; all else goes
//! to stderr.
//!
//! ```no_run
//! use heartwheel::{Event, Heard, Peer, program, topics::After};
//!
//! fn main() -> std::process::ExitCode {
//!     program::run(|builder| {
//!         let echo = |peer: &Peer, event: Event| {
//!             if let Event::Message(message) = event {
//!                 peer.send(message);
//!             }
//!         };
//!         let builder = builder.websocket("/echo", echo).topics("/topics/{topic}");
//!         builder.health().operator().with_handle(|handle| {
//!             let readings = handle.subscribe("readings", After::Now).expect("it is the first");
//!             std::thread::spawn(move || {
//!                 for heard in &readings {
//!                     if let Heard::Event(event) = heard {
//!                         println!("{} {} bytes", event.id, event.payload.len());
//!                     }
//!                 }
//!             });
//!             handle.on_drain(|| println!("telling the registry")).expect("it is the first");
//!         })
//!     })
//! }
//! ```

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;
use std::{env, fs};

use crate::server::Builder;
use crate::system::machine;
#[cfg(feature = "tls")]
use crate::system::tls::Acceptor;
use crate::system::token_file;
#[cfg(feature = "client")]
use crate::threads::dial::Dial;

mod activation;
#[cfg(feature = "client")]
mod asked;
mod at_rest;
mod check;
#[cfg(feature = "client")]
mod client;
mod cusum;
#[cfg(feature = "store")]
mod flash;
mod load;
mod log_queue;
mod notify;
mod options;
#[cfg(feature = "client")]
mod publish;
mod serve;
mod signals;
#[cfg(feature = "client")]
mod subscribe;
mod timestamp;
#[cfg(feature = "tls")]
mod tls_files;
#[cfg(feature = "client")]
mod verdict;
mod watch;

#[doc(hidden)]
pub use options::{CLIENT_COMMANDS, CLIENT_FLAGS, COMMANDS, CommandWord, FLAGS, Flag, STORE_FLAGS};

use check::Judgement;
#[cfg(feature = "store")]
use flash::Flash;
use load::{Loaded, load};
use options::{Command, Options, Usage};
use serve::serve;

/// Runs the program: reads the command line, loads the configuration, runs the command. `routes`
/// adds what is served, to a builder that has the configuration and the listeners that systemd has
/// passed. [`Builder::with_handle`] gives it the server's handle.
///
/// The commands, options and environment are those of the `heartwheel` program
/// ([`configuration`](crate::guide::configuration)), the log lines go to stderr. SIGTERM and SIGINT
/// begin a drain, a second one ends at once; SIGHUP reads the configuration again; under systemd
/// readiness, reload and the watchdog are told ([`operating`](crate::guide::operating)). It returns
/// when the server has ended: what is to be done behind the last connection follows the call.
///
/// It installs a logger, signal handlers and, for `serve`, raises the limit of descriptors: a
/// program calls it once, from `main`. A faulty command line or configuration gives status 2, and
/// a line on stderr for each fault.
pub fn run(routes: impl FnOnce(Builder) -> Builder) -> ExitCode {
    let arguments: Vec<_> = env::args_os().skip(1).collect();
    let options = match Options::parse(arguments) {
        Ok(options) => options,
        Err(error) => return refuse(&[error]),
    };
    match options.command {
        Command::Help => return print(Usage),
        Command::Version => return print(VERSION),
        #[cfg(feature = "client")]
        Command::Subscribe | Command::Publish | Command::Verdict => return client::run(options),
        _ => {}
    }
    let command = options.command;
    #[cfg(feature = "store")]
    let flash = options.flash.clone();
    let load = move || load(&options, env::vars_os(), |path| fs::read_to_string(path));
    let Loaded { config, warnings } = match load() {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults),
    };
    let mut report = config.check();
    if command != Command::PrintConfig {
        match token_file::read(&config) {
            Err(faults) => report.faults.extend(faults),
            // `serve` logs what is doubtful when it reads the files again.
            #[cfg(feature = "jwt")]
            Ok(credentials) if command == Command::Check => {
                report.warnings.extend(token_file::doubts(&config, &credentials));
            }
            Ok(_) => {}
        }
        #[cfg(feature = "client")]
        report.faults.extend(Dial::check_all(&config).err().unwrap_or_default());
        #[cfg(feature = "streams")]
        report.faults.extend(no_folder(&config));
    }
    #[cfg(feature = "tls")]
    if command == Command::Check {
        match Acceptor::load(&config) {
            Ok(acceptor) => {
                // A device whose clock is wrong must be able to serve; `check` tells of such dates.
                report.faults.extend(acceptor.iter().flat_map(|found| found.doubts.clone()));
            }
            Err(faults) => report.faults.extend(faults),
        }
    }
    let warnings = [warnings, report.warnings].concat();
    if command == Command::Check {
        let memory_auto = machine::memory_auto(config.workers);
        let printed = print(Judgement { config: &config, warnings: &warnings, memory_auto });
        #[cfg(feature = "store")]
        report.faults.extend(flash.and_then(|path| measure(&path, &config)));
        return if report.faults.is_empty() { printed } else { refuse(&report.faults) };
    }
    for warning in &warnings {
        complain(format_args!("warning: {warning}"));
    }
    if !report.faults.is_empty() {
        return refuse(&report.faults);
    }
    match command {
        Command::PrintConfig => print(config.to_toml()),
        _ => serve(config, load, routes),
    }
}

/// Prints how long the flash lasts. Returns why it could not be measured.
#[cfg(feature = "store")]
fn measure(path: &std::path::Path, config: &crate::core::config::Config) -> Option<String> {
    match Flash::measure(path, &config.store) {
        Ok(flash) => {
            print(flash);
            None
        }
        Err(error) => Some(format!("--flash {}: {error}", path.display())),
    }
}

/// Returns the fault of a folder that is not there.
#[cfg(feature = "streams")]
fn no_folder(config: &crate::core::config::Config) -> Option<String> {
    let folder = config.serve.files.as_ref().filter(|folder| !folder.is_dir())?;
    Some(format!("serve.files = {}: there is no such folder", folder.display()))
}

const VERSION: &str = concat!("heartwheel ", env!("CARGO_PKG_VERSION"), "\n");

/// The exit status for a faulty command line or configuration.
const REFUSED: u8 = 2;

fn refuse(faults: &[impl Display]) -> ExitCode {
    faults.iter().for_each(complain);
    ExitCode::from(REFUSED)
}

/// Prints what was asked for; a reader that went away is a failure at run time, not a panic.
fn print(text: impl Display) -> ExitCode {
    match write!(io::stdout().lock(), "{text}") {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("stdout: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Writes one line to stderr, with control characters replaced. If that fails there is no place
/// left to report it.
fn complain(message: impl Display) {
    let line = message.to_string().replace(char::is_control, " ");
    let _ = writeln!(io::stderr().lock(), "heartwheel: {line}");
}

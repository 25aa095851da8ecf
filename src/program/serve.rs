//! `heartwheel serve`: the server between its first log line and its exit status.

use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use log::{error, info, warn};
use rustix::process::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::{REFUSED, complain, log_queue};
use crate::config::Config;
use crate::handle::{Handle, SendError};
use crate::server::{Builder, Ended, Error, Server};

/// Serves until SIGTERM or SIGINT.
pub(super) fn serve(config: Config, routes: impl FnOnce(Builder) -> Builder) -> ExitCode {
    log_queue::install(config.log);
    // Deadlines act up to a tick late.
    let drain = config.deadlines.drain + config.tick;
    raise_descriptor_limit();
    let ended = routes(Server::builder().config(config)).build().and_then(|server| {
        watch_signals(server.handle(), drain)?;
        server.run()
    });
    let status = match ended {
        Ok(Ended::Drained) => {
            info!("exit status=0");
            ExitCode::SUCCESS
        }
        Ok(Ended::ShutDown) => {
            warn!("exit status=1: told to end at once");
            ExitCode::FAILURE
        }
        Err(fault @ Error::Config { .. }) => {
            complain(fault);
            ExitCode::from(REFUSED)
        }
        Err(fault) => {
            error!("exit status=1: {fault}");
            ExitCode::FAILURE
        }
    };
    log::logger().flush();
    status
}

/// Each connection is a descriptor: the process may use as many as it is allowed to ask for.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!("the descriptor limit could not be raised: {error}");
        }
    }
}

/// Starts the thread that turns the first signal into a drain, and the second into an end at once.
fn watch_signals(handle: Handle, drain: Duration) -> std::io::Result<()> {
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        let mut signals = signals.forever();
        if let Some(signal) = signals.next() {
            info!("signal={signal}: draining");
            see_to(&handle, Handle::drain, drain + GRACE);
        }
        if let Some(signal) = signals.next() {
            warn!("signal={signal}: ending at once");
            see_to(&handle, Handle::shut_down, SHUTDOWN_GRACE);
        }
    };
    thread::Builder::new().name("heartwheel-signals".into()).spawn(wait)?;
    Ok(())
}

/// Has a thread give the command, and end the process if its loop does not: a handler on the loop
/// thread may never return. Counts steps, not time: a process that is stopped is not late.
fn see_to(handle: &Handle, command: fn(&Handle) -> Result<(), SendError>, span: Duration) {
    let handle = handle.clone();
    let end = move || {
        let mut is_given = false;
        for _ in 0..span.as_millis().div_ceil(STEP.as_millis()) {
            // A server that is busy takes the command a little later.
            is_given = is_given || command(&handle) != Err(SendError::Full);
            thread::park_timeout(STEP);
        }
        error!("exit status=1: the loop did not end in time");
        log::logger().flush();
        std::process::exit(1);
    };
    // Without the thread the process is ended by whoever started it.
    let _ = thread::Builder::new().name("heartwheel-exit".into()).spawn(end);
}

const STEP: Duration = Duration::from_millis(10);
/// What the last turn of a drain may take.
const GRACE: Duration = Duration::from_millis(700);
const SHUTDOWN_GRACE: Duration = Duration::from_millis(250);

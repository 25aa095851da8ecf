//! What signals do: SIGHUP loads the configuration again, SIGUSR1 logs the table of connections,
//! SIGUSR2 sheds a part of them, the first SIGTERM or SIGINT drains, the second ends at once.

use std::io;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2};
use signal_hook::iterator::Signals;

use super::load::Loaded;
use super::notify::Notify;
use crate::system::spawn::spawn;
use crate::threads::handle::{Handle, SendError};

/// What the thread that waits for signals needs.
pub(super) struct Watcher {
    pub handle: Handle,
    pub notify: Notify,
    /// Reads the configuration from all its sources again.
    pub load: Box<Load>,
    /// How long a drain may take, without the last turn.
    pub drain: Duration,
}

/// Reads the configuration.
pub(super) type Load = dyn Fn() -> Result<Loaded, Vec<String>> + Send;

/// Keeps signals for the watcher. To be called before the server listens: a process that sees the
/// server listen may signal it.
pub(super) fn keep() -> io::Result<Signals> {
    Signals::new([SIGTERM, SIGINT, SIGHUP, SIGUSR1, SIGUSR2])
}

impl Watcher {
    /// Starts the thread.
    pub fn start(mut self, mut signals: Signals) -> io::Result<()> {
        let wait = move || {
            let mut is_draining = false;
            let mut table: Option<JoinHandle<()>> = None;
            for signal in signals.forever() {
                match signal {
                    SIGHUP => self.reload(),
                    SIGUSR1 if table.as_ref().is_none_or(JoinHandle::is_finished) => {
                        table = log_table(&self.handle);
                    }
                    SIGUSR1 => {}
                    SIGUSR2 => self.shed(),
                    _ if std::mem::replace(&mut is_draining, true) => self.end(signal),
                    _ => self.begin_drain(signal),
                }
            }
        };
        spawn("heartwheel-signals".into(), None, Box::new(wait))?;
        Ok(())
    }

    /// A configuration with a fault changes nothing: the old one stays.
    fn reload(&mut self) {
        self.notify.reloading();
        let reloaded = (self.load)().and_then(|Loaded { config, warnings }| {
            for warning in [warnings, config.check().warnings].concat() {
                warn!("{warning}");
            }
            let (drain, level) = (config.deadlines.drain + config.tick, config.log);
            self.handle.reload(config)?;
            self.drain = drain;
            log::set_max_level(level);
            Ok(())
        });
        if let Err(faults) = reloaded {
            faults.iter().for_each(|fault| error!("reload refused: {fault}"));
            error!("reload refused faults={}: the configuration stays as it was", faults.len());
        }
        self.notify.ready();
    }

    fn shed(&self) {
        info!("signal={SIGUSR2}: shedding");
        if let Err(error) = self.handle.shed(SHED_PART) {
            error!("nobody was shed: {error}");
        }
    }

    fn begin_drain(&self, signal: i32) {
        info!("signal={signal}: draining");
        self.notify.stopping();
        see_to(&self.handle, Handle::drain, self.drain + GRACE);
    }

    fn end(&self, signal: i32) {
        warn!("signal={signal}: ending at once");
        see_to(&self.handle, Handle::shut_down, SHUTDOWN_GRACE);
    }
}

/// Logs a line for each connection, from a thread of its own: other signals do not wait for the
/// reader of the log.
fn log_table(handle: &Handle) -> Option<JoinHandle<()>> {
    let handle = handle.clone();
    let write = move || {
        let mut count = 0;
        let is_whole = handle.connections(TABLE_WAIT, |slice| {
            for line in slice.lines().filter(|line| line.starts_with('{')) {
                info!("connection row={}", line.trim_end_matches(','));
                count += 1;
            }
            // At the pace of the log's writer, so that no line is dropped.
            log::logger().flush();
        });
        info!("connections logged={count} whole={is_whole}");
    };
    spawn("heartwheel-table".into(), None, Box::new(write)).ok()
}

/// Gives the command from a thread, which ends the process if the loop does not end: a handler on
/// the loop thread may never return. It counts steps, not time: a stopped process is not late.
fn see_to(handle: &Handle, command: fn(&Handle) -> Result<(), SendError>, span: Duration) {
    let given = handle.clone();
    let end = move || {
        let mut is_given = false;
        for _ in 0..(span.as_millis() as u64).div_ceil(STEP.as_millis() as u64) {
            // A server that is busy takes the command a little later.
            is_given = is_given || command(&given) != Err(SendError::Full);
            thread::park_timeout(STEP);
        }
        error!("exit status=1: the loop did not end in time");
        log::logger().flush();
        std::process::exit(1);
    };
    if spawn("heartwheel-exit".into(), None, Box::new(end)).is_err() {
        // Memory is too short for another thread: the command is given all the same, and the next
        // signal is handled.
        while command(handle) == Err(SendError::Full) {
            thread::park_timeout(STEP);
        }
    }
}

/// The fraction of connections that SIGUSR2 sheds.
const SHED_PART: f64 = 0.3;
/// How long to wait for a slice of the table.
const TABLE_WAIT: Duration = Duration::from_secs(5);
const STEP: Duration = Duration::from_millis(10);
/// How long the last turn of a drain may take.
const GRACE: Duration = Duration::from_millis(700);
const SHUTDOWN_GRACE: Duration = Duration::from_millis(250);

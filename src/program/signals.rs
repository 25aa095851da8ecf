//! What signals do: SIGHUP loads the configuration again, the first SIGTERM or SIGINT drains, the
//! second ends at once.

use std::io;
use std::thread;
use std::time::Duration;

use log::{error, info, warn};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use super::load::Loaded;
use super::notify::Notify;
use crate::handle::{Handle, SendError};

/// What the thread that waits for signals needs.
pub(super) struct Watcher {
    pub handle: Handle,
    pub notify: Notify,
    /// Reads the configuration from all its sources again.
    pub load: Box<dyn Fn() -> Result<Loaded, Vec<String>> + Send>,
    /// How long a drain may take, the last turn left out.
    pub drain: Duration,
}

impl Watcher {
    /// Starts the thread.
    pub fn start(mut self) -> io::Result<()> {
        let mut signals = Signals::new([SIGTERM, SIGINT, SIGHUP])?;
        let wait = move || {
            let mut is_draining = false;
            for signal in signals.forever() {
                match signal {
                    SIGHUP => self.reload(),
                    _ if std::mem::replace(&mut is_draining, true) => self.end(signal),
                    _ => self.begin_drain(signal),
                }
            }
        };
        thread::Builder::new().name("heartwheel-signals".into()).spawn(wait)?;
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

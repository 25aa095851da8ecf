//! What the service manager is told, by the protocol of sd_notify(3): datagrams to the socket that
//! `NOTIFY_SOCKET` names. Without that variable nothing is sent.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use log::{error, info, warn};
use rustix::time::{ClockId, clock_gettime};

use crate::core::observe::stats::Vitals;
use crate::system::spawn::spawn;
use crate::threads::handle::Handle;

/// The connection to the service manager.
#[derive(Clone, Default)]
pub(super) struct Notify {
    socket: Option<Arc<UnixDatagram>>,
}

impl Notify {
    /// Connects to the socket that the environment names, if it names one.
    pub fn from_environment() -> Notify {
        let Some(name) = env::var_os("NOTIFY_SOCKET") else { return Notify::default() };
        match connect(&name) {
            Ok(socket) => Notify { socket: Some(Arc::new(socket)) },
            Err(error) => {
                warn!("NOTIFY_SOCKET = {}: {error}", name.to_string_lossy());
                Notify::default()
            }
        }
    }

    /// Tells that the listeners are bound, or that a reload has ended.
    pub fn ready(&self) {
        self.send("READY=1\nSTATUS=serving");
    }

    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let now_us = now.tv_sec * 1_000_000 + i64::from(now.tv_nsec as i32) / 1000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={now_us}\nSTATUS=reloading"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=draining");
    }

    /// Starts the thread that feeds the manager's watchdog, if there is one: twice in its span, and
    /// only while the server makes real progress.
    pub fn feed_watchdog(&self, handle: Handle, workers: usize) -> io::Result<()> {
        let Some(span) = watchdog().filter(|_| self.socket.is_some()) else { return Ok(()) };
        info!("watchdog span_ms={}", span.as_millis() as u64);
        let notify = self.clone();
        let feed = move || {
            let every = span / 2;
            loop {
                match handle.vitals(every) {
                    Some(vitals) if is_well(&vitals, workers, every) => {
                        notify.send(&format!(
                            "WATCHDOG=1\nSTATUS={} connections={} jobs={}",
                            if vitals.is_draining { "draining" } else { "serving" },
                            vitals.connections,
                            vitals.jobs
                        ));
                    }
                    Some(vitals) => error!(
                        "watchdog not fed handlers_stuck={} wheel_late_ms={}",
                        vitals.stats.handlers_stuck,
                        vitals.wheel_late.as_millis() as u64
                    ),
                    None => error!("watchdog not fed: the loop does not turn"),
                }
                thread::sleep(every);
            }
        };
        spawn("heartwheel-notify".into(), None, Box::new(feed))?;
        Ok(())
    }

    fn send(&self, state: &str) {
        let Some(socket) = &self.socket else { return };
        // If the manager does not listen, nothing else can be told.
        let _ = socket.send(state.as_bytes());
    }
}

/// The loop has turned, or it would not have answered. Also, deadlines must act, and at least one
/// worker must be able to take a job.
fn is_well(vitals: &Vitals, workers: usize, late_max: Duration) -> bool {
    let stuck = usize::try_from(vitals.stats.handlers_stuck).unwrap_or(usize::MAX);
    vitals.wheel_late < late_max && (workers == 0 || stuck < workers)
}

/// Returns the span within which the manager expects a sign of life; `None` without a watchdog.
fn watchdog() -> Option<Duration> {
    let number = |name| env::var(name).ok()?.parse::<u64>().ok();
    let is_meant = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(process::id()));
    number("WATCHDOG_USEC").filter(|us| is_meant && *us > 0).map(Duration::from_micros)
}

/// A name that begins with `@` is no file but an abstract address of the kernel (unix(7)).
fn connect(name: &OsStr) -> io::Result<UnixDatagram> {
    let address = match name.as_bytes() {
        [b'@', rest @ ..] => SocketAddr::from_abstract_name(rest)?,
        path => SocketAddr::from_pathname(OsString::from(OsStr::from_bytes(path)))?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    socket.connect_addr(&address)?;
    Ok(socket)
}

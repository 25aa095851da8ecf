//! Early warning: a thread that watches a few rates, and warns when one of them has shifted for no
//! reason that the server knows. It runs only if `watch.interval` is set.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{info, warn};

use super::cusum::{Cusum, Shift, ShiftRules};
use crate::core::config::Watch;
use crate::core::ground::decimal::tenths;
use crate::core::ground::reason::CloseReason;
use crate::core::observe::stats::Vitals;
use crate::system::process::Gauges;
use crate::system::spawn::spawn;
use crate::threads::handle::Handle;

/// Starts the thread, if `watch.interval` is set.
pub(super) fn start(watch: Watch, handle: Handle) -> io::Result<()> {
    let Some(interval) = watch.interval else { return Ok(()) };
    let mut signals = SIGNALS.map(|signal| Watched::new(signal, &watch));
    let look = move || {
        loop {
            thread::sleep(interval);
            // A loop that does not turn is the watchdog's concern.
            let Some(vitals) = handle.vitals(interval) else { continue };
            let alarms: Vec<_> = signals.iter_mut().filter_map(|s| s.look(&vitals)).collect();
            for alarm in &alarms {
                warn!("{alarm}");
            }
            if !alarms.is_empty() {
                // The alarm is not counted if the loop has no room for it: the log line is there.
                let _ = handle.count_alarms(alarms.len() as u64);
            }
            if let Some((alarm, dir)) = alarms.first().zip(watch.dir.as_deref()) {
                match write_snapshot(dir, alarm, &vitals, &handle, watch.snapshots) {
                    Ok(path) => info!("watch snapshot file={}", path.display()),
                    Err(error) => warn!("watch snapshot dir={}: {error}", dir.display()),
                }
            }
        }
    };
    spawn("heartwheel-watch".into(), None, Box::new(look))?;
    Ok(())
}

/// A figure whose growth is watched.
#[derive(Clone, Copy)]
struct Signal {
    name: &'static str,
    read: fn(&Vitals) -> u64,
    /// A smaller deviation counts as this.
    deviation_min: f64,
    /// A fall is an alarm, too.
    falls: bool,
}

const SIGNALS: [Signal; 4] = [
    Signal { name: "opens", read: |v| v.stats.accepted, deviation_min: 2.0, falls: true },
    Signal { name: "deadline_ends", read: deadline_ends, deviation_min: 1.0, falls: false },
    Signal { name: "memory_bytes", read: |_| kernel().0, deviation_min: 65_536.0, falls: false },
    Signal { name: "descriptors", read: |_| kernel().1, deviation_min: 1.0, falls: false },
];

/// A signal, and the usual level learned of it.
struct Watched {
    signal: Signal,
    cusum: Cusum,
    last: Option<u64>,
}

/// A signal has shifted.
struct Alarm {
    name: &'static str,
    growth: f64,
    shift: Shift,
}

impl std::fmt::Display for Alarm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Alarm { name, growth, shift } = self;
        let direction = if shift.is_up { "up" } else { "down" };
        write!(
            f,
            "watch alarm signal={name} direction={direction} each_interval={} \
             usual={} deviation={}",
            tenths(*growth),
            tenths(shift.mean),
            tenths(shift.deviation)
        )
    }
}

impl Watched {
    fn new(signal: Signal, watch: &Watch) -> Watched {
        let rules = ShiftRules {
            drift: watch.drift,
            threshold: watch.threshold.into(),
            deviation_min: signal.deviation_min,
        };
        Watched { signal, cusum: Cusum::new(rules), last: None }
    }

    fn look(&mut self, vitals: &Vitals) -> Option<Alarm> {
        let now = (self.signal.read)(vitals);
        let last = self.last.replace(now)?;
        let growth = now as f64 - last as f64;
        let shift = self.cusum.add(growth)?;
        let is_alarm = shift.is_up || self.signal.falls;
        is_alarm.then_some(Alarm { name: self.signal.name, growth, shift })
    }
}

/// Ends by a deadline, planned ends left out.
fn deadline_ends(vitals: &Vitals) -> u64 {
    use CloseReason::{
        Body, CloseAck, CloseSend, Handshake, Heartbeat, Message, ReadIdle, WriteStall,
    };
    [Handshake, Body, ReadIdle, Heartbeat, Message, WriteStall, CloseSend, CloseAck]
        .into_iter()
        .map(|reason| vitals.stats.closed_by(reason))
        .sum()
}

/// Returns the memory in use, in bytes, and the number of descriptors.
fn kernel() -> (u64, u64) {
    let figures = Gauges::new().read();
    (figures.resident_bytes.unwrap_or(0), figures.open_descriptors.unwrap_or(0))
}

/// Writes a file that helps to find the cause: the alarm, the counters, the connections. Of all
/// snapshots in `dir` the newest `kept` stay.
fn write_snapshot(
    dir: &Path,
    alarm: &Alarm,
    vitals: &Vitals,
    handle: &Handle,
    kept: usize,
) -> io::Result<PathBuf> {
    fs::create_dir_all(dir)?;
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let path = dir.join(format!("{PREFIX}{:013}-{}.txt", unix.as_millis() as u64, alarm.name));
    let mut file = io::BufWriter::new(fs::File::create(&path)?);
    writeln!(file, "{alarm}\n\n{:#?}\n\nconnections", vitals.stats)?;
    let mut written = Ok(());
    let is_whole = handle.connections(TABLE_WAIT, |slice| {
        if written.is_ok() {
            written = file.write_all(slice.as_bytes());
        }
    });
    written?;
    writeln!(file, "whole={is_whole}")?;
    file.flush()?;
    remove_old(dir, kept)?;
    Ok(path)
}

/// The names begin with the time, so the oldest come first.
fn remove_old(dir: &Path, kept: usize) -> io::Result<()> {
    let found = fs::read_dir(dir)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = Vec::new();
    for name in found.filter(|name| name.starts_with(PREFIX)) {
        names.insert(names.partition_point(|other| *other < name), name);
    }
    let old = names.len().saturating_sub(kept);
    names[..old].iter().try_for_each(|name| fs::remove_file(dir.join(name)))
}

const PREFIX: &str = "heartwheel-alarm-";
/// How long to wait for a slice of the table.
const TABLE_WAIT: Duration = Duration::from_secs(5);

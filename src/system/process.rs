//! What the process costs as a whole, as the kernel reports it: the figures that Prometheus names
//! `process_*`.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::core::observe::figures::Process;

/// Reads the figures.
#[derive(Debug)]
pub(crate) struct Gauges {
    /// Computed once: computed again from clocks it would change a little, as if the process had
    /// been started again.
    started_at: Option<Duration>,
}

impl Gauges {
    pub fn new() -> Gauges {
        Gauges { started_at: started_at() }
    }

    /// Takes a few system calls, whatever the number of descriptors. A figure that this kernel does
    /// not report is `None`.
    pub fn read(&self) -> Process {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        Process {
            cpu: span(ClockId::ProcessCPUTime),
            open_descriptors: open_descriptors(),
            descriptors_max: getrlimit(Resource::Nofile).current,
            virtual_bytes: kilobytes(&status, "VmSize:").map(|kb| kb * 1024),
            resident_bytes: kilobytes(&status, "VmRSS:").map(|kb| kb * 1024),
            started_at: self.started_at,
        }
    }
}

/// Since 6.2 Linux reports the number as the size of the directory. Before, it is counted: a
/// microsecond or so for each.
fn open_descriptors() -> Option<u64> {
    let directory = "/proc/self/fd";
    match fs::metadata(directory).ok()?.len() {
        // The descriptor that reads the directory is open only meanwhile.
        0 => Some((fs::read_dir(directory).ok()?.count() as u64).saturating_sub(1)),
        count => Some(count),
    }
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The span since 1970, from the start in ticks since the machine was booted.
fn started_at() -> Option<Duration> {
    let stat = fs::read_to_string("/proc/self/stat").ok()?;
    // Behind the name, which may hold any character; the start is field 22.
    let (_, fields) = stat.rsplit_once(')')?;
    let ticks: u64 = fields.split_whitespace().nth(19)?.parse().ok()?;
    let age = span(ClockId::Boottime).saturating_sub(Duration::from_millis(ticks * TICK_MS));
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let started_at = unix.saturating_sub(age) + Duration::from_millis(TICK_MS / 2);
    Some(Duration::from_millis(started_at.as_millis() as u64 / TICK_MS * TICK_MS))
}

fn span(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.clamp(0, 999_999_999) as u32)
}

/// Linux reports times in hundredths on every machine that Rust is built for.
const TICK_MS: u64 = 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_tells_all_of_them() {
        let gauges = Gauges::new();
        let before = gauges.read();
        let file = fs::File::open("/proc/self/stat").expect("it is there");
        let after = gauges.read();
        drop(file);
        assert!(!after.cpu.is_zero() && after.cpu >= before.cpu);
        assert!(after.open_descriptors >= Some(4), "{after:?}");
        assert!(after.descriptors_max >= after.open_descriptors);
        assert!(after.resident_bytes > Some(100_000) && after.virtual_bytes > after.resident_bytes);
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later");
        let age = (unix + Duration::from_millis(100)).checked_sub(after.started_at.unwrap());
        assert!(age.is_some_and(|age| age.as_secs() < 600), "{age:?} old");
    }
}

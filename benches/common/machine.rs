//! The machine that a benchmark runs on, and this process's place on it.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What a reader must know of the machine before it believes a figure.
pub struct Machine {
    pub cpu: String,
    pub cores: usize,
    pub memory_mib: u64,
    pub kernel: String,
    /// Processes that wanted to run in the last minute, on average, before anything was measured.
    pub load_average: String,
    pub descriptors_max: u64,
}

impl Machine {
    pub fn read() -> Machine {
        let cpu_info = text("/proc/cpuinfo");
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or("unknown", |(_, value)| value.trim()).to_owned()
        };
        let memory = field(&text("/proc/meminfo"), "MemTotal");
        let kilobytes = memory.split(' ').next().and_then(|number| number.parse::<u64>().ok());
        Machine {
            cpu: field(&cpu_info, "model name"),
            cores: CoreTime::cores(),
            memory_mib: kilobytes.unwrap_or(0) / 1024,
            kernel: text("/proc/sys/kernel/osrelease").trim().to_owned(),
            load_average: text("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned(),
            descriptors_max: raise_descriptor_limit(),
        }
    }
}

/// Time of all cores, in hundredths of a second, since the machine was started.
#[derive(Clone, Copy, Default)]
pub struct CoreTime {
    /// Not idle, whatever for.
    pub busy: u64,
    /// Given to somebody else by the hypervisor.
    pub stolen: u64,
}

impl CoreTime {
    /// Gives how many cores there are, wherever the calling thread may run.
    pub fn cores() -> usize {
        let is_core = |line: &&str| {
            line.strip_prefix("cpu").is_some_and(|rest| rest.starts_with(|c: char| c.is_numeric()))
        };
        text("/proc/stat").lines().filter(is_core).count().max(1)
    }

    /// Reads the time of all cores together.
    pub fn read() -> CoreTime {
        let stat = text("/proc/stat");
        let line = stat.lines().find_map(|line| line.strip_prefix("cpu "));
        let fields = line.unwrap_or_default().split_whitespace();
        let fields: Vec<u64> = fields.map_while(|field| field.parse().ok()).collect();
        // user nice system idle iowait irq softirq steal; guests are in user already.
        match fields[..] {
            [user, nice, system, _, _, irq, softirq, stolen, ..] => {
                CoreTime { busy: user + nice + system + irq + softirq + stolen, stolen }
            }
            _ => CoreTime::default(),
        }
    }
}

/// The calling thread, and what it starts, stay on one core. Says whether that core can be had.
pub fn pin(core: usize) -> bool {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).is_ok()
}

/// The calling thread, and what it starts, may run on all cores again.
pub fn unpin() {
    let mut cores = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|core| cores.set(core));
    // The kernel leaves out those that there are not.
    let _ = sched_setaffinity(None, &cores);
}

/// Raises the soft limit of descriptors to the hard one, and gives what holds then.
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    // If it cannot be raised there are fewer connections.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

fn text(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

//! What /proc says of a process and its threads, and what this process may have.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Lets this process have as many descriptors as the system lets it, and 20,000 at the most: a
/// thousand connections with both ends here take more than the 1024 of most shells.
pub fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = limit.maximum.map_or(20_000, |most| most.min(20_000));
    if limit.current.is_some_and(|current| current < most) {
        let raised = Rlimit { current: Some(most), ..limit };
        setrlimit(Resource::Nofile, raised).expect("it is below the hard limit");
    }
}

/// Gives the calling thread's number.
pub fn own_tid() -> u32 {
    let link = fs::read_link("/proc/thread-self").unwrap();
    link.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

/// Gives the names of a process's threads.
pub fn threads(pid: u32) -> Vec<String> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let name = |task: fs::DirEntry| fs::read_to_string(task.path().join("comm")).ok();
    tasks.flatten().filter_map(name).map(|name| name.trim().to_owned()).collect()
}

/// Gives how often each thread of a process has gone to sleep by itself, by its name.
pub fn voluntary_switches(pid: u32) -> Vec<(String, u64)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let read = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).ok()?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name))?;
            Some(line.split_once(':')?.1.trim().to_owned())
        };
        Some((field("Name")?, field("voluntary_ctxt_switches")?.parse().ok()?))
    };
    tasks.flatten().filter_map(read).collect()
}

/// Gives how many system calls that write a thread of this process has made (sending to sockets
/// left out).
pub fn writes_of(tid: u32) -> u64 {
    let io = fs::read_to_string(format!("/proc/self/task/{tid}/io")).unwrap();
    let line = io.lines().find_map(|line| line.strip_prefix("syscw: ")).unwrap();
    line.parse().unwrap()
}

/// Gives the CPU time that a thread of this process has used.
pub fn cpu_of(tid: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/self/task/{tid}/schedstat")).unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

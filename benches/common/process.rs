//! What /proc says of another process.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// A process by its number.
#[derive(Clone, Copy, Debug)]
pub struct Process(pub u32);

/// What all threads of a process have used so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    pub cpu: Duration,
    /// How often a thread waited for something.
    pub voluntary: u64,
    /// How often a thread had to make room for another.
    pub involuntary: u64,
}

/// Memory in use, in KiB, counted by page.
#[derive(Clone, Copy, Debug, Default)]
pub struct Memory {
    pub rss_kib: u64,
    /// That part of it that is no file's.
    pub anonymous_kib: u64,
}

impl Process {
    /// Finds the process on this machine that listens on an address.
    ///
    /// `None` if there is none, or if it is not ours to look into.
    pub fn listening_on(address: SocketAddr) -> Option<Process> {
        let socket = format!("socket:[{}]", listening_inode(address)?);
        let numbers = fs::read_dir("/proc").ok()?.flatten();
        let mut numbers: Vec<u32> =
            numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
        // A parent comes before the children that share its socket.
        numbers.sort_unstable();
        let holds = |number: &u32| {
            let Ok(entries) = fs::read_dir(format!("/proc/{number}/fd")) else { return false };
            let links = entries.flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
            links.into_iter().any(|link| link.as_os_str() == socket.as_str())
        };
        numbers.into_iter().find(holds).map(Process)
    }

    /// Gives what its threads have used. The nanoseconds are the scheduler's; a thread that runs
    /// just now has used up to a tick of the kernel more than it says.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn usage(self) -> io::Result<Usage> {
        let mut usage = Usage::default();
        let mut has_schedstat = true;
        for task in self.tasks()? {
            // A thread may end at any time.
            let Ok(status) = fs::read_to_string(task.join("status")) else { continue };
            let count = |name| field(&status, name).unwrap_or(0);
            usage.voluntary += count("voluntary_ctxt_switches:");
            usage.involuntary += count("nonvoluntary_ctxt_switches:");
            match ran(&task) {
                Some(ran) => usage.cpu += ran,
                None => has_schedstat = false,
            }
        }
        if !has_schedstat {
            usage.cpu = self.cpu_in_ticks()?;
        }
        Ok(usage)
    }

    /// Gives the CPU time of each thread so far, by its name.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn cpu_by_thread(self) -> io::Result<BTreeMap<String, Duration>> {
        let mut cpu = BTreeMap::new();
        for task in self.tasks()? {
            let name = fs::read_to_string(task.join("comm"));
            if let (Ok(name), Some(ran)) = (name, ran(&task)) {
                *cpu.entry(name.trim().to_owned()).or_default() += ran;
            }
        }
        Ok(cpu)
    }

    /// Gives its memory.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn memory(self) -> io::Result<Memory> {
        let rollup = self.file("smaps_rollup")?;
        let kilobytes = |name| field(&rollup, name).ok_or(ErrorKind::InvalidData);
        Ok(Memory { rss_kib: kilobytes("Rss:")?, anonymous_kib: kilobytes("Anonymous:")? })
    }

    /// Gives the memory in use, in KiB, as the kernel keeps count: cheap, and a few pages off.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn memory_roughly(self) -> io::Result<u64> {
        let statm = self.file("statm")?;
        let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
        Ok(pages.ok_or(ErrorKind::InvalidData)? * 4)
    }

    /// Gives the number of its open descriptors.
    ///
    /// # Errors
    ///
    /// If the process has ended.
    pub fn descriptors(self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.0))?.count())
    }

    /// Where the kernel keeps no nanoseconds: user and system time, in hundredths of a second.
    fn cpu_in_ticks(self) -> io::Result<Duration> {
        let stat = self.file("stat")?;
        // Behind the name, which may hold blanks, they are fields 14 and 15.
        let (_, fields) = stat.rsplit_once(')').ok_or(ErrorKind::InvalidData)?;
        let ticks = fields.split_whitespace().skip(11).take(2);
        let ticks: u64 = ticks.filter_map(|ticks| ticks.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * 10))
    }

    fn tasks(self) -> io::Result<Vec<PathBuf>> {
        let entries = fs::read_dir(format!("/proc/{}/task", self.0))?;
        Ok(entries.flatten().map(|entry| entry.path()).collect())
    }

    fn file(self, name: &str) -> io::Result<String> {
        fs::read_to_string(format!("/proc/{}/{name}", self.0))
    }
}

impl Usage {
    /// Gives what was used since an earlier reading.
    pub fn since(self, before: Usage) -> Usage {
        Usage {
            cpu: self.cpu.saturating_sub(before.cpu),
            voluntary: self.voluntary.saturating_sub(before.voluntary),
            involuntary: self.involuntary.saturating_sub(before.involuntary),
        }
    }
}

/// Gives for how long a thread has run.
fn ran(task: &std::path::Path) -> Option<Duration> {
    let stat = fs::read_to_string(task.join("schedstat")).ok()?;
    stat.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// Gives the number behind a name at the start of a line.
fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Gives the inode of the socket that listens on an address.
fn listening_inode(address: SocketAddr) -> Option<String> {
    let name = if address.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
    let port = format!(":{:04X}", address.port());
    fs::read_to_string(name).ok()?.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let is_it = fields.get(1)?.ends_with(&port) && *fields.get(3)? == LISTEN;
        is_it.then(|| fields.get(9).map(|inode| (*inode).to_owned()))?
    })
}

/// A state in /proc/net/tcp.
const LISTEN: &str = "0A";

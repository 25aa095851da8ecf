//! The program in a process of its own: for what is counted per process, descriptors and memory.

// Each test takes what it needs.
#![allow(dead_code)]

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::client::Client;

/// A running program. It is killed with the value.
pub struct Program {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    /// Starts the program on a port of its own with these keys set.
    pub fn start(settings: &[(&str, &str)]) -> Program {
        Program::start_in(&[], settings)
    }

    /// Starts the program in an environment of these variables and no others.
    pub fn start_in(environment: &[(&str, &Path)], settings: &[(&str, &str)]) -> Program {
        let command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        Program::start_as(command, environment, settings)
    }

    /// Starts a command that runs the program with the arguments behind its own.
    pub fn start_as(
        mut command: Command,
        environment: &[(&str, &Path)],
        settings: &[(&str, &str)],
    ) -> Program {
        command.env_clear().envs(environment.iter().copied());
        command.args(["serve", "--listen", "127.0.0.1:0"]);
        for (name, text) in
            [("admin_listen", "off"), ("tick", "10ms"), ("heartbeat.interval", "off")]
                .iter()
                .chain(settings)
        {
            command.args(["--set", &format!("{name}={text}")]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let mut before = Vec::new();
        let address = loop {
            let Some(Ok(line)) = lines.next() else {
                let _ = child.kill();
                panic!("it never told its address: {before:?}");
            };
            match line.split_once("listening address=") {
                Some((_, address)) => break address.parse().expect("it is TCP"),
                None => before.push(line),
            }
        };
        let log = Arc::new(Mutex::new(before));
        thread::spawn({
            let log = log.clone();
            move || {
                for line in lines.map_while(Result::ok) {
                    log.lock().expect("nobody panics with it").push(line);
                }
            }
        });
        Program { child, address, log }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Gives the number of the process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Gives how many log lines bear this text.
    pub fn logged(&self, text: &str) -> usize {
        self.lines_with(text).len()
    }

    /// Waits until a log line bears this text, for five seconds at the most.
    #[track_caller]
    pub fn wait_logged(&self, text: &str) {
        self.wait_logged_times(text, 1);
    }

    /// Waits until this many log lines bear this text, for five seconds at the most.
    #[track_caller]
    pub fn wait_logged_times(&self, text: &str, count: usize) {
        wait_for(|| self.logged(text) >= count, || format!("{text}: {:#?}", self.log.lock()));
    }

    /// Says how the program has ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    /// Gives the log lines that bear this text.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        let log = self.log.lock().expect("nobody panics with it");
        log.iter().filter(|line| line.contains(text)).cloned().collect()
    }

    /// Gives the number of open descriptors.
    pub fn descriptors(&self) -> usize {
        self.descriptor_numbers().len()
    }

    /// Serves one request, and gives the number of descriptors open without it: all that a start
    /// opens is open then.
    pub fn descriptors_at_rest(&self) -> usize {
        let mut client = Client::connect(self.address);
        assert_eq!(client.get("/").status, 200);
        let count = self.descriptors() - 1;
        drop(client);
        self.wait_descriptors(count);
        count
    }

    /// Waits until this many descriptors are open, for five seconds at the most.
    #[track_caller]
    pub fn wait_descriptors(&self, count: usize) {
        wait_for(|| self.descriptors() == count, || format!("{} of {count}", self.descriptors()));
    }

    /// Gives the memory in use, in bytes, pages of the program's file left out: the more of its
    /// code has run, the more of them there are. The kernel counts page by page for this; what
    /// `statm` says may be off by some hundred kilobytes.
    pub fn memory(&self) -> u64 {
        bytes_behind(&self.proc_file("smaps_rollup"), "Anonymous:")
    }

    /// Gives the memory in use, in bytes, pages of the program's file included. Its peak is
    /// `resident_peak`.
    pub fn resident(&self) -> u64 {
        bytes_behind(&self.proc_file("smaps_rollup"), "Rss:")
    }

    /// Gives the most that was ever resident, in bytes, pages of the program's file included.
    pub fn resident_peak(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    /// Gives the largest that the address space ever was, in bytes.
    pub fn address_space_peak(&self) -> u64 {
        self.status_bytes("VmPeak:")
    }

    /// Lets the address space grow by this many bytes and no more.
    pub fn leave_address_space(&self, bytes: u64) {
        let limit = Rlimit {
            current: Some(self.status_bytes("VmSize:") + bytes),
            maximum: getrlimit(Resource::As).maximum,
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::As, limit).expect("it is ours");
    }

    fn status_bytes(&self, name: &str) -> u64 {
        bytes_behind(&self.proc_file("status"), name)
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// Waits until the program ends, for five seconds at the most.
    #[track_caller]
    pub fn wait_exit(&mut self) -> ExitStatus {
        let patience = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(status) = self.exit_status() {
                return status;
            }
            assert!(Instant::now() < patience, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Gives the CPU time used, by all threads.
    pub fn cpu(&self) -> Duration {
        let stat = self.proc_file("stat");
        // Behind the name, which may hold blanks; user and system time are fields 14 and 15, in
        // hundredths.
        let (_, fields) = stat.rsplit_once(')').expect("the name is in brackets");
        let ticks = fields.split_whitespace().skip(11).take(2);
        Duration::from_millis(ticks.map(|n| n.parse::<u64>().expect("a number") * 10).sum())
    }

    /// Lowers, or raises, the descriptor limit so that the program may open this many more.
    pub fn leave_descriptors(&self, count: usize) {
        // The limit is on the numbers, which are given out lowest first.
        let open = self.descriptor_numbers();
        let last = (0..).filter(|number| !open.contains(number)).nth(count - 1);
        let limit = Rlimit {
            current: last.map(|number| number + 1),
            maximum: getrlimit(Resource::Nofile).maximum,
        };
        prlimit(Some(Pid::from_child(&self.child)), Resource::Nofile, limit).expect("it is ours");
    }

    fn descriptor_numbers(&self) -> Vec<u64> {
        let entries =
            fs::read_dir(format!("/proc/{}/fd", self.child.id())).expect("the program runs");
        let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
        numbers.collect()
    }

    fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("the program runs")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[track_caller]
fn wait_for(is_so: impl Fn() -> bool, what: impl Fn() -> String) {
    let patience = Instant::now() + Duration::from_secs(5);
    while !is_so() {
        assert!(Instant::now() < patience, "it never came so: {}", what());
        thread::sleep(Duration::from_millis(5));
    }
}

/// Finds a line that begins so, in what the kernel says in kilobytes, and gives it in bytes.
fn bytes_behind(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.and_then(|number| number.parse::<u64>().ok()).expect("Linux says so") * 1024
}

//! The program in a process of its own: for what is counted per process, descriptors and memory.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, prlimit};

use super::client::Client;
use super::server::own_address;
use super::timing::{PATIENCE, comes_within, lock, ms};

/// A running program, or the lab, which has misbehaving handlers besides. It is killed with the
/// value.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// Of the operator's listener, if there is one.
    admin: Option<SocketAddr>,
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
        add_settings(&mut command, &[("admin_listen", "off")]);
        add_settings(&mut command, &[QUIET, settings].concat());
        Program::spawn(command, 1)
    }

    /// Starts the program on a port of its own with these keys set, and all others as users have
    /// them.
    pub fn start_plain(settings: &[(&str, &str)]) -> Program {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        command.env_clear().args(["serve", "--listen", "127.0.0.1:0"]);
        add_settings(&mut command, settings);
        Program::spawn(command, 1)
    }

    /// Starts the lab with these keys set, an operator's listener, and a log of everything.
    pub fn lab(settings: &[(&str, &str)]) -> Program {
        Program::lab_with(settings, |_| {})
    }

    /// Starts the lab with more arguments, or an environment.
    pub fn lab_with(settings: &[(&str, &str)], set_up: impl FnOnce(&mut Command)) -> Program {
        let listen = own_address();
        let mut command = Command::new(lab_path());
        command.env_clear().env("HEARTWHEEL_LOG", "debug");
        command.stdin(Stdio::null()).stdout(Stdio::null());
        add_settings(&mut command, &[("listen", &listen), ("admin_listen", "127.0.0.1:0")]);
        add_settings(&mut command, &[QUIET, settings].concat());
        set_up(&mut command);
        Program::spawn(command, 2)
    }

    /// Waits until it has told the addresses of so many listeners.
    fn spawn(mut command: Command, listeners: usize) -> Program {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
        let lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let log = Arc::new(Mutex::new(Vec::new()));
        thread::spawn({
            let log = log.clone();
            move || lines.map_while(Result::ok).for_each(|line| lock(&log).push(line))
        });
        let mut program = Program { child, address: ([127, 0, 0, 1], 0).into(), admin: None, log };
        let listens = comes_within(PATIENCE, || {
            program.logged(LISTENING) >= listeners || program.exit_status().is_some()
        });
        assert!(listens && program.exit_status().is_none(), "{:#?}", program.lines());
        for line in program.lines_with(LISTENING) {
            let (_, after) = line.split_once(LISTENING).expect("it was looked for");
            let address = after.split(' ').next().expect("a text has a first part");
            let address = address.parse().expect("it is TCP");
            match after.contains("for=admin") {
                true => program.admin = Some(address),
                false => program.address = address,
            }
        }
        program
    }

    /// Gives the address of the operator's listener.
    #[track_caller]
    pub fn admin(&self) -> SocketAddr {
        self.admin.expect("there is an operator's listener")
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
        let is_so = comes_within(FIVE_SECONDS, || self.logged(text) >= count);
        assert!(is_so, "{text}: {:#?}", self.lines());
    }

    /// Waits for one log line with this text, and gives it.
    #[track_caller]
    pub fn expect_line(&self, text: &str) -> String {
        let is_so = comes_within(PATIENCE, || self.logged(text) > 0);
        assert!(is_so, "no line {text:?}: {:#?}", self.lines());
        let lines = self.lines_with(text);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    }

    /// Says how the program has ended, if it has.
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("it is our child")
    }

    pub fn lines(&self) -> Vec<String> {
        lock(&self.log).clone()
    }

    /// Gives the log lines that bear this text.
    pub fn lines_with(&self, text: &str) -> Vec<String> {
        lock(&self.log).iter().filter(|line| line.contains(text)).cloned().collect()
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
        let is_so = comes_within(FIVE_SECONDS, || self.descriptors() == count);
        assert!(is_so, "{} of {count}", self.descriptors());
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
        self.exit_within(FIVE_SECONDS)
    }

    /// Waits until the program ends.
    #[track_caller]
    pub fn exit_within(&mut self, span: Duration) -> ExitStatus {
        let began = Instant::now();
        let ends = comes_within(span, || self.exit_status().is_some());
        assert!(ends, "it does not end within {span:?}: {:#?}", self.lines());
        let status = self.exit_status().expect("it has ended");
        println!("it ended after {:?}: {status}", began.elapsed());
        status
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

/// Gives the path of the lab. `cargo test --test NAME` does not build examples, so it is asked for
/// here.
pub fn lab_path() -> &'static Path {
    static LAB: OnceLock<PathBuf> = OnceLock::new();
    LAB.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_heartwheel")).parent().expect("a folder");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--offline", "--example", "lab"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()), "the lab can be built");
        folder.join("examples/lab")
    })
}

fn add_settings(command: &mut Command, settings: &[(&str, &str)]) {
    for (name, text) in settings {
        command.args(["--set", &format!("{name}={text}")]);
    }
}

/// Finds a line that begins so, in what the kernel says in kilobytes, and gives it in bytes.
fn bytes_behind(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let kilobytes = line.and_then(|line| line.trim().strip_suffix(" kB"));
    kilobytes.and_then(|number| number.parse::<u64>().ok()).expect("Linux says so") * 1024
}

/// A short tick, and no ping that nobody expects.
const QUIET: &[(&str, &str)] = &[("tick", "10ms"), ("heartbeat.interval", "off")];
/// Begins what the program tells of each listener.
const LISTENING: &str = "listening address=";
const FIVE_SECONDS: Duration = ms(5000);

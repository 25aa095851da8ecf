//! The program in a process of its own, and what /proc and it say of it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use tinyjson::JsonValue;

use crate::inbound::Inbound;

/// A running program. It is killed with the value.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    log_lines: Arc<AtomicUsize>,
}

/// What the server has counted so far.
pub struct Figures {
    pub accepted: u64,
    pub closed: BTreeMap<String, u64>,
    /// The longest turn since the start.
    pub turn_max_us: u64,
    pub turn_mean_us: u64,
}

impl Server {
    pub fn start(settings: &[String]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        command.env_clear().args(["serve", "--listen", "127.0.0.1:0"]);
        let deadlines = DEADLINES.iter().map(|setting| (*setting).to_owned());
        for setting in deadlines.chain(settings.iter().cloned()) {
            command.args(["--set", &setting]);
        }
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let address = lines.by_ref().map_while(Result::ok).find_map(|line| {
            let (_, address) = line.split_once("listening address=")?;
            address.parse().ok()
        });
        let log_lines = Arc::new(AtomicUsize::new(0));
        let counted = log_lines.clone();
        thread::spawn(move || {
            for _ in lines.map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let address = address.expect("it tells its address");
        Server { child, address, log_lines }
    }

    pub fn log_lines(&self) -> usize {
        self.log_lines.load(Ordering::Relaxed)
    }

    /// Gives the memory in use, in KiB, as the kernel keeps count: cheap, and a few pages off.
    pub fn memory_roughly(&self) -> u64 {
        let statm = self.proc_file("statm");
        statm.split(' ').nth(1).and_then(|n| n.parse::<u64>().ok()).expect("a number") * 4
    }

    /// Gives the memory in use, and that part of it that is no file's, in KiB, counted by page.
    pub fn memory(&self) -> (u64, u64) {
        let rollup = self.proc_file("smaps_rollup");
        let field = |name: &str| {
            let line = rollup.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.split_whitespace().next());
            number.and_then(|number| number.parse().ok()).expect("it is there")
        };
        (field("Rss:"), field("Anonymous:"))
    }

    pub fn descriptors(&self) -> usize {
        let entries = fs::read_dir(format!("/proc/{}/fd", self.child.id()));
        entries.expect("the program runs").count()
    }

    /// Gives the CPU time of each thread so far, by its name.
    pub fn cpu(&self) -> BTreeMap<String, Duration> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.child.id()));
        let read = |task: fs::DirEntry| {
            let name = fs::read_to_string(task.path().join("comm")).ok()?;
            let stat = fs::read_to_string(task.path().join("schedstat")).ok()?;
            let ran = stat.split(' ').next()?.parse().ok()?;
            Some((name.trim().to_owned(), Duration::from_nanos(ran)))
        };
        tasks.expect("the program runs").flatten().filter_map(read).collect()
    }

    /// Asks the server for its figures: the first event of its own topic.
    pub fn figures(&self) -> Figures {
        let mut stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is a socket");
        stream.write_all(SUBSCRIBE).expect("the server reads");
        let mut inbound = Inbound::default();
        let mut figures = None;
        let mut buffer = [0; 16 * 1024];
        while figures.is_none() {
            let length = stream.read(&mut buffer).expect("the server answers");
            assert!(length > 0, "the server hung up");
            inbound.feed(&buffer[..length], |message| figures = Some(message.to_vec()));
        }
        let text = String::from_utf8(figures.expect("it came")).expect("it is text");
        let json: JsonValue = text.parse().expect("it is JSON");
        let number = |value: &JsonValue| *value.get::<f64>().expect("a number") as u64;
        let closed = json["closed"].get::<std::collections::HashMap<_, _>>().expect("an object");
        Figures {
            accepted: number(&json["accepted"]),
            closed: closed.iter().map(|(name, value)| (name.clone(), number(value))).collect(),
            turn_max_us: number(&json["turn_us"]["max"]),
            turn_mean_us: number(&json["turn_us"]["mean"]),
        }
    }

    fn proc_file(&self, name: &str) -> String {
        fs::read_to_string(format!("/proc/{}/{name}", self.child.id())).expect("the program runs")
    }
}

impl Figures {
    pub fn closed_total(&self) -> u64 {
        self.closed.values().sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Short, so that each comes due many times in a minute.
const DEADLINES: [&str; 7] = [
    "admin_listen=off",
    "deadlines.handshake=1s",
    "deadlines.keep_alive=1s",
    "deadlines.message=1s",
    "deadlines.write_stall=1s",
    "deadlines.close_send=1s",
    "deadlines.close_ack=1s",
];

const SUBSCRIBE: &[u8] = b"GET /topics/$stats HTTP/1.1\r\nHost: localhost\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

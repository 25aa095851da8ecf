//! The program, and what it says of itself. It is this benchmark, started again: so it can say how
//! many bytes it has in use.

use std::collections::BTreeMap;
use std::env;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, ExitCode};
use std::time::Duration;

use heartwheel::{Event, Peer, Route, app, program};
use tinyjson::JsonValue;

use crate::allocator::live_bytes;
use crate::common::process::Process;
use crate::common::program::{Admin, Program};
use crate::inbound::Inbound;

/// A running program. It is killed with the value.
pub struct Server {
    program: Program,
    pub address: SocketAddr,
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
        let deadlines = DEADLINES.iter().map(|setting| (*setting).to_owned());
        let settings: Vec<_> = deadlines.chain(settings.iter().cloned()).collect();
        let mut command = Command::new(env::current_exe().expect("it is a file"));
        command.env_clear().env(SERVE, "1");
        let program = Program::start_as(command, &settings, Admin::Off);
        let program = program.expect("the program starts");
        Server { address: program.address, program }
    }

    pub fn process(&self) -> Process {
        self.program.process()
    }

    pub fn log_lines(&self) -> usize {
        self.program.log_lines()
    }

    /// Asks the server for its figures: the first event of its own topic.
    pub fn figures(&self) -> Figures {
        let text = self.first_message("/topics/$stats");
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

    /// Asks the server how many bytes it has in use.
    pub fn live_bytes(&self) -> u64 {
        self.first_message(LIVE).parse().expect("it is a number")
    }

    fn first_message(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("the server accepts");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("it is a socket");
        let request = format!("GET {path} HTTP/1.1\r\n{UPGRADE}");
        stream.write_all(request.as_bytes()).expect("the server reads");
        let mut inbound = Inbound::default();
        let mut first = None;
        let mut buffer = [0; 16 * 1024];
        while first.is_none() {
            let length = stream.read(&mut buffer).expect("the server answers");
            assert!(length > 0, "the server hung up");
            inbound.feed(&buffer[..length], |message| first = Some(message.to_vec()));
        }
        String::from_utf8(first.expect("it came")).expect("it is text")
    }
}

/// Runs the server, if this process is to be it: the program, and a route that tells the bytes in
/// use.
pub fn serve() -> Option<ExitCode> {
    env::var_os(SERVE)?;
    let tell = |peer: &Peer, event: Event| {
        if matches!(event, Event::Opened(_)) {
            peer.send(live_bytes().to_string());
        }
    };
    Some(program::run(move |builder| {
        app::routes(builder).route(Route::websocket(LIVE, tell).inline())
    }))
}

impl Figures {
    pub fn closed_total(&self) -> u64 {
        self.closed.values().sum()
    }
}

/// Short, so that each comes due many times in a minute.
const DEADLINES: [&str; 6] = [
    "deadlines.handshake=1s",
    "deadlines.keep_alive=1s",
    "deadlines.message=1s",
    "deadlines.write_stall=1s",
    "deadlines.close_send=1s",
    "deadlines.close_ack=1s",
];

/// The variable that has this benchmark serve.
const SERVE: &str = "SOAK_SERVE";

/// The path that tells the bytes in use.
const LIVE: &str = "/live-bytes";

/// A handshake, behind its first line.
const UPGRADE: &str = "Host: localhost\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

//! The program, and what it says of itself.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tinyjson::JsonValue;

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
        let program = Program::start(&settings, Admin::Off).expect("the program starts");
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

const SUBSCRIBE: &[u8] = b"GET /topics/$stats HTTP/1.1\r\nHost: localhost\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

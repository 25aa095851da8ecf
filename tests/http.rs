//! HTTP as browsers, proxies and clients need it: every route, on both listeners, by every method
//! and from every origin.

mod common;

#[path = "http/clients.rs"]
mod clients;
#[path = "http/headers.rs"]
mod headers;
#[path = "http/routing.rs"]
mod routing;
#[path = "http/walk.rs"]
mod walk;

use std::io::Read;
use std::net::SocketAddr;

use common::client::Client;
use common::http::header;
use common::server::TestServer;
use common::timing::PATIENCE;
use heartwheel::{Server, app};

/// Starts a server with the program's routes and an operator's listener.
fn start(pairs: &[(&str, &str)]) -> TestServer {
    let pairs = [&[("admin_listen", "127.0.0.1:0")], pairs].concat();
    TestServer::serve(&pairs, app::routes(Server::builder()))
}

/// What comes back for a request.
#[derive(Clone, Debug)]
struct Told {
    status: u16,
    /// The head, with its empty line.
    head: String,
    /// What follows on the connection: the body, and answers to what was sent behind the request.
    rest: Vec<u8>,
}

impl Told {
    fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }

    /// Gives the header lines, each as its name in lower case and its value.
    fn lines(&self) -> Vec<(String, String)> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect()
    }

    /// Says whether the connection changed into something that does not end by itself.
    fn is_open_ended(&self) -> bool {
        self.status == 101 || self.header("Content-Type") == Some("text/event-stream")
    }
}

/// Sends bytes on a connection of their own and reads to its end, or, of what does not end by
/// itself, no further than the head.
#[track_caller]
fn tell(address: SocketAddr, bytes: &str) -> Told {
    let mut peer = Client::connect(address);
    peer.send(bytes.as_bytes());
    peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut received = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let len = peer.stream.read(&mut buffer).unwrap_or_else(|error| {
            panic!("{error} behind {bytes:?} and {:?}", String::from_utf8_lossy(&received))
        });
        received.extend_from_slice(&buffer[..len]);
        let Some(end) = received.windows(4).position(|four| four == b"\r\n\r\n") else {
            assert!(len > 0, "no answer to {bytes:?}");
            continue;
        };
        let head = String::from_utf8(received[..end + 4].to_vec()).expect("a head is text");
        let status = head.split(' ').nth(1).unwrap().parse().expect("a status");
        let told = Told { status, head, rest: received[end + 4..].to_vec() };
        if len == 0 || told.is_open_ended() && !bytes.starts_with("HEAD ") {
            return told;
        }
    }
}

/// A request that is answered and ends its connection: what is sent behind another one to see
/// whether that one's connection has stayed.
const PROBE: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Says whether an answer to [`PROBE`] is the last that came.
fn is_probed(told: &Told) -> bool {
    told.rest.ends_with(b"\r\n\r\nok\n") && told.rest.windows(9).any(|nine| nine == b"HTTP/1.1 ")
}

//! A server in memory, by a clock of the test's own, and clients that keep to the rules.

use std::io::{ErrorKind, Read, Write};
use std::time::Duration;

use heartwheel::{Builder, Config, Event, ManualClock, MemoryNetwork, MemoryPeer, Message};
use heartwheel::{Peer as Sender, Route, Server};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Error, HandshakeError, WebSocket};

pub const SECOND: Duration = Duration::from_secs(1);
pub const MINUTE: Duration = Duration::from_secs(60);
pub const HOUR: Duration = Duration::from_secs(60 * 60);
pub const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// How late a deadline may act: the width of a slot. A moment is cut to whole milliseconds besides.
pub const TICK: Duration = Duration::from_millis(50 + 1);

pub struct World {
    pub clock: ManualClock,
    pub network: MemoryNetwork,
    pub server: Server,
    pub config: Config,
}

impl World {
    /// Each pair is a key of the configuration and its value; the rest is as users have it.
    pub fn new(pairs: &[(&str, &str)], builder: Builder) -> World {
        let mut config = Config::default();
        for (key, value) in [("workers", "0")].iter().chain(pairs) {
            config.set(key, value).unwrap_or_else(|error| panic!("{error}"));
        }
        let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
        let builder = builder.config(config.clone()).clock(clock.clone());
        let server = builder.listen_memory(&network).expect("the configuration is sound");
        World { clock, network, server, config }
    }

    /// Turns until there is nothing left to do at this time.
    #[track_caller]
    pub fn settle(&mut self) {
        for _ in 0..1_000_000 {
            if self.server.next_timeout() != Some(Duration::ZERO) {
                return;
            }
            self.server.turn().expect("the poller works");
        }
        panic!("it spins");
    }

    /// Lets `span` pass, from one deadline to the next; clients see to what has come in between.
    pub fn pass(&mut self, span: Duration, clients: &mut [Client]) {
        let end = self.clock.elapsed() + span;
        loop {
            self.meet(clients);
            let left = end - self.clock.elapsed();
            if left.is_zero() {
                return;
            }
            self.clock.advance(self.server.next_timeout().map_or(left, |wait| wait.min(left)));
        }
    }

    /// Lets clients and server speak until neither has anything to say at this time.
    pub fn meet(&mut self, clients: &mut [Client]) {
        let mut has_moved = true;
        while has_moved {
            self.settle();
            has_moved = false;
            for client in clients.iter_mut() {
                has_moved |= client.attend(self.clock.elapsed());
            }
        }
    }

    /// Lets time pass until `condition` holds, and gives when that was.
    #[track_caller]
    pub fn until(&mut self, what: &str, mut condition: impl FnMut(&Server) -> bool) -> Duration {
        self.settle();
        for _ in 0..1_000_000 {
            if condition(&self.server) {
                return self.clock.elapsed();
            }
            let wait = self.server.next_timeout();
            self.clock.advance(wait.unwrap_or_else(|| panic!("nothing is due: {what}")));
            self.server.turn().expect("the poller works");
            self.settle();
        }
        panic!("never: {what}");
    }

    #[track_caller]
    pub fn open(&mut self, path: &str) -> Client {
        let peer = self.network.connect().expect("the server listens");
        let url = format!("ws://localhost{path}");
        let mut handshake = tungstenite::client(url, peer);
        let socket = loop {
            match handshake {
                Ok((socket, _)) => break socket,
                Err(HandshakeError::Interrupted(waiting)) => {
                    self.settle();
                    handshake = waiting.handshake();
                }
                Err(HandshakeError::Failure(error)) => panic!("{error}"),
            }
        };
        Client::new(socket)
    }

    /// Connects and sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) -> MemoryPeer {
        let mut peer = self.network.connect().expect("the server listens");
        peer.write_all(bytes).expect("there is room");
        self.settle();
        peer
    }

    /// Sends a request and gives the answer.
    #[track_caller]
    pub fn ask(&mut self, request: &str) -> String {
        let mut peer = self.send(request.as_bytes());
        text(&read_all(&mut peer).0)
    }
}

/// A WebSocket client that keeps to the rules, as long as it is attended to.
pub struct Client {
    pub socket: WebSocket<MemoryPeer>,
    /// When pings were read.
    pub pings: Vec<Duration>,
    pub messages: Vec<tungstenite::Message>,
    pub close: Option<CloseFrame>,
    pub ended_at: Option<Duration>,
}

impl Client {
    pub fn new(socket: WebSocket<MemoryPeer>) -> Client {
        Client { socket, pings: Vec::new(), messages: Vec::new(), close: None, ended_at: None }
    }

    /// Reads what has come, and answers. Says whether anything has.
    pub fn attend(&mut self, now: Duration) -> bool {
        let mut has_moved = false;
        while self.ended_at.is_none() {
            match self.socket.read() {
                Ok(tungstenite::Message::Ping(_)) => self.pings.push(now),
                Ok(tungstenite::Message::Close(frame)) => self.close = frame,
                Ok(message) => self.messages.push(message),
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return has_moved,
                Err(_) => {
                    self.socket.get_mut().shut_down();
                    self.ended_at = Some(now);
                }
            }
            has_moved = true;
        }
        has_moved
    }

    pub fn say(&mut self, text: &str) {
        self.socket.send(tungstenite::Message::text(text)).expect("there is room");
    }

    /// Gives the close code that came.
    #[track_caller]
    pub fn code(&self) -> u16 {
        self.close.as_ref().expect("a close frame with a code").code.into()
    }
}

/// Reads all that there is; says how it ended, `WouldBlock` if it did not.
pub fn read_all(peer: &mut MemoryPeer) -> (Vec<u8>, Option<ErrorKind>) {
    let (mut all, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        match peer.read(&mut buffer) {
            Ok(0) => return (all, None),
            Ok(len) => all.extend(&buffer[..len]),
            Err(error) => return (all, Some(error.kind())),
        }
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Echo, silence, floods that may end in a close, and what the program serves of topics.
pub fn routes() -> Builder {
    routes_that_set(&[])
}

/// The same, with values of their own for these keys.
pub fn routes_that_set(changes: &[(&str, &str)]) -> Builder {
    let flood = |peer: &Sender, event: Event| {
        if let Event::Message(message) = event {
            let asked = message.as_text().unwrap_or_default();
            let bytes = asked.trim_end_matches('!').parse().unwrap_or(0);
            if bytes > 0 {
                peer.send(Message::binary(vec![b'x'; bytes]));
            }
            if asked.ends_with('!') {
                peer.close(4000, "as asked").expect("it is a good code");
            }
        }
    };
    let set =
        |route| changes.iter().fold(route, |route: Route, (key, value)| route.set(key, value));
    let here = |_: &_| heartwheel::http::Response::new(200).text("here\n");
    Server::builder()
        .seed(7)
        .health()
        .route(set(Route::topics("/topics/{topic}")))
        .route(set(Route::hub("/ws")))
        .route(set(Route::events("/events")))
        .route(set(Route::websocket("/echo", super::server::echo)))
        .route(set(Route::websocket("/quiet", |_: &Sender, _: Event| {})))
        .route(set(Route::websocket("/flood", flood)))
        .route(set(Route::post("/post", |_: &_| heartwheel::http::Response::new(200))))
        .route(set(Route::get("/", here)))
        .route(Route::get("/operator", |_: &_| heartwheel::http::Response::new(200)).admin())
}

/// The same, and a stream whose writer writes nothing until the process ends.
#[cfg(feature = "streams")]
pub fn routes_with_a_stream_that_set(changes: &[(&str, &str)]) -> Builder {
    let stream = Route::get("/stream", |_: &heartwheel::http::Request| {
        let (response, body) = heartwheel::http::Response::new(200).stream("text/plain");
        std::mem::forget(body);
        response
    });
    let set = |route: Route, (key, value): &(&str, &str)| route.set(key, value);
    routes_that_set(changes).route(changes.iter().fold(stream, set))
}

/// The same without streams.
#[cfg(not(feature = "streams"))]
pub fn routes_with_a_stream_that_set(changes: &[(&str, &str)]) -> Builder {
    routes_that_set(changes)
}

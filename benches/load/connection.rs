//! One connection of the generator, from its handshake on.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use mio::net::TcpStream;
use socket2::{Domain, SockRef, Socket, Type};

use super::common::frame::{self, frame};
use super::reader::{Framing, Reader};
use super::ring::Ring;
use super::stream::Stream;

/// Where to connect, and how to speak there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub address: SocketAddr,
    pub speech: Speech,
    /// It is spoken over TLS.
    pub is_tls: bool,
}

/// How a server is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Speech {
    /// With this path.
    WebSocket(String),
    /// In messages of a size that both sides know.
    Tcp,
}

pub struct Connection {
    pub stream: Stream,
    pub phase: Phase,
    pub reader: Reader,
    /// Bytes that go out before further messages, but not inside one.
    ahead: Vec<u8>,
    /// Bytes of the ring that are to be sent, and where they begin.
    unsent: usize,
    at: usize,
    /// When the messages were sent, or should have been, whose echoes are still to come, in
    /// nanoseconds of the herd.
    pub stamps: VecDeque<u64>,
    /// Which message of the ring came first.
    first: u64,
    /// Messages received.
    pub received: u64,
    pub answers_pings: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The answer to the upgrade, as far as it has come; or nothing if none is expected.
    Opening(Vec<u8>),
    Open,
    /// We are done with it: however it ends now is right.
    Leaving,
}

impl Endpoint {
    /// Reads `ws://HOST:PORT/PATH`, `wss://HOST:PORT/PATH` or `tcp://HOST:PORT`.
    ///
    /// # Errors
    ///
    /// If it is neither, or no address of this name can be found.
    pub fn parse(url: &str) -> Result<Endpoint, String> {
        let wrong = || format!("{url} is none of ws://, wss://HOST:PORT/PATH and tcp://HOST:PORT");
        let (scheme, rest) = url.split_once("://").ok_or_else(wrong)?;
        let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let speech = match (scheme, path) {
            ("ws" | "wss", "") => Speech::WebSocket("/".to_owned()),
            ("ws" | "wss", path) => Speech::WebSocket(path.to_owned()),
            ("tcp", "" | "/") => Speech::Tcp,
            _ => return Err(wrong()),
        };
        let is_tls = scheme == "wss";
        let port = if is_tls { 443 } else { 80 };
        let whole = host.contains(':') || scheme == "tcp";
        let host = if whole { host } else { &format!("{host}:{port}") };
        let found = std::net::ToSocketAddrs::to_socket_addrs(host).map(|mut found| found.next());
        match found {
            Ok(Some(address)) => Ok(Endpoint { address, speech, is_tls }),
            _ => Err(format!("{url}: there is no such address")),
        }
    }

    /// How its messages are told apart.
    pub fn framing(&self, size: usize) -> Framing {
        match self.speech {
            Speech::WebSocket(_) => Framing::WebSocket,
            Speech::Tcp => Framing::Bytes(size.max(1) as u64),
        }
    }

    fn request(&self) -> Vec<u8> {
        match &self.speech {
            Speech::WebSocket(path) => format!(
                "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
                self.address
            )
            .into_bytes(),
            Speech::Tcp => Vec::new(),
        }
    }
}

impl Connection {
    /// Begins to connect, from `source` if it is given. Its first message is the `first` of the
    /// ring.
    pub fn begin(
        endpoint: &Endpoint,
        source: Option<IpAddr>,
        ring: &Ring,
        framing: Framing,
        first: usize,
    ) -> io::Result<Connection> {
        let stream = Stream::new(begin_to_connect(endpoint.address, source)?, endpoint.is_tls)?;
        Ok(Connection {
            stream,
            phase: Phase::Opening(Vec::new()),
            reader: Reader::new(framing),
            ahead: endpoint.request(),
            unsent: 0,
            at: ring.position(first),
            stamps: VecDeque::new(),
            first: first as u64,
            received: 0,
            answers_pings: true,
        })
    }

    /// Queues messages; `stamp` is when they are sent, or should have been.
    pub fn send(&mut self, count: usize, stamp: u64, ring: &Ring) {
        self.unsent += count * ring.frame_bytes();
        self.stamps.extend(std::iter::repeat_n(stamp, count));
    }

    /// Takes the answer to the upgrade off the front of `bytes`. Says whether it has come whole.
    ///
    /// # Errors
    ///
    /// If it is a refusal; with its first line.
    pub fn read_answer(&mut self, bytes: &mut &[u8]) -> Result<bool, String> {
        let Phase::Opening(head) = &mut self.phase else { return Ok(true) };
        // The end of the head may lie across two reads.
        let seen = head.len().saturating_sub(3);
        let came = head.len();
        head.extend_from_slice(bytes);
        let end = head[seen..].windows(4).position(|four| four == b"\r\n\r\n");
        let Some(end) = end.map(|end| seen + end + 4) else {
            *bytes = &[];
            return Ok(false);
        };
        *bytes = &bytes[end - came..];
        if !head.starts_with(b"HTTP/1.1 101 ") {
            let line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
            return Err(String::from_utf8_lossy(line).into_owned());
        }
        self.phase = Phase::Open;
        Ok(true)
    }

    /// Queues the answer to a ping.
    pub fn pong(&mut self, payload: &[u8]) {
        self.ahead.extend(frame(frame::PONG, payload));
    }

    /// Queues a close frame. However the connection ends now is right.
    pub fn close(&mut self) {
        self.ahead.extend(frame::close(1000, ""));
        self.phase = Phase::Leaving;
    }

    /// Ends the sending half. However the connection ends now is right.
    pub fn shut_down(&mut self) -> io::Result<()> {
        self.phase = Phase::Leaving;
        self.stream.socket().shutdown(std::net::Shutdown::Write)
    }

    /// Has its end be a reset, when it is dropped: nothing of it lingers.
    pub fn reset_at_end(&self) {
        // Its peer may be gone.
        let _ = SockRef::from(self.stream.socket()).set_linger(Some(std::time::Duration::ZERO));
    }

    /// Sends what waits, all of it in one write if the kernel takes it.
    pub fn flush(&mut self, ring: &Ring) -> io::Result<()> {
        match self.stream.flush() {
            Err(error) if is_later(&error) => return Ok(()),
            flushed => flushed?,
        }
        loop {
            let boundary = ring.to_boundary(self.at);
            let is_ahead = !self.ahead.is_empty() && (boundary == 0 || self.unsent == 0);
            let bytes = match (is_ahead, self.ahead.is_empty()) {
                (true, _) => &self.ahead[..],
                (false, true) => ring.slice(self.at, self.unsent),
                (false, false) => ring.slice(self.at, boundary),
            };
            if bytes.is_empty() {
                return Ok(());
            }
            match self.stream.write(bytes) {
                Ok(sent) if is_ahead => drop(self.ahead.drain(..sent)),
                Ok(sent) => {
                    self.at = ring.advance(self.at, sent);
                    self.unsent -= sent;
                }
                Err(error) if is_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads once. `None` if there is nothing now; 0 at the end.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match self.stream.read(buffer) {
            Ok(length) => Ok(Some(length)),
            Err(error) if is_later(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Says whether bytes are what was sent, at this place of the present message.
    pub fn is_echo(&self, ring: &Ring, part: &[u8], at: u64) -> bool {
        ring.is_part_of(self.first + self.received, part, at)
    }
}

/// Begins to connect with a socket of our own, from `source` if it is given.
pub fn begin_to_connect(address: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    socket.set_tcp_nodelay(true)?;
    if let Some(source) = source {
        socket.bind(&SocketAddr::new(source, 0).into())?;
    }
    match socket.connect(&address.into()) {
        Err(error)
            if error.raw_os_error() != Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
        {
            Err(error)
        }
        _ => Ok(TcpStream::from_std(socket.into())),
    }
}

/// Gives an address of this machine to connect from: an address has only so many ports.
pub fn source(endpoint: &Endpoint, index: usize) -> Option<IpAddr> {
    let is_loopback = endpoint.address.ip() == Ipv4Addr::LOCALHOST;
    let last = 2 + (index % SOURCES) as u8;
    is_loopback.then_some(Ipv4Addr::new(127, 0, 0, last).into())
}

/// Says whether there is nothing to be had now, or no connection yet.
pub fn is_later(error: &io::Error) -> bool {
    let kinds = [ErrorKind::WouldBlock, ErrorKind::NotConnected, ErrorKind::Interrupted];
    kinds.contains(&error.kind())
}

const SOURCES: usize = 8;

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn an_answer_in_any_pieces_ends_where_frames_begin() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let speech = Speech::WebSocket("/".to_owned());
        let endpoint = Endpoint { address, speech, is_tls: false };
        let ring = Ring::new(Framing::WebSocket, super::super::ring::Kind::Binary, 1, 1, 1);
        let answer = b"HTTP/1.1 101 Switching Protocols\r\nA: b\r\n\r\nframe";
        for piece in 1..answer.len() {
            let connection = Connection::begin(&endpoint, None, &ring, Framing::WebSocket, 0);
            let mut connection = connection.unwrap();
            let mut behind = Vec::new();
            for mut bytes in answer.chunks(piece) {
                if connection.read_answer(&mut bytes).unwrap() {
                    behind.extend_from_slice(bytes);
                }
            }
            assert_eq!(behind, b"frame", "{piece}");
        }
    }

    #[test]
    fn a_url_is_an_address_and_how_to_speak() {
        let endpoint = |url| Endpoint::parse(url).unwrap();
        let address = "127.0.0.1:9000".parse().unwrap();
        let path = |path: &str| Speech::WebSocket(path.to_owned());
        for (url, speech) in [
            ("ws://127.0.0.1:9000/echo?a=b", path("/echo?a=b")),
            ("ws://127.0.0.1:9000", path("/")),
            ("tcp://127.0.0.1:9000", Speech::Tcp),
        ] {
            assert_eq!(endpoint(url), Endpoint { address, speech, is_tls: false });
        }
        assert_eq!(endpoint("ws://127.0.0.1/").address.port(), 80);
        let sealed = endpoint("wss://127.0.0.1/");
        assert_eq!((sealed.address.port(), sealed.is_tls), (443, true));
        for url in ["127.0.0.1:9000", "https://127.0.0.1:90/", "tcp://127.0.0.1:9/x", "ws://x:y/"] {
            assert!(Endpoint::parse(url).is_err(), "{url}");
        }
    }
}

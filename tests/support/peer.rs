//! A client that does what the test says and nothing else: no pong, no close, no byte of its own
//! accord.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use super::PATIENCE;

/// A raw TCP client.
#[derive(Debug)]
pub struct Peer {
    pub stream: TcpStream,
    /// Received and not yet taken.
    received: Vec<u8>,
}

/// What a peer sees next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// A whole frame: its first byte (FIN, opcode) and its payload.
    Frame(u8, Vec<u8>),
    /// The server has ended its side.
    Fin,
    /// The connection was reset.
    Reset,
    /// Nothing, for as long as it was waited.
    Nothing,
}

/// What came of a plain request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Peer {
        let stream = TcpStream::connect(address).expect("the server accepts");
        Peer::over(stream)
    }

    /// Connects with a receive buffer of four kilobytes, so that a peer that does not read is soon
    /// noticed.
    pub fn connect_narrow(address: SocketAddr) -> Peer {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&address.into()).expect("the server accepts");
        Peer::over(socket.into())
    }

    fn over(stream: TcpStream) -> Peer {
        stream.set_nodelay(true).unwrap();
        Peer { stream, received: Vec::new() }
    }

    /// Opens a WebSocket.
    pub fn open(address: SocketAddr, target: &str) -> Peer {
        let mut peer = Peer::connect(address);
        peer.upgrade(target);
        peer
    }

    pub fn open_narrow(address: SocketAddr, target: &str) -> Peer {
        let mut peer = Peer::connect_narrow(address);
        peer.upgrade(target);
        peer
    }

    /// Sends the upgrade and asserts that it is taken.
    #[track_caller]
    pub fn upgrade(&mut self, target: &str) -> Answer {
        self.send(upgrade(target).as_bytes());
        let answer = self.answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        answer
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer can send");
    }

    /// Sends bytes as they are; the server may be gone.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    #[track_caller]
    pub fn text(&mut self, text: &str) {
        self.send(&frame(0x81, text.as_bytes()));
    }

    #[track_caller]
    pub fn close(&mut self, code: u16) {
        self.send(&frame(0x88, &code.to_be_bytes()));
    }

    #[track_caller]
    pub fn pong(&mut self, payload: &[u8]) {
        self.send(&frame(0x8A, payload));
    }

    /// Ends this side.
    pub fn send_fin(&self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Resets the connection.
    pub fn reset(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// Lets nothing in any more, acknowledgements included: as if the cable had been pulled, seen
    /// from the server.
    pub fn vanish(&self) {
        SockRef::from(&self.stream).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]).unwrap();
    }

    /// Gives what is seen next, [`PATIENCE`] being enough for whatever comes at all.
    pub fn see(&mut self) -> Seen {
        self.see_within(PATIENCE)
    }

    /// Gives what is seen next within `span`.
    pub fn see_within(&mut self, span: Duration) -> Seen {
        let until = Instant::now() + span;
        loop {
            if let Some(frame) = self.take_frame() {
                return frame;
            }
            match self.receive(until) {
                Received::Some => {}
                Received::Fin => return Seen::Fin,
                Received::Reset => return Seen::Reset,
                Received::Nothing => return Seen::Nothing,
            }
        }
    }

    /// Gives the next message's text; pings and pongs before it are passed over.
    #[track_caller]
    pub fn message(&mut self) -> String {
        loop {
            match self.see() {
                Seen::Frame(0x89 | 0x8A, _) => {}
                Seen::Frame(0x81 | 0x82, payload) => return String::from_utf8(payload).unwrap(),
                other => panic!("a message was expected: {other:?}"),
            }
        }
    }

    /// Asserts that a close frame comes, with this code, and gives its text; pings before it are
    /// passed over.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> String {
        loop {
            match self.see() {
                Seen::Frame(0x89 | 0x8A, _) => {}
                Seen::Frame(0x88, payload) if payload.len() >= 2 => {
                    let got = u16::from_be_bytes([payload[0], payload[1]]);
                    let text = String::from_utf8(payload[2..].to_vec()).unwrap();
                    assert_eq!(got, code, "{text}");
                    return text;
                }
                other => panic!("a close frame with {code} was expected: {other:?}"),
            }
        }
    }

    /// Reads on to FIN, and gives what came before it.
    #[track_caller]
    pub fn read_to_fin(&mut self) -> Vec<u8> {
        loop {
            match self.receive(Instant::now() + PATIENCE) {
                Received::Some => {}
                Received::Fin => return self.take_received(),
                Received::Reset => panic!("FIN was expected, not a reset"),
                Received::Nothing => panic!("FIN was expected"),
            }
        }
    }

    #[track_caller]
    pub fn expect_fin(&mut self) {
        assert_eq!(self.see(), Seen::Fin);
    }

    /// Answers a close frame that came, and waits for FIN: whether the server waited for the answer
    /// or not.
    #[track_caller]
    pub fn expect_fin_or_close(&mut self) {
        self.try_send(&frame(0x88, b""));
        assert_eq!(self.see(), Seen::Fin);
    }

    #[track_caller]
    pub fn expect_reset(&mut self) {
        assert_eq!(self.see(), Seen::Reset);
    }

    /// Reads on, whatever comes, and gives how many bytes came before the reset.
    #[track_caller]
    pub fn drain_to_reset(&mut self) -> usize {
        let mut bytes = self.received.len();
        self.received.clear();
        loop {
            match self.receive(Instant::now() + PATIENCE) {
                Received::Some => bytes += std::mem::take(&mut self.received).len(),
                Received::Reset => return bytes,
                Received::Fin => panic!("a reset was expected, not FIN, after {bytes} bytes"),
                Received::Nothing => panic!("a reset was expected, after {bytes} bytes"),
            }
        }
    }

    /// Waits for the end without reading anything: a reset raises an error of its own.
    pub fn is_reset_unread(&self) -> bool {
        self.stream.take_error().unwrap().is_some()
    }

    /// Reads once, up to `len` bytes, and gives how many there were.
    pub fn sip(&mut self, len: usize) -> std::io::Result<usize> {
        self.stream.read(&mut vec![0; len])
    }

    /// Gives what was received and not yet taken.
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.received)
    }

    /// Gives the answer to a plain request.
    #[track_caller]
    pub fn answer(&mut self) -> Answer {
        self.try_answer().expect("an answer comes")
    }

    /// Gives the answer to a plain request, if it comes whole.
    pub fn try_answer(&mut self) -> Option<Answer> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.take_answer() {
                return Some(answer);
            }
            match self.receive(until) {
                Received::Some => {}
                _ => return None,
            }
        }
    }

    fn take_answer(&mut self) -> Option<Answer> {
        let end = self.received.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8(self.received[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1)?.parse().unwrap();
        let length = |line: &str| line.strip_prefix("Content-Length: ")?.parse().ok();
        let length: usize = head.lines().find_map(length).unwrap_or(0);
        if self.received.len() < end + length {
            return None;
        }
        let body = String::from_utf8(self.received[end..end + length].to_vec()).unwrap();
        self.received.drain(..end + length);
        Some(Answer { status, head, body })
    }

    /// Takes a server's frame (RFC 6455, 5.2: not masked).
    fn take_frame(&mut self) -> Option<Seen> {
        let bytes = &self.received;
        let (len, head) = match *bytes.get(1)? {
            126 => (usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize, 10),
            len => (usize::from(len), 2),
        };
        let payload = bytes.get(head..head + len)?.to_vec();
        let first = bytes[0];
        self.received.drain(..head + len);
        Some(Seen::Frame(first, payload))
    }

    fn receive(&mut self, until: Instant) -> Received {
        let left = until.saturating_duration_since(Instant::now());
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).unwrap();
        let mut buffer = [0; 64 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Received::Fin,
            Ok(len) => {
                self.received.extend_from_slice(&buffer[..len]);
                Received::Some
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Received::Reset,
            Err(error) if error.kind() == ErrorKind::WouldBlock && left.is_zero() => {
                Received::Nothing
            }
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) =>
            {
                self.receive(until)
            }
            Err(error) => panic!("reading failed: {error}"),
        }
    }
}

enum Received {
    Some,
    Fin,
    Reset,
    Nothing,
}

/// Gives a client's frame: masked, with a key that changes nothing.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..=125 => bytes.push(0x80 | len as u8),
        len @ 126..=0xFFFF => {
            bytes.push(0x80 | 126);
            bytes.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(&[0; 4]);
    bytes.extend_from_slice(payload);
    bytes
}

/// Gives the request that asks for a WebSocket.
pub fn upgrade(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// Gives a plain request.
pub fn get(target: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

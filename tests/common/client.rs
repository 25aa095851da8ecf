//! A raw client: it sends what it is told to, in the pieces it is told to, and tells what it sees.
//! It does nothing of its own accord: no pong, no close, no byte.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, SockFilter, SockRef, Socket, Type};

use super::frame;
use super::http::{ACCEPT, Answer, get_request, upgrade_request};
use super::lag;

/// One connection.
#[derive(Debug)]
pub struct Client {
    pub stream: Link,
    /// What was read and not yet asked for.
    rest: Vec<u8>,
}

/// What bears it: TCP, or TLS over that where the server speaks TLS.
#[cfg(feature = "tls")]
pub use super::link::Link;
#[cfg(not(feature = "tls"))]
pub type Link = TcpStream;

/// A frame from the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

/// What a client sees next.
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

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

/// What a read has brought.
enum Received {
    Some,
    End(End),
    Nothing,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::over(TcpStream::connect(address).expect("the server accepts"), address)
    }

    /// Connects with a receive buffer as small as the kernel allows, for a peer that will not read.
    pub fn connect_narrow(address: SocketAddr) -> Client {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("the buffer can be small");
        socket.connect(&address.into()).expect("the server accepts");
        Client::over(socket.into(), address)
    }

    fn over(stream: TcpStream, _address: SocketAddr) -> Client {
        stream.set_nodelay(true).expect("it is TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("it is a socket");
        #[cfg(feature = "tls")]
        let stream = Link::over(stream, _address);
        Client { stream, rest: Vec::new() }
    }

    /// Opens a WebSocket.
    #[track_caller]
    pub fn open(address: SocketAddr, path: &str) -> Client {
        let mut client = Client::connect(address);
        client.upgrade(path);
        client
    }

    /// Opens a WebSocket with a receive buffer as small as the kernel allows.
    #[track_caller]
    pub fn open_narrow(address: SocketAddr, path: &str) -> Client {
        let mut client = Client::connect_narrow(address);
        client.upgrade(path);
        client
    }

    /// Upgrades, and checks the answer as RFC 6455, 4.1 has it.
    #[track_caller]
    pub fn upgrade(&mut self, path: &str) -> Answer {
        self.send(upgrade_request(path, ""));
        self.read_upgrade()
    }

    /// Reads the answer to [`upgrade_request`].
    #[track_caller]
    pub fn read_upgrade(&mut self) -> Answer {
        let answer = self.read_answer();
        assert_eq!(answer.status, 101, "{answer:?}");
        assert_eq!(answer.header("upgrade"), Some("websocket"));
        assert_eq!(answer.header("connection"), Some("Upgrade"));
        assert_eq!(answer.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(answer.header("sec-websocket-extensions"), None, "none is spoken");
        answer
    }

    /// Sends bytes as they are.
    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes it");
    }

    /// Sends to a server that may have ended the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    #[track_caller]
    pub fn text(&mut self, text: &str) {
        self.send(frame::frame(frame::TEXT, text.as_bytes()));
    }

    #[track_caller]
    pub fn close(&mut self, code: u16) {
        self.send(frame::close(code, ""));
    }

    #[track_caller]
    pub fn pong(&mut self, payload: &[u8]) {
        self.send(frame::frame(frame::PONG, payload));
    }

    /// Sends the bytes one by one, each in a segment of its own, until the connection has ended.
    pub fn drip(&mut self, bytes: &[u8], pause: Duration) {
        for byte in bytes {
            if self.try_send([*byte]).is_err() || self.has_ended() {
                return;
            }
            thread::sleep(pause);
        }
    }

    /// Sends a GET and reads the answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Answer {
        self.send(get_request(path, ""));
        self.read_answer()
    }

    /// Sends a GET to a server that may end the connection, and gives the status if one comes.
    pub fn try_get(&mut self, path: &str) -> Option<u16> {
        self.try_send(get_request(path, "")).ok()?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n") && self.stream.read(&mut byte).is_ok_and(|len| len > 0) {
            head.push(byte[0]);
        }
        String::from_utf8(head).ok()?.split(' ').nth(1)?.parse().ok()
    }

    /// Sends a frame and asserts that it comes back.
    #[track_caller]
    pub fn assert_echo(&mut self, first: u8, payload: &[u8]) {
        self.send(frame::frame(first, payload));
        assert_eq!(self.read_frame(), Frame { first, payload: payload.into() });
    }

    /// Ends our side and goes on reading.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it is connected");
    }

    /// Hangs up with a reset.
    pub fn reset(self) {
        let linger = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
        linger.expect("it is TCP");
    }

    /// Lets nothing in any more, acknowledgements included: as if the cable had been pulled, seen
    /// from the server.
    pub fn vanish(&self) {
        let filter = SockRef::from(&self.stream).attach_filter(&[SockFilter::new(0x06, 0, 0, 0)]);
        filter.expect("the kernel filters");
    }

    /// Sends something to a server whose FIN came before, and says whether a reset answers it.
    pub fn is_reset_by(&mut self, bytes: &str) -> bool {
        let sent = self.try_send(bytes);
        thread::sleep(Duration::from_millis(20));
        sent.is_err() || self.try_send("?").is_err()
    }

    /// Says whether the connection was reset, without reading anything.
    pub fn is_reset_unread(&self) -> bool {
        self.stream.take_error().expect("it is a socket").is_some()
    }

    /// Says whether the server has sent its end, or anything at all, without waiting for it.
    pub fn has_ended(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("it is a socket");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("it is a socket");
        !matches!(peeked, Err(error) if error.kind() == ErrorKind::WouldBlock)
    }

    /// Asserts that nothing comes for a while.
    #[track_caller]
    pub fn assert_silent(&mut self, span: Duration) {
        match self.receive(Instant::now() + span) {
            Received::Nothing => {}
            Received::End(end) => panic!("nothing should come, not {end:?}"),
            Received::Some => panic!("nothing should come, not {:?}", self.rest),
        }
    }

    /// Gives what is seen next; what does not come within five seconds never comes.
    #[track_caller]
    pub fn see(&mut self) -> Seen {
        self.see_within(PATIENCE)
    }

    /// Gives what is seen next within `span`, and the time for which the machine let nobody run.
    #[track_caller]
    pub fn see_within(&mut self, span: Duration) -> Seen {
        let began = Instant::now();
        let mut until = began + span;
        loop {
            if let Some(Frame { first, payload }) = self.take_frame() {
                return Seen::Frame(first, payload);
            }
            match self.receive(until) {
                Received::Some => {}
                Received::End(End::Fin) => return Seen::Fin,
                Received::End(End::Reset) => return Seen::Reset,
                Received::Nothing => {
                    let later = began + span + lag::stalled_since(began);
                    if later <= until {
                        return Seen::Nothing;
                    }
                    until = later;
                }
            }
        }
    }

    /// Reads a frame.
    #[track_caller]
    pub fn read_frame(&mut self) -> Frame {
        loop {
            match self.take_frame() {
                Some(frame) => return frame,
                None => self.receive_some(),
            }
        }
    }

    /// Gives the next message's text; pings and pongs before it are passed over.
    #[track_caller]
    pub fn message(&mut self) -> String {
        loop {
            match self.see() {
                Seen::Frame(frame::PING | frame::PONG, _) => {}
                Seen::Frame(frame::TEXT | frame::BINARY, payload) => {
                    return String::from_utf8(payload).expect("the message is text");
                }
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
                Seen::Frame(frame::PING | frame::PONG, _) => {}
                Seen::Frame(frame::CLOSE, payload) => return assert_close(&payload, code),
                other => panic!("a close frame with {code} was expected: {other:?}"),
            }
        }
    }

    /// Asserts that a close frame with this code comes next, and nothing before it.
    #[track_caller]
    pub fn read_close(&mut self, code: u16) {
        let frame = self.read_frame();
        assert_eq!(frame.first, frame::CLOSE, "{frame:?}");
        assert_close(&frame.payload, code);
    }

    /// Asserts that a close frame with this code comes next, then FIN without an answer to it, and
    /// hangs up.
    #[track_caller]
    pub fn assert_closed(mut self, code: u16) {
        self.read_close(code);
        assert_eq!(self.read_to_end(), (Vec::new(), End::Fin));
    }

    /// Asserts that a close frame with this code comes next, answers it, asserts that FIN follows,
    /// and hangs up.
    #[track_caller]
    pub fn answer_close(mut self, code: u16) {
        self.read_close(code);
        self.close(code);
        assert_eq!(self.read_to_end(), (Vec::new(), End::Fin));
    }

    /// Asserts that a refusal with this status comes next, then FIN, and hangs up.
    #[track_caller]
    pub fn assert_refused(mut self, status: u16) -> Answer {
        let answer = self.read_answer();
        assert_eq!(answer.status, status, "{answer:?}");
        let options = answer.header("connection").unwrap_or_default();
        assert!(options.split(", ").any(|option| option == "close"), "{answer:?}");
        assert_eq!(self.read_to_end(), (Vec::new(), End::Fin));
        answer
    }

    #[track_caller]
    pub fn expect_fin(&mut self) {
        assert_eq!(self.see(), Seen::Fin);
    }

    /// Answers a close frame that came, and waits for FIN: whether the server waited for the answer
    /// or not.
    #[track_caller]
    pub fn expect_fin_or_close(&mut self) {
        let _ = self.try_send(frame::frame(frame::CLOSE, b""));
        assert_eq!(self.see(), Seen::Fin);
    }

    #[track_caller]
    pub fn expect_reset(&mut self) {
        assert_eq!(self.see(), Seen::Reset);
    }

    /// Reads an answer and its body.
    #[track_caller]
    pub fn read_answer(&mut self) -> Answer {
        loop {
            match self.take_answer() {
                Some(answer) => return answer,
                None => self.receive_some(),
            }
        }
    }

    /// Reads an answer and its body, if it comes whole.
    #[track_caller]
    pub fn try_read_answer(&mut self) -> Option<Answer> {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.take_answer() {
                return Some(answer);
            }
            let Received::Some = self.receive(until) else { return None };
        }
    }

    /// Reads an answer that has no body, whatever its length says: the answer to HEAD.
    #[track_caller]
    pub fn read_head(&mut self) -> Answer {
        loop {
            if let Some((answer, end)) = Answer::read(&self.rest) {
                self.rest.drain(..end);
                return answer;
            }
            self.receive_some();
        }
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        loop {
            match self.receive(Instant::now() + PATIENCE) {
                Received::Some => {}
                Received::End(end) => return (self.take_received(), end),
                Received::Nothing => panic!("no end came"),
            }
        }
    }

    /// Reads on to FIN, and gives what came before it.
    #[track_caller]
    pub fn read_to_fin(&mut self) -> Vec<u8> {
        let (bytes, end) = self.read_to_end();
        assert_eq!(end, End::Fin);
        bytes
    }

    /// Reads on, whatever comes, and gives how many bytes came before the reset.
    #[track_caller]
    pub fn drain_to_reset(&mut self) -> usize {
        let mut bytes = 0;
        loop {
            bytes += self.take_received().len();
            match self.receive(Instant::now() + PATIENCE) {
                Received::Some => {}
                Received::End(End::Reset) => return bytes,
                Received::End(End::Fin) => panic!("no reset, but FIN, after {bytes} bytes"),
                Received::Nothing => panic!("no reset after {bytes} bytes"),
            }
        }
    }

    #[track_caller]
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.rest.len() < length {
            self.receive_some();
        }
        let rest = self.rest.split_off(length);
        std::mem::replace(&mut self.rest, rest)
    }

    /// Reads once, up to `len` bytes, and gives how many there were.
    pub fn sip(&mut self, len: usize) -> io::Result<usize> {
        self.stream.read(&mut vec![0; len])
    }

    /// Gives what was received and not yet taken.
    pub fn take_received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.rest)
    }

    #[track_caller]
    fn take_answer(&mut self) -> Option<Answer> {
        let (mut answer, end) = Answer::read(&self.rest)?;
        let length = answer.header("content-length");
        let length: usize = length.map_or(0, |text| text.parse().expect("a length is a number"));
        answer.body = self.rest.get(end..end + length)?.to_vec();
        self.rest.drain(..end + length);
        Some(answer)
    }

    /// Takes a server's frame: RFC 6455, 5.1: it is never masked, and bears no reserved bits.
    #[track_caller]
    fn take_frame(&mut self) -> Option<Frame> {
        let bytes = &self.rest;
        let (len, head) = match *bytes.get(1)? {
            126 => (u16::from_be_bytes(bytes.get(2..4)?.try_into().expect("two bytes")).into(), 4),
            127 => (u64::from_be_bytes(bytes.get(2..10)?.try_into().expect("eight bytes")), 10),
            len => (u64::from(len), 2),
        };
        assert_eq!(bytes[0] & 0x70, 0, "reserved bits");
        assert!(bytes[1] < 128, "the server's frames are not masked");
        let end = head + len as usize;
        let frame = Frame { first: bytes[0], payload: bytes.get(head..end)?.to_vec() };
        self.rest.drain(..end);
        Some(frame)
    }

    /// Reads once, and gives up when nothing comes.
    #[track_caller]
    fn receive_some(&mut self) {
        let what = match self.receive(Instant::now() + PATIENCE) {
            Received::Some => return,
            Received::End(End::Fin) => "FIN",
            Received::End(End::Reset) => "a reset",
            Received::Nothing => "nothing",
        };
        panic!("{what}, after {:?}", String::from_utf8_lossy(&self.rest));
    }

    /// Reads once, and waits until then at the longest.
    #[track_caller]
    fn receive(&mut self, until: Instant) -> Received {
        let mut buffer = [0; 64 * 1024];
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let wait = Some(left.max(Duration::from_millis(1)));
            self.stream.set_read_timeout(wait).expect("it is a socket");
            let read = self.stream.read(&mut buffer);
            self.stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
            match read {
                Ok(0) => return Received::End(End::Fin),
                Ok(len) => {
                    self.rest.extend_from_slice(&buffer[..len]);
                    return Received::Some;
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => {
                    return Received::End(End::Reset);
                }
                Err(error) if is_timeout(&error) && left.is_zero() => return Received::Nothing,
                Err(error) if is_timeout(&error) || error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("reading failed: {error}"),
            }
        }
    }
}

/// Asserts that a close frame bears this code, and gives its text.
#[track_caller]
fn assert_close(payload: &[u8], code: u16) -> String {
    let (bytes, text) = payload.split_first_chunk().expect("a close frame with a code");
    let text = String::from_utf8(text.to_vec()).expect("a reason is text");
    assert_eq!(u16::from_be_bytes(*bytes), code, "{text}");
    text
}

/// Says whether an error means that nothing came in time.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// What does not come within this time never comes.
const PATIENCE: Duration = Duration::from_secs(5);

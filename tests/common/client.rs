//! A raw client: it sends what it is told to, in the pieces it is told to, and says how the
//! connection ended.

// Each test takes what it needs.
#![allow(dead_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::{Domain, SockRef, Socket, Type};

use super::frame;

/// One connection.
pub struct Client {
    pub stream: TcpStream,
    /// What was read and not yet asked for.
    rest: Vec<u8>,
}

/// An HTTP response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

/// A frame from the server.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    pub first: u8,
    pub payload: Vec<u8>,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

impl Client {
    pub fn connect(address: SocketAddr) -> Client {
        Client::new(TcpStream::connect(address).expect("the server accepts"))
    }

    /// Connects with a receive buffer as small as the kernel allows, for a peer that will not read.
    pub fn connect_narrow(address: SocketAddr) -> Client {
        let socket =
            Socket::new(Domain::for_address(address), Type::STREAM, None).expect("a socket");
        socket.set_recv_buffer_size(4096).expect("the buffer can be small");
        socket.connect(&address.into()).expect("the server accepts");
        Client::new(socket.into())
    }

    fn new(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("it is TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("it is a socket");
        Client { stream, rest: Vec::new() }
    }

    /// Connects and upgrades.
    #[track_caller]
    pub fn upgraded(address: SocketAddr, path: &str) -> Client {
        let mut client = Client::connect(address);
        client.upgrade(path);
        client
    }

    /// Upgrades, and checks the answer as RFC 6455, 4.1 has it.
    #[track_caller]
    pub fn upgrade(&mut self, path: &str) {
        self.send(upgrade_request(path, ""));
        self.read_upgrade();
    }

    /// Reads the answer to [`upgrade_request`].
    #[track_caller]
    pub fn read_upgrade(&mut self) -> Response {
        let response = self.read_response();
        assert_eq!(response.status, 101, "{response:?}");
        assert_eq!(response.header("upgrade"), Some("websocket"));
        assert_eq!(response.header("connection"), Some("Upgrade"));
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT));
        assert_eq!(response.header("sec-websocket-extensions"), None, "none is spoken");
        response
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes it");
    }

    /// Sends to a server that may have ended the connection.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
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
        self.stream.set_read_timeout(Some(span)).expect("it is a socket");
        let read = self.read_more();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        let error = read.expect_err("nothing should come");
        assert!(is_timeout(&error), "{error}");
    }

    /// Sends something to a server whose FIN came before, and says whether a reset answers it.
    pub fn is_reset_by(&mut self, bytes: &str) -> bool {
        let sent = self.try_send(bytes);
        thread::sleep(Duration::from_millis(20));
        sent.is_err() || self.try_send("?").is_err()
    }

    /// Sends a GET and reads the answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> Response {
        self.send(get_request(path, ""));
        self.read_response()
    }

    /// Sends a GET to a server that may end the connection, and gives the status if one comes.
    pub fn try_get(&mut self, path: &str) -> Option<u16> {
        self.try_send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).ok()?;
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n") && self.stream.read(&mut byte).is_ok_and(|len| len > 0) {
            head.push(byte[0]);
        }
        String::from_utf8(head).ok()?.split(' ').nth(1)?.parse().ok()
    }

    /// Reads a response and its body.
    #[track_caller]
    pub fn read_response(&mut self) -> Response {
        let mut response = self.read_head();
        if let Some(length) = response.header("content-length") {
            let length = length.parse().expect("a length is a number");
            response.body = self.read_exact(length);
        }
        response
    }

    /// Reads a response that has no body, whatever its length says: the answer to HEAD.
    #[track_caller]
    pub fn read_head(&mut self) -> Response {
        let end = loop {
            match self.rest.windows(4).position(|four| four == b"\r\n\r\n") {
                Some(at) => break at + 4,
                None => self.read_some(),
            }
        };
        let head = String::from_utf8(self.read_exact(end)).expect("a head is text");
        let status = head.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        Response { status: status.expect("a status line comes first"), head, body: Vec::new() }
    }

    /// Reads a frame. The server's are never masked and bear no reserved bits.
    #[track_caller]
    pub fn read_frame(&mut self) -> Frame {
        let start = self.read_exact(2);
        assert_eq!(start[0] & 0x70, 0, "reserved bits");
        let length = match start[1] {
            126 => u16::from_be_bytes(self.read_exact(2).try_into().expect("two bytes")).into(),
            127 => u64::from_be_bytes(self.read_exact(8).try_into().expect("eight bytes")),
            length => u64::from(length),
        };
        assert!(start[1] < 128, "the server's frames are not masked");
        Frame { first: start[0], payload: self.read_exact(length as usize) }
    }

    /// Sends a frame and asserts that it comes back.
    #[track_caller]
    pub fn assert_echo(&mut self, first: u8, payload: &[u8]) {
        self.send(frame::frame(first, payload));
        assert_eq!(self.read_frame(), Frame { first, payload: payload.into() });
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
        self.send(frame::close(code, ""));
        assert_eq!(self.read_to_end(), (Vec::new(), End::Fin));
    }

    /// Asserts that a close frame with this code comes next.
    #[track_caller]
    pub fn read_close(&mut self, code: u16) {
        let frame = self.read_frame();
        assert_eq!(frame.first, frame::CLOSE, "{frame:?}");
        assert_eq!(u16::from_be_bytes([frame.payload[0], frame.payload[1]]), code);
    }

    /// Asserts that a refusal with this status comes next, then FIN, and hangs up.
    #[track_caller]
    pub fn assert_refused(mut self, status: u16) -> Response {
        let response = self.read_response();
        assert_eq!(response.status, status, "{response:?}");
        let options = response.header("connection").unwrap_or_default();
        assert!(options.split(", ").any(|option| option == "close"), "{response:?}");
        assert_eq!(self.read_to_end(), (Vec::new(), End::Fin));
        response
    }

    /// Reads to the end of the connection.
    #[track_caller]
    pub fn read_to_end(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.read_more() {
                Ok(0) => break End::Fin,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => break End::Reset,
                Err(error) => panic!("no end came: {error}"),
            }
        };
        (std::mem::take(&mut self.rest), end)
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

    #[track_caller]
    pub fn read_exact(&mut self, length: usize) -> Vec<u8> {
        while self.rest.len() < length {
            self.read_some();
        }
        let rest = self.rest.split_off(length);
        std::mem::replace(&mut self.rest, rest)
    }

    #[track_caller]
    fn read_some(&mut self) {
        match self.read_more() {
            Ok(0) => panic!("FIN, after {:?}", String::from_utf8_lossy(&self.rest)),
            Ok(_) => {}
            Err(error) => panic!("{error}, after {:?}", String::from_utf8_lossy(&self.rest)),
        }
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let length = self.stream.read(&mut buffer)?;
        self.rest.extend_from_slice(&buffer[..length]);
        Ok(length)
    }
}

impl Response {
    /// Gives the value of a header; of several lines the last one.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value).last()
    }

    pub fn has_line(&self, line: &str) -> bool {
        self.head.lines().any(|own| own.eq_ignore_ascii_case(line))
    }

    pub fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("the body is text")
    }
}

/// Gives a GET; `lines` are further header lines, each with its CRLF.
pub fn get_request(path: &str, lines: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n")
}

/// Gives a request for a WebSocket; `lines` are further header lines, each with its CRLF.
pub fn upgrade_request(path: &str, lines: &str) -> String {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n";
    get_request(path, &format!("{upgrade}Sec-WebSocket-Key: {KEY}\r\n{lines}"))
}

/// Says whether an error means that nothing came in time.
pub fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

/// The example of RFC 6455, 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// What does not come within this time never comes.
const PATIENCE: Duration = Duration::from_secs(5);

//! Clients of topics: requests, event streams and `/ws`, and a server that has all of these routes.

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::time::Duration;

use heartwheel::{Server, app};

use super::chunked::Unchunker;
use super::client::{Client, Seen};
use super::frame;
use super::http::{Answer, get_request, header};
use super::server::TestServer;
use super::timing::PATIENCE;

/// Starts a server with the program's routes.
pub fn start(pairs: &[(&str, &str)]) -> TestServer {
    TestServer::serve(pairs, app::routes(Server::builder()))
}

/// Sends a request on a connection of its own; `lines` are further header lines, each with its end.
#[track_caller]
pub fn request(address: SocketAddr, line: &str, lines: &str, body: &[u8]) -> Answer {
    let mut peer = Client::connect(address);
    let head = format!("{line} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
    peer.send([head.as_bytes(), body].concat());
    peer.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut bytes = Vec::new();
    peer.stream.read_to_end(&mut bytes).expect("the answer comes");
    let (answer, end) = Answer::read(&bytes).expect("a whole head");
    Answer { body: bytes[end..].to_vec(), ..answer }
}

/// Sends a GET.
#[track_caller]
pub fn fetch(address: SocketAddr, target: &str) -> Answer {
    request(address, &format!("GET {target}"), "", b"")
}

/// Gives the text of a body in chunks, which must be whole.
#[track_caller]
pub fn dechunk(body: &[u8]) -> String {
    let mut chunks = Unchunker::default();
    let content = chunks.take(body);
    assert!(chunks.is_over(), "the last chunk has come");
    String::from_utf8(content).expect("it is text")
}

/// Publishes over HTTP, whatever the answer.
#[track_caller]
pub fn post(address: SocketAddr, topic: &str, content_type: &str, body: &[u8]) -> Answer {
    let lines = format!("Content-Type: {content_type}\r\nContent-Length: {}\r\n", body.len());
    request(address, &format!("POST /topics/{topic}"), &lines, body)
}

/// Publishes text, and gives the event's id.
#[track_caller]
pub fn publish(address: SocketAddr, topic: &str, text: &str) -> String {
    published(&post(address, topic, "text/plain", text.as_bytes()))
}

/// Publishes bytes, and gives the event's id.
#[track_caller]
pub fn publish_bytes(address: SocketAddr, topic: &str, bytes: &[u8]) -> String {
    published(&post(address, topic, "application/octet-stream", bytes))
}

#[track_caller]
fn published(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{answer:?}");
    member(answer.text(), "id").to_owned()
}

/// A publisher that keeps its connection.
pub struct Publisher {
    peer: Client,
    topic: String,
}

impl Publisher {
    pub fn connect(address: SocketAddr, topic: &str) -> Publisher {
        Publisher { peer: Client::connect(address), topic: topic.to_owned() }
    }

    /// Publishes text, and gives the event's id.
    #[track_caller]
    pub fn publish(&mut self, text: &str) -> String {
        let (topic, len) = (&self.topic, text.len());
        let head = format!("POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\n");
        self.peer.send(format!("{head}Content-Length: {len}\r\n\r\n{text}"));
        published(&self.peer.read_answer())
    }
}

/// Gives a member of a JSON object that is a string without escapes.
#[track_caller]
pub fn member<'a>(json: &'a str, name: &str) -> &'a str {
    find_member(json, name).unwrap_or_else(|| panic!("{name} in {json}"))
}

pub fn find_member<'a>(json: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = json.split_once(&format!("\"{name}\":\""))?;
    rest.split('"').next()
}

/// A client of an event stream, which gives it piece by piece.
#[derive(Debug)]
pub struct Stream {
    pub peer: Client,
    pub head: String,
    received: Vec<u8>,
    chunks: Option<Unchunker>,
}

impl Stream {
    #[track_caller]
    pub fn open(address: SocketAddr, target: &str) -> Stream {
        Stream::open_after(address, target, None)
    }

    /// Opens a stream after the event that the header names.
    #[track_caller]
    pub fn open_after(address: SocketAddr, target: &str, last: Option<&str>) -> Stream {
        Stream::over(Client::connect(address), target, last)
    }

    #[track_caller]
    pub fn over(mut peer: Client, target: &str, last: Option<&str>) -> Stream {
        let last = last.map(|last| format!("Last-Event-ID: {last}\r\n")).unwrap_or_default();
        peer.send(get_request(target, &format!("Accept: text/event-stream\r\n{last}")));
        let mut stream = Stream { peer, head: String::new(), received: Vec::new(), chunks: None };
        stream.head = stream.take("\r\n\r\n", PATIENCE).expect("a head");
        assert!(stream.head.starts_with("HTTP/1.1 200 "), "{}", stream.head);
        if header(&stream.head, "Transfer-Encoding") == Some("chunked") {
            let received = std::mem::take(&mut stream.received);
            stream.received = stream.chunks.insert(Unchunker::default()).take(&received);
        }
        stream
    }

    /// Takes over a peer that has had its head.
    pub fn continued(peer: Client) -> Stream {
        let mut stream = Stream { peer, head: String::new(), received: Vec::new(), chunks: None };
        let received = stream.peer.take_received();
        stream.received = stream.chunks.insert(Unchunker::default()).take(&received);
        stream
    }

    /// Gives the next piece without the empty line that ends it.
    #[track_caller]
    pub fn piece(&mut self) -> String {
        self.try_piece().expect("the stream goes on")
    }

    /// Gives the next piece; none if the stream ends, or if there is none for [`PATIENCE`].
    pub fn try_piece(&mut self) -> Option<String> {
        self.take("\n\n", PATIENCE)
    }

    /// Gives the next piece; none if the stream ends, or if nothing comes for as long.
    pub fn piece_within(&mut self, span: Duration) -> Option<String> {
        self.take("\n\n", span)
    }

    /// Gives the position in the first piece.
    #[track_caller]
    pub fn position(&mut self) -> String {
        let piece = self.piece();
        let id = piece.strip_prefix("id: ").filter(|id| !id.contains('\n'));
        id.unwrap_or_else(|| panic!("a position comes first: {piece:?}")).to_owned()
    }

    /// Asserts that text comes next under this id.
    #[track_caller]
    pub fn expect(&mut self, id: &str, text: &str) {
        assert_eq!(self.piece(), format!("id: {id}\ndata: {text}"));
    }

    /// Asserts that the server ends the stream, and its side, with nothing before it.
    #[track_caller]
    pub fn expect_fin(&mut self) {
        if self.chunks.is_some() {
            assert_eq!(self.try_piece(), None);
            assert!(self.is_ended(), "the last chunk comes before FIN");
        }
        assert!(self.received.is_empty(), "{:?}", String::from_utf8_lossy(&self.received));
        self.peer.expect_fin();
    }

    /// Says whether the last chunk has come.
    pub fn is_ended(&self) -> bool {
        self.chunks.as_ref().is_some_and(Unchunker::is_over)
    }

    fn take(&mut self, end: &str, span: Duration) -> Option<String> {
        self.peer.stream.set_read_timeout(Some(span)).unwrap();
        let mut from = 0;
        loop {
            let found = self.received[from..].windows(end.len()).position(|w| w == end.as_bytes());
            if let Some(at) = found.map(|at| at + from) {
                let rest = self.received.split_off(at + end.len());
                let mut piece = std::mem::replace(&mut self.received, rest);
                piece.truncate(at);
                return Some(String::from_utf8(piece).expect("a stream is UTF-8"));
            }
            if self.is_ended() {
                return None;
            }
            from = self.received.len().saturating_sub(end.len());
            let mut buffer = [0; 64 * 1024];
            match self.peer.stream.read(&mut buffer) {
                Ok(len @ 1..) => match &mut self.chunks {
                    Some(chunks) => self.received.extend(chunks.take(&buffer[..len])),
                    None => self.received.extend_from_slice(&buffer[..len]),
                },
                // A process that was stopped and goes on.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                _ => return None,
            }
        }
    }
}

/// A client of `/ws`.
pub struct Hub {
    pub peer: Client,
}

impl Hub {
    /// Opens it; the hello is taken.
    #[track_caller]
    pub fn open(address: SocketAddr) -> Hub {
        Hub::over(Client::connect(address))
    }

    #[track_caller]
    pub fn over(mut peer: Client) -> Hub {
        peer.upgrade("/ws");
        let mut hub = Hub { peer };
        let hello = hub.hear();
        assert!(hello.starts_with(r#"{"op":"hello","#), "{hello}");
        hub
    }

    #[track_caller]
    pub fn say(&mut self, message: &str) {
        self.peer.text(message);
    }

    #[track_caller]
    pub fn hear(&mut self) -> String {
        self.peer.message()
    }

    /// Gives the next message; none if nothing comes for as long. Pings are answered.
    #[track_caller]
    pub fn hear_within(&mut self, span: Duration) -> Option<String> {
        loop {
            match self.peer.see_within(span) {
                Seen::Frame(frame::TEXT, payload) => {
                    return Some(String::from_utf8(payload).unwrap());
                }
                Seen::Frame(frame::PING, payload) => self.peer.pong(&payload),
                Seen::Nothing => return None,
                other => panic!("a message was expected: {other:?}"),
            }
        }
    }

    #[track_caller]
    pub fn expect(&mut self, message: &str) {
        assert_eq!(self.hear(), message);
    }

    /// Subscribes to what comes from now on, and gives the position.
    #[track_caller]
    pub fn subscribe(&mut self, topic: &str) -> String {
        self.say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
        let subscribed = self.hear();
        let last = member(&subscribed, "last");
        assert_eq!(subscribed, subscribed_message(topic, last));
        last.to_owned()
    }

    #[track_caller]
    pub fn subscribe_after(&mut self, topic: &str, after: &str) {
        self.say(&format!(r#"{{"op":"subscribe","topic":"{topic}","after":"{after}"}}"#));
    }
}

pub fn subscribed_message(topic: &str, last: &str) -> String {
    format!(r#"{{"op":"subscribed","topic":"{topic}","last":"{last}"}}"#)
}

/// Gives the message of a text event; the text is without escapes.
pub fn event_message(topic: &str, id: &str, text: &str) -> String {
    format!(r#"{{"op":"event","topic":"{topic}","id":"{id}","data":"{text}"}}"#)
}

//! One connection that lets one deadline pass, and how late it saw the server act.
//!
//! Where a deadline runs from something that we send, it is counted from before our write. Where it
//! runs from something that the server sends, lateness is counted from when we saw that, and
//! whether it acted early from the last moment of ours before it: what we see is already past.
//!
//! `close_ack` is the wait for a client's FIN behind the server's own: it ends in a reset.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

use super::common::frame::{self, frame};
use super::connection::{begin_to_connect, is_later};
use super::reader::{Framing, Piece, Reader};

/// A deadline that can be seen from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Handshake,
    Body,
    KeepAlive,
    ReadIdle,
    Message,
    CloseAck,
    Comment,
    Ping,
    Pong,
    Lifetime,
}

/// What was seen of one.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Nanoseconds behind its time, by the best estimate.
    pub late: i64,
    /// Nanoseconds behind the earliest moment that is right. Below 0 it was early.
    pub margin: i64,
}

/// What came of what a connection read.
pub enum Seen {
    /// Nothing to tell yet.
    Nothing,
    /// It acted, and will again.
    Acted(Sample),
    /// It acted, or the connection ended otherwise: it is of no more use.
    Over(Option<Sample>),
}

pub struct Watcher {
    pub stream: TcpStream,
    pub kind: Kind,
    unsent: Vec<u8>,
    reader: Reader,
    /// The head of the answer, as far as it has come; `None` behind it.
    head: Option<Vec<u8>>,
    /// The deadline does not run from before this.
    sent_at: Instant,
    /// The deadline runs from about this.
    from: Option<Instant>,
    pings: u32,
    /// The server has ended its side.
    has_fin: bool,
}

/// How far the end of a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    None,
    /// There is something left to read, and then its end.
    Fin,
    Reset,
}

impl Watcher {
    /// Begins one.
    pub fn begin(kind: Kind, address: SocketAddr) -> io::Result<Watcher> {
        let sent_at = Instant::now();
        Ok(Watcher {
            stream: begin_to_connect(address, None)?,
            kind,
            unsent: kind.opening().into(),
            reader: Reader::new(Framing::WebSocket),
            head: Some(Vec::new()),
            sent_at,
            from: Some(sent_at),
            pings: 0,
            has_fin: false,
        })
    }

    /// Sends what waits and reads what has come. What `ending` is, the poller says.
    pub fn go_on(&mut self, ending: Ending) -> Seen {
        let mut buffer = [0; 4096];
        if self.has_fin && ending == Ending::Reset {
            return Seen::Over(Some(self.sample(Instant::now())));
        }
        // What cannot be sent is told by the next read.
        let _ = self.flush();
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) if self.kind == Kind::CloseAck && self.head.is_none() => {
                    // Now it waits for our end, which does not come.
                    self.from.get_or_insert_with(Instant::now);
                    self.has_fin = true;
                    return Seen::Nothing;
                }
                Ok(0) => return self.end(),
                Ok(length) => {
                    let seen = self.read(&buffer[..length]);
                    let _ = self.flush();
                    if !matches!(seen, Seen::Nothing)
                        || (length < buffer.len() && ending == Ending::None)
                    {
                        return seen;
                    }
                }
                Err(error) if is_later(&error) => return Seen::Nothing,
                Err(_) => return self.end(),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            let sent = self.stream.write(&self.unsent)?;
            self.unsent.drain(..sent);
        }
        Ok(())
    }

    fn read(&mut self, mut bytes: &[u8]) -> Seen {
        let now = Instant::now();
        if let Some(head) = &mut self.head {
            head.extend_from_slice(bytes);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else {
                return Seen::Nothing;
            };
            let behind = head.split_off(end + 4);
            let is_late = head.starts_with(b"HTTP/1.1 408 ");
            self.head = None;
            match self.kind {
                Kind::Handshake | Kind::Body => {
                    return Seen::Over(is_late.then(|| self.sample(now)));
                }
                // The next request has as long as this answer was written.
                Kind::KeepAlive => self.from = Some(now),
                Kind::Comment => self.from = None,
                _ => self.upgraded(now),
            }
            return if behind.is_empty() { Seen::Nothing } else { self.read(&behind) };
        }
        match self.kind {
            Kind::Handshake | Kind::Body | Kind::KeepAlive => Seen::Nothing,
            Kind::Comment => self.read_comment(bytes, now),
            _ => loop {
                match self.reader.next(&mut bytes) {
                    Ok(None) => return Seen::Nothing,
                    Ok(Some(piece)) => match self.read_piece(&piece, now) {
                        Seen::Nothing => {}
                        seen => return seen,
                    },
                    Err(_) => return Seen::Over(None),
                }
            },
        }
    }

    fn upgraded(&mut self, now: Instant) {
        let first_bytes = match self.kind {
            Kind::ReadIdle => frame(frame::TEXT, b"the last word"),
            // The first byte of a message, and not all of it.
            Kind::Message => frame(frame::TEXT, b"the first word")[..9].to_vec(),
            Kind::CloseAck => frame::close(1000, ""),
            Kind::Ping | Kind::Pong => return self.from = None,
            _ => return,
        };
        self.unsent = first_bytes;
        self.sent_at = now;
        self.from = Some(now).filter(|_| self.kind != Kind::CloseAck);
    }

    fn read_piece(&mut self, piece: &Piece, now: Instant) -> Seen {
        let is_timeout = |code: &u16| *code == 3008;
        match (self.kind, piece) {
            (Kind::Ping, Piece::Ping(payload)) => {
                let sample = self.from.map(|_| self.sample(now));
                self.answer(payload);
                sample.map_or(Seen::Nothing, Seen::Acted)
            }
            (Kind::Pong, Piece::Ping(payload)) => {
                self.pings += 1;
                match self.pings {
                    // The next one is due an interval after our answer, and not before.
                    1 => self.answer(payload),
                    _ => {
                        self.sent_at += Kind::Ping.span() - Kind::Ping.grain();
                        self.from = Some(now);
                    }
                }
                Seen::Nothing
            }
            (_, Piece::Ping(payload)) => {
                self.unsent.extend(frame(frame::PONG, payload));
                Seen::Nothing
            }
            (Kind::ReadIdle | Kind::Message | Kind::Pong, Piece::Close(code)) => {
                Seen::Over(is_timeout(code).then(|| self.sample(now)))
            }
            (Kind::Lifetime, Piece::Close(code)) => {
                Seen::Over((*code == 1001).then(|| self.sample(now)))
            }
            (Kind::CloseAck, Piece::Close(_)) => Seen::Nothing,
            (_, Piece::Close(_)) => Seen::Over(None),
            (_, Piece::Part { .. } | Piece::Pong) => Seen::Nothing,
        }
    }

    fn answer(&mut self, payload: &[u8]) {
        let now = Instant::now();
        self.sent_at = now;
        self.from = Some(now);
        self.unsent.extend(frame(frame::PONG, payload));
    }

    /// Comments are lines of a colon; before the first there is a position. The stream is silent
    /// from one to the next, and the first cannot come before its time after the request.
    fn read_comment(&mut self, bytes: &[u8], now: Instant) -> Seen {
        // Each comes in a chunk of its own, behind the line with its size.
        let size_end = bytes.windows(2).position(|two| two == b"\r\n").map_or(0, |at| at + 2);
        if !bytes[size_end..].starts_with(b":") {
            self.from = Some(now);
            return Seen::Nothing;
        }
        let sample = self.sample(now);
        self.sent_at += self.kind.span();
        self.from = Some(now);
        Seen::Acted(sample)
    }

    fn end(&mut self) -> Seen {
        let is_it = self.kind == Kind::KeepAlive && self.head.is_none();
        Seen::Over(is_it.then(|| self.sample(Instant::now())))
    }

    fn sample(&self, now: Instant) -> Sample {
        let span = self.kind.span();
        Sample {
            late: difference(now, self.from.unwrap_or(self.sent_at) + span),
            margin: difference(now, self.sent_at + span - self.kind.grain()),
        }
    }
}

impl Kind {
    pub const EACH: [Kind; 10] = [
        Kind::Handshake,
        Kind::Body,
        Kind::KeepAlive,
        Kind::ReadIdle,
        Kind::Message,
        Kind::CloseAck,
        Kind::Comment,
        Kind::Ping,
        Kind::Pong,
        Kind::Lifetime,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Handshake => "handshake",
            Kind::Body => "body",
            Kind::KeepAlive => "keep_alive",
            Kind::ReadIdle => "read_idle",
            Kind::Message => "message",
            Kind::CloseAck => "close_ack",
            Kind::Comment => "comment",
            Kind::Ping => "ping",
            Kind::Pong => "pong",
            Kind::Lifetime => "lifetime",
        }
    }

    /// How long it is, here.
    pub fn span(self) -> Duration {
        Duration::from_millis(match self {
            Kind::Pong => 500,
            Kind::Message | Kind::Ping => 1000,
            Kind::ReadIdle => 1500,
            Kind::Lifetime => 3000,
            _ => 1000,
        })
    }

    /// Spans that are drawn are drawn in whole milliseconds, and counted from a moment cut to whole
    /// milliseconds: so much earlier is right.
    fn grain(self) -> Duration {
        Duration::from_millis(matches!(self, Kind::Ping | Kind::Lifetime).into())
    }

    /// Says whether it takes a server that sends pings: there `read_idle` never acts.
    pub fn takes_pings(self) -> bool {
        matches!(self, Kind::Ping | Kind::Pong | Kind::Lifetime)
    }

    /// Gives the setting that makes it this long.
    pub fn setting(self) -> String {
        let section = match self {
            Kind::Ping => "heartbeat.interval",
            Kind::Pong => "heartbeat.pong",
            Kind::Comment => "heartbeat.comment",
            other => &format!("deadlines.{}", other.name()),
        };
        format!("{section}={}ms", self.span().as_millis())
    }

    fn opening(self) -> &'static [u8] {
        match self {
            Kind::Handshake => b"GET / HTTP/1.1\r\nHost: localhost\r\n",
            Kind::Body => {
                b"POST /topics/late HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhal"
            }
            Kind::KeepAlive => b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
            Kind::Comment => {
                b"GET /topics/quiet HTTP/1.1\r\nHost: localhost\r\n\
                  Accept: text/event-stream\r\n\r\n"
            }
            _ => {
                b"GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
                  Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
            }
        }
    }
}

/// Gives the nanoseconds from `then` to `now`, negative if `then` is later.
fn difference(now: Instant, then: Instant) -> i64 {
    match now.checked_duration_since(then) {
        Some(span) => span.as_nanos() as i64,
        None => -((then - now).as_nanos() as i64),
    }
}

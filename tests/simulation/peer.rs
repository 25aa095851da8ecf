//! The other ends of the connections: honest ones, each a real WebSocket client, and those that
//! follow a script. With the feature `client` every second honest one is a client of ours.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::rc::Rc;

#[cfg(feature = "client")]
use heartwheel::core::client::{State, Told, Why};
use heartwheel::core::contract::route::Face;
use heartwheel::{ConnectionId, Message};
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::{CloseFrame, Role, WebSocket, WebSocketConfig};

use crate::client_end::{self, ClientEnd};
use crate::common::http;
use crate::common::rng::Rng;
use crate::ledger::Ledger;
use crate::link::Link;
#[cfg(feature = "client")]
use crate::ours::Ours;
use crate::plan::pick;
use crate::script;
use crate::scripted::Scripted;
use crate::sealed::Sealing;
use crate::settings::{MESSAGE_BYTES_MAX, WEBSOCKETS};
use crate::topical::Form;
use crate::window::{self, Window};
use crate::witness::Witness;

/// One peer, and what is known of its connection from outside.
pub struct Peer {
    pub starts_at: u64,
    pub link: Rc<RefCell<Link>>,
    /// What its transport keeps, if that seals its bytes.
    pub sealing: Option<Sealing>,
    pub kind: Kind,
    pub id: Option<ConnectionId>,
    pub accepted_at: u64,
    pub face: Face,
    /// It comes over a Unix socket.
    pub is_unix: bool,
    /// Turned away at accept.
    pub was_rejected: bool,
    pub witness: Witness,
    /// What the application may see, in this order.
    pub sent: Vec<Message>,
    pub seen: Seen,
}

pub enum Kind {
    Honest(Box<Honest>),
    Scripted(Box<Scripted>),
}

/// Moments and numbers that a watcher of the socket can know.
#[derive(Debug, Default)]
pub struct Seen {
    pub upgraded_at: u64,
    pub ping_at: Option<u64>,
    /// It may have waited for room, and the next goes by when it was due.
    pub ping_waited: bool,
    /// Since the last byte was read.
    pub pings: u32,
    pub close_at: Option<u64>,
    pub silent_ms_at_close: u64,
    pub pings_at_close: u32,
    pub ping_age_at_close: u64,
    pub refused_at: Option<u64>,
    /// When the connection's slot was given back, under which label, and whether with a reset.
    pub ended: Option<(u64, String, bool)>,
    /// The close code that its end was logged with.
    pub code: u16,
    /// Bytes that had been read when the last ping went.
    pub read_at_ping: u64,
    pub unread_at_close: usize,
    /// Bytes that were there when a deadline had last judged the peer.
    pub unread_when_judged: usize,
    /// Of the last answer.
    pub status: u16,
}

/// A peer that keeps to the rules.
pub struct Honest {
    stage: Stage,
    starts_at: u64,
    request: VecDeque<u8>,
    head: Vec<u8>,
    next_at: u64,
    pause_ms_max: u64,
    pub received: u64,
    /// Echoes of its own messages.
    pub echoes: usize,
    /// Echoes that it is to have before it says goodbye.
    pub expects: usize,
    pub close_seen: Option<u16>,
    pub wants_close: bool,
    pub may_close: bool,
    closes: bool,
    pub answered: Option<u16>,
}

/// For how long it asks in pieces.
const PIECES_MS: u64 = 400;

/// What a client of ours calls a connection that was reset.
#[cfg(feature = "client")]
const RESET: &str = "connection reset";

enum Stage {
    Asking,
    Open(Box<WebSocket<ClientEnd>>),
    #[cfg(feature = "client")]
    Ours(Box<Ours>),
    Over,
}

/// What an honest peer has in mind.
enum Deed {
    Close,
    Send(Message),
}

impl Honest {
    pub fn draw(rng: &mut Rng, starts_at: u64) -> Honest {
        let path = pick(rng, &WEBSOCKETS);
        let stage = Stage::Asking;
        // No draw of its own: what a seed stands for stays as it is.
        #[cfg(feature = "client")]
        let stage = match starts_at % 2 {
            0 => Stage::Ours(Box::new(Ours::new(path, starts_at, starts_at))),
            _ => stage,
        };
        Honest {
            stage,
            starts_at,
            request: http::upgrade_request(path, client_end::offer(starts_at)).into_bytes().into(),
            head: Vec::new(),
            next_at: starts_at,
            pause_ms_max: pick(rng, &[30, 500, 3000]),
            received: 0,
            echoes: 0,
            expects: 0,
            close_seen: None,
            wants_close: false,
            may_close: rng.chance(20),
            closes: false,
            answered: None,
        }
    }

    /// Says whether it has begun to close.
    pub fn closes(&self) -> bool {
        self.closes
    }

    /// Says whether it tells all that it gets. A client of ours that was stopped does not.
    pub fn tells_all(&self) -> bool {
        #[cfg(feature = "client")]
        if let Stage::Ours(_) = self.stage {
            return !self.closes;
        }
        true
    }

    /// Decides what to do next, if it is time.
    fn decide(&mut self, now: u64, sent: &mut Vec<Message>, rng: &mut Rng) -> Option<Deed> {
        if self.next_at > now || self.closes || self.close_seen.is_some() {
            return None;
        }
        self.next_at = now + 1 + rng.below(self.pause_ms_max);
        if self.wants_close || (self.may_close && rng.chance(3)) {
            self.closes = true;
            return Some(Deed::Close);
        }
        if sent.len() >= self.echoes + 8 {
            return None;
        }
        let most = pick(rng, &[20, 20, 300, 3000, MESSAGE_BYTES_MAX - 10]);
        let len = rng.below(most) as usize;
        let message = script::message(rng, sent.len() as u64, len);
        sent.push(message.clone());
        Some(Deed::Send(message))
    }

    /// Takes a message, which is an echo or was pushed.
    fn hear(&mut self, sent: &[Message], message: &Message) {
        self.received += 1;
        let is_own = |mark: &[u8]| message.as_bytes().starts_with(mark);
        if !is_own(b"push") && !is_own(b"event") {
            assert_eq!(sent.get(self.echoes), Some(message), "an echo is out of order");
            self.echoes += 1;
        }
    }

    fn act(&mut self, now: u64, link: &Rc<RefCell<Link>>, sent: &mut Vec<Message>, rng: &mut Rng) {
        if let Stage::Asking = self.stage {
            self.ask(now, link, rng);
        }
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Open(mut socket) => {
                match self.decide(now, sent, rng) {
                    Some(Deed::Close) => {
                        let code = 1000u16.into();
                        let _ = socket.close(Some(CloseFrame { code, reason: "".into() }));
                    }
                    Some(Deed::Send(message)) => {
                        let _ = socket.write(written(message, socket.get_ref().compresses()));
                    }
                    None => {}
                }
                let _ = socket.flush();
                match self.read_all(&mut socket, sent) {
                    true => link.borrow_mut().client_close(),
                    false => self.stage = Stage::Open(socket),
                }
            }
            #[cfg(feature = "client")]
            Stage::Ours(ours) => self.act_as_ours(now, ours, link, sent, rng),
            stage => self.stage = stage,
        }
        if matches!(self.stage, Stage::Asking | Stage::Over) {
            let sees_end = {
                let link = link.borrow();
                link.client_sees_end || link.client_sees_reset
            };
            if sees_end && link.borrow().arrived.is_empty() {
                self.stage = Stage::Over;
                link.borrow_mut().client_close();
            }
        }
    }

    #[cfg(feature = "client")]
    fn act_as_ours(
        &mut self,
        now: u64,
        mut ours: Box<Ours>,
        link: &Rc<RefCell<Link>>,
        sent: &mut Vec<Message>,
        rng: &mut Rng,
    ) {
        let deed = ours.is_open().then(|| self.decide(now, sent, rng)).flatten();
        match deed {
            Some(Deed::Close) => ours.stop(now),
            Some(Deed::Send(message)) => ours.send(now, message),
            None => {}
        }
        for told in ours.act(now, &mut link.borrow_mut()) {
            match told {
                Told::Message(message) => self.hear(sent, &message),
                Told::State { state: State::Open, .. } => {
                    self.answered = Some(101);
                    self.next_at = now;
                }
                Told::State { why: Some(Why::Status { status, .. }), .. } => {
                    self.answered = Some(status);
                }
                Told::State { why: Some(Why::Closed { code, .. }), .. } => {
                    self.close_seen = Some(code);
                }
                // The network broke the connection before the answer was there.
                Told::State { why: Some(Why::Answer(error)), .. } if error == RESET => {}
                Told::State { why: Some(why @ (Why::Violation(_) | Why::Answer(_))), .. } => {
                    panic!("the client does not understand the server: {why}")
                }
                _ => {}
            }
        }
        self.stage = Stage::Ours(ours);
    }

    fn ask(&mut self, now: u64, link: &Rc<RefCell<Link>>, rng: &mut Rng) {
        if self.next_at <= now && !self.request.is_empty() {
            // However late the turns are, it has asked in time.
            let is_late = now > self.starts_at + PIECES_MS;
            let most = self.request.len() as u64;
            let len = if is_late { most } else { 1 + rng.below(most) } as usize;
            let piece: Vec<u8> = self.request.drain(..len).collect();
            let _ = Write::write(&mut *link.borrow_mut(), &piece);
            self.next_at = now + rng.below(40);
        }
        if link.borrow().arrived.is_empty() {
            return;
        }
        let mut bytes = [0; 4096];
        while let Ok(len @ 1..) = Read::read(&mut *link.borrow_mut(), &mut bytes) {
            self.head.extend_from_slice(&bytes[..len]);
        }
        let Some(end) = self.head.windows(4).position(|window| window == b"\r\n\r\n") else {
            return;
        };
        let status = std::str::from_utf8(&self.head[9..12]).ok().and_then(|s| s.parse().ok());
        self.answered = status;
        if status == Some(101) {
            let rest = self.head.split_off(end + 4);
            let window = Window::agreed(std::str::from_utf8(&self.head).expect("a head is text"));
            let end = ClientEnd::new(link.clone(), window, rest);
            let config = WebSocketConfig::default().read_buffer_size(4096);
            let socket = WebSocket::from_raw_socket(end, Role::Client, Some(config));
            self.stage = Stage::Open(Box::new(socket));
        }
    }

    fn next_at(&self, sent: usize) -> Option<u64> {
        let acts = !self.closes && self.close_seen.is_none();
        // If not, the application owes it answers.
        let acts = acts && (sent < self.echoes + 8 || self.wants_close);
        match &self.stage {
            Stage::Asking => (!self.request.is_empty()).then_some(self.next_at),
            Stage::Open(_) => acts.then_some(self.next_at),
            #[cfg(feature = "client")]
            Stage::Ours(ours) => {
                let own = (acts && ours.is_open()).then_some(self.next_at);
                own.into_iter().chain(ours.next_at()).min()
            }
            Stage::Over => None,
        }
    }

    /// Reads what there is. Says whether the connection is over.
    fn read_all(&mut self, socket: &mut WebSocket<ClientEnd>, sent: &[Message]) -> bool {
        use tungstenite::error::ProtocolError::ResetWithoutClosingHandshake;
        use tungstenite::{Error, Message as Read};
        loop {
            match socket.read() {
                Ok(Read::Text(text)) => self.hear(sent, &Message::Text(text)),
                Ok(Read::Binary(bytes)) => self.hear(sent, &Message::Binary(bytes)),
                Ok(Read::Close(frame)) => {
                    self.close_seen = Some(frame.map_or(1005, |frame| frame.code.into()));
                }
                Ok(_) => {}
                Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(Error::ConnectionClosed | Error::AlreadyClosed | Error::Io(_)) => return true,
                Err(Error::Protocol(ResetWithoutClosingHandshake)) => return true,
                Err(error) => panic!("the client does not understand the server: {error}"),
            }
        }
    }
}

/// Gives a message as the client writes it. Of those that may be compressed every second one is.
fn written(message: Message, may_compress: bool) -> tungstenite::Message {
    if may_compress && message.len().is_multiple_of(2) {
        let kind = if message.as_text().is_some() { Data::Text } else { Data::Binary };
        let payload = window::compressed(message.as_bytes());
        let mut frame = Frame::message(payload, OpCode::Data(kind), true);
        frame.header_mut().rsv1 = true;
        return tungstenite::Message::Frame(frame);
    }
    match message {
        Message::Text(text) => tungstenite::Message::Text(text),
        Message::Binary(bytes) => tungstenite::Message::Binary(bytes),
    }
}

impl Peer {
    /// Acts on what has arrived and on what it has in mind.
    pub fn act(&mut self, now: u64, rng: &mut Rng, ledger: &Ledger) {
        if self.starts_at > now || self.was_rejected {
            return;
        }
        match &mut self.kind {
            Kind::Honest(honest) => honest.act(now, &self.link, &mut self.sent, rng),
            Kind::Scripted(scripted) => scripted.act(now, &mut self.link.borrow_mut(), rng, ledger),
        }
    }

    /// Gives when it wants to act, or when something happens on its link.
    pub fn next_at(&self, now: u64) -> Option<u64> {
        if self.was_rejected {
            return None;
        }
        if self.starts_at > now {
            return Some(self.starts_at);
        }
        let link = self.link.borrow();
        let own = match &self.kind {
            _ if !link.is_client_open() => None,
            Kind::Honest(honest) => honest.next_at(self.sent.len()),
            Kind::Scripted(scripted) => scripted.next_at(now),
        };
        own.into_iter().chain(link.next_at()).min()
    }

    pub fn ended_as(&self, label: &str) -> bool {
        self.seen.ended.as_ref().is_some_and(|ended| ended.1 == label)
    }

    pub fn reads(&self) -> bool {
        match &self.kind {
            Kind::Honest(_) => true,
            Kind::Scripted(scripted) => scripted.script.reads,
        }
    }

    pub fn form(&self) -> Form {
        match &self.kind {
            Kind::Honest(_) => Form::None,
            Kind::Scripted(scripted) => scripted.script.form,
        }
    }

    /// Returns whether it speaks CBOR on `/ws`.
    pub fn is_cbor(&self) -> bool {
        matches!(&self.kind, Kind::Scripted(scripted) if scripted.script.is_cbor)
    }

    pub fn name(&self) -> &'static str {
        match &self.kind {
            Kind::Honest(_) => "honest",
            Kind::Scripted(scripted) => scripted.script.name,
        }
    }
}

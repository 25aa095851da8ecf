//! Peers that do not behave: what each sends, when, and under which labels its connection may end.

use heartwheel::Message;
use heartwheel::core::contract::route::Face;

use crate::common::cbor;
use crate::common::frame::{FIN, frame_masked_by};
use crate::common::http;
use crate::common::rng::Rng;
use crate::plan::pick;
use crate::settings::WEBSOCKETS;
use crate::topical::Form;

/// One step of a script.
#[derive(Clone, Debug)]
pub enum Act {
    Send(Vec<u8>),
    /// Sends a few bytes, again and again.
    Drip {
        bytes: Vec<u8>,
        piece: usize,
        every_ms: u64,
    },
    Wait(u64),
    /// Waits until the 101 is here.
    AwaitUpgrade,
    /// Waits until this many answers are here.
    AwaitAnswers(usize),
    /// Waits for `100 Continue`.
    AwaitContinue,
    /// Sends a request in which `{id}` stands for the id of an event that somebody has seen.
    Ask(String),
    /// The same in a message of `/ws`.
    AskHub(String),
    /// Publishes on `/ws` what others publish, too: the frame, and the payload.
    Again(Vec<u8>, String),
    Fin,
    Reset,
}

/// A dishonest, or merely odd, peer.
#[derive(Clone, Debug)]
pub struct Script {
    pub name: &'static str,
    /// It connects so much later than others.
    pub comes_after_ms: u64,
    pub acts: Vec<Act>,
    pub reads: bool,
    pub pongs: bool,
    /// Answers FIN with FIN.
    pub hangs_up: bool,
    /// All messages that the application can come to see of it.
    pub messages: Vec<Message>,
    /// The bodies of all answers, in order, as long as nothing goes wrong.
    pub answers: Vec<String>,
    /// Which of the answers are to HEAD.
    pub heads: Vec<usize>,
    /// The labels under which it may end, if nothing else ended it.
    pub labels: &'static [&'static str],
    /// It stays until it is time to say goodbye.
    pub stays: bool,
    pub face: Face,
    pub form: Form,
    /// It speaks CBOR on `/ws`.
    pub is_cbor: bool,
    /// Which client it says it is; several peers may be the same.
    pub client: Option<u64>,
    /// What it subscribes to.
    pub topics: Vec<String>,
    /// It asks for what came after some position.
    pub asks: bool,
    /// What it posts: the topic and the body. For a reader of topics: the topic.
    pub posts: Vec<(String, String)>,
}

impl Script {
    /// Draws one of the kinds that take part in this run.
    pub fn draw(rng: &mut Rng, kinds: &[Draw]) -> Script {
        let mut script = Script {
            name: "",
            comes_after_ms: 0,
            acts: Vec::new(),
            reads: true,
            pongs: true,
            hangs_up: true,
            messages: Vec::new(),
            answers: Vec::new(),
            heads: Vec::new(),
            labels: &[],
            stays: false,
            face: Face::Public,
            form: Form::None,
            is_cbor: false,
            client: None,
            topics: Vec::new(),
            asks: false,
            posts: Vec::new(),
        };
        pick(rng, kinds)(&mut script, rng);
        script
    }

    pub fn is(&mut self, name: &'static str, labels: &'static [&'static str]) -> &mut Script {
        self.name = name;
        self.labels = labels;
        self
    }

    /// Has the upgrade of a subscriber offer compression, or whatever the lines say.
    pub fn offer(&mut self, lines: &str) {
        let add = |text: &str| text.replacen("\r\n\r\n", &format!("\r\n{lines}\r\n"), 1);
        let is_socket = matches!(self.form, Form::Plain | Form::Hub);
        match self.acts.first_mut() {
            Some(Act::Ask(text)) if is_socket => *text = add(text),
            Some(Act::Send(bytes)) if is_socket => {
                *bytes = add(std::str::from_utf8(bytes).expect("a head is text")).into_bytes();
            }
            _ => {}
        }
    }

    /// Makes a message of `/ws` of JSON, in the form that the peer speaks.
    pub fn hub_frame(&self, rng: &mut Rng, text: &str) -> Vec<u8> {
        match self.is_cbor {
            true => frame(rng, 2, true, &cbor::of_json(text)),
            false => frame(rng, 1, true, text.as_bytes()),
        }
    }

    pub fn send(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Script {
        self.acts.push(Act::Send(bytes.into()));
        self
    }

    pub fn wait(&mut self, ms: u64) -> &mut Script {
        self.acts.push(Act::Wait(ms));
        self
    }

    /// Upgrades, and goes on when the 101 is here.
    pub fn upgrade(&mut self, rng: &mut Rng) -> &mut Script {
        self.send(upgrade_request(pick(rng, &WEBSOCKETS)));
        self.acts.push(Act::AwaitUpgrade);
        self
    }

    /// Gives the frame of a message that the application is to see.
    pub fn message(&mut self, rng: &mut Rng, len: usize) -> Vec<u8> {
        let message = message(rng, self.messages.len() as u64, len);
        let opcode = if message.as_text().is_some() { 1 } else { 2 };
        let bytes = frame(rng, opcode, true, message.as_bytes());
        self.messages.push(message);
        bytes
    }
}

/// Writes a script of one kind.
pub type Draw = fn(&mut Script, &mut Rng);

/// Gives the upgrade request for a path.
pub fn upgrade_request(path: &str) -> Vec<u8> {
    http::upgrade_request(path, "").into_bytes()
}

/// Makes a message that bears its number, so that none can be taken for another.
pub fn message(rng: &mut Rng, number: u64, len: usize) -> Message {
    let mut text = format!("{number}:");
    let letters: String = (0..20).map(|_| pick(rng, &['a', 'z', '0', 'ü', '水'])).collect();
    text.push_str(&letters.repeat(len / letters.len()));
    if rng.chance(50) { Message::text(text) } else { Message::binary(text.into_bytes()) }
}

/// Makes a client's frame.
pub fn frame(rng: &mut Rng, opcode: u8, is_final: bool, payload: &[u8]) -> Vec<u8> {
    let first = if is_final { FIN | opcode } else { opcode };
    let mask = (rng.next_u64() as u32).to_be_bytes();
    frame_masked_by(mask, first, payload)
}

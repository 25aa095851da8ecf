//! Peers that do not behave: what each sends, when, and under which labels its connection may end.

use heartwheel::Message;

use crate::common::rng::Rng;
use crate::plan::{FRAGMENTS_MAX, GETS, WEBSOCKETS, pick};

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
    Fin,
    Reset,
}

/// A dishonest, or merely odd, peer.
#[derive(Clone, Debug)]
pub struct Script {
    pub name: &'static str,
    pub acts: Vec<Act>,
    pub reads: bool,
    pub pongs: bool,
    /// Answers FIN with FIN.
    pub hangs_up: bool,
    /// All messages that the application can come to see of it.
    pub messages: Vec<Message>,
    /// The bodies of all answers, in order, as long as nothing goes wrong.
    pub answers: Vec<String>,
    /// The labels under which it may end, if nothing else ended it.
    pub labels: &'static [&'static str],
}

impl Script {
    pub fn draw(rng: &mut Rng) -> Script {
        let which = rng.below(SCRIPTS.len() as u64) as usize;
        let mut script = Script {
            name: "",
            acts: Vec::new(),
            reads: true,
            pongs: true,
            hangs_up: true,
            messages: Vec::new(),
            answers: Vec::new(),
            labels: &[],
        };
        SCRIPTS[which](&mut script, rng);
        script
    }

    fn is(&mut self, name: &'static str, labels: &'static [&'static str]) -> &mut Script {
        self.name = name;
        self.labels = labels;
        self
    }

    fn send(&mut self, bytes: impl Into<Vec<u8>>) -> &mut Script {
        self.acts.push(Act::Send(bytes.into()));
        self
    }

    fn wait(&mut self, ms: u64) -> &mut Script {
        self.acts.push(Act::Wait(ms));
        self
    }

    /// Upgrades, and goes on when the 101 is here.
    fn upgrade(&mut self, rng: &mut Rng) -> &mut Script {
        self.send(upgrade_request(pick(rng, &WEBSOCKETS)));
        self.acts.push(Act::AwaitUpgrade);
        self
    }

    /// Gives the frame of a message that the application is to see.
    fn message(&mut self, rng: &mut Rng, len: usize) -> Vec<u8> {
        let message = message(rng, self.messages.len() as u64, len);
        let opcode = if message.as_text().is_some() { 1 } else { 2 };
        let bytes = frame(rng, opcode, true, message.as_bytes());
        self.messages.push(message);
        bytes
    }
}

const SCRIPTS: [fn(&mut Script, &mut Rng); 24] = [
    |script, _| {
        script.is("silent connect", &["handshake"]);
    },
    |script, _| {
        let bytes = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(500)).into_bytes();
        script.is("slowloris", &["handshake"]);
        script.acts.push(Act::Drip { bytes, piece: 1, every_ms: 300 });
    },
    |script, rng| {
        let mut bytes = frame(rng, 2, true, &[7; 100]);
        bytes.truncate(1 + rng.below(100) as usize);
        script.is("half a frame", &["message", "heartbeat", "read_idle"]).upgrade(rng).send(bytes);
        script.pongs = false;
    },
    |script, rng| {
        let bytes = frame(rng, 1, true, &[b'x'; 2000]);
        script.is("dripped message", &["message"]).upgrade(rng);
        script.acts.push(Act::Drip { bytes, piece: 1, every_ms: 200 });
        script.pongs = false;
    },
    |script, rng| {
        script.is("never pongs", &["heartbeat", "read_idle"]).upgrade(rng);
        script.pongs = false;
    },
    |script, rng| {
        script.is("never reads", &["write_stall", "heartbeat", "read_idle"]);
        script.send(upgrade_request(pick(rng, &WEBSOCKETS))).wait(1000);
        for _ in 0..20 {
            let bytes = script.message(rng, 3000);
            script.send(bytes);
        }
        script.reads = false;
        script.pongs = false;
    },
    |script, rng| {
        script.is("sends after close", &["peer"]).upgrade(rng);
        let mut bytes = script.message(rng, 20);
        bytes.extend(frame(rng, 8, true, &1000u16.to_be_bytes()));
        bytes.extend(frame(rng, 1, true, b"too late"));
        script.send(bytes).send(frame(rng, 2, true, b"later still"));
    },
    |script, rng| {
        script.is("FIN without close", &["eof"]).upgrade(rng);
        let bytes = script.message(rng, 20);
        script.send(bytes).acts.push(Act::Fin);
    },
    |script, rng| {
        script.is("close without FIN", &["close_ack"]).upgrade(rng);
        let payload: &[u8] = if rng.chance(50) { b"" } else { &[0x0f, 0xa1, b'x'] };
        script.send(frame(rng, 8, true, payload)).hangs_up = false;
    },
    |script, rng| {
        script.is("reset", &["reset"]);
        script.send(upgrade_request(pick(rng, &WEBSOCKETS)));
        let bytes = script.message(rng, 50);
        script.wait(rng.below(100)).send(bytes).wait(rng.below(300)).acts.push(Act::Reset);
    },
    |script, rng| {
        script.is("pipelined behind the upgrade", &["peer"]);
        let mut bytes = upgrade_request(pick(rng, &WEBSOCKETS));
        for _ in 0..rng.below(5) {
            bytes.extend(script.message(rng, 30));
            bytes.extend(frame(rng, 9, true, b"early"));
        }
        bytes.extend(frame(rng, 8, true, &1000u16.to_be_bytes()));
        script.send(bytes);
    },
    |script, rng| {
        script.is("nonsense behind the upgrade", &["protocol"]);
        let mut bytes = upgrade_request(pick(rng, &WEBSOCKETS));
        bytes.extend(b"\xff\xff\xff\xff");
        script.send(bytes);
    },
    |script, rng| {
        script.is("giant claim", &["too_big"]).upgrade(rng);
        script.send([&[0x82, 0xff][..], &(1u64 << 40).to_be_bytes(), &[1; 10]].concat());
    },
    |script, rng| {
        script.is("ping flood", &["rate"]).upgrade(rng);
        let flood: Vec<u8> = (0..100).flat_map(|_| frame(rng, 9, true, b"flood")).collect();
        script.send(flood);
    },
    |script, rng| {
        script.is("no mask", &["protocol"]).upgrade(rng);
        let bytes = [script.message(rng, 9), vec![0x81, 1, b'x']].concat();
        script.send(bytes);
    },
    |script, rng| {
        script.is("no UTF-8", &["utf8"]).upgrade(rng);
        let bytes = [script.message(rng, 9), frame(rng, 1, true, b"\xc3\x28")].concat();
        script.send(bytes);
    },
    |script, rng| {
        script.is("too many fragments", &["fragments"]).upgrade(rng);
        let mut bytes = frame(rng, 1, false, b"x");
        for _ in 0..FRAGMENTS_MAX + 3 {
            bytes.extend(frame(rng, 0, false, b""));
        }
        script.send(bytes);
    },
    |script, rng| {
        script.is("kept alive", &["keep_alive"]);
        for index in 0..1 + rng.below(3) {
            let request = get_request(rng, index, "");
            script.answers.push(format!("{index}"));
            script.send(request).acts.push(Act::AwaitAnswers(index as usize + 1));
            script.wait(rng.below(1000));
        }
        script.hangs_up = rng.chance(50);
    },
    |script, rng| {
        script.is("pipelined requests", &["done"]);
        let count = 2 + rng.below(6);
        let mut bytes = Vec::new();
        for index in 0..count {
            let last = if index + 1 == count { "Connection: close\r\n" } else { "" };
            bytes.extend(get_request(rng, index, last));
            script.answers.push(format!("{index}"));
        }
        script.send(bytes).hangs_up = rng.chance(70);
    },
    |script, rng| {
        script.is("posts", &["done"]);
        let body = "b".repeat(rng.below(3000) as usize + 1);
        let (half, rest) = body.split_at(body.len() / 2);
        let head = "POST /post HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let request = if rng.chance(50) {
            format!("{head}Content-Length: {}\r\n\r\n{half}", body.len())
        } else {
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}", body.len())
        };
        let end = if request.contains("chunked") { "\r\n0\r\n\r\n" } else { "" };
        script.send(request).wait(rng.below(500)).send(format!("{rest}{end}"));
        script.answers.push(body);
    },
    |script, _| {
        let head = "POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n";
        script.is("dripped body", &["body"]).send(head);
        script.acts.push(Act::Drip { bytes: vec![b'b'; 800], piece: 1, every_ms: 200 });
    },
    |script, rng| {
        script.is("garbage", &["done"]);
        let garbage = ["\x16\x03\x01\x02\x00\x01\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\r \r\n\r\n"];
        script.send(pick(rng, &garbage)).hangs_up = rng.chance(50);
    },
    |script, rng| {
        let requests = [
            "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET /worker HTTP/1.0\r\n\r\n",
            "PUT /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
            "GET /plain HTTP/1.1\r\n\r\n",
        ];
        script.is("refused", &["done"]).send(pick(rng, &requests));
    },
    |script, rng| {
        script.is("close while blocked", &["peer"]).upgrade(rng);
        for _ in 0..5 {
            let bytes = [frame(rng, 9, true, b"a"), script.message(rng, 200)].concat();
            script.send(bytes).wait(rng.below(40)).send(frame(rng, 9, true, b"b"));
        }
        script.send(frame(rng, 8, true, &3999u16.to_be_bytes()));
    },
];

/// Gives the upgrade request for a path.
pub fn upgrade_request(path: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .into_bytes()
}

fn get_request(rng: &mut Rng, index: u64, lines: &str) -> Vec<u8> {
    let path = pick(rng, &GETS);
    format!("GET {path}?{index} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
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
    let mut bytes = vec![if is_final { 0x80 | opcode } else { opcode }];
    match payload.len() {
        len @ 0..126 => bytes.push(0x80 | len as u8),
        len @ 126..65_536 => {
            bytes.push(0x80 | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(0x80 | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    let mask = (rng.next_u64() as u32).to_be_bytes();
    bytes.extend(mask);
    bytes.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

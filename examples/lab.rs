//! A server for tests: the program's options and routes, and handlers that misbehave on purpose.
//!
//! | route | does |
//! |---|---|
//! | `/echo` | sends every message back |
//! | `/sleep?ms=N` | sleeps N ms, then sends the message back |
//! | `/block` | never returns for a message `block`, sends others back |
//! | `/panic` | panics for a message `panic`, sends others back |
//! | `/whoami` | answers each message with the connection's id and a nonce drawn at open |
//! | `/flood?count=N&bytes=B` | sends N messages of B bytes at open |
//! | `/reject?status=N` | refuses the upgrade with this status |

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::process::ExitCode;
use std::thread;
use std::time::Duration;

use heartwheel::http::{Refusal, Request};
use heartwheel::{Accept, Event, Handler, Message, Peer, Route, app, program};

fn main() -> ExitCode {
    program::run(|builder| {
        app::routes(builder)
            .websocket("/sleep", Sleep)
            .websocket("/block", echo_unless("block", block))
            .websocket("/panic", echo_unless("panic", || panic!("as asked")))
            .websocket("/whoami", WhoAmI)
            .websocket("/flood", flood)
            .route(Route::websocket("/reject", app::echo).authorize(reject))
    })
}

/// Answers after a while.
struct Sleep;

impl Handler for Sleep {
    type Session = Duration;

    fn open(&self, _: &Peer, request: Request) -> Duration {
        Duration::from_millis(number(&request, "ms").unwrap_or(100))
    }

    fn message(&self, span: &mut Duration, peer: &Peer, message: Message) {
        thread::sleep(*span);
        peer.send(message);
    }
}

/// Tells who it is talking to.
struct WhoAmI;

impl Handler for WhoAmI {
    type Session = u64;

    fn open(&self, _: &Peer, _: Request) -> u64 {
        RandomState::new().build_hasher().finish()
    }

    fn message(&self, nonce: &mut u64, peer: &Peer, _: Message) {
        peer.send(format!("{} {nonce:016x}", peer.id()));
    }
}

fn echo_unless(word: &'static str, act: fn()) -> impl Handler<Session = ()> {
    move |peer: &Peer, event: Event| {
        if let Event::Message(message) = event {
            if message.as_text() == Some(word) {
                act();
            }
            peer.send(message);
        }
    }
}

fn block() {
    loop {
        thread::park();
    }
}

fn flood(peer: &Peer, event: Event) {
    if let Event::Opened(request) = event {
        let bytes = number(&request, "bytes").unwrap_or(125).min(64 << 20) as usize;
        let message = Message::binary(vec![b'x'; bytes]);
        for _ in 0..number(&request, "count").unwrap_or(1) {
            peer.send(message.clone());
        }
    }
}

fn reject(request: &Request) -> Result<Accept, Refusal> {
    let status = number(request, "status").filter(|status| (300..600).contains(status));
    Err(Refusal::new(status.unwrap_or(403) as u16, "as asked"))
}

fn number(request: &Request, name: &str) -> Option<u64> {
    request.query_value(name)?.parse().ok()
}

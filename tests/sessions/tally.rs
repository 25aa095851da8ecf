//! A handler whose session is the list of numbers that its client has sent, over all connections.

use std::sync::{Arc, Mutex};

use heartwheel::http::Request;
use heartwheel::{
    BadSession, CloseReason, Handler, Message, Peer, Resume, Route, SessionKey, SessionStore,
    Unsaved,
};

use crate::common::timing::lock;

/// What handlers were told beside messages.
pub type Told = Arc<Mutex<Vec<String>>>;

#[derive(Clone, Default)]
pub struct Tally(pub Told);

impl Tally {
    fn tell(&self, what: impl Into<String>) {
        lock(&self.0).push(what.into());
    }
}

impl Handler for Tally {
    type Session = Vec<u32>;

    fn open(&self, peer: &Peer, _: Request) -> Vec<u32> {
        peer.send("new");
        Vec::new()
    }

    fn message(&self, session: &mut Vec<u32>, peer: &Peer, message: Message) {
        match message.as_text().unwrap_or_default() {
            "panic" => {
                session.push(666);
                panic!("as asked");
            }
            "big" => {
                session.extend(0..20_000);
                peer.send("big");
                return;
            }
            "look" => {}
            "nap" => std::thread::sleep(std::time::Duration::from_millis(400)),
            text => session.push(text.parse().expect("a number")),
        }
        peer.send(shown(session));
    }

    fn closed(&self, session: Vec<u32>, _: &Peer, reason: CloseReason) {
        self.tell(format!("{} {}", reason.label(), shown(&session)));
        if session.contains(&SLOW_END) {
            std::thread::sleep(std::time::Duration::from_secs(4));
        }
    }
}

impl Resume for Tally {
    fn freeze(&self, session: &Vec<u32>) -> Vec<u8> {
        shown(session).into()
    }

    fn thaw(&self, frozen: &[u8]) -> Result<Vec<u32>, BadSession> {
        match str::from_utf8(frozen)? {
            "" => Ok(Vec::new()),
            text => text.split(',').map(|number| Ok(number.parse()?)).collect(),
        }
    }

    fn resumed(&self, session: &mut Vec<u32>, peer: &Peer, _: Request) {
        peer.send(format!("back {}", shown(session)));
    }

    fn unsaved(&self, _: &mut Vec<u32>, _: &Peer, why: Unsaved) {
        self.tell(format!("unsaved {why:?}"));
    }
}

/// The end of a session with this number takes its handler long.
pub const SLOW_END: u32 = 4_000_000_000;

pub fn shown(session: &[u32]) -> String {
    session.iter().map(u32::to_string).collect::<Vec<_>>().join(",")
}

/// The route of a tally: its key is `sid` in the query.
pub fn route<S: SessionStore>(store: &Arc<S>, told: &Told) -> Route {
    Route::sessions("/tally", Tally(told.clone()), SessionKey::query("sid"), store.clone())
}

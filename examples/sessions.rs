//! A shopping list for each client, which outlasts its connections, at
//! `ws://127.0.0.1:8765/list?id=KEY`: KEY is any text that only this client knows. Each text is one
//! more thing, and the answer is the whole list. Connect again with the same KEY: the list is
//! there, and an older connection with that KEY ends with 4409.
//!
//! `cargo run --features sessions --example sessions`

use std::sync::Arc;

use heartwheel::http::Request;
use heartwheel::{
    BadSession, Handler, MemorySessions, Message, Peer, Resume, Route, Server, SessionKey,
};

struct Lists;

impl Handler for Lists {
    type Session = Vec<String>;

    fn open(&self, _: &Peer, _: Request) -> Vec<String> {
        Vec::new()
    }

    fn message(&self, list: &mut Vec<String>, peer: &Peer, message: Message) {
        let text = message.as_text().unwrap_or_default();
        list.extend(text.lines().filter(|thing| !thing.is_empty()).map(str::to_owned));
        peer.send(list.join("\n"));
    }
}

impl Resume for Lists {
    fn freeze(&self, list: &Vec<String>) -> Vec<u8> {
        list.join("\n").into()
    }

    fn thaw(&self, frozen: &[u8]) -> Result<Vec<String>, BadSession> {
        Ok(str::from_utf8(frozen)?.lines().map(str::to_owned).collect())
    }

    fn resumed(&self, list: &mut Vec<String>, peer: &Peer, _: Request) {
        peer.send(list.join("\n"));
    }
}

fn main() -> heartwheel::Result<()> {
    let store = Arc::new(MemorySessions::default());
    let key = SessionKey::query("id").required();
    let lists = Route::sessions("/list", Lists, key, store);
    Server::builder().route(lists).listen("127.0.0.1:8765")?.run()?;
    Ok(())
}

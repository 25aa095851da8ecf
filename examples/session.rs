//! A handler with state for each connection: it counts what it was sent and says so at the end.

use std::time::Instant;

use heartwheel::http::Request;
use heartwheel::{CloseReason, Handler, Message, Peer, Server};

struct Counting;

struct Count {
    name: String,
    messages: u64,
    since: Instant,
}

impl Handler for Counting {
    type Session = Count;

    fn open(&self, peer: &Peer, request: Request) -> Count {
        let name = request.query_value("name").unwrap_or("nobody".into()).into_owned();
        peer.send(format!("hello {name}"));
        Count { name, messages: 0, since: Instant::now() }
    }

    fn message(&self, count: &mut Count, peer: &Peer, message: Message) {
        count.messages += 1;
        peer.send(format!("message {} of {}: {} bytes", count.messages, count.name, message.len()));
    }

    fn closed(&self, count: Count, _: &Peer, reason: CloseReason) {
        let Count { name, messages, since } = count;
        println!("{name} sent {messages} messages in {:?}: {reason}", since.elapsed());
    }
}

fn main() -> heartwheel::Result<()> {
    Server::builder().websocket("/count", Counting).listen("127.0.0.1:8765")?.run()?;
    Ok(())
}

//! Sends every message back: the ten-line server.

use heartwheel::{Event, Peer, Server};

fn main() -> heartwheel::Result<()> {
    Server::builder()
        .websocket("/echo", |peer: &Peer, event: Event| {
            if let Event::Message(message) = event {
                peer.send(message);
            }
        })
        .listen("127.0.0.1:8765")?
        .run()?;
    Ok(())
}

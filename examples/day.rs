//! A day of a connection in milliseconds: a client says nothing and answers pings, and in the
//! evening it stops. Nothing sleeps and no port is taken: the clock is moved by hand from one
//! deadline to the next, and the connection is in memory.

use std::error::Error;
use std::time::Duration;

use heartwheel::{CloseReason, Event, ManualClock, MemoryNetwork, MemoryPeer, Peer, Server};
use tungstenite::{HandshakeError, Message, WebSocket};

fn main() -> Result<(), Box<dyn Error>> {
    let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
    let mut server = Server::builder()
        .workers(0)
        .clock(clock.clone())
        .websocket("/quiet", |_: &Peer, _: Event| {})
        .listen_memory(&network)?;
    let mut client = open(&mut server, network.connect()?)?;
    let mut pings = 0;
    while clock.elapsed() < DAY {
        clock.advance(server.next_timeout().ok_or("there is always a deadline")?);
        server.turn()?;
        while let Ok(message) = client.read() {
            pings += u32::from(matches!(message, Message::Ping(_)));
        }
    }
    println!("answered {pings} pings, {} open", server.connections());
    let stopped_at = clock.elapsed();
    while server.connections() > 0 {
        clock.advance(server.next_timeout().ok_or("there is always a deadline")?);
        server.turn()?;
    }
    assert_eq!(server.stats().closed_by(CloseReason::Heartbeat), 1);
    println!("closed 3008, gone {:?} later", clock.elapsed() - stopped_at);
    Ok(())
}

/// Opens a WebSocket, with turns of the server where the client would wait for it.
fn open(server: &mut Server, peer: MemoryPeer) -> Result<WebSocket<MemoryPeer>, Box<dyn Error>> {
    let mut handshake = tungstenite::client("ws://localhost/quiet", peer);
    loop {
        match handshake {
            Ok((client, _)) => return Ok(client),
            Err(HandshakeError::Interrupted(waiting)) => {
                server.turn()?;
                handshake = waiting.handshake();
            }
            Err(HandshakeError::Failure(error)) => return Err(error.into()),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

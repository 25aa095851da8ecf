//! Devices send readings over a WebSocket; watchers get each of them.

use heartwheel::http::Request;
use heartwheel::{Builder, CloseReason, Handler, Message, Peer, Server};

/// What a device talks to.
struct Devices;

impl Handler for Devices {
    /// The topic of the device.
    type Session = String;

    fn open(&self, peer: &Peer, request: Request) -> String {
        let name = request.query_value("name").unwrap_or("nobody".into());
        let topic = format!("readings.{name}");
        peer.send(format!("publishing to {topic}"));
        topic
    }

    fn message(&self, topic: &mut String, peer: &Peer, message: Message) {
        if let Some(reading) = message.as_text() {
            // Err: it was not taken. The loop has ended, or too much waits for it.
            let _ = peer.publish(topic.as_str(), reading);
        }
    }

    fn closed(&self, topic: String, _: &Peer, reason: CloseReason) {
        println!("{topic}: {reason}");
    }
}

/// Everything that the gateway serves.
fn routes() -> Builder {
    Server::builder().websocket("/device", Devices).topics("/topics/{topic}")
}

fn main() -> heartwheel::Result<()> {
    routes().listen("127.0.0.1:8765")?.run()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use heartwheel::{CloseReason, ManualClock, MemoryNetwork, MemoryPeer};
    use tungstenite::{HandshakeError, Message, WebSocket};

    use super::*;

    #[test]
    fn a_device_that_dies_is_noticed() {
        let (clock, network) = (ManualClock::new(), MemoryNetwork::new());
        let builder = routes().workers(0).clock(clock.clone());
        let mut server = builder.listen_memory(&network).unwrap();
        let mut watcher = open(&mut server, &network, "/topics/readings.boiler");
        let mut device = open(&mut server, &network, "/device?name=boiler");

        device.send(Message::text("21.5")).unwrap();
        settle(&mut server);
        assert_eq!(watcher.read().unwrap(), Message::text("21.5"));

        // The device answers nothing more; the watcher answers pings as it reads. After 30 s the
        // device is pinged, three pings are missed after 10 s each, and the close gets no answer.
        let stopped_at = clock.elapsed();
        while server.connections() == 2 {
            clock.advance(server.next_timeout().unwrap());
            server.turn().unwrap();
            let _ = watcher.read();
        }
        assert_eq!(server.stats().closed_by(CloseReason::Heartbeat), 1);
        assert!(clock.elapsed() - stopped_at <= Duration::from_secs(64));
    }

    /// Turns until nothing is left to do at this time.
    fn settle(server: &mut Server) {
        while server.next_timeout() == Some(Duration::ZERO) {
            server.turn().unwrap();
        }
    }

    /// Opens a WebSocket, with turns of the server where the client would wait for it.
    fn open(server: &mut Server, network: &MemoryNetwork, path: &str) -> WebSocket<MemoryPeer> {
        let url = format!("ws://localhost{path}");
        let mut handshake = tungstenite::client(url, network.connect().unwrap());
        loop {
            match handshake {
                Ok((client, _)) => return client,
                Err(HandshakeError::Interrupted(waiting)) => {
                    settle(server);
                    handshake = waiting.handshake();
                }
                Err(HandshakeError::Failure(error)) => panic!("{error}"),
            }
        }
    }
}

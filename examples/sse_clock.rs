//! A clock as an event stream: `curl -N http://127.0.0.1:8765/events?topic=clock`.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heartwheel::{SendError, Server};

fn main() -> heartwheel::Result<()> {
    let server = Server::builder().events("/events").listen("127.0.0.1:8765")?;
    let handle = server.handle();
    thread::spawn(move || {
        loop {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            if handle.publish("clock", now.as_secs().to_string()) == Err(SendError::Ended) {
                return;
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    server.run()?;
    Ok(())
}

//! A sensor that is read by a blocking thread and published; a latecomer first gets what it missed:
//! `curl http://127.0.0.1:8765/topics/temperature?after=0-0`.

use std::fs;
use std::thread;
use std::time::Duration;

use heartwheel::{SendError, Server};

fn main() -> heartwheel::Result<()> {
    let server = Server::builder().topics("/topics/{topic}").listen("127.0.0.1:8765")?;
    let handle = server.handle();
    thread::spawn(move || {
        loop {
            // A read of a real sensor may block for as long as it likes: this is no loop thread.
            let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
            let reading = load.split(' ').next().unwrap_or_default().to_owned();
            if handle.publish("temperature", reading) == Err(SendError::Ended) {
                return;
            }
            thread::sleep(Duration::from_millis(500));
        }
    });
    server.run()?;
    Ok(())
}

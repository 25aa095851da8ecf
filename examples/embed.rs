//! The server inside a main loop that is somebody else's: `poll(2)` over the server's one
//! descriptor and a second one, here standard input. No thread is started, nothing blocks but
//! `poll`.

use std::io::{BufRead, stdin};
use std::os::fd::AsFd;
use std::time::Duration;

use heartwheel::{Event, Peer, Server};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let echo = |peer: &Peer, event: Event| {
        if let Event::Message(message) = event {
            peer.send(message);
        }
    };
    let mut server =
        Server::builder().workers(0).websocket("/echo", echo).listen("127.0.0.1:8765")?;
    println!("echo on ws://{}/echo; press enter for the counters", server.local_addresses()[0]);
    loop {
        // None: no deadline at all. Zero: work is left, do not wait.
        let timeout = server.next_timeout().map(timespec);
        let stdin = stdin();
        let mut watched = [
            PollFd::from_borrowed_fd(server.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(stdin.as_fd(), PollFlags::IN),
        ];
        poll(&mut watched, timeout.as_ref())?;
        let typed = !watched[1].revents().is_empty();
        // Never blocks, bounded; a call with nothing to do is harmless.
        server.turn()?;
        if typed {
            let mut line = String::new();
            if stdin.lock().read_line(&mut line)? == 0 {
                return Ok(());
            }
            let messages = server.stats().messages_received;
            println!("{} open, {messages} messages received", server.connections());
        }
    }
}

fn timespec(wait: Duration) -> Timespec {
    Timespec { tv_sec: wait.as_secs() as i64, tv_nsec: wait.subsec_nanos().into() }
}

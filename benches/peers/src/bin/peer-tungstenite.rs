//! tungstenite: a thread per connection, with a small stack. It blocks in `read`, so that each
//! message is a `send` of its own.

use std::io;
use std::net::TcpStream;
use std::thread;

use heartwheel_peers::{Options, Task};
use tungstenite::Error;
use tungstenite::protocol::WebSocketConfig;

fn main() -> io::Result<()> {
    let options = Options::parse(&[Task::Echo]);
    let listener = options.bind()?;
    listener.set_nonblocking(false)?;
    loop {
        let (stream, _) = listener.accept()?;
        stream.set_nodelay(true)?;
        // It ends with its connection, in whichever way.
        let serve = move || drop(echo(stream));
        thread::Builder::new().stack_size(STACK_BYTES).spawn(serve)?;
    }
}

fn echo(stream: TcpStream) -> Result<(), Error> {
    let config = WebSocketConfig::default().max_frame_size(None).max_message_size(None);
    let Ok(mut socket) = tungstenite::accept_with_config(stream, Some(config)) else {
        return Ok(());
    };
    loop {
        let message = socket.read()?;
        if message.is_text() || message.is_binary() {
            socket.send(message)?;
        }
    }
}

const STACK_BYTES: usize = 128 * 1024;

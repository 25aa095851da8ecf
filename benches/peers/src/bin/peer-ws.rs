//! ws: one thread on mio 0.6, a handler per connection.

#![expect(clippy::result_large_err, reason = "it is the crate's own error")]

use heartwheel_peers::{Options, Task, announce};
use ws::{Builder, Message, Sender, Settings};

fn main() -> ws::Result<()> {
    let options = Options::parse(&[Task::Echo]);
    let settings = Settings {
        max_connections: CONNECTIONS_MAX,
        tcp_nodelay: true,
        // One frame per message, as the others have it.
        fragment_size: usize::MAX,
        ..Settings::default()
    };
    let echo = |peer: Sender| move |message: Message| peer.send(message);
    let server = Builder::new().with_settings(settings).build(echo)?.bind(options.listen)?;
    announce(server.local_addr()?)?;
    server.run()?;
    Ok(())
}

/// The crate allots a slot to each up front.
const CONNECTIONS_MAX: usize = 20_000;

//! tokio-tungstenite on one thread.

use std::io;

use heartwheel_peers::{Options, Task, tokio_tungstenite};

fn main() -> io::Result<()> {
    let options = Options::parse(&[Task::Echo, Task::FanOut]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime.block_on(tokio_tungstenite::serve(options))
}

//! tokio-tungstenite on two worker threads.

use std::io;

use heartwheel_peers::{Options, Task, tokio_tungstenite};

fn main() -> io::Result<()> {
    let options = Options::parse(&[Task::Echo, Task::FanOut]);
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.worker_threads(2).enable_io().build()?;
    // On a worker: what is polled on this thread would have to be woken across threads.
    let served = runtime.block_on(runtime.spawn(tokio_tungstenite::serve(options)));
    served.map_err(io::Error::other)?
}

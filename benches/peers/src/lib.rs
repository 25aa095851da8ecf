//! Servers that heartwheel is compared with, each in a program of its own: `src/bin/peer-NAME.rs`,
//! and `extra/` for those in other languages, which `build-extra` builds where the machine has what
//! they need. `peers.txt` names them all, with versions; `peer-check` tests them.
//!
//! ```sh
//! cargo build --release --locked --manifest-path benches/peers/Cargo.toml \
//!     --target-dir target/peers
//! benches/peers/build-extra
//! target/peers/release/peer-check
//! ```
//!
//! `peer-NAME --listen ADDRESS:PORT [--fanout]` prints one line, `listening ADDRESS:PORT`, and runs
//! until it is killed. It sends every message back, on any path: text as text, binary as binary, up
//! to 16 MiB at least. With `--fanout`, what one connection sends goes to all others instead; only
//! `raw` and the two of tokio-tungstenite have that.
//!
//! Each is written as the documentation of its library says an echo server is, where that leaves a
//! choice in the way that costs least, and with TCP_NODELAY. None is asked for deadlines,
//! heartbeats, limits or statistics: what heartwheel does besides, it does at its own expense.

pub mod tokio_tungstenite;

use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener};
use std::process;

use lexopt::prelude::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

/// What a peer is asked to do.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where it listens. Port 0 takes any that is free.
    pub listen: SocketAddr,
    /// Where messages go.
    pub task: Task,
}

/// Where a message goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Task {
    /// Back.
    Echo,
    /// To all connections but the one that it came from.
    FanOut,
}

impl Options {
    /// Reads the command line of a peer that has these tasks. A fault in it is one line and exit
    /// status 2.
    pub fn parse(tasks: &[Task]) -> Options {
        read(lexopt::Parser::from_env(), tasks).unwrap_or_else(|error| {
            eprintln!("{error}");
            process::exit(2)
        })
    }

    /// Listens, with the backlog that heartwheel's listeners have, and announces it. The listener
    /// does not block.
    pub fn bind(&self) -> io::Result<TcpListener> {
        let socket =
            Socket::new(Domain::for_address(self.listen), Type::STREAM.nonblocking(), None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&self.listen.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from(socket);
        announce(listener.local_addr()?)?;
        Ok(listener)
    }
}

/// Says on stdout where a peer listens, and lets it have as many connections as it may.
pub fn announce(address: SocketAddr) -> io::Result<()> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    let mut stdout = io::stdout();
    writeln!(stdout, "listening {address}")?;
    stdout.flush()
}

fn read(mut parser: lexopt::Parser, tasks: &[Task]) -> Result<Options, lexopt::Error> {
    let mut listen = None;
    let mut task = Task::Echo;
    while let Some(argument) = parser.next()? {
        match argument {
            Long("listen") => listen = Some(parser.value()?.parse()?),
            Long("fanout") if tasks.contains(&Task::FanOut) => task = Task::FanOut,
            _ => return Err(argument.unexpected()),
        }
    }
    let listen = listen.ok_or("--listen ADDRESS:PORT is missing")?;
    Ok(Options { listen, task })
}

const BACKLOG: i32 = 4096;

//! The servers that are measured, and how each is started.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use super::common::machine::{pin, unpin};
use super::common::process::Process;
use super::common::program::{Admin, Program};
use super::connection::{Endpoint, Speech};
use super::options::{Mode, Options};
use super::stream;

/// A server that can be measured.
#[derive(Clone, Debug)]
pub struct Target {
    pub name: String,
    pub description: String,
    /// It is here only to be compared with.
    pub is_peer: bool,
    /// Its threads may run on every core, as they do unless somebody pins them.
    is_free: bool,
    start: Start,
}

#[derive(Clone, Debug)]
enum Start {
    Heartwheel { workers: u32 },
    Peer { path: PathBuf, speech: Speech },
    Runs(Endpoint),
}

/// A server that runs. If it was started for this, it ends with the value.
pub struct Server {
    /// Only to be ended.
    _program: Option<Program>,
    /// `None` if it cannot be looked into: then there is no CPU time of it.
    pub process: Option<Process>,
    pub endpoint: Endpoint,
    pub admin: Option<SocketAddr>,
    /// When its start began, if it was started.
    pub began: Option<Instant>,
}

/// What a server is wanted for.
pub struct Purpose<'a> {
    /// The path of its WebSockets, of the program.
    pub path: &'a str,
    /// Settings of the program.
    pub settings: Vec<String>,
    /// Of a peer: one connection sends to all others.
    pub is_fanout: bool,
    pub admin: Admin,
}

impl Target {
    /// Gives what the options ask for, the program first; builds the peers among them.
    ///
    /// # Errors
    ///
    /// If they cannot be built, or one is not known.
    pub fn all(options: &Options) -> io::Result<Vec<Target>> {
        let mut targets = Target::ours(options);
        if options.mode == Mode::Matrix {
            targets.insert(0, build_rawecho()?);
        }
        if let Some(endpoint) = &options.url {
            return Ok(vec![Target { is_peer: false, ..Target::running("url", endpoint) }]);
        }
        if let Some(names) = &options.peers {
            targets.extend(build_peers(names)?);
        }
        let against = options.against.iter().enumerate();
        let name = |index: usize| format!("against-{}", index + 1);
        targets.extend(against.map(|(index, endpoint)| Target::running(&name(index), endpoint)));
        Ok(targets)
    }

    /// The program as the options want it.
    fn ours(options: &Options) -> Vec<Target> {
        // Workers are there for more cores than one: in the matrix they may have them.
        let is_free = options.mode == Mode::Matrix;
        let with_workers =
            |workers| Target { is_free: is_free && workers > 0, ..Target::heartwheel(workers) };
        match options.workers {
            Some(workers) => vec![with_workers(workers)],
            None => vec![with_workers(0), with_workers(WORKERS)],
        }
    }

    /// The program with this many workers.
    pub fn heartwheel(workers: u32) -> Target {
        let name = if workers == 0 { "heartwheel" } else { "heartwheel-workers" };
        Target {
            name: name.to_owned(),
            description: format!("the program, workers={workers}"),
            is_peer: false,
            is_free: false,
            start: Start::Heartwheel { workers },
        }
    }

    fn running(name: &str, endpoint: &Endpoint) -> Target {
        Target {
            name: name.to_owned(),
            description: format!("was running, at {}", endpoint.address),
            is_peer: true,
            is_free: false,
            start: Start::Runs(endpoint.clone()),
        }
    }

    pub fn is_heartwheel(&self) -> bool {
        matches!(self.start, Start::Heartwheel { .. })
    }

    fn on_its_cores<T>(&self, options: &Options, start: impl FnOnce() -> T) -> T {
        match options.cores {
            Some((_, generator)) if self.is_free => {
                unpin();
                let started = start();
                pin(generator);
                started
            }
            _ => on_its_core(options, start),
        }
    }

    /// Starts it, in a process of its own, on the core that the options say.
    ///
    /// # Errors
    ///
    /// If it does not start.
    pub fn start(&self, options: &Options, purpose: &Purpose) -> io::Result<Server> {
        let started = |program: Program, speech: Speech| Server {
            process: Some(program.process()),
            endpoint: Endpoint { address: program.address, speech, is_tls: options.is_tls },
            admin: program.admin,
            began: Some(program.began),
            _program: Some(program),
        };
        match &self.start {
            Start::Heartwheel { workers } => {
                let mut settings = vec![format!("workers={workers}")];
                settings.extend(purpose.settings.iter().cloned());
                settings.extend(options.settings.iter().cloned());
                settings.extend(options.is_tls.then(stream::settings).into_iter().flatten());
                let start = || Program::start(&settings, purpose.admin);
                let program = self.on_its_cores(options, start)?;
                Ok(started(program, Speech::WebSocket(purpose.path.to_owned())))
            }
            Start::Peer { path, speech } => {
                let mut command = Command::new(path);
                command.args(["--listen", "127.0.0.1:0"]);
                command.args(purpose.is_fanout.then_some("--fanout"));
                let program = self.on_its_cores(options, || Program::start_other(command))?;
                Ok(started(program, speech.clone()))
            }
            Start::Runs(endpoint) => Ok(Server {
                _program: None,
                process: Process::listening_on(endpoint.address),
                endpoint: endpoint.clone(),
                admin: None,
                began: None,
            }),
        }
    }
}

/// Builds `rawecho.c`.
fn build_rawecho() -> io::Result<Target> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rawecho");
    let compiler = std::env::var_os("CC").unwrap_or_else(|| "cc".into());
    let source = root.join("benches/load/rawecho.c");
    let built = Command::new(&compiler).args(["-O2", "-o"]).arg(&path).arg(source).status();
    if !built.is_ok_and(|status| status.success()) {
        let what = format!("rawecho.c cannot be built by {}", compiler.to_string_lossy());
        return Err(io::Error::other(what));
    }
    Ok(Target {
        name: RAWECHO.to_owned(),
        description: "bytes back by epoll in C, with the default options of a socket".to_owned(),
        is_peer: true,
        is_free: false,
        start: Start::Peer { path, speech: Speech::Tcp },
    })
}

/// Starts a child on the server's core; this thread is on the generator's afterwards.
pub fn on_its_core<T>(options: &Options, start: impl FnOnce() -> T) -> T {
    let Some((server, generator)) = options.cores else { return start() };
    pin(server);
    let started = start();
    pin(generator);
    started
}

/// Builds the peers, and gives those with these names, or all.
fn build_peers(names: &[String]) -> io::Result<Vec<Target>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("benches/peers");
    let listed = fs::read_to_string(folder.join("peers.txt")).map_err(|error| {
        io::Error::other(format!("there are no peers ({}): {error}", folder.display()))
    })?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let built = Command::new(cargo)
        .current_dir(root)
        .args(["build", "--release", "--locked", "--quiet", "--target-dir", "target/peers"])
        .args(["--manifest-path", "benches/peers/Cargo.toml"])
        .status()?;
    if !built.success() {
        return Err(io::Error::other("the peers cannot be built"));
    }
    let mut targets = Vec::new();
    for line in listed.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(target) = peer(root, line)? else { continue };
        targets.push(target);
    }
    for name in names {
        if !targets.iter().any(|target| target.name == *name) {
            return Err(io::Error::other(format!("there is no peer {name}")));
        }
    }
    targets.retain(|target| names.is_empty() || names.contains(&target.name));
    Ok(targets)
}

/// Reads `NAME<TAB>kind<TAB>description`. `None` if it is an optional one that was not built.
fn peer(root: &Path, line: &str) -> io::Result<Option<Target>> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, kind, description, ..] = fields[..] else {
        return Err(io::Error::other(format!("peers.txt: {line}")));
    };
    let speech = match kind {
        "tcp" => Speech::Tcp,
        "ws" => Speech::WebSocket("/".to_owned()),
        _ => return Err(io::Error::other(format!("peers.txt: {kind} is neither tcp nor ws"))),
    };
    let binary = format!("peer-{name}");
    let places = ["target/peers/release", "target/peers/extra"];
    let paths = places.map(|place| root.join(place).join(&binary));
    let Some(path) = paths.into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let start = Start::Peer { path, speech };
    let (name, description) = (name.to_owned(), description.to_owned());
    Ok(Some(Target { name, description, is_peer: true, is_free: false, start }))
}

/// The server that says what the machine costs by itself.
pub const RAWECHO: &str = "rawecho";
/// The program's default.
const WORKERS: u32 = 2;

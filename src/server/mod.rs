//! The library's face: building a server, running it, or turning it from another loop.

#[cfg(feature = "streams")]
mod files;
mod route;

use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Duration;

use log::info;

use crate::core::config::{Address, Config};
use crate::core::contract::backbone::Publication;
use crate::core::contract::route::{Face, Placement};
use crate::core::engine::{Served, Setup};
use crate::core::observe::stats::Stats;
#[cfg(feature = "backbone")]
use crate::core::topics::EventId;
use crate::core::wire::http::{Method, Request, Response};
use crate::io::bind::Adopted;
use crate::io::clock::Clock;
use crate::io::event_loop::EventLoop;
use crate::io::listener::LocalAddress;
use crate::io::manual_clock::ManualClock;
use crate::io::memory::MemoryNetwork;
use crate::io::socket::Speech;
use crate::system::descriptors;
use crate::system::machine;
use crate::system::random_seed;
#[cfg(feature = "tls")]
use crate::system::tls::Acceptor;
use crate::system::token_file;
#[cfg(feature = "client")]
use crate::threads::dial::Dial;
use crate::threads::handle::Handle;
use crate::threads::handler::Handler;
use crate::threads::worker::{Pool, StartWorkers};

pub use route::Route;

/// Builds a [`Server`].
#[derive(Default)]
pub struct Builder {
    config: Config,
    routes: Vec<Route>,
    adopted: Vec<(Adopted, Face, Speech)>,
    seed: Option<u64>,
    clock: Option<ManualClock>,
    /// [`Builder::admin`] named the operator's addresses.
    is_admin_set: bool,
    log_lines_dropped: Option<Arc<AtomicUsize>>,
    starts: Vec<Start>,
    #[cfg(feature = "client")]
    dialled: Option<MemoryNetwork>,
}

/// What is given the handle of a server that has been built.
type Start = Box<dyn FnOnce(&Handle)>;

/// What a route does to the loop that has been made for it.
type RouteStart = Box<dyn FnOnce(&mut EventLoop) -> io::Result<()>>;

impl Builder {
    /// Sets the whole configuration.
    pub fn config(mut self, config: Config) -> Builder {
        self.config = config;
        self
    }

    /// Adds a bridge to another server, or puts it in place of the one with the same name: what
    /// `[bridge.NAME]` does in TOML.
    #[cfg(feature = "bridge")]
    pub fn bridge(mut self, bridge: crate::config::Bridge) -> Builder {
        self.config.add_bridge(bridge);
        self
    }

    /// Sets the number of worker threads; with 0 handlers run inside [`Server::turn`]. Default 2.
    ///
    /// Workers block all signals but those that a thread raises by its own fault (SIGSEGV, SIGBUS,
    /// SIGFPE, SIGILL, SIGTRAP, SIGSYS): a host's signal handlers never run on them. Threads and
    /// programs that a handler starts inherit this mask, so SIGTERM does not end them. To start a
    /// program that SIGTERM can end, empty its mask first, in `CommandExt::pre_exec` or by `env
    /// --default-signal`.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.config.workers = workers;
        self
    }

    /// Adds a route. Where paths overlap, one without parameters wins over others, and of these the
    /// one that says more, judged from the left: `/a/{b}` before `/{a}/b`.
    pub fn route(mut self, route: Route) -> Builder {
        self.routes.push(route);
        self
    }

    /// Adds WebSocket connections on `path`, with a handler that may block.
    pub fn websocket(self, path: impl Into<String>, handler: impl Handler) -> Builder {
        self.route(Route::websocket(path, handler))
    }

    /// Adds an answer to GET and HEAD on `path`, which may block.
    pub fn get<F>(self, path: impl Into<String>, answer: F) -> Builder
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        self.route(Route::get(path, answer))
    }

    /// Adds an answer to requests of a method on `path`, which may block.
    pub fn on<F>(self, method: Method, path: impl Into<String>, answer: F) -> Builder
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        self.route(Route::on(method, path, answer))
    }

    /// Adds an answer to POST on `path`, which may block.
    pub fn post<F>(self, path: impl Into<String>, answer: F) -> Builder
    where
        F: Fn(&Request) -> Response + Send + Sync + 'static,
    {
        self.route(Route::post(path, answer))
    }

    /// Serves the files of a folder behind `path`: see [`Route::files`].
    #[cfg(feature = "streams")]
    pub fn files(self, path: &str, folder: impl Into<std::path::PathBuf>) -> Builder {
        self.route(Route::files(path, folder))
    }

    /// Returns the folder that the configuration names, for the program's routes.
    #[cfg(feature = "streams")]
    pub(crate) fn folder(&self) -> Option<std::path::PathBuf> {
        self.config.serve.files.clone()
    }

    /// Adds [`Route::topics`].
    pub fn topics(self, path: &str) -> Builder {
        self.route(Route::topics(path))
    }

    /// Adds [`Route::hub`].
    pub fn hub(self, path: &str) -> Builder {
        self.route(Route::hub(path))
    }

    /// Adds [`Route::events`].
    pub fn events(self, path: &str) -> Builder {
        self.route(Route::events(path))
    }

    /// Adds [`Route::health`].
    pub fn health(self) -> Builder {
        self.route(Route::health())
    }

    /// Serves on a listener that was bound elsewhere, instead of `listen`; may be called again.
    pub fn adopt(mut self, listener: impl Into<Adopted>) -> Builder {
        self.adopted.push((listener.into(), Face::Public, Speech::PLAIN));
        self
    }

    /// Speaks TLS on a listener that somebody else has bound, instead of `listen`; can be called
    /// again. `tls.certificate` and `tls.key` must be set.
    #[cfg(feature = "tls")]
    pub fn adopt_tls(mut self, listener: impl Into<Adopted>) -> Builder {
        self.adopted.push((listener.into(), Face::Public, Speech::TLS));
        self
    }

    /// Expects a PROXY header, v1 or v2, on each connection of a listener that somebody else has
    /// bound, instead of `listen`; can be called again. `proxy.trusted` must be set: a connection
    /// from elsewhere, or without a good header, ends.
    pub fn adopt_proxy(mut self, listener: impl Into<Adopted>) -> Builder {
        self.adopted.push((listener.into(), Face::Public, Speech::PROXY));
        self
    }

    /// As [`Builder::adopt_proxy`], with TLS behind the header, as [`Builder::adopt_tls`] has it.
    #[cfg(feature = "tls")]
    pub fn adopt_proxy_tls(mut self, listener: impl Into<Adopted>) -> Builder {
        self.adopted.push((listener.into(), Face::Public, Speech::PROXY_TLS));
        self
    }

    /// Serves the operator on a listener that was bound elsewhere, instead of `admin_listen`.
    pub fn adopt_admin(mut self, listener: impl Into<Adopted>) -> Builder {
        self.adopted.push((listener.into(), Face::Admin, Speech::PLAIN));
        self
    }

    /// Adds [`Route::operator`].
    pub fn operator(self) -> Builder {
        self.route(Route::operator())
    }

    /// Listens for the operator on `address` alone (`host:port`, `[v6]:port`, `*:port` or
    /// `unix:/path`), with [`Builder::operator`] and [`Builder::health`]. A client that reaches
    /// this address can end every connection: keep the address local, or behind a proxy that
    /// authenticates clients.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if `address` is not an address.
    pub fn admin(mut self, address: &str) -> Result<Builder> {
        self.config.admin_listen = vec![parse("admin_listen", address)?];
        self.is_admin_set = true;
        Ok(self.health().operator())
    }

    /// Sets the counter of log lines that the host's logger drops, for `/metrics`.
    pub fn log_lines_dropped(mut self, count: Arc<AtomicUsize>) -> Builder {
        self.log_lines_dropped = Some(count);
        self
    }

    /// Gives `start` the server's handle as soon as the server is built: to subscribe to topics, to
    /// set timers and hooks, to begin threads. Called by [`Builder::build`], in the order in which
    /// they were added, also
    /// within `program::run`.
    pub fn with_handle(mut self, start: impl FnOnce(&Handle) + 'static) -> Builder {
        self.starts.push(Box::new(start));
        self
    }

    /// Seeds jitter and spread, so that a run can be repeated.
    pub fn seed(mut self, seed: u64) -> Builder {
        self.seed = Some(seed);
        self
    }

    /// Has clients that the server makes on its own loop connect within the process instead of over
    /// the network, whatever their URL names: for tests. The service of `admission.request` is
    /// asked by such a client.
    #[cfg(feature = "client")]
    pub fn dial_on_memory(mut self, network: &MemoryNetwork) -> Builder {
        self.dialled = Some(network.clone());
        self
    }

    /// Uses a clock that is moved by hand, instead of the system's: for tests.
    pub fn clock(mut self, clock: ManualClock) -> Builder {
        self.clock = Some(clock);
        self
    }

    /// Listens on `address` (`host:port`, `[v6]:port`, `*:port` or `unix:/path`) and builds the
    /// server. For the operator it listens only if [`Builder::admin`] was called.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn listen(mut self, address: &str) -> Result<Server> {
        self.config.listen = vec![parse("listen", address)?];
        if !self.is_admin_set {
            self.config.admin_listen = Vec::new();
        }
        self.build()
    }

    /// Listens only in memory, and builds the server: for tests. No address is bound, and no
    /// connection costs a descriptor.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`]; [`Error::Io`] if another server listens on this network.
    pub fn listen_memory(mut self, network: &MemoryNetwork) -> Result<Server> {
        self.config.listen = Vec::new();
        self.config.admin_listen = Vec::new();
        let mut server = self.build()?;
        server.inner.listen_memory(network)?;
        Ok(server)
    }

    /// Builds the server: checks the configuration, binds its addresses, starts the workers.
    /// Nothing is served before [`Server::run`] or [`Server::turn`].
    ///
    /// With `cluster.redis` this waits for Redis, some seconds at most where Redis does not answer,
    /// and up to 19 s while another server has the name of this one.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the configuration contradicts itself, or does with what a route
    /// [sets](Route::set), asks for more connections than there are descriptors, or names a faulty
    /// file of tokens. [`Error::Route`] if no request could ever match a path, if another route
    /// answers the same method there, for the 4,097th route, or for a hook on a route that
    /// publishes nothing. [`Error::Bind`] if an address cannot be bound.
    /// [`Error::Io`] if the kernel refuses anything else.
    pub fn build(self) -> Result<Server> {
        self.build_with(Some(Pool::start))
    }

    /// Builds a server; without what starts workers it has none. Hooks of routes hear what comes of
    /// what is started.
    pub(crate) fn build_with(mut self, start_workers: Option<StartWorkers>) -> Result<Server> {
        let fault = |faults: Vec<String>| Error::Config { text: faults.join("; ") };
        let faults = self.config.check().faults;
        if !faults.is_empty() {
            return Err(fault(faults));
        }
        let Config { listen, admin_listen, .. } = &self.config;
        if !(listen.is_empty() && admin_listen.is_empty() && self.adopted.is_empty()) {
            descriptors::fit(&mut self.config).map_err(|text| Error::Config { text })?;
        }
        let (mut specs, mut places, mut starts) = (Vec::new(), Vec::new(), Vec::new());
        for mut route in self.routes {
            starts.append(&mut route.starts);
            #[cfg(feature = "streams")]
            check_folder(&route)?;
            route.into_parts(&mut specs, &mut places);
        }
        check_routes(&self.config, &specs)?;
        if self.config.workers == 0 {
            let inline = |served: &mut Served| served.spec.placement = Placement::Inline;
            specs.iter_mut().for_each(inline);
        }
        let credentials = token_file::load(&self.config).map_err(fault)?;
        #[cfg(feature = "client")]
        Dial::check_all(&self.config).map_err(fault)?;
        #[cfg(feature = "tls")]
        let acceptor = Acceptor::load(&self.config).map_err(fault)?;
        let config = &self.config;
        let is_adopted = |face| self.adopted.iter().any(|(_, adopted, _)| *adopted == face);
        let mut listen = Vec::new();
        for (addresses, face) in
            [(&config.listen, Face::Public), (&config.admin_listen, Face::Admin)]
        {
            let own = addresses.iter().filter(|_| !is_adopted(face));
            listen.extend(own.map(|address| (address.clone(), face)));
        }
        let clock = Clock::new(self.clock);
        let setup = Setup {
            memory_auto: machine::memory_auto(self.config.workers),
            config: self.config,
            routes: specs,
            machine_name: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            seed: self.seed.unwrap_or_else(random_seed),
            unix_ms: clock.unix_ms(),
        };
        let mut server =
            Server { inner: EventLoop::new(setup, places.into(), clock, start_workers)? };
        server.inner.set_credentials(credentials);
        #[cfg(feature = "client")]
        self.dialled.into_iter().for_each(|network| server.inner.dial_on_memory(network));
        #[cfg(feature = "tls")]
        if let Some(acceptor) = acceptor {
            acceptor.doubts.iter().for_each(|doubt| log::warn!("{doubt}"));
            server.inner.set_tls(acceptor);
        }
        if let Some(count) = self.log_lines_dropped {
            server.inner.count_log_lines_dropped(count);
        }
        for (adopted, face, speech) in self.adopted {
            let address = server.inner.adopt(adopted, face, speech)?;
            tell_address(&address, face);
        }
        for (address, face) in listen {
            server.listen(&address, face)?;
        }
        let handle = server.handle();
        starts.into_iter().try_for_each(|start| start(&mut server.inner))?;
        self.starts.into_iter().for_each(|start| start(&handle));
        Ok(server)
    }
}

/// A server: [run](Server::run) by itself, or [turned](Server::turn) by another loop.
///
/// In a loop of your own, in the order of programs that use `poll(2)`:
///
/// ```no_run
/// # use heartwheel::{Event, Peer, Server};
/// # fn wait_for(_: std::os::fd::BorrowedFd<'_>, _: Option<std::time::Duration>) {}
/// # let handler = |_: &Peer, _: Event| {};
/// let mut server =
///     Server::builder().workers(0).websocket("/echo", handler).listen("127.0.0.1:8765")?;
/// loop {
///     wait_for(server.as_fd(), server.next_timeout()); // poll(2), with other descriptors too
///     server.turn()?;
/// }
/// # #[allow(unreachable_code)] Ok::<(), heartwheel::Error>(())
/// ```
pub struct Server {
    pub(crate) inner: Box<EventLoop>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The drain has ended.
    Drained,
    /// The server was told to end at once.
    ShutDown,
}

impl Server {
    /// Begins to build a server.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Serves until the drain or the shutdown that [`Server::handle`] began has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the kernel's poller fails: nothing can be served then.
    pub fn run(self) -> Result<Ended> {
        self.run_with(|_| None)
    }

    /// Runs, and asks before each turn for how long it may wait at most.
    pub(crate) fn run_with(
        mut self,
        mut before_turn: impl FnMut(&Stats) -> Option<Duration>,
    ) -> Result<Ended> {
        while !self.is_over() {
            let most = before_turn(self.inner.engine().stats());
            let wait = self.inner.next_wait();
            self.inner.turn(wait.into_iter().chain(most).min())?;
        }
        match self.inner.was_shut_down() {
            true => Ok(Ended::ShutDown),
            false => Ok(Ended::Drained),
        }
    }

    /// Returns the one descriptor to poll for reading: for new bytes, new connections, room to
    /// write, and commands from other threads. It stays the same for the life of the server.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.as_fd()
    }

    /// Returns how long a host may wait before it calls [`Server::turn`]: zero if work is left,
    /// `None` if nothing is due.
    ///
    /// The time is rounded up to whole milliseconds. Ask again after each turn and just before
    /// waiting, because this reads the clock. With a [`ManualClock`] it is the time by which to
    /// move that clock for the next deadline.
    pub fn next_timeout(&self) -> Option<Duration> {
        self.inner.next_timeout()
    }

    /// Does one turn, without waiting. Its work is bounded by `turn.events` and `turn.bytes`. An
    /// early call is harmless, a late one delays deadlines.
    ///
    /// # Errors
    ///
    /// As [`Server::run`].
    pub fn turn(&mut self) -> Result<()> {
        Ok(self.inner.turn(Some(Duration::ZERO))?)
    }

    /// Returns whether a drain or a shutdown has ended.
    pub fn is_over(&self) -> bool {
        self.inner.is_over()
    }

    /// Returns a handle that works from any thread.
    pub fn handle(&self) -> Handle {
        self.inner.handle()
    }

    /// Returns the public addresses really bound.
    pub fn local_addresses(&self) -> Vec<LocalAddress> {
        let public = |(address, face)| (face == Face::Public).then_some(address);
        self.inner.local_addresses().filter_map(public).collect()
    }

    /// Returns the operator's addresses really bound.
    pub fn admin_addresses(&self) -> Vec<LocalAddress> {
        let admin = |(address, face)| (face == Face::Admin).then_some(address);
        self.inner.local_addresses().filter_map(admin).collect()
    }

    /// Returns the counters.
    pub fn stats(&self) -> &Stats {
        self.inner.engine().stats()
    }

    /// Returns all figures in the Prometheus text format, as `GET /metrics` of
    /// [`Builder::operator`] does: for a host that serves them itself. It takes some nanoseconds
    /// for each connection, and a few system calls.
    pub fn metrics(&self) -> String {
        self.inner.metrics()
    }

    /// Lets a log that answers later issue the ids of events; `last` is its last id. To be called
    /// before the first turn. The log takes what [`Server::poll_publication`] returns, and answers
    /// by [`Handle::logged`].
    #[cfg(feature = "backbone")]
    #[doc(hidden)]
    pub fn follow_log(&mut self, last: EventId) {
        self.inner.follow_log(last);
    }

    /// Takes the next publication for the log. To be called after each turn until it returns
    /// `None`.
    #[doc(hidden)]
    pub fn poll_publication(&mut self) -> Option<Publication> {
        self.inner.poll_publication()
    }

    /// Returns the number of open connections.
    pub fn connections(&self) -> usize {
        self.inner.engine().len()
    }

    /// Binds one more address and returns the addresses really bound.
    pub(crate) fn listen(&mut self, address: &Address, face: Face) -> Result<Vec<LocalAddress>> {
        let bound = self.inner.listen(address, face).map_err(|source| Error::Bind {
            key: key_of(face),
            address: address.clone(),
            source,
        })?;
        bound.iter().for_each(|address| tell_address(address, face));
        Ok(bound)
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("connections", &self.connections()).finish_non_exhaustive()
    }
}

/// What can keep a server from being built or from running.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The configuration contradicts itself, or this machine.
    Config {
        /// The faults, one sentence each.
        text: String,
    },
    /// A route that no request could reach, or one route too many.
    Route {
        /// Its path.
        path: String,
        /// The rule that it breaks.
        rule: &'static str,
    },
    /// An address cannot be bound.
    Bind {
        /// The key of the configuration that names it: `listen` or `admin_listen`.
        key: &'static str,
        /// The address.
        address: Address,
        /// The kernel's error.
        source: io::Error,
    },
    /// The kernel refused something else.
    Io(io::Error),
}

/// What the library's functions return.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Config { text } => f.write_str(text),
            Error::Bind { key, address, source } => write!(f, "{key} = {address}: {source}"),
            Error::Route { path, rule } => write!(f, "route {path:?}: {rule}"),
            Error::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Config { .. } | Error::Route { .. } => None,
            Error::Bind { source, .. } => Some(source),
            Error::Io(error) => Some(error),
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

/// Checks routes, and what they set for their own.
fn check_routes(config: &Config, routes: &[Served]) -> Result<()> {
    Served::check(routes)
        .map_err(|(number, rule)| Error::Route { path: routes[number].path.clone(), rule })?;
    let mut changed = routes.iter().filter(|route| !route.changes.is_empty());
    changed.try_for_each(|route| match config.changed_by(&route.changes) {
        Ok(_) => Ok(()),
        Err(faults) => {
            Err(Error::Config { text: format!("route {:?}: {}", route.path, faults.join("; ")) })
        }
    })
}

/// Checks that there is a folder where files are to be served.
#[cfg(feature = "streams")]
fn check_folder(route: &Route) -> Result<()> {
    match route.folder.as_deref().filter(|folder| !folder.is_dir()) {
        Some(folder) => {
            Err(Error::Config { text: format!("{}: there is no such folder", folder.display()) })
        }
        None => Ok(()),
    }
}

fn tell_address(address: &LocalAddress, face: Face) {
    match face {
        Face::Admin => info!("listening address={address} for=admin"),
        Face::Public | Face::Both => info!("listening address={address}"),
    }
}

/// Returns the key of the configuration that names addresses of this face.
fn key_of(face: Face) -> &'static str {
    match face {
        Face::Admin => "admin_listen",
        Face::Public | Face::Both => "listen",
    }
}

fn parse(key: &str, address: &str) -> Result<Address> {
    address.parse().map_err(|_| Error::Config {
        text: format!("{key} = {address}: must be host:port, [v6]:port, *:port or unix:/path"),
    })
}

//! Listeners: binding, accepting within a budget, and what to do when the machine has run out of
//! descriptors.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token, event::Source};
use socket2::{Domain, SockAddr, Type};

use crate::config::Address;
use crate::route::Face;
use crate::socket::Socket;

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    kind: Kind,
    pub face: Face,
    /// A connection may wait: edges are told once.
    pub is_ready: bool,
}

#[derive(Debug)]
enum Kind {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// What came of an attempt to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection.
    Socket(Socket),
    /// Nobody waits.
    Nobody,
    /// This one failed; the next may not.
    Failed(io::Error),
    /// Descriptors or memory have run out: accepting must pause, no edge will tell when to go on.
    Exhausted(io::Error),
}

impl Listener {
    /// Binds all addresses that a name stands for.
    pub fn bind(address: &Address, face: Face) -> io::Result<Vec<Listener>> {
        let kinds = match address {
            Address::Tcp(name) => bind_tcp(name)?.into_iter().map(Kind::Tcp).collect(),
            Address::Unix(path) => vec![Kind::Unix(bind_unix(path)?, path.clone())],
        };
        let listener = |kind| Listener { kind, face, is_ready: true };
        Ok(kinds.into_iter().map(listener).collect())
    }

    /// Watches for connections.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.kind {
            Kind::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            Kind::Unix(listener, _) => listener.register(registry, token, Interest::READABLE),
        }
    }

    /// Takes a connection that waits, if there is one.
    pub fn accept(&self) -> Accepted {
        let accepted = match &self.kind {
            Kind::Tcp(listener) => listener.accept().map(|(stream, _)| Socket::Tcp(stream)),
            Kind::Unix(listener, _) => listener.accept().map(|(stream, _)| Socket::Unix(stream)),
        };
        match accepted {
            Ok(socket) => Accepted::Socket(socket),
            Err(error) if error.kind() == ErrorKind::WouldBlock => Accepted::Nobody,
            Err(error) if is_exhausted(&error) => Accepted::Exhausted(error),
            Err(error) => Accepted::Failed(error),
        }
    }

    /// Gives the address really bound.
    pub fn local_address(&self) -> io::Result<LocalAddress> {
        match &self.kind {
            Kind::Tcp(listener) => listener.local_addr().map(LocalAddress::Tcp),
            Kind::Unix(_, path) => Ok(LocalAddress::Unix(path.clone())),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Kind::Unix(_, path) = &self.kind {
            // Somebody else may have removed it: nothing is lost.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// An address that a server is bound to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalAddress {
    /// TCP, with the port really taken.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl LocalAddress {
    /// Gives the TCP address, if it is one.
    pub fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            LocalAddress::Tcp(address) => Some(*address),
            LocalAddress::Unix(_) => None,
        }
    }
}

impl std::fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LocalAddress::Tcp(address) => address.fmt(f),
            LocalAddress::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

fn bind_tcp(name: &str) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for mut address in name.to_socket_addrs()? {
        if address.port() == 0
            && let Some(first) = listeners.first()
        {
            address.set_port(first.local_addr()?.port());
        }
        let socket =
            socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
        // A restart must not wait for the old connections' TIME_WAIT.
        socket.set_reuse_address(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        listeners.push(TcpListener::from_std(socket.into()));
    }
    match listeners.is_empty() {
        true => Err(io::Error::new(ErrorKind::NotFound, "the name has no address")),
        false => Ok(listeners),
    }
}

fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    socket.listen(BACKLOG)?;
    Ok(UnixListener::from_std(socket.into()))
}

/// Removes a socket that nobody listens to any more; one that is alive is refused.
fn remove_stale(path: &Path) -> io::Result<()> {
    // Linux refuses to connect to a file of any other kind, too: that is not ours to remove.
    if !std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(());
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another server listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// Says whether an error of accept means that this machine, or this process, has run out of
/// something.
fn is_exhausted(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let exhausted = [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::NOMEM];
    error.raw_os_error().is_some_and(|code| exhausted.contains(&Errno::from_raw_os_error(code)))
}

/// Linux cuts it to net.core.somaxconn, 4096 by default.
const BACKLOG: i32 = 4096;

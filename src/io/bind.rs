//! Binding addresses, and taking over listeners that were bound elsewhere.

use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener as StdTcpListener, ToSocketAddrs};
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown};
use std::os::unix::net::{UnixListener as StdUnixListener, UnixStream as StdUnixStream};
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, Type};

use crate::core::config::Unix;

/// A listener that was bound elsewhere: by a service manager, a parent process, a test.
#[derive(Debug)]
pub enum Adopted {
    /// TCP.
    Tcp(StdTcpListener),
    /// A Unix socket. Its path is not removed when the server ends.
    Unix(StdUnixListener),
}

impl From<StdTcpListener> for Adopted {
    fn from(listener: StdTcpListener) -> Adopted {
        Adopted::Tcp(listener)
    }
}

impl From<StdUnixListener> for Adopted {
    fn from(listener: StdUnixListener) -> Adopted {
        Adopted::Unix(listener)
    }
}

/// Binds all addresses of a name to one port; `*:port` means all addresses of IPv4 and IPv6.
pub(crate) fn bind_tcp(name: &str) -> io::Result<Vec<TcpListener>> {
    let addresses: Vec<SocketAddr> = match name.strip_prefix("*:").map(str::parse) {
        Some(Ok(port)) => {
            vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
        }
        _ => name.to_socket_addrs()?.collect(),
    };
    let mut attempts = 1..=ATTEMPTS;
    loop {
        match bind_all(&addresses) {
            // Another program may have the port that the system chose for the first address.
            Err(error)
                if error.kind() == ErrorKind::AddrInUse
                    && addresses.iter().any(|address| address.port() == 0)
                    && attempts.next().is_some() => {}
            bound => return bound,
        }
    }
}

/// Binds addresses. Where the port is 0, all get the port that the first was given. A family that
/// this machine does not have is left out, as long as there is another.
fn bind_all(addresses: &[SocketAddr]) -> io::Result<Vec<TcpListener>> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    let mut missing = None;
    for mut address in addresses.iter().copied() {
        if address.port() == 0
            && let Some(first) = listeners.first()
        {
            address.set_port(first.local_addr()?.port());
        }
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_missing(address, &error) => missing = Some(error),
            Err(error) => return Err(error),
        }
    }
    let none = || io::Error::new(ErrorKind::NotFound, "the name has no address");
    match listeners.is_empty() {
        true => Err(missing.unwrap_or_else(none)),
        false => Ok(listeners),
    }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket =
        socket2::Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), None)?;
    // A restart must not wait for the old connections' TIME_WAIT.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Returns whether an address cannot be bound because this machine does not have its family: IPv6
/// is off on many devices whose `localhost` still names `::1`.
fn is_missing(address: SocketAddr, error: &io::Error) -> bool {
    let ip = address.ip();
    let is_everywhere = ip.is_loopback() || ip.is_unspecified();
    error.raw_os_error() == Some(Errno::AFNOSUPPORT.raw_os_error())
        || error.kind() == ErrorKind::AddrNotAvailable && ip.is_ipv6() && is_everywhere
}

/// Binds a path, with the configured access: it is set before any client can connect.
pub(crate) fn bind_unix(path: &Path, unix: &Unix) -> io::Result<(SocketFile, UnixListener)> {
    remove_stale(path)?;
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Made after the socket, so that it is dropped first: see `SocketFile`.
    let file = SocketFile::of(path)?;
    give_access(path, unix)?;
    socket.listen(BACKLOG)?;
    Ok((file, UnixListener::from_std(socket.into())))
}

/// The file of a Unix socket that was bound here. Dropping this value removes the file, unless
/// another file stands at the path by then: the socket of a second server, perhaps.
///
/// The value must be dropped before its socket: while the socket is open the kernel gives the
/// number of its inode to no other file.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    identity: Identity,
}

/// Device and inode.
type Identity = (u64, u64);

impl SocketFile {
    fn of(path: &Path) -> io::Result<SocketFile> {
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|found| found == self.identity) {
            // Another process may remove it at this moment: nothing is lost.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<Identity> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

/// Removes a socket on which no server listens any more; refuses one on which a server does.
fn remove_stale(path: &Path) -> io::Result<()> {
    // Linux also refuses to connect to files of other kinds, which are not ours to remove.
    if !fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
        return Ok(());
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(ErrorKind::AddrInUse, "another server listens there")),
        Err(error) if error.kind() == ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(_) => Ok(()),
    }
}

/// Sets mode and owner.
fn give_access(path: &Path, unix: &Unix) -> io::Result<()> {
    fs::set_permissions(path, Permissions::from_mode(unix.mode))?;
    let Some(owner) = &unix.owner else { return Ok(()) };
    let user = owner.user.as_deref().map(|name| number_of(name, "/etc/passwd")).transpose()?;
    let group = owner.group.as_deref().map(|name| number_of(name, "/etc/group")).transpose()?;
    chown(path, user, group)
}

/// Finds the number of a user or group: the third field of the line that begins with its name.
fn number_of(name: &str, file: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines().map(|line| line.split(':'));
    let number = lines.find_map(|mut fields| {
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok()).flatten()
    });
    let missing = || io::Error::new(ErrorKind::NotFound, format!("{name} is not in {file}"));
    number.ok_or_else(missing)
}

/// How often to look for one port that several addresses have free.
const ATTEMPTS: usize = 16;

/// Linux cuts it to net.core.somaxconn, 4096 by default.
const BACKLOG: i32 = 4096;

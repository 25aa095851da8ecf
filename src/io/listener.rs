//! Listeners: accepting, and what to do when the machine has run out of descriptors.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token, event::Source};

use crate::core::config::{Address, Unix};
use crate::core::contract::route::Face;
use crate::io::bind::{Adopted, SocketFile, bind_tcp, bind_unix};
use crate::io::memory::Exchange;
use crate::io::socket::{Socket, Speech};

/// A bound listener.
#[derive(Debug)]
pub(crate) struct Listener {
    kind: ListenerSocket,
    pub face: Face,
    /// What is spoken there before HTTP.
    pub speech: Speech,
    /// A connection may wait: the poller reports each edge once.
    pub is_ready: bool,
}

#[derive(Debug)]
enum ListenerSocket {
    Tcp(TcpListener),
    /// With its file, if it was bound here. Fields drop in their order: the file first.
    Unix {
        _file: Option<SocketFile>,
        listener: UnixListener,
    },
    /// A door of the exchange.
    Memory(Exchange),
}

/// What came of an attempt to accept.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// A connection.
    Socket(Socket),
    /// No connection waits.
    Nobody,
    /// This connection failed; the next may not.
    Failed(io::Error),
    /// Descriptors or memory have run out: accepting must pause, and no edge tells its end.
    Exhausted(io::Error),
}

impl Listener {
    /// Binds all addresses that a name stands for.
    pub fn bind(
        address: &Address,
        unix: &Unix,
        face: Face,
        speech: Speech,
    ) -> io::Result<Vec<Listener>> {
        let kinds = match address.socket() {
            Address::Tcp(name) => bind_tcp(name)?.into_iter().map(ListenerSocket::Tcp).collect(),
            Address::Unix(path) => {
                let (file, listener) = bind_unix(path, unix)?;
                vec![ListenerSocket::Unix { _file: Some(file), listener }]
            }
            #[cfg(feature = "tls")]
            Address::Tls(_) => unreachable!("what is bound is none"),
            Address::Proxy(_) => unreachable!("what is bound is none"),
        };
        let listener = |kind| Listener { kind, face, speech, is_ready: true };
        Ok(kinds.into_iter().map(listener).collect())
    }

    /// Takes over a listener that was bound elsewhere.
    pub fn adopt(adopted: Adopted, face: Face, speech: Speech) -> io::Result<Listener> {
        let kind = match adopted {
            Adopted::Tcp(listener) => {
                listener.set_nonblocking(true)?;
                ListenerSocket::Tcp(TcpListener::from_std(listener))
            }
            Adopted::Unix(listener) => {
                listener.set_nonblocking(true)?;
                ListenerSocket::Unix { _file: None, listener: UnixListener::from_std(listener) }
            }
        };
        Ok(Listener { kind, face, speech, is_ready: true })
    }

    /// Makes a listener for connections in memory.
    pub fn in_memory(exchange: Exchange, face: Face) -> Listener {
        let (kind, speech) = (ListenerSocket::Memory(exchange), Speech::PLAIN);
        Listener { kind, face, speech, is_ready: true }
    }

    /// Watches for connections.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        match &mut self.kind {
            ListenerSocket::Tcp(listener) => listener.register(registry, token, Interest::READABLE),
            ListenerSocket::Unix { listener, .. } => {
                listener.register(registry, token, Interest::READABLE)
            }
            ListenerSocket::Memory(exchange) => {
                exchange.open(self.face, token);
                Ok(())
            }
        }
    }

    /// Takes a connection that waits, if there is one.
    pub fn accept(&self) -> Accepted {
        let accepted = match &self.kind {
            ListenerSocket::Tcp(listener) => {
                listener.accept().map(|(stream, _)| Socket::Tcp(stream))
            }
            ListenerSocket::Unix { listener, .. } => {
                listener.accept().map(|(stream, _)| Socket::Unix(stream))
            }
            ListenerSocket::Memory(exchange) => {
                let socket = exchange.accept(self.face).map(Socket::Memory);
                socket.ok_or_else(|| ErrorKind::WouldBlock.into())
            }
        };
        match accepted.map(|socket| socket.speaking(self.speech)) {
            Ok(socket) => Accepted::Socket(socket),
            Err(error) => match verdict(&error) {
                Verdict::Wait => Accepted::Nobody,
                Verdict::Next => Accepted::Failed(error),
                Verdict::Pause => Accepted::Exhausted(error),
            },
        }
    }

    /// Returns the address really bound; `AddrNotAvailable` in memory.
    pub fn local_address(&self) -> io::Result<LocalAddress> {
        let address = self.bound_address()?;
        #[cfg(feature = "tls")]
        let address = if self.speech.is_tls { LocalAddress::Tls(address.into()) } else { address };
        Ok(if self.speech.is_proxy { LocalAddress::Proxy(address.into()) } else { address })
    }

    fn bound_address(&self) -> io::Result<LocalAddress> {
        match &self.kind {
            ListenerSocket::Tcp(listener) => listener.local_addr().map(LocalAddress::Tcp),
            ListenerSocket::Unix { listener, .. } => {
                let address = listener.local_addr()?;
                let path = address.as_pathname().unwrap_or(Path::new(""));
                Ok(LocalAddress::Unix(path.to_owned()))
            }
            ListenerSocket::Memory(_) => Err(ErrorKind::AddrNotAvailable.into()),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let ListenerSocket::Memory(exchange) = &self.kind {
            exchange.close(self.face);
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
    /// TLS, spoken at the address inside.
    #[cfg(feature = "tls")]
    Tls(Box<LocalAddress>),
    /// A PROXY header, and after it what is spoken at the address inside.
    Proxy(Box<LocalAddress>),
}

impl LocalAddress {
    /// Returns the TCP address, whatever is spoken there, or `None` for a Unix socket.
    pub fn as_tcp(&self) -> Option<SocketAddr> {
        match self {
            LocalAddress::Tcp(address) => Some(*address),
            LocalAddress::Unix(_) => None,
            #[cfg(feature = "tls")]
            LocalAddress::Tls(inside) => inside.as_tcp(),
            LocalAddress::Proxy(inside) => inside.as_tcp(),
        }
    }
}

impl std::fmt::Display for LocalAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            LocalAddress::Tcp(address) => address.fmt(f),
            LocalAddress::Unix(path) => write!(f, "unix:{}", path.display()),
            #[cfg(feature = "tls")]
            LocalAddress::Tls(inside) => write!(f, "tls:{inside}"),
            #[cfg(feature = "tls")]
            LocalAddress::Proxy(inside) if matches!(**inside, LocalAddress::Tls(_)) => {
                write!(f, "proxy+{inside}")
            }
            LocalAddress::Proxy(inside) => write!(f, "proxy:{inside}"),
        }
    }
}

/// What to do after an error of accept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// No connection waits: an edge tells of the next.
    Wait,
    /// This connection, or this call, has failed: the next one may succeed.
    Next,
    /// The error would come again at once.
    Pause,
}

/// Judges an error of accept(2). Linux reports what has happened to a connection while it waited as
/// an error of accept, and so do firewalls. Any other error, known or not, may stay: then accepting
/// must not be tried again and again.
fn verdict(error: &io::Error) -> Verdict {
    use rustix::io::Errno;
    if error.kind() == ErrorKind::WouldBlock {
        return Verdict::Wait;
    }
    let Some(code) = error.raw_os_error() else { return Verdict::Pause };
    match Errno::from_raw_os_error(code) {
        Errno::INTR
        | Errno::CONNABORTED
        | Errno::PERM
        | Errno::PROTO
        | Errno::NETDOWN
        | Errno::NOPROTOOPT
        | Errno::HOSTDOWN
        | Errno::NONET
        | Errno::HOSTUNREACH
        | Errno::OPNOTSUPP
        | Errno::NETUNREACH
        | Errno::TIMEDOUT
        | Errno::SOCKTNOSUPPORT
        | Errno::PROTONOSUPPORT => Verdict::Next,
        _ => Verdict::Pause,
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    /// Every errno that accept(2) names.
    #[test]
    fn accepting_pauses_for_what_would_come_again_at_once() {
        let next = [
            Errno::INTR,
            Errno::CONNABORTED,
            Errno::PERM,
            Errno::PROTO,
            Errno::NETDOWN,
            Errno::NOPROTOOPT,
            Errno::HOSTDOWN,
            Errno::NONET,
            Errno::HOSTUNREACH,
            Errno::OPNOTSUPP,
            Errno::NETUNREACH,
            Errno::SOCKTNOSUPPORT,
            Errno::PROTONOSUPPORT,
            Errno::TIMEDOUT,
        ];
        let pause = [
            Errno::MFILE,
            Errno::NFILE,
            Errno::NOBUFS,
            Errno::NOMEM,
            Errno::NOSR,
            Errno::BADF,
            Errno::FAULT,
            Errno::INVAL,
            Errno::NOTSOCK,
            Errno::NOSYS,
        ];
        let all = [(&[Errno::AGAIN, Errno::WOULDBLOCK][..], Verdict::Wait)];
        let all = all.into_iter().chain([(&next[..], Verdict::Next), (&pause, Verdict::Pause)]);
        for (errors, expected) in all {
            for errno in errors {
                let error = io::Error::from_raw_os_error(errno.raw_os_error());
                assert_eq!(verdict(&error), expected, "{error}");
            }
        }
        assert_eq!(verdict(&ErrorKind::Other.into()), Verdict::Pause);
        assert_eq!(verdict(&ErrorKind::WouldBlock.into()), Verdict::Wait);
    }
}

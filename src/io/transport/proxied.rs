//! A connection from a proxy, until it has said whom it connects for. Then it is what the proxy
//! carries: bytes as they are, or TLS.
//!
//! The header is read with what follows. What came behind it is given by the next reads, or is what
//! the handshake begins with.

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use crate::core::transport::{Got, Handshake, Transport, Written};
use crate::core::wire::proxy_header::{
    Malformed, PROXY_HEADER_BYTES_MAX, ProxyHeader, read_proxy_header,
};
use crate::io::socket::{SocketMut, Speech, Stream};
use crate::io::sockets::SocketSlot;
#[cfg(feature = "tls")]
use crate::io::transport::tls::{Desk, Tls, TlsMut};

/// The state of a connection from a proxy.
#[derive(Debug)]
pub(crate) struct Proxied {
    stream: Stream,
    /// TLS follows the header.
    #[cfg(feature = "tls")]
    is_tls: bool,
    /// What has come of the header; or, behind it, what came with it and was not read.
    held: Vec<u8>,
    is_told: bool,
    /// What the proxy has said, until it is taken.
    client: Option<Client>,
    /// Bytes of the last read.
    overhead: usize,
}

impl Proxied {
    /// Begins with a connection that was accepted.
    pub fn new(stream: Stream, _speech: Speech) -> Proxied {
        Proxied {
            stream,
            #[cfg(feature = "tls")]
            is_tls: _speech.is_tls,
            held: Vec::new(),
            is_told: false,
            client: None,
            overhead: 0,
        }
    }

    /// Gives what came with the header.
    fn give(&mut self, buffer: &mut [u8]) -> Got {
        let len = buffer.len().min(self.held.len());
        buffer[..len].copy_from_slice(&self.held[..len]);
        self.held.drain(..len);
        Got::Bytes { len, is_drained: false }
    }
}

/// What a proxy has said: the client's address, if that of the connection does not stand.
type Client = Result<Option<SocketAddr>, Malformed>;

/// A connection from a proxy, lent with its place in the table: there it becomes another.
#[derive(Debug)]
pub(crate) struct ProxiedMut<'a> {
    place: &'a mut SocketSlot,
    #[cfg(feature = "tls")]
    desk: Option<(usize, &'a mut Desk)>,
}

impl<'a> ProxiedMut<'a> {
    /// Lends the connection in `place`; with its slot and what connections over TLS share, if there
    /// can be any.
    pub fn new(
        place: &'a mut SocketSlot,
        #[cfg(feature = "tls")] desk: Option<(usize, &'a mut Desk)>,
    ) -> ProxiedMut<'a> {
        ProxiedMut {
            place,
            #[cfg(feature = "tls")]
            desk,
        }
    }

    /// Lends the socket below.
    pub fn stream(&mut self) -> SocketMut<'_> {
        match self.place {
            SocketSlot::Proxied(proxied) => proxied.stream.lend(),
            SocketSlot::Tcp(stream) => SocketMut::Tcp(stream),
            SocketSlot::Unix(stream) => SocketMut::Unix(stream),
            #[cfg(feature = "tls")]
            SocketSlot::Tls(tls) => tls.stream(),
            SocketSlot::Free | SocketSlot::Memory(_) => unreachable!("it does not become these"),
        }
    }

    /// Reads more of the header.
    fn read_header(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let SocketSlot::Proxied(proxied) = &mut *self.place else {
            // The next reads are another's.
            return Err(ErrorKind::Interrupted.into());
        };
        if proxied.is_told {
            let got = proxied.give(buffer);
            if proxied.held.is_empty() {
                self.become_plain();
            }
            return Ok(got);
        }
        let most = buffer.len().min(PROXY_HEADER_BYTES_MAX - proxied.held.len());
        match proxied.stream.lend().read(&mut buffer[..most])? {
            Got::End if proxied.held.is_empty() => Ok(Got::End),
            Got::End => {
                proxied.client = Some(Err(Malformed("it is cut off")));
                Ok(Got::Bytes { len: 0, is_drained: false })
            }
            Got::Bytes { len, is_drained } => {
                proxied.held.reserve_exact(len);
                proxied.held.extend_from_slice(&buffer[..len]);
                proxied.overhead += len;
                match read_proxy_header(&proxied.held) {
                    Ok(None) => return Ok(Got::Bytes { len: 0, is_drained }),
                    Ok(Some(ProxyHeader { len, source })) => {
                        proxied.held.drain(..len);
                        proxied.is_told = true;
                        proxied.client = Some(Ok(source));
                    }
                    Err(malformed) => proxied.client = Some(Err(malformed)),
                }
                // What came behind is not read yet.
                Ok(Got::Bytes { len: 0, is_drained: false })
            }
        }
    }

    /// Goes on with what the proxy carries.
    fn go_on(&mut self, _client: Option<SocketAddr>) {
        let SocketSlot::Proxied(proxied) = &mut *self.place else { return };
        #[cfg(feature = "tls")]
        if proxied.is_tls
            && let Some((key, desk)) = &mut self.desk
        {
            let held = std::mem::take(&mut proxied.held);
            let SocketSlot::Proxied(proxied) = std::mem::replace(self.place, SocketSlot::Free)
            else {
                unreachable!("it was just looked at");
            };
            *self.place = SocketSlot::Tls(Tls::new(proxied.stream, _client, desk));
            if let SocketSlot::Tls(tls) = &mut *self.place {
                TlsMut { key: *key, tls, desk }.begin_with(held);
            }
            return;
        }
        if proxied.held.is_empty() {
            self.become_plain();
        }
    }

    /// From now on bytes are taken as they are.
    fn become_plain(&mut self) {
        *self.place = match std::mem::replace(self.place, SocketSlot::Free) {
            SocketSlot::Proxied(proxied) => proxied.stream.into(),
            other => other,
        };
    }
}

impl Transport for ProxiedMut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        self.read_header(buffer)
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        match self.handshake() {
            // Nothing goes to a proxy that has not said whom it is for.
            Handshake::Going => Err(ErrorKind::WouldBlock.into()),
            Handshake::Done => self.stream().write(slices),
        }
    }

    fn splice(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        match self.handshake() {
            Handshake::Going => Err(ErrorKind::WouldBlock.into()),
            Handshake::Done => self.stream().splice(pipe, most),
        }
    }

    /// Also a header that has not come, or is none, is over: what still comes is discarded.
    fn finish(&mut self) {
        self.become_plain();
        self.stream().finish();
    }

    fn has_room(&mut self) -> bool {
        self.stream().has_room()
    }

    fn overhead(&mut self) -> usize {
        match &mut *self.place {
            SocketSlot::Proxied(proxied) => std::mem::take(&mut proxied.overhead),
            _ => 0,
        }
    }

    fn awaits_client(&self) -> bool {
        matches!(&*self.place, SocketSlot::Proxied(proxied) if !proxied.is_told)
    }

    fn take_client(&mut self) -> Option<Client> {
        let SocketSlot::Proxied(proxied) = &mut *self.place else { return None };
        let client = proxied.client.take()?;
        if let Ok(client) = client {
            self.go_on(client);
        }
        Some(client)
    }

    fn handshake(&self) -> Handshake {
        match &*self.place {
            SocketSlot::Proxied(proxied) if !proxied.is_told => Handshake::Going,
            #[cfg(feature = "tls")]
            SocketSlot::Tls(_) => Handshake::Going,
            _ => Handshake::Done,
        }
    }
}

//! The table of sockets: one for each connection, in the slot of the connection.

use mio::net::{TcpStream, UnixStream};
use slab::Slab;

use crate::core::config::SOCKET_PLACE_BYTES;
use crate::io::memory::MemorySocket;
use crate::io::socket::{Socket, SocketMut, Stream};
use crate::io::transport::proxied::{Proxied, ProxiedMut};
#[cfg(feature = "tls")]
use crate::io::transport::tls::{Desk, Shake, Stepped, Ticket, Tls, TlsMut};

/// The sockets of all connections, by slot.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    table: Vec<SocketSlot>,
    memory: Slab<MemorySocket>,
    /// What connections over TLS share, if there can be any.
    #[cfg(feature = "tls")]
    pub desk: Option<Box<Desk>>,
}

impl Sockets {
    /// Keeps the socket of a slot.
    pub fn insert(&mut self, key: usize, socket: Socket) {
        if self.table.len() <= key {
            self.table.resize_with(key + 1, || SocketSlot::Free);
        }
        self.table[key] = match socket {
            Socket::Tcp(stream) => SocketSlot::Tcp(stream),
            Socket::Unix(stream) => SocketSlot::Unix(stream),
            Socket::Memory(socket) => SocketSlot::Memory(self.memory.insert(socket) as u32),
            #[cfg(feature = "tls")]
            Socket::Tls(stream) => {
                let desk = self.desk.as_mut().expect("it is made with the first listener");
                SocketSlot::Tls(Tls::new(stream, None, desk))
            }
            Socket::Proxied { stream, speech } => {
                SocketSlot::Proxied(Box::new(Proxied::new(stream, speech)))
            }
        };
    }

    /// Lends the socket of a slot.
    pub fn get_mut(&mut self, key: usize) -> Option<SocketMut<'_>> {
        let place = self.table.get_mut(key)?;
        match place {
            SocketSlot::Free => None,
            SocketSlot::Tcp(stream) => Some(SocketMut::Tcp(stream)),
            SocketSlot::Unix(stream) => Some(SocketMut::Unix(stream)),
            SocketSlot::Memory(index) => {
                self.memory.get_mut(*index as usize).map(SocketMut::Memory)
            }
            #[cfg(feature = "tls")]
            SocketSlot::Tls(tls) => {
                let desk = self.desk.as_mut()?;
                Some(SocketMut::Tls(TlsMut { key, tls, desk }))
            }
            SocketSlot::Proxied(_) => Some(SocketMut::Proxied(ProxiedMut::new(
                place,
                #[cfg(feature = "tls")]
                self.desk.as_deref_mut().map(|desk| (key, desk)),
            ))),
        }
    }

    /// Closes the socket of a slot.
    pub fn close(&mut self, key: usize) {
        let Some(place) = self.table.get_mut(key) else { return };
        match std::mem::replace(place, SocketSlot::Free) {
            SocketSlot::Free
            | SocketSlot::Tcp(_)
            | SocketSlot::Unix(_)
            | SocketSlot::Proxied(_) => {}
            SocketSlot::Memory(index) => drop(self.memory.remove(index as usize)),
            #[cfg(feature = "tls")]
            SocketSlot::Tls(tls) => {
                if let Some(desk) = &mut self.desk {
                    tls.close(desk);
                }
            }
        }
    }
}

#[cfg(feature = "tls")]
impl Sockets {
    /// Takes a handshake of which a step can be made: first those that hold state already, then the
    /// newest hello. Where more come than can be served, the oldest have given up, or will before
    /// their turn comes.
    pub fn poll_step(&mut self) -> Option<(Ticket, Box<Shake>)> {
        let desk = self.desk.as_mut()?;
        while let Some(ticket) = desk.ready.pop_front() {
            if let Some(SocketSlot::Tls(tls)) = self.table.get_mut(ticket.key)
                && let Some(shake) = tls.take_ready(ticket, desk)
            {
                return Some((ticket, shake));
            }
        }
        while desk.active < desk.active_max
            && let Some(ticket) = desk.hellos.pop_back()
        {
            if let Some(SocketSlot::Tls(tls)) = self.table.get_mut(ticket.key)
                && let Some(shake) = tls.begin(ticket, desk)
            {
                return Some((ticket, shake));
            }
        }
        None
    }

    /// Forgets handshakes that stand in line and are gone, or have gone on: those in front, so that
    /// the first in line is there, and all where they have become many.
    pub fn forget_gone(&mut self) {
        let Some(desk) = &mut self.desk else { return };
        let table = &mut self.table;
        let mut is_there = |ticket: Ticket, is_it: fn(&mut Tls, Ticket) -> bool| {
            let place = table.get_mut(ticket.key);
            if let Some(SocketSlot::Tls(tls)) = place { is_it(tls, ticket) } else { false }
        };
        while let Some(ticket) = desk.hellos.front()
            && !is_there(*ticket, Tls::is_queued)
        {
            desk.hellos.pop_front();
        }
        if desk.hellos.len() > desk.hellos_max {
            desk.hellos.retain(|ticket| is_there(*ticket, Tls::is_queued));
            desk.hellos_max = 2 * desk.hellos.len() + GONE_MAX;
        }
        for queue in &mut desk.waiting {
            while let Some((ticket, _)) = queue.front()
                && !is_there(*ticket, Tls::is_waiting)
            {
                queue.pop_front();
            }
            if queue.len() > 2 * desk.active_max + GONE_MAX {
                queue.retain(|(ticket, _)| is_there(*ticket, Tls::is_waiting));
            }
        }
    }

    /// Takes a step back, and gives the slot that is to be looked at.
    pub fn finish_step(&mut self, stepped: Stepped) -> Option<usize> {
        let desk = self.desk.as_mut()?;
        let key = stepped.ticket.key;
        match self.table.get_mut(key) {
            Some(SocketSlot::Tls(tls)) => tls.finish_step(desk, stepped).then_some(key),
            _ => None,
        }
    }

    /// Has a handshake make room that has waited for its peer for too long, and gives its slot.
    pub fn make_room(&mut self) -> Option<usize> {
        let desk = self.desk.as_mut()?;
        while let Some(ticket) = desk.poll_to_end() {
            if let Some(SocketSlot::Tls(tls)) = self.table.get_mut(ticket.key)
                && tls.make_room(desk, ticket)
            {
                return Some(ticket.key);
            }
        }
        None
    }
}

/// The socket in a slot. A descriptor takes four bytes; a larger socket stands elsewhere.
#[derive(Debug)]
pub(crate) enum SocketSlot {
    Free,
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(u32),
    #[cfg(feature = "tls")]
    Tls(Tls),
    /// Until the proxy has said whom it connects for.
    Proxied(Box<Proxied>),
}

impl From<Stream> for SocketSlot {
    fn from(stream: Stream) -> SocketSlot {
        match stream {
            Stream::Tcp(stream) => SocketSlot::Tcp(stream),
            Stream::Unix(stream) => SocketSlot::Unix(stream),
        }
    }
}

/// So many handshakes that are gone may stand in line.
#[cfg(feature = "tls")]
const GONE_MAX: usize = 64;

// One for each connection, beside its slab entry.
const _: () = assert!(size_of::<SocketSlot>() <= SOCKET_PLACE_BYTES);

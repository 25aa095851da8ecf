//! The table of sockets: one for each connection, in the slot of the connection.

use mio::net::{TcpStream, UnixStream};
use slab::Slab;

use crate::core::config::SOCKET_PLACE_BYTES;
use crate::io::memory::MemorySocket;
use crate::io::socket::{Socket, SocketMut};

/// The sockets of all connections, by slot.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    table: Vec<Place>,
    memory: Slab<MemorySocket>,
}

impl Sockets {
    /// Keeps the socket of a slot.
    pub fn insert(&mut self, key: usize, socket: Socket) {
        if self.table.len() <= key {
            self.table.resize_with(key + 1, || Place::Free);
        }
        self.table[key] = match socket {
            Socket::Tcp(stream) => Place::Tcp(stream),
            Socket::Unix(stream) => Place::Unix(stream),
            Socket::Memory(socket) => Place::Memory(self.memory.insert(socket) as u32),
        };
    }

    /// Lends the socket of a slot.
    pub fn get_mut(&mut self, key: usize) -> Option<SocketMut<'_>> {
        match self.table.get_mut(key)? {
            Place::Free => None,
            Place::Tcp(stream) => Some(SocketMut::Tcp(stream)),
            Place::Unix(stream) => Some(SocketMut::Unix(stream)),
            Place::Memory(index) => self.memory.get_mut(*index as usize).map(SocketMut::Memory),
        }
    }

    /// Closes the socket of a slot.
    pub fn close(&mut self, key: usize) {
        if let Some(place) = self.table.get_mut(key)
            && let Place::Memory(index) = std::mem::replace(place, Place::Free)
        {
            self.memory.remove(index as usize);
        }
    }
}

/// The socket in a slot. A descriptor takes four bytes; a larger socket stands elsewhere.
#[derive(Debug)]
enum Place {
    Free,
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(u32),
}

// One for each connection, beside its slab entry.
const _: () = assert!(size_of::<Place>() <= SOCKET_PLACE_BYTES);

//! The table of sockets: one for each connection, in the slot of the connection.

use mio::net::{TcpStream, UnixStream};
use slab::Slab;

use crate::core::config::SOCKET_PLACE_BYTES;
use crate::io::memory::MemorySocket;
use crate::io::socket::{Socket, SocketMut};

/// The sockets of all connections, by slot.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    table: Vec<SocketSlot>,
    memory: Slab<MemorySocket>,
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
        };
    }

    /// Lends the socket of a slot.
    pub fn get_mut(&mut self, key: usize) -> Option<SocketMut<'_>> {
        match self.table.get_mut(key)? {
            SocketSlot::Free => None,
            SocketSlot::Tcp(stream) => Some(SocketMut::Tcp(stream)),
            SocketSlot::Unix(stream) => Some(SocketMut::Unix(stream)),
            SocketSlot::Memory(index) => {
                self.memory.get_mut(*index as usize).map(SocketMut::Memory)
            }
        }
    }

    /// Closes the socket of a slot.
    pub fn close(&mut self, key: usize) {
        if let Some(place) = self.table.get_mut(key)
            && let SocketSlot::Memory(index) = std::mem::replace(place, SocketSlot::Free)
        {
            self.memory.remove(index as usize);
        }
    }
}

/// The socket in a slot. A descriptor takes four bytes; a larger socket stands elsewhere.
#[derive(Debug)]
enum SocketSlot {
    Free,
    Tcp(TcpStream),
    Unix(UnixStream),
    Memory(u32),
}

// One for each connection, beside its slab entry.
const _: () = assert!(size_of::<SocketSlot>() <= SOCKET_PLACE_BYTES);

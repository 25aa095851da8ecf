//! Connections that are answered 503 without a slot, over TLS by an alert; and those over TLS that
//! have ended with an alert.
//!
//! Closing a socket with bytes unread resets it, and the reset may overtake the answer. So each
//! refused connection waits, in a ring that bounds their number, until its peer has read the answer
//! and closed, or for `close_ack`.

use std::collections::VecDeque;
use std::io::IoSlice;

use mio::{Registry, Token};

use crate::core::ground::time::Instant;
use crate::core::transport::{Got, Transport};
use crate::io::socket::Socket;

/// The sockets of refused connections.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    ring: VecDeque<Refused>,
    next_token: usize,
}

#[derive(Debug)]
struct Refused {
    socket: Socket,
    token: usize,
    expires_at: Instant,
}

impl Refusals {
    /// How many tokens there are for refused sockets.
    pub const TOKENS: usize = 1 << 16;

    /// Answers a connection and keeps its socket for a while. `first_token` is the first of
    /// [`Refusals::TOKENS`].
    pub fn refuse(
        &mut self,
        mut socket: Socket,
        answer: &[u8],
        expires_at: Instant,
        registry: &Registry,
        first_token: usize,
    ) {
        let refusal = socket.refusal();
        let answer = refusal.as_ref().map_or(answer, |refusal| refusal);
        // A new socket has room for the answer; without room the FIN alone tells the peer.
        let _ = socket.lend().write(&[IoSlice::new(answer)]);
        self.linger(socket, expires_at, registry, first_token);
    }

    /// Sends FIN to a peer that has been told all, and keeps its socket for a while. The poller
    /// does not know the socket yet.
    pub fn linger(
        &mut self,
        mut socket: Socket,
        expires_at: Instant,
        registry: &Registry,
        first_token: usize,
    ) {
        socket.lend().finish();
        let token = self.next_token;
        self.next_token = (token + 1) % Refusals::TOKENS;
        if socket.lend().register(registry, Token(first_token + token)).is_err() {
            return;
        }
        if self.ring.len() == RING_MAX {
            self.ring.pop_front();
        }
        self.ring.push_back(Refused { socket, token, expires_at });
    }

    /// Reads and discards what a refused peer sent; closes the socket when the peer has closed.
    pub fn handle_readable(&mut self, token: usize, buffer: &mut [u8]) {
        let Some(index) = self.ring.iter().position(|refused| refused.token == token) else {
            return;
        };
        for _ in 0..READS_MAX {
            match self.ring[index].socket.lend().read(buffer) {
                Ok(Got::Bytes { .. }) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return,
                Ok(Got::End) | Err(_) => break,
            }
        }
        self.ring.remove(index);
    }

    /// Closes the sockets that have waited long enough.
    pub fn expire(&mut self, now: Instant) {
        while self.ring.front().is_some_and(|refused| refused.expires_at <= now) {
            self.ring.pop_front();
        }
    }

    /// Returns the moment at which the next socket has waited long enough.
    pub fn next_at(&self) -> Option<Instant> {
        self.ring.front().map(|refused| refused.expires_at)
    }
}

/// Fewer than the descriptors kept in reserve.
const RING_MAX: usize = 16;
/// A peer that still sends after this many reads is closed.
const READS_MAX: usize = 16;

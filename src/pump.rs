//! Moves bytes between a socket and the engine. Production and simulation run the same two
//! functions.

use std::io::{self, ErrorKind, IoSlice, Read};

use crate::engine::Engine;
use crate::id::ConnectionId;
use crate::time::Instant;

/// Writes several slices at once.
pub trait WriteVectored {
    /// Writes what it can of the slices, in order, and gives the number of bytes. Must not raise
    /// SIGPIPE.
    ///
    /// # Errors
    ///
    /// `WouldBlock` if nothing can be written now; everything else ends the connection.
    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

/// The server's end of a connection.
pub trait Transport: Read + WriteVectored {
    /// Says whether the kernel would tell that there is room. It takes a little even where it would
    /// not, which is no sign that the peer reads.
    fn has_room(&self) -> bool;
}

/// Reads from a socket what the connection's budget allows: a buffer full or 16 reads.
///
/// After a short read the socket is empty and a later byte raises a new edge (mio is
/// edge-triggered), so it is not read again, unless its end was announced: that raises no edge of
/// its own.
pub fn fill(
    engine: &mut Engine,
    now: Instant,
    id: ConnectionId,
    socket: &mut impl Read,
    shared: &mut [u8],
) {
    let mut left = shared.len();
    for _ in 0..READS_MAX {
        let most = engine.prepare_read(now, id);
        if most == 0 {
            return;
        }
        let asked = shared.len().min(most);
        match socket.read(&mut shared[..asked]) {
            Ok(0) => return engine.handle_eof(now, id),
            Ok(len) => {
                engine.handle_input(now, id, &mut shared[..len]);
                if len < asked && !engine.must_read_to_end(id) {
                    return engine.handle_drained_socket(id);
                }
                left = left.saturating_sub(len);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                return engine.handle_drained_socket(id);
            }
            Err(error) => return engine.handle_error(now, id, &error),
        }
        if left == 0 || engine.is_turn_spent() {
            break;
        }
    }
    engine.handle_budget_spent(now, id);
}

/// Writes to a socket what waits for it, until it takes no more.
pub fn flush(engine: &mut Engine, now: Instant, id: ConnectionId, socket: &mut impl WriteVectored) {
    loop {
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = engine.gather(now, id, &mut slices);
        if count == 0 {
            break;
        }
        let asked: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        match socket.write_vectored(&slices[..count]) {
            Ok(0) => return engine.handle_error(now, id, &ErrorKind::WriteZero.into()),
            Ok(len) => {
                if len < asked {
                    // The socket's buffer is full: room raises an edge.
                    engine.handle_blocked(id);
                }
                if !engine.handle_written(now, id, len) {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => engine.handle_blocked(id),
            Err(error) => return engine.handle_error(now, id, &error),
        }
    }
    engine.handle_flushed(now, id);
}

const READS_MAX: usize = 16;
const SLICES_MAX: usize = 16;

//! Moves bytes between a transport and the engine. Production and simulation run the same
//! functions.

use std::io::{ErrorKind, IoSlice};

use crate::core::contract::handlers::Handlers;
use crate::core::engine::Engine;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::transport::{Got, Transport, Written};

/// Reads from a transport what the connection's budget allows: a buffer full or 16 reads.
///
/// When the transport is empty, a later byte raises a new edge (mio is edge-triggered), so it is
/// not read again. It is read again if its end was announced: the end raises no edge of its own.
pub fn fill(
    engine: &mut Engine,
    now: Instant,
    id: ConnectionId,
    transport: &mut impl Transport,
    shared: &mut [u8],
    handlers: &mut dyn Handlers,
) {
    read_some(engine, now, id, transport, shared, handlers);
    if transport.wants_write() {
        engine.handle_wants_write(id);
    }
}

fn read_some(
    engine: &mut Engine,
    now: Instant,
    id: ConnectionId,
    transport: &mut impl Transport,
    shared: &mut [u8],
    handlers: &mut dyn Handlers,
) {
    let mut left = shared.len();
    for _ in 0..READS_MAX {
        let most = engine.prepare_read(now, id, handlers);
        if most == 0 {
            if transport.wants_read() {
                read_own(engine, now, id, transport);
            }
            return;
        }
        let mut asked = left.min(most);
        let mut is_lent = false;
        let got = match engine.lend(id, asked) {
            // What is outstanding of a large message is read straight into its place.
            Some(room) if transport.reads_anywhere() => {
                (asked, is_lent) = (room.len(), true);
                transport.read(room)
            }
            _ => {
                asked = shared.len().min(most);
                transport.read(&mut shared[..asked])
            }
        };
        engine.spend(transport.overhead());
        match got {
            Ok(Got::End) => return engine.handle_eof(now, id),
            Ok(Got::Bytes { len, is_drained }) => {
                #[cfg(feature = "tls")]
                if len > 0
                    && !engine.is_sealed(id)
                    && let Some(sealed) = transport.sealed()
                {
                    engine.handle_sealed(id, sealed, transport.take_certificate());
                }
                debug_assert!(len <= asked, "more was read than there is room for");
                match len {
                    0 => {
                        if let Some(client) = transport.take_client() {
                            engine.handle_client(now, id, client, transport.handshake());
                            break;
                        }
                    }
                    len if is_lent => engine.handle_lent(now, id, len, handlers),
                    len => engine.handle_input(now, id, &mut shared[..len], handlers),
                }
                if is_drained && !engine.must_read_to_end(id) {
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
    engine.handle_unfinished_read(now, id);
}

/// Lets a transport read what is for itself alone, while nothing is read for the engine.
fn read_own(engine: &mut Engine, now: Instant, id: ConnectionId, transport: &mut impl Transport) {
    match transport.read(&mut []) {
        Err(error) if !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
            engine.handle_error(now, id, &error);
        }
        _ => {}
    }
}

/// Writes to a transport what waits for it, until nothing waits or it takes no more.
pub fn flush(engine: &mut Engine, now: Instant, id: ConnectionId, transport: &mut impl Transport) {
    if engine.widens(now, id) {
        transport.set_wide(true);
    }
    loop {
        let goes_on = transport.wants_write() && engine.may_write(id);
        let mut slices = [IoSlice::new(&[]); SLICES_MAX];
        let count = engine.gather(now, id, &mut slices);
        let asked: usize = slices[..count].iter().map(|slice| slice.len()).sum();
        let (asked, written) = match count {
            0 if !goes_on => match engine.next_pipe(id) {
                // Some may come of it though there is room for more.
                Some((pipe, left)) => (0, transport.splice(pipe, left).map(Written::from)),
                None => break,
            },
            _ => (asked, transport.write(&slices[..count])),
        };
        match written {
            Ok(written) => {
                debug_assert!(count == 0 || written.taken <= asked, "more than there was");
                if written.taken < asked || written.in_flight > 0 {
                    // The socket's buffer is full: room raises an edge.
                    engine.handle_blocked(id);
                }
                let is_some = written.taken > 0 || written.in_flight > 0;
                let has_more = is_some && engine.handle_written(now, id, written.taken);
                if !has_more && !transport.wants_write() {
                    break;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => engine.handle_blocked(id),
            Err(error) => return engine.handle_error(now, id, &error),
        }
    }
    if engine.handle_flushed(now, id, transport.wants_write()) {
        transport.set_wide(false);
    }
    if transport.wants_read() {
        engine.handle_wants_read(id);
    }
}

/// Begins to end what is sent to a peer for which nothing waits any more.
pub fn finish(engine: &mut Engine, key: usize, transport: &mut impl Transport) {
    transport.finish();
    if transport.wants_write()
        && let Some(id) = engine.id_of(key)
    {
        engine.handle_wants_write(id);
    }
}

const READS_MAX: usize = 16;
const SLICES_MAX: usize = 16;

const _: () = assert!(SLICES_MAX <= 1024, "no kernel takes more in one call (IOV_MAX)");

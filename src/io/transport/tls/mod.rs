//! TLS 1.3 over a stream socket: a handshake by rustls, and after it the record layer of
//! [`wire::tls`](crate::core::wire::tls), of which an idle connection keeps the keys alone.
//!
//! ```text
//!   Hello ─► Queued ─► Away ─► Waiting ─► Ready ─► Away ─► Open
//!      └───────────────────┴─► Failed
//! ```
//!
//! A hello that is not complete holds no state of a handshake. A complete one waits in the
//! [`Desk`] for one of `limits.handshaking` places. Its steps are made by a worker, or on the loop
//! where there are none, one in a turn.

mod desk;
mod open;
mod shake;

use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;

use log::{Level, log};

use crate::core::ground::time::Instant;
use crate::core::transport::{Got, Handshake, Transport, Written};
use crate::core::wire::tls::{
    Aes128, Aes256, Alert, Certificate, ChaCha20, First, SESSION_BYTES, Sealed, Suite, first,
};
use crate::io::socket::{SocketMut, Stream};

use open::Open;
use shake::{Agreed, Failure, Step};

use desk::Place;
pub(crate) use desk::{Desk, Stepped, Ticket};
pub(crate) use shake::Shake;
#[cfg(feature = "client")]
pub(crate) use shake::take;

/// A connection over TLS: in its handshake, or behind it, with keys as long as its suite needs.
#[derive(Debug)]
pub(crate) enum Tls {
    Shaking(Box<On<Shaking>>),
    Aes128(Box<On<Open<Aes128>>>),
    Aes256(Box<On<Open<Aes256>>>),
    ChaCha20(Box<On<Open<ChaCha20>>>),
    /// For a moment, between the handshake and what follows.
    Between,
}

/// A state of a connection, and the socket below.
#[derive(Debug)]
pub(crate) struct On<State: ?Sized> {
    stream: Stream,
    state: State,
}

/// The state of a connection, lent, with its socket.
enum Lent<'a> {
    Shaking(&'a mut Stream, &'a mut Shaking),
    Open(&'a mut Stream, &'a mut Open),
}

/// A connection in its handshake.
pub(crate) struct Shaking {
    serial: u32,
    began_at: Instant,
    /// The client, if a proxy has said who that is.
    client: Option<SocketAddr>,
    stage: Stage,
    /// The place that it has, if it holds state.
    place: Option<Place>,
    /// What the peer is to be sent, and is not with the kernel.
    flight: Vec<u8>,
}

enum Stage {
    /// What has come of the hello.
    Hello(Vec<u8>),
    /// A complete hello, which waits for a place.
    Queued(Vec<u8>),
    /// A step is being made.
    Away,
    /// The peer must say more.
    Waiting(Box<Shake>),
    /// A step can be made.
    Ready(Box<Shake>),
    Failed {
        /// The peer has been told why.
        is_told: bool,
    },
}

impl std::fmt::Debug for Shaking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shaking").field("serial", &self.serial).finish_non_exhaustive()
    }
}

impl Tls {
    /// Begins with a connection that was accepted, of a client if a proxy has said whose it is.
    pub fn new(stream: Stream, client: Option<SocketAddr>, desk: &mut Desk) -> Tls {
        let shaking = Shaking {
            serial: desk.next_serial(),
            began_at: desk.now,
            client,
            stage: Stage::Hello(Vec::new()),
            place: None,
            flight: Vec::new(),
        };
        Tls::Shaking(Box::new(On { stream, state: shaking }))
    }

    fn lend(&mut self) -> Lent<'_> {
        let On { stream, state } = match self {
            Tls::Shaking(on) => return Lent::Shaking(&mut on.stream, &mut on.state),
            Tls::Aes128(on) => &mut **on as &mut On<Open>,
            Tls::Aes256(on) => &mut **on,
            Tls::ChaCha20(on) => &mut **on,
            Tls::Between => unreachable!("{BETWEEN}"),
        };
        Lent::Open(stream, state)
    }

    /// What there is behind the handshake.
    fn open(&self) -> Option<&Open> {
        let On { state, .. } = match self {
            Tls::Shaking(_) => return None,
            Tls::Aes128(on) => &**on as &On<Open>,
            Tls::Aes256(on) => &**on,
            Tls::ChaCha20(on) => &**on,
            Tls::Between => unreachable!("{BETWEEN}"),
        };
        Some(state)
    }

    pub fn stream(&mut self) -> SocketMut<'_> {
        match self.lend() {
            Lent::Shaking(stream, _) | Lent::Open(stream, _) => stream.lend(),
        }
    }

    fn into_stream(self) -> Stream {
        match self {
            Tls::Shaking(on) => on.stream,
            Tls::Aes128(on) => on.stream,
            Tls::Aes256(on) => on.stream,
            Tls::ChaCha20(on) => on.stream,
            Tls::Between => unreachable!("{BETWEEN}"),
        }
    }

    fn shaking(&mut self, ticket: Ticket) -> Option<&mut Shaking> {
        match self.lend() {
            Lent::Shaking(_, shaking) if shaking.serial == ticket.serial => Some(shaking),
            _ => None,
        }
    }

    /// Returns whether a complete hello of this handshake waits for a place.
    pub fn is_queued(&mut self, ticket: Ticket) -> bool {
        self.shaking(ticket).is_some_and(|shaking| matches!(shaking.stage, Stage::Queued(_)))
    }

    /// Returns whether this handshake waits for its peer.
    pub fn is_waiting(&mut self, ticket: Ticket) -> bool {
        self.shaking(ticket).is_some_and(|shaking| matches!(shaking.stage, Stage::Waiting(_)))
    }

    /// Takes the handshake out, to make a step of it.
    pub fn take_ready(&mut self, ticket: Ticket, desk: &mut Desk) -> Option<Box<Shake>> {
        let shaking = self.shaking(ticket)?;
        match std::mem::replace(&mut shaking.stage, Stage::Away) {
            Stage::Ready(shake) => {
                desk.held_bytes -= shake.input.capacity();
                Some(shake)
            }
            other => {
                shaking.stage = other;
                None
            }
        }
    }

    /// Makes a handshake of a complete hello.
    pub fn begin(&mut self, ticket: Ticket, desk: &mut Desk) -> Option<Box<Shake>> {
        let shaking = self.shaking(ticket)?;
        let Stage::Queued(hello) = &mut shaking.stage else { return None };
        let hello = std::mem::take(hello);
        desk.held_bytes -= hello.capacity();
        let made = match desk.acceptor() {
            Some(acceptor) => Shake::new(acceptor, hello),
            None => Err(Failure { label: "no_name", text: "there is no certificate".into() }),
        };
        match made {
            Ok(shake) => {
                shaking.stage = Stage::Away;
                shaking.place = Some(desk.take_place());
                Some(shake)
            }
            Err(failure) => {
                self.fail(desk, &failure, &Alert::InternalError.in_plain_text());
                None
            }
        }
    }

    /// Takes a step back. Returns whether it was this connection's.
    pub fn finish_step(&mut self, desk: &mut Desk, stepped: Stepped) -> bool {
        let before = self.held_bytes();
        let is_ours = self.take_step(desk, stepped);
        desk.held_bytes = desk.held_bytes + self.held_bytes() - before;
        is_ours
    }

    fn take_step(&mut self, desk: &mut Desk, Stepped { ticket, step }: Stepped) -> bool {
        let Some(shaking) = self.shaking(ticket) else { return false };
        match step {
            Step::Waits(mut shake) => {
                shaking.flight.append(&mut shake.output);
                shaking.stage = Stage::Waiting(shake);
                if let Some(place) = shaking.place {
                    desk.begin_wait(ticket, place);
                }
            }
            Step::Done(agreed) => {
                shaking.leave_place(desk);
                desk.note_done();
                self.finish_handshake(desk, *agreed);
            }
            Step::Failed(failure, told) => self.fail(desk, &failure, &told),
        }
        true
    }

    fn finish_handshake(&mut self, desk: &mut Desk, mut agreed: Agreed) {
        let Tls::Shaking(on) = std::mem::replace(self, Tls::Between) else {
            unreachable!("a step of a handshake was made");
        };
        let On { stream, state: mut shaking } = *on;
        let (suite, kind) = (agreed.suite, usize::from(agreed.is_resumed));
        let figures = &mut desk.figures;
        figures.handshakes[suite as usize][kind] += 1;
        figures.took[kind].record_ms(desk.now.since(shaking.began_at));
        let mut held = std::mem::take(&mut shaking.flight);
        held.append(&mut agreed.output);
        *self = match suite {
            Suite::Aes128 => Tls::Aes128(Box::new(On { stream, state: Open::of(suite) })),
            Suite::Aes256 => Tls::Aes256(Box::new(On { stream, state: Open::of(suite) })),
            Suite::ChaCha20 => Tls::ChaCha20(Box::new(On { stream, state: Open::of(suite) })),
        };
        if let Lent::Open(_, open) = self.lend() {
            open.begin(agreed, held);
        }
    }

    /// Ends a handshake: the peer is told, as far as one write goes.
    fn fail(&mut self, desk: &mut Desk, failure: &Failure, told: &[u8]) {
        let Lent::Shaking(stream, shaking) = self.lend() else { return };
        shaking.leave_place(desk);
        shaking.stage = Stage::Failed { is_told: !told.is_empty() };
        let told = [&std::mem::take(&mut shaking.flight)[..], told].concat();
        if !told.is_empty() {
            discard(stream);
            let _ = stream.lend().write(&[IoSlice::new(&told)]);
        }
        desk.figures.count_failure(failure.label);
        let peer = shaking.client.or_else(|| stream.lend().peer());
        let peer = peer.map_or_else(|| "unix".into(), |peer| peer.to_string());
        // A peer that only looks whether the port is open says nothing.
        let level = if failure.label == "eof" { Level::Debug } else { Level::Info };
        log!(level, "tls refused peer={peer} reason={}: {}", failure.label, failure.text);
    }

    /// Ends a handshake that has waited for its peer for too long while others waited for a place.
    /// Returns whether it was this one's.
    pub fn make_room(&mut self, desk: &mut Desk, ticket: Ticket) -> bool {
        let before = self.held_bytes();
        let is_it = self.is_waiting(ticket);
        if is_it {
            let text = "others waited for a place while the peer said nothing".into();
            self.fail(desk, &Failure { label: "room", text }, &[]);
        }
        desk.held_bytes = desk.held_bytes + self.held_bytes() - before;
        is_it
    }

    /// Makes closing send a reset, and say nothing.
    pub fn abort(&mut self) {
        match self.lend() {
            Lent::Open(_, open) => open.abort(),
            Lent::Shaking(_, shaking) => {
                if let Stage::Failed { is_told } = &mut shaking.stage {
                    *is_told = false;
                }
            }
        }
        self.stream().set_abort();
    }

    /// Says, as far as one write goes, that nothing follows, and closes the socket. Where the peer
    /// has been told what was wrong, the socket is left in [`Desk::told`].
    pub fn close(mut self, desk: &mut Desk) {
        desk.held_bytes -= self.held_bytes();
        let is_told = match self.lend() {
            Lent::Shaking(_, shaking) => {
                shaking.leave_place(desk);
                let is_failed = matches!(shaking.stage, Stage::Failed { .. });
                if !is_failed {
                    desk.figures.count_failure("unfinished");
                }
                matches!(shaking.stage, Stage::Failed { is_told: true })
            }
            Lent::Open(stream, open) => {
                open.say_last(stream);
                open.is_told()
            }
        };
        desk.told = is_told.then(|| self.into_stream());
    }

    /// Returns what a connection holds beside its keys.
    pub fn held_bytes(&self) -> usize {
        match self {
            Tls::Shaking(on) => on.state.flight.capacity() + on.state.input_bytes(),
            _ => self.open().map_or(0, Open::held_bytes),
        }
    }
}

impl Shaking {
    /// Counts no longer against `limits.handshaking`.
    fn leave_place(&mut self, desk: &mut Desk) {
        if let Some(place) = self.place.take() {
            desk.free_place(place);
        }
    }

    fn write(&mut self, stream: &mut Stream, has_more: bool) -> io::Result<Written> {
        if matches!(self.stage, Stage::Failed { .. }) {
            return Err(ErrorKind::InvalidData.into());
        }
        let in_flight = send(stream, &mut self.flight)?;
        // Nothing of the application goes out before the handshake is done.
        match in_flight == 0 && has_more {
            true => Err(ErrorKind::WouldBlock.into()),
            false => Ok(Written { taken: 0, in_flight }),
        }
    }

    /// What has come and is not used. A step that is being made holds no more than it was given.
    fn input_bytes(&self) -> usize {
        match &self.stage {
            Stage::Hello(input) | Stage::Queued(input) => input.capacity(),
            Stage::Waiting(shake) | Stage::Ready(shake) => shake.input.capacity(),
            Stage::Away | Stage::Failed { .. } => 0,
        }
    }
}

/// A connection over TLS, lent, with what all share.
#[derive(Debug)]
pub(crate) struct TlsMut<'a> {
    pub key: usize,
    pub tls: &'a mut Tls,
    pub desk: &'a mut Desk,
}

impl std::fmt::Debug for Desk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Desk").field("active", &self.active).finish_non_exhaustive()
    }
}

impl Transport for TlsMut<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        if buffer.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let before = self.tls.held_bytes();
        let got = match self.tls.lend() {
            Lent::Shaking(..) => self.read_handshake(),
            Lent::Open(stream, open) => open.read(stream, self.desk, buffer),
        };
        self.count_held(before);
        let is_more = self.tls.held_bytes() > before;
        if is_more && self.desk.held_bytes > self.desk.held_bytes_max {
            // Parts of records are the one thing that the engine cannot see.
            return Err(ErrorKind::QuotaExceeded.into());
        }
        got
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let before = self.tls.held_bytes();
        let written = match self.tls.lend() {
            Lent::Shaking(stream, shaking) => shaking.write(stream, !slices.is_empty()),
            Lent::Open(stream, open) => open.write(stream, self.desk, slices),
        };
        self.count_held(before);
        written
    }

    fn finish(&mut self) {
        let before = self.tls.held_bytes();
        match self.tls.lend() {
            Lent::Shaking(stream, _) => stream.lend().finish(),
            Lent::Open(stream, open) => open.finish(stream),
        }
        self.count_held(before);
    }

    fn has_room(&mut self) -> bool {
        self.tls.stream().has_room()
    }

    fn wants_write(&self) -> bool {
        match &*self.tls {
            Tls::Shaking(on) => !on.state.flight.is_empty(),
            tls => tls.open().is_some_and(Open::wants_write),
        }
    }

    fn handshake(&self) -> Handshake {
        match &*self.tls {
            Tls::Shaking(_) => Handshake::Going,
            _ => Handshake::Done,
        }
    }

    fn sealed(&self) -> Option<Sealed> {
        self.tls.open().map(Open::sealed)
    }

    fn take_certificate(&mut self) -> Option<Box<Certificate>> {
        let before = self.tls.held_bytes();
        let certificate = match self.tls.lend() {
            Lent::Shaking(..) => None,
            Lent::Open(_, open) => open.take_certificate(),
        };
        self.count_held(before);
        certificate
    }

    fn overhead(&mut self) -> usize {
        std::mem::take(&mut self.desk.overhead)
    }
}

impl TlsMut<'_> {
    fn count_held(&mut self, before: usize) {
        self.desk.held_bytes = self.desk.held_bytes + self.tls.held_bytes() - before;
    }

    /// Reads what is for the handshake alone.
    fn read_handshake(&mut self) -> io::Result<Got> {
        let Lent::Shaking(stream, shaking) = self.tls.lend() else {
            unreachable!("it is in its handshake");
        };
        let input = match &mut shaking.stage {
            Stage::Failed { .. } => return Err(ErrorKind::InvalidData.into()),
            // What comes meanwhile is read when the step is done.
            Stage::Queued(_) | Stage::Away | Stage::Ready(_) => {
                return Err(ErrorKind::WouldBlock.into());
            }
            Stage::Hello(input) => input,
            Stage::Waiting(shake) => &mut shake.input,
        };
        let room = INPUT_BYTES_MAX.saturating_sub(input.len());
        if room == 0 {
            return self.refuse("protocol", "the handshake is too long", Alert::DecodeError);
        }
        let scratch = &mut self.desk.scratch()[..room];
        let got = stream.lend().read(scratch)?;
        let Got::Bytes { len, is_drained } = got else {
            let text = "the peer hung up".into();
            self.tls.fail(self.desk, &Failure { label: "eof", text }, &[]);
            return Ok(Got::End);
        };
        input.reserve_exact(len);
        input.extend_from_slice(&scratch[..len]);
        self.desk.overhead += len;
        self.go_on(is_drained)
    }

    /// Takes what has come behind a PROXY header, before any read.
    pub fn begin_with(&mut self, bytes: Vec<u8>) {
        let before = self.tls.held_bytes();
        if let Lent::Shaking(_, shaking) = self.tls.lend()
            && !bytes.is_empty()
        {
            shaking.stage = Stage::Hello(bytes);
            // What is wrong with it, the next read says again.
            let _ = self.go_on(false);
        }
        self.count_held(before);
    }

    /// Goes on with what has come.
    fn go_on(&mut self, is_drained: bool) -> io::Result<Got> {
        let Lent::Shaking(_, shaking) = self.tls.lend() else {
            unreachable!("it is in its handshake");
        };
        let ticket = Ticket { key: self.key, serial: shaking.serial };
        match std::mem::replace(&mut shaking.stage, Stage::Away) {
            Stage::Hello(hello) => match first(&hello) {
                First::Hello => {
                    shaking.stage = Stage::Queued(hello);
                    self.desk.queue(ticket);
                }
                judged => {
                    shaking.stage = Stage::Hello(hello);
                    return self.judge(judged, is_drained);
                }
            },
            Stage::Waiting(shake) if shake.is_ready() => {
                shaking.stage = Stage::Ready(shake);
                self.desk.ready.push_back(ticket);
            }
            other => shaking.stage = other,
        }
        Ok(Got::Bytes { len: 0, is_drained })
    }

    /// Acts on what the first bytes of a peer are, if they are no complete hello.
    fn judge(&mut self, first: First, is_drained: bool) -> io::Result<Got> {
        match first {
            First::Part | First::Hello => Ok(Got::Bytes { len: 0, is_drained }),
            First::Http => {
                let text = "a request in plain text".into();
                self.tls.fail(self.desk, &Failure { label: "http", text }, HTTP_ANSWER);
                Err(ErrorKind::InvalidData.into())
            }
            First::Other => {
                self.refuse("not_tls", "the first bytes are no hello", Alert::UnexpectedMessage)
            }
        }
    }

    fn refuse(&mut self, label: &'static str, text: &str, alert: Alert) -> io::Result<Got> {
        let failure = Failure { label, text: text.into() };
        self.tls.fail(self.desk, &failure, &alert.in_plain_text());
        Err(ErrorKind::InvalidData.into())
    }
}

/// Reads, and forgets, what has come and is not read: closing does not reset then, and the last
/// word arrives.
fn discard(stream: &mut Stream) {
    let mut buffer = [0; 4096];
    for _ in 0..READS_MAX {
        match stream.lend().read(&mut buffer) {
            Ok(Got::Bytes { is_drained: false, .. }) => {}
            _ => break,
        }
    }
}

/// Sends what is held. Returns how much of it still is.
///
/// # Errors
///
/// `WouldBlock` if the kernel took nothing.
fn send(stream: &mut Stream, held: &mut Vec<u8>) -> io::Result<usize> {
    if held.is_empty() {
        return Ok(0);
    }
    let taken = write_some(stream, held)?;
    held.drain(..taken);
    if held.is_empty() {
        *held = Vec::new();
    }
    Ok(held.len())
}

/// Writes as much as the kernel takes. Returns how much it took.
///
/// # Errors
///
/// `WouldBlock` if the kernel took nothing.
fn write_some(stream: &mut Stream, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.lend().write(&[IoSlice::new(bytes)]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            written => return written.map(|written| written.taken),
        }
    }
}

/// The most that is kept of what comes in one flight of a handshake; the hello of a browser has
/// 2 kB, a chain of three certificates 5 kB.
const INPUT_BYTES_MAX: usize = 10 << 10;
/// How often what nobody wants is read at most, 4 KiB at a time.
const READS_MAX: usize = 16;
const HTTP_ANSWER: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    Connection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 48\r\n\r\n\
    This address speaks TLS: use https:// or wss://\n";

const BETWEEN: &str = "the handshake is followed at once";

// Beside an open connection there is only its socket in the box: 160, 192 or 224 bytes in all.
const _: () =
    assert!(size_of::<On<Open<Aes256>>>() <= SESSION_BYTES + size_of::<[u64; 2]>() + EXTRA);
/// What sockets take more of with the assertions of mio.
const EXTRA: usize = if cfg!(debug_assertions) { 32 } else { 0 };

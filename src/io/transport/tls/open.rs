//! A connection behind its handshake: records from and to the socket.

use std::io::{self, ErrorKind, IoSlice};

use log::info;
use zeroize::Zeroize;

use super::shake::Agreed;
use super::{Desk, Stream, discard, send, write_some};
use crate::core::transport::{Got, Transport, Written};
use crate::core::wire::tls::{
    Aes256, Certificate, Ended, HEADER_BYTES, Opened, RECORD_BYTES_MAX, SESSION_BYTES, Sealed,
    Session, Suite, is_complete_record, record_len,
};

/// A connection behind its handshake. What it is in the middle of is marked in the session.
#[derive(Debug)]
pub(crate) struct Open<Keys: ?Sized + Zeroize = [u8]> {
    /// What is there only while a record is under way.
    rest: Option<Box<Rest>>,
    session: Session<Keys>,
}

/// Parts of records, each as long as what it holds.
#[derive(Debug, Default)]
struct Rest {
    /// What has come of a record that is not complete.
    partial: Vec<u8>,
    /// Plaintext for which there was no room.
    plain: Vec<u8>,
    /// Sealed, and not with the kernel.
    held: Vec<u8>,
    /// What the peer has shown, until the engine takes it.
    certificate: Option<Box<Certificate>>,
}

/// What was read into a buffer.
struct Input {
    len: usize,
    /// The socket is empty.
    is_drained: bool,
    /// The peer has ended its side.
    is_end: bool,
}

/// The last byte of the application that was sealed has not been taken yet.
const OWES: u8 = 1;
/// The peer has ended its side.
const READ_ENDED: u8 = 1 << 1;
/// The last word is sealed.
const FINISHING: u8 = 1 << 2;
/// Bytes of the record layer's own are held.
const OWN: u8 = 1 << 3;
/// The session is broken.
const BROKEN: u8 = 1 << 4;
/// The handshake has resumed a session.
const RESUMED: u8 = 1 << 5;
/// The session is broken, and the peer has been told how.
const TOLD: u8 = 1 << 6;

impl<const LEN: usize> Open<[u8; LEN]> {
    /// Makes one that does not know what was agreed on.
    pub fn of(suite: Suite) -> Open<[u8; LEN]> {
        Open { rest: None, session: Session::without_keys(suite) }
    }
}

impl Open {
    /// Begins with what the handshake has agreed on, with what came behind it, and with what is
    /// still to be sent of it.
    pub fn begin(&mut self, agreed: Agreed, held: Vec<u8>) {
        let Agreed { received, sent, input, is_resumed, certificate, .. } = agreed;
        self.session.begin((&received.0, received.1), (&sent.0, sent.1));
        self.set(OWN, !held.is_empty());
        self.set(RESUMED, is_resumed);
        self.rest = Some(Box::new(Rest { partial: input, plain: Vec::new(), held, certificate }));
        self.tidy();
    }

    pub fn sealed(&self) -> Sealed {
        Sealed { suite: self.session.suite(), is_resumed: self.is(RESUMED) }
    }

    pub fn take_certificate(&mut self) -> Option<Box<Certificate>> {
        let certificate = self.rest.as_mut()?.certificate.take();
        self.tidy();
        certificate
    }

    pub fn held_bytes(&self) -> usize {
        self.rest.as_ref().map_or(0, |rest| {
            let parts = [&rest.partial, &rest.plain, &rest.held];
            size_of::<Rest>() + parts.map(Vec::capacity).iter().sum::<usize>()
        })
    }

    pub fn wants_write(&self) -> bool {
        self.is(OWN) && !self.is(BROKEN)
    }

    /// Says nothing any more.
    pub fn abort(&mut self) {
        self.set(BROKEN, true);
        self.set(TOLD, false);
    }

    /// Returns whether the last word was an alert.
    pub fn is_told(&self) -> bool {
        self.is(TOLD)
    }

    /// Reads records and opens them: where there is room for some of the longest, in the engine's
    /// buffer, else one of them elsewhere.
    pub fn read(
        &mut self,
        stream: &mut Stream,
        desk: &mut Desk,
        buffer: &mut [u8],
    ) -> io::Result<Got> {
        if let Some(rest) = &mut self.rest
            && !rest.plain.is_empty()
        {
            let len = rest.plain.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest.plain[..len]);
            rest.plain.drain(..len);
            rest.plain.shrink_to_fit();
            self.tidy();
            return Ok(Got::Bytes { len, is_drained: false });
        }
        if self.is(BROKEN) {
            return Err(ErrorKind::InvalidData.into());
        }
        if self.is(READ_ENDED) {
            return Ok(Got::End);
        }
        let got = match buffer.len() >= ROOM_BYTES {
            true => self.read_many(stream, desk, buffer),
            false => self.read_one(stream, desk, buffer),
        };
        self.tidy();
        got
    }

    fn read_many(
        &mut self,
        stream: &mut Stream,
        desk: &mut Desk,
        buffer: &mut [u8],
    ) -> io::Result<Got> {
        let input = self.take_in(stream, buffer, buffer.len())?;
        let opened = self.open(stream, desk, &mut buffer[..input.len]);
        self.keep_partial(&opened, &buffer[..input.len]);
        self.judge(&opened, &input, opened.plain)
    }

    /// Reads no further than to the end of the record, so that what follows stays in the socket.
    fn read_one(
        &mut self,
        stream: &mut Stream,
        desk: &mut Desk,
        buffer: &mut [u8],
    ) -> io::Result<Got> {
        desk.scratch();
        let mut scratch = std::mem::take(&mut desk.scratch);
        let known = self.rest.as_ref().and_then(|rest| record_len(&rest.partial));
        let to = known.map_or(HEADER_BYTES, |len| len.min(RECORD_BYTES_MAX));
        let taken = self.take_in(stream, &mut scratch, to);
        let got = taken.and_then(|mut input| {
            // Behind the handshake several whole records may have come.
            let one = record_len(&scratch).map_or(input.len, |len| len.min(input.len));
            let opened = self.open(stream, desk, &mut scratch[..one]);
            self.keep_partial(&opened, &scratch[..input.len]);
            let len = opened.plain.min(buffer.len());
            buffer[..len].copy_from_slice(&scratch[..len]);
            if len < opened.plain {
                self.rest().plain = scratch[len..opened.plain].to_vec();
            }
            // A record that was read to its end may be followed by others.
            input.is_drained &= input.len < to;
            self.judge(&opened, &input, len)
        });
        desk.scratch = scratch;
        got
    }

    /// Puts what there is of a record to the front of `space`, and reads behind it, up to `to`.
    fn take_in(&mut self, stream: &mut Stream, space: &mut [u8], to: usize) -> io::Result<Input> {
        let partial = match &mut self.rest {
            Some(rest) => std::mem::take(&mut rest.partial),
            None => Vec::new(),
        };
        let have = partial.len();
        space[..have].copy_from_slice(&partial);
        let mut input = Input { len: have, is_drained: false, is_end: false };
        if have >= to {
            return Ok(input);
        }
        match stream.lend().read(&mut space[have..to]) {
            Ok(Got::Bytes { len, is_drained }) => {
                input.len += len;
                input.is_drained = is_drained;
            }
            Ok(Got::End) => input.is_end = true,
            // What came behind the handshake is there all the same.
            Err(error) if error.kind() == ErrorKind::WouldBlock && is_complete_record(&partial) => {
                input.is_drained = true;
            }
            Err(error) => {
                if have > 0 {
                    self.rest().partial = partial;
                }
                return Err(error);
            }
        }
        Ok(input)
    }

    /// Opens the whole records at the front.
    fn open(&mut self, stream: &mut Stream, desk: &mut Desk, records: &mut [u8]) -> Opened {
        let opened = self.session.open(desk.now, records, &mut desk.own);
        desk.overhead += opened.used - opened.plain + opened.records * RECORD_COST;
        desk.figures.key_updates += u64::from(std::mem::take(&mut self.session.updated));
        if !desk.own.is_empty() {
            self.set(OWN, true);
            let held = &mut self.rest().held;
            held.reserve_exact(desk.own.len());
            held.append(&mut desk.own);
        }
        match opened.ended {
            None => {}
            Some(Ended::Closed) => self.set(READ_ENDED, true),
            Some(ended) => self.break_off(stream, ended),
        }
        opened
    }

    fn keep_partial(&mut self, opened: &Opened, input: &[u8]) {
        if opened.used < input.len() && opened.ended.is_none() {
            self.rest().partial = input[opened.used..].to_vec();
        }
    }

    /// Returns what a read has come to: `len` bytes stand in the engine's buffer.
    fn judge(&mut self, opened: &Opened, input: &Input, len: usize) -> io::Result<Got> {
        self.set(READ_ENDED, self.is(READ_ENDED) || input.is_end);
        let has_more = self
            .rest
            .as_ref()
            .is_some_and(|rest| !rest.plain.is_empty() || is_complete_record(&rest.partial));
        if len > 0 || has_more {
            let is_over = self.is(READ_ENDED | BROKEN);
            return Ok(Got::Bytes { len, is_drained: input.is_drained && !has_more && !is_over });
        }
        match opened.ended {
            Some(Ended::Closed) => Ok(Got::End),
            Some(_) => Err(ErrorKind::InvalidData.into()),
            None if input.is_end => Ok(Got::End),
            None => Ok(Got::Bytes { len: 0, is_drained: input.is_drained }),
        }
    }

    /// A session that is broken: the peer is told, as far as one write goes.
    fn break_off(&mut self, stream: &mut Stream, ended: Ended) {
        self.set(BROKEN, true);
        discard(stream);
        if let Some(rest) = &mut self.rest {
            let _ = send(stream, &mut rest.held);
            rest.held = Vec::new();
        }
        let peer = stream.lend().peer();
        let peer = peer.map_or_else(|| "unix".into(), |peer| peer.to_string());
        match ended {
            Ended::Closed => {}
            Ended::ByPeer(alert) => info!("tls broken peer={peer} alert={alert}: the peer says so"),
            Ended::Fault(alert) => {
                self.set(TOLD, true);
                info!("tls broken peer={peer} reason={}", alert.label());
            }
        }
    }

    /// Seals what has not been sealed, record by record, and writes as much as the kernel takes.
    pub fn write(
        &mut self,
        stream: &mut Stream,
        desk: &mut Desk,
        slices: &[IoSlice<'_>],
    ) -> io::Result<Written> {
        if self.is(BROKEN) {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        if let Some(rest) = &mut self.rest
            && !rest.held.is_empty()
        {
            let in_flight = send(stream, &mut rest.held)?;
            if in_flight > 0 {
                return Ok(Written { taken: 0, in_flight });
            }
            self.tidy();
        }
        self.set(OWN, false);
        if self.is(FINISHING) {
            debug_assert_eq!(asked, 0, "nothing follows the last word");
            stream.lend().finish();
        }
        if asked == 0 || self.is(FINISHING) {
            return Ok(Written { taken: 0, in_flight: 0 });
        }
        self.seal(stream, desk, slices, asked)
    }

    fn seal(
        &mut self,
        stream: &mut Stream,
        desk: &mut Desk,
        slices: &[IoSlice<'_>],
        asked: usize,
    ) -> io::Result<Written> {
        // The byte that comes first may have been sealed before: it is with the kernel now.
        let mut sealed = usize::from(self.is(OWES));
        self.set(OWES, false);
        let mut in_flight = 0;
        desk.scratch();
        while sealed < asked && in_flight == 0 {
            desk.sealed.clear();
            let len = self.session.seal_data(slices, sealed, &mut desk.sealed);
            if len == 0 {
                return Err(ErrorKind::InvalidData.into());
            }
            sealed += len;
            // What is sealed is kept, and goes out as it is.
            let written = match write_some(stream, &desk.sealed) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
                written => written?,
            };
            in_flight = desk.sealed.len() - written;
            if in_flight > 0 {
                self.rest().held = desk.sealed[written..].to_vec();
                self.set(OWES, true);
            }
        }
        desk.figures.key_updates += u64::from(std::mem::take(&mut self.session.updated));
        Ok(Written { taken: sealed - usize::from(in_flight > 0), in_flight })
    }

    /// Seals the last word; the FIN follows it.
    pub fn finish(&mut self, stream: &mut Stream) {
        if self.is(BROKEN) {
            return stream.lend().finish();
        }
        if !self.is(FINISHING) {
            let mut last = Vec::new();
            self.session.close(&mut last);
            self.rest().held.append(&mut last);
            self.set(FINISHING, true);
            self.set(OWN, true);
        }
    }

    /// Says the last word as far as one write goes: the socket is closed at once.
    pub fn say_last(&mut self, stream: &mut Stream) {
        let holds = self.rest.as_ref().is_some_and(|rest| !rest.held.is_empty());
        if self.is(FINISHING) && !holds || self.is(BROKEN) {
            return;
        }
        if !self.is(FINISHING) {
            let mut last = Vec::new();
            self.session.close(&mut last);
            self.rest().held.append(&mut last);
        }
        let _ = send(stream, &mut self.rest().held);
    }

    /// Lets go of what holds nothing.
    fn tidy(&mut self) {
        let is_empty = |rest: &Rest| {
            let is_whole = rest.partial.is_empty() && rest.plain.is_empty();
            is_whole && rest.held.is_empty() && rest.certificate.is_none()
        };
        self.rest.take_if(|rest| is_empty(rest));
    }

    fn rest(&mut self) -> &mut Rest {
        self.rest.get_or_insert_default()
    }

    fn is(&self, mark: u8) -> bool {
        self.session.marks & mark != 0
    }

    fn set(&mut self, mark: u8, is: bool) {
        match is {
            true => self.session.marks |= mark,
            false => self.session.marks &= !mark,
        }
    }
}

/// Where there is so much room, records are opened in the engine's buffer.
const ROOM_BYTES: usize = 2 * RECORD_BYTES_MAX;

/// What a record costs of the turn's budget, beside its bytes.
const RECORD_COST: usize = 64;

// Beside the keys there is only what tells where the rest is.
const _: () = assert!(size_of::<Open<Aes256>>() <= SESSION_BYTES + size_of::<u64>());

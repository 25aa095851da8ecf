//! A transport that behaves as one that seals its bytes, TLS for example: it has a handshake, gives
//! less than is there, holds back what it has taken, needs writes to read and reads to write, and
//! ends in two steps. On the link the bytes are as they are, so that peers need not know of it.
//!
//! It was added by following the steps in [`heartwheel::transport`].

use std::io::{self, ErrorKind, IoSlice};

use heartwheel::core::transport::{Got, Handshake, Transport, Written};

use crate::server_end::{ServerEnd, front};

/// What such a transport keeps for its connection.
#[derive(Debug, Default)]
pub struct Sealing {
    handshake: Step,
    /// Sealed and not with the kernel.
    held: Vec<u8>,
    /// The last byte that was sealed has not been taken yet.
    owes: bool,
    /// Reading waits for a write.
    must_write: bool,
    /// Reading has waited for one.
    has_waited: bool,
    /// Writing waits for a read.
    must_read: bool,
    ending: Ending,
    wants_write: bool,
    wants_read: bool,
}

impl Sealing {
    /// Says whether reading has had to wait for a write: a peer that takes nothing is not heard.
    pub fn has_waited(&self) -> bool {
        self.has_waited
    }
}

/// What the handshake waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Step {
    /// The peer's first word.
    #[default]
    Hello,
    /// A write of its own.
    Flight,
    Done,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Ending {
    #[default]
    Open,
    /// The last word waits to be written; FIN follows.
    LastWord,
    Ended,
}

/// The server's end of a link, sealed or not.
pub struct SealedEnd<'a> {
    pub end: ServerEnd<'a>,
    pub sealing: Option<&'a mut Sealing>,
}

impl Transport for SealedEnd<'_> {
    fn reads_anywhere(&self) -> bool {
        self.sealing.is_none()
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let Some(sealing) = &mut self.sealing else { return self.end.read(buffer) };
        sealing.wants_read = false;
        if std::mem::take(&mut sealing.must_read) {
            sealing.wants_write = true;
        }
        if buffer.is_empty()
            || self.end.link.inbound.is_empty()
                && !self.end.link.fin_arrived
                && !self.end.link.failed
        {
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.end.link.inbound.is_empty() {
            return self.end.read(buffer);
        }
        if sealing.handshake == Step::Hello {
            sealing.handshake = Step::Flight;
            sealing.must_write = true;
        }
        if sealing.must_write {
            sealing.wants_write = true;
            sealing.has_waited = true;
            return Err(ErrorKind::WouldBlock.into());
        }
        if self.end.rng.chance(5) {
            // A record with nothing for the engine in it; the answer to it comes first.
            sealing.must_write = self.end.rng.chance(50);
            sealing.wants_write |= sealing.must_write;
            return Ok(Got::Bytes { len: 0, is_drained: false });
        }
        let most = buffer.len().min(self.end.rng.below(3000) as usize + 1);
        match self.end.read(&mut buffer[..most])? {
            Got::Bytes { len, .. } => {
                let is_drained = self.end.link.inbound.is_empty() && !self.end.link.fin_arrived;
                Ok(Got::Bytes { len, is_drained })
            }
            Got::End => Ok(Got::End),
        }
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let Some(sealing) = &mut self.sealing else { return self.end.write(slices) };
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(asked > 0 || sealing.wants_write, "nothing was written, and nobody asked for it");
        if self.end.link.failed {
            return Err(ErrorKind::BrokenPipe.into());
        }
        if sealing.ending == Ending::LastWord {
            assert_eq!(asked, 0, "bytes were written behind the last word");
            assert!(sealing.held.is_empty() && !sealing.owes, "the last word is the last");
            if self.end.is_blocked() {
                return Err(ErrorKind::WouldBlock.into());
            }
            sealing.ending = Ending::Ended;
            sealing.wants_write = false;
            self.end.finish();
            return Ok(Written { taken: 0, in_flight: 0 });
        }
        if sealing.handshake == Step::Hello {
            // Nothing can be sealed yet: the peer has not said a word.
            return Err(ErrorKind::WouldBlock.into());
        }
        if (asked == 0 || sealing.must_write) && self.end.is_blocked() {
            return Err(ErrorKind::WouldBlock.into());
        }
        sealing.handshake = Step::Done;
        sealing.wants_write = false;
        sealing.wants_read |= std::mem::take(&mut sealing.must_write);
        if asked == 0 {
            return Ok(Written { taken: 0, in_flight: 0 });
        }
        if !sealing.owes && self.end.rng.chance(3) {
            sealing.must_read = true;
            sealing.wants_read = true;
            // What waits for a read is seen as late as what waits for room.
            self.end.link.unblocked_at = self.end.link.now;
            return Err(ErrorKind::WouldBlock.into());
        }
        self.seal(&front(slices, asked))
    }

    fn finish(&mut self) {
        match &mut self.sealing {
            None => self.end.finish(),
            Some(sealing) => {
                assert_eq!(sealing.ending, Ending::Open, "it is ended once");
                sealing.ending = Ending::LastWord;
                sealing.wants_write = true;
                self.end.link.finish_at = Some(self.end.link.now);
            }
        }
    }

    fn has_room(&mut self) -> bool {
        self.end.has_room()
    }

    fn wants_write(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| sealing.wants_write)
    }

    fn wants_read(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| sealing.wants_read)
    }

    fn handshake(&self) -> Handshake {
        match &self.sealing {
            Some(sealing) if sealing.handshake != Step::Done => Handshake::Going,
            _ => Handshake::Done,
        }
    }
}

impl SealedEnd<'_> {
    /// Seals what has not been sealed, record by record, and writes as much as the kernel takes.
    fn seal(&mut self, bytes: &[u8]) -> io::Result<Written> {
        let Some(sealing) = &mut self.sealing else { unreachable!("it is sealed") };
        // The byte that comes first may have been sealed before.
        let mut sealed = usize::from(sealing.owes);
        let mut has_written = false;
        while sealed < bytes.len() || !sealing.held.is_empty() {
            if sealing.held.is_empty() {
                let len = RECORD_BYTES_MAX.min(bytes.len() - sealed);
                sealing.held.extend_from_slice(&bytes[sealed..sealed + len]);
                sealed += len;
            }
            match self.end.send(&[IoSlice::new(&sealing.held)]) {
                Ok(len) => sealing.held.drain(..len),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            };
            has_written = true;
        }
        let was_owed = std::mem::replace(&mut sealing.owes, !sealing.held.is_empty());
        let taken = sealed - usize::from(sealing.owes);
        if taken == 0 && !has_written {
            // Of a single byte nothing is left to be taken while the byte is owed.
            let is_one_byte = bytes.len() == 1;
            assert!(was_owed || is_one_byte, "at least a byte of what was sealed is taken");
            return Err(ErrorKind::WouldBlock.into());
        }
        let in_flight = sealing.held.len();
        self.end.show(&bytes[..taken]);
        Ok(Written { taken, in_flight })
    }
}

/// What is sealed at once.
const RECORD_BYTES_MAX: usize = 16 << 10;

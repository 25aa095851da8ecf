//! The server's end of a link: what its reads and writes give, cut short and held up as the faults
//! have it.

use std::cell::RefMut;
use std::io::{self, ErrorKind, IoSlice, Read};

use heartwheel::core::transport::{Got, Transport, Written};

use crate::common::rng::Rng;
use crate::link::{Edge, Link, Segment, take_front};
use crate::plan::Chaos;

/// The server's end, for the time of one call.
pub struct ServerEnd<'a> {
    pub link: RefMut<'a, Link>,
    pub chaos: &'a Chaos,
    pub rng: &'a mut Rng,
}

impl Read for ServerEnd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let link = &mut *self.link;
        if link.failed {
            return Err(ErrorKind::ConnectionReset.into());
        }
        if link.inbound.is_empty() {
            link.end_was_read |= link.fin_arrived;
            return if link.fin_arrived { Ok(0) } else { Err(ErrorKind::WouldBlock.into()) };
        }
        let readable = Edge { readable: true, closed: link.fin_arrived, ..Edge::default() };
        if self.rng.chance(self.chaos.late_bytes / 3) {
            link.raise(1 + self.rng.below(20), readable);
            return Err(ErrorKind::WouldBlock.into());
        }
        let mut len = buffer.len().min(link.inbound.len());
        if len > 1 && self.rng.chance(self.chaos.short_read) {
            len = 1 + self.rng.below(len as u64 - 1) as usize;
            link.raise(self.rng.below(20), readable);
        }
        take_front(&mut link.inbound, &mut buffer[..len]);
        if std::mem::take(&mut link.client_waits) {
            link.client_told_at = Some(link.now + 1 + link.latency_ms);
        }
        link.last_read_at = link.now;
        link.read_bytes += len as u64;
        Ok(len)
    }
}

impl ServerEnd<'_> {
    /// Gives bytes to the kernel, as many as it takes.
    pub fn send(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let link = &mut *self.link;
        assert!(link.server_shut_at.is_none(), "bytes were written behind FIN");
        if link.failed {
            let broken = [ErrorKind::ConnectionReset, ErrorKind::BrokenPipe];
            return Err(broken[self.rng.below(2) as usize].into());
        }
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        assert!(asked > 0, "nothing was written");
        if self.is_blocked() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let link = &mut *self.link;
        let mut len = asked.min(link.room());
        if len > 1 && self.rng.chance(self.chaos.short_write) {
            len = 1 + self.rng.below(len as u64 - 1) as usize;
            link.blocked_until = link.now + self.rng.below(30);
        }
        if len < asked {
            link.blocked_since.get_or_insert(link.now);
        }
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let bytes = front(slices, len);
        link.last_written_at = link.now;
        link.was_blocked_by_chance = false;
        link.send_down(Segment::Bytes(bytes));
        Ok(len)
    }

    /// Says whether nothing can be written now, be it by chance. Room raises an edge then.
    pub fn is_blocked(&mut self) -> bool {
        let link = &mut *self.link;
        let by_chance = !link.was_blocked_by_chance && self.rng.chance(self.chaos.blocked_write);
        if by_chance {
            link.was_blocked_by_chance = true;
            let until = link.now + 1 + self.rng.below(self.chaos.blocked_ms_max);
            link.blocked_until = link.blocked_until.max(until);
        }
        let is_blocked = link.now < link.blocked_until;
        if is_blocked {
            link.blocked_since.get_or_insert(link.now);
        }
        is_blocked
    }

    /// Lays open what the outbox has forgotten.
    pub fn show(&mut self, bytes: &[u8]) {
        self.link.written.extend_from_slice(bytes);
        self.link.written_bytes += bytes.len() as u64;
    }
}

/// Gives the first `len` bytes.
pub fn front(slices: &[IoSlice<'_>], len: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(len);
    for slice in slices {
        bytes.extend_from_slice(&slice[..slice.len().min(len - bytes.len())]);
    }
    bytes
}

impl Transport for ServerEnd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let len = Read::read(self, buffer)?;
        Ok(Got::from_socket(len, buffer.len()))
    }

    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let taken = self.send(slices)?;
        self.show(&front(slices, taken));
        Ok(taken.into())
    }

    fn finish(&mut self) {
        self.link.server_shut();
    }

    fn has_room(&mut self) -> bool {
        let link = &*self.link;
        link.failed || link.now >= link.blocked_until && link.room() > 0
    }
}

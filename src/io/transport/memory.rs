//! Bytes as they are, within the process.

use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::BorrowedFd;

use crate::core::transport::{Got, Transport, Written};
use crate::io::memory::MemorySocket;

impl Transport for MemorySocket {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let len = self.take(buffer)?;
        Ok(Got::from_socket(len, buffer.len()))
    }

    #[inline]
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        match self.put(slices)? {
            0 => Err(ErrorKind::WriteZero.into()),
            taken => Ok(taken.into()),
        }
    }

    fn splice(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        self.put_from(pipe, most)
    }

    fn finish(&mut self) {
        self.shutdown();
    }

    fn has_room(&mut self) -> bool {
        self.takes_bytes()
    }
}

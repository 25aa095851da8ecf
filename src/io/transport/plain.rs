//! Bytes as they are, over a stream socket of the kernel.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::SockRef;

use crate::core::transport::{Got, Transport, Written};

/// A socket, lent.
pub(crate) struct Plain<'a, S>(pub &'a mut S);

impl<S: Read + AsFd> Transport for Plain<'_, S> {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<Got> {
        let len = self.0.read(buffer)?;
        Ok(Got::from_socket(len, buffer.len()))
    }

    #[inline]
    fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Written> {
        let socket = SockRef::from(&*self.0);
        // Neither call raises SIGPIPE, which would kill a C host.
        let taken = match slices {
            // One slice: `send` is cheaper than `sendmsg`.
            [slice] => socket.send_with_flags(slice, NO_SIGNAL)?,
            slices => socket.send_vectored_with_flags(slices, NO_SIGNAL)?,
        };
        if taken == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
        Ok(taken.into())
    }

    fn finish(&mut self) {
        // It fails if the peer is gone: the next read reports that.
        let _ = SockRef::from(&*self.0).shutdown(Shutdown::Write);
    }

    fn has_room(&mut self) -> bool {
        let mut watched = [PollFd::from_borrowed_fd(self.0.as_fd(), PollFlags::OUT)];
        // An interrupted poll reports nothing: that counts as no room.
        let found = poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }));
        found.is_ok() && watched[0].revents().contains(PollFlags::OUT)
    }
}

/// MSG_NOSIGNAL, the same number on every Linux.
const NO_SIGNAL: i32 = 0x4000;

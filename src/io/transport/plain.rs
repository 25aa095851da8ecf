//! Bytes as they are, over a stream socket of the kernel.

use std::io::{self, ErrorKind, IoSlice, Read};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::signal::{SigSet, SigmaskHow, Signal, raise};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::pipe::{SpliceFlags, splice};
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

    fn splice(&mut self, pipe: BorrowedFd<'_>, most: usize) -> io::Result<usize> {
        // `splice` knows no MSG_NOSIGNAL.
        without_sigpipe(|| Ok(splice(pipe, None, &*self.0, None, most, SpliceFlags::NONBLOCK)?))
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

/// Writes where SIGPIPE cannot be held back otherwise. The thread is left as it was.
fn without_sigpipe(write: impl FnOnce() -> io::Result<usize>) -> io::Result<usize> {
    let sigpipe = SigSet::from(Signal::SIGPIPE);
    let before = sigpipe.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let written = write();
    if written.as_ref().is_err_and(|error| error.kind() == ErrorKind::BrokenPipe) {
        // It waits for this thread now, and is taken away. Should a kernel not have raised it,
        // there is one all the same, so that nothing is waited for.
        let _ = raise(Signal::SIGPIPE).and_then(|()| sigpipe.wait());
    }
    before.thread_set_mask()?;
    written
}

/// MSG_NOSIGNAL, the same number on every Linux.
const NO_SIGNAL: i32 = 0x4000;

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use rustix::io::write;
    use rustix::pipe::pipe;

    use super::*;

    fn is_pending(signal: Signal) -> bool {
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("SigPnd:")).unwrap();
        u64::from_str_radix(pending.trim(), 16).unwrap() & (1 << (signal as i32 - 1)) != 0
    }

    #[test]
    fn bytes_in_a_pipe_raise_no_signal_where_the_peer_is_gone() {
        let sigpipe = SigSet::from(Signal::SIGPIPE);
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let (end, filled) = pipe().unwrap();
        write(&filled, b"abc").unwrap();
        assert_eq!(Plain(&mut ours).splice(end.as_fd(), 2).unwrap(), 2);
        drop(theirs);
        // Blocked, a signal that was raised stays.
        sigpipe.thread_block().unwrap();
        let error = Plain(&mut ours).splice(end.as_fd(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(!is_pending(Signal::SIGPIPE));
        raise(Signal::SIGPIPE).unwrap();
        assert!(is_pending(Signal::SIGPIPE), "the test sees it");
        sigpipe.wait().unwrap();
        sigpipe.thread_unblock().unwrap();
        let error = Plain(&mut ours).splice(end.as_fd(), 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokenPipe);
        assert!(!SigSet::thread_get_mask().unwrap().contains(Signal::SIGPIPE), "as it was");
    }
}

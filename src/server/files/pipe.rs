//! Pipes of the kernel, through which a file's bytes go to a socket without a copy.
//!
//! A worker moves what a file has into a pipe, and waits for the disk if it must. The loop moves it
//! on to the socket, and has no disk to wait for: `sendfile` would have it read the file itself.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

use crate::core::wire::http::Piped;

/// Pipes that are used again. A few exist at once: each takes two descriptors.
#[derive(Default)]
pub(super) struct Pipes {
    free: Mutex<Vec<Ends>>,
    /// How many there are, free or filled.
    count: AtomicUsize,
}

/// The two ends of a pipe.
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
}

/// A pipe with a part of a file.
pub(super) struct Filled {
    /// `None` once it is given back.
    ends: Option<Ends>,
    len: usize,
    pipes: Arc<Pipes>,
}

impl Filled {
    /// Moves bytes of a file into a pipe: `count`, or as many as it takes. `None` if no pipe is
    /// free, or nothing could be moved.
    pub fn new(pipes: &Arc<Pipes>, file: impl AsFd, from: u64, count: u64) -> Option<Filled> {
        let ends = pipes.take()?;
        let mut filled = Filled { ends: Some(ends), len: 0, pipes: pipes.clone() };
        let wanted = usize::try_from(count).map_or(PIPE_BYTES, |count| count.min(PIPE_BYTES));
        let mut at = from;
        while filled.len < wanted {
            let (left, write) = (wanted - filled.len, &filled.ends.as_ref()?.write);
            match splice(&file, Some(&mut at), write, None, left, SpliceFlags::NONBLOCK) {
                Ok(moved @ 1..) => filled.len += moved,
                Err(Errno::INTR) => {}
                // The pipe is full, which it is before `wanted` if the range begins within a page;
                // the file ends; or its file system has no splice.
                Ok(0) | Err(_) => break,
            }
        }
        if filled.len == 0 {
            Box::new(filled).emptied();
            return None;
        }
        Some(filled)
    }
}

impl Piped for Filled {
    fn bytes(&self) -> usize {
        self.len
    }

    fn end(&self) -> BorrowedFd<'_> {
        self.ends.as_ref().expect("the ends are there until the pipe is dropped").read.as_fd()
    }

    fn emptied(mut self: Box<Self>) {
        let mut free = self.pipes.free.lock().unwrap_or_else(PoisonError::into_inner);
        if free.len() < FREE_MAX {
            free.extend(self.ends.take());
        }
    }
}

impl Drop for Filled {
    fn drop(&mut self) {
        if self.ends.is_some() {
            self.pipes.count.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Pipes {
    fn take(&self) -> Option<Ends> {
        let free = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if free.is_some() {
            return free;
        }
        let is_room = |count: usize| (count < PIPES_MAX).then_some(count + 1);
        self.count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_room).ok()?;
        let ends = Ends::new();
        if ends.is_none() {
            self.count.fetch_sub(1, Ordering::Relaxed);
        }
        ends
    }
}

impl Ends {
    fn new() -> Option<Ends> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).ok()?;
        // A user who has many pipes gets small ones.
        let _ = fcntl_setpipe_size(&write, PIPE_BYTES);
        Some(Ends { read, write })
    }
}

/// What a pipe takes, if the range begins where a page does.
pub(super) const PIPE_BYTES: usize = 128 * 1024;

/// How many pipes there are at most: their ends take a third of the descriptors that
/// `limits.connections` leaves.
const PIPES_MAX: usize = 8;

/// How many empty pipes are kept.
const FREE_MAX: usize = 2;

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of so many bytes, which has no name.
    fn file(len: u64) -> std::fs::File {
        let path = std::env::temp_dir().join(format!("heartwheel-pipe-{}", std::process::id()));
        let options = std::fs::OpenOptions::new()
            .write(true)
            .read(true)
            .create(true)
            .truncate(true)
            .open(&path);
        let file = options.unwrap();
        file.set_len(len).unwrap();
        let _ = std::fs::remove_file(&path);
        file
    }

    #[test]
    fn there_are_so_many_pipes_and_those_that_were_emptied_are_used_again() {
        let (pipes, file) = (Arc::default(), file(100));
        let fill = || Filled::new(&pipes, &file, 0, 100);
        let mut filled: Vec<Filled> = std::iter::from_fn(fill).take(100).collect();
        assert_eq!(filled.len(), PIPES_MAX);
        Box::new(filled.pop().unwrap()).emptied();
        assert_eq!(pipes.free.lock().unwrap().len(), 1);
        filled.push(fill().expect("one is free"));
        assert!(fill().is_none());
        // One that is not emptied has bytes in it, and is closed.
        filled.clear();
        assert_eq!((pipes.count.load(Ordering::Relaxed), pipes.free.lock().unwrap().len()), (0, 0));
        let again: Vec<Filled> = std::iter::from_fn(fill).take(PIPES_MAX).collect();
        again.into_iter().for_each(|one| Box::new(one).emptied());
        assert_eq!(pipes.count.load(Ordering::Relaxed), FREE_MAX);
    }

    #[test]
    fn a_pipe_takes_what_there_is_and_no_more_than_its_bound() {
        let pipes = Arc::default();
        let put = |len, from, count| {
            Filled::new(&pipes, file(len), from, count).map(|filled| filled.bytes())
        };
        assert_eq!(put(100, 0, 100), Some(100));
        assert_eq!(put(100, 40, 100), Some(60), "the file is shorter than it was");
        assert_eq!(put(100, 100, 1), None);
        assert_eq!(put(1 << 20, 0, u64::MAX), Some(PIPE_BYTES));
        let begun = put(1 << 20, 100, 1 << 20).unwrap();
        assert!((PIPE_BYTES - 4096..=PIPE_BYTES).contains(&begun), "{begun}");
    }
}

//! Reads files: a small one at once, a larger one piece by piece.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};
use tungstenite::Bytes;

use super::open::{File, Folder, Modified, Opened};
use super::pipe::{Filled, Pipes};
use crate::core::wire::http::{Next, Pipe, Piped, Source};

/// What is left of a file that is sent in pieces.
///
/// A few files stay open from piece to piece. Others are opened anew for each: however many clients
/// read slowly, they hold no more than [`HELD_MAX`] descriptors.
pub(super) struct FileBody {
    folder: Arc<Folder>,
    path: String,
    held: Option<Held>,
    len: u64,
    modified: Modified,
    number: u64,
    at: u64,
    left: u64,
    shared: Arc<Shared>,
    takes_pipes: bool,
    /// The first piece, from when the answer was made.
    first: Option<Filled>,
}

/// What the bodies of a folder share.
#[derive(Default)]
pub(super) struct Shared {
    /// How many files are kept open.
    held: AtomicUsize,
    pipes: Arc<Pipes>,
}

/// An open file, counted.
struct Held {
    file: File,
    shared: Arc<Shared>,
}

impl Held {
    /// Keeps a file open, if not too many are.
    fn new(file: File, shared: &Arc<Shared>) -> Option<Held> {
        let is_room = |held: usize| (held < HELD_MAX).then_some(held + 1);
        let taken = shared.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_room);
        taken.is_ok().then(|| Held { file, shared: shared.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.shared.held.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileBody {
    /// Makes the body of a part of a file, and has its first piece ready, if a pipe is free.
    pub fn new(
        folder: Arc<Folder>,
        path: String,
        file: File,
        (from, count): (u64, u64),
        shared: &Arc<Shared>,
    ) -> FileBody {
        let fill = || Filled::new(&shared.pipes, &file.fd, from, count);
        let first = (count > 0).then(fill).flatten().filter(|_| file.is_unchanged());
        let ready = first.as_ref().map_or(0, |first| first.bytes() as u64);
        let File { len, modified, number, .. } = file;
        let held = (ready < count).then(|| Held::new(file, shared)).flatten();
        let (at, left, shared, takes_pipes) = (from, count, shared.clone(), false);
        FileBody { folder, path, held, len, modified, number, at, left, shared, takes_pipes, first }
    }

    /// Returns the next piece. `None` if the file is not the one that it was, or cannot be read.
    fn piece(&mut self, most: u64) -> Option<Next> {
        let next = match self.first.take() {
            Some(first) if self.takes_pipes => Next::Piped(Pipe(Box::new(first))),
            Some(first) => Next::Piece(read_out(first)?),
            None => self.look_up(most)?,
        };
        let count = match &next {
            Next::Piped(pipe) => pipe.bytes() as u64,
            Next::Piece(bytes) => bytes.len() as u64,
            _ => 0,
        };
        self.at += count;
        self.left -= count;
        Some(next)
    }

    fn look_up(&self, most: u64) -> Option<Next> {
        if let Some(held) = &self.held {
            return self.piece_of(&held.file, most);
        }
        match self.folder.open(&self.path)? {
            Opened::File(file) if file.is_same(self.len, self.modified, self.number) => {
                self.piece_of(&file, most)
            }
            _ => None,
        }
    }

    fn piece_of(&self, file: &File, most: u64) -> Option<Next> {
        let fill = || Filled::new(&self.shared.pipes, &file.fd, self.at, self.left);
        let next = match self.takes_pipes.then(fill).flatten() {
            Some(filled) => Next::Piped(Pipe(Box::new(filled))),
            None => Next::Piece(read(file, self.at, most.min(self.left))?),
        };
        // Written to meanwhile, it would be sent half old, half new.
        file.is_unchanged().then_some(next)
    }
}

impl Source for FileBody {
    fn begin(&mut self, _: usize, takes_pipes: bool) {
        self.takes_pipes = takes_pipes;
    }

    fn next(&mut self, most: usize) -> Next {
        if self.left == 0 {
            return Next::End;
        }
        self.piece(most as u64).unwrap_or(Next::Broken)
    }

    fn is_quick(&self) -> bool {
        self.first.is_some()
    }
}

/// Reads so many bytes; `None` if the file has fewer.
pub(super) fn read(file: &File, from: u64, count: u64) -> Option<Bytes> {
    let wanted = usize::try_from(count).ok()?;
    read_all(wanted, |bytes| {
        let at = from + bytes.len() as u64;
        pread(&file.fd, spare_capacity(bytes), at)
    })
}

/// Reads what is in a pipe, for a peer to which no pipe leads.
fn read_out(filled: Filled) -> Option<Bytes> {
    let bytes =
        read_all(filled.bytes(), |bytes| rustix::io::read(filled.end(), spare_capacity(bytes)))?;
    Box::new(filled).emptied();
    Some(bytes)
}

fn read_all(
    wanted: usize,
    mut read: impl FnMut(&mut Vec<u8>) -> Result<usize, Errno>,
) -> Option<Bytes> {
    let mut bytes = spare(wanted);
    while bytes.len() < wanted {
        match read(&mut bytes) {
            Ok(0) => return None,
            Ok(_) => bytes.truncate(wanted),
            Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
    Some(Bytes::from_owner(Spare(bytes)))
}

/// The bytes of a file, whose memory is used again. The allocator would give it back to the system
/// and fetch it anew, page by page, for each file.
struct Spare(Vec<u8>);

impl AsRef<[u8]> for Spare {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Spare {
    fn drop(&mut self) {
        let capacity = self.0.capacity();
        if !SPARE_BYTES.contains(&capacity) {
            return;
        }
        let mut spares = SPARES.lock().unwrap_or_else(PoisonError::into_inner);
        self.0.clear();
        if spares.len() < SPARES_MAX {
            spares.push(std::mem::take(&mut self.0));
        } else if let Some(small) = spares.iter_mut().find(|spare| spare.capacity() < capacity) {
            *small = std::mem::take(&mut self.0);
        }
    }
}

/// Returns empty memory for so many bytes.
fn spare(count: usize) -> Vec<u8> {
    let mut spares = SPARES.lock().unwrap_or_else(PoisonError::into_inner);
    let fits = spares.iter().rposition(|spare| spare.capacity() >= count);
    let found = fits.map(|at| spares.swap_remove(at));
    drop(spares);
    found.unwrap_or_else(|| Vec::with_capacity(count))
}

static SPARES: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
const SPARES_MAX: usize = 8;
/// Less is not worth it.
const SPARE_BYTES: RangeInclusive<usize> = 32 * 1024..=128 * 1024;

/// How many files stay open from piece to piece: a third of the descriptors that
/// `limits.connections` leaves.
const HELD_MAX: usize = 16;

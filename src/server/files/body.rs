//! Reads files: a small one at once, a larger one slice by slice.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::buffer::spare_capacity;
use rustix::io::{Errno, pread};
use tungstenite::Bytes;

use super::open::{File, Folder, Modified, Opened};
use crate::core::wire::http::{Next, Source};

/// What is left of a file that is sent in slices.
///
/// A few files stay open from slice to slice. Others are opened anew for each: however many clients
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
}

/// An open file, counted.
struct Held {
    file: File,
    count: Arc<AtomicUsize>,
}

impl Held {
    /// Keeps a file open, if not too many are.
    fn new(file: File, count: &Arc<AtomicUsize>) -> Option<Held> {
        let is_room = |held: usize| (held < HELD_MAX).then_some(held + 1);
        let taken = count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, is_room);
        taken.is_ok().then(|| Held { file, count: count.clone() })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::Relaxed);
    }
}

impl FileBody {
    pub fn new(
        folder: Arc<Folder>,
        path: String,
        file: File,
        (from, count): (u64, u64),
        held: &Arc<AtomicUsize>,
    ) -> FileBody {
        let File { len, modified, number, .. } = file;
        let held = Held::new(file, held);
        FileBody { folder, path, held, len, modified, number, at: from, left: count }
    }

    fn read(&mut self, most: u64) -> Option<Bytes> {
        let count = most.min(self.left);
        let bytes = match &self.held {
            // Written to meanwhile, it would be sent half old, half new.
            Some(held) => read(&held.file, self.at, count).filter(|_| held.file.is_unchanged()),
            None => match self.folder.open(&self.path)? {
                Opened::File(file) if file.is_same(self.len, self.modified, self.number) => {
                    read(&file, self.at, count)
                }
                _ => None,
            },
        }?;
        self.at += count;
        self.left -= count;
        Some(bytes)
    }
}

impl Source for FileBody {
    fn next(&mut self, most: usize) -> Next {
        if self.left == 0 {
            return Next::End;
        }
        self.read(most as u64).map_or(Next::Broken, Next::Piece)
    }

    fn is_quick(&self) -> bool {
        false
    }
}

/// Reads so many bytes; `None` if the file has fewer.
pub(super) fn read(file: &File, from: u64, count: u64) -> Option<Bytes> {
    let wanted = usize::try_from(count).ok()?;
    let mut bytes = spare(wanted);
    while bytes.len() < wanted {
        let at = from + bytes.len() as u64;
        match pread(&file.fd, spare_capacity(&mut bytes), at) {
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

/// How many files stay open from slice to slice. It is half of the descriptors that
/// `limits.connections` leaves.
const HELD_MAX: usize = 16;

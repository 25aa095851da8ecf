//! The file of the store.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};

use crate::core::store::{Found, PAGE_BYTES, PAGES_MIN, Pages, copy};

/// A file of pages.
#[derive(Debug)]
pub struct RingFile {
    file: File,
    count: u64,
}

impl RingFile {
    /// Opens the ring in this file, and reads it. A file of another size is replaced by one of this
    /// size, with what fits. A file in which there is no page of a ring is put aside, as
    /// `NAME.damaged`. Of the events the newest of at most `bytes_max` bytes are read.
    ///
    /// # Errors
    ///
    /// If the file cannot be made or read, is no plain file, or is in use by another process.
    pub fn open(path: &Path, bytes: u64, bytes_max: usize) -> io::Result<(RingFile, Found)> {
        let is_new = !path.try_exists()?;
        let (file, is_writable) = open(path)?;
        let len = file.metadata()?.len();
        if len == 0 {
            let mut ring = RingFile { file, count: bytes / PAGE_BYTES as u64 };
            ring.blank()?;
            sync_folder(path);
            let mut found = Found::default();
            // A process before may have found no room.
            found.past.has_loss = !is_new;
            return Ok((ring, found));
        }
        let mut ring = RingFile { file, count: len / PAGE_BYTES as u64 };
        if !is_writable && ring.count < PAGES_MIN {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        if is_writable {
            // A process before may have written what it did not sync.
            ring.sync()?;
        }
        let found = Found::read(&mut ring, PAGE_BYTES, bytes_max);
        if len == bytes && (found.has_pages() || ring.is_blank()?) || !is_writable {
            return Ok((ring, found));
        }
        let own = beside(path, "new");
        let (file, _) = open(&own)?;
        file.set_len(0)?;
        let mut new = RingFile { file, count: bytes / PAGE_BYTES as u64 };
        new.blank()?;
        copy(&found, &mut ring, &mut new, PAGE_BYTES)?;
        if !found.has_pages() && !ring.is_blank()? {
            fs::rename(path, beside(path, "damaged"))?;
        }
        fs::rename(own, path)?;
        sync_folder(path);
        Ok((new, found))
    }

    /// Makes a file that must not exist yet, to measure its disk.
    ///
    /// # Errors
    ///
    /// If it exists, or cannot be written.
    #[cfg(feature = "program")]
    pub fn create(path: &Path, count: u64) -> io::Result<RingFile> {
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        let mut ring = RingFile { file, count };
        match ring.blank() {
            Ok(()) => Ok(ring),
            Err(error) => {
                fs::remove_file(path)?;
                Err(error)
            }
        }
    }

    /// Writes all pages, so that no later write needs room, or changes more than its page.
    fn blank(&mut self) -> io::Result<()> {
        (0..self.count).try_for_each(|slot| self.write(slot, &[0; PAGE_BYTES]))?;
        self.file.sync_all()
    }

    fn is_blank(&self) -> io::Result<bool> {
        let (mut page, mut at) = ([0; PAGE_BYTES], 0);
        loop {
            match self.file.read_at(&mut page, at)? {
                0 => return Ok(true),
                len if page[..len].iter().any(|byte| *byte != 0) => return Ok(false),
                len => at += len as u64,
            }
        }
    }
}

impl Pages for RingFile {
    fn count(&self) -> u64 {
        self.count
    }

    fn read(&mut self, slot: u64, page: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(page, slot * PAGE_BYTES as u64)
    }

    fn write(&mut self, slot: u64, page: &[u8]) -> io::Result<()> {
        self.file.write_all_at(page, slot * PAGE_BYTES as u64)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.file.sync_data()
    }
}

/// Opens a file for this process alone. Returns whether it can be written, too.
fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).mode(0o600);
    let (file, is_writable) = match options.open(path) {
        Ok(file) => (file, true),
        Err(error) => match File::open(path) {
            Ok(file) => (file, false),
            Err(_) => return Err(error),
        },
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no plain file"));
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
        io::Error::new(io::ErrorKind::ResourceBusy, "it is in use by another process")
    })?;
    Ok((file, is_writable))
}

/// Has a new name outlast a power cut. Without it the ring is still good, perhaps under no name.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let _ = File::open(folder.unwrap_or(Path::new("."))).and_then(|folder| folder.sync_all());
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    name.into()
}

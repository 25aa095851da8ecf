//! Opens files of a folder, and none outside of it.
//!
//! Linux from 5.6 on resolves the path itself and stays beneath the folder, also through links
//! (openat2, RESOLVE_BENEATH). Elsewhere each name is opened by itself and no link is followed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::{self, FileType, Mode, OFlags, Stat};
use rustix::io::{self, Errno};

/// A folder.
pub(super) struct Folder {
    /// It is opened for each file: another folder may take its place.
    path: PathBuf,
}

/// What was opened.
pub(super) enum Opened {
    File(File),
    Folder,
}

/// A regular file, open.
pub(super) struct File {
    pub fd: OwnedFd,
    pub len: u64,
    pub modified: Modified,
    pub number: u64,
}

/// When a file was changed: seconds since 1970, and nanoseconds.
pub(super) type Modified = (i64, u64);

impl Folder {
    pub fn new(path: PathBuf) -> Folder {
        Folder { path }
    }

    /// Opens what a path names. `None` if it is not there, not beneath the folder, or neither a
    /// regular file nor a folder.
    ///
    /// Nothing waits for a writer of a FIFO, and no terminal becomes the process's own.
    pub fn open(&self, path: &str) -> Option<Opened> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = fs::open(&self.path, flags, Mode::empty()).ok()?;
        let fd = beneath(folder.as_fd(), path).ok()?;
        let stat = fs::fstat(&fd).ok()?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Some(Opened::File(File::new(fd, &stat))),
            FileType::Directory => Some(Opened::Folder),
            _ => None,
        }
    }
}

impl File {
    fn new(fd: OwnedFd, stat: &Stat) -> File {
        File {
            fd,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            modified: modified(stat),
            number: number(stat),
        }
    }

    /// Returns whether the open file is as it was: nobody has written to it.
    pub fn is_unchanged(&self) -> bool {
        let Ok(stat) = fs::fstat(&self.fd) else { return false };
        u64::try_from(stat.st_size) == Ok(self.len) && modified(&stat) == self.modified
    }

    /// Returns whether this is the file that was open before, unchanged.
    pub fn is_same(&self, len: u64, modified: Modified, number: u64) -> bool {
        (self.len, self.modified, self.number) == (len, modified, number)
    }
}

fn number(stat: &Stat) -> u64 {
    // Its type differs by processor.
    #[allow(clippy::unnecessary_cast)]
    let number = stat.st_ino as u64;
    number
}

fn modified(stat: &Stat) -> Modified {
    // Their types differ by processor.
    #[allow(clippy::unnecessary_cast)]
    (stat.st_mtime as i64, stat.st_mtime_nsec as u64)
}

#[cfg(target_os = "linux")]
fn beneath(folder: BorrowedFd, path: &str) -> io::Result<OwnedFd> {
    use rustix::fs::ResolveFlags;

    for _ in 0..ATTEMPTS_MAX {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match fs::openat2(folder, path, FLAGS, Mode::empty(), resolve) {
            // Something was renamed meanwhile.
            Err(Errno::AGAIN | Errno::INTR) => {}
            // An old kernel, or a filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => return step_by_step(folder, path),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(not(target_os = "linux"))]
fn beneath(folder: BorrowedFd, path: &str) -> io::Result<OwnedFd> {
    step_by_step(folder, path)
}

/// Opens one name after the other, and follows no link.
fn step_by_step(folder: BorrowedFd, path: &str) -> io::Result<OwnedFd> {
    let (folders, name) =
        path.rsplit_once('/').map_or((None, path), |(all, last)| (Some(all), last));
    let mut inner: Option<OwnedFd> = None;
    let at = |inner: &Option<OwnedFd>, name: &str, flags: OFlags| {
        let at = inner.as_ref().map_or(folder, |inner| inner.as_fd());
        fs::openat(at, name, flags | OFlags::NOFOLLOW, Mode::empty())
    };
    for name in folders.into_iter().flat_map(|folders| folders.split('/')) {
        inner = Some(at(&inner, name, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC)?);
    }
    at(&inner, name, FLAGS)
}

const FLAGS: OFlags =
    OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);
#[cfg(target_os = "linux")]
const ATTEMPTS_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ways refuse what leads out; only the kernel's follows links that stay inside.
    #[test]
    fn no_way_leads_out_of_the_folder() {
        let root = std::env::temp_dir().join(format!("heartwheel-open-{}", std::process::id()));
        let inside = root.join("inside/a/b");
        std::fs::create_dir_all(&inside).unwrap();
        std::fs::write(root.join("secret"), "secret").unwrap();
        std::fs::write(inside.join("c"), "c").unwrap();
        let link = |to: &str, name: &str| {
            std::os::unix::fs::symlink(to, root.join("inside").join(name)).unwrap();
        };
        link("../secret", "up");
        link("/etc/passwd", "absolute");
        link("a/b/../../../secret", "winding");
        link("..", "parent");
        link("/proc/self/root", "magic");
        link("a/b/c", "within");
        link("loop", "loop");
        let folder = fs::open(
            root.join("inside"),
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .unwrap();
        type Way = fn(BorrowedFd, &str) -> io::Result<OwnedFd>;
        for (way, follows) in [(beneath as Way, cfg!(target_os = "linux")), (step_by_step, false)] {
            assert!(way(folder.as_fd(), "a/b/c").is_ok());
            for path in [
                "up",
                "absolute",
                "winding",
                "parent/secret",
                "magic/etc/passwd",
                "loop",
                "a/b/d",
                "a/b/c/d",
            ] {
                assert!(way(folder.as_fd(), path).is_err(), "{path}");
            }
            assert_eq!(way(folder.as_fd(), "within").is_ok(), follows);
        }
        std::fs::remove_dir_all(root).unwrap();
    }
}

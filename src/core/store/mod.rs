//! A ring of pages on flash that keeps the events of durable topics: what is written, in which
//! order, and what is read from it after a crash. It writes nothing itself: [`Pages`] does.
//!
//! ```text
//!   slot       0       1       2       3
//!          ┌───────┬───────┬───────┬───────┐    a page: checksum, number, run, the position
//!   page   │   8   │   9   │   6   │   7   │    before it, and records; where the first
//!          └───────┴───────┴───────┴───────┘    stands that begins in the page
//!                    newest  oldest
//! ```
//!
//! **Order.** A commit writes fresh pages, in order, and then syncs once. A page that was synced is
//! not written again before the ring has come round. So a torn write damages no event that was
//! committed, except those that the ring was to overwrite.
//!
//! **Runs.** Each opening begins a run, and so does each failure of the disk. A page tells its run.
//! So a page of a commit that failed is told from those that followed it.
//!
//! **Gaps.** A record may say that events up to an id were lost. The run that follows a crash
//! begins with one. What a damaged page had is lost up to the position that the next page tells.
//!
//! **Positions** of bridges are stated with the commits of events, those that have changed, and all
//! of them before the ring has come round. After a crash one may be older than it was.
//!
//! The names of topics stand in each page anew, so no page needs an earlier one.

mod budget;
mod page;
mod record;
mod recover;
mod ring;

use std::io;

pub use budget::Budget;
pub use recover::{FAR, Found, copy};
pub use ring::Ring;

/// Where pages are kept. All pages of a ring have the same length.
pub trait Pages {
    /// Returns how many pages there is room for.
    fn count(&self) -> u64;

    /// Reads a page.
    ///
    /// # Errors
    ///
    /// If the page cannot be read: it counts as damaged.
    fn read(&mut self, slot: u64, page: &mut [u8]) -> io::Result<()>;

    /// Writes a page. It may be lost until [`Pages::sync`] has returned.
    ///
    /// # Errors
    ///
    /// If the page may not have been written.
    fn write(&mut self, slot: u64, page: &[u8]) -> io::Result<()>;

    /// Has all pages that were written outlast a power cut.
    ///
    /// # Errors
    ///
    /// If any of them may not.
    fn sync(&mut self) -> io::Result<()>;
}

/// The bytes of a page.
pub const PAGE_BYTES: usize = 4096;

/// The least number of pages.
pub const PAGES_MIN: u64 = 16;

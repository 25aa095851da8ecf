//! `heartwheel check --flash FILE`: how fast the flash under a file is, and how long it lasts.

use std::fmt::{self, Display};
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{major, minor, statvfs};

use crate::core::config::Store;
use crate::core::config::units::{show_duration, show_size};
use crate::core::ground::decimal::tenths;
use crate::core::store::{PAGE_BYTES, PAGES_MIN, Pages};
use crate::system::store::RingFile;

/// What was measured of a flash, and how long it lasts with these settings.
pub struct Flash<'a> {
    path: &'a Path,
    settings: &'a Store,
    took: Vec<Duration>,
    /// The bytes that the device has written for each byte of a page; `None` if the kernel does not
    /// tell.
    times: Option<f64>,
    size: u64,
}

impl Flash<'_> {
    /// Writes pages to a file that must not exist yet, syncs after each, and removes the file.
    ///
    /// # Errors
    ///
    /// If the file exists, or cannot be written.
    pub fn measure<'a>(path: &'a Path, settings: &'a Store) -> io::Result<Flash<'a>> {
        let mut pages = RingFile::create(path, PAGES_MIN)?;
        let measured = measure(path, &mut pages);
        fs::remove_file(path)?;
        let (took, times) = measured?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let whole = statvfs(folder.unwrap_or(Path::new(".")))?;
        let size = whole.f_blocks.saturating_mul(whole.f_frsize);
        Ok(Flash { path, settings, took, times, size })
    }

    /// Returns the bytes of pages that a day has with a page each `store.sync`, or has at most by
    /// the budget.
    fn per_day(&self) -> f64 {
        let commits = DAY.as_secs_f64() / self.settings.sync.as_secs_f64();
        let most = commits * PAGE_BYTES as f64;
        self.settings.budget.map_or(most, |budget| most.min(budget as f64))
    }
}

impl Display for Flash<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut took = self.took.clone();
        took.sort_unstable();
        let ms = |span: Duration| tenths(span.as_secs_f64() * 1000.0);
        let (median, longest) = (ms(took[took.len() / 2]), ms(took[took.len() - 1]));
        writeln!(f, "\nFlash under {}", self.path.display())?;
        writeln!(f, "  a commit of one page   {median} ms, the longest of {COMMITS} {longest} ms")?;
        match self.times {
            Some(times) => {
                writeln!(f, "  the device writes      {} x what is asked", tenths(times))?;
            }
            None => writeln!(f, "  the device writes      unknown: taken for 2 x what is asked")?,
        }
        let per_day = self.per_day();
        let why = match self.settings.budget {
            Some(budget) if budget as f64 <= per_day => {
                format!("store.budget = {}", show_size(budget))
            }
            _ => format!("a page each store.sync = {}", show_duration(self.settings.sync)),
        };
        let in_mib = tenths(per_day / f64::from(1 << 20));
        writeln!(f, "  asked in a day         {in_mib} MiB: {why}")?;
        let worn = per_day * self.times.unwrap_or(2.0).max(1.0) * 365.0;
        let years = self.size as f64 * f64::from(WRITES_BORNE) / worn;
        let in_mib = tenths(self.size as f64 / f64::from(1 << 20));
        let years = tenths(years);
        let what = format!("if each of {in_mib} MiB bears {WRITES_BORNE} writes");
        writeln!(f, "  lasts                  {years} years, {what}")
    }
}

fn measure(path: &Path, pages: &mut RingFile) -> io::Result<(Vec<Duration>, Option<f64>)> {
    let counter = counter_of(path);
    let before = counter.as_deref().and_then(sectors_written);
    let mut took = Vec::with_capacity(COMMITS as usize);
    for number in 0..COMMITS {
        let page = [number as u8 ^ 0x5A; PAGE_BYTES];
        let began = Instant::now();
        pages.write(number % PAGES_MIN, &page)?;
        pages.sync()?;
        took.push(began.elapsed());
    }
    let after = counter.as_deref().and_then(sectors_written);
    let times = before.zip(after).filter(|(before, after)| after > before);
    let asked = (COMMITS as usize * PAGE_BYTES) as f64;
    let times = times.map(|(before, after)| (after - before) as f64 * SECTOR_BYTES / asked);
    Ok((took, times))
}

/// Returns the file in which the kernel counts what the device of this file has written.
fn counter_of(path: &Path) -> Option<PathBuf> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (major(device), minor(device));
    Some(format!("/sys/dev/block/{major}:{minor}/stat").into())
}

fn sectors_written(counter: &Path) -> Option<u64> {
    fs::read_to_string(counter).ok()?.split_whitespace().nth(6)?.parse().ok()
}

const COMMITS: u64 = 100;
const SECTOR_BYTES: f64 = 512.0;
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// What cells of cheap cards bear.
const WRITES_BORNE: u32 = 3000;

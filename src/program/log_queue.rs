//! Log lines on their way to stderr: through a bounded queue and one thread, so that a full pipe
//! never blocks the loop. Lines that find no room, or cannot be written, are dropped and counted;
//! the count is the next line.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};

use crate::http::date;

/// The process's logger.
struct LogQueue {
    lines: Sender<Line>,
    /// Of all time.
    dropped: Arc<AtomicUsize>,
}

enum Line {
    Text { level: Level, target: String, text: String },
    Flush(Sender<()>),
}

/// Installs the logger and starts its thread. Gives where it counts the lines that it drops.
pub(super) fn install(level: LevelFilter) -> Arc<AtomicUsize> {
    let (sender, lines) = bounded(LINES_MAX);
    let dropped = Arc::new(AtomicUsize::new(0));
    let queue: &'static LogQueue =
        Box::leak(Box::new(LogQueue { lines: sender, dropped: dropped.clone() }));
    let started = thread::Builder::new()
        .name("heartwheel-log".into())
        .spawn(move || write_lines(&lines, queue));
    // Without a thread, or with another logger installed, there is nobody to tell.
    if started.is_ok() && log::set_logger(queue).is_ok() {
        log::set_max_level(level);
    }
    dropped
}

fn write_lines(lines: &Receiver<Line>, queue: &LogQueue) {
    let mut told = 0;
    for line in lines {
        match line {
            Line::Text { level, target, text } => {
                if !write(level, &target, &text) {
                    queue.dropped.fetch_add(1, Ordering::Relaxed);
                }
            }
            Line::Flush(done) => {
                let _ = done.send(());
            }
        }
        let dropped = queue.dropped.load(Ordering::Relaxed);
        if dropped != told {
            let text = format!("log lines dropped count={}", dropped.wrapping_sub(told));
            if write(Level::Warn, "heartwheel::log", &text) {
                told = dropped;
            }
        }
    }
}

/// Writes a line, and says whether it could: stderr fails on a full disk, for one.
fn write(level: Level, target: &str, text: &str) -> bool {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    let line = format!("{} {level:<5} [{target}] {text}\n", timestamp(since));
    io::stderr().lock().write_all(line.as_bytes()).is_ok()
}

/// Gives a moment, counted from 1970, as RFC 3339 has it.
fn timestamp(since: Duration) -> String {
    const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";
    // Its parts stand in fixed places: `Sun, 06 Nov 1994 08:49:37 GMT`.
    let date = date(since.as_millis() as u64);
    let month = MONTHS.find(&date[8..11]).map_or(0, |place| place / 3 + 1);
    let (year, day, time) = (&date[12..16], &date[5..7], &date[17..25]);
    format!("{year}-{month:02}-{day}T{time}.{:03}Z", since.subsec_millis())
}

impl Log for LogQueue {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = Line::Text {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
        };
        if self.lines.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits for a moment until all lines before it are written.
    fn flush(&self) {
        let (done, is_done) = bounded(1);
        if self.lines.send_timeout(Line::Flush(done), FLUSH_WAIT).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_WAIT);
        }
    }
}

const LINES_MAX: usize = 1024;
const FLUSH_WAIT: Duration = Duration::from_millis(200);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_those_of_rfc_3339() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (784_111_777_008, "1994-11-06T08:49:37.008Z"),
            (951_782_399_999, "2000-02-28T23:59:59.999Z"),
            (1_835_395_200_000, "2028-02-29T00:00:00.000Z"),
            (4_102_444_799_999, "2099-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(timestamp(Duration::from_millis(ms)), text);
        }
    }
}

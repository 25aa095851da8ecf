//! Log lines on their way to stderr: through a bounded queue and one thread, so that a full pipe
//! never blocks the loop. Lines that find no room, or cannot be written, are dropped and counted;
//! the next line tells the count.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

/// The process's logger.
struct LogQueue {
    lines: Sender<Line>,
    /// Since the process began.
    dropped: Arc<AtomicUsize>,
}

enum Line {
    Text { level: Level, target: String, text: String },
    Flush(Sender<()>),
}

/// Installs the logger and starts its thread. Returns the counter of dropped lines.
pub(super) fn install(level: LevelFilter) -> Arc<AtomicUsize> {
    let (sender, lines) = bounded(LINES_MAX);
    let dropped = Arc::new(AtomicUsize::new(0));
    let queue: &'static LogQueue =
        Box::leak(Box::new(LogQueue { lines: sender, dropped: dropped.clone() }));
    // The queue passes only lines that are to be written; its level may change.
    let writer = SimpleLogger::new().with_level(LevelFilter::Trace).with_utc_timestamps();
    let started = thread::Builder::new()
        .name("heartwheel-log".into())
        .spawn(move || write_lines(&lines, &writer, queue));
    // Without a thread, or with another logger installed, nothing is logged here.
    if started.is_ok() && log::set_logger(queue).is_ok() {
        log::set_max_level(level);
    }
    dropped
}

fn write_lines(lines: &Receiver<Line>, writer: &SimpleLogger, queue: &LogQueue) {
    let mut told = 0;
    for line in lines {
        match line {
            Line::Text { level, target, text } => {
                if !write(writer, level, &target, &text) {
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
            if write(writer, Level::Warn, "heartwheel::log", &text) {
                told = dropped;
            }
        }
    }
}

/// Writes a line; returns whether it could. The writer panics if stderr fails, on a full disk for
/// example; later lines must come out again.
fn write(writer: &SimpleLogger, level: Level, target: &str, text: &str) -> bool {
    let write = || {
        let mut record = Record::builder();
        writer.log(&record.level(level).target(target).args(format_args!("{text}")).build());
    };
    catch_unwind(AssertUnwindSafe(write)).is_ok()
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

    /// Waits until all lines before it are written, for 200 ms at most in each of two steps.
    fn flush(&self) {
        let (done, is_done) = bounded(1);
        if self.lines.send_timeout(Line::Flush(done), FLUSH_WAIT).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_WAIT);
        }
    }
}

const LINES_MAX: usize = 1024;
const FLUSH_WAIT: Duration = Duration::from_millis(200);

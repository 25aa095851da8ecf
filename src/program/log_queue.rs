//! Log lines on their way to stderr: through a bounded queue and one thread, so that a full pipe
//! never blocks the loop. Lines that find no room, or cannot be written, are dropped and counted;
//! the next line tells the count.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use log::{Level, LevelFilter, Log, Metadata, Record};
use simple_logger::SimpleLogger;

use super::timestamp::timestamp;
use crate::system::spawn::spawn;

/// The process's logger.
struct LogQueue {
    /// Held for as long as a line is put in or taken out, never while one is made or written.
    state: Mutex<State>,
    /// The thread that writes waits for lines.
    has_lines: Condvar,
    /// [`Log::flush`] waits until lines are written.
    has_written: Condvar,
    /// Since the process began.
    dropped: Arc<AtomicUsize>,
}

#[derive(Default)]
struct State {
    lines: VecDeque<Line>,
    /// Lines that were put in, and those among them that are written, or could not be; from their
    /// greatest value both go on at 0.
    accepted: usize,
    written: usize,
}

struct Line {
    level: Level,
    target: String,
    text: String,
}

/// Installs the logger and starts its thread. Returns the counter of dropped lines.
pub(super) fn install(level: LevelFilter) -> Arc<AtomicUsize> {
    let dropped = Arc::new(AtomicUsize::new(0));
    let queue: &'static LogQueue = Box::leak(Box::new(LogQueue::new(dropped.clone())));
    let started = spawn("heartwheel-log".into(), None, Box::new(|| queue.write_lines(write)));
    // Without a thread, or with another logger installed, nothing is logged here.
    if started.is_ok() && log::set_logger(queue).is_ok() {
        log::set_max_level(level);
    }
    dropped
}

impl LogQueue {
    fn new(dropped: Arc<AtomicUsize>) -> LogQueue {
        LogQueue {
            state: Mutex::default(),
            has_lines: Condvar::new(),
            has_written: Condvar::new(),
            dropped,
        }
    }

    /// Writes lines for ever; `write` says whether it could.
    fn write_lines(&self, write: fn(&Line) -> bool) {
        let mut told = 0;
        loop {
            let line = self.next();
            if !write(&line) {
                self.dropped.fetch_add(1, Ordering::Relaxed);
            }
            let dropped = self.dropped.load(Ordering::Relaxed);
            if dropped != told {
                let count = dropped.wrapping_sub(told);
                let text = format!("log lines dropped count={count}");
                if write(&Line { level: Level::Warn, target: "heartwheel::log".into(), text }) {
                    told = dropped;
                }
            }
            let mut state = self.lock();
            state.written = state.written.wrapping_add(1);
            self.has_written.notify_all();
        }
    }

    fn next(&self) -> Line {
        let mut state = self.lock();
        loop {
            match state.lines.pop_front() {
                Some(line) => return line,
                None => {
                    // So many lines at once are rare: they leave nothing behind.
                    state.lines = VecDeque::new();
                    let woken = self.has_lines.wait(state);
                    state = woken.unwrap_or_else(PoisonError::into_inner);
                }
            }
        }
    }

    /// Nothing panics while it holds the lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a line to stderr; returns whether it could, on a full disk for example it cannot. The
/// crate's writer panics then; later lines must come out again. Its own times would double it.
fn write(line: &Line) -> bool {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let mut stderr = io::stderr().lock();
    if write!(stderr, "{} ", timestamp(now.as_millis() as u64)).is_err() {
        return false;
    }
    let write = || {
        let mut record = Record::builder();
        let record = record.level(line.level).target(&line.target);
        // The queue passes only lines that are to be written; its level may change.
        let writer = SimpleLogger::new().with_level(LevelFilter::Trace);
        writer.log(&record.args(format_args!("{}", line.text)).build());
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
        let line = Line {
            level: record.level(),
            target: record.target().to_owned(),
            text: record.args().to_string(),
        };
        let mut state = self.lock();
        if state.lines.len() >= LINES_MAX {
            drop(state);
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return;
        }
        state.lines.push_back(line);
        state.accepted = state.accepted.wrapping_add(1);
        drop(state);
        self.has_lines.notify_one();
    }

    /// Waits until all lines before it are written, for 400 ms at most.
    fn flush(&self) {
        let state = self.lock();
        let before = state.accepted;
        // Both counters go round, and are never half a round apart.
        let waits = |state: &mut State| before.wrapping_sub(state.written) as isize > 0;
        // When the time is over there is nothing that could be done.
        let _ = self.has_written.wait_timeout_while(state, FLUSH_WAIT, waits);
    }
}

const LINES_MAX: usize = 1024;
const FLUSH_WAIT: Duration = Duration::from_millis(400);

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Instant;

    use super::*;

    fn log(queue: &LogQueue, text: &str) {
        queue.log(&Record::builder().level(Level::Error).args(format_args!("{text}")).build());
    }

    fn leaked() -> &'static LogQueue {
        log::set_max_level(LevelFilter::Error);
        Box::leak(Box::new(LogQueue::new(Arc::default())))
    }

    #[test]
    fn what_finds_no_room_is_counted_and_told() {
        static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let queue = leaked();
        (0..LINES_MAX + 3).for_each(|number| log(queue, &number.to_string()));
        assert_eq!(queue.dropped.load(Ordering::Relaxed), 3);
        thread::spawn(|| {
            queue.write_lines(|line| {
                WRITTEN.lock().unwrap().push(line.text.clone());
                true
            });
        });
        queue.flush();
        let written = WRITTEN.lock().unwrap();
        assert_eq!(written[..2], ["0", "log lines dropped count=3"]);
        assert_eq!(written.last().unwrap(), &(LINES_MAX - 1).to_string());
        assert_eq!(written.len(), LINES_MAX + 1);
        let state = queue.lock();
        assert_eq!((state.accepted, state.written), (LINES_MAX, LINES_MAX));
    }

    #[test]
    fn a_line_that_cannot_be_written_is_told_when_one_can() {
        static IS_FULL: AtomicBool = AtomicBool::new(true);
        static WRITTEN: Mutex<Vec<String>> = Mutex::new(Vec::new());
        let queue = leaked();
        thread::spawn(|| {
            queue.write_lines(|line| {
                let is_full = IS_FULL.load(Ordering::SeqCst);
                if !is_full {
                    WRITTEN.lock().unwrap().push(line.text.clone());
                }
                !is_full
            });
        });
        log(queue, "one");
        queue.flush();
        IS_FULL.store(false, Ordering::SeqCst);
        log(queue, "two");
        queue.flush();
        assert_eq!(WRITTEN.lock().unwrap()[..], ["two", "log lines dropped count=1"]);
    }

    #[test]
    fn a_flush_waits_for_a_while_and_no_longer() {
        let queue = leaked();
        let began = Instant::now();
        queue.flush();
        assert!(began.elapsed() < FLUSH_WAIT, "there is nothing to wait for");
        log(queue, "nobody writes it");
        queue.flush();
        assert!(began.elapsed() >= FLUSH_WAIT);
    }
}

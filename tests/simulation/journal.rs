//! The log lines of ends: one for each connection. They tell from outside under which label each
//! one ended.

use std::cell::RefCell;

use log::{Level, LevelFilter, Log, Metadata, Record};

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Journal;

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "heartwheel::connection" && metadata.level() <= Level::Debug
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            LINES.with_borrow_mut(|lines| lines.push(record.args().to_string()));
        }
    }

    fn flush(&self) {}
}

/// Begins to write down what this thread's engine logs.
pub fn begin() {
    // It is set already if another test was first.
    let _ = log::set_logger(&Journal);
    log::set_max_level(LevelFilter::Debug);
    LINES.take();
}

/// Takes what was logged since.
pub fn take() -> Vec<String> {
    LINES.take()
}

/// Gives the value of `name=` in a line.
pub fn value<'a>(line: &'a str, name: &str) -> &'a str {
    let words = line.split([' ', ':']);
    words.filter_map(|word| word.split_once('=')).find(|(key, _)| *key == name).map_or("", |f| f.1)
}

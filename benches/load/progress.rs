//! A bar on a terminal, nothing elsewhere.

use std::io::{self, IsTerminal, Write};

pub struct Progress {
    is_shown: bool,
    done: usize,
    expected: usize,
}

impl Progress {
    pub fn new() -> Progress {
        Progress { is_shown: io::stderr().is_terminal(), done: 0, expected: 0 }
    }

    /// Announces this many further steps.
    pub fn expect(&mut self, steps: usize) {
        self.expected += steps;
    }

    /// Says what is done now.
    pub fn step(&mut self, what: &str) {
        if self.is_shown {
            let filled = WIDTH * self.done / self.expected.max(self.done + 1);
            let (full, empty) = ("#".repeat(filled), "-".repeat(WIDTH - filled));
            let text = format!("\r\x1b[K[{full}{empty}] {}/{} {what}", self.done, self.expected);
            // It is only for looking at.
            let _ = io::stderr().write_all(text.as_bytes());
        }
        self.done += 1;
    }

    /// Takes the bar away.
    pub fn end(&self) {
        if self.is_shown {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}

const WIDTH: usize = 30;

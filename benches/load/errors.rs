//! What went wrong: counted, and the first of it in words.

/// What went wrong.
#[derive(Clone, Debug, Default)]
pub struct Errors {
    /// Could not connect, or were not upgraded.
    pub refused: u64,
    /// Ended before their time.
    pub lost: u64,
    /// Messages of a wrong length or, if it was looked at, content; frames no server may send.
    pub wrong: u64,
    /// Messages without an echo.
    pub unanswered: u64,
    /// The first of them, in words.
    pub first: Option<String>,
}

impl Errors {
    /// Adds those of another count.
    pub fn add(&mut self, other: &Errors) {
        self.refused += other.refused;
        self.lost += other.lost;
        self.wrong += other.wrong;
        self.unanswered += other.unanswered;
        if let Some(first) = &other.first {
            self.note(first.clone());
        }
    }

    pub fn total(&self) -> u64 {
        self.refused + self.lost + self.wrong + self.unanswered
    }

    /// Keeps a description, if it is the first.
    pub fn note(&mut self, what: impl Into<String>) {
        self.first.get_or_insert_with(|| what.into());
    }

    /// One could not connect, or was not upgraded.
    pub fn refuse(&mut self, what: &str) {
        self.refused += 1;
        self.note(what);
    }

    /// One ended before its time.
    pub fn lose(&mut self, what: &str) {
        self.lost += 1;
        self.note(what);
    }

    /// Something came that was not sent.
    pub fn wrong(&mut self, what: &str) {
        self.wrong += 1;
        self.note(what);
    }
}

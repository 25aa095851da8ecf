//! One answer of the loop to a thread that waits for it.
//!
//! A channel would do the same. It is 5 kB of a small program for each type of answer; this is a
//! few hundred bytes.

use std::mem;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::threads::handle::SendError;

/// Makes a place for an answer: the answering side has one end, the waiting side the other.
pub(super) fn answer<T>() -> (Answerer<T>, Awaited<T>) {
    let place = Arc::new(Place { answer: Mutex::new(Answer::None), changed: Condvar::new() });
    (Answerer(place.clone()), Awaited(place))
}

/// The end of the one who answers. When it is dropped, no answer comes any more.
pub(super) struct Answerer<T>(Arc<Place<T>>);

/// The end of the waiting side.
pub(super) struct Awaited<T>(Arc<Place<T>>);

struct Place<T> {
    answer: Mutex<Answer<T>>,
    changed: Condvar,
}

enum Answer<T> {
    /// None has come yet.
    None,
    Some(T),
    /// None will come.
    Never,
}

impl<T> Answerer<T> {
    /// Answers. The other end may have given up.
    pub fn tell(self, answer: T) {
        *self.0.lock() = Answer::Some(answer);
    }
}

impl<T> Drop for Answerer<T> {
    fn drop(&mut self) {
        let mut answer = self.0.lock();
        if let Answer::None = *answer {
            *answer = Answer::Never;
        }
        drop(answer);
        self.0.changed.notify_one();
    }
}

impl<T> Awaited<T> {
    /// Waits for the answer, for at most `wait`.
    ///
    /// # Errors
    ///
    /// [`SendError::Unanswered`] if none has come by then, [`SendError::Ended`] if none will come.
    pub fn wait(self, wait: Duration) -> Result<T, SendError> {
        let is_open = |answer: &mut Answer<T>| matches!(answer, Answer::None);
        let waited = self.0.changed.wait_timeout_while(self.0.lock(), wait, is_open);
        let (mut answer, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match mem::replace(&mut *answer, Answer::Never) {
            Answer::None => Err(SendError::Unanswered),
            Answer::Some(answer) => Ok(answer),
            Answer::Never => Err(SendError::Ended),
        }
    }
}

impl<T> Place<T> {
    fn lock(&self) -> MutexGuard<'_, Answer<T>> {
        // Nothing under the lock panics.
        self.answer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn an_answer_comes_or_does_not() {
        let (answerer, awaited) = answer();
        answerer.tell(7);
        assert_eq!(awaited.wait(Duration::MAX), Ok(7));

        let (answerer, awaited) = answer::<u8>();
        assert_eq!(awaited.wait(Duration::from_millis(1)), Err(SendError::Unanswered));
        answerer.tell(7);

        let (answerer, awaited) = answer::<u8>();
        drop(answerer);
        assert_eq!(awaited.wait(LONG), Err(SendError::Ended));
    }

    #[test]
    fn a_thread_that_waits_is_woken_by_an_answer_and_by_the_loss_of_it() {
        for told in [Some("told"), None] {
            let (answerer, awaited) = answer();
            let waiting = thread::spawn(move || awaited.wait(LONG));
            match told {
                Some(told) => answerer.tell(told),
                None => drop(answerer),
            }
            assert_eq!(waiting.join().unwrap(), told.ok_or(SendError::Ended));
        }
    }
}

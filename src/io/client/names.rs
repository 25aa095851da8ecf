//! Names of hosts, looked up on threads of their own: getaddrinfo(3) may block for many seconds.

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::signal::SigmaskHow;

use crate::system::spawn::spawn;
use crate::threads::worker::for_others;

/// The name service of one loop. It has no thread until a name is asked for, and none a minute
/// after the last.
pub(crate) struct Names {
    shared: Arc<Shared>,
}

/// What was found of a look-up.
pub(crate) struct Found {
    /// Who asked: the client's number, and that of its try.
    pub asker: (u64, u32),
    pub addresses: Result<Vec<SocketAddr>, String>,
}

struct Question {
    asker: (u64, u32),
    name: String,
    port: u16,
}

struct Shared {
    state: Mutex<State>,
    /// Told of each question, and of the end of the loop.
    changed: Condvar,
    wake: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct State {
    /// The newest is the last one, and the next one to be answered.
    questions: VecDeque<Question>,
    found: VecDeque<Found>,
    threads: usize,
    /// Threads that wait for a question.
    idle: usize,
    /// The loop is gone.
    is_over: bool,
}

impl Names {
    /// Makes a service that calls `wake` when it has found something.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Names {
        let (state, changed) = Default::default();
        Names { shared: Arc::new(Shared { state, changed, wake: Box::new(wake) }) }
    }

    /// Asks for the addresses of a name. The newest question is answered first: where the name
    /// server is slower than questions come, the oldest would be answered when its try is over, and
    /// so would each one after it.
    pub fn ask(&self, asker: (u64, u32), name: String, port: u16) {
        let mut state = self.shared.lock();
        // The try before is over.
        state.questions.retain(|question| question.asker.0 != asker.0);
        if state.questions.len() >= QUESTIONS_MAX
            && let Some(Question { asker, .. }) = state.questions.pop_front()
        {
            let addresses = Err("too many names wait for the name server".into());
            state.found.push_back(Found { asker, addresses });
        }
        state.questions.push_back(Question { asker, name, port });
        self.shared.changed.notify_one();
        // A name server that is silent holds up one thread, not all names.
        if state.questions.len() <= state.idle || state.threads >= THREADS_MAX {
            return;
        }
        state.threads += 1;
        drop(state);
        let shared = self.shared.clone();
        let run = Box::new(move || serve(&shared));
        // A thread inherits the mask of the thread that starts it: signals are for others.
        let mask = for_others().thread_swap_mask(SigmaskHow::SIG_BLOCK);
        let spawned = spawn("heartwheel-dns".into(), Some(STACK_BYTES), run);
        if let Ok(mask) = mask {
            let _ = mask.thread_set_mask();
        }
        if let Err(error) = spawned {
            let mut state = self.shared.lock();
            state.threads -= 1;
            let addresses = Err(error.to_string());
            state.found.push_back(Found { asker, addresses });
        }
    }

    /// Takes the next answer.
    pub fn poll(&self) -> Option<Found> {
        self.shared.lock().found.pop_front()
    }

    /// Returns whether an answer waits.
    pub fn has_found(&self) -> bool {
        !self.shared.lock().found.is_empty()
    }
}

impl Drop for Names {
    fn drop(&mut self) {
        self.shared.lock().is_over = true;
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a question, at most for a minute, and while the loop is there.
    fn next(&self) -> Option<Question> {
        let mut state = self.lock();
        state.idle += 1;
        let is_empty = |state: &mut State| state.questions.is_empty() && !state.is_over;
        let waited = self.changed.wait_timeout_while(state, REST, is_empty);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.idle -= 1;
        let question = state.questions.pop_back().filter(|_| !state.is_over);
        state.threads -= usize::from(question.is_none());
        question
    }
}

/// Answers questions until none has come for a minute, or the loop is gone.
fn serve(shared: &Shared) {
    while let Some(Question { asker, name, port }) = shared.next() {
        let addresses = (name.as_str(), port).to_socket_addrs();
        let addresses = addresses.map(Iterator::collect).map_err(|error| error.to_string());
        shared.lock().found.push_back(Found { asker, addresses });
        (shared.wake)();
    }
}

/// Names that are asked for at once.
const THREADS_MAX: usize = 4;

/// Questions that wait for a thread; beyond it the oldest look-up fails.
const QUESTIONS_MAX: usize = 4096;

/// getaddrinfo(3) of glibc reads whole files on the stack.
const STACK_BYTES: usize = 256 << 10;

/// How long a thread waits for the next name.
const REST: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;
    use crossbeam_channel::unbounded;

    #[test]
    fn an_address_in_numbers_and_a_name_that_is_none_are_answered() {
        let (woken, wakes) = unbounded();
        let names = Names::new(move || woken.send(()).unwrap_or_default());
        names.ask((1, 1), "127.0.0.1".into(), 80);
        names.ask((2, 1), "a name with blanks".into(), 80);
        let mut found = Vec::new();
        while found.len() < 2 {
            wakes.recv_timeout(Duration::from_secs(60)).expect("an answer comes");
            found.extend(std::iter::from_fn(|| names.poll()));
        }
        found.sort_by_key(|found| found.asker);
        assert_eq!(found[0].addresses, Ok(vec!["127.0.0.1:80".parse().unwrap()]));
        assert!(found[1].addresses.is_err());
        assert!(names.shared.lock().threads <= 2 && !names.has_found());
    }

    #[test]
    fn while_the_name_server_is_silent_questions_are_bounded() {
        let names = Names::new(|| {});
        // As if each waited for an answer.
        names.shared.lock().threads = THREADS_MAX;
        let more = 10;
        for number in 0..QUESTIONS_MAX as u64 + more {
            names.ask((number, 1), "silent.example".into(), 80);
        }
        assert_eq!(names.shared.lock().questions.len(), QUESTIONS_MAX);
        let refused: Vec<Found> = std::iter::from_fn(|| names.poll()).collect();
        let oldest = (0..more).map(|number| (number, 1));
        assert!(refused.iter().map(|found| found.asker).eq(oldest));
        assert!(refused.iter().all(|found| found.addresses.is_err()));
    }

    #[test]
    fn behind_a_slow_name_server_the_newest_question_is_next_and_a_client_has_one() {
        let names = Names::new(|| {});
        names.shared.lock().threads = THREADS_MAX;
        let asked = [(1, 1), (2, 1), (1, 2), (3, 1), (2, 2)];
        asked.into_iter().for_each(|asker| names.ask(asker, "slow.example".into(), 80));
        let next = || names.shared.next().map(|question| question.asker);
        assert_eq!([next(), next(), next()], [Some((2, 2)), Some((3, 1)), Some((1, 2))]);
        assert!(names.shared.lock().questions.is_empty());
    }
}

//! The work that waits for a worker, and the workers that wait for work.
//!
//! The loop wakes one worker for all that it hands over in a turn. A worker that leaves work behind
//! wakes the next before it calls a handler: a handler that does not return delays nothing.
//!
//! A worker that has sent its commands and finds more work need not wake the loop at once, as long
//! as another worker is awake outside any call: that one wakes the loop before it begins a call, or
//! before it sleeps.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::threads::worker::Work;

/// A bounded queue from the loop to the workers: a channel, and who is to be woken for what is in
/// it. The channel's own way to wait is not used, because a receiver spins before it sleeps.
pub(crate) struct JobQueue {
    sender: Sender<Work>,
    work: Receiver<Work>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The workers that sleep and that nobody has woken: the latest is the first to be woken.
    idle: Vec<Thread>,
    /// How many workers are awake, or woken, and in no call.
    free: usize,
    /// Commands were sent for which nobody has woken the loop.
    is_loop_owed: bool,
    has_ended: bool,
}

impl JobQueue {
    /// Makes a queue for so many jobs.
    pub fn new(max: usize) -> JobQueue {
        let (sender, work) = bounded(max);
        JobQueue { sender, work, state: Mutex::default() }
    }

    /// Returns how much work waits for a worker.
    pub fn len(&self) -> usize {
        self.work.len()
    }

    /// Adds work, or returns it if the queue is full. It wakes no worker: [`JobQueue::wake`] does.
    pub fn push(&self, work: Work) -> Result<(), Work> {
        self.sender.try_send(work).map_err(|error| match error {
            TrySendError::Full(work) | TrySendError::Disconnected(work) => work,
        })
    }

    /// Wakes a worker, if there is work for it and one sleeps.
    pub fn wake(&self) {
        let woken = self.lock().call_next(&self.work);
        if let Some(worker) = woken {
            worker.unpark();
        }
    }

    /// Waits for work and takes it; `None` means that the queue has ended. `has_sent` says that the
    /// worker has sent commands since it took the last, and has not woken the loop. `wake_loop` is
    /// called when the loop must be woken now.
    pub fn take(&self, has_sent: bool, wake_loop: impl Fn()) -> Option<Work> {
        let mut state = self.lock();
        state.is_loop_owed |= has_sent;
        state.free += 1;
        loop {
            if state.has_ended {
                return None;
            }
            let work = self.work.try_recv().ok();
            state.free -= 1;
            let woken = state.call_next(&self.work);
            if work.is_none() {
                state.idle.push(thread::current());
            }
            let is_last = work.is_none() || state.free == 0;
            let must_wake = is_last && std::mem::take(&mut state.is_loop_owed);
            drop(state);
            if let Some(worker) = woken {
                worker.unpark();
            }
            if must_wake {
                wake_loop();
            }
            if work.is_some() {
                return work;
            }
            state = self.sleep();
        }
    }

    /// Sleeps until somebody wakes this worker, or for no reason.
    fn sleep(&self) -> MutexGuard<'_, State> {
        thread::park();
        let mut state = self.lock();
        let me = thread::current().id();
        if let Some(at) = state.idle.iter().position(|idle| idle.id() == me) {
            // Nobody has: it is free by itself.
            state.idle.remove(at);
            state.free += 1;
        }
        state
    }

    /// Ends the queue and returns the work that no worker has taken.
    pub fn end(&self) -> Vec<Work> {
        let mut state = self.lock();
        state.has_ended = true;
        state.idle.iter().for_each(Thread::unpark);
        self.work.try_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Takes out the worker that fell asleep last, if work waits and no worker is free to take it.
    /// The caller wakes it.
    fn call_next(&mut self, work: &Receiver<Work>) -> Option<Thread> {
        if work.is_empty() || self.free > 0 {
            return None;
        }
        let next = self.idle.pop()?;
        self.free += 1;
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::VecDeque;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::{Duration, Instant};

    use super::*;
    use crate::core::contract::event::{Job, Task};
    use crate::core::ground::id::{ConnectionId, Generation};

    fn queue_of(count: usize) -> JobQueue {
        let queue = JobQueue::new(256);
        (0..count).for_each(|_| assert!(queue.push(work()).is_ok()));
        queue
    }

    fn work() -> Work {
        let id = ConnectionId::new(0, Generation::FIRST);
        let task = Task::Events { session: None, events: VecDeque::new() };
        Work::Job(Job { id, route: 0, identity: None, task })
    }

    /// Waits until so many workers sleep.
    fn wait_for_idle(queue: &JobQueue, count: usize) {
        let until = Instant::now() + Duration::from_secs(10);
        while queue.lock().idle.len() != count && Instant::now() < until {
            thread::yield_now();
        }
        assert_eq!(queue.lock().idle.len(), count);
    }

    #[test]
    fn the_loop_is_woken_before_the_last_free_worker_begins_a_call() {
        let (queue, wakes) = (queue_of(3), Cell::new(0));
        let take = |has_sent| queue.take(has_sent, || wakes.set(wakes.get() + 1)).unwrap();
        take(false);
        assert_eq!(wakes.get(), 0, "nothing was sent");
        queue.lock().free += 1;
        take(true);
        assert_eq!(wakes.get(), 0, "another worker is free: it will see to the loop");
        queue.lock().free -= 1;
        take(false);
        assert_eq!(wakes.get(), 1, "it begins a call");
    }

    #[test]
    fn the_loop_is_woken_before_a_worker_sleeps() {
        let (queue, (sender, wakes)) = (JobQueue::new(1), mpsc::channel());
        thread::scope(|scope| {
            scope.spawn(|| queue.take(true, || sender.send(()).unwrap()));
            let woken = wakes.recv_timeout(Duration::from_secs(10));
            queue.end();
            assert_eq!(woken, Ok(()));
        });
    }

    #[test]
    fn a_worker_that_leaves_work_behind_wakes_the_next() {
        let queue = JobQueue::new(256);
        thread::scope(|scope| {
            let second = scope.spawn(|| queue.take(false, || {}).is_some());
            wait_for_idle(&queue, 1);
            (0..2).for_each(|_| assert!(queue.push(work()).is_ok()));
            assert_eq!(queue.lock().idle.len(), 1, "handing over wakes nobody");
            assert!(queue.take(false, || {}).is_some());
            while queue.len() > 0 && queue.lock().idle.is_empty() {
                thread::yield_now();
            }
            let left = queue.len();
            queue.end();
            assert!(second.join().unwrap());
            assert_eq!(left, 0);
        });
    }

    #[test]
    fn a_worker_that_wakes_for_no_reason_sleeps_again() {
        let queue = JobQueue::new(256);
        thread::scope(|scope| {
            let worker = scope.spawn(|| queue.take(false, || {}).is_some());
            for _ in 0..100 {
                wait_for_idle(&queue, 1);
                worker.thread().unpark();
            }
            wait_for_idle(&queue, 1);
            let free = queue.lock().free;
            assert!(queue.push(work()).is_ok());
            queue.wake();
            assert!(worker.join().unwrap());
            assert_eq!((free, queue.lock().free), (0, 0));
        });
    }

    #[test]
    fn a_full_queue_returns_the_work_and_one_that_ends_what_waits() {
        let queue = queue_of(256);
        assert!(queue.push(work()).is_err());
        assert_eq!(queue.end().len(), 256);
        assert_eq!(queue.len(), 0);
        assert!(queue.take(false, || {}).is_none());
    }

    // The loop here looks for what was done only when it was woken.
    #[test]
    fn all_work_is_done_and_the_loop_is_woken_for_the_last_of_it() {
        let (queue, done, (sender, wakes)) =
            (JobQueue::new(256), AtomicUsize::new(0), mpsc::channel());
        thread::scope(|scope| {
            for _ in 0..3 {
                let (queue, done, sender) = (&queue, &done, sender.clone());
                scope.spawn(move || {
                    let mut has_sent = false;
                    while queue.take(has_sent, || sender.send(()).unwrap()).is_some() {
                        done.fetch_add(1, Ordering::SeqCst);
                        has_sent = true;
                    }
                });
            }
            let mut given = 0;
            let mut woken = Ok(());
            for round in 0..2000 {
                for _ in 0..round % 7 {
                    assert!(queue.push(work()).is_ok());
                    given += 1;
                }
                queue.wake();
                while done.load(Ordering::SeqCst) < given && woken.is_ok() {
                    woken = wakes.recv_timeout(Duration::from_secs(10));
                }
                if woken.is_err() {
                    break;
                }
            }
            queue.end();
            assert_eq!((done.load(Ordering::SeqCst), woken), (given, Ok(())));
        });
    }
}

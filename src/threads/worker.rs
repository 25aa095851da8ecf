//! Threads for handlers that may block.
//!
//! A bounded queue of jobs, and one thread per worker. They share nothing but the queue and one
//! moment per worker, by which the loop sees a handler that does not return. The loop never waits
//! for a worker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};

use crate::core::config::JOBS_QUEUED_MAX;
use crate::core::contract::event::{Calls, Done, Job};
use crate::system::spawn::spawn;
use crate::threads::command_queue::{Scope, Shared};
use crate::threads::handle::Handle;
use crate::threads::handler::Endpoints;
use crate::threads::job_queue::JobQueue;
use crate::threads::peer::Peer;

/// The workers, as the loop has them. A program that cannot start any carries none of their code:
/// only [`Pool::start`] names them, and it is no part of a C host.
pub(crate) trait Workers: Send {
    /// Hands work over, or returns it if the queue is full. [`Workers::wake`] follows.
    fn try_send(&self, work: Work) -> Result<(), Work>;

    /// Wakes a worker for what was handed over.
    fn wake(&self);

    /// Returns whether there is room for more.
    #[cfg(feature = "tls")]
    fn has_room(&self) -> bool;

    /// Returns the number of jobs that wait for a worker.
    fn queued(&self) -> usize;

    /// Looks for calls that have run longer than `limit`.
    fn stuck(&mut self, limit: Duration) -> Stuck;

    /// Ends them and returns the jobs that no worker has begun. Idle workers end; a worker whose
    /// handler does not return within 100 ms is left behind.
    fn shut_down(self: Box<Self>) -> Vec<Job>;
}

/// Starts so many workers: [`Pool::start`].
pub(crate) type StartWorkers =
    fn(usize, &Endpoints, &Handle, &Arc<Shared>) -> std::io::Result<Box<dyn Workers>>;

/// A pool of worker threads.
pub(crate) struct Pool {
    jobs: Arc<JobQueue>,
    workers: Vec<Worker>,
    began: Instant,
}

struct Worker {
    thread: JoinHandle<()>,
    watch: Arc<Watch>,
    /// The call that was last reported as stuck.
    told: u32,
}

/// What a worker is given.
pub(crate) enum Work {
    Job(Job),
    /// Something for the loop that takes long: a step of a handshake of TLS.
    #[cfg(feature = "tls")]
    Errand(Errand),
}

/// It tells the loop itself what came of it.
#[cfg(feature = "tls")]
pub(crate) type Errand = Box<dyn FnOnce(&Shared) + Send>;

impl Work {
    /// Returns the job; an errand is done at once.
    fn into_job(self, _shared: &Shared) -> Option<Job> {
        match self {
            Work::Job(job) => Some(job),
            #[cfg(feature = "tls")]
            Work::Errand(errand) => {
                errand(_shared);
                None
            }
        }
    }
}

/// When a worker's present call began: milliseconds since the pool began, 0 without a call.
#[derive(Debug, Default)]
struct Watch(AtomicU32);

/// What [`Workers::stuck`] saw.
#[derive(Debug, Default)]
pub(crate) struct Stuck {
    /// Calls that run too long now.
    pub now: u64,
    /// Calls among them that were not reported before.
    pub new: u64,
    /// When to look again, if any worker is in a call.
    pub again_after: Option<Duration>,
}

impl Pool {
    /// Starts the threads.
    pub fn start(
        count: usize,
        endpoints: &Endpoints,
        handle: &Handle,
        shared: &Arc<Shared>,
    ) -> std::io::Result<Box<dyn Workers>> {
        let jobs = Arc::new(JobQueue::new(JOBS_QUEUED_MAX as usize));
        let began = Instant::now();
        let mut pool = Box::new(Pool { jobs, workers: Vec::with_capacity(count), began });
        // A thread inherits the mask of the thread that starts it: no signal can come before.
        let mask = for_others().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let started = pool.add(count, endpoints, handle, shared);
        let started = started.and(mask.thread_set_mask().map_err(Into::into));
        match started {
            Ok(()) => Ok(pool),
            Err(error) => {
                pool.shut_down();
                Err(error)
            }
        }
    }

    fn add(
        &mut self,
        count: usize,
        endpoints: &Endpoints,
        handle: &Handle,
        shared: &Arc<Shared>,
    ) -> std::io::Result<()> {
        for index in 0..count {
            let watch = Arc::new(Watch::default());
            let context = Context {
                jobs: self.jobs.clone(),
                endpoints: endpoints.clone(),
                handle: handle.clone(),
                shared: shared.clone(),
                watch: watch.clone(),
                began: self.began,
            };
            let run = Box::new(move || context.run());
            let thread = spawn(format!("heartwheel-{index}"), None, run)?;
            self.workers.push(Worker { thread, watch, told: 0 });
        }
        Ok(())
    }
}

impl Workers for Pool {
    fn try_send(&self, work: Work) -> Result<(), Work> {
        self.jobs.push(work)
    }

    fn wake(&self) {
        self.jobs.wake();
    }

    #[cfg(feature = "tls")]
    fn has_room(&self) -> bool {
        self.jobs.len() < JOBS_QUEUED_MAX as usize
    }

    fn queued(&self) -> usize {
        self.jobs.len()
    }

    fn stuck(&mut self, limit: Duration) -> Stuck {
        let now = millis_since(self.began);
        let limit_ms = limit.as_millis() as u32;
        let mut stuck = Stuck::default();
        for worker in &mut self.workers {
            let since = worker.watch.0.load(Ordering::Relaxed);
            if since == 0 {
                continue;
            }
            // A call that began just now may have read the clock later.
            let ran_ms = (now.wrapping_sub(since) as i32).max(0) as u32;
            // Both moments are cut to whole milliseconds: only a difference above the limit has
            // surely passed it.
            let is_stuck = ran_ms > limit_ms;
            stuck.now += u64::from(is_stuck);
            if is_stuck && worker.told != since {
                worker.told = since;
                stuck.new += 1;
            }
            let again_ms = if is_stuck { limit_ms } else { limit_ms - ran_ms + 1 };
            let again = Duration::from_millis(u64::from(again_ms));
            stuck.again_after = stuck.again_after.into_iter().chain([again]).min();
        }
        stuck
    }

    fn shut_down(self: Box<Self>) -> Vec<Job> {
        let job = |work| match work {
            Work::Job(job) => Some(job),
            #[cfg(feature = "tls")]
            Work::Errand(_) => None,
        };
        let cancelled = self.jobs.end().into_iter().filter_map(job).collect();
        let deadline = Instant::now() + JOIN_WAIT;
        for worker in self.workers {
            while !worker.thread.is_finished() && Instant::now() < deadline {
                thread::park_timeout(Duration::from_millis(1));
            }
            if worker.thread.is_finished() {
                // A worker catches the panics of its handlers and has none of its own.
                let _ = worker.thread.join();
            }
        }
        cancelled
    }
}

struct Context {
    jobs: Arc<JobQueue>,
    endpoints: Endpoints,
    handle: Handle,
    shared: Arc<Shared>,
    watch: Arc<Watch>,
    began: Instant,
}

impl Context {
    /// Runs one job after the other until the pool, or the loop, has ended.
    fn run(self) {
        let mut scope = Scope::of_worker(self.shared.clone());
        let mut waking = Waking::default();
        while let Some(work) = self.jobs.take(waking.is_owed, || self.shared.wake()) {
            waking.is_owed = false;
            let Some(job) = work.into_job(&self.shared) else { continue };
            let Job { id, route, identity, task } = job;
            let mut peer = Peer::new(id, self.handle.clone());
            peer.turn_to(id, identity);
            scope.enter(id);
            let mut last_ms = 0;
            let mut calls = Calls::default();
            let mut last: Option<Instant> = None;
            let mut took = Duration::ZERO;
            let outcome = self.endpoints.run(route, &peer, task, &mut || {
                let now = Instant::now();
                if let Some(last) = last.replace(now) {
                    calls.record(now - last);
                    took += now - last;
                }
                let now_ms = millis_since(self.began);
                if last_ms != 0 && now_ms.wrapping_sub(last_ms) > SLOW_CALL_MS {
                    // The call before this one was slow: its commands do not wait for the next.
                    peer.flush();
                }
                last_ms = now_ms;
                self.watch.0.store(now_ms, Ordering::Relaxed);
            });
            self.watch.0.store(0, Ordering::Relaxed);
            scope = Scope::leave();
            if !scope.finish(calls, Done { id, route, outcome }) {
                return;
            }
            waking.note(took, &self.shared);
        }
    }
}

/// When a worker wakes the loop.
#[derive(Default)]
struct Waking {
    /// The queue sees to it that the loop is woken for the job that was done last.
    is_owed: bool,
    /// How long the calls took since the loop was woken from here.
    held: Duration,
}

impl Waking {
    /// Notes a job whose calls took so long: the replies to slow ones do not wait for others.
    fn note(&mut self, took: Duration, shared: &Shared) {
        self.held += took;
        self.is_owed = self.held <= HELD_MAX;
        if !self.is_owed {
            self.held = Duration::ZERO;
            shared.wake();
        }
    }
}

/// The signals that are for other threads: all but those that a thread raises by its own fault,
/// which are for a program that reports crashes.
pub(crate) fn for_others() -> SigSet {
    use Signal::{SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    let own = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS];
    let mut signals = SigSet::all();
    own.into_iter().for_each(|signal| signals.remove(signal));
    signals
}

/// Never zero.
fn millis_since(began: Instant) -> u32 {
    (began.elapsed().as_millis() as u32).max(1)
}

/// A call that took longer than this, in milliseconds, has its commands sent at once.
const SLOW_CALL_MS: u32 = 1;
/// How long the calls may take after which a worker leaves it to the queue to wake the loop.
const HELD_MAX: Duration = Duration::from_micros(100);
/// How long the end waits for workers that are just finishing.
const JOIN_WAIT: Duration = Duration::from_millis(100);

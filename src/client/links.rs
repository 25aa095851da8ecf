//! A loop of clients.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use log::warn;
use mio::{Events, Poll, Token, Waker};

use crate::core::client::Why;
use crate::core::client::ask::{Answer, Ask};
use crate::core::ground::time::Instant;
use crate::io::client::Clients;
use crate::io::clock::{Clock, Passed};
use crate::io::manual_clock::ManualClock;
use crate::io::memory::MemoryNetwork;
use crate::system::random_seed;
use crate::threads::dial::{Dial, DialError};
use crate::threads::link::{Link, LinkHandler, LinkInlet};

/// A loop of clients without a server: on a thread that [runs](Links::run) it, or in a loop of the
/// application's own, as [`Server`](crate::Server) is embedded.
///
/// ```no_run
/// use heartwheel::{Dial, Link, LinkEvent, Links};
///
/// let mut links = Links::new()?;
/// links.connect(Dial::to("ws://127.0.0.1:8765/echo")?, |link: &Link, event: LinkEvent| {
///     match event {
///         LinkEvent::State(change) => println!("{}", change.state),
///         LinkEvent::Message(message) => drop(link.send(message)),
///         _ => {}
///     }
/// })?;
/// links.run()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A name is looked up on a thread that lives only while it is needed; the loop starts no other.
pub struct Links {
    poll: Poll,
    events: Events,
    clients: Clients,
    clock: Clock,
    /// When the next turn is due.
    asked_at: Option<Instant>,
    /// The loop was woken, and has not looked why.
    is_woken: Arc<AtomicBool>,
}

impl Links {
    /// Makes a loop without clients.
    ///
    /// # Errors
    ///
    /// If the kernel has no more descriptors: it takes two.
    pub fn new() -> io::Result<Links> {
        Links::make(None, random_seed())
    }

    /// Makes a loop that follows a clock which is moved by hand, and draws its chance from a seed:
    /// for tests.
    ///
    /// # Errors
    ///
    /// As [`Links::new`].
    pub fn by_clock(clock: ManualClock, seed: u64) -> io::Result<Links> {
        Links::make(Some(clock), seed)
    }

    fn make(clock: Option<ManualClock>, seed: u64) -> io::Result<Links> {
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let is_woken = Arc::new(AtomicBool::new(false));
        let woken = is_woken.clone();
        // One write for all that is ordered until the loop has woken.
        let wake = move || {
            if !woken.swap(true, Ordering::SeqCst) {
                let _ = waker.wake();
            }
        };
        let inlet = LinkInlet::new(wake.clone());
        let clients = Clients::new(inlet, wake, poll.registry(), TICK, seed)?;
        let events = Events::with_capacity(EVENTS_MAX);
        let (clock, asked_at) = (Clock::new(clock), None);
        Ok(Links { poll, events, clients, clock, asked_at, is_woken })
    }

    /// Has clients that are made from now on connect within the process instead of over the
    /// network, whatever their URL names.
    pub fn on_memory(&mut self, network: &MemoryNetwork) {
        self.clients.set_network(network.clone());
    }

    /// Makes a client, which connects in the next turn. It lives until it is stopped.
    ///
    /// # Errors
    ///
    /// [`DialError::Request`] if no upgrade can be made of `dial`.
    pub fn connect(
        &mut self,
        dial: Dial,
        handler: impl LinkHandler + 'static,
    ) -> Result<Link, DialError> {
        self.make_link(dial, Some(Box::new(handler)))
    }

    /// Makes a plain request, on a connection of its own.
    ///
    /// If `Ok` is returned, the function is called once, in a later turn and on its thread: it is
    /// told the answer, whatever its status is, or why there is none. If the loop is dropped
    /// before, the function is told [`Why::Stopped`] on the thread that drops the loop.
    ///
    /// # Errors
    ///
    /// The function is not called. [`DialError::Request`] and [`DialError::Tls`] if no request can
    /// be made; [`DialError::Full`] as of [`Handle::request`](crate::Handle::request).
    pub fn request(
        &mut self,
        dial: Dial,
        ask: Ask,
        handler: impl FnOnce(Result<Answer, Why>) + Send + 'static,
    ) -> Result<(), DialError> {
        self.clients.shared().request(dial, ask, handler)
    }

    /// Makes a client whose events wait until they are asked for.
    pub(super) fn make_link(
        &mut self,
        dial: Dial,
        handler: Option<Box<dyn LinkHandler>>,
    ) -> Result<Link, DialError> {
        dial.check()?;
        let link = self.clients.shared().connect(dial, handler);
        Ok(link.expect("the loop is here"))
    }

    /// Returns how many clients have not been stopped, plain requests among them.
    pub fn len(&self) -> usize {
        self.clients.len()
    }

    /// Returns whether there is no client.
    pub fn is_empty(&self) -> bool {
        self.clients.len() == 0 && !self.clients.has_orders()
    }

    /// Runs until no client is left.
    ///
    /// # Errors
    ///
    /// If the kernel's poller fails.
    pub fn run(&mut self) -> io::Result<()> {
        while !self.is_empty() {
            self.turn_within(None)?;
        }
        Ok(())
    }

    /// Returns the one descriptor to poll for reading.
    pub fn as_fd(&self) -> BorrowedFd<'_> {
        self.poll.registry().as_fd()
    }

    /// Returns how long a host may wait before it calls [`Links::turn`]: zero if work is left,
    /// `None` if nothing is due.
    pub fn next_timeout(&self) -> Option<Duration> {
        if self.clients.has_work_left() {
            return Some(Duration::ZERO);
        }
        self.clients.next_deadline().map(|at| self.clock.until(at))
    }

    /// Does one turn, without waiting.
    ///
    /// # Errors
    ///
    /// As [`Links::run`].
    pub fn turn(&mut self) -> io::Result<()> {
        self.turn_within(Some(Duration::ZERO))
    }

    /// Does one turn. Before it waits for something to happen, for at most `wait`.
    pub(crate) fn turn_within(&mut self, wait: Option<Duration>) -> io::Result<()> {
        // By a manual clock nothing comes due while the loop waits.
        let timeout = self.next_timeout().filter(|wait| wait.is_zero() || self.clock.is_running());
        let timeout = timeout.into_iter().chain(wait).chain(self.clients.patience()).min();
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        self.is_woken.store(false, Ordering::SeqCst);
        let (now, passed) = self.clock.resume(self.asked_at);
        if let Passed::Jumped(jump) = passed {
            warn!("time jumped ms={}: pinging instead of judging", jump.as_millis() as u64);
            self.clients.handle_time_jump(now);
        }
        for event in &self.events {
            if Clients::owns(event.token()) {
                let is_readable = event.is_readable() || event.is_read_closed();
                let is_writable = event.is_writable() || event.is_error();
                self.clients.note_ready(event.token(), is_readable, is_writable);
            }
        }
        self.clients.turn(now);
        let now = self.clock.now();
        self.asked_at = match self.clients.has_work_left() {
            true => Some(now),
            false => self.clients.next_deadline().map(|at| at.max(now)),
        };
        Ok(())
    }

    pub(super) fn now(&self) -> Instant {
        self.clock.now()
    }

    pub(super) fn clients(&mut self) -> &mut Clients {
        &mut self.clients
    }
}

/// Tells every handler of the end; open connections are closed with 1001.
impl Drop for Links {
    fn drop(&mut self) {
        self.clients.end(self.clock.now());
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("clients", &self.clients.len()).finish_non_exhaustive()
    }
}

const WAKER: Token = Token(usize::MAX);
const EVENTS_MAX: usize = 256;
/// How late a deadline may act.
const TICK: Duration = Duration::from_millis(50);

//! The handshakes of all connections: how many hold state, which wait for a step, who makes room.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::shake::{Failure, Shake, Step};
use crate::core::engine::Engine;
use crate::core::ground::time::Instant;
use crate::core::observe::tls::TlsFigures;
use crate::core::wire::tls::{OVERHEAD_BYTES, PLAIN_BYTES_MAX, RECORD_BYTES_MAX};
use crate::system::tls::{Acceptor, Slot};
use crate::threads::command_queue::Shared;

/// What all connections over TLS share.
pub(crate) struct Desk {
    slot: Arc<Slot>,
    acceptor: Option<Arc<Acceptor>>,
    /// Handshakes that hold state.
    pub active: usize,
    /// How many may.
    pub active_max: usize,
    /// Handshakes that hold state and can go on.
    pub ready: VecDeque<Ticket>,
    /// Complete hellos that wait for a place.
    pub hellos: VecDeque<Ticket>,
    /// Handshakes that hold state and wait for their peers, since when.
    pub waiting: VecDeque<(Ticket, Instant)>,
    done: (Sender<Stepped>, Receiver<Stepped>),
    serial: u32,
    /// Steps that workers have been given.
    pub out: usize,
    /// The time of the turn.
    pub now: Instant,
    /// Where records are put together that do not come at once.
    pub scratch: Vec<u8>,
    /// Where records are sealed.
    pub sealed: Vec<u8>,
    /// Where answers of the record layer are sealed.
    pub own: Vec<u8>,
    /// What was read and is no byte of the application, since it was last asked for.
    pub overhead: usize,
    /// What all connections hold of records that are under way.
    pub held_bytes: usize,
    /// The most that they may: beyond it who holds more ends.
    pub held_bytes_max: usize,
    pub figures: TlsFigures,
}

/// A connection of which a handshake is: its slot, and what tells it from the next in that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub key: usize,
    pub serial: u32,
}

/// A step on its way to a worker.
pub(crate) struct ToStep {
    pub ticket: Ticket,
    pub shake: Box<Shake>,
    done: Sender<Stepped>,
}

/// A step that was made.
pub(crate) struct Stepped {
    pub ticket: Ticket,
    pub step: Step,
}

impl ToStep {
    /// Makes the step, and tells the loop.
    pub fn run(self, shared: &Shared) {
        let shake = self.shake;
        let step = caught(|| shake.step());
        // The loop may be gone.
        let _ = self.done.send(Stepped { ticket: self.ticket, step });
        shared.wake_always();
    }
}

/// Makes a step. One that panics fails its handshake, and neither the worker nor the loop.
fn caught(step: impl FnOnce() -> Step) -> Step {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| {
        let text = "the handshake panicked".into();
        Step::Failed(Failure { label: "protocol", text }, Vec::new())
    })
}

impl Desk {
    pub fn new(slot: Arc<Slot>) -> Desk {
        Desk {
            slot,
            acceptor: None,
            active: 0,
            active_max: 1,
            out: 0,
            ready: VecDeque::new(),
            hellos: VecDeque::new(),
            waiting: VecDeque::new(),
            done: unbounded(),
            serial: 0,
            now: Instant::default(),
            scratch: Vec::new(),
            sealed: Vec::new(),
            own: Vec::new(),
            overhead: 0,
            held_bytes: 0,
            held_bytes_max: usize::MAX,
            figures: TlsFigures::default(),
        }
    }

    /// Takes over the limits of now.
    pub fn follow(&mut self, engine: &Engine) {
        self.acceptor();
        self.active_max = engine.config().limits.handshaking;
        let quarter = usize::try_from(engine.memory_limit() / 4).unwrap_or(usize::MAX);
        // One record and what answers it always fit.
        self.held_bytes_max = quarter.max(1 << 17);
    }

    /// Returns what new handshakes follow: the newest that was read without a fault.
    pub fn acceptor(&mut self) -> Option<&Arc<Acceptor>> {
        if let Some(acceptor) = self.slot.take() {
            self.figures.valid_until = acceptor.valid_until.clone();
            self.acceptor = Some(acceptor);
        }
        self.acceptor.as_ref()
    }

    pub fn reload_faults(&self) -> usize {
        self.slot.faults()
    }

    pub fn next_serial(&mut self) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        self.serial
    }

    /// Makes a step ready for a worker, and counts it as handed out.
    pub fn hand_out(&mut self, ticket: Ticket, shake: Box<Shake>) -> ToStep {
        self.out += 1;
        ToStep { ticket, shake, done: self.done.0.clone() }
    }

    /// Takes the next step that a worker has made.
    pub fn poll_done(&mut self) -> Option<Stepped> {
        let stepped = self.done.1.try_recv().ok()?;
        self.out -= 1;
        Some(stepped)
    }

    /// Returns whether a step could be made now, or has been made.
    pub fn has_work_left(&self, has_pool: bool) -> bool {
        let may_begin = !self.hellos.is_empty() && self.active < self.active_max;
        // Where there are workers, what they have no room for waits until they have.
        !self.done.1.is_empty() || !has_pool && (may_begin || !self.ready.is_empty())
    }

    /// Returns when a handshake that waits for its peer makes room.
    pub fn next_at(&self) -> Option<Instant> {
        let is_full = !self.hellos.is_empty() && self.active >= self.active_max;
        let (_, since) = self.waiting.front().filter(|_| is_full)?;
        Some(*since + PATIENCE)
    }

    /// Takes a handshake that has waited for its peer for so long that it makes room.
    pub fn poll_to_end(&mut self) -> Option<Ticket> {
        self.next_at().filter(|at| *at <= self.now)?;
        self.waiting.pop_front().map(|(ticket, _)| ticket)
    }

    /// Returns room for one record that is put together.
    pub fn scratch(&mut self) -> &mut [u8] {
        if self.scratch.is_empty() {
            self.scratch = vec![0; RECORD_BYTES_MAX];
            self.sealed.reserve_exact(PLAIN_BYTES_MAX + 4 * OVERHEAD_BYTES);
        }
        &mut self.scratch
    }
}

/// How long a handshake may wait for its peer while others wait for a place.
const PATIENCE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_that_panics_fails_its_handshake_alone() {
        let Step::Failed(failure, told) = caught(|| panic!("by a hello that nobody thought of"))
        else {
            panic!("it has failed");
        };
        assert_eq!((failure.label, told.len()), ("protocol", 0));
    }
}

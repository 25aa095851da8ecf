//! The handshakes of all connections: how many hold state, which wait for a step, who makes room.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::Stream;
use super::shake::{Failure, Shake, Step};
use crate::core::engine::Engine;
use crate::core::ground::time::Instant;
use crate::core::observe::tls::TlsFigures;
use crate::core::wire::tls::{OVERHEAD_BYTES, PLAIN_BYTES_MAX, RECORD_BYTES_MAX};
use crate::system::tls::{Acceptor, Slot};
use crate::threads::worker::Errand;

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
    /// Complete hellos that have come in this span and in the one before, each [`QUICK_MAX`] long,
    /// without those whose handshakes were done.
    arrived: [usize; 2],
    arrived_at: Instant,
    /// Handshakes that hold state and wait for their peers, since when: those of quick places, and
    /// those of patient ones.
    pub waiting: [VecDeque<(Ticket, Instant)>; 2],
    /// Handshakes that have a patient place.
    patient: usize,
    /// The length of `hellos` at which the gone are looked for.
    pub hellos_max: usize,
    done: (Sender<Stepped>, Receiver<Stepped>),
    /// Steps that were handed out and not begun.
    steps: (Sender<ToStep>, Receiver<ToStep>),
    /// Errands that the workers were sent; those that they have begun, and how many of these were
    /// known of at `moved_at`.
    errands: usize,
    begun: Arc<AtomicUsize>,
    begun_seen: usize,
    /// When a worker began an errand last, or there was none to begin.
    moved_at: Instant,
    /// No worker begins an errand, for so long that the loop makes the steps.
    is_alone: bool,
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
    /// The most that they may: a handshake that would hold more ends.
    pub held_bytes_max: usize,
    pub figures: TlsFigures,
    /// The socket of a connection that has just ended with an alert: a reset must not discard that.
    pub told: Option<Stream>,
    /// For how long such a socket is kept: `deadlines.close_ack`.
    pub linger_for: Duration,
}

/// A connection of which a handshake is: its slot, and what tells it from the next in that slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    pub key: usize,
    pub serial: u32,
}

/// A handshake of which a step is to be made.
type ToStep = (Ticket, Box<Shake>);

/// A step that was made.
pub(crate) struct Stepped {
    pub ticket: Ticket,
    pub step: Step,
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
            arrived: [0; 2],
            arrived_at: Instant::default(),
            waiting: Default::default(),
            patient: 0,
            hellos_max: 0,
            done: unbounded(),
            steps: unbounded(),
            errands: 0,
            begun: Arc::default(),
            begun_seen: 0,
            moved_at: Instant::default(),
            is_alone: false,
            serial: 0,
            now: Instant::default(),
            scratch: Vec::new(),
            sealed: Vec::new(),
            own: Vec::new(),
            overhead: 0,
            held_bytes: 0,
            held_bytes_max: usize::MAX,
            figures: TlsFigures::default(),
            told: None,
            linger_for: Duration::ZERO,
        }
    }

    /// Takes over the limits of now.
    pub fn follow(&mut self, engine: &Engine) {
        self.acceptor();
        self.active_max = engine.config().limits.handshaking;
        self.linger_for = engine.config().deadlines.close_ack;
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

    /// Notes the time of the turn.
    pub fn set_now(&mut self, now: Instant) {
        self.now = now;
        let begun = self.begun.load(Ordering::Relaxed);
        if begun != self.begun_seen || begun == self.errands {
            (self.begun_seen, self.moved_at) = (begun, now);
        }
        self.is_alone = self.overdue_at().is_some_and(|at| at <= now);
        let spans = now.since(self.arrived_at).as_millis() / QUICK_MAX.as_millis();
        if spans > 0 {
            self.arrived_at = now;
            self.arrived = [0, if spans == 1 { self.arrived[0] } else { 0 }];
        }
    }

    /// Has a complete hello wait for a place.
    pub fn queue(&mut self, hello: Ticket) {
        self.hellos.push_back(hello);
        self.arrived[0] += 1;
    }

    /// Notes that a handshake is done: its hello was an honest one.
    pub fn note_done(&mut self) {
        let [now, before] = &mut self.arrived;
        let arrived = if *now > 0 { now } else { before };
        *arrived = arrived.saturating_sub(1);
    }

    /// Takes a place for a handshake: a patient one, if there is.
    pub fn take_place(&mut self) -> Place {
        self.active += 1;
        match self.patient < self.active_max / 2 {
            true => {
                self.patient += 1;
                Place::Patient
            }
            false => Place::Quick,
        }
    }

    /// Gives a place back.
    pub fn free_place(&mut self, place: Place) {
        self.active -= 1;
        self.patient -= usize::from(place == Place::Patient);
    }

    /// Notes that a handshake waits for its peer.
    pub fn begin_wait(&mut self, ticket: Ticket, place: Place) {
        self.waiting[place as usize].push_back((ticket, self.now));
    }

    /// Counts a step as handed out. The errand makes it, or another, and tells the loop.
    pub fn hand_out(&mut self, ticket: Ticket, shake: Box<Shake>) -> Errand {
        self.out += 1;
        self.errands = self.errands.wrapping_add(1);
        let _ = self.steps.0.send((ticket, shake));
        let (steps, done) = (self.steps.1.clone(), self.done.0.clone());
        let begun = self.begun.clone();
        Box::new(move |shared| {
            begun.fetch_add(1, Ordering::Relaxed);
            // The loop may have made it.
            if let Ok((ticket, shake)) = steps.try_recv() {
                let step = caught(|| shake.step());
                // The loop may be gone.
                let _ = done.send(Stepped { ticket, step });
                shared.wake_always();
            }
        })
    }

    /// Makes a step on the loop.
    pub fn make(&mut self, (ticket, shake): ToStep) {
        self.out += 1;
        let step = caught(|| shake.step());
        let _ = self.done.0.send(Stepped { ticket, step });
    }

    /// Takes a step back that was handed out and that no worker has begun.
    pub fn take_back(&mut self) -> Option<ToStep> {
        let step = self.steps.1.try_recv().ok()?;
        self.out -= 1;
        Some(step)
    }

    /// Returns whether the loop makes the steps: the workers have no room, or there are none, or
    /// handlers keep all of them for long. New connections must come in all the same.
    pub fn makes_steps(&self, has_room: bool) -> bool {
        !has_room || self.is_alone
    }

    /// Returns when no worker will have begun an errand for too long.
    fn overdue_at(&self) -> Option<Instant> {
        (self.begun_seen != self.errands).then(|| self.moved_at + WORKER_PATIENCE)
    }

    /// Takes the next step that a worker has made.
    pub fn poll_done(&mut self) -> Option<Stepped> {
        let stepped = self.done.1.try_recv().ok()?;
        self.out -= 1;
        Some(stepped)
    }

    /// Returns whether a step could be made now, or has been made.
    pub fn has_work_left(&self, has_room: bool) -> bool {
        let may_begin = !self.hellos.is_empty() && self.active < self.active_max;
        let is_any = may_begin || !self.ready.is_empty() || !self.steps.1.is_empty();
        !self.done.1.is_empty() || self.makes_steps(has_room) && is_any
    }

    /// Returns when the loop must look: a handshake that waits for its peer makes room, or no
    /// worker begins a step.
    pub fn next_at(&self) -> Option<Instant> {
        let fronts = self.waiting.iter().zip(self.patience()).filter_map(|(queue, patience)| {
            let (_, since) = queue.front().filter(|_| self.is_full())?;
            Some(*since + patience)
        });
        fronts.chain(self.overdue_at().filter(|_| !self.is_alone)).min()
    }

    /// Takes a handshake that has waited for its peer for so long that it makes room.
    pub fn poll_to_end(&mut self) -> Option<Ticket> {
        if !self.is_full() {
            return None;
        }
        let (now, patience) = (self.now, self.patience());
        self.waiting.iter_mut().zip(patience).find_map(|(queue, patience)| {
            let (ticket, _) = *queue.front().filter(|(_, since)| *since + patience <= now)?;
            queue.pop_front();
            Some(ticket)
        })
    }

    /// Returns how long a handshake may wait for its peer while others wait for a place, by its own
    /// place. Quick places get free twice as fast as hellos come of which nothing has come yet,
    /// within limits: the newest hello, which is next, finds a place before the one behind it
    /// comes. A crowd of honest clients, whose handshakes end by themselves, is not hurried.
    fn patience(&self) -> [Duration; 2] {
        let recent = self.arrived[0].max(self.arrived[1]).max(1) as u32;
        let quick = (self.active_max - self.active_max / 2) as u32;
        [(QUICK_MAX * quick / (2 * recent)).clamp(QUICK_MIN, QUICK_MAX), PATIENT]
    }

    /// Returns whether a complete hello waits for a place.
    fn is_full(&self) -> bool {
        !self.hellos.is_empty() && self.active >= self.active_max
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

/// What place a handshake has, of `limits.handshaking`.
///
/// Half of the places are given up soon if the peer says nothing and others wait, so that stalled
/// handshakes keep nobody out for long. The other half is for peers that are slow and honest: if
/// all places were given up soon, a crowd of them would come in never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Quick,
    Patient,
}

/// How long a handshake may wait for its peer in a quick place while others wait for one: a round
/// trip over the worst of networks; that within a continent, where many hellos come.
const QUICK_MAX: Duration = Duration::from_millis(250);
const QUICK_MIN: Duration = Duration::from_millis(50);
/// The same in a patient place: what a microcontroller takes for its signatures.
const PATIENT: Duration = Duration::from_secs(2);
/// How long steps wait for workers of which none begins any.
const WORKER_PATIENCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    /// Half of the places are given up soon, the other half later, and none while nobody waits.
    #[test]
    fn who_waits_for_a_peer_makes_room_by_its_place() {
        let mut desk = Desk::new(Arc::default());
        desk.active_max = 7;
        let places: Vec<Place> = (0..7).map(|_| desk.take_place()).collect();
        for (key, place) in places.iter().enumerate() {
            desk.begin_wait(Ticket { key, serial: 0 }, *place);
        }
        let began = desk.now;
        desk.now = began + Duration::from_secs(9);
        assert_eq!((desk.next_at(), desk.poll_to_end()), (None, None), "nobody waits");
        desk.queue(Ticket { key: 7, serial: 0 });
        let mut ended_at = |ms| {
            desk.set_now(began + Duration::from_millis(ms));
            let mut count = 0;
            while desk.poll_to_end().is_some() {
                count += 1;
            }
            (count, desk.next_at().map(|at| at.since(began).as_millis()))
        };
        assert_eq!(ended_at(249), (0, Some(250)));
        assert_eq!(ended_at(250), (4, Some(2000)));
        assert_eq!(ended_at(1999), (0, Some(2000)));
        assert_eq!(ended_at(2000), (3, None));
        // The more hellos have come of late, the sooner.
        let mut patience_at = |ms, count| {
            desk.set_now(began + Duration::from_millis(ms));
            (0..count).for_each(|key| desk.queue(Ticket { key, serial: 0 }));
            desk.patience()[0].as_millis()
        };
        let spans = [(3000, 2), (3250, 4), (3500, 8), (3750, 0), (4000, 1000), (4200, 0)];
        let patience = spans.map(|(ms, count)| patience_at(ms, count));
        assert_eq!(patience, [250, 125, 62, 62, 50, 50]);
        assert_eq!(patience_at(9000, 0), 250, "they came long ago");
        assert_eq!(patience_at(9001, 1000), 50);
        (0..996).for_each(|_| desk.note_done());
        assert_eq!(desk.patience()[0].as_millis(), 125, "most of them were honest");
        places.into_iter().for_each(|place| desk.free_place(place));
        assert_eq!((desk.active, desk.patient), (0, 0));
        desk.active_max = 1;
        assert_eq!(desk.take_place(), Place::Quick, "one place is nobody's for long");
    }

    #[test]
    fn a_step_that_panics_fails_its_handshake_alone() {
        let Step::Failed(failure, told) = caught(|| panic!("by a hello that nobody thought of"))
        else {
            panic!("it has failed");
        };
        assert_eq!((failure.label, told.len()), ("protocol", 0));
    }
}

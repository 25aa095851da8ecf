//! Handshakes of TLS between the loop and the workers.

use super::outside::Outside;
use crate::core::engine::{self, Engine};
use crate::core::ground::time::Instant;
use crate::core::observe::tls::TlsFigures;
use crate::io::transport::tls::Desk;
use crate::threads::worker::Work;

impl Outside {
    /// Makes what connections over TLS share.
    pub fn open_desk(&mut self, engine: &Engine) {
        let slot = self.shared.tls.clone();
        let desk = self.sockets.desk.get_or_insert_with(|| Box::new(Desk::new(slot)));
        desk.follow(engine);
    }

    /// Notes the time of the turn.
    pub fn set_now(&mut self, now: Instant) {
        if let Some(desk) = &mut self.sockets.desk {
            desk.now = now;
        }
    }

    /// Hands steps of handshakes to the workers until they have enough.
    pub fn dispatch_steps(&mut self, engine: &Engine) {
        let Some(desk) = &mut self.sockets.desk else { return };
        desk.follow(engine);
        let Some(pool) = &self.pool else { return };
        // One worker is left to the handlers, where there are two.
        let out_max = engine.config().workers.saturating_sub(1).max(1);
        while pool.has_room()
            && self.sockets.desk.as_ref().is_some_and(|desk| desk.out < out_max)
            && let Some((ticket, shake)) = self.sockets.poll_step()
        {
            let desk = self.sockets.desk.as_mut().expect("it gave a step");
            // There is room: nobody else sends.
            let _ = pool.try_send(Work::Step(desk.hand_out(ticket, shake)));
        }
    }

    /// Takes the steps back that were made, and makes one where there are no workers.
    pub fn take_steps(&mut self, mut note: impl FnMut(usize, engine::Readiness)) {
        if self.sockets.desk.is_none() {
            return;
        }
        if self.pool.is_none()
            && let Some((ticket, shake)) = self.sockets.poll_step()
        {
            let desk = self.sockets.desk.as_mut().expect("it gave a step");
            desk.hand_out(ticket, shake).run(&self.shared);
        }
        let both = |readable| engine::Readiness { readable, writable: true, ..Default::default() };
        while let Some(stepped) = self.sockets.desk.as_mut().and_then(|desk| desk.poll_done()) {
            if let Some(key) = self.sockets.finish_step(stepped) {
                note(key, both(true));
            }
        }
        self.sockets.forget_gone();
        while let Some(key) = self.sockets.make_room() {
            note(key, both(true));
        }
    }

    /// Returns what is counted of TLS.
    pub fn tls_figures(&self) -> Option<Box<TlsFigures>> {
        let desk = self.sockets.desk.as_ref()?;
        let mut figures = Box::new(desk.figures.clone());
        figures.reload_errors = desk.reload_faults() as u64;
        figures.handshaking = desk.active as u64;
        figures.held_bytes = desk.held_bytes as u64;
        Some(figures)
    }
}

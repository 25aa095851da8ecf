//! Handshakes of TLS between the loop and the workers.

use super::REFUSAL_TOKENS;
use super::outside::Outside;
use crate::core::engine::{self, Engine};
use crate::core::ground::time::Instant;
use crate::core::observe::tls::TlsFigures;
use crate::io::socket::Socket;
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
            desk.set_now(now);
        }
    }

    /// Hands steps of handshakes to the workers until they have enough.
    pub fn dispatch_steps(&mut self, engine: &Engine) {
        let Some(desk) = &mut self.sockets.desk else { return };
        desk.follow(engine);
        let Some(pool) = &self.pool else { return };
        // One worker is left to the handlers, where there are two.
        let out_max = engine.config().workers.saturating_sub(1).max(1);
        let may_send = |desk: &Desk| desk.out < out_max && !desk.makes_steps(true);
        while pool.has_room()
            && self.sockets.desk.as_deref().is_some_and(may_send)
            && let Some((ticket, shake)) = self.sockets.poll_step()
        {
            let desk = self.sockets.desk.as_mut().expect("it gave a step");
            // There is room: nobody else sends.
            let _ = pool.try_send(Work::Errand(desk.hand_out(ticket, shake)));
        }
    }

    /// Returns whether there are workers, with room for more.
    pub fn has_room(&self) -> bool {
        self.pool.as_ref().is_some_and(|pool| pool.has_room())
    }

    /// Takes the steps back that were made, and makes one where no worker does.
    pub fn take_steps(&mut self, mut note: impl FnMut(usize, engine::Readiness)) {
        let has_room = self.has_room();
        let Some(desk) = &mut self.sockets.desk else { return };
        if desk.makes_steps(has_room)
            && let Some(step) = desk.take_back().or_else(|| self.sockets.poll_step())
        {
            self.sockets.desk.as_mut().expect("it gave a step").make(step);
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

    /// Keeps the socket of a connection that has ended with an alert, until its peer has read that.
    pub fn linger(&mut self) {
        let Some(desk) = &mut self.sockets.desk else { return };
        let Some(mut stream) = desk.told.take() else { return };
        let (expires_at, registry) = (desk.now + desk.linger_for, self.poll.registry());
        // Its token is the next connection's.
        if stream.deregister(registry).is_ok() {
            self.refusals.linger(Socket::Tls(stream), expires_at, registry, REFUSAL_TOKENS);
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

//! What holds for a connection between two steps, whatever has happened to it. Each line can fail:
//! it compares two things that are stored apart and must agree.

use crate::core::connection::{Connection, Leaving, Mark, Told};
use crate::core::observe::stats::Transport;

impl Connection {
    /// Returns whether the connection is in order: for `debug_assert!`, free in release builds.
    pub fn is_in_order(&self) -> bool {
        let transport = self.flags.transport();
        debug_assert!(!self.is_open() || transport == Transport::WebSocket);
        debug_assert!(!self.is_stream() || transport == Transport::EventStream);
        let is_at_request = self.is_requesting() || self.is_deciding();
        debug_assert!(!is_at_request || transport == Transport::Http, "nothing comes back to one");
        debug_assert!(!self.is_live() || self.route.is_some(), "what is for long was routed");
        debug_assert!(self.paused_at.is_none() || self.is_open(), "a pause is of a WebSocket");
        if let Some(closing) = self.closing() {
            closing.check();
            let is_silent = self.outbox.is_empty();
            debug_assert!(!is_silent || !closing.is_sending(), "the close frame is on its way");
            debug_assert!(is_silent || !closing.is_lingering(), "nothing goes behind FIN");
        }
        self.check_handler();
        true
    }

    fn check_handler(&self) {
        let is_out = self.flags.told == Told::Out;
        debug_assert!(!is_out || self.session.is_none(), "the session is in the job");
        debug_assert!(!is_out || !self.marks.has(Mark::Runnable), "one job at a time");
        debug_assert!(
            self.flags.told == Told::Not || self.flags.transport() == Transport::WebSocket,
            "handlers of requests are told of no connection"
        );
        debug_assert!(
            self.flags.leaving != Leaving::Shed || self.flags.transport() != Transport::Http,
            "plain requests are not shed"
        );
        if let Some(inbox) = &self.inbox {
            inbox.check();
            debug_assert!(inbox.given == 0 || is_out, "what was given is out");
        }
    }
}

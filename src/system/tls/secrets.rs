//! The secrets that a handshake comes by, on their way from rustls to the step that is under way:
//! they are told where others write a log, and go no further.

use std::cell::RefCell;

use rustls::KeyLog;

use crate::core::wire::tls::Secret;

/// The secrets of a connection, as the handshake comes by them.
#[derive(Default)]
pub(crate) struct Secrets {
    pub client: Option<Secret>,
    pub server: Option<Secret>,
}

thread_local! {
    /// The secrets that a step on this thread has come by.
    static LOGGED: RefCell<Secrets> =
        const { RefCell::new(Secrets { client: None, server: None }) };
}

impl Secrets {
    /// Takes what was logged on this thread: it is of this connection, for nobody else had a step
    /// here meanwhile.
    pub fn take_logged(&mut self) {
        let Secrets { client, server } = LOGGED.take();
        self.client = client.or(self.client.take());
        self.server = server.or(self.server.take());
    }
}

/// Where rustls tells its secrets. It goes no further than to the step that is under way.
#[derive(Debug)]
pub(super) struct ToStep;

impl KeyLog for ToStep {
    fn log(&self, label: &str, _client_random: &[u8], secret: &[u8]) {
        LOGGED.with_borrow_mut(|logged| match label {
            CLIENT => logged.client = Secret::new(secret),
            SERVER => logged.server = Secret::new(secret),
            _ => {}
        });
    }

    fn will_log(&self, label: &str) -> bool {
        matches!(label, CLIENT | SERVER)
    }
}

const CLIENT: &str = "CLIENT_TRAFFIC_SECRET_0";
const SERVER: &str = "SERVER_TRAFFIC_SECRET_0";

//! Handlers on the thread of the loop, as the engine calls them while it decodes: the short way of
//! a message.

use std::mem;
use std::time::Duration;

use crate::core::contract::event::{Command, Session};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::wire::message::Message;

/// What a handler tells the engine in a call.
#[derive(Debug, Default)]
pub struct Said {
    /// Messages for its own peer that come before all commands: mostly it says nothing else.
    pub answers: Vec<Message>,
    /// All that comes behind.
    pub commands: Vec<Command>,
}

impl Said {
    /// Makes commands of the answers to a peer.
    pub fn spell_out(&mut self, id: ConnectionId) {
        if self.answers.is_empty() {
            return;
        }
        // The list begins anew: few handlers say more than answers in one call.
        let behind = mem::take(&mut self.commands);
        self.commands.extend(self.answers.drain(..).map(|message| Command::Send(id, message)));
        self.commands.extend(behind);
    }
}

/// Calls the handlers that run on this thread. The engine begins before the first message of a
/// connection and ends behind the last that was decoded with it.
pub trait Handlers {
    /// Begins the calls for a connection of a route, whose client may have an identity.
    fn begin(&mut self, id: ConnectionId, route: usize, identity: Option<Identity>);

    /// Calls the handler with a message, and puts what the handler tells the engine into `said`,
    /// which is empty. Returns whether the handler returned: `false` is a panic.
    fn call(&mut self, session: &mut Session, message: Message, said: &mut Said) -> bool;

    /// Ends the calls. Returns how long they took together.
    fn end(&mut self) -> Duration;
}

impl<H: Handlers> Handlers for &mut H {
    fn begin(&mut self, id: ConnectionId, route: usize, identity: Option<Identity>) {
        (**self).begin(id, route, identity);
    }

    fn call(&mut self, session: &mut Session, message: Message, said: &mut Said) -> bool {
        (**self).call(session, message, said)
    }

    fn end(&mut self) -> Duration {
        (**self).end()
    }
}

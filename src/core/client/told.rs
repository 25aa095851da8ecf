//! What a client tells its application.

use std::fmt;
use std::time::Duration;

use super::ask::Answer;
#[cfg(feature = "mqtt")]
use super::broker::Heard;
use super::why::Why;
use crate::core::wire::event_reader::StreamEvent;
use crate::core::wire::message::Message;

/// Where a client is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum State {
    /// Waits before the next try.
    Waiting,
    /// Looks up the host's name.
    Resolving,
    /// Connects to one of its addresses.
    Connecting,
    /// Shakes hands in TLS.
    Securing,
    /// Has sent the upgrade, and waits for 101; or asks for an event stream.
    Upgrading,
    /// Is connected.
    Open,
    /// Ends a connection in good order.
    Closing,
    /// Leaves a server alone that has failed too often.
    Broken,
    /// Does nothing any more.
    Stopped,
}

impl State {
    /// All of them, in their order.
    pub const ALL: [State; 9] = [
        State::Waiting,
        State::Resolving,
        State::Connecting,
        State::Securing,
        State::Upgrading,
        State::Open,
        State::Closing,
        State::Broken,
        State::Stopped,
    ];

    /// Returns its name, as logs and C have it.
    pub const fn label(self) -> &'static str {
        match self {
            State::Waiting => "waiting",
            State::Resolving => "resolving",
            State::Connecting => "connecting",
            State::Securing => "securing",
            State::Upgrading => "upgrading",
            State::Open => "open",
            State::Closing => "closing",
            State::Broken => "broken",
            State::Stopped => "stopped",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.label())
    }
}

/// What happened, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Told {
    /// The client is in another state.
    State {
        /// Which.
        state: State,
        /// How long it waits: in `Waiting` and `Broken`.
        wait: Option<Duration>,
        /// How often it has failed in a row.
        failures: u32,
        /// Why the try or the connection before ended: in `Waiting`, `Broken` and `Stopped`.
        why: Option<Why>,
    },
    /// A message has come.
    Message(Message),
    /// An event of an event stream has come.
    Event(StreamEvent),
    /// The answer to a plain request has come.
    Answer(Box<Answer>),
    /// A broker has said something.
    #[cfg(feature = "mqtt")]
    Broker(Heard),
    /// Two of five tries of the last `client.window` have failed on the server's side.
    Degraded,
    /// Five tries in a row have failed, of whatever kind: told once, until a connection has held.
    Alarm,
}

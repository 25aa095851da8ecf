//! A subscriber that is no connection: the application's own.

use std::fmt;

use crate::core::topics::{Event, Gap};

/// What a subscriber of the application's own is told of its topic, in the order of ids.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Heard {
    /// An event.
    Event(Event),
    /// Events are missing here.
    Gap(Gap),
}

/// Where a subscriber of the application's own gets its events. Nothing here may block.
pub trait Listener: Send {
    /// Returns whether one more event may wait there.
    fn has_room(&self) -> bool;

    /// Notes that more waits: when there is room, the engine is to be told. Returns `true` instead
    /// if there is room again already.
    fn await_room(&mut self) -> bool;

    /// Takes what comes next. Returns `false` if the subscriber is gone.
    fn take(&mut self, heard: Heard) -> bool;

    /// Notes that there is no such topic, and that none can be made.
    fn refuse(&mut self);

    /// Returns the bytes of what waits there.
    fn bytes(&self) -> usize;
}

impl fmt::Debug for dyn Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

//! What handlers were told, connection by connection.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use heartwheel::{CloseReason, ConnectionId, Event};

use super::timing::lock;

/// Keeps the events of all connections. Clones share what they keep.
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<BTreeMap<ConnectionId, Vec<Told>>>>);

/// An event, without what it carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    Opened,
    Message(String),
    Suspect,
    Pong,
    Drained,
    Closed(CloseReason),
}

impl Recorder {
    pub fn note(&self, id: ConnectionId, event: &Event) {
        let told = match event {
            Event::Opened(_) => Told::Opened,
            Event::Message(message) => {
                Told::Message(String::from_utf8_lossy(message.as_bytes()).into_owned())
            }
            Event::Suspect => Told::Suspect,
            Event::Pong(_) => Told::Pong,
            Event::Drained => Told::Drained,
            Event::Closed(reason) => Told::Closed(*reason),
            other => panic!("an event that this test does not know: {other:?}"),
        };
        lock(&self.0).entry(id).or_default().push(told);
    }

    /// Gives what was told of each connection, in the order of their ids.
    pub fn told(&self) -> Vec<Vec<Told>> {
        lock(&self.0).values().cloned().collect()
    }

    /// Gives how often this was told, over all connections.
    pub fn count(&self, told: &Told) -> usize {
        lock(&self.0).values().flatten().filter(|other| *other == told).count()
    }

    /// Gives the reasons of all ends so far.
    pub fn closed(&self) -> Vec<CloseReason> {
        let closed = |told: &Told| match told {
            Told::Closed(reason) => Some(*reason),
            _ => None,
        };
        lock(&self.0).values().flatten().filter_map(closed).collect()
    }

    /// Asserts that each connection was told `Opened` first, `Closed` last, and each of them once.
    #[track_caller]
    pub fn assert_whole(&self, connections: usize) {
        let told = self.told();
        assert_eq!(told.len(), connections);
        for told in told {
            let opened = told.iter().filter(|told| **told == Told::Opened).count();
            let closed = told.iter().filter(|told| matches!(told, Told::Closed(_))).count();
            assert_eq!((opened, closed), (1, 1), "{told:?}");
            assert_eq!(told[0], Told::Opened, "{told:?}");
            assert!(matches!(told.last(), Some(Told::Closed(_))), "{told:?}");
        }
    }
}

//! Which topics have got their first subscriber, or lost their last one, until that has been told.
//!
//! The changes of one topic alternate, so a count stands for all that have not been told, and none
//! is lost however fast subscribers come and go. While one is being told the next one waits.

use std::collections::{HashMap, VecDeque};

use super::Name;

/// What has become of a topic's subscribers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// There is one, after there was none.
    First,
    /// There is none any more.
    Last,
}

impl Change {
    fn other(self) -> Change {
        match self {
            Change::First => Change::Last,
            Change::Last => Change::First,
        }
    }
}

/// The changes that have not been told.
// Invariants:
// - `ready` names exactly the topics of `by_topic` of which no change is being told.
// - Each topic of `by_topic` has a change that is untold or being told.
#[derive(Debug, Default)]
pub(super) struct Audience {
    /// Only ever asked for one name.
    by_topic: HashMap<Name, Untold>,
    ready: VecDeque<Name>,
}

#[derive(Debug)]
struct Untold {
    /// The earliest that was not told; the others alternate with it.
    next: Change,
    count: u64,
    is_being_told: bool,
}

impl Audience {
    /// Returns how many topics have changes that were not told.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    pub fn note(&mut self, topic: &Name, change: Change) {
        if let Some(untold) = self.by_topic.get_mut(topic) {
            let is_next = untold.next == change;
            debug_assert_eq!(is_next, untold.count.is_multiple_of(2), "changes alternate");
            untold.count += 1;
            return;
        }
        let untold = Untold { next: change, count: 1, is_being_told: false };
        self.by_topic.insert(topic.clone(), untold);
        self.ready.push_back(topic.clone());
    }

    /// Takes the next change that can be told; [`Audience::note_told`] follows.
    pub fn poll(&mut self) -> Option<(Name, Change)> {
        let topic = self.ready.pop_front()?;
        let untold = self.by_topic.get_mut(&topic)?;
        let change = untold.next;
        untold.next = change.other();
        untold.count -= 1;
        untold.is_being_told = true;
        Some((topic, change))
    }

    /// Notes that the change which was taken has been told.
    pub fn note_told(&mut self, topic: &Name) {
        let Some(untold) = self.by_topic.get_mut(topic) else { return };
        debug_assert!(untold.is_being_told, "one at a time");
        if untold.count == 0 {
            self.by_topic.remove(topic);
            if self.by_topic.is_empty() {
                // A burst may have made the table large.
                *self = Audience::default();
            }
            return;
        }
        untold.is_being_told = false;
        self.ready.push_back(topic.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_in_their_order_and_none_is_lost() {
        use Change::{First, Last};
        let mut audience = Audience::default();
        let [a, b]: [Name; 2] = ["a", "b"].map(|name| name.parse().unwrap());
        for change in [First, Last, First] {
            audience.note(&a, change);
        }
        audience.note(&b, First);
        assert_eq!(audience.poll(), Some((a.clone(), First)));
        assert_eq!(audience.poll(), Some((b.clone(), First)));
        assert_eq!(audience.poll(), None, "one of each topic at a time");
        audience.note_told(&b);
        assert_eq!((audience.poll(), audience.len()), (None, 1));
        audience.note_told(&a);
        assert_eq!(audience.poll(), Some((a.clone(), Last)));
        audience.note(&a, Last);
        audience.note_told(&a);
        for change in [First, Last] {
            assert_eq!(audience.poll(), Some((a.clone(), change)));
            audience.note_told(&a);
        }
        assert_eq!((audience.poll(), audience.len()), (None, 0));
        assert_eq!(audience.by_topic.capacity(), 0);
    }
}

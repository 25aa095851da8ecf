//! What clients of `/ws` have published lately, so that what is sent again is not published again.
//!
//! A client that has said who it is may send a publication again, with the same `ref`, when its
//! connection broke before the answer. For [`KNOWN_FOR`] the newest [`KNOWN_MAX`] of each client
//! are known. All clients together take a share of the memory budget; those that have published
//! nothing for the longest time make room.
//!
//! Nothing wakes the loop for it. What is too old goes when the next is noted, or when logs are
//! swept.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::core::contract::backbone::Ticket;
use crate::core::ground::identity::Author;
use crate::core::ground::time::Instant;
use crate::core::topics::EventId;

/// For how long a publication is known.
pub(super) const KNOWN_FOR: Duration = Duration::from_secs(60);

/// How many publications of one client are known: the newest.
pub(super) const KNOWN_MAX: usize = 64;

/// What became of a publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// The event has this id.
    Published(EventId),
    /// A hook has taken it over.
    Taken,
    /// The log was asked, and has not answered.
    Asked(Ticket),
}

#[derive(Debug)]
struct Entry {
    reference: i64,
    at: Instant,
    known: Known,
}

impl Entry {
    fn is_over(&self, now: Instant) -> bool {
        self.at + KNOWN_FOR <= now
    }
}

/// What one client has published.
#[derive(Debug)]
struct Client {
    newest_at: Instant,
    /// Oldest first, each `ref` once.
    entries: VecDeque<Entry>,
}

impl Client {
    fn bytes(&self, author: &Author) -> usize {
        CLIENT_BYTES + author.len() + self.entries.capacity() * size_of::<Entry>()
    }

    fn note(&mut self, now: Instant, reference: i64, known: Known) {
        self.newest_at = now;
        self.entries.retain(|entry| entry.reference != reference);
        while let Some(oldest) = self.entries.front()
            && (oldest.is_over(now) || self.entries.len() >= KNOWN_MAX)
        {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { reference, at: now, known });
    }
}

/// What is known of all clients.
// Invariants:
// - `order` names each client of `clients` once.
// - `bytes` is the sum over all clients.
#[derive(Debug, Default)]
pub(super) struct Repeats {
    clients: HashMap<Author, Client>,
    /// In the order of these moments. A client that has published since goes to the back when it
    /// comes to the front.
    order: VecDeque<(Author, Instant)>,
    bytes: usize,
}

impl Repeats {
    /// Returns the memory that it takes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what became of the client's publication with this `ref`; `None` if it is not known.
    pub fn find(&self, now: Instant, author: &Author, reference: i64) -> Option<Known> {
        let client = self.clients.get(author)?;
        let found = client.entries.iter().rev().find(|entry| entry.reference == reference)?;
        (!found.is_over(now)).then_some(found.known)
    }

    /// Notes a publication, and forgets what is too old, or beyond `limit` bytes. This client
    /// stays, however small that is. It looks at [`PASSES_MAX`] others: where all have published
    /// lately, and when the limit has become smaller, what is too much goes with the next that are
    /// noted. Returns how many bytes were added.
    pub fn note(
        &mut self,
        now: Instant,
        (author, reference): (Author, i64),
        known: Known,
        limit: usize,
    ) -> usize {
        self.expire(now);
        let before = self.clients.get(&author).map_or(0, |client| client.bytes(&author));
        let client = self.clients.entry(author.clone()).or_insert_with(|| {
            self.order.push_back((author.clone(), now));
            Client { newest_at: now, entries: VecDeque::new() }
        });
        client.note(now, reference, known);
        let added = client.bytes(&author) - before;
        self.bytes += added;
        for _ in 0..PASSES_MAX {
            match self.order.front() {
                Some((front, _)) if self.bytes > limit && self.order.len() > 1 => {
                    match *front == author {
                        true => self.order.rotate_left(1),
                        false => self.pass_oldest(now),
                    }
                }
                _ => break,
            }
        }
        added
    }

    /// Notes the answer of the log to a publication; without an event it was not published, and may
    /// come again.
    pub fn settle(
        &mut self,
        (author, reference): (&Author, i64),
        ticket: Ticket,
        event: Option<EventId>,
    ) {
        let Some(client) = self.clients.get_mut(author) else { return };
        let asked =
            |entry: &Entry| entry.reference == reference && entry.known == Known::Asked(ticket);
        let Some(index) = client.entries.iter().position(asked) else { return };
        match event {
            Some(event) => client.entries[index].known = Known::Published(event),
            None => _ = client.entries.remove(index),
        }
    }

    /// Forgets clients that have published nothing for long enough, some at a time. Those that
    /// published after they were last looked at stay for as long again at most.
    pub fn expire(&mut self, now: Instant) {
        for _ in 0..PASSES_MAX {
            match self.order.front() {
                Some((_, at)) if *at + KNOWN_FOR <= now => self.pass_oldest(now),
                _ => break,
            }
        }
    }

    /// Forgets the client at the front, unless it has published since it was last looked at.
    fn pass_oldest(&mut self, now: Instant) {
        let Some((author, at)) = self.order.pop_front() else { return };
        match self.clients.get(&author) {
            Some(client) if client.newest_at > at => self.order.push_back((author, now)),
            Some(client) => {
                self.bytes -= client.bytes(&author);
                self.clients.remove(&author);
            }
            None => debug_assert!(false, "each client stands in the order once"),
        }
        if self.clients.is_empty() {
            // Many may have made the table large.
            *self = Repeats::default();
        }
    }
}

/// How many clients are looked at in one go.
const PASSES_MAX: usize = 64;

/// What a client takes beside its name and its entries: a place in a table that is half full, one
/// in a list that has just grown, and the counts of those who share the name.
const CLIENT_BYTES: usize =
    2 * size_of::<(Author, Client)>() + 2 * size_of::<(Author, Instant)>() + 2 * size_of::<usize>();

#[cfg(test)]
mod tests {
    use super::*;

    const NO_LIMIT: usize = usize::MAX;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(1000 + ms)
    }

    fn author(number: usize) -> Author {
        Author::new(None, &format!("client-{number:016}"))
    }

    fn event(number: u64) -> Known {
        Known::Published(EventId::new(number, 0))
    }

    fn check(repeats: &Repeats) {
        let bytes = repeats.clients.iter().map(|(author, client)| client.bytes(author));
        assert_eq!(repeats.bytes, bytes.sum::<usize>());
        assert_eq!(repeats.order.len(), repeats.clients.len());
        assert!(repeats.order.iter().all(|(author, _)| repeats.clients.contains_key(author)));
        assert!(repeats.order.iter().is_sorted_by_key(|(_, at)| *at));
    }

    #[test]
    fn a_publication_is_known_for_a_minute() {
        let mut repeats = Repeats::default();
        repeats.note(at(0), (author(1), 7), event(1), NO_LIMIT);
        assert_eq!(repeats.find(at(59_999), &author(1), 7), Some(event(1)));
        assert_eq!(repeats.find(at(60_000), &author(1), 7), None);
        assert_eq!(repeats.find(at(0), &author(1), 8), None);
        assert_eq!(repeats.find(at(0), &author(2), 7), None);
        repeats.expire(at(59_999));
        assert!(repeats.bytes() > 0);
        repeats.expire(at(60_000));
        assert_eq!(repeats.bytes(), 0);
        check(&repeats);
    }

    #[test]
    fn the_newest_of_a_client_are_known() {
        let mut repeats = Repeats::default();
        let last = 3 * KNOWN_MAX as i64;
        for reference in 0..=last {
            repeats.note(at(reference as u64), (author(1), reference), event(1), NO_LIMIT);
            check(&repeats);
        }
        let known = |reference| repeats.find(at(last as u64), &author(1), reference).is_some();
        assert_eq!(
            (0..=last).find(|reference| known(*reference)),
            Some(last + 1 - KNOWN_MAX as i64)
        );
        assert!(repeats.bytes() < CLIENT_BYTES + 64 + KNOWN_MAX * size_of::<Entry>());
    }

    #[test]
    fn clients_that_have_published_nothing_for_long_make_room() {
        let mut repeats = Repeats::default();
        let each = repeats.note(at(0), (author(0), 0), event(1), NO_LIMIT);
        let limit = 100 * each;
        for number in 1..1000 {
            repeats.note(at(number as u64), (author(number), 0), event(1), limit);
            // This one publishes all the time.
            repeats.note(at(number as u64), (author(0), 0), event(number as u64), limit);
            assert!(repeats.bytes() <= limit);
            check(&repeats);
        }
        assert_eq!(repeats.find(at(999), &author(0), 0), Some(event(999)));
        assert_eq!(repeats.find(at(999), &author(999), 0), Some(event(1)));
        assert_eq!(repeats.find(at(999), &author(1), 0), None);
        assert!(repeats.clients.len() > 90);
    }

    // The publisher of the last event would have been the first to be looked at behind all others.
    #[test]
    fn where_all_publish_the_one_that_has_just_published_stays() {
        let mut repeats = Repeats::default();
        let each = repeats.note(at(0), (author(0), 0), event(1), NO_LIMIT);
        let limit = 100 * each;
        let mut most = 0;
        for number in 1..2000_usize {
            let now = at(2 * number as u64);
            // All of the last have published again since they were looked at.
            for other in number.saturating_sub(120)..number {
                if repeats.clients.contains_key(&author(other)) {
                    repeats.note(now, (author(other), 0), event(2), NO_LIMIT);
                }
            }
            repeats.note(now + Duration::from_millis(1), (author(number), 0), event(1), limit);
            let known = repeats.find(at(4000), &author(number), 0);
            assert_eq!(known, Some(event(1)), "{number} of {}", repeats.clients.len());
            check(&repeats);
            most = most.max(repeats.clients.len());
        }
        assert!(most <= 100 + 2 * PASSES_MAX, "{most}");
    }

    #[test]
    fn one_client_fits_however_small_the_limit() {
        let mut repeats = Repeats::default();
        repeats.note(at(0), (author(1), 1), event(1), 0);
        repeats.note(at(1), (author(2), 1), event(2), 0);
        assert_eq!(repeats.find(at(1), &author(1), 1), None);
        assert_eq!(repeats.find(at(1), &author(2), 1), Some(event(2)));
    }

    #[test]
    fn clients_that_fall_silent_are_forgotten_some_at_a_time() {
        let mut repeats = Repeats::default();
        for number in 0..1000 {
            repeats.note(at(0), (author(number), 1), event(1), NO_LIMIT);
        }
        repeats.note(at(50_000), (author(5), 2), event(2), NO_LIMIT);
        for left in [936, 872] {
            repeats.expire(at(60_000));
            assert_eq!(repeats.clients.len(), left + 1);
            check(&repeats);
        }
        for _ in 0..20 {
            repeats.expire(at(60_000));
        }
        assert_eq!(repeats.clients.len(), 1);
        assert_eq!(repeats.find(at(60_000), &author(5), 1), None);
        assert_eq!(repeats.find(at(60_000), &author(5), 2), Some(event(2)));
        repeats.expire(at(120_000));
        assert_eq!((repeats.bytes(), repeats.clients.capacity()), (0, 0));
    }

    #[test]
    fn the_answer_of_the_log_is_known_from_then_on() {
        let mut repeats = Repeats::default();
        let (first, second) = (Ticket::NONE.next(), Ticket::NONE.next().next());
        let me = author(1);
        repeats.note(at(0), (me.clone(), 1), Known::Asked(first), NO_LIMIT);
        repeats.note(at(0), (me.clone(), 2), Known::Asked(second), NO_LIMIT);
        repeats.settle((&me, 1), second, Some(EventId::new(9, 9)));
        assert_eq!(repeats.find(at(0), &me, 1), Some(Known::Asked(first)), "not its ticket");
        repeats.settle((&me, 1), first, Some(EventId::new(7, 0)));
        repeats.settle((&me, 2), second, None);
        assert_eq!(repeats.find(at(0), &me, 1), Some(event(7)));
        assert_eq!(repeats.find(at(0), &me, 2), None, "it may be tried again");
        check(&repeats);
    }
}

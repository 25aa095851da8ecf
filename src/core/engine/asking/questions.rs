//! Questions to the service that `admission.request` names: those that wait, those that are asked,
//! and the opinions that still count.
//!
//! ```text
//!            the same: it waits with the first
//!   request ─┬─► waiting ─► asked (at most 32) ─► opinion, or none ─► verdict on each that waits
//!            │                                       │ kept for `admission.request_cache`
//!            └──────── the same ◄────────────────────┘
//! ```
//!
//! Each question is answered once, whatever becomes of the service: the client that asks has a
//! deadline, and while the breaker is open nothing is asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::time::Duration;

use crate::core::admission::question::Question;
use crate::core::client::ask::Ask;
use crate::core::client::breaker::{Breaker, Change, Rules};
use crate::core::config::OPINION_BYTES_MAX;
use crate::core::engine::asking::opinion::{self, NoOpinion, Opinion};
use crate::core::engine::asking::tracing::Lines;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;

/// All questions, and the opinions that are kept.
#[derive(Debug, Default)]
pub struct Questions {
    open: BTreeMap<u32, Open>,
    /// Those of `open` that have not been asked, in their order.
    waiting: VecDeque<u32>,
    places: HashMap<Question, Place>,
    /// Those of which the opinion is kept, in the order in which that lapses.
    kept: VecDeque<(Instant, Question)>,
    kept_bytes: usize,
    /// How many connections wait.
    connections: usize,
    next_number: u32,
    breaker: Breaker,
    has_failed: bool,
}

/// A question without an answer.
#[derive(Debug)]
struct Open {
    question: Question,
    /// The trace context of the first request that waits for it.
    lines: Lines,
    /// `None` until it is asked.
    asked_at: Option<Instant>,
    /// The connections whose requests wait for it.
    connections: Vec<ConnectionId>,
}

#[derive(Debug)]
enum Place {
    Open(u32),
    Kept(Opinion),
}

/// What becomes of a request at once.
#[derive(Debug)]
pub enum Asked {
    /// The opinion is known.
    Known(Opinion),
    /// It waits.
    Waits,
    /// The service is broken: it is not asked.
    Broken,
}

/// An answer that has come, or the news that none will.
#[derive(Debug)]
pub struct Heard {
    /// The connections that wait for it.
    pub connections: Vec<ConnectionId>,
    /// How long the service took.
    pub took: Duration,
    /// What this changes for later questions.
    pub news: Option<News>,
}

/// What an answer changes for later questions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// The first failure behind good answers.
    Fails,
    /// The first good answer behind failures.
    Works,
    /// Nothing is asked for so long: those that wait are [refused](Questions::take_refused).
    Broken(Duration),
}

impl Questions {
    /// Takes the question about the request of a connection. The lines go along if it is asked.
    pub fn ask(
        &mut self,
        now: Instant,
        id: ConnectionId,
        question: Question,
        lines: Lines,
    ) -> Asked {
        self.forget(now);
        match self.places.get(&question) {
            Some(Place::Kept(opinion)) => return Asked::Known(opinion.clone()),
            Some(Place::Open(number)) => {
                let open = self.open.get_mut(number).expect("each place is of one");
                open.connections.push(id);
                self.connections += 1;
                return Asked::Waits;
            }
            None => {}
        }
        let is_probed = self.breaker.is_half_open() && !self.open.is_empty();
        if is_probed || self.breaker.open_until(now).is_some() {
            return Asked::Broken;
        }
        let number = self.next_number;
        self.next_number = number.wrapping_add(1);
        self.places.insert(question.clone(), Place::Open(number));
        let open = Open { question, lines, asked_at: None, connections: vec![id] };
        self.open.insert(number, open);
        self.waiting.push_back(number);
        self.connections += 1;
        Asked::Waits
    }

    /// Takes the next question to ask, with its number. One for which no request waits any more, by
    /// `waits`, is dropped.
    pub fn poll(
        &mut self,
        now: Instant,
        waits: impl Fn(ConnectionId) -> bool,
    ) -> Option<(u32, Ask)> {
        while self.asked() < ASKED_MAX {
            let number = self.waiting.pop_front()?;
            let Some(open) = self.open.get_mut(&number) else { continue };
            if !open.connections.iter().any(|id| waits(*id)) {
                self.remove(number);
                continue;
            }
            open.asked_at = Some(now);
            self.breaker.begin();
            let lines = std::mem::take(&mut open.lines).into_iter();
            let ask = opinion::ask(&open.question);
            let ask = lines.fold(ask, |ask, (name, line)| ask.header(name, line));
            return Some((number, ask));
        }
        None
    }

    /// Takes the service's opinion, or the news that there is none, and keeps it for `keep_for`.
    /// `None` if there is no such question.
    pub fn hear(
        &mut self,
        now: Instant,
        number: u32,
        opinion: Result<&Opinion, &NoOpinion>,
        keep_for: Option<Duration>,
        rules: &Rules,
    ) -> Option<Heard> {
        let open = self.remove(number)?;
        let has_failed = std::mem::replace(&mut self.has_failed, opinion.is_err());
        let news = match opinion {
            Ok(opinion) => {
                self.breaker.note_held(now, rules);
                if let Some(keep_for) = keep_for {
                    self.keep(now + keep_for, open.question, opinion.clone());
                }
                has_failed.then_some(News::Works)
            }
            Err(none) => {
                let is_open = self.breaker.open_until(now).is_some();
                let note =
                    |breaker: &mut Breaker| breaker.note_ended(now, rules, none.is_services_fault);
                match (!is_open).then(|| note(&mut self.breaker)).flatten() {
                    Some(Change::Broken(until)) => Some(News::Broken(until.since(now))),
                    _ => (!has_failed).then_some(News::Fails),
                }
            }
        };
        let took = open.asked_at.map_or(Duration::ZERO, |asked_at| now.since(asked_at));
        Some(Heard { connections: open.connections, took, news })
    }

    /// Takes the connections whose questions are not asked, because the service is broken.
    pub fn take_refused(&mut self) -> Vec<ConnectionId> {
        let waiting = std::mem::take(&mut self.waiting);
        let open = waiting.into_iter().filter_map(|number| self.remove(number));
        open.flat_map(|open| open.connections).collect()
    }

    /// Forgets connections whose requests do not wait any more, by `waits`.
    pub fn retain(&mut self, waits: impl Fn(ConnectionId) -> bool) {
        self.open.values_mut().for_each(|open| open.connections.retain(|id| waits(*id)));
        self.connections = self.open.values().map(|open| open.connections.len()).sum();
        let is_left = |open: &Open| open.asked_at.is_none() && open.connections.is_empty();
        let left = self.open.iter().filter(|(_, open)| is_left(open)).map(|(number, _)| *number);
        for number in left.collect::<Vec<_>>() {
            self.remove(number);
        }
        let Questions { waiting, open, .. } = self;
        waiting.retain(|number| open.contains_key(number));
    }

    /// Forgets opinions that have lapsed.
    pub fn forget(&mut self, now: Instant) {
        while self.kept.front().is_some_and(|(until, _)| *until <= now) {
            self.forget_first();
        }
        if self.kept.is_empty() && self.kept.capacity() > 0 {
            self.kept = VecDeque::new();
        }
        if self.places.is_empty() && self.places.capacity() > 0 {
            self.places = HashMap::new();
        }
    }

    /// Returns when the next opinion lapses.
    pub fn next_at(&self) -> Option<Instant> {
        self.kept.front().map(|(until, _)| *until)
    }

    /// Returns how many requests wait, those among them whose connections have ended.
    pub fn waiting(&self) -> usize {
        self.connections
    }

    /// Returns whether nothing is asked, because the service is broken.
    pub fn is_broken(&self) -> bool {
        self.breaker.is_half_open()
    }

    /// Returns how many questions are asked and not answered.
    fn asked(&self) -> usize {
        self.open.len() - self.waiting.len()
    }

    fn remove(&mut self, number: u32) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.places.remove(&open.question);
        self.connections -= open.connections.len();
        Some(open)
    }

    fn keep(&mut self, until: Instant, question: Question, opinion: Opinion) {
        self.kept_bytes += bytes_of(&question, &opinion);
        // After a reload the next one may lapse before the last: it stays as long.
        let until = self.kept.back().map_or(until, |(last, _)| until.max(*last));
        self.kept.push_back((until, question.clone()));
        self.places.insert(question, Place::Kept(opinion));
        while self.kept.len() > KEPT_MAX || self.kept_bytes > OPINION_BYTES_MAX {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let Some((_, question)) = self.kept.pop_front() else { return };
        if let Some(Place::Kept(opinion)) = self.places.remove(&question) {
            self.kept_bytes -= bytes_of(&question, &opinion);
        }
    }
}

fn bytes_of(question: &Question, opinion: &Opinion) -> usize {
    question.len() + opinion.bytes
}

/// How many questions are asked at once: each has a connection.
const ASKED_MAX: usize = 32;

/// How many opinions are kept, in [`OPINION_BYTES_MAX`] with their questions.
const KEPT_MAX: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::config::PassedHeaders;
    use crate::core::contract::accept::Accept;
    use crate::core::ground::id::Generation;
    use crate::core::wire::http::test_request;

    const RULES: Rules =
        Rules { window: Duration::from_secs(60), broken_for: Duration::from_secs(300) };

    fn question(path: &str) -> Question {
        let request = test_request(&format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        Question::about(&request, "http://a", PassedHeaders::default().names()).unwrap()
    }

    fn id(slot: usize) -> ConnectionId {
        ConnectionId::new(slot, Generation::from_bits(1).next())
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_millis(seconds * 1000)
    }

    /// Has a question asked, and answered at once.
    fn answer(questions: &mut Questions, now: Instant, path: &str, bytes: usize) {
        assert!(
            matches!(questions.ask(now, id(1), question(path), Lines::new()), Asked::Waits),
            "{path}"
        );
        let (number, _) = questions.poll(now, |_| true).unwrap();
        let opinion = Opinion { verdict: Ok(Accept::new()), expires_ms: None, bytes };
        let keep_for = Some(Duration::from_secs(10));
        let heard = questions.hear(now, number, Ok(&opinion), keep_for, &RULES).unwrap();
        assert_eq!(heard.connections, [id(1)]);
    }

    fn is_known(questions: &mut Questions, now: Instant, path: &str) -> bool {
        let asked = questions.ask(now, id(1), question(path), Lines::new());
        questions.retain(|_| false);
        matches!(asked, Asked::Known(_))
    }

    #[test]
    fn opinions_are_bounded_in_number_in_bytes_and_in_time() {
        let mut questions = Questions::default();
        (0..2 * KEPT_MAX).for_each(|n| answer(&mut questions, at(0), &format!("/{n}"), 300));
        assert_eq!((questions.kept.len(), questions.places.len()), (KEPT_MAX, KEPT_MAX));
        assert!(!is_known(&mut questions, at(1), "/0"), "the oldest go first");
        assert!(is_known(&mut questions, at(1), &format!("/{}", 2 * KEPT_MAX - 1)));
        (0..50).for_each(|n| answer(&mut questions, at(2), &format!("/l{n}"), 100_000));
        assert!(questions.kept_bytes <= OPINION_BYTES_MAX && questions.kept.len() <= 20);
        assert!(is_known(&mut questions, at(11), "/l49"));
        assert_eq!(questions.next_at(), Some(at(12)));
        questions.forget(at(12));
        assert_eq!((questions.kept_bytes, questions.next_at()), (0, None));
        assert_eq!(questions.kept.capacity() + questions.places.capacity(), 0, "memory goes back");
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_forgotten() {
        let mut questions = Questions::default();
        for n in 0..100 {
            questions.ask(at(0), id(n), question(&format!("/{}", n / 2)), Lines::new());
        }
        while questions.poll(at(0), |_| true).is_some() {}
        assert_eq!((questions.asked(), questions.waiting()), (32, 100));
        questions.retain(|other| other == id(99));
        assert_eq!((questions.asked(), questions.open.len(), questions.waiting()), (32, 33, 1));
        let opinion = Opinion { verdict: Err(403), expires_ms: None, bytes: 0 };
        for number in 0..32 {
            let heard = questions.hear(at(1), number, Ok(&opinion), None, &RULES).unwrap();
            assert_eq!((heard.connections.len(), heard.took), (0, Duration::from_secs(1)));
            assert!(questions.hear(at(1), number, Ok(&opinion), None, &RULES).is_none());
        }
        assert_eq!(questions.poll(at(1), |_| true).map(|(number, _)| number), Some(49));
        assert_eq!(questions.places.len(), 1);
    }
}

//! Event ids: positions in the order of everything that a server has published.

use std::fmt;
use std::str::FromStr;

/// Names an event, and with it a position in every topic: `MS-SEQ`.
///
/// `MS` is milliseconds since 1970; `SEQ` is 65536 times a count within the millisecond, plus a
/// random number of the process that issued the id. Ids are ordered by `MS`, then `SEQ`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId {
    ms: u64,
    seq: u64,
}

impl EventId {
    /// The position before everything: `0-0`. No event bears it.
    pub const ZERO: EventId = EventId { ms: 0, seq: 0 };

    /// Makes an id of its two numbers.
    pub const fn new(ms: u64, seq: u64) -> EventId {
        EventId { ms, seq }
    }

    /// Returns the milliseconds since 1970.
    pub const fn ms(self) -> u64 {
        self.ms
    }

    /// Returns the number within the millisecond.
    pub const fn seq(self) -> u64 {
        self.seq
    }

    /// Returns the number of the process that issued the id.
    pub const fn process(self) -> u16 {
        self.seq as u16
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

impl FromStr for EventId {
    type Err = BadId;

    fn from_str(text: &str) -> Result<EventId, BadId> {
        let (ms, seq) = text.split_once('-').ok_or(BadId)?;
        Ok(EventId { ms: number(ms)?, seq: number(seq)? })
    }
}

/// The text is not `MS-SEQ`: two decimal numbers of at most 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadId;

impl fmt::Display for BadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not an event id: MS-SEQ")
    }
}

impl std::error::Error for BadId {}

/// Issues ids, each greater than all before, also when the clock steps back or stands still.
#[derive(Debug)]
pub struct Issuer {
    first: EventId,
    last: EventId,
}

impl Issuer {
    /// Makes the issuer of the process that drew the number `process`; `unix_ms` is the clock now.
    ///
    /// It issues a first id to itself. So a client that asks for the position before anything was
    /// published gets a position of this process. The next process will not take it for its own, as
    /// it would take `0-0`.
    pub fn new(process: u16, unix_ms: u64) -> Issuer {
        // A device without a clock begins at 0, and no process may issue `0-0`.
        let first = EventId { ms: unix_ms.clamp(1, MS_MAX), seq: u64::from(process) };
        Issuer { first, last: first }
    }

    /// Issues the next id. It runs ahead of the clock if that stepped back, or if a millisecond has
    /// more than 2^32 events.
    pub fn next(&mut self, unix_ms: u64) -> EventId {
        let EventId { ms, seq } = self.last;
        let process = u64::from(self.first.process());
        self.last = if unix_ms.min(MS_MAX) > ms {
            EventId { ms: unix_ms.min(MS_MAX), seq: process }
        } else if seq + SEQ_STEP <= SEQ_MAX {
            EventId { ms, seq: seq + SEQ_STEP }
        } else {
            EventId { ms: ms + 1, seq: process }
        };
        self.last
    }

    /// Begins anew behind `last`, an id of a process before, with another number. Returns the first
    /// id, which it issues to itself.
    #[cfg(feature = "store")]
    pub fn begin_behind(&mut self, last: EventId, process: u16, unix_ms: u64) -> EventId {
        *self = Issuer::new(process, unix_ms.max(last.ms + 1));
        self.first
    }

    /// Leaves the issuing to a log, whose last id is `last`. From now on ids come by
    /// [`Issuer::take`], and [`Issuer::issued`] knows the log's number.
    pub fn follow(&mut self, last: EventId) {
        *self = Issuer { first: last, last };
    }

    /// Goes on behind `first`, from where on nothing of the log is missing. Positions before it are
    /// not good any more.
    #[cfg(feature = "cluster")]
    pub fn renew(&mut self, first: EventId) -> EventId {
        let first = first.max(self.last);
        self.follow(first);
        first
    }

    /// Takes the next id of the log. Returns whether the id is greater than all before; if not,
    /// nothing changes.
    pub fn take(&mut self, id: EventId) -> bool {
        let is_next = id > self.last;
        if is_next {
            self.last = id;
        }
        is_next
    }

    /// Issues an id for an event that is not in the log: greater than all before, and less than
    /// the next id of the log. There are 65,535 such ids between two ids of the log; then there is
    /// none until the log has issued another. Such an id does not have the log's number, so a
    /// client that resumes with it is told of a gap.
    pub fn beside(&mut self) -> Option<EventId> {
        let EventId { ms, seq } = self.last;
        let id = EventId { ms, seq: seq + 1 };
        (id.process() != self.first.process()).then(|| self.last = id)?;
        Some(id)
    }

    /// Returns the last id issued: the position of a client that has seen everything so far.
    pub fn last(&self) -> EventId {
        self.last
    }

    /// Returns whether the log has issued nothing, since it has not been reached.
    #[cfg(feature = "cluster")]
    pub fn is_to_be_renewed(&self) -> bool {
        self.first.ms == 0
    }

    /// Returns whether `id` bears the log's number and is greater than all before: another server
    /// may have taken it from the log already.
    #[cfg(feature = "cluster")]
    pub fn is_to_come(&self, id: EventId) -> bool {
        id.process() == self.first.process() && id > self.last
    }

    /// Returns whether `id` bears this process's number and lies between its first and its last id.
    pub fn issued(&self, id: EventId) -> bool {
        id.process() == self.first.process() && self.first <= id && id <= self.last
    }
}

/// Reads digits only: `u64::from_str` would take a sign.
fn number(text: &str) -> Result<u64, BadId> {
    let is_digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_digits).ok_or(BadId)
}

const SEQ_STEP: u64 = 1 << 16;
/// The count within a millisecond has 32 bits: `SEQ` is exact as a JavaScript number too.
const SEQ_MAX: u64 = (1 << 48) - 1;
const MS_MAX: u64 = 1 << 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_two_numbers_is_no_id() {
        for text in ["0-0", "1712345678901-65543", "18446744073709551615-18446744073709551615"] {
            assert_eq!(text.parse::<EventId>().unwrap().to_string(), text);
        }
        for text in ["", "-", "1", "1-", "-1", "+1-2", "1-+2", "1-2-3", " 1-2", "1-2 ", "a-b"] {
            assert_eq!(text.parse::<EventId>(), Err(BadId), "{text:?}");
        }
        assert_eq!("18446744073709551616-0".parse::<EventId>(), Err(BadId));
        assert_eq!("\u{0661}-1".parse::<EventId>(), Err(BadId));
    }

    #[test]
    fn ids_increase_whatever_the_clock_does() {
        let mut issuer = Issuer::new(7, 1000);
        let clock = [1000, 1000, 1001, 900, 0, 1001, 1002, u64::MAX, u64::MAX, 5];
        let mut last = issuer.last();
        for unix_ms in clock {
            let id = issuer.next(unix_ms);
            assert!(id > last, "{id} after {last}");
            assert_eq!(id.process(), 7);
            last = id;
        }
    }

    #[test]
    fn a_full_millisecond_borrows_from_the_next() {
        let mut issuer = Issuer::new(65535, 1000);
        issuer.last = EventId::new(1000, SEQ_MAX);
        assert_eq!(issuer.next(1000), EventId::new(1001, 65535));
        assert_eq!(issuer.next(1001), EventId::new(1001, 2 * 65536 - 1));
        issuer.last = EventId::new(MS_MAX, SEQ_MAX);
        assert_eq!(issuer.next(u64::MAX), EventId::new(MS_MAX + 1, 65535));
        assert_eq!(issuer.next(u64::MAX), EventId::new(MS_MAX + 1, 2 * 65536 - 1));
    }

    #[test]
    fn a_process_knows_its_own_ids() {
        let mut issuer = Issuer::new(7, 1000);
        let born = issuer.last();
        issuer.next(2000);
        let cases = [
            (born, true),
            (EventId::new(2000, 7), true),
            (EventId::new(1500, 7 + 65536), true),
            (EventId::new(2000, 8), false),
            (EventId::new(2000, 7 + 65536), false),
            (EventId::new(999, 7), false),
            (EventId::ZERO, false),
        ];
        for (id, issued) in cases {
            assert_eq!(issuer.issued(id), issued, "{id}");
        }
    }

    #[test]
    fn what_is_issued_beside_a_log_comes_before_its_next_id() {
        for number in [0, 7, 65535] {
            let mut issuer = Issuer::new(3, 500);
            issuer.follow(EventId::new(1000, number));
            assert_eq!(issuer.last(), EventId::new(1000, number));
            let next = EventId::new(1000, number + SEQ_STEP);
            for _ in 1..SEQ_STEP {
                let before = issuer.last();
                let id = issuer.beside().unwrap();
                assert!(before < id && id < next, "{id}");
                assert!(!issuer.issued(id));
            }
            assert_eq!(issuer.beside(), None, "the next one is the log's");
            assert!(issuer.take(next) && issuer.issued(next));
            assert!(!issuer.take(next), "it is not greater");
            assert!(issuer.beside().is_some());
        }
    }

    #[test]
    fn without_a_clock_no_id_is_zero() {
        let mut issuer = Issuer::new(0, 0);
        assert!(issuer.last() > EventId::ZERO);
        assert!(issuer.next(0) > issuer.first);
    }
}

//! The names of what is kept in Redis, and its ids.

use std::fmt;
use std::str::FromStr;

use crate::core::topics::EventId;

/// The keys of one cluster. They are in one slot, where Redis has several.
#[derive(Clone, Debug)]
pub struct Keys {
    /// The stream.
    pub log: String,
    /// The hash that says which epoch the stream is in.
    pub epoch: String,
    /// The hash of the servers that share the log.
    pub nodes: String,
    prefix: String,
}

impl Keys {
    /// Makes the keys of the cluster with this name.
    pub fn new(name: &str) -> Keys {
        let prefix = format!("hw:{{{name}}}:");
        Keys {
            log: format!("{prefix}log"),
            epoch: format!("{prefix}epoch"),
            nodes: format!("{prefix}nodes"),
            prefix,
        }
    }

    /// Returns the key by which a server claims its name.
    pub fn claim(&self, node: &str) -> String {
        format!("{}claim:{node}", self.prefix)
    }

    /// Returns the key of who is on the topics of a server.
    #[cfg(feature = "presence")]
    pub fn node(&self, node: &str) -> String {
        format!("{}node:{node}", self.prefix)
    }

    /// Returns the key of the versions of these.
    #[cfg(feature = "presence")]
    pub fn people(&self) -> String {
        format!("{}people", self.prefix)
    }

    /// Returns the key of what a producer has published lately.
    pub fn producer(&self, producer: &[u8]) -> Vec<u8> {
        [self.prefix.as_bytes(), b"p:", producer].concat()
    }
}

/// The id of an entry of a stream: `MS-N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RedisId {
    /// Milliseconds since 1970, by the clock of Redis.
    pub ms: u64,
    /// The number within the millisecond.
    pub n: u64,
}

impl RedisId {
    /// Returns the event's id in an epoch; `None` if Redis has not issued this one by its clock.
    pub fn event(self, epoch: u16) -> Option<EventId> {
        let is_good = self.ms <= MS_MAX && self.n <= N_MAX;
        is_good.then(|| EventId::new(self.ms, self.n << 16 | u64::from(epoch)))
    }

    /// Returns the greatest id before this one.
    pub fn before(self) -> RedisId {
        match self.n.checked_sub(1) {
            Some(n) => RedisId { ms: self.ms, n },
            None => RedisId { ms: self.ms.saturating_sub(1), n: N_MAX },
        }
    }
}

impl FromStr for RedisId {
    type Err = ();

    fn from_str(text: &str) -> Result<RedisId, ()> {
        let id: EventId = text.parse().map_err(|_| ())?;
        Ok(RedisId { ms: id.ms(), n: id.seq() })
    }
}

impl fmt::Display for RedisId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.n)
    }
}

/// `SEQ` of an event has 48 bits, of which 16 are the epoch's.
const N_MAX: u64 = (1 << 32) - 1;
const MS_MAX: u64 = 1 << 52;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_order_and_bear_the_epoch() {
        let ids = ["0-1", "5-0", "5-1", "5-4294967295", "6-0"];
        let ids = ids.map(|text| text.parse::<RedisId>().unwrap());
        assert!(ids.is_sorted());
        let events = ids.map(|id| id.event(9).unwrap());
        assert!(events.is_sorted() && events.iter().all(|id| id.process() == 9));
        assert_eq!(events[2].to_string(), "5-65545");
        assert_eq!((ids[2].before(), ids[4].before()), (ids[1], ids[3]));
        assert_eq!(RedisId::default().before(), RedisId { ms: 0, n: N_MAX });
        for odd in ["4503599627370497-0", "5-4294967296"] {
            assert_eq!(odd.parse::<RedisId>().unwrap().event(9), None, "{odd}");
        }
        for text in ["", "5", "5-", "-1-0", "+5-0", "a-b"] {
            assert!(text.parse::<RedisId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn all_keys_of_a_cluster_are_in_one_slot() {
        let keys = Keys::new("plant");
        assert_eq!((&*keys.log, &*keys.epoch), ("hw:{plant}:log", "hw:{plant}:epoch"));
        assert_eq!(keys.claim("a"), "hw:{plant}:claim:a");
        assert_eq!(keys.producer(b"n:1"), b"hw:{plant}:p:n:1");
    }
}

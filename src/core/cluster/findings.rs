//! What a server finds out about the log when it has connected: whether it is the log that it knew.

use super::{Reason, RedisId, Seen};
use crate::core::wire::resp::Value;

/// What Redis says of itself and of the log, all at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Findings {
    /// Names the history of this Redis's data: another one means that what was written last may
    /// be lost.
    pub replication_id: String,
    /// The epoch; `None` if there is none.
    pub epoch: Option<Epoch>,
    /// There is a stream.
    pub has_stream: bool,
}

/// The epoch that the log is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Epoch {
    /// Its number.
    pub number: u16,
    /// How many events it has had.
    pub count: u64,
    /// The id of the entry that it began with.
    pub first: RedisId,
    /// The id of its last event, or of that entry.
    pub last: RedisId,
    /// The replication id that it began with.
    pub replication_id: String,
}

/// What follows from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing is missing but what the reader sees for itself.
    Good,
    /// The last events were trimmed before they were read here: the reader goes on behind them.
    Skip(RedisId),
    /// Events may be lost: a new epoch is to be begun, if the log is still in this one.
    Begin {
        /// The number of the epoch, as text; nothing if there is none.
        before: String,
        /// Why.
        reason: Reason,
    },
}

impl Findings {
    /// Reads the answer of [`LOOK`](super::LOOK).
    ///
    /// # Errors
    ///
    /// A sentence: this is no Redis to go by, or not now.
    pub fn read(answer: &Value) -> Result<Findings, String> {
        let Some([number, replication, count, first, last, stream, info]) = answer.list() else {
            return Err("an answer that the script does not give".into());
        };
        let info = info.text().ok_or("no INFO")?;
        let line = |name: &str| {
            let value = info.lines().find_map(|line| line.strip_prefix(name));
            value.map(str::trim)
        };
        match line("role:") {
            Some("master") => {}
            Some(role) => return Err(format!("it is a {role}, no master")),
            None => return Err("INFO says no role".into()),
        }
        let replication_id = line("master_replid:").ok_or("INFO says no replication id")?;
        Ok(Findings {
            replication_id: replication_id.into(),
            epoch: read_epoch([number, replication, count, first, last]),
            has_stream: *stream != Value::Number(0),
        })
    }

    /// Judges whether the log has lost something since `seen`; without it, whether it may have lost
    /// something that others have seen. A reader `is_stuck` if it was given nothing though the log
    /// had more.
    pub fn judge(&self, seen: Option<&Seen>, is_stuck: bool) -> Verdict {
        let begin = |before: String, reason| Verdict::Begin { before, reason };
        let Some(epoch) = &self.epoch else { return begin(String::new(), Reason::Flushed) };
        let begin = |reason| begin(epoch.number.to_string(), reason);
        if epoch.replication_id != self.replication_id {
            return begin(Reason::Failover);
        }
        if !self.has_stream {
            return begin(Reason::Flushed);
        }
        let Some(seen) = seen else { return Verdict::Good };
        if seen.epoch != epoch.number {
            // The entry that began it is behind what was read: it would never be read.
            let is_unreadable = epoch.first <= seen.id || (is_stuck && epoch.last <= seen.id);
            return if is_unreadable { begin(Reason::Behind) } else { Verdict::Good };
        }
        if seen.count.is_some_and(|count| count > epoch.count) {
            return begin(Reason::Behind);
        }
        match is_stuck && self.has_more_than(seen) {
            true if epoch.last <= seen.id => begin(Reason::Behind),
            true => Verdict::Skip(epoch.last),
            false => Verdict::Good,
        }
    }

    /// Returns whether the log has had events that were not seen.
    pub fn has_more_than(&self, seen: &Seen) -> bool {
        self.epoch.as_ref().is_some_and(|epoch| {
            let is_more = seen.count.is_some_and(|count| count < epoch.count);
            epoch.number != seen.epoch || is_more
        })
    }
}

fn read_epoch([number, replication_id, count, first, last]: [&Value; 5]) -> Option<Epoch> {
    Some(Epoch {
        number: number.text()?.parse().ok()?,
        replication_id: replication_id.text()?.into(),
        count: count.text()?.parse().ok()?,
        first: first.text()?.parse().ok()?,
        last: last.text()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &str) -> Value {
        Value::Bytes(text.as_bytes().to_vec())
    }

    fn id(ms: u64) -> RedisId {
        RedisId { ms, n: 0 }
    }

    fn found(number: u16, count: u64, last: u64) -> Findings {
        let replication_id = "r1".to_owned();
        Findings {
            replication_id: replication_id.clone(),
            epoch: Some(Epoch { number, count, first: id(100), last: id(last), replication_id }),
            has_stream: true,
        }
    }

    fn seen(epoch: u16, count: u64, last: u64) -> Seen {
        Seen { id: id(last), epoch, count: Some(count) }
    }

    fn begins(verdict: &Verdict) -> Option<Reason> {
        match verdict {
            Verdict::Begin { reason, .. } => Some(*reason),
            Verdict::Good | Verdict::Skip(_) => None,
        }
    }

    #[test]
    fn what_is_as_it_was_is_good() {
        for is_stuck in [false, true] {
            let same = found(7, 3, 150).judge(Some(&seen(7, 3, 150)), is_stuck);
            assert_eq!(same, Verdict::Good);
            // An entry of somebody else's was read behind it.
            let same = found(7, 3, 150).judge(Some(&seen(7, 3, 160)), is_stuck);
            assert_eq!(same, Verdict::Good);
        }
        assert_eq!(found(7, 3, 150).judge(None, false), Verdict::Good);
        let (more, before) = (found(7, 9, 190), seen(7, 3, 150));
        assert_eq!(more.judge(Some(&before), false), Verdict::Good);
        assert!(more.has_more_than(&before) && !more.has_more_than(&seen(7, 9, 190)));
    }

    // FAULTS 280: the entry that the reader saw last is there, and all the same events are lost.
    #[test]
    fn another_replication_id_is_a_loss_though_nothing_else_tells() {
        let mut promoted = found(7, 6, 190);
        promoted.replication_id = "r2".into();
        for seen in [None, Some(seen(7, 3, 150))] {
            let verdict = promoted.judge(seen.as_ref(), false);
            let before = "7".to_owned();
            assert_eq!(verdict, Verdict::Begin { before, reason: Reason::Failover });
        }
    }

    // FAULTS 281.
    #[test]
    fn a_log_that_is_behind_what_was_read_is_a_loss() {
        let behind = Some(Reason::Behind);
        assert_eq!(begins(&found(7, 2, 150).judge(Some(&seen(7, 3, 150)), false)), behind);
        // Begun anew by another server that did not know how far this one had come.
        assert_eq!(begins(&found(8, 2, 150).judge(Some(&seen(7, 3, 120)), false)), behind);
        assert_eq!(begins(&found(8, 2, 150).judge(Some(&seen(7, 3, 99)), false)), None);
        // Its stream began anew while the clock was set back.
        assert_eq!(begins(&found(7, 5, 140).judge(Some(&seen(7, 3, 150)), true)), behind);
    }

    #[test]
    fn what_is_flushed_begins_anew() {
        let flushed = Some(Reason::Flushed);
        let nothing = Findings { epoch: None, ..found(7, 3, 150) };
        assert_eq!(begins(&nothing.judge(Some(&seen(7, 3, 150)), false)), flushed);
        assert_eq!(begins(&nothing.judge(None, false)), flushed);
        let no_stream = Findings { has_stream: false, ..found(7, 3, 150) };
        assert_eq!(begins(&no_stream.judge(None, false)), flushed);
    }

    #[test]
    fn events_that_were_trimmed_before_they_were_read_are_skipped() {
        let trimmed = found(7, 9, 190);
        assert_eq!(trimmed.judge(Some(&seen(7, 3, 150)), false), Verdict::Good, "it may be read");
        assert_eq!(trimmed.judge(Some(&seen(7, 3, 150)), true), Verdict::Skip(id(190)));
    }

    #[test]
    fn answers_are_read_and_odd_ones_refused() {
        let info = bytes("# Replication\r\nrole:master\r\nmaster_replid:abc\r\n");
        let epoch = ["7", "abc", "3", "100-0", "150-2"].map(bytes);
        let answer = [epoch.to_vec(), vec![Value::Number(1), info]].concat();
        let found = Findings::read(&Value::List(answer.clone())).unwrap();
        let epoch = found.epoch.as_ref().unwrap();
        assert_eq!((epoch.count, epoch.last), (3, RedisId { ms: 150, n: 2 }));
        assert!(found.has_stream && found.replication_id == "abc");
        let replica = bytes("role:slave\r\nmaster_replid:abc\r\n");
        for odd in [replica, bytes("role:master\r\n"), Value::Nil, Value::Huge(9)] {
            let mut answer = answer.clone();
            answer[6] = odd.clone();
            assert!(Findings::read(&Value::List(answer)).is_err(), "{odd:?}");
        }
        for odd in [Value::Nil, Value::List(answer[1..].to_vec()), bytes("x")] {
            assert!(Findings::read(&odd).is_err(), "{odd:?}");
        }
        let mut fresh = answer;
        fresh[..5].fill(Value::Nil);
        let found = Findings::read(&Value::List(fresh)).unwrap();
        assert_eq!(found.epoch, None);
    }
}

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
    /// The last id of the stream; `None` if there is no stream.
    pub last: Option<RedisId>,
    /// Something in the stream is behind what was seen last.
    pub has_more: bool,
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
        let Some([number, replication, count, first, last, more, info]) = answer.list() else {
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
            epoch: read_epoch([number, replication, count, first]),
            last: last.text().and_then(|id| id.parse().ok()),
            has_more: *more != Value::Number(0),
        })
    }

    /// Judges whether the log has lost something since `seen`; without it, whether it may have lost
    /// something that others have seen.
    pub fn judge(&self, seen: Option<&Seen>) -> Verdict {
        let begin = |before: String, reason| Verdict::Begin { before, reason };
        let Some(epoch) = &self.epoch else { return begin(String::new(), Reason::Flushed) };
        let begin = |reason| begin(epoch.number.to_string(), reason);
        if epoch.replication_id != self.replication_id {
            return begin(Reason::Failover);
        }
        let Some(last) = self.last.filter(|last| *last >= epoch.first) else {
            return begin(Reason::Flushed);
        };
        let Some(seen) = seen else { return Verdict::Good };
        let is_same = seen.epoch == epoch.number;
        if last < seen.id || (is_same && seen.count.is_some_and(|count| count > epoch.count)) {
            return begin(Reason::Behind);
        }
        // The entry that began it is behind what was read: it would never be read.
        if !is_same && epoch.first <= seen.id {
            return begin(Reason::Behind);
        }
        let is_trimmed = seen.count.is_some_and(|count| count < epoch.count) && !self.has_more;
        match is_same && is_trimmed {
            true => Verdict::Skip(last),
            false => Verdict::Good,
        }
    }
}

fn read_epoch([number, replication_id, count, first]: [&Value; 4]) -> Option<Epoch> {
    Some(Epoch {
        number: number.text()?.parse().ok()?,
        replication_id: replication_id.text()?.into(),
        count: count.text()?.parse().ok()?,
        first: first.text()?.parse().ok()?,
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
            epoch: Some(Epoch { number, count, first: id(100), replication_id }),
            last: Some(id(last)),
            has_more: false,
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
        assert_eq!(found(7, 3, 150).judge(Some(&seen(7, 3, 150))), Verdict::Good);
        assert_eq!(found(7, 3, 150).judge(None), Verdict::Good);
        let more = Findings { has_more: true, ..found(7, 9, 190) };
        assert_eq!(more.judge(Some(&seen(7, 3, 150))), Verdict::Good);
    }

    // FAULTS 280: the entry that the reader saw last is there, and all the same events are lost.
    #[test]
    fn another_replication_id_is_a_loss_though_nothing_else_tells() {
        let mut promoted = Findings { has_more: true, ..found(7, 6, 190) };
        promoted.replication_id = "r2".into();
        for seen in [None, Some(seen(7, 3, 150))] {
            let verdict = promoted.judge(seen.as_ref());
            let before = "7".to_owned();
            assert_eq!(verdict, Verdict::Begin { before, reason: Reason::Failover });
        }
    }

    #[test]
    fn a_log_that_is_behind_what_was_read_is_a_loss() {
        let behind = Some(Reason::Behind);
        assert_eq!(begins(&found(7, 3, 150).judge(Some(&seen(7, 3, 151)))), behind);
        assert_eq!(begins(&found(7, 2, 150).judge(Some(&seen(7, 3, 150)))), behind);
        // Begun anew by another server that did not know how far this one had come.
        assert_eq!(begins(&found(8, 2, 150).judge(Some(&seen(7, 3, 120)))), behind);
        let next = Findings { has_more: true, ..found(8, 2, 150) };
        assert_eq!(next.judge(Some(&seen(7, 3, 99))), Verdict::Good, "its beginning will be read");
    }

    #[test]
    fn what_is_flushed_begins_anew() {
        let flushed = Some(Reason::Flushed);
        let nothing = Findings { epoch: None, last: None, ..found(7, 3, 150) };
        assert_eq!(begins(&nothing.judge(Some(&seen(7, 3, 150)))), flushed);
        assert_eq!(begins(&nothing.judge(None)), flushed);
        let no_stream = Findings { last: None, ..found(7, 3, 150) };
        assert_eq!(begins(&no_stream.judge(None)), flushed);
        assert_eq!(begins(&found(7, 3, 99).judge(None)), flushed);
    }

    #[test]
    fn events_that_were_trimmed_before_they_were_read_are_skipped() {
        let trimmed = found(7, 9, 190);
        assert_eq!(trimmed.judge(Some(&seen(7, 3, 150))), Verdict::Skip(id(190)));
    }

    #[test]
    fn answers_are_read_and_odd_ones_refused() {
        let info = bytes("# Replication\r\nrole:master\r\nmaster_replid:abc\r\n");
        let epoch = ["7", "abc", "3", "100-0", "150-2"].map(bytes);
        let answer = [epoch.to_vec(), vec![Value::Number(0), info]].concat();
        let found = Findings::read(&Value::List(answer.clone())).unwrap();
        assert_eq!(found.last, Some(RedisId { ms: 150, n: 2 }));
        assert_eq!(found.epoch.as_ref().unwrap().count, 3);
        assert!(!found.has_more && found.replication_id == "abc");
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
        assert_eq!((found.epoch, found.last), (None, None));
    }
}

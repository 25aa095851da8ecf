//! A model of Redis, as far as nodes use it: one stream, trimmed as Redis trims, the scripts, which
//! are known by their text, and what a replica has of all that. Answers are written as Redis writes
//! them.

use std::collections::{BTreeMap, VecDeque};
use std::rc::Rc;

use heartwheel::core::cluster::{
    BEGIN_EPOCH, CLAIM, JOIN, LOOK, NEXT_ID, PUBLISH, REGISTER, RELEASE, RedisId,
};

/// What EVALSHA calls the script of publications by.
pub const SCRIPT: &str = "a3f1c0ffee0000000000000000000000000000aa";

#[derive(Clone)]
pub struct Redis {
    pub unix_ms: u64,
    pub replication_id: String,
    epoch: Option<Epoch>,
    log: VecDeque<Entry>,
    last: RedisId,
    has_stream: bool,
    /// What producers have published lately.
    known: BTreeMap<Vec<u8>, Known>,
    claims: BTreeMap<String, (String, u64)>,
    nodes: BTreeMap<String, (u64, String)>,
    has_script: bool,
    /// Publications that were taken since they were last asked for.
    pub taken: Vec<Taken>,
}

#[derive(Clone)]
struct Epoch {
    number: String,
    count: u64,
    replication_id: String,
    first: RedisId,
    last: RedisId,
}

#[derive(Clone)]
struct Known {
    until_ms: u64,
    all: VecDeque<(String, RedisId, String)>,
}

#[derive(Clone)]
struct Entry {
    id: RedisId,
    place: String,
    bytes: usize,
    /// As it stands in an answer.
    text: Rc<[u8]>,
}

/// A publication that the log has taken.
#[derive(Clone)]
pub struct Taken {
    pub id: RedisId,
    pub epoch: u16,
    pub topic: String,
    pub data: String,
}

impl Redis {
    pub fn new(unix_ms: u64) -> Redis {
        Redis {
            unix_ms,
            replication_id: "first".into(),
            epoch: None,
            log: VecDeque::new(),
            last: RedisId::default(),
            has_stream: false,
            known: BTreeMap::new(),
            claims: BTreeMap::new(),
            nodes: BTreeMap::new(),
            has_script: false,
            taken: Vec::new(),
        }
    }

    /// Becomes the master, with what it has.
    pub fn promote(&mut self, name: &str) {
        self.replication_id = name.into();
        self.has_script = false;
    }

    /// Gives the last id, with its epoch.
    pub fn last(&self) -> RedisId {
        self.last
    }

    pub fn entries(&self) -> usize {
        self.log.len()
    }

    /// Does a command, and writes its answer.
    pub fn command(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) {
        let text = |place: usize| str::from_utf8(parts[place]).expect("it is text");
        match text(0) {
            "SCRIPT" => {
                self.has_script = true;
                bulk(out, SCRIPT.as_bytes());
            }
            "EVALSHA" if !self.has_script => {
                out.extend_from_slice(b"-NOSCRIPT No matching script.\r\n");
            }
            "EVALSHA" => {
                assert_eq!(text(1), SCRIPT);
                self.publish(&parts[3..], out);
            }
            "EVAL" => {
                let keys: usize = text(2).parse().expect("a number");
                let rest: Vec<&str> = (3 + keys..parts.len()).map(text).collect();
                self.eval(text(1), text(3), &rest, out);
            }
            other => panic!("nodes do not ask {other}"),
        }
    }

    fn eval(&mut self, script: &str, key: &str, words: &[&str], out: &mut Vec<u8>) {
        match script {
            LOOK => self.look(out),
            BEGIN_EPOCH => self.begin_epoch(words, out),
            JOIN => self.join(words, out),
            CLAIM => {
                let now = self.unix_ms;
                let holder = self.claims.get(key).filter(|(_, until)| *until > now);
                match holder.filter(|(process, _)| process != words[0]) {
                    Some((_, until)) => {
                        out.extend_from_slice(
                            format!("*2\r\n:0\r\n:{}\r\n", until - now).as_bytes(),
                        );
                    }
                    None => {
                        let span: u64 = words[1].parse().unwrap();
                        self.claims.insert(key.into(), (words[0].into(), now + span));
                        out.extend_from_slice(b"*1\r\n:1\r\n");
                    }
                }
            }
            RELEASE => {
                self.claims.remove(key);
                self.nodes.remove(words[1]);
                out.extend_from_slice(b":1\r\n");
            }
            REGISTER => {
                self.nodes.insert(words[0].into(), (self.unix_ms, words[1].into()));
                let now = self.unix_ms;
                self.nodes.retain(|_, (at, _)| now - *at <= 30_000);
                out.extend_from_slice(format!("*{}\r\n", 3 * self.nodes.len()).as_bytes());
                for (name, (at, said)) in &self.nodes {
                    bulk(out, name.as_bytes());
                    out.extend_from_slice(format!(":{}\r\n", now - at).as_bytes());
                    bulk(out, said.as_bytes());
                }
            }
            NEXT_ID => {
                let after: RedisId = words[0].parse().unwrap();
                match self.log.iter().find(|entry| entry.id > after) {
                    Some(entry) => bulk(out, entry.id.to_string().as_bytes()),
                    None => out.extend_from_slice(b"$-1\r\n"),
                }
            }
            _ => panic!("a script that is not known"),
        }
    }

    fn look(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"*7\r\n");
        match &self.epoch {
            Some(epoch) => {
                bulk(out, epoch.number.as_bytes());
                bulk(out, epoch.replication_id.as_bytes());
                bulk(out, epoch.count.to_string().as_bytes());
                bulk(out, epoch.first.to_string().as_bytes());
                bulk(out, epoch.last.to_string().as_bytes());
            }
            None => out.extend_from_slice(&b"$-1\r\n".repeat(5)),
        }
        out.extend_from_slice(format!(":{}\r\n", u8::from(self.has_stream)).as_bytes());
        // As long as what Redis 7 says.
        let info =
            format!("# Replication\r\nrole:master\r\nconnected_slaves:1\r\n{}", "x".repeat(250));
        let info = format!("{info}\r\nmaster_replid:{}\r\n", self.replication_id);
        bulk(out, info.as_bytes());
    }

    fn begin_epoch(&mut self, words: &[&str], out: &mut Vec<u8>) {
        let [before, number, replication_id, last_ms, reason] = words else { panic!("{words:?}") };
        let now = self.epoch.as_ref().map_or("", |epoch| &epoch.number);
        if now != *before {
            return out.extend_from_slice(b"*1\r\n:0\r\n");
        }
        let ms = self.unix_ms.max(last_ms.parse().unwrap()).max(self.last.ms) + 1;
        let id = RedisId { ms, n: 0 };
        self.add(id, &[("s", format!("{number}-0").as_bytes()), ("b", reason.as_bytes())]);
        self.epoch = Some(Epoch {
            number: (*number).into(),
            count: 0,
            replication_id: (*replication_id).into(),
            first: id,
            last: id,
        });
        out.extend_from_slice(b"*2\r\n:1\r\n");
        bulk(out, id.to_string().as_bytes());
    }

    fn join(&self, words: &[&str], out: &mut Vec<u8>) {
        let first: RedisId = words[0].parse().unwrap();
        let most: Vec<usize> = words[2..].iter().map(|word| word.parse().unwrap()).collect();
        let mark = format!("{}-", words[1]);
        let (mut found, mut bytes) = (None, 0);
        for (count, entry) in self.log.iter().rev().enumerate() {
            if entry.id < first || count >= most[0] || bytes >= most[1] {
                break;
            }
            bytes += entry.bytes;
            if entry.place.starts_with(&mark) {
                found = Some(entry);
            }
        }
        match found {
            Some(entry) => {
                out.extend_from_slice(b"*2\r\n");
                bulk(out, entry.id.to_string().as_bytes());
                bulk(out, entry.place.as_bytes());
            }
            None => out.extend_from_slice(b"*2\r\n$-1\r\n$-1\r\n"),
        }
    }

    /// Keys: epoch, log, producer. See [`PUBLISH`].
    fn publish(&mut self, parts: &[&[u8]], out: &mut Vec<u8>) {
        debug_assert!(PUBLISH.contains("KEYS[3]"));
        let text = |place: usize| str::from_utf8(parts[place]).expect("it is text");
        let now = self.unix_ms;
        let Some(epoch) = self.epoch.as_mut().filter(|epoch| epoch.number == text(3)) else {
            return out.extend_from_slice(b"*1\r\n:0\r\n");
        };
        let mark = format!("{} {}", text(4), text(5));
        let producer = parts[2].to_vec();
        let none = Known { until_ms: 0, all: VecDeque::new() };
        let known = self.known.entry(producer).or_insert(none);
        if known.until_ms <= now {
            known.all.clear();
        }
        if let Some((_, id, of)) = known.all.iter().find(|(one, ..)| *one == mark) {
            out.extend_from_slice(b"*3\r\n:2\r\n");
            bulk(out, id.to_string().as_bytes());
            return bulk(out, of.as_bytes());
        }
        epoch.count += 1;
        let place = format!("{}-{}", epoch.number, epoch.count);
        let id = match self.last.ms < now {
            true => RedisId { ms: now, n: 0 },
            false => RedisId { ms: self.last.ms, n: self.last.n + 1 },
        };
        epoch.last = id;
        if known.all.len() == 64 {
            known.all.pop_front();
        }
        known.all.push_back((mark, id, epoch.number.clone()));
        known.until_ms = now + text(7).parse::<u64>().unwrap();
        self.taken.push(Taken {
            id,
            epoch: epoch.number.parse().unwrap(),
            topic: text(9).into(),
            data: text(11).into(),
        });
        let retain: usize = text(6).parse().unwrap();
        let fields = [
            ("s", place.as_bytes()),
            ("o", parts[8]),
            ("t", parts[9]),
            ("k", parts[10]),
            ("d", parts[11]),
        ];
        self.add(id, &fields);
        // In whole nodes of the tree.
        while self.log.len() >= retain + 100 {
            self.log.drain(..100);
        }
        out.extend_from_slice(b"*2\r\n:1\r\n");
        bulk(out, id.to_string().as_bytes());
    }

    fn add(&mut self, id: RedisId, fields: &[(&str, &[u8])]) {
        let mut text = b"*2\r\n".to_vec();
        bulk(&mut text, id.to_string().as_bytes());
        text.extend_from_slice(format!("*{}\r\n", 2 * fields.len()).as_bytes());
        for (name, value) in fields {
            bulk(&mut text, name.as_bytes());
            bulk(&mut text, value);
        }
        let bytes = fields.iter().map(|(_, value)| value.len()).sum();
        let place = String::from_utf8(fields[0].1.to_vec()).expect("it is text");
        self.log.push_back(Entry { id, place, bytes, text: text.into() });
        (self.last, self.has_stream) = (id, true);
    }

    /// Answers XREAD with up to `count` entries behind `after`. Returns how many there are; without
    /// any it waits, and has written nothing.
    pub fn read(&self, after: RedisId, count: usize, out: &mut Vec<u8>) -> usize {
        let from = self.log.partition_point(|entry| entry.id <= after);
        let entries = self.log.range(from..).take(count);
        let found = entries.len();
        if found > 0 {
            out.extend_from_slice(b"*1\r\n*2\r\n$19\r\nhw:{heartwheel}:log\r\n");
            out.extend_from_slice(format!("*{found}\r\n").as_bytes());
            entries.for_each(|entry| out.extend_from_slice(&entry.text));
        }
        found
    }
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(format!("${}\r\n", bytes.len()).as_bytes());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

//! What Redis runs at once: publishing, the beginning of an epoch, and the claim of a name.

use super::RedisId;
use crate::core::contract::backbone::{Node, Publication, Ticket};
use crate::core::ground::identity::Author;
use crate::core::topics::{Content, Payload};
use crate::core::wire::resp::Value;

/// Publishes.
///
/// Keys: epoch, log, producer. Arguments: epoch, number, hash, events to retain, milliseconds for
/// which an idle producer is known, origin, topic, kind, payload, and perhaps a trace context.
///
/// Of each publication of a producer is kept what it is known by, and the id and the epoch that it
/// got: `;NUMBER HASH ID/EPOCH`. One that was kept without its epoch is answered without.
pub const PUBLISH: &str = "\
local epoch = redis.call('HMGET', KEYS[1], 'e', 's')
if epoch[1] ~= ARGV[1] then return {0} end
local mark = ';' .. ARGV[2] .. ' ' .. ARGV[3] .. ' '
local known = redis.call('GET', KEYS[3]) or ''
local at, till = string.find(known, mark, 1, true)
if at then return {2, string.match(known, '^([%d-]+)/?(%d*)', till + 1)} end
local count = string.format('%.0f', (tonumber(epoch[2]) or 0) + 1)
local s, id = epoch[1] .. '-' .. count
if ARGV[10] then
  id = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 's', s, 'o', ARGV[6], \
't', ARGV[7], 'k', ARGV[8], 'd', ARGV[9], 'w', ARGV[10])
else
  id = redis.call('XADD', KEYS[2], 'MAXLEN', '~', ARGV[4], '*', 's', s, 'o', ARGV[6], \
't', ARGV[7], 'k', ARGV[8], 'd', ARGV[9])
end
redis.call('HSET', KEYS[1], 's', count, 'l', id)
local entries, from = tonumber(string.sub(known, 1, 2)) or 0, 3
if entries < 64 then entries = entries + 1 else from = string.find(known, ';', 4, true) end
known = string.format('%02d', entries) .. string.sub(known, from) .. mark .. id .. '/' .. epoch[1]
redis.call('SET', KEYS[3], known, 'PX', ARGV[5])
return {1, id}
";

/// Begins an epoch, unless another server has begun one since. Its first id is greater than all
/// that Redis knows of, and than the last millisecond that the caller knows of.
///
/// Keys: epoch, log. Arguments: the epoch before, or nothing; the new one; the replication id; the
/// last millisecond; the reason.
pub const BEGIN_EPOCH: &str = "\
local e = redis.call('HGET', KEYS[1], 'e') or ''
if e ~= ARGV[1] then return {0} end
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
ms = math.max(ms, tonumber(ARGV[4]))
if redis.call('EXISTS', KEYS[2]) == 1 then
  local info = redis.call('XINFO', 'STREAM', KEYS[2])
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then
      ms = math.max(ms, tonumber(string.match(info[i + 1], '^%d+')))
    end
  end
end
local id = string.format('%.0f-0', ms + 1)
redis.call('XADD', KEYS[2], id, 's', ARGV[2] .. '-0', 'b', ARGV[5])
redis.call('HSET', KEYS[1], 'e', ARGV[2], 's', '0', 'r', ARGV[3], 'f', id, 'l', id)
return {1, id}
";

/// Claims the name of a server, or claims it again. Keys: the claim. Arguments: the process, and
/// milliseconds. Answers 1; or 0, with the process that has it and for how long it has it still.
pub const CLAIM: &str = "\
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {0, redis.call('PTTL', KEYS[1])} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {1}
";

/// Looks at the log. It touches no entry: that may be large. Keys: epoch, log. Answers the five
/// fields of the epoch, whether there is a stream, and what Redis says of its replication.
pub const LOOK: &str = "\
local found = redis.call('HMGET', KEYS[1], 'e', 'r', 's', 'f', 'l')
found[6] = redis.call('EXISTS', KEYS[2])
found[7] = redis.call('INFO', 'replication')
return found
";

/// Gives a claim up, and leaves the registry. Keys: the claim, the servers. Arguments: the process,
/// and the name.
pub const RELEASE: &str = "\
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
  redis.call('HDEL', KEYS[2], ARGV[2])
end
return 1
";

/// Takes a server out of the list of those that tell who is on their topics, if it tells nothing
/// any more. Keys: the list, and what the server tells. Arguments: its name.
#[cfg(feature = "presence")]
pub const DROP_TELLER: &str = "\
if redis.call('EXISTS', KEYS[2]) == 1 then return 0 end
return redis.call('HDEL', KEYS[1], ARGV[1])
";

/// Says how a server does, and answers how all do: of each its name, how many milliseconds ago it
/// has said so, and what. Who has said nothing for 30 s is forgotten. Keys: the servers. Arguments:
/// the name, and what is said.
pub const REGISTER: &str = "\
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f ', now) .. ARGV[2])
redis.call('PEXPIRE', KEYS[1], 30000)
local all, found = redis.call('HGETALL', KEYS[1]), {}
for i = 1, #all, 2 do
  local at, said = string.match(all[i + 1], '^(%d+) (.*)$')
  local age = now - (tonumber(at) or 0)
  if age > 30000 or age < -30000 then
    redis.call('HDEL', KEYS[1], all[i])
  elseif #found < 3000 then
    found[#found + 1], found[#found + 2], found[#found + 3] = all[i], age, said
  end
end
return found
";

/// Returns what a server says of itself.
pub fn said_of(node: &Node) -> String {
    let Node { instance, started_ms, connections, lag_ms, is_draining, version, gaps, .. } = node;
    let drains = u8::from(*is_draining);
    format!("{instance} {started_ms} {connections} {lag_ms} {drains} {version} {gaps}")
}

/// Reads the answer of [`REGISTER`]. What cannot be read is left out.
pub fn read_nodes(answer: &Value) -> Box<[Node]> {
    let all = answer.list().unwrap_or_default().chunks_exact(3);
    let mut nodes: Vec<Node> = all.filter_map(read_node).collect();
    nodes.sort_by(|one, other| one.name.cmp(&other.name));
    nodes.into()
}

fn read_node(parts: &[Value]) -> Option<Node> {
    let Value::Number(age) = &parts[1] else { return None };
    let words: Vec<&str> = parts[2].text()?.split(' ').collect();
    // Another version of the program may say less, or more.
    let [instance, started_ms, connections, lag_ms, is_draining, rest @ ..] = &words[..] else {
        return None;
    };
    Some(Node {
        name: parts[0].text()?.into(),
        instance: (*instance).into(),
        started_ms: started_ms.parse().ok()?,
        connections: connections.parse().ok()?,
        lag_ms: lag_ms.parse().ok()?,
        is_draining: *is_draining == "1",
        version: rest.first().copied().unwrap_or_default().into(),
        gaps: rest.get(1).and_then(|gaps| gaps.parse().ok()).unwrap_or(0),
        seen_ms: u64::try_from(*age).unwrap_or(0),
    })
}

/// Finds from where on a server that joins reads: an event, and its place in its epoch, as
/// `EPOCH-COUNT`. Keys: log. Arguments: the first id of the epoch, the epoch, and how many events
/// and how many bytes are enough.
pub const JOIN: &str = "\
local from, n, bytes, oldest, place = '+', 0, 0, false, false
local mark = ARGV[2] .. '-'
while true do
  local entries = redis.call('XREVRANGE', KEYS[1], from, ARGV[1], 'COUNT', 4)
  for i = 1, #entries do
    local fields = entries[i][2]
    from = '(' .. entries[i][1]
    for j = 1, #fields, 2 do
      bytes = bytes + #fields[j + 1]
      if fields[j] == 's' and string.sub(fields[j + 1], 1, #mark) == mark then
        oldest, place = entries[i][1], fields[j + 1]
      end
    end
    n = n + 1
    if n >= tonumber(ARGV[3]) or bytes >= tonumber(ARGV[4]) then return {oldest, place} end
  end
  if #entries < 4 then return {oldest, place} end
end
";

/// Returns the id of the entry behind another. Keys: log. Arguments: the other's id.
pub const NEXT_ID: &str = "\
local entries = redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1)
return entries[1] and entries[1][1]
";

/// By what a publication is found again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    /// A client that may publish it again on another server, or this process.
    pub name: Vec<u8>,
    /// The number that the producer gave it.
    pub number: i64,
}

impl Producer {
    /// Returns the producer of a publication of this process.
    pub(crate) fn of(process: &str, ticket: Ticket, known_by: Option<&(Author, i64)>) -> Producer {
        match known_by {
            Some((author, number)) => {
                Producer { name: [b"c:", author.as_str().as_bytes()].concat(), number: *number }
            }
            None => Producer {
                name: [b"n:", process.as_bytes()].concat(),
                number: ticket.as_u64() as i64,
            },
        }
    }
}

/// Returns the hash of what is published: FNV-1a, in 64 bits. It tells a number that was used again
/// from a repetition.
pub fn hash_of(topic: &str, payload: &Payload) -> u64 {
    let parts = [topic.as_bytes(), b"\0", kind_of(payload).as_bytes(), payload.as_bytes()];
    let bytes = parts.iter().flat_map(|part| part.iter());
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// Returns the arguments of [`PUBLISH`] behind the epoch.
pub fn publish_parts(
    process: &str,
    publication: &Publication,
    retain_events: u64,
) -> (Producer, Vec<Vec<u8>>) {
    let Publication { ticket, topic, content, known_by } = publication;
    let Content { payload, trace } = content;
    let producer = Producer::of(process, *ticket, known_by.as_ref());
    let mut parts = vec![
        producer.number.to_string().into_bytes(),
        format!("{:016x}", hash_of(topic, payload)).into_bytes(),
        retain_events.to_string().into_bytes(),
        PRODUCER_KNOWN_MS.to_string().into_bytes(),
        format!("{process}:{}", ticket.as_u64()).into_bytes(),
        topic.as_bytes().to_vec(),
        kind_of(payload).as_bytes().to_vec(),
        payload.as_bytes().to_vec(),
    ];
    parts.extend(trace.as_ref().map(|trace| trace.to_bytes().to_vec()));
    (producer, parts)
}

fn kind_of(payload: &Payload) -> &'static str {
    match payload {
        Payload::Text(_) => "t",
        Payload::Json(_) => "j",
        Payload::Binary(_) => "b",
    }
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is in the log, and comes back from there.
    Taken,
    /// The log has had it before, with this id, in this epoch: `None` if that was not kept.
    Repeated(RedisId, Option<u16>),
    /// The log is in another epoch.
    OtherEpoch,
    /// Redis does not know the script.
    NoScript,
    /// Redis does not take it, and will not take others here: another one is the master, or this
    /// one does not know its data yet.
    Elsewhere(String),
    /// Redis does not take it: there is no memory, or it cannot write to its disk.
    Refused(String),
}

impl Outcome {
    /// Reads the answer of [`PUBLISH`].
    pub fn read(answer: &Value) -> Outcome {
        if let Some(error) = answer.error() {
            let kind = error.split(' ').next().unwrap_or_default();
            return match kind {
                "NOSCRIPT" => Outcome::NoScript,
                "READONLY" | "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "MOVED" | "NOAUTH"
                | "UNBLOCKED" => Outcome::Elsewhere(error.into()),
                _ => Outcome::Refused(error.into()),
            };
        }
        let id = |value: Option<&Value>| value.and_then(Value::text)?.parse().ok();
        match answer.list() {
            Some([Value::Number(0), ..]) => Outcome::OtherEpoch,
            Some([Value::Number(1), ..]) => Outcome::Taken,
            Some([Value::Number(2), rest @ ..]) => match id(rest.first()) {
                Some(id) => {
                    let epoch = rest.get(1).and_then(Value::text);
                    Outcome::Repeated(id, epoch.and_then(|epoch| epoch.parse().ok()))
                }
                None => Outcome::Elsewhere("a repetition without an id".into()),
            },
            _ => Outcome::Elsewhere("an answer that the script does not give".into()),
        }
    }
}

/// For how long a producer that publishes nothing is known.
const PRODUCER_KNOWN_MS: u64 = 300_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_read() {
        let list = |values: Vec<Value>| Value::List(values);
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let error = |text: &str| Value::Error(text.into());
        for (answer, outcome) in [
            (list(vec![Value::Number(0)]), Outcome::OtherEpoch),
            (list(vec![Value::Number(1), Value::Bytes(b"5-0".to_vec())]), Outcome::Taken),
            (
                list(vec![Value::Number(2), Value::Bytes(b"5-1".to_vec())]),
                Outcome::Repeated(RedisId { ms: 5, n: 1 }, None),
            ),
            (
                list(vec![Value::Number(2), bytes("5-1"), bytes("")]),
                Outcome::Repeated(RedisId { ms: 5, n: 1 }, None),
            ),
            (
                list(vec![Value::Number(2), bytes("5-1"), bytes("9")]),
                Outcome::Repeated(RedisId { ms: 5, n: 1 }, Some(9)),
            ),
            (error("NOSCRIPT No matching script."), Outcome::NoScript),
            (error("OOM command not allowed"), Outcome::Refused("OOM command not allowed".into())),
            (error("MISCONF disk"), Outcome::Refused("MISCONF disk".into())),
            (error("READONLY replica"), Outcome::Elsewhere("READONLY replica".into())),
        ] {
            assert_eq!(Outcome::read(&answer), outcome, "{answer:?}");
        }
        for odd in [Value::Nil, Value::List(vec![]), Value::Number(1), Value::Huge(9)] {
            assert!(matches!(Outcome::read(&odd), Outcome::Elsewhere(_)), "{odd:?}");
        }
    }

    #[test]
    fn servers_are_told_as_they_have_said() {
        let node = Node {
            name: "a".into(),
            instance: "0123".into(),
            started_ms: 1_700_000_000_123,
            connections: 7,
            lag_ms: 5,
            is_draining: true,
            version: "1.2.3".into(),
            gaps: 6,
            seen_ms: 40,
        };
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        let good = [bytes("a"), Value::Number(40), bytes(&said_of(&node))];
        let odd = [bytes("b"), Value::Number(40), bytes("x 1 2 3")];
        let answer = Value::List([odd, good].concat());
        assert_eq!(*read_nodes(&answer), *std::slice::from_ref(&node));
        assert!(read_nodes(&Value::Nil).is_empty());
        for (said, version, gaps) in [
            ("0123 1 2 3 0", "", 0),
            ("0123 1 2 3 0 x", "x", 0),
            ("0123 1 2 3 0 x -1", "x", 0),
            ("0123 1 2 3 0 x 4 and more", "x", 4),
        ] {
            let answer = Value::List(vec![bytes("a"), Value::Number(1), bytes(said)]);
            let read = read_nodes(&answer);
            assert_eq!((&*read[0].version, read[0].gaps), (version, gaps), "{said}");
        }
        assert_eq!(
            node.row(2),
            concat!(
                r#"{"node":"a","instance":"0123","started_at":1700000000,"#,
                r#""connections":7,"lag_ms":5,"draining":true,"seen_ms":42,"#,
                r#""version":"1.2.3","gaps":6}"#
            )
        );
    }

    #[test]
    fn the_same_number_with_other_content_is_no_repetition() {
        let hashes = [
            hash_of("a", &Payload::text("x")),
            hash_of("a", &Payload::text("y")),
            hash_of("b", &Payload::text("x")),
            hash_of("a", &Payload::Json("x".into())),
            hash_of("a", &Payload::Binary("x".into())),
        ];
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash));
        }
        assert_eq!(hashes[0], hash_of("a", &Payload::text("x")));
    }
}

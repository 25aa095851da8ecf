//! Sessions in Redis.

use std::any::Any;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant as StdInstant};

use super::redis_ear::Ear;
use super::{Claim, Claimed, Listener, Save, Saved, SessionId, SessionStore, StoreError};
use crate::core::config::RedisUrl;
use crate::core::wire::resp::Value;
use crate::system::random_seed;
use crate::system::redis::{Link, LinkError};

/// A [`SessionStore`] in Redis, 5 or later: for several servers.
///
/// A session is a hash, `hw:{NAME}:session:` and its name, with the key as it is: who may read this
/// Redis has the sessions. It has a time to live of `sessions.ttl`, by the clock of Redis. Claims
/// and saves are scripts, each at once; numbers follow that clock, so they rise on though Redis is
/// flushed. Where a master fails and its replica lacks what was saved last, sessions are what they
/// were before; connections whose claims it lacks end with 4409 at their next save.
///
/// The connection is made when it is needed, and made again when it breaks; sentinels are asked
/// each time. Redis has two seconds to connect and two to answer. After a failure nothing is tried
/// for a tenth of a second.
///
/// A server is told by messages that another one wants a session which it holds, or has let go of
/// one that it waits for. For that each route has one more connection and a thread, from its first
/// session on, subscribed to a channel of this value, `hw:{NAME}:session-news:` and 16 digits.
/// Where Redis does not let a user publish or subscribe there, or a message is lost, a session that
/// another server holds is had after a second, as it was saved last.
pub struct RedisSessions {
    url: RedisUrl,
    prefix: String,
    /// Where this server is told what others want.
    channel: String,
    line: Mutex<Line>,
}

#[derive(Default)]
struct Line {
    link: Option<Link>,
    failed: Option<StdInstant>,
}

impl RedisSessions {
    /// Makes a store in this Redis, under the name of a cluster: 1 to 64 characters of `A-Z a-z 0-9
    /// . _ -`. `url` is as `cluster.redis` has it:
    /// `redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]`, `rediss:` over TLS, `unix:/path`,
    /// `unix://USER:PASSWORD@/path`, `sentinel://HOST[:PORT],HOST[:PORT]/NAME`, or `sentinels:`
    /// over TLS. It does not connect yet.
    ///
    /// # Errors
    ///
    /// If the URL or the name is none; no password is in the error.
    pub fn new(url: &str, name: &str) -> Result<RedisSessions, StoreError> {
        let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if !(1..=64).contains(&name.len()) || !name.chars().all(is_good) {
            return Err(StoreError::new("a cluster's name is 1 to 64 of A-Z a-z 0-9 . _ -"));
        }
        let prefix = format!("hw:{{{name}}}:");
        let channel = format!("{prefix}session-news:{:016x}", random_seed());
        Ok(RedisSessions { url: url.parse()?, prefix, channel, line: Mutex::default() })
    }

    fn ask(&self, parts: &[&[u8]]) -> Result<Value, StoreError> {
        let mut line = self.line.lock().unwrap_or_else(PoisonError::into_inner);
        if line.failed.is_some_and(|failed| failed.elapsed() < REST) {
            return Err(StoreError::new("Redis was not reached a moment ago"));
        }
        let asked = line.ask(&self.url, parts);
        if asked.is_err() {
            *line = Line { link: None, failed: Some(StdInstant::now()) };
        }
        asked.map_err(|fault| StoreError::new(fault.sentence()))
    }

    fn key(&self, id: &SessionId) -> String {
        format!("{}{}", self.key_prefix(), id.as_str())
    }

    fn key_prefix(&self) -> String {
        format!("{}session:", self.prefix)
    }
}

impl Line {
    /// Asks. Of a connection that has stood idle it is only known now whether it is one: then it is
    /// made again, once.
    fn ask(&mut self, url: &RedisUrl, parts: &[&[u8]]) -> Result<Value, LinkError> {
        if let Some(link) = &mut self.link {
            let began = StdInstant::now();
            match link.ask(parts.iter().copied()) {
                Err(LinkError::Broken(_)) if began.elapsed() < REST => self.link = None,
                asked => return asked,
            }
        }
        let link = Link::connect(url, (ANSWER_MAX as u64, ANSWER_MAX))?;
        let asked = self.link.insert(link).ask(parts.iter().copied())?;
        self.failed = None;
        Ok(asked)
    }
}

impl SessionStore for RedisSessions {
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        let (key, numbers) = (self.key(id), format!("{}session-number", self.prefix));
        let force = claim.force.map_or(String::new(), |number| number.to_string());
        let (ttl, lease) = (millis(claim.ttl), millis(claim.lease));
        let parts = ["EVAL", CLAIM, "2", &key, &numbers, &force, &ttl, &lease, &self.channel];
        read_claimed(self.ask(&parts.map(str::as_bytes))?)
    }

    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        let (key, number, turn) = (self.key(id), save.number.to_string(), save.turn.to_string());
        let end = if save.end { "1" } else { "0" };
        let (ttl, lease) = (millis(save.ttl), millis(save.lease));
        let parts = ["EVAL", SAVE, "1", &key, &number, end, &ttl, &lease, &turn];
        let parts = parts.map(str::as_bytes);
        let parts: Vec<&[u8]> = parts.into_iter().chain(save.frozen).collect();
        match self.ask(&parts)? {
            Value::Number(1) => Ok(Saved::Taken),
            Value::Number(0) => Ok(Saved::Fenced),
            _ => Err(odd()),
        }
    }

    fn listen(&self, listener: Listener) -> Box<dyn Any + Send> {
        let (url, channel) = (self.url.clone(), self.channel.clone());
        Ear::open(url, channel, self.key_prefix(), listener)
    }
}

impl fmt::Debug for RedisSessions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisSessions")
    }
}

/// Reads the answer of [`CLAIM`]. What is too long to be kept is there all the same: it is not to
/// be taken for nothing, which would be saved over it.
fn read_claimed(answer: Value) -> Result<Claimed, StoreError> {
    let Value::List(parts) = answer else { return Err(odd()) };
    match &parts[..] {
        [Value::Number(0), number] => Ok(Claimed::Held { number: read_number(number)? }),
        [Value::Number(1), number, frozen] => {
            let frozen = match frozen {
                Value::Nil => None,
                Value::Bytes(bytes) => Some(bytes.clone()),
                _ => return Err(odd()),
            };
            Ok(Claimed::Taken { number: read_number(number)?, frozen })
        }
        _ => Err(odd()),
    }
}

fn read_number(value: &Value) -> Result<u64, StoreError> {
    value.text().and_then(|text| text.parse().ok()).ok_or_else(odd)
}

fn millis(span: Duration) -> String {
    span.as_millis().max(1).to_string()
}

fn odd() -> StoreError {
    StoreError::new("an answer that the script does not give")
}

/// Claims a session. Keys: it, and the last number. Arguments: the number of the claim that it is
/// taken from by force, or nothing; the milliseconds that it lasts and that the claim holds; and
/// the channel of who claims it. Answers 0 and the number if it is held; or 1, the new number, and
/// what was saved last. Its holder is told. Redis may follow late what the claimant has given up:
/// by then another connection may have the session, under another number, keeps it, and is not
/// told.
///
/// Its fields are `n`, the number, `h`, until when it is held, `s`, what was saved, and the
/// channels of who holds it, `c`, and of who has asked for it in vain last, `w`; and `t`, the turn
/// of the last save. What cannot be told must not keep anybody from claiming: those calls may fail.
const CLAIM: &str = "\
local time = redis.call('TIME')
local ms = time[1] * 1000 + math.floor(time[2] / 1000)
local found = redis.call('HMGET', KEYS[1], 'h', 'c', 'n')
if found[1] and tonumber(found[1]) > ms then
  if found[2] and found[3] and (ARGV[1] == '' or ARGV[1] == found[3]) then
    redis.pcall('PUBLISH', found[2], 'wanted ' .. found[3] .. ' ' .. KEYS[1])
  end
  if ARGV[1] ~= found[3] then
    redis.pcall('HSET', KEYS[1], 'w', ARGV[4])
    return {0, found[3] or '0'}
  end
end
local last = tonumber(redis.call('GET', KEYS[2]) or '0')
local number = string.format('%.0f', math.max(last + 1, time[1] * 1000000 + time[2]))
redis.call('SET', KEYS[2], number)
local held = string.format('%.0f', ms + ARGV[3])
redis.call('HSET', KEYS[1], 'n', number, 'h', held, 'c', ARGV[4])
redis.call('HDEL', KEYS[1], 'w', 't')
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return {1, number, redis.call('HGET', KEYS[1], 's')}
";
/// Saves a session. Keys: it. Arguments: the number of the claim, whether it ends, the milliseconds
/// that it lasts and that the claim holds, its turn, and perhaps the session. Answers 1, or 0 if
/// another has it. When it ends, who has asked for it in vain is told. What Redis was sent by a
/// connection that broke it may follow behind what came by the next one: that is out of turn.
const SAVE: &str = "\
local found = redis.call('HMGET', KEYS[1], 'n', 'w', 't')
if found[1] ~= ARGV[1] then return 0 end
if ARGV[5] ~= '0' then
  if found[3] and tonumber(found[3]) >= tonumber(ARGV[5]) then return 1 end
  redis.call('HSET', KEYS[1], 't', ARGV[5])
end
if ARGV[6] then redis.call('HSET', KEYS[1], 's', ARGV[6]) end
local held = '0'
if ARGV[2] == '1' then
  if found[2] then
    redis.call('HDEL', KEYS[1], 'w')
    redis.pcall('PUBLISH', found[2], 'free ' .. KEYS[1])
  end
  if redis.call('HEXISTS', KEYS[1], 's') == 0 then
    redis.call('DEL', KEYS[1])
    return 1
  end
else
  local time = redis.call('TIME')
  held = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) + ARGV[4])
end
redis.call('HSET', KEYS[1], 'h', held)
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
";
/// After a failure nothing is tried for so long.
const REST: Duration = Duration::from_millis(100);
/// What an answer may take: a session and its name.
const ANSWER_MAX: usize = 2 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    // FAULTS 293.
    #[test]
    fn a_session_that_is_too_long_is_not_taken_for_none() {
        let answer =
            |frozen| Value::List(vec![Value::Number(1), Value::Bytes(b"7".to_vec()), frozen]);
        let taken = |frozen| Ok(Claimed::Taken { number: 7, frozen });
        assert_eq!(read_claimed(answer(Value::Nil)), taken(None));
        assert_eq!(read_claimed(answer(Value::Bytes(b"x".to_vec()))), taken(Some(b"x".to_vec())));
        let held = Value::List(vec![Value::Number(0), Value::Bytes(b"8".to_vec())]);
        assert_eq!(read_claimed(held), Ok(Claimed::Held { number: 8 }));
        for odd in [Value::Huge(3 << 20), Value::Number(0), Value::Word("x".into())] {
            assert!(read_claimed(answer(odd)).is_err());
        }
        for odd in [Value::Nil, Value::Huge(9), Value::List(vec![]), Value::Number(1)] {
            assert!(read_claimed(odd).is_err());
        }
    }
}

//! A connection to Redis that waits to be told what other servers want.
//!
//! ```text
//!   other server ══CLAIM══► Redis ──PUBLISH──► ear ──wanted──► keeper ──► 4409, frozen
//!   other server ◄──free── ear ◄──PUBLISH── Redis ◄══SAVE══════════════════════╯
//! ```
//!
//! A message that is lost changes nothing but how long who wants a session waits: that is tried
//! again, and at last the session is taken by force.

use std::any::Any;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use log::{debug, warn};

use super::{Listener, SessionId};
use crate::core::config::RedisUrl;
use crate::core::wire::resp::Value;
use crate::system::redis::{Closer, Link, LinkError};
use crate::system::spawn::spawn;
use crate::threads::cluster::Backoff;

/// What the thread that listens has.
pub(super) struct Ear {
    url: RedisUrl,
    channel: String,
    /// What keys of sessions begin with.
    prefix: String,
    listener: Listener,
    shared: Arc<Shared>,
}

/// What ends the thread.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    closer: Mutex<Option<Closer>>,
}

/// Ends the thread when it is dropped, and does not wait for it.
struct Hearing(Arc<Shared>);

impl Ear {
    /// Starts the thread that listens on this channel. It connects when the first session is asked
    /// for.
    pub fn open(
        url: RedisUrl,
        channel: String,
        prefix: String,
        listener: Listener,
    ) -> Box<dyn Any + Send> {
        let shared = Arc::<Shared>::default();
        let ear = Ear { url, channel, prefix, listener, shared: shared.clone() };
        let run = Box::new(move || ear.run());
        if let Err(error) = spawn("heartwheel-ear".into(), Some(STACK_BYTES), run) {
            warn!("sessions that other servers want are handed over late: {error}");
        }
        Box::new(Hearing(shared))
    }

    fn run(&self) {
        let mut backoff = Backoff::new();
        let mut rest = Duration::ZERO;
        while self.listener.wait(rest) && !self.shared.is_over() {
            rest = match self.hear(&mut backoff) {
                Ok(Heard::End) => return,
                Ok(Heard::Refusal(sentence)) => {
                    warn!("sessions that other servers want are handed over late: {sentence}");
                    REFUSED_FOR
                }
                Err(fault) => {
                    debug!("nothing is heard of sessions: {}", fault.sentence());
                    backoff.next()
                }
            };
        }
    }

    /// Listens until the server ends. A Redis that says nothing is asked whether it is there.
    fn hear(&self, backoff: &mut Backoff) -> Result<Heard, LinkError> {
        let mut link = Link::connect(&self.url, (MESSAGE_MAX, MESSAGE_MAX as usize))?;
        *self.shared.closer() = Some(link.closer()?);
        link.queue([b"SUBSCRIBE".as_slice(), self.channel.as_bytes()]);
        link.send()?;
        if let Value::Error(sentence) = link.receive(ANSWER_MAX)? {
            return Ok(Heard::Refusal(sentence));
        }
        backoff.reset();
        while !self.shared.is_over() {
            if let Some(value) = link.receive_if_any(SILENCE_MAX)? {
                self.pass_on(&value)?;
                continue;
            }
            link.queue([b"PING".as_slice()]);
            link.send()?;
            self.pass_on(&link.receive(ANSWER_MAX)?)?;
        }
        Ok(Heard::End)
    }

    fn pass_on(&self, value: &Value) -> Result<(), LinkError> {
        match News::read(value, &self.prefix)? {
            News::Wanted(id, number) => self.listener.wanted(&id, number),
            News::Free(id) => self.listener.free(&id),
            News::None => {}
        }
        Ok(())
    }
}

impl Shared {
    fn is_over(&self) -> bool {
        self.is_over.load(Ordering::SeqCst)
    }

    fn closer(&self) -> MutexGuard<'_, Option<Closer>> {
        self.closer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hearing {
    fn drop(&mut self) {
        self.0.is_over.store(true, Ordering::SeqCst);
        if let Some(closer) = &*self.0.closer() {
            closer.close();
        }
    }
}

/// Why nothing more is heard by a connection that has not failed.
enum Heard {
    /// The server has ended.
    End,
    /// This user may not subscribe.
    Refusal(String),
}

/// What a message says.
#[derive(Debug, PartialEq, Eq)]
enum News {
    /// The session that is claimed under this number is wanted elsewhere.
    Wanted(SessionId, u64),
    /// It was let go of.
    Free(SessionId),
    /// Nothing of a session.
    None,
}

impl News {
    /// Reads what comes by a connection that has subscribed. What others publish there is left out.
    ///
    /// # Errors
    ///
    /// It is an error: the connection is no good.
    fn read(value: &Value, prefix: &str) -> Result<News, LinkError> {
        if let Some(error) = value.error() {
            return Err(LinkError::Broken(error.into()));
        }
        let message = match value.list() {
            Some([kind, _, message]) if kind.text() == Some("message") => message.text(),
            _ => None,
        };
        Ok(message.and_then(|text| News::read_message(text, prefix)).unwrap_or(News::None))
    }

    fn read_message(text: &str, prefix: &str) -> Option<News> {
        let session = |key: &str| SessionId::read(key.strip_prefix(prefix)?);
        let (kind, rest) = text.split_once(' ')?;
        match kind {
            "wanted" => {
                let (number, key) = rest.split_once(' ')?;
                Some(News::Wanted(session(key)?, number.parse().ok()?))
            }
            "free" => Some(News::Free(session(rest)?)),
            _ => None,
        }
    }
}

/// After so long a silence Redis is asked whether it is there, and has so long to answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);
const ANSWER_MAX: Duration = Duration::from_secs(2);
/// When to try again to subscribe where that is not allowed.
const REFUSED_FOR: Duration = Duration::from_secs(60);
/// The most that a message may take: a name of a session, and what is around it.
const MESSAGE_MAX: u64 = 16 * 1024;
/// TLS takes some, and so do names of hosts.
const STACK_BYTES: usize = 512 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &str) -> Value {
        let bytes = |text: &str| Value::Bytes(text.as_bytes().to_vec());
        Value::List(vec![bytes("message"), bytes("c"), bytes(text)])
    }

    #[test]
    fn messages_are_read() {
        let id = SessionId::new("/a", "b c").unwrap();
        let read = |text: &str| News::read(&message(text), "hw:").unwrap();
        assert_eq!(read("wanted 17 hw:/a\nb c"), News::Wanted(id.clone(), 17));
        assert_eq!(read("free hw:/a\nb c"), News::Free(id));
    }

    // FAULTS 267.
    #[test]
    fn what_is_no_message_is_left_out() {
        for text in [
            "",
            "wanted",
            "wanted 17",
            "wanted x hw:/a\nb",
            "wanted -1 hw:/a\nb",
            "wanted 99999999999999999999 hw:/a\nb",
            "wanted 17 /a\nb",
            "wanted 17 hw:/a",
            "free hw:/a\n",
            "free  hw:/a\nb",
            "other hw:/a\nb",
        ] {
            assert_eq!(News::read(&message(text), "hw:").unwrap(), News::None, "{text:?}");
        }
        let bytes = Value::Bytes(vec![0xff]);
        for value in [
            Value::Nil,
            Value::Huge(u64::MAX),
            Value::List(vec![]),
            Value::List(vec![Value::List(vec![]), bytes.clone(), bytes.clone()]),
            Value::List(vec![Value::Bytes(b"message".to_vec()), bytes.clone(), bytes]),
        ] {
            assert_eq!(News::read(&value, "hw:").unwrap(), News::None, "{value:?}");
        }
        assert!(News::read(&Value::Error("NOPERM no".into()), "hw:").is_err());
    }
}

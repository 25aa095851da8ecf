//! `heartwheel publish`: publishes an event, or each line of stdin.
//!
//! A thread reads stdin and publishes, as far as the window lets it; the loop's thread prints the
//! ids, and gives room in the window.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, BufRead, BufWriter, ErrorKind, Read, StdoutLock, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::asked::Asked;
use super::client::{
    EVENT_BYTES_MAX, Ended, Hears, Patience, Session, Stop, dial, on_signal, topic_of,
};
use crate::client::TopicEvent;
use crate::core::config::Config;
use crate::core::topics::{Name, Payload};
use crate::system::spawn::spawn;
use crate::threads::dial::Dial;
use crate::threads::handle::SendError;

/// Publishes what it is given, until all is answered.
///
/// # Errors
///
/// What on the command line is not right.
pub(super) fn run(asked: &Asked, config: &Config) -> Result<Ended, String> {
    let dial = dial(asked, config)?;
    let words = &asked.arguments;
    let topic = words.get(1).ok_or("there is no topic to publish to")?;
    let topic = topic_of(topic)?;
    if Name::is_own(topic) {
        return Err(format!("{topic}: this topic is the server's own"));
    }
    if let Some(word) = words.get(3) {
        return Err(format!("unexpected argument {word:?}"));
    }
    let source = match words.get(2) {
        None => Source::Whole,
        Some(word) if word == "-" => Source::Lines,
        Some(word) => Source::Given(word.clone()),
    };
    let bytes_max = config.client.pending_bytes.min(UNDER_WAY_BYTES_MAX);
    let window = Window::new(bytes_max, topic.len());
    let patience = Patience::Run(asked.timeout.unwrap_or(Some(TIMEOUT)));
    Ok(publish(dial, topic, source, window, patience))
}

fn publish(
    dial: Dial,
    topic: &str,
    source: Source,
    window: Arc<Window>,
    patience: Patience,
) -> Ended {
    let session = Session::begin(dial)?;
    let feeder = Feeder { stop: session.stop.clone(), window: window.clone(), topic: topic.into() };
    let ender = feeder.clone();
    on_signal(move || ender.end(Ok(())))?;
    let has_lines = matches!(source, Source::Lines);
    let feed = move || feeder.end(feeder.feed(source));
    spawn("heartwheel-stdin".into(), None, Box::new(feed))
        .map_err(|error| format!("stdin cannot be read: {error}"))?;
    let (stop, stdout) = (session.stop.clone(), BufWriter::new(io::stdout().lock()));
    let mut printer = Printer { stdout, stop, window: window.clone(), has_lines, is_read: true };
    session.run(&mut printer, patience).and_then(|()| window.fate())
}

/// Where events come from.
enum Source {
    Given(OsString),
    Whole,
    Lines,
}

/// Publishes what the source has, on a thread of its own.
#[derive(Clone)]
struct Feeder {
    stop: Stop,
    window: Arc<Window>,
    topic: String,
}

impl Feeder {
    fn feed(&self, source: Source) -> Ended {
        let mut stdin = io::stdin().lock();
        match source {
            Source::Given(word) => self.publish(payload(word.into_encoded_bytes(), "the payload")?),
            Source::Whole => {
                let mut bytes = Vec::new();
                let read = stdin.take(EVENT_BYTES_MAX + 1).read_to_end(&mut bytes);
                read.map_err(|error| format!("stdin: {error}"))?;
                self.publish(payload(bytes, "stdin")?)
            }
            Source::Lines => {
                for number in 1_u64.. {
                    let mut bytes = Vec::new();
                    let read = (&mut stdin).take(EVENT_BYTES_MAX + 1).read_until(b'\n', &mut bytes);
                    let what = format!("line {number} of stdin");
                    if read.map_err(|error| format!("{what}: {error}"))? == 0 {
                        break;
                    }
                    bytes.pop_if(|last| *last == b'\n');
                    self.publish(payload(bytes, &what)?)?;
                }
                Ok(())
            }
        }
    }

    /// Publishes when there is room.
    fn publish(&self, payload: Payload) -> Ended {
        let Some(number) = self.window.enter(payload.len()) else { return Ok(()) };
        match self.stop.link.publish(&self.topic, payload) {
            Ok(reference) => {
                debug_assert_eq!(reference, number, "nothing else is published");
                Ok(())
            }
            // The window lets no more be under way than a link takes.
            Err(SendError::Full) => Err("more is under way than the client takes".into()),
            // The loop's thread knows why.
            Err(_) => Ok(()),
        }
    }

    /// Publishes nothing more; the client is stopped when all is answered.
    fn end(&self, fate: Ended) {
        if self.window.close(fate) {
            self.stop.stop();
        }
    }
}

/// Takes UTF-8 as text, and all else as bytes, which `/ws` bears in CBOR alone.
fn payload(bytes: Vec<u8>, what: &str) -> Result<Payload, String> {
    if bytes.len() as u64 > EVENT_BYTES_MAX {
        return Err(format!("{what}: is longer than {} MiB", EVENT_BYTES_MAX >> 20));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(text.into()),
        Err(error) if cfg!(feature = "cbor") => Ok(error.into_bytes().into()),
        Err(_) => Err(format!("{what}: is no UTF-8, and this build publishes text: no `cbor`")),
    }
}

/// What has been published and not been answered.
struct Window {
    under_way: Mutex<UnderWay>,
    changed: Condvar,
    bytes_max: usize,
    topic_len: usize,
}

#[derive(Default)]
struct UnderWay {
    /// The bytes of each, by its number.
    messages: BTreeMap<u32, usize>,
    bytes: usize,
    next: u32,
    is_closed: bool,
    failure: Option<String>,
}

impl Window {
    fn new(bytes_max: usize, topic_len: usize) -> Arc<Window> {
        let (under_way, changed) = Default::default();
        Arc::new(Window { under_way, changed, bytes_max, topic_len })
    }

    /// Waits for room for a payload of this length, and takes it. Returns the number of the
    /// publication; `None` if nothing more is to be published.
    fn enter(&self, len: usize) -> Option<u32> {
        let bytes = len.saturating_add(self.topic_len);
        let has_room = |under_way: &UnderWay| {
            let is_small = under_way.bytes.saturating_add(bytes) <= self.bytes_max;
            under_way.messages.is_empty() || (is_small && under_way.messages.len() < WINDOW)
        };
        let under_way = self
            .changed
            .wait_while(self.lock(), |under_way| !under_way.is_closed && !has_room(under_way));
        let mut under_way = under_way.unwrap_or_else(PoisonError::into_inner);
        if under_way.is_closed {
            return None;
        }
        let number = under_way.next;
        under_way.next = number.wrapping_add(1);
        under_way.messages.insert(number, bytes);
        under_way.bytes = under_way.bytes.saturating_add(bytes);
        Some(number)
    }

    /// Takes note of an answer. Returns whether it was the last one.
    fn leave(&self, number: u32) -> bool {
        let mut under_way = self.lock();
        let bytes = under_way.messages.remove(&number).unwrap_or(0);
        under_way.bytes = under_way.bytes.saturating_sub(bytes);
        self.changed.notify_all();
        under_way.is_closed && under_way.messages.is_empty()
    }

    /// Lets nothing more in. Returns whether all is answered.
    fn close(&self, fate: Ended) -> bool {
        let mut under_way = self.lock();
        under_way.is_closed = true;
        if let Err(failure) = fate {
            under_way.failure.get_or_insert(failure);
        }
        self.changed.notify_all();
        under_way.messages.is_empty()
    }

    /// Returns why not all was published.
    fn fate(&self) -> Ended {
        self.lock().failure.take().map_or(Ok(()), Err)
    }

    fn lock(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Prints ids.
struct Printer {
    stdout: BufWriter<StdoutLock<'static>>,
    stop: Stop,
    window: Arc<Window>,
    has_lines: bool,
    /// Somebody reads what is printed.
    is_read: bool,
}

impl Hears for Printer {
    fn hear(&mut self, heard: TopicEvent) -> Result<bool, String> {
        match heard {
            TopicEvent::Published { reference, id } => {
                if self.window.leave(reference) {
                    self.stop.stop();
                }
                if self.is_read {
                    let printed = writeln!(self.stdout, "{id}");
                    return self.goes_on(printed);
                }
                Ok(true)
            }
            // The server has it: there is no id to print.
            TopicEvent::Taken { reference } => {
                if self.window.leave(reference) {
                    self.stop.stop();
                }
                Ok(true)
            }
            // The client has stopped, for a reason that is told.
            TopicEvent::NotPublished { code, .. } if code == "closed" => Ok(true),
            TopicEvent::NotPublished { reference, code, sentence } => {
                self.window.close(Ok(()));
                let line = match self.has_lines {
                    true => format!("line {} of stdin: ", u64::from(reference) + 1),
                    false => String::new(),
                };
                Err(format!("{line}{code}: {sentence}"))
            }
            _ => Ok(true),
        }
    }

    fn flush(&mut self) -> Result<bool, String> {
        if !self.is_read {
            return Ok(true);
        }
        let flushed = self.stdout.flush();
        self.goes_on(flushed)
    }
}

impl Printer {
    /// Returns whether the run goes on: events are published even if nobody reads their ids.
    fn goes_on(&mut self, printed: io::Result<()>) -> Result<bool, String> {
        match printed {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(format!("stdout: {error}")),
            Err(_) => {
                self.is_read = false;
                Ok(true)
            }
            Ok(()) => Ok(true),
        }
    }
}

/// How long a run may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How many events may wait for an answer.
const WINDOW: usize = 32;
/// And how many bytes: a link takes twice as many, and one of any length.
const UNDER_WAY_BYTES_MAX: usize = 128 << 10;

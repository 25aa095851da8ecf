//! `heartwheel subscribe`: prints the events of topics.

use std::io::{self, BufWriter, ErrorKind, StdoutLock, Write};

use super::asked::Asked;
use super::client::{Ended, Hears, Patience, Session, dial, on_signal, topic_of};
use super::complain;
use crate::client::TopicEvent;
use crate::core::config::Config;
use crate::core::ground::base64;
use crate::core::ground::json::Object;
use crate::core::topics::{After, Event, Gap, Payload};
use crate::threads::dial::Dial;

/// Prints what comes, until a signal, an end that was asked for, or a failure.
///
/// # Errors
///
/// What on the command line is not right.
pub(super) fn run(asked: &Asked, config: &Config) -> Result<Ended, String> {
    let dial = dial(asked, config)?;
    let topics = asked.arguments.iter().skip(1).map(|word| topic_of(word));
    let mut topics = topics.collect::<Result<Vec<&str>, String>>()?;
    topics.sort_unstable();
    topics.dedup();
    if topics.is_empty() {
        return Err("there is no topic to subscribe to".into());
    }
    Ok(print(dial, &topics, asked))
}

fn print(dial: Dial, topics: &[&str], asked: &Asked) -> Ended {
    let session = Session::begin(dial)?;
    let after = asked.after.map_or(After::Now, After::Position);
    for topic in topics {
        session.stop.link.subscribe(*topic, after).map_err(|error| format!("{topic}: {error}"))?;
    }
    let stop = session.stop.clone();
    on_signal(move || stop.stop())?;
    let patience = Patience::Lost(asked.timeout.flatten());
    let stdout = BufWriter::with_capacity(BUFFER_BYTES, io::stdout().lock());
    let mut printer = Printer { stdout, is_json: asked.is_json, left: asked.count };
    session.run(&mut printer, patience)
}

/// Prints events.
struct Printer {
    stdout: BufWriter<StdoutLock<'static>>,
    is_json: bool,
    /// How many are still to come.
    left: Option<u64>,
}

impl Hears for Printer {
    fn hear(&mut self, heard: TopicEvent) -> Result<bool, String> {
        let written = match heard {
            TopicEvent::Event { topic, event } => {
                if let Some(left) = &mut self.left {
                    *left -= 1;
                }
                self.print(&topic, &event)
            }
            TopicEvent::Gap { topic, gap } => self.print_gap(&topic, gap),
            TopicEvent::NotSubscribed { topic, code, sentence } => {
                return Err(format!("{topic}: {code}: {sentence}"));
            }
            _ => Ok(()),
        };
        Ok(goes_on(written)? && self.left != Some(0))
    }

    fn flush(&mut self) -> Result<bool, String> {
        goes_on(self.stdout.flush())
    }
}

impl Printer {
    fn print(&mut self, topic: &str, event: &Event) -> io::Result<()> {
        if !self.is_json {
            self.stdout.write_all(event.payload.as_bytes())?;
            return self.stdout.write_all(b"\n");
        }
        let object = Object::new().string("topic", topic).string("id", &event.id.to_string());
        let object = match &event.payload {
            Payload::Text(text) => object.string("data", text.as_str()),
            // Only blanks between values are line breaks as they are.
            Payload::Json(json) => object.raw("data", &json.as_str().replace(['\n', '\r'], " ")),
            Payload::Binary(bytes) => object.string("base64", &base64::encode(bytes)),
        };
        writeln!(self.stdout, "{}", object.end())
    }

    fn print_gap(&mut self, topic: &str, gap: Gap) -> io::Result<()> {
        let first = gap.first.map(|id| id.to_string());
        if self.is_json {
            let object = Object::new().string("topic", topic);
            let object = match &first {
                Some(first) => object.string("gap", first),
                None => object.raw("gap", "null"),
            };
            return writeln!(self.stdout, "{}", object.end());
        }
        // What came before it is to stand before it, where both go to one place.
        self.stdout.flush()?;
        match first {
            Some(first) => complain(format_args!("{topic}: events are missing before {first}")),
            None => complain(format_args!("{topic}: events are missing")),
        }
        Ok(())
    }
}

/// Returns whether there is still a reader: one that has gone is no failure.
fn goes_on(written: io::Result<()>) -> Result<bool, String> {
    match written {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(format!("stdout: {error}")),
    }
}

/// What is written at once, at most.
const BUFFER_BYTES: usize = 64 << 10;

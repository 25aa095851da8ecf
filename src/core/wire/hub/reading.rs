//! A message of a client, read as it comes.

use std::borrow::Cow;
use std::ops::Range;

use super::{ClientMessage, ErrorCode, Problem, Published, is_client_id, is_version};
use crate::core::ground::json::{self, Content, JsonError, Member, Scanner};
use crate::core::ground::trace::{BadTrace, Trace};

/// The sentence for [`JsonError::TooDeep`].
pub(super) const TOO_DEEP: &str = "JSON nested deeper than 100 levels";
const _: () = assert!(json::DEPTH_MAX == 100, "the sentence names the limit");

/// A message that is read as it comes, so that a long one has been read when it is whole.
#[derive(Debug)]
pub(crate) struct Reading {
    scanner: Scanner,
    /// Where the values lie of the members that mean something: those of [`NAMES`].
    values: [Option<Range<usize>>; NAMES.len()],
    /// The content of the `data` that was last seen to be a string.
    data: Content,
}

impl Default for Reading {
    fn default() -> Reading {
        Reading { scanner: Scanner::object(), values: Default::default(), data: Content::default() }
    }
}

impl Reading {
    /// Goes on to the end of what has come of the message, which begins as it did before.
    pub fn go_on(&mut self, text: &str) {
        self.scan(text);
        let Some((name, value_at)) = self.scanner.string_in_progress() else { return };
        if position(text, name, true) != Some(DATA) {
            return;
        }
        if self.data.start() <= value_at {
            let quote = text[value_at..].find('"').expect("a string has begun");
            self.data = Content::new(value_at + quote + 1);
        }
        self.data.go_on(text, self.scanner.at());
    }

    /// Gives how many bytes have been read.
    pub fn at(&self) -> usize {
        self.scanner.at()
    }

    /// Gives the bytes of memory held.
    pub fn held_bytes(&self) -> usize {
        size_of::<Reading>() + self.data.held_bytes()
    }

    /// Reads the rest of the message, which is whole now.
    ///
    /// # Errors
    ///
    /// As for [`ClientMessage::parse`].
    pub fn finish(mut self, text: &str) -> Result<ClientMessage<'_>, Problem<'_>> {
        self.scan(text);
        let reference = self.value(text, REFERENCE).map(|value| &text[value]);
        let read = match self.scanner.end() {
            Ok(()) => self.interpret(text),
            Err(JsonError::Syntax) => Err((ErrorCode::BadRequest, NO_OBJECT)),
            Err(JsonError::TooDeep) => Err((ErrorCode::BadRequest, TOO_DEEP)),
        };
        read.map_err(|(code, sentence)| Problem { code, sentence, reference })
    }

    /// Refuses a message that is not text, but may read as it: its `ref` is repeated all the same.
    pub fn refuse<'a>(text: &'a str, sentence: &'static str) -> Problem<'a> {
        let mut reading = Reading::default();
        reading.scan(text);
        let reference = reading.value(text, REFERENCE).map(|value| &text[value]);
        Problem { code: ErrorCode::BadRequest, sentence, reference }
    }

    fn scan(&mut self, text: &str) {
        let Reading { scanner, values, .. } = self;
        scanner.go_on(text.as_bytes(), &mut |Member { name, value, is_sound }| {
            if let Some(position) = position(text, name, is_sound) {
                values[position] = Some(value);
            }
        });
    }

    /// Gives where the value of a member lies, without the blanks around it.
    fn value(&self, text: &str, position: usize) -> Option<Range<usize>> {
        let value = self.values[position].clone()?;
        let start = value.end - text[value.clone()].trim_ascii_start().len();
        Some(start..start + text[value].trim_ascii().len())
    }

    fn interpret(self, text: &str) -> Result<ClientMessage<'_>, (ErrorCode, &'static str)> {
        let bad = |sentence| (ErrorCode::BadRequest, sentence);
        let raw = |position| self.value(text, position).map(|value| &text[value]);
        let reference = raw(REFERENCE);
        let op = raw(OP).and_then(json::name).ok_or(bad("op is a string"))?;
        let topic = || raw(TOPIC).and_then(json::name).ok_or(bad("topic is a string"));
        match &*op {
            "hello" => {
                let word = |position, is_good: fn(&str) -> bool| {
                    raw(position).and_then(json::name).filter(|word| is_good(word))
                };
                let client = word(CLIENT, is_client_id).ok_or(bad(NO_CLIENT_ID))?;
                let version = word(VERSION, is_version).ok_or(bad(NO_VERSION))?;
                Ok(ClientMessage::Hello { client, version, reference })
            }
            "subscribe" => {
                let after = raw(AFTER).filter(|after| *after != "null");
                let after = after.map(|after| json::name(after).ok_or(bad("after is an id")));
                let after = after.transpose()?;
                Ok(ClientMessage::Subscribe {
                    topic: topic()?,
                    after,
                    #[cfg(feature = "presence")]
                    info: raw(INFO).filter(|info| *info != "null").map(read_info).transpose()?,
                    reference,
                })
            }
            #[cfg(feature = "presence")]
            "presence" => Ok(ClientMessage::Presence { topic: topic()?, reference }),
            "unsubscribe" => Ok(ClientMessage::Unsubscribe { topic: topic()? }),
            "publish" => {
                let data = self.value(text, DATA).ok_or(bad("publish needs data"))?;
                let topic = topic()?;
                let trace = raw(TRACE).filter(|trace| *trace != "null").map(read_trace);
                let data = match text[data.clone()].starts_with('"') {
                    true => Published::Text(self.content(text, data)),
                    false => Published::Json(&text[data]),
                };
                Ok(ClientMessage::Publish { topic, data, trace, reference })
            }
            #[cfg(any(feature = "jwt", feature = "client"))]
            "token" => {
                let token = raw(TOKEN).and_then(json::string).ok_or(bad("token is a string"))?;
                Ok(ClientMessage::Token { token, reference })
            }
            "ping" => Ok(ClientMessage::Ping { reference }),
            _ => Err((ErrorCode::UnknownOp, "there is no such op")),
        }
    }

    /// Gives the content of a string, of which some may have been made.
    fn content(self, text: &str, string: Range<usize>) -> Cow<'_, str> {
        let start = string.start + 1;
        let is_begun = self.data.start() == start;
        let content = if is_begun { self.data } else { Content::new(start) };
        content.finish(text, string.end - 1)
    }
}

/// Reads a trace context, which is a string.
fn read_trace(raw: &str) -> Result<Trace, BadTrace> {
    json::name(raw).ok_or(BadTrace)?.parse()
}

/// Reads what a client says of itself, which is a string.
#[cfg(feature = "presence")]
fn read_info(raw: &str) -> Result<Cow<'_, str>, (ErrorCode, &'static str)> {
    let info = json::string(raw).filter(|info| super::is_info(info));
    info.ok_or((ErrorCode::BadRequest, NO_INFO))
}

/// Gives which of [`NAMES`] the name of a member is. Behind an error escapes may be broken: the
/// name is compared as it is written.
fn position(text: &str, name: Range<usize>, is_sound: bool) -> Option<usize> {
    if name.len() > NAME_LEN_MAX {
        return None;
    }
    let written = &text[name];
    let name = match is_sound {
        true => json::name(written)?,
        false => written.strip_prefix('"')?.strip_suffix('"')?.into(),
    };
    NAMES.iter().position(|other| *other == name)
}

const NAMES: [&str; NAMES_COUNT] = [
    "op",
    "topic",
    "after",
    "data",
    "ref",
    "client",
    "version",
    "trace",
    #[cfg(any(feature = "jwt", feature = "client"))]
    "token",
    #[cfg(feature = "presence")]
    "info",
];
const NAMES_COUNT: usize = 8
    + cfg!(any(feature = "jwt", feature = "client")) as usize
    + cfg!(feature = "presence") as usize;
const OP: usize = 0;
const TOPIC: usize = 1;
const AFTER: usize = 2;
const DATA: usize = 3;
const REFERENCE: usize = 4;
const CLIENT: usize = 5;
const VERSION: usize = 6;
const TRACE: usize = 7;
#[cfg(any(feature = "jwt", feature = "client"))]
const TOKEN: usize = 8;
#[cfg(feature = "presence")]
const INFO: usize = NAMES_COUNT - 1;
/// The longest of them in escapes, with its quotes.
const NAME_LEN_MAX: usize = 6 * 7 + 2;
const NO_OBJECT: &str = "a message is one JSON object";
pub(crate) const NO_CLIENT_ID: &str = "client is 16 to 64 characters of A-Z a-z 0-9 - _";
pub(crate) const NO_VERSION: &str = "version is 1 to 64 characters of A-Z a-z 0-9 . _ + -";
#[cfg(feature = "presence")]
pub(crate) const NO_INFO: &str = "info is a string of at most 256 bytes without control characters";

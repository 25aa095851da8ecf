//! Records: events, and what is said of positions.
//!
//! ```text
//!   kind  options  length of what follows  milliseconds since the record before  count in that ms
//!   an event: number of its topic in this page [length and name, if it is new]  payload
//!   a position: milliseconds, SEQ, name
//! ```
//!
//! Numbers are of seven bits a byte, least first. A record whose kind or options are not known
//! counts as an event that was lost. Options are for what may once stand between the topic and the
//! payload.

use super::page::MS_MAX;
use crate::core::topics::{EventId, Kept, Name, Payload};

/// A record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// An event.
    Event(Kept),
    /// Events up to this id may have been lost.
    Lost(EventId),
    /// Nothing was lost up to this id.
    Mark(EventId),
    /// How far a reader of this name has come, said behind the record with the first id.
    Position(EventId, String, EventId),
}

impl Record {
    pub fn id(&self) -> EventId {
        match self {
            Record::Event(event) => event.id,
            Record::Lost(id) | Record::Mark(id) | Record::Position(id, ..) => *id,
        }
    }

    /// Writes the record behind `out`. `names` are the topics of the page that it begins in.
    pub fn write(&self, before: EventId, names: &mut Vec<Name>, out: &mut Vec<u8>) {
        let mut body = Vec::new();
        let id = self.id();
        put_number(&mut body, id.ms().saturating_sub(before.ms()));
        put_number(&mut body, id.seq() >> 16);
        let (kind, payload): (u8, &[u8]) = match self {
            Record::Lost(_) => (LOST, b""),
            Record::Mark(_) => (MARK, b""),
            Record::Position(_, name, at) => {
                put_number(&mut body, at.ms());
                put_number(&mut body, at.seq());
                (POSITION, name.as_bytes())
            }
            Record::Event(Kept { topic, payload, .. }) => {
                let known = names.iter().position(|name| name == topic);
                put_number(&mut body, known.unwrap_or(names.len()) as u64);
                if known.is_none() {
                    body.push(topic.len() as u8);
                    body.extend_from_slice(topic.as_bytes());
                    names.push(topic.clone());
                }
                let kind = match payload {
                    Payload::Text(_) => TEXT,
                    Payload::Json(_) => JSON,
                    Payload::Binary(_) => BINARY,
                };
                (kind, payload.as_bytes())
            }
        };
        out.extend_from_slice(&[kind, NO_OPTIONS]);
        put_number(out, (body.len() + payload.len()) as u64);
        out.extend_from_slice(&body);
        out.extend_from_slice(payload);
    }
}

/// What stands at the beginning of some bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// A record, and how many bytes it takes.
    Record(usize, Record),
    /// The beginning of a record.
    Partial,
    /// What no ring has written.
    Damaged,
}

/// Reads the record at the beginning of these bytes.
pub(super) fn read(bytes: &[u8], before: EventId, process: u16, names: &mut Vec<Name>) -> Reading {
    let mut rest = bytes.get(2..).unwrap_or_default();
    let Some(len) = take_number(&mut rest) else {
        return if bytes.len() < HEAD_MAX { Reading::Partial } else { Reading::Damaged };
    };
    let head = bytes.len() - rest.len();
    let Some(body) = usize::try_from(len).ok().and_then(|len| rest.get(..len)) else {
        return Reading::Partial;
    };
    let taken = head + body.len();
    match read_body(bytes[0], bytes[1], body, before, process, names) {
        Ok(record) => Reading::Record(taken, record),
        Err(Damaged) => Reading::Damaged,
    }
}

struct Damaged;

fn read_body(
    kind: u8,
    options: u8,
    body: &[u8],
    before: EventId,
    process: u16,
    names: &mut Vec<Name>,
) -> Result<Record, Damaged> {
    let mut rest = body;
    let later = take_number(&mut rest).ok_or(Damaged)?;
    let count = take_number(&mut rest).filter(|count| *count <= u64::from(u32::MAX));
    let count = count.ok_or(Damaged)?;
    let ms = before.ms().saturating_add(later);
    let ms = (ms <= MS_MAX).then_some(ms).ok_or(Damaged)?;
    let id = EventId::new(ms, count << 16 | u64::from(process));
    match kind {
        TEXT..=BINARY if options == NO_OPTIONS => {}
        MARK => return Ok(Record::Mark(id)),
        POSITION if options == NO_OPTIONS => {
            let ms = take_number(&mut rest).ok_or(Damaged)?;
            let seq = take_number(&mut rest).ok_or(Damaged)?;
            let name = String::from_utf8(rest.to_vec()).map_err(|_| Damaged)?;
            return Ok(Record::Position(id, name, EventId::new(ms, seq)));
        }
        _ => return Ok(Record::Lost(id)),
    }
    let number = take_number(&mut rest).and_then(|number| usize::try_from(number).ok());
    let number = number.ok_or(Damaged)?;
    if number == names.len() {
        let (len, behind) = rest.split_first().ok_or(Damaged)?;
        let name = behind.get(..usize::from(*len)).ok_or(Damaged)?;
        rest = &behind[usize::from(*len)..];
        let name = std::str::from_utf8(name).ok().and_then(|name| name.parse().ok());
        names.push(name.ok_or(Damaged)?);
    }
    let topic = names.get(number).ok_or(Damaged)?.clone();
    let text = || String::from_utf8(rest.to_vec()).map_err(|_| Damaged);
    let payload = match kind {
        TEXT => Payload::Text(text()?.into()),
        JSON => Payload::Json(text()?.into()),
        _ => Payload::Binary(rest.to_vec().into()),
    };
    Ok(Record::Event(Kept { id, topic, payload }))
}

fn put_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Takes a number from the beginning of some bytes; `None` if it has no end, or more than 63 bits.
fn take_number(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..63).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

const TEXT: u8 = 1;
const JSON: u8 = 2;
const BINARY: u8 = 3;
const LOST: u8 = 4;
const MARK: u8 = 5;
const POSITION: u8 = 6;
const NO_OPTIONS: u8 = 0;
/// Kind, options and a length of 63 bits.
const HEAD_MAX: usize = 2 + 9;

//! The records of event streams that an application writes.

use std::time::Duration;

use crate::core::wire::encoded::{Around, Coding};
use crate::threads::stream::StreamError;

/// One record of an event stream, as the HTML standard of the WHATWG defines it (9.2): data, and
/// perhaps an id, a name and a time to come back.
///
/// ```
/// use heartwheel::Record;
///
/// let record = Record::data("21.5").id("7").event("temperature");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    data: Option<String>,
    id: Option<String>,
    event: Option<String>,
    retry_ms: Option<u64>,
}

impl Record {
    /// Makes a record of a text. CR, LF and CRLF each begin another `data:` line.
    pub fn data(text: impl Into<String>) -> Record {
        Record { data: Some(text.into()), ..Record::default() }
    }

    /// Makes a record that tells readers how long to wait before they come back.
    pub fn retry(after: Duration) -> Record {
        let retry_ms = u64::try_from(after.as_millis()).ok();
        Record { retry_ms, ..Record::default() }
    }

    /// Sets the id, which readers send as `Last-Event-ID` when they come back.
    pub fn id(mut self, id: impl Into<String>) -> Record {
        self.id = Some(id.into());
        self
    }

    /// Sets the name of the event; readers take one without a name for `message`.
    pub fn event(mut self, name: impl Into<String>) -> Record {
        self.event = Some(name.into());
        self
    }

    /// Returns the lines of the record.
    ///
    /// # Errors
    ///
    /// [`StreamError::Field`].
    pub(super) fn encode(&self) -> Result<Vec<u8>, StreamError> {
        let mut head = String::new();
        for (name, value) in [("id", &self.id), ("event", &self.event)] {
            let Some(value) = value else { continue };
            if value.contains(['\r', '\n', '\0']) {
                return Err(StreamError::Field);
            }
            head.extend([name, ": ", value, "\n"]);
        }
        if let Some(ms) = self.retry_ms {
            head.push_str(&format!("retry: {ms}\n"));
        }
        let Some(data) = &self.data else { return Ok((head + "\n").into()) };
        head.push_str("data: ");
        let around = Around { head: head.into(), coding: Coding::Lines, tail: "\n\n" };
        Ok(around.encode(data.as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_what_readers_read() {
        for (record, text) in [
            (Record::data("a"), "data: a\n\n"),
            (Record::data("a\r\nb\rc\nd"), "data: a\ndata: b\ndata: c\ndata: d\n\n"),
            (Record::data("").id("7").event("x"), "id: 7\nevent: x\ndata: \n\n"),
            (Record::retry(Duration::from_millis(1500)), "retry: 1500\n\n"),
            (Record::default().id(""), "id: \n\n"),
        ] {
            assert_eq!(record.encode().unwrap(), text.as_bytes(), "{record:?}");
        }
        for field in ["a\n", "\r", "a\0b"] {
            assert_eq!(Record::data("a").id(field).encode(), Err(StreamError::Field));
            assert_eq!(Record::data("a").event(field).encode(), Err(StreamError::Field));
        }
    }
}

//! Event streams as a client reads them: any bytes are read as the HTML standard (9.2.5, 9.2.6)
//! says, or refused where one of our limits is broken, in whatever pieces they come.

use heartwheel::core::wire::event_reader::{EventError, EventReader, StreamEvent};

use super::rng::Rng;
use super::source::Source;

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let most = source.pick(&[1000, 0, 10, 40]);
    let mut rng = Rng::new(source.seed());
    let bytes = source.rest();

    let whole = read(bytes, most, |left| left);
    assert_eq!(whole, read(bytes, most, |_| 1));
    assert_eq!(whole, read(bytes, most, |left| 1 + rng.below(left as u64) as usize));
    let mut oracle = Oracle::default();
    let error = oracle.read(bytes, most).err();
    assert_eq!(whole, Found { error, ..oracle.found });
}

/// What has come of a stream.
#[derive(Debug, Default, PartialEq)]
struct Found {
    /// The name, the data and the id of each event.
    events: Vec<(String, String, String)>,
    last_id: Option<String>,
    retry_ms: Option<u64>,
    error: Option<EventError>,
}

fn read(bytes: &[u8], most: u64, mut len: impl FnMut(usize) -> usize) -> Found {
    let mut reader = EventReader::default();
    let mut found = Found::default();
    let mut rest = bytes;
    'stream: while !rest.is_empty() {
        let (mut piece, left) = rest.split_at(len(rest.len()));
        rest = left;
        while !piece.is_empty() {
            match reader.read(piece, most) {
                Ok((used, event)) => {
                    assert!(used == piece.len() || event.is_some() && used <= piece.len());
                    piece = &piece[used..];
                    let parts = |StreamEvent { name, data, id, .. }| (name, data, id.to_string());
                    found.events.extend(event.map(parts));
                }
                Err(error) => {
                    found.error = Some(error);
                    break 'stream;
                }
            }
        }
    }
    found.last_id = reader.last_id().map(|id| id.to_string());
    found.retry_ms = reader.retry_ms();
    found
}

/// The standard, word by word, with the limits beside it.
#[derive(Default)]
struct Oracle {
    event_type: String,
    data: String,
    id: Option<String>,
    found: Found,
}

impl Oracle {
    fn read(&mut self, bytes: &[u8], most: u64) -> Result<(), EventError> {
        let mut rest = bytes;
        let mut is_first = true;
        loop {
            let end = rest.iter().position(|byte| b"\r\n".contains(byte));
            let line = &rest[..end.unwrap_or(rest.len())];
            if line.len() as u64 > most {
                return Err(EventError::TooLong);
            }
            let Some(end) = end else { return Ok(()) };
            let is_pair = rest[end..].starts_with(b"\r\n");
            rest = &rest[end + if is_pair { 2 } else { 1 }..];
            let text = String::from_utf8_lossy(line);
            let text = text.strip_prefix('\u{feff}').filter(|_| is_first).unwrap_or(&text);
            is_first = false;
            self.line(text, most)?;
        }
    }

    fn line(&mut self, text: &str, most: u64) -> Result<(), EventError> {
        if text.is_empty() {
            self.dispatch();
            return Ok(());
        }
        let (field, value) = text.split_once(':').unwrap_or((text, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => self.event_type = value.into(),
            "data" => self.data = format!("{}{value}\n", self.data),
            "id" if value.contains('\0') => {}
            "id" if value.len() > 1024 => return Err(EventError::Id),
            "id" if value.contains(|c: char| c.is_ascii_control() && c != '\t') => {
                return Err(EventError::Id);
            }
            "id" => self.id = Some(value.into()),
            "retry" if value.contains(|c: char| !c.is_ascii_digit()) => {}
            "retry" if !value.is_empty() => {
                self.found.retry_ms = Some(value.parse().unwrap_or(u64::MAX));
            }
            _ => {}
        }
        let is_long = |text: &str| text.len() as u64 > most;
        match is_long(&self.event_type) || is_long(self.data.strip_suffix('\n').unwrap_or("")) {
            true => Err(EventError::TooLong),
            false => Ok(()),
        }
    }

    fn dispatch(&mut self) {
        self.found.last_id = self.id.clone();
        let (data, name) = (std::mem::take(&mut self.data), std::mem::take(&mut self.event_type));
        if let Some(data) = data.strip_suffix('\n') {
            let name = if name.is_empty() { "message".into() } else { name };
            let id = self.id.clone().unwrap_or_default();
            self.found.events.push((name, data.into(), id));
        }
    }
}

//! Event streams: whatever is encoded, a reader written from the standard hands out, however the
//! stream is cut; and what cannot be encoded is refused.

use heartwheel::core::wire::payload::Payload;
use heartwheel::core::wire::sse;

use super::event_stream::{Reader, Stream};
use super::source::Source;

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let piece_len = 1 + usize::from(source.byte());
    let mut stream = Stream::default();
    while !source.is_empty() {
        add(&mut stream, &mut source);
    }
    let mut reader = Reader::default();
    stream.bytes.chunks(piece_len).for_each(|piece| reader.read(piece));
    stream.compare(&reader);
}

fn add(stream: &mut Stream, source: &mut Source) {
    match source.below(8) {
        0 => stream.add_retry(source.seed()),
        1 => stream.add_comment(),
        2 => {
            let id = source.text();
            match is_field(&id) {
                true => stream.add_position(&id),
                false => assert!(sse::position(&id).is_err()),
            }
        }
        3 => {
            let first = source.chance(128).then(|| source.text()).filter(|id| is_field(id));
            stream.add_gap(source.chance(128).then(|| source.text()), first);
        }
        form => {
            let id = source.text();
            let name = source.chance(128).then(|| source.text());
            let text = source.text();
            let payload = match form {
                4 => Payload::Binary(text.as_bytes()),
                5 => Payload::Json(&text),
                _ => Payload::Text(&text),
            };
            match is_field(&id) && name.as_deref().is_none_or(is_field) {
                true => stream.add_event(&id, name.as_deref(), payload),
                false => assert!(sse::event(&id, name.as_deref(), payload).is_err()),
            }
        }
    }
}

/// Says whether a text can stand on one line of its own.
fn is_field(text: &str) -> bool {
    !text.contains(['\r', '\n', '\0'])
}

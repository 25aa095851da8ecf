//! What is published over HTTP. The body becomes a payload as it comes: when it is complete, it has
//! been checked.

use crate::core::ground::json::Scanner;
use crate::core::topics::Payload;
use crate::core::wire::http::{Refusal, Request};

/// What has come of a body that is taken for text until it proves to be bytes.
#[derive(Clone, Debug)]
pub(crate) struct Posted {
    /// The text, checked once: as it comes.
    text: String,
    /// The bytes behind the text: the beginning of a character, or all from the first byte on that
    /// is no UTF-8.
    behind: Vec<u8>,
    is_text: bool,
    /// Checks the text if it is to be JSON.
    json: Option<Scanner>,
}

impl Posted {
    /// Begins with the head of a request. `None` if the body is bytes and is kept as it comes.
    ///
    /// `application/json` is kept as JSON, `application/octet-stream` and what is not UTF-8 as
    /// bytes, everything else as text.
    pub fn new(request: &Request) -> Option<Posted> {
        let content_type = request.header("Content-Type").unwrap_or_default();
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if media.eq_ignore_ascii_case("application/octet-stream") {
            return None;
        }
        let is_json = media.eq_ignore_ascii_case("application/json");
        let json = is_json.then(Scanner::value);
        Some(Posted { text: String::new(), behind: Vec::new(), is_text: true, json })
    }

    /// Adds the next piece, behind which at most `outstanding` bytes can come.
    pub fn push(&mut self, piece: &[u8], outstanding: u64) {
        let joined;
        let piece = match std::mem::take(&mut self.behind) {
            behind if behind.is_empty() => piece,
            behind if self.is_text => {
                joined = [&behind[..], piece].concat();
                &joined
            }
            mut behind => {
                let room = room(behind.len(), behind.capacity(), piece.len(), outstanding);
                behind.reserve_exact(room);
                behind.extend_from_slice(piece);
                self.behind = behind;
                return;
            }
        };
        let len = match str::from_utf8(piece) {
            Ok(text) => text.len(),
            Err(error) => {
                self.is_text = error.error_len().is_none();
                error.valid_up_to()
            }
        };
        let (text, behind) = piece.split_at(len);
        let room = room(self.text.len(), self.text.capacity(), text.len(), outstanding);
        self.text.reserve_exact(room);
        self.text.push_str(str::from_utf8(text).unwrap_or_default());
        self.behind = behind.to_vec();
        if let Some(scanner) = &mut self.json {
            scanner.go_on(self.text.as_bytes(), &mut |_| ());
        }
    }

    /// Makes the payload of the whole body. The payload has no spare memory, since it may be
    /// retained for long.
    ///
    /// # Errors
    ///
    /// 400, if the body was to be JSON and is not.
    pub fn finish(self) -> Result<Payload, Refusal> {
        let is_text = self.behind.is_empty();
        match self.json {
            Some(_) if !is_text => Err(Refusal::bad_request("the body is not JSON")),
            Some(scanner) => match scanner.end() {
                Ok(()) if self.text.trim_ascii().len() == self.text.len() => {
                    Ok(Payload::Json(self.text.into_boxed_str().into_string().into()))
                }
                Ok(()) => Ok(Payload::Json(self.text.trim_ascii().into())),
                Err(error) => Err(Refusal::bad_request(format!("the body is {error}"))),
            },
            None if is_text => Ok(Payload::text(self.text.into_boxed_str().into_string())),
            None => Ok(Payload::Binary([self.text.as_bytes(), &self.behind].concat().into())),
        }
    }

    /// Returns the heap bytes held.
    pub fn held_bytes(&self) -> usize {
        size_of::<Posted>() + self.text.capacity() + self.behind.capacity()
    }
}

/// Returns how much room a buffer must have behind its `len` bytes for `more`, of which at most
/// `outstanding` follow: it doubles, and does not pass the end.
fn room(len: usize, capacity: usize, more: usize, outstanding: u64) -> usize {
    if capacity - len >= more {
        return more;
    }
    let most = usize::try_from(outstanding).unwrap_or(usize::MAX).saturating_add(more);
    len.clamp(more, most)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::{HeadLimits, HeadReader};

    fn posted(content_type: &str, body: &[u8], piece_len: usize) -> Result<Payload, u16> {
        let lines = format!("Host: a\r\nContent-Length: 1\r\nContent-Type: {content_type}\r\n");
        let head = format!("POST / HTTP/1.1\r\n{lines}\r\n");
        let limits = HeadLimits { head_bytes: 8192, headers: 64 };
        let (_, head) = HeadReader::default().read(head.as_bytes(), &limits).expect("a head");
        let mut posted = Posted::new(&head.expect("a whole head").request).expect("it is text");
        let mut left = body.len();
        for piece in body.chunks(piece_len) {
            left -= piece.len();
            posted.push(piece, left as u64);
            assert!(posted.held_bytes() <= size_of::<Posted>() + 2 * body.len());
        }
        posted.finish().map_err(|refusal| refusal.status())
    }

    #[test]
    fn a_body_is_what_its_type_says_however_it_is_cut() {
        let json = Payload::Json("[\"ü😀\", 1]".into());
        let text = |text: &str| Ok(Payload::text(text));
        let binary = |bytes: &[u8]| Ok(Payload::Binary(bytes.to_vec().into()));
        for (content_type, body, expected) in [
            ("application/json", &b"[\"\xc3\xbc\xf0\x9f\x98\x80\", 1]"[..], Ok(json.clone())),
            ("Application/JSON; a=b", b"\r\n [\"\xc3\xbc\xf0\x9f\x98\x80\", 1]\t", Ok(json)),
            ("application/json", b"[1", Err(400)),
            ("application/json", b"\"\xc3\"", Err(400)),
            ("application/json", b"1 \xc3", Err(400)),
            ("text/plain", b"", text("")),
            ("text/plain", "aü😀".as_bytes(), text("aü😀")),
            ("text/plain", b"[1", text("[1")),
            ("text/plain", b"a\xc3", binary(b"a\xc3")),
            ("text/plain", b"\xc3\xbc\xffa\xc3\xbc", binary(b"\xc3\xbc\xffa\xc3\xbc")),
            ("text/plain", b"a\xf0\x9fb", binary(b"a\xf0\x9fb")),
        ] {
            for piece_len in [1, 2, 3, 100] {
                assert_eq!(posted(content_type, body, piece_len), expected, "{body:x?}");
            }
        }
    }
}

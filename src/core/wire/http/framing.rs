//! How long a body is: the rules of RFC 9112, 6.3, without the leniency that smugglers use.
//!
//! | headers | answer |
//! |---|---|
//! | neither | no body |
//! | one `Content-Length` of digits alone | that many bytes |
//! | `Content-Length` twice, a list, a sign, hexadecimal; the same number twice too | 400 |
//! | `Transfer-Encoding: chunked` | chunks |
//! | both | 400 |
//! | codings unknown here, `chunked` last or missing | 501 |
//! | `chunked` twice or not last, what only looks like it, two lines, or in HTTP/1.0 | 400 |
//!
//! The length of a response follows the same rules; where the table has a status, its reader gets
//! an error. Besides: an answer to HEAD and one with 1xx, 204 or 304 has no body, whatever its
//! headers say, and an answer without either header ends with the connection.

use super::headers::Headers;
use super::refusal::Refusal;
use super::request::Request;
use super::syntax::{is_token, trim};

/// How long the body of a request or of a response is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body, and no header announces one.
    None,
    /// This many bytes, perhaps zero.
    Length(u64),
    /// As many as the chunks say.
    Chunked,
    /// All bytes until the connection is closed: only in a response.
    Close,
}

/// What the request allows its response to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Any response, with or without a body.
    Any,
    /// The request was HEAD: no response to it has a body.
    Head,
    /// The request was an upgrade: 101 may answer it.
    Upgrade,
}

/// The versions of HTTP spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0, used by simple health checks: answered, then closed.
    Http10,
    /// HTTP/1.1.
    Http11,
}

impl BodyLength {
    /// Returns whether no byte of a body follows.
    pub fn is_empty(self) -> bool {
        matches!(self, BodyLength::None | BodyLength::Length(0))
    }

    /// Returns the length of a request's body, by its headers.
    pub(super) fn of(headers: &Headers, version: Version) -> Result<BodyLength, Refusal> {
        let lengths: Vec<_> = headers.values("content-length").collect();
        let codings: Vec<_> = headers.values("transfer-encoding").collect();
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(BodyLength::None),
            ([length], []) => parse_length(length).map(BodyLength::Length),
            ([], [coding]) if version == Version::Http11 => check_coding(coding),
            ([], [_]) => Err(Refusal::bad_request("HTTP/1.0 has no Transfer-Encoding")),
            _ => Err(Refusal::bad_request("the length of the body is ambiguous")),
        }
    }

    /// Returns the length of a response's body, by its headers and what was asked.
    pub(super) fn of_response(
        asked: Asked,
        status: u16,
        headers: &Headers,
        version: Version,
    ) -> Result<BodyLength, Refusal> {
        let length = BodyLength::of(headers, version)?;
        if asked == Asked::Head || status < 200 || matches!(status, 204 | 304) {
            return Ok(BodyLength::None);
        }
        Ok(if length == BodyLength::None { BodyLength::Close } else { length })
    }
}

/// Checks that a body is not encoded: no body is decoded here.
///
/// # Errors
///
/// 415, if a Content-Encoding names anything but `identity`.
pub fn check_encoding(request: &Request) -> Result<(), Refusal> {
    let is_identity = |coding: &[u8]| coding.eq_ignore_ascii_case(b"identity");
    match request.header_list("content-encoding").all(is_identity) {
        true => Ok(()),
        false => Err(Refusal::unsupported_encoding()),
    }
}

fn parse_length(digits: &[u8]) -> Result<u64, Refusal> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(Refusal::bad_request("Content-Length is not a number"));
    }
    // A number that does not fit is longer than any limit, which the body reader checks.
    Ok(digits.iter().fold(0u64, |length, digit| {
        length.saturating_mul(10).saturating_add(u64::from(digit - b'0'))
    }))
}

fn check_coding(value: &[u8]) -> Result<BodyLength, Refusal> {
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    if is_chunked(value) {
        return Ok(BodyLength::Chunked);
    }
    let mut codings: Vec<_> = value.split(|byte| *byte == b',').map(trim).collect();
    codings.pop_if(|last| is_chunked(last));
    let is_suspicious = |coding: &&[u8]| {
        !is_token(coding) || coding.to_ascii_lowercase().windows(7).any(|part| part == b"chunked")
    };
    match codings.iter().any(is_suspicious) {
        true => Err(Refusal::bad_request("Transfer-Encoding is malformed")),
        false => Err(Refusal::new(501, "this transfer coding is not known here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::head::tests::read;

    fn body_length(headers: &str) -> Result<BodyLength, u16> {
        read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n")).map(|head| head.body)
    }

    #[test]
    fn bodies_are_delimited() {
        for (headers, expected) in [
            ("", BodyLength::None),
            ("Content-Length: 0\r\n", BodyLength::Length(0)),
            ("content-length:\t 007 \r\n", BodyLength::Length(7)),
            ("Content-Length: 18446744073709551615\r\n", BodyLength::Length(u64::MAX)),
            ("Content-Length: 99999999999999999999999\r\n", BodyLength::Length(u64::MAX)),
            ("Transfer-Encoding: chunked\r\n", BodyLength::Chunked),
            ("Transfer-Encoding: Chunked \r\n", BodyLength::Chunked),
        ] {
            assert_eq!(body_length(headers), Ok(expected), "{headers:?}");
        }
    }

    // FAULTS 21.
    #[test]
    fn smuggling_is_refused() {
        for value in
            ["+5", "-5", "0x5", "5 5", "5,5", "5, 6", "", "5;", "\u{663}", "1e1", "5_0", "5."]
        {
            assert_eq!(body_length(&format!("Content-Length: {value}\r\n")), Err(400), "{value}");
        }
        for headers in [
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: 5\r\nContent-Length: 6\r\n",
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\ncontent-length: 5\r\n",
            "Transfer-Encoding: gzip\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            "Transfer-Encoding : chunked\r\n",
            "Transfer-Encoding: chun\r\n ked\r\n",
        ] {
            assert_eq!(body_length(headers), Err(400), "{headers:?}");
        }
        for coding in [
            "chunked, chunked",
            "xchunked",
            "chunkedx",
            ", chunked",
            "chunked,",
            "chunked;q=1",
            "chunked, gzip",
            "chunked gzip",
            "\"chunked\"",
            "xchunked, chunked",
            "\u{b}chunked",
            "",
        ] {
            let verdict = body_length(&format!("Transfer-Encoding: {coding}\r\n"));
            assert_eq!(verdict, Err(400), "{coding:?}");
        }
        let old = read("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n");
        assert_eq!(old.map(|head| head.body), Err(400));
    }

    // FAULTS 176.
    #[test]
    fn an_encoded_body_is_not_taken() {
        for (lines, status) in [
            ("", None),
            ("Content-Encoding:\r\n", None),
            ("Content-Encoding: Identity\r\n", None),
            ("Content-Encoding: gzip\r\n", Some(415)),
            ("Content-Encoding: identity, br\r\n", Some(415)),
            ("Content-Encoding: identity\r\ncontent-encoding: zstd\r\n", Some(415)),
        ] {
            let head = read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{lines}\r\n")).unwrap();
            let verdict = check_encoding(&head.request);
            assert_eq!(verdict.err().map(|refusal| refusal.status()), status, "{lines:?}");
        }
    }

    #[test]
    fn unknown_codings_are_not_implemented() {
        for coding in ["gzip", "identity", "gzip, chunked", "gzip,deflate , CHUNKED"] {
            let verdict = body_length(&format!("Transfer-Encoding: {coding}\r\n"));
            assert_eq!(verdict, Err(501), "{coding:?}");
        }
    }
}

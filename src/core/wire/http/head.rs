//! Request heads, read as their bytes come.
//!
//! Which errors get which answer stands in scan.rs for lines, in target.rs for targets and in
//! framing.rs for the lengths of bodies. Besides: a blank before a colon and other malformed
//! headers, no Host in HTTP/1.1, two Hosts or one that is not `host[:port]` get 400.

use httparse::{EMPTY_HEADER, Status};
use tungstenite::Bytes;

use super::authority::Authority;
use super::buffer;
use super::framing::{BodyLength, Version};
use super::refusal::Refusal;
use super::request::Request;
use super::scan::{EMPTY_LINES_MAX, HeadLimits, Scan, Start};
use super::target::Target;

/// The part of a head that has come so far. Before its first byte it uses no heap.
#[derive(Debug, Default)]
pub struct HeadReader(Option<Box<Partial>>);

#[derive(Debug, Default)]
struct Partial {
    bytes: Vec<u8>,
    scan: Scan,
}

impl HeadReader {
    /// Takes bytes from the front of `input`. Returns how many were used, and the head once it is
    /// complete; without a head all were used.
    ///
    /// A head that is whole in `input` is not copied into a partial one first. Each byte is looked
    /// at once, however small the pieces are.
    ///
    /// # Errors
    ///
    /// If this is no acceptable head. Nothing more can be read on this connection then.
    pub fn read(
        &mut self,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<(usize, Option<Head>), Refusal> {
        let (used, found) = self.find(Start::Request, input, limits)?;
        let head = found.map(|(bytes, headers)| Head::parse(&bytes, headers)).transpose()?;
        Ok((used, head))
    }

    /// Takes bytes as [`HeadReader::read`] does, of a head that begins with `start`. Returns the
    /// bytes of a complete head, and the number of its header lines.
    pub(super) fn find(
        &mut self,
        start: Start,
        input: &[u8],
        limits: &HeadLimits,
    ) -> Result<(usize, Option<(Bytes, usize)>), Refusal> {
        let held = self.0.take();
        let mut scan = held.as_ref().map_or_else(Scan::default, |partial| partial.scan);
        let Some(end) = scan.find_end(start, input, limits)? else {
            if held.is_some() || !input.is_empty() {
                let mut partial = held.unwrap_or_default();
                buffer::append(&mut partial.bytes, input, limits.head_bytes);
                partial.scan = scan;
                self.0 = Some(partial);
            }
            return Ok((input.len(), None));
        };
        let bytes = match held {
            None => Bytes::copy_from_slice(&input[..end]),
            Some(mut partial) => {
                buffer::append(&mut partial.bytes, &input[..end], limits.head_bytes);
                partial.bytes.into_boxed_slice().into()
            }
        };
        Ok((end, Some((bytes, scan.headers()))))
    }

    /// Returns how many bytes at the front of `input` continue the empty lines that are allowed
    /// between two requests, of which `blank` bytes have come: they begin no request.
    pub fn blank_bytes(blank: u8, input: &[u8]) -> usize {
        let rest = BLANK.get(usize::from(blank)..).unwrap_or_default();
        rest.iter().zip(input).take_while(|(expected, byte)| expected == byte).count()
    }

    /// Makes a reader for what follows `blank` bytes of empty lines.
    pub fn behind_blank(blank: u8, limits: &HeadLimits) -> HeadReader {
        let mut reader = HeadReader::default();
        let blank = &BLANK[..usize::from(blank).min(BLANK.len())];
        // If the limits do not even allow these, they allow no head behind them either.
        let _ = reader.read(blank, limits);
        reader
    }

    /// Returns whether no byte of a head has come yet.
    pub fn is_idle(&self) -> bool {
        self.0.is_none()
    }

    /// Returns whether the head that has begun, and continues with `input`, is that of a HEAD
    /// request, as far as it shows: no answer to HEAD has a body.
    pub fn is_for_head(&self, input: &[u8]) -> bool {
        let held = self.0.as_ref().map_or(&[][..], |partial| &partial.bytes);
        let line = held.iter().chain(input).skip_while(|byte| b"\r\n".contains(byte));
        let mut begun = line.zip(METHOD_HEAD).peekable();
        begun.peek().is_some() && begun.all(|(byte, expected)| byte == expected)
    }

    /// Returns the heap bytes held: at most about `head_bytes`.
    pub fn held_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |partial| size_of::<Partial>() + partial.bytes.capacity())
    }
}

/// A request head, and what it means for the connection.
#[derive(Clone, Debug)]
pub struct Head {
    /// The request, still without its body.
    pub request: Request,
    /// How long its body is.
    pub body: BodyLength,
    /// The version of the protocol.
    pub version: Version,
    /// Whether another request may follow: in HTTP/1.1, unless it says `Connection: close`.
    pub keep_alive: bool,
    /// Whether the peer waits for [`CONTINUE`](super::CONTINUE) before it sends the body.
    pub expects_continue: bool,
}

impl Head {
    /// Parses a complete head, in which the scan has found `headers` header lines.
    fn parse(bytes: &Bytes, headers: usize) -> Result<Head, Refusal> {
        let mut headers = vec![EMPTY_HEADER; headers];
        let mut parsed = httparse::Request::new(&mut headers);
        match parsed.parse(bytes) {
            Ok(Status::Complete(_)) => {}
            Err(httparse::Error::HeaderName | httparse::Error::HeaderValue) => {
                return Err(Refusal::bad_request("a header line is malformed"));
            }
            _ => return Err(Refusal::bad_request("the request line is malformed")),
        }
        let method = parsed.method.unwrap_or_default();
        let target = Target::parse(method, parsed.path.unwrap_or_default())?;
        let version = if parsed.version == Some(0) { Version::Http10 } else { Version::Http11 };
        let request = Request::new(bytes, method, &target, parsed.headers);
        check_host(&request, version)?;
        let body = BodyLength::of(request.lines(), version)?;
        Ok(Head {
            body,
            version,
            keep_alive: version == Version::Http11 && !request.has_token("connection", "close"),
            expects_continue: version == Version::Http11
                && !matches!(body, BodyLength::None | BodyLength::Length(0))
                && request.has_token("expect", "100-continue"),
            request,
        })
    }
}

/// RFC 9112, 3.2: one valid Host line; an empty one is valid.
fn check_host(request: &Request, version: Version) -> Result<(), Refusal> {
    let is_valid = match request.header_values("host").count() {
        0 => version == Version::Http10,
        1 => request
            .header("host")
            .is_some_and(|host| host.is_empty() || Authority::parse(host).is_some()),
        _ => false,
    };
    match is_valid {
        true => Ok(()),
        false => Err(Refusal::bad_request("one valid Host header is needed")),
    }
}

/// As many empty lines as a head may begin with.
const BLANK: &[u8; 2 * EMPTY_LINES_MAX as usize] = b"\r\n\r\n\r\n\r\n";

/// How a request line with that method begins.
const METHOD_HEAD: &[u8] = b"HEAD ";

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub const LIMITS: HeadLimits = HeadLimits { head_bytes: 8192, headers: 64 };

    /// Reads a head whole and byte by byte, and expects the same verdict.
    pub fn read(text: &str) -> Result<Head, u16> {
        read_bytes(text.as_bytes())
    }

    /// Reads the request of a good head.
    pub fn request(text: &str) -> Request {
        read(text).unwrap().request
    }

    /// Returns a source of numbers below a bound, the same ones each time (xorshift).
    pub fn random() -> impl FnMut(usize) -> usize {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below as u64) as usize
        }
    }

    fn read_bytes(bytes: &[u8]) -> Result<Head, u16> {
        let whole = read_in_pieces(bytes, bytes.len().max(1));
        let dripped = read_in_pieces(bytes, 1);
        let summary = |verdict: &Result<Head, u16>| match verdict {
            Ok(head) => Ok(format!("{head:?}")),
            Err(status) => Err(*status),
        };
        assert_eq!(summary(&whole), summary(&dripped), "{}", bytes.escape_ascii());
        whole
    }

    fn read_in_pieces(bytes: &[u8], piece_len: usize) -> Result<Head, u16> {
        let mut reader = HeadReader::default();
        for (index, piece) in bytes.chunks(piece_len).enumerate() {
            match reader.read(piece, &LIMITS) {
                Ok((_, Some(head))) => {
                    assert!(reader.is_idle() && reader.held_bytes() == 0);
                    return Ok(head);
                }
                Ok((used, None)) => assert_eq!(used, piece.len(), "in piece {index}"),
                Err(refusal) => return Err(refusal.status()),
            }
        }
        panic!("no verdict on {}", bytes.escape_ascii());
    }

    #[test]
    fn a_head_is_read_up_to_its_end() {
        let text = b"POST /a?b HTTP/1.1\r\nHost: x:1\r\nContent-Length: 3\r\n\r\nabc";
        let mut reader = HeadReader::default();
        let (used, head) = reader.read(text, &LIMITS).unwrap();
        let head = head.unwrap();
        assert_eq!(used, text.len() - 3);
        assert_eq!((head.request.method(), head.request.path()), ("POST", "/a"));
        assert_eq!(head.body, BodyLength::Length(3));
        assert!(head.keep_alive && !head.expects_continue);
    }

    #[test]
    fn a_reader_at_rest_holds_nothing() {
        let mut reader = HeadReader::default();
        assert_eq!(size_of_val(&reader), size_of::<usize>());
        assert!(matches!(reader.read(b"", &LIMITS), Ok((0, None))));
        assert!(reader.is_idle() && reader.held_bytes() == 0);
        reader.read(b"G", &LIMITS).unwrap();
        assert!(!reader.is_idle() && reader.held_bytes() > 0);
    }

    #[test]
    fn what_follows_a_head_is_left() {
        let two = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        for cut in 0..=two.len() / 2 {
            let mut reader = HeadReader::default();
            let (before, none) = reader.read(&two[..cut], &LIMITS).unwrap();
            if cut < two.len() / 2 {
                assert!(none.is_none());
                let (used, head) = reader.read(&two[cut..], &LIMITS).unwrap();
                assert_eq!(before + used, two.len() / 2);
                assert_eq!(head.unwrap().request.path(), "/a");
            }
        }
    }

    #[test]
    fn the_connection_is_kept_when_both_may() {
        for (text, keep_alive) in [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nHost: a\r\nConnection: x\r\nConnection: y, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", false),
        ] {
            assert_eq!(read(text).unwrap().keep_alive, keep_alive, "{text:?}");
        }
    }

    #[test]
    fn continue_is_expected_for_a_body_only() {
        for (headers, expected) in [
            ("Expect: 100-Continue\r\nContent-Length: 1", true),
            ("Expect: 100-continue\r\nTransfer-Encoding: chunked", true),
            ("Expect: 100-continue\r\nContent-Length: 0", false),
            ("Expect: 100-continue", false),
            ("Expect: 200-ok\r\nContent-Length: 1", false),
        ] {
            let head = read(&format!("POST / HTTP/1.1\r\nHost: a\r\n{headers}\r\n\r\n")).unwrap();
            assert_eq!(head.expects_continue, expected, "{headers:?}");
        }
    }

    // FAULTS 20, 23, CONTRACT 5: what the scan lets pass and the parser does not.
    #[test]
    fn malformed_heads_are_refused() {
        for text in [
            "GET / HTTP/1.1\r\nHost: a\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nA(: b\r\n\r\n",
            "GET / HTTP/1.1\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
            "GET http://a/ HTTP/1.1\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /\tHTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /%00 HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: a\r\n\r\n",
            "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n",
        ] {
            assert_eq!(read(text).err(), Some(400), "{text:?}");
        }
        assert_eq!(
            read_bytes(b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n").err(),
            Some(400),
            "invalid UTF-8"
        );
        assert!(read("GET / HTTP/1.1\r\nHost:\r\n\r\n").is_ok());
    }

    // FAULTS 25 and 176: empty lines between requests are forgiven as those before the first.
    #[test]
    fn empty_lines_go_on_wherever_they_were_cut() {
        for (lines, status) in [("", None), ("\r\n", None), ("\r\n\r\n\r\n\r\n", None)]
            .into_iter()
            .chain([("\r", Some(400)), ("\n", Some(400)), ("\r\n\r\n\r\n\r\n\r\n", Some(400))])
        {
            let text = format!("{lines}GET / HTTP/1.1\r\nHost: a\r\n\r\n");
            for piece_len in [1, 2, 3, 100] {
                let mut blank = 0;
                let mut pieces = text.as_bytes().chunks(piece_len);
                let mut verdict = None;
                let rest = pieces.find_map(|piece| {
                    let used = HeadReader::blank_bytes(blank, piece);
                    blank += used as u8;
                    (used < piece.len()).then_some(&piece[used..])
                });
                let mut reader = HeadReader::behind_blank(blank, &LIMITS);
                for piece in rest.into_iter().chain(pieces) {
                    match reader.read(piece, &LIMITS) {
                        Ok((_, None)) => {}
                        Ok((_, Some(_))) => verdict = Some(None),
                        Err(refusal) => {
                            verdict = Some(Some(refusal.status()));
                            break;
                        }
                    }
                }
                assert_eq!(verdict, Some(status), "{lines:?} by {piece_len}");
            }
        }
    }

    #[test]
    fn a_head_request_is_known_by_its_first_word() {
        for (held, input, expected) in [
            ("", "", false),
            ("", "HEAD / x", true),
            ("HE", "AD /", true),
            ("\r\n", "HEAD /", true),
            ("\r\n\r", "\nHEA", true),
            ("\r\n", "", false),
            ("", "GET /", false),
            ("", "HEADER /", false),
        ] {
            let mut reader = HeadReader::default();
            reader.read(held.as_bytes(), &LIMITS).unwrap();
            assert_eq!(reader.is_for_head(input.as_bytes()), expected, "{held:?} {input:?}");
        }
    }

    // FAULTS 17, 23.
    #[test]
    fn limits_are_kept() {
        let path = "x".repeat(8192);
        assert_eq!(read(&format!("GET /{path} HTTP/1.1\r\nHost: a\r\n\r\n")).err(), Some(431));
        for (count, status) in [(63, None), (64, Some(431))] {
            let headers = "A: b\r\n".repeat(count);
            let text = format!("GET / HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
            assert_eq!(read(&text).err(), status, "{count} headers");
        }
    }

    /// A head dripped byte by byte: memory follows what was received, is rarely moved, and never
    /// passes the limit. The scan's own test shows that no byte is looked at twice.
    #[test]
    fn a_dripped_head_costs_linear_work() {
        let text = format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(8000));
        let mut reader = HeadReader::default();
        let mut growths = 0;
        for (received, byte) in text.bytes().enumerate() {
            let before = reader.held_bytes();
            reader.read(&[byte], &LIMITS).unwrap();
            growths += usize::from(reader.held_bytes() != before);
            let held = reader.0.as_ref().unwrap().bytes.capacity();
            assert!(held <= LIMITS.head_bytes && held <= 64 + 2 * received, "{held} {received}");
        }
        assert!(growths <= 10, "{growths} growths");
    }

    /// Random changes of a good head: no panic, and the same verdict whole and dripped.
    #[test]
    fn hostile_heads_never_panic() {
        let good = b"POST http://a:1/p%41?q=1 HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n";
        let mut random = random();
        for _ in 0..20_000 {
            let mut bytes = good.to_vec();
            for _ in 0..1 + random(3) {
                let at = random(bytes.len());
                match random(3) {
                    0 => bytes[at] = b"\r\n :,/%?#*\0\x7f\xffHTTP/1.0A5"[random(23)],
                    1 => drop(bytes.remove(at)),
                    _ => bytes.insert(at, bytes[random(bytes.len())]),
                }
            }
            bytes.extend_from_slice(b"\r\n\r\n");
            let _ = read_bytes(&bytes);
        }
    }
}

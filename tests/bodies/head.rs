//! Requests as they come: any bytes are read or refused, in whatever pieces they come, and what is
//! made of them is sound.
//!
//! Requests follow each other as on a connection. Of each: the verdicts on Host, Origin and upgrade
//! do not panic, their answers parse as one answer, and what is upgraded here is upgraded by
//! tungstenite, with the same key.

use heartwheel::core::wire::sse;
use heartwheel::http::{
    self, BodyReader, Caching, Cors, Head, HeadLimits, HeadReader, Hosts, Origins, Refusal,
    Response, Wire,
};
use tungstenite::handshake::server::{Request as OracleRequest, create_response};
use tungstenite::http as oracle;

use super::rng::Rng;
use super::source::Source;

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let limits = Limits {
        head: HeadLimits {
            head_bytes: source.pick(&[8192, 100, 300]),
            headers: source.pick(&[64, 1, 4]),
        },
        body_bytes: source.pick(&[1000, 0, 10]),
    };
    let mut rng = Rng::new(source.seed());
    let bytes = source.rest();

    let whole = Reading::new(bytes, &limits, |left| left);
    let dripped = Reading::new(bytes, &limits, |_| 1);
    let in_pieces = Reading::new(bytes, &limits, |left| 1 + rng.below(left as u64) as usize);
    assert_eq!(whole.story, dripped.story);
    assert_eq!(whole.story, in_pieces.story);

    whole.heads.iter().for_each(judge);
    if let Some(refusal) = whole.refusal {
        check_answer(refusal.into());
    }
}

struct Limits {
    head: HeadLimits,
    body_bytes: u64,
}

/// What was read of a connection: until it ended, or changed its protocol.
#[derive(Default)]
struct Reading {
    heads: Vec<Head>,
    refusal: Option<Refusal>,
    /// What was found, and behind which byte.
    story: Vec<(usize, String)>,
}

enum Reader {
    Head(HeadReader),
    Body(BodyReader),
}

impl Reading {
    fn new(bytes: &[u8], limits: &Limits, mut piece: impl FnMut(usize) -> usize) -> Reading {
        let mut reading = Reading::default();
        let mut reader = Reader::Head(HeadReader::default());
        let (mut at, mut piece_end) = (0, 0);
        while at < bytes.len() {
            if at == piece_end {
                piece_end += piece(bytes.len() - at);
            }
            match reading.read(&mut reader, at, &bytes[at..piece_end], limits) {
                Ok(Some(used)) => at += used,
                Ok(None) => break,
                Err(refusal) => {
                    // Where exactly depends on the pieces, what and why does not.
                    reading.story.push((0, format!("{refusal:?}")));
                    reading.refusal = Some(refusal);
                    break;
                }
            }
            let received = at;
            match &reader {
                Reader::Head(head) => assert!(head.held_bytes() <= limits.head.head_bytes + 200),
                Reader::Body(body) => assert!(body.held_bytes() <= 2 * received + 64),
            }
        }
        reading
    }

    /// Reads on, and gives how many bytes were used; nothing if nothing follows.
    fn read(
        &mut self,
        reader: &mut Reader,
        at: usize,
        input: &[u8],
        limits: &Limits,
    ) -> Result<Option<usize>, Refusal> {
        let body = match reader {
            Reader::Head(head) => {
                let (used, head) = head.read(input, &limits.head)?;
                let Some(head) = head else {
                    assert_eq!(used, input.len(), "a part of a head is used whole");
                    return Ok(Some(used));
                };
                self.story.push((at + used, format!("{head:?}")));
                let mut body = BodyReader::new(head.body, limits.body_bytes, &limits.head)?;
                let (nothing, body_of_none) = body.read(&[])?;
                assert_eq!(nothing, 0);
                self.heads.push(head);
                if body_of_none.is_none() {
                    *reader = Reader::Body(body);
                    return Ok(Some(used));
                }
                (used, body_of_none)
            }
            Reader::Body(body) => body.read(input)?,
        };
        let (used, Some(body)) = body else {
            assert_eq!(body.0, input.len(), "a part of a body is used whole");
            return Ok(Some(body.0));
        };
        assert!(body.len() as u64 <= limits.body_bytes);
        self.story.push((at + used, format!("{body:?}")));
        *reader = Reader::Head(HeadReader::default());
        let head = self.heads.last().expect("a body has a head");
        let goes_on = head.keep_alive && !http::wants_websocket(&head.request);
        Ok(goes_on.then_some(used))
    }
}

/// Asks all that is asked about a request.
fn judge(head: &Head) {
    let request = &head.request;
    assert!(request.path().starts_with('/') || request.method() == "OPTIONS");
    assert!(!request.path().contains(char::is_control));
    request.query_values("topic").for_each(|value| drop(value.into_owned()));
    let _ = (sse::last_event_id(request), request.host());
    for (name, value) in request.headers() {
        assert!(!name.is_empty() && !value.iter().any(|byte| b"\r\n\0".contains(byte)));
    }

    for hosts in [Hosts::Auto, Hosts::Any] {
        if let Err(refusal) = hosts.check(request.host(), "here", "admission.hosts") {
            check_answer(refusal.into());
        }
    }
    match Origins::Same.check(request, false) {
        Ok(admitted) => check_answer(http::preflight(request).cors(&admitted.cors())),
        Err(refusal) => check_answer(Response::from(refusal).cors(&Cors::refused(request))),
    }
    if let Ok(admitted) = Origins::Any.check(request, false) {
        let response = Response::new(200).caching(Caching::Topics);
        check_answer(response.cors(&admitted.cors()));
    }
    assert!(http::offers_websocket(request) || !http::wants_websocket(request));
    match http::upgrade(head) {
        Ok(accepted) if is_plain(head) => assert_eq!(oracle_key(head), Some(accepted.accept_key)),
        Ok(_) => {}
        Err(refusal) => check_answer(refusal.into()),
    }
}

/// An answer is one answer, whatever the request was.
fn check_answer(response: Response) {
    let wire = Wire { date: "D", keep_alive: None, head_only: false };
    let bytes = response.encode(&wire);
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Response::new(&mut headers);
    let status = parsed.parse(&bytes).expect("an answer is well-formed");
    assert_eq!(status.unwrap() + response.body().len(), bytes.len());
    assert_eq!(parsed.code, Some(response.status()));
    let mut names: Vec<_> = parsed.headers.iter().map(|h| h.name.to_ascii_lowercase()).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|two| two[0] != two[1]), "a header stands twice: {names:?}");
}

/// Tungstenite knows one line of each header, an Upgrade of one token, and a key whose pad bits are
/// zero.
fn is_plain(head: &Head) -> bool {
    let request = &head.request;
    let is_websocket = |value: &[u8]| value.eq_ignore_ascii_case(b"websocket");
    request.header_values("upgrade").all(is_websocket)
        && request.header_values("upgrade").count() == 1
        && request.header_values("connection").count() == 1
        && request.header("sec-websocket-key").is_some_and(|key| {
            matches!(key.as_bytes(), [.., b'A' | b'Q' | b'g' | b'w', b'=', b'='])
        })
}

/// Gives the accept key of tungstenite, if it accepts.
fn oracle_key(head: &Head) -> Option<String> {
    let mut request = OracleRequest::new(());
    *request.version_mut() = oracle::Version::HTTP_11;
    for (name, value) in head.request.headers() {
        let name: oracle::HeaderName = name.parse().ok()?;
        let value = oracle::HeaderValue::from_bytes(value).ok()?;
        request.headers_mut().append(name, value);
    }
    let response = create_response(&request).ok()?;
    Some(response.headers()["Sec-WebSocket-Accept"].to_str().ok()?.into())
}

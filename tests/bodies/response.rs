//! Responses as a client reads them: any bytes are read or refused, in whatever pieces they come,
//! and what is taken, httparse and tungstenite's client take for the same.
//!
//! Responses follow each other as on a connection that is kept. The end of the input is the end of
//! the connection.

use heartwheel::http::{
    Asked, BodyReader, HeadLimits, ResponseError, ResponseHead, ResponseReader, UpgradeKey,
    check_switch,
};

use super::responses::{is_stricter, oracle};
use super::rng::Rng;
use super::source::Source;

pub fn run(input: &[u8]) {
    let mut source = Source::new(input);
    let asked = source.pick(&[Asked::Any, Asked::Head, Asked::Upgrade]);
    let limits = Limits {
        head: HeadLimits {
            head_bytes: source.pick(&[8192, 100, 300]),
            headers: source.pick(&[64, 1, 4]),
        },
        body_bytes: source.pick(&[1000, 0, 10]),
    };
    let mut rng = Rng::new(source.seed());
    let bytes = source.rest();

    let whole = read(asked, bytes, &limits, |left| left);
    assert_eq!(whole, read(asked, bytes, &limits, |_| 1));
    let in_pieces = |left| 1 + rng.below(left as u64) as usize;
    assert_eq!(whole, read(asked, bytes, &limits, in_pieces));
    judge(asked, bytes, &limits);
}

struct Limits {
    head: HeadLimits,
    body_bytes: u64,
}

enum Reader {
    Head(ResponseReader),
    Body(ResponseHead, BodyReader),
    /// Behind a 101, an error, or what is not to be followed by anything.
    Done,
}

/// Reads a whole connection, and tells what was found, and behind which byte.
fn read(
    asked: Asked,
    bytes: &[u8],
    limits: &Limits,
    mut piece: impl FnMut(usize) -> usize,
) -> Vec<(usize, String)> {
    let mut story = Vec::new();
    let mut reader = Reader::Head(ResponseReader::default());
    let (mut at, mut piece_end) = (0, 0);
    while at < bytes.len() && !matches!(reader, Reader::Done) {
        if at == piece_end {
            piece_end += piece(bytes.len() - at);
        }
        match step(&mut reader, asked, &bytes[at..piece_end], limits, &mut story, at) {
            Ok(used) => at += used,
            Err(error) => {
                // Where exactly depends on the pieces, what and why does not.
                story.push((0, error.to_string()));
                return story;
            }
        }
        match &reader {
            Reader::Head(head) => assert!(head.held_bytes() <= limits.head.head_bytes + 200),
            Reader::Body(_, body) => assert!(body.held_bytes() <= 2 * at + 64),
            Reader::Done => {}
        }
    }
    match reader {
        Reader::Body(_, body) => story.push((at, format!("{:?}", body.close()))),
        Reader::Head(reader) => story.push((at, format!("{}", reader.is_idle()))),
        Reader::Done => {}
    }
    story
}

/// Reads on, and gives how many bytes were used.
fn step(
    reader: &mut Reader,
    asked: Asked,
    input: &[u8],
    limits: &Limits,
    story: &mut Vec<(usize, String)>,
    at: usize,
) -> Result<usize, ResponseError> {
    let (used, body) = match reader {
        Reader::Done => unreachable!("nothing is read on"),
        Reader::Head(head) => {
            let (used, head) = head.read(asked, input, &limits.head)?;
            let Some(head) = head else {
                assert_eq!(used, input.len(), "a part of a head is used whole");
                return Ok(used);
            };
            let lines: Vec<_> = head.headers().collect();
            story.push((at + used, format!("{head:?} {lines:?}")));
            if head.status() == 101 {
                *reader = Reader::Done;
                return Ok(used);
            }
            let mut body = BodyReader::new(head.body(), limits.body_bytes, &limits.head)?;
            let (nothing, empty) = body.read(&[])?;
            assert_eq!(nothing, 0);
            *reader = Reader::Body(head, body);
            (used, empty)
        }
        Reader::Body(_, body) => {
            let (used, body) = body.read(input)?;
            assert!(body.is_some() || used == input.len(), "a part of a body is used whole");
            (used, body)
        }
    };
    let Some(body) = body else { return Ok(used) };
    assert!(body.len() as u64 <= limits.body_bytes);
    story.push((at + used, format!("{body:?}")));
    let Reader::Body(head, _) = reader else { unreachable!("a body has a head") };
    *reader = match head.keep_alive() {
        true => Reader::Head(ResponseReader::default()),
        false => Reader::Done,
    };
    Ok(used)
}

/// Holds the first response against httparse and tungstenite.
fn judge(asked: Asked, bytes: &[u8], limits: &Limits) {
    let Ok((used, Some(head))) = ResponseReader::default().read(asked, bytes, &limits.head) else {
        return;
    };
    // An interim response before it is httparse's first one.
    let mut lines = [httparse::EMPTY_HEADER; 64];
    let mut theirs = httparse::Response::new(&mut lines);
    let status = theirs.parse(&bytes[..used]).expect("what is read here is read there");
    if theirs.code == Some(head.status()) && status == httparse::Status::Complete(used) {
        let lines = theirs.headers.iter().map(|line| (line.name, line.value));
        assert!(head.headers().eq(lines));
    } else {
        assert!(theirs.code.is_some_and(|code| (100..200).contains(&code)));
        return;
    }
    if asked == Asked::Upgrade {
        let key = UpgradeKey::new(*b"the sample nonce");
        for offered in [&[][..], &["v1", "v2"]] {
            let ours = check_switch(&head, &key, offered);
            let theirs = oracle(&bytes[..used], &key, offered);
            let is_same = ours.is_ok() == theirs.is_ok();
            assert!(is_same || is_stricter(&head, ours), "{ours:?} {theirs:?}");
        }
    }
}

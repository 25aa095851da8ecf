//! The client's reader of responses against httparse, and its verdict on the answer to an upgrade
//! against that of tungstenite's client. `ROUNDS` and `SEED` as in `differential.rs`.

use heartwheel::http::{Asked, HeadLimits, ResponseReader, UpgradeKey, check_switch};

use super::common::responses::{is_stricter, oracle};
use super::common::rng::Rng;
use super::{below, number};

/// Answers put together of lines that are right, wrong, doubled or left out: tungstenite and we say
/// the same, but for the differences that `is_stricter` names.
#[test]
fn a_client_and_tungstenites_client_judge_answers_alike() {
    let key = UpgradeKey::new(*b"the sample nonce");
    let (mut switched, mut refused, mut stricter) = (0, 0, 0);
    let rounds = number("ROUNDS").unwrap_or(20_000);
    let first = number("SEED").unwrap_or(1);
    for seed in first..first + rounds {
        let mut rng = Rng::new(seed);
        let answer = answer(&mut rng);
        let offered: &[&str] = if rng.chance(50) { &[] } else { &["v1", "v2"] };
        let mut reader = ResponseReader::default();
        let theirs = oracle(answer.as_bytes(), &key, offered);
        match reader.read(Asked::Upgrade, answer.as_bytes(), &LIMITS) {
            Ok((used, head)) => {
                let head = head.expect("the answer is whole");
                assert_eq!(used, answer.len());
                let ours = check_switch(&head, &key, offered);
                let is_same = ours.is_ok() == theirs.is_ok();
                let is_stricter = !is_same && is_stricter(&head, ours);
                assert!(is_same || is_stricter, "SEED={seed} {ours:?} {theirs:?}\n{answer}");
                stricter += u64::from(is_stricter);
                switched += u64::from(ours.is_ok());
                refused += u64::from(ours.is_err());
            }
            Err(error) => {
                // What tungstenite takes nevertheless is a malformed length.
                let is_ambiguous = ["Content-Length", "Transfer-Encoding"]
                    .iter()
                    .any(|name| answer.contains(name));
                assert!(theirs.is_err() || is_ambiguous, "SEED={seed} {error}\n{answer}");
                refused += 1;
            }
        }
    }
    println!("{rounds} answers: {switched} switched, {refused} refused, {stricter} otherwise");
    assert!(rounds < 10_000 || switched.min(refused).min(stricter) > rounds / 100);
}

/// Status lines and header lines of all kinds: what is read here, httparse reads as the same, and
/// what it does not read, we do not.
#[test]
fn a_client_and_httparse_read_the_same_heads() {
    let (mut read, mut refused) = (0, 0);
    let rounds = number("ROUNDS").unwrap_or(20_000);
    let first = number("SEED").unwrap_or(1);
    for seed in first..first + rounds {
        let mut rng = Rng::new(seed);
        let mut head = format!("{}\r\n", pick(&mut rng, &STATUS_LINES));
        for _ in 0..below(&mut rng, 4) {
            head.push_str(pick(&mut rng, &LINES));
            head.push_str(if rng.chance(3) { "\n" } else { "\r\n" });
        }
        head.push_str("\r\n");
        let asked = [Asked::Any, Asked::Head, Asked::Upgrade][below(&mut rng, 3)];
        let mut lines = [httparse::EMPTY_HEADER; 8];
        let mut theirs = httparse::Response::new(&mut lines);
        let verdict = theirs.parse(head.as_bytes());
        match ResponseReader::default().read(asked, head.as_bytes(), &LIMITS) {
            Ok((used, Some(ours))) => {
                assert_eq!(verdict, Ok(httparse::Status::Complete(used)), "SEED={seed} {head}");
                assert_eq!(theirs.code, Some(ours.status()));
                let lines = theirs.headers.iter().map(|line| (line.name, line.value));
                assert!(ours.headers().eq(lines), "SEED={seed} {head}");
                read += 1;
            }
            // An interim response, behind which the final one is missing.
            Ok((_, None)) => {
                assert!(theirs.code.is_some_and(|code| (100..200).contains(&code)), "{head}")
            }
            Err(_) => refused += 1,
        }
    }
    println!("{rounds} heads: {read} read, {refused} refused");
    assert!(rounds < 10_000 || u64::min(read, refused) > rounds / 10);
}

/// Puts an answer to an upgrade together.
fn answer(rng: &mut Rng) -> String {
    let mut lines = String::from(if rng.chance(95) {
        "HTTP/1.1 101 Switching Protocols\r\n"
    } else {
        pick(rng, &["HTTP/1.1 101\r\n", "HTTP/1.0 101 x\r\n", "HTTP/1.1 200 OK\r\n"])
    });
    let headers: [(&str, &str, &[&str]); 5] = [
        ("Upgrade", "websocket", &["WebSocket", "h2c", "websocket, h2c", "websocket2", ""]),
        ("Connection", "Upgrade", &["upgrade", "keep-alive, Upgrade", "close", "x", ""]),
        ("Sec-WebSocket-Accept", ACCEPT, &["AAAA", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo", ""]),
        ("Sec-WebSocket-Protocol", "v1", &["v2", "V1", "v3", "v1, v2", ""]),
        ("Sec-WebSocket-Extensions", "", &["permessage-deflate", ",", "x; a=b"]),
    ];
    for (name, right, others) in headers {
        let is_needed = !name.ends_with("Protocol") && !name.ends_with("Extensions");
        if !rng.chance(if is_needed { 97 } else { 20 }) {
            continue;
        }
        for _ in 0..1 + u64::from(rng.chance(3)) {
            let value = if rng.chance(85) { right } else { pick(rng, others) };
            lines.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    if rng.chance(10) {
        lines.push_str(pick(rng, &LINES));
        lines.push_str("\r\n");
    }
    lines + "\r\n"
}

fn pick<'a>(rng: &mut Rng, choices: &[&'a str]) -> &'a str {
    choices[below(rng, choices.len())]
}

const LIMITS: HeadLimits = HeadLimits { head_bytes: 8192, headers: 64 };
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

const STATUS_LINES: [&str; 14] = [
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.1 404 ",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 101 x",
    "HTTP/1.1 100 Continue",
    "HTTP/1.1 204 \u{e4}",
    "HTTP/1.1 304 Not Modified",
    "HTTP/1.1  200 OK",
    "HTTP/1.1 20 OK",
    "HTTP/1.1 999 x",
    "HTTP/2.0 200 OK",
    "HTTP/1.1\t200 OK",
    "\r\nHTTP/1.1 503 x",
];

const LINES: [&str; 14] = [
    "A: b",
    "a:",
    "B:  c \t",
    "Latin: \u{e4}",
    "Content-Length: 5",
    "Content-Length: 0x5",
    "Transfer-Encoding: chunked",
    "Transfer-Encoding: gzip",
    "Connection: close",
    "A : b",
    ": b",
    "A",
    " folded",
    "A: \u{7f}",
];

//! Compressed messages (RFC 7692) of a client: what is offered and agreed on, and what either end
//! makes of the other's messages. The server's compressor is one for the whole connection.

use heartwheel::core::client::{SendRefused, State, Told, Why};
use heartwheel::topics::After;
use heartwheel::{Config, LinkEvent, Message, TopicEvent};
use zlib_rs::{Deflate, DeflateFlush, Inflate, InflateFlush};

use super::common::rng::Rng;
use super::memory::{Both, dial};
use super::rig::{Rig, close_frame, frame, rules, setup};

const ON: (&str, &str) = ("compression.mode", "on");
const OFF: (&str, &str) = ("compression.history", "off");
const OFFER: &str = "permessage-deflate; client_no_context_takeover; client_max_window_bits";
const RSV1: u8 = 0x40;
const FIN: u8 = 0x80;
const TAIL: [u8; 4] = [0, 0, 0xff, 0xff];

/// Gives a client whose server answers its offer by these parameters, or by no extension.
fn answered(settings: &[(&str, &str)], parameters: Option<&str>) -> Rig {
    let line =
        |parameters: &str| format!("Sec-WebSocket-Extensions: permessage-deflate{parameters}\r\n");
    with_lines(settings, &parameters.map_or_else(String::new, line))
}

fn with_lines(settings: &[(&str, &str)], lines: &str) -> Rig {
    let mut rig = Rig::new(setup(&["ws://10.0.0.1/"], rules(settings)), 1, 1000);
    rig.lines = lines.to_owned();
    rig.act(|dialler, means| dialler.timeout(means));
    rig.act(|dialler, means| dialler.connected(means, 0));
    rig.write_all();
    let request = String::from_utf8_lossy(&rig.written).into_owned();
    let offers = request.lines().filter_map(|line| line.strip_prefix("Sec-WebSocket-Extensions: "));
    let is_on = settings.contains(&ON);
    assert_eq!(offers.count(), usize::from(is_on), "{request}");
    let answer = rig.answer().unwrap();
    rig.written.clear();
    rig.receive(answer.as_bytes());
    rig
}

/// Gives a client with an open connection.
fn opened(settings: &[(&str, &str)], parameters: &str) -> Rig {
    let mut rig = answered(settings, Some(parameters));
    assert_eq!(rig.dialler.state(), State::Open);
    rig.told.clear();
    rig
}

/// Takes what the client was told: messages, and why it has ended.
fn told(rig: &mut Rig) -> (Vec<Message>, Option<Why>) {
    let (mut messages, mut end) = (Vec::new(), None);
    for told in std::mem::take(&mut rig.told) {
        match told {
            Told::Message(message) => messages.push(message),
            Told::State { why: Some(why), .. } => end = Some(why),
            _ => {}
        }
    }
    (messages, end)
}

/// Gives the compressed payload of the next message of a server.
fn compress(deflate: &mut Deflate, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0; payload.len() + payload.len() / 8 + 100];
    let before = deflate.total_out();
    deflate.compress(payload, &mut out, DeflateFlush::SyncFlush).unwrap();
    out.truncate((deflate.total_out() - before) as usize);
    assert!(out.ends_with(&TAIL));
    out.truncate(out.len() - TAIL.len());
    out
}

fn alone(payload: &[u8]) -> Vec<u8> {
    compress(&mut Deflate::new(6, false, 15), payload)
}

/// JSON of about `len` bytes.
fn json(n: usize, len: usize) -> Vec<u8> {
    let mut text = format!("{{\"device\":\"gw-{:04x}\",\"n\":{n}", n * 7919 % 65_536);
    while text.len() < len {
        text += &format!(",\"k{}\":{}.{}", text.len() % 97, n * 31 % 100, text.len() * 7 % 1000);
    }
    (text + "}").into_bytes()
}

fn text(bytes: &[u8]) -> Message {
    Message::text(str::from_utf8(bytes).unwrap())
}

/// Takes the frames that the client has written, unmasked: the first byte, and the payload.
fn written(rig: &mut Rig) -> Vec<(u8, Vec<u8>)> {
    rig.write_all();
    let (bytes, mut frames, mut at) = (std::mem::take(&mut rig.written), Vec::new(), 0);
    while let Some(&[first, len]) = bytes[at..].first_chunk() {
        assert!(len & 0x80 != 0, "what a client sends is masked");
        let rest = &bytes[at + 2..];
        let (size, len) = match len & 0x7f {
            126 => (2, usize::from(u16::from_be_bytes([rest[0], rest[1]]))),
            127 => (8, u64::from_be_bytes(rest[..8].try_into().unwrap()) as usize),
            len => (0, len.into()),
        };
        let (mask, payload) = (&rest[size..size + 4], &rest[size + 4..size + 4 + len]);
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        frames.push((first, payload.collect()));
        at += 2 + size + 4 + len;
    }
    assert_eq!(at, bytes.len(), "frames are whole");
    frames
}

#[test]
fn what_is_offered_follows_the_configuration() {
    for (settings, expected) in [
        (&[][..], None),
        (&[OFF], None),
        (&[ON], Some(String::from(OFFER))),
        (&[ON, OFF], Some(format!("{OFFER}; server_no_context_takeover"))),
        (
            &[ON, ("client.history_bytes", "512")],
            Some(format!("{OFFER}; server_max_window_bits=9")),
        ),
        (
            &[ON, ("client.history_bytes", "4095")],
            Some(format!("{OFFER}; server_max_window_bits=11")),
        ),
    ] {
        let mut rig = Rig::new(setup(&["ws://10.0.0.1/"], rules(settings)), 1, 1000);
        rig.act(|dialler, means| dialler.timeout(means));
        rig.act(|dialler, means| dialler.connected(means, 0));
        rig.write_all();
        let request = String::from_utf8_lossy(&rig.written).into_owned();
        let mut lines = request.lines().filter_map(|line| line.split_once(": "));
        let offer = lines.find(|(name, _)| *name == "Sec-WebSocket-Extensions");
        assert_eq!(offer.map(|(_, value)| value.to_owned()), expected);
    }
}

/// RFC 7692, 5.1: what the server has not been offered ends the try, and it is made again.
#[test]
fn an_answer_is_one_to_the_offer_or_ends_the_try() {
    let small = ("client.history_bytes", "1k");
    for (settings, parameters, is_open) in [
        (&[][..], "", false),
        (&[ON], "", true),
        (&[ON], "; client_no_context_takeover", true),
        (&[ON], "; server_no_context_takeover", true),
        (&[ON], "; client_max_window_bits=8", true),
        (&[ON], "; client_max_window_bits", false),
        (&[ON], "; server_max_window_bits=7", false),
        (&[ON], "; unknown", false),
        (&[ON], ", permessage-deflate", false),
        (&[ON], ", x", false),
        (&[ON, OFF], "; server_no_context_takeover", true),
        (&[ON, OFF], "", false),
        (&[ON, small], "; server_max_window_bits=10", true),
        (&[ON, small], "; server_max_window_bits=11", false),
        (&[ON, small], "", false),
    ] {
        let mut rig = answered(settings, Some(parameters));
        let state = if is_open { State::Open } else { State::Waiting };
        assert_eq!(rig.dialler.state(), state, "{settings:?} {parameters:?}");
        let (_, why) = told(&mut rig);
        let is_told = matches!(&why, Some(Why::Answer(text)) if text.contains("extension"));
        assert_eq!(is_told, !is_open, "{why:?}");
    }
    let rig = with_lines(&[ON], "Sec-WebSocket-Extensions: permessage-bzip2\r\n");
    assert_eq!(rig.dialler.state(), State::Waiting);
    // A server need not agree.
    let mut rig = answered(&[ON], None);
    assert_eq!(rig.dialler.state(), State::Open);
    rig.receive(&frame(RSV1 | 1, &alone(b"Hello")));
    let close = written(&mut rig).pop().expect("a close frame");
    assert_eq!((close.0, &close.1[..2]), (0x88, &1002_u16.to_be_bytes()[..]));
}

/// The messages of a server that keeps its context, with all that may come between, in pieces of
/// any size.
#[test]
fn a_server_may_refer_to_its_messages_before_as_far_as_was_agreed_on() {
    let sizes = [("512", 9), ("1k", 10), ("8k", 13), ("16k", 14), ("32k", 15)];
    for (seed, (kept, bits)) in sizes.into_iter().enumerate() {
        let mut rng = Rng::new(seed as u64 + 1);
        let parameters = format!("; server_max_window_bits={bits}; client_no_context_takeover");
        let mut rig = opened(&[ON, ("client.history_bytes", kept)], &parameters);
        let mut deflate = Deflate::new(6, false, bits);
        let (mut bytes, mut expected, mut wire) = (Vec::new(), Vec::new(), 0);
        for n in 0..300 {
            let len = [0, 5, 146, 600, 3000, 20_000, 70_000][rng.below(7) as usize];
            let payload = json(n, len);
            expected.push(text(&payload));
            match rng.below(8) {
                0 => bytes.extend(frame(1, &payload)),
                1 => {
                    // By itself: the server's compressor has forgotten all, the client has not.
                    deflate = Deflate::new(6, false, bits);
                    bytes.extend(frame(RSV1 | 1, &compress(&mut deflate, &payload)));
                }
                2 => {
                    let small = compress(&mut deflate, &payload);
                    let (one, other) = small.split_at(small.len() / 3);
                    let mut first = frame(RSV1 | 1, one);
                    first[0] &= !FIN;
                    let mut last = frame(0, other);
                    last[0] |= FIN;
                    bytes.extend([first, frame(9, b"between"), last].concat());
                }
                _ => {
                    let small = compress(&mut deflate, &payload);
                    wire += small.len();
                    bytes.extend(frame(RSV1 | 1, &small));
                }
            }
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let most = if rng.chance(50) { 300 } else { 40_000 };
            let (piece, behind) = rest.split_at(rest.len().min(1 + rng.below(most) as usize));
            rig.receive(piece);
            rest = behind;
        }
        let (messages, why) = told(&mut rig);
        assert_eq!(why, None, "{kept}");
        assert!(messages == expected, "{kept}: {} of {}", messages.len(), expected.len());
        let plain: usize = expected.iter().map(Message::len).sum();
        assert!(wire * 2 < plain, "{kept}: {wire} of {plain}");
        rig.act(|dialler, means| dialler.stop(means, 1000, ""));
    }
}

#[test]
fn a_reference_to_what_is_not_kept_is_corrupt() {
    let payload = json(1, 400);
    for (settings, parameters) in
        [(&[ON, OFF][..], "; server_no_context_takeover"), (&[ON], "; server_no_context_takeover")]
    {
        let mut rig = opened(settings, parameters);
        let mut deflate = Deflate::new(6, false, 15);
        let [one, other] = [0, 1].map(|_| frame(RSV1 | 1, &compress(&mut deflate, &payload)));
        rig.receive(&one);
        assert_eq!(told(&mut rig), (vec![text(&payload)], None));
        rig.receive(&other);
        let (messages, why) = told(&mut rig);
        assert_eq!((messages, why), (vec![], None), "it closes in good order");
        let close = written(&mut rig).pop().expect("a close frame");
        assert_eq!((close.0, &close.1[..2]), (0x88, &1007_u16.to_be_bytes()[..]));
    }
}

#[test]
fn what_cannot_be_inflated_or_is_too_big_ends_the_connection() {
    let hello = alone(&json(1, 5000));
    for (bytes, code) in [
        (frame(RSV1 | 2, &[0xff]), 1007),
        (frame(RSV1 | 2, &[0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x07]), 1007),
        (frame(RSV1 | 2, &hello[..hello.len() - 3]), 1007),
        (frame(RSV1 | 1, &alone(&[b'a', 0xff, b'b'])), 1007),
        (frame(RSV1 | 2, &alone(&vec![0; (1 << 20) + 1])), 1009),
        (frame(RSV1 | 2, &[0, 0, 0, 0xff, 0xff].repeat(300_000)), 1009),
        (frame(RSV1 | 9, b""), 1002),
        (frame(0x20 | 1, b""), 1002),
    ] {
        for size in [1000, 40_000] {
            let mut rig = opened(&[ON], "");
            bytes.chunks(size).for_each(|piece| rig.receive(piece));
            assert_eq!(told(&mut rig).0, []);
            let close = written(&mut rig).pop().expect("a close frame");
            assert_eq!((close.0, &close.1[..2]), (0x88, &u16::to_be_bytes(code)[..]), "{code}");
        }
    }
}

/// A read of 40 KiB may be forty messages of a mebibyte: they are not all made at once.
#[test]
fn of_what_one_read_brings_no_more_is_inflated_than_the_application_takes() {
    const MESSAGES: usize = 38;
    let message = frame(RSV1 | 2, &alone(&vec![0; 1 << 20]));
    let mut bytes = [message.repeat(MESSAGES), close_frame(1001, "")].concat();
    let receive = |rig: &mut Rig, bytes: &mut [u8]| {
        rig.act(|dialler, means| {
            assert!(dialler.wants_read());
            dialler.receive(means, bytes);
            assert!(!dialler.wants_read());
        });
    };
    let mut rig = opened(&[ON], "");
    receive(&mut rig, &mut bytes);
    let (mut turns, mut came) = (0, told(&mut rig).0.len());
    assert!(came <= 1, "{came} messages at once");
    while rig.act(|dialler, means| dialler.receive_unread(means)) {
        let messages = told(&mut rig).0;
        assert!(messages.len() <= 1 && messages.iter().all(|message| message.len() == 1 << 20));
        came += messages.len();
        turns += 1;
    }
    assert_eq!(came, MESSAGES);
    assert!(turns >= 3 * MESSAGES, "{turns} turns: 256 KiB in each");
    assert_eq!(rig.dialler.state(), State::Closing);
    // What is unread as the client is stopped is the server's last word, too.
    let mut rig = opened(&[ON], "");
    receive(&mut rig, &mut bytes);
    rig.act(|dialler, means| dialler.stop(means, 1000, ""));
    rig.write_all();
    let until = rig.dialler.poll_timeout(rig.now()).unwrap();
    rig.act(|dialler, means| dialler.lost(means, None));
    assert_eq!(rig.dialler.state(), State::Stopped);
    assert!(until > rig.now());
}

/// Each by itself, whatever the server has agreed to.
#[test]
fn the_clients_messages_are_compressed_where_they_shrink() {
    let mut rng = Rng::new(1);
    let noise: Vec<u8> = (0..4000).map(|_| rng.below(256) as u8).collect();
    for (parameters, bits) in
        [("", 15), ("; client_max_window_bits=9", 9), ("; client_max_window_bits=8", 8)]
    {
        let mut rig = opened(&[ON, ("limits.outbox_bytes", "1m")], parameters);
        let payloads = [0, 100, 600, 5000, 60_000, 70_000].map(|len| json(7, len));
        for payload in payloads.iter().chain([&noise]) {
            let message = Message::binary(payload.clone());
            assert_eq!(rig.act(|dialler, means| dialler.send(means, message)), Ok(()));
            let (first, sent) = written(&mut rig).pop().expect("a frame");
            let is_long = (512..=64 << 10).contains(&payload.len());
            let is_compressed = is_long && bits > 8 && *payload != noise;
            assert_eq!(first, FIN | 2 | if is_compressed { RSV1 } else { 0 });
            if !is_compressed {
                assert!(sent == *payload);
                continue;
            }
            assert!(sent.len() < payload.len() * 6 / 10, "{} bytes", sent.len());
            // The server's inflater forgets, and has no larger window than it has said.
            let mut out = vec![0; payload.len() + 1];
            let mut inflate = Inflate::new(false, bits);
            inflate
                .decompress(&[&sent[..], &TAIL].concat(), &mut out, InflateFlush::SyncFlush)
                .unwrap();
            assert!(out[..inflate.total_out() as usize] == **payload);
        }
        rig.act(|dialler, means| dialler.stop(means, 1000, ""));
        let refused = rig.act(|dialler, means| dialler.send(means, Message::text("x")));
        assert_eq!(refused, Err(SendRefused::NotOpen));
    }
}

/// With our own server: what is published, what is retained, and what is echoed.
#[test]
fn a_client_and_our_server_compress_for_each_other() {
    let all: [&'static [(&str, &str)]; 3] =
        [&[ON], &[ON, OFF], &[ON, ("client.history_bytes", "2k")]];
    for settings in all {
        let mut config = Config::default();
        settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
        let mut both = Both::with(&[ON]);
        let (echo, heard) = both.connect(dial("/echo").config(&config).unwrap());
        let (link, told) = both.connect(dial("/ws").config(&config).unwrap().topics());
        let (plain, _) = both.connect(dial("/ws").topics());
        link.subscribe("a", After::Now).unwrap();
        both.settle();
        heard.take();
        let big = json(3, 5000);
        echo.send(Message::binary(big.clone())).unwrap();
        both.settle();
        assert_eq!(heard.take(), [LinkEvent::Message(Message::binary(big))]);
        for n in 0..100 {
            plain.publish("a", str::from_utf8(&json(n, 100 + n * 20)).unwrap()).unwrap();
            both.settle();
        }
        let (late, again) = both.connect(dial("/ws").config(&config).unwrap().topics());
        late.subscribe("a", After::parse("0-0")).unwrap();
        both.settle();
        for told in [told, again] {
            let events = told.take().into_iter().filter_map(|event| match event {
                LinkEvent::Topic(TopicEvent::Event { event, .. }) => Some(event.payload),
                _ => None,
            });
            let expected = (0..100).map(|n| str::from_utf8(&json(n, 100 + n * 20)).unwrap().into());
            assert!(events.eq(expected), "{settings:?}");
        }
        let stats = both.server.as_ref().unwrap().stats();
        assert!(stats.compressions >= 80, "{} compressions", stats.compressions);
        let (sent, most) = (stats.sent_bytes, 100 * 1150);
        assert!(sent < most, "{sent} bytes: twice 110 kB less what is saved");
    }
}

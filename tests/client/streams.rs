//! Event streams: what is asked, what is told, where it goes on after a break, and how it ends.

use std::time::Duration;

use heartwheel::core::client::{Purpose, Resume, State, Told, Why};
use heartwheel::{Config, Dial, Link, LinkEvent, Links, Server, StreamEvent};

use super::common::rng::Rng;
use super::event_stream::Reader;
use super::memory::{Both, dial};
use super::rig::{Rig, rules, setup};

const HEAD: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n";
const CHUNKED: &str =
    "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A client that has asked for a stream.
fn asking(settings: &[(&str, &str)]) -> Rig {
    let mut setup = setup(&["http://10.0.0.1/a"], rules(settings));
    setup.purpose = Purpose::Events(Resume::default());
    setup.headers.push(("last-event-id".into(), "0-0".into()));
    setup.renews = true;
    let mut rig = Rig::new(setup, 1, 1000);
    ask(&mut rig);
    rig
}

/// Goes on to the request.
fn ask(rig: &mut Rig) {
    rig.pass_to(rig.dialler.poll_timeout(rig.now()).unwrap().as_millis());
    rig.act(|dialler, means| dialler.connected(means, 0));
    rig.write_all();
    assert_eq!(rig.dialler.state(), State::Upgrading);
}

fn opened(settings: &[(&str, &str)]) -> Rig {
    let mut rig = asking(settings);
    rig.receive(HEAD.as_bytes());
    assert_eq!(rig.dialler.state(), State::Open);
    rig
}

fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

fn events(told: &[Told]) -> Vec<(&str, &str, &str)> {
    let events = told.iter().filter_map(|told| match told {
        Told::Event(StreamEvent { name, data, id, .. }) => {
            Some((name.as_str(), data.as_str(), id.as_str()))
        }
        _ => None,
    });
    events.collect()
}

/// Returns whether it has ended because an event took too long, perhaps a while ago.
fn is_too_late(rig: &Rig) -> bool {
    let is_it = |told: &Told| matches!(told, Told::State { why: Some(Why::Message), .. });
    rig.told.iter().any(is_it)
}

fn end(rig: &Rig) -> (Why, State, Option<Duration>) {
    let end = rig.told.iter().rev().find_map(|told| match told {
        Told::State { why: Some(why), wait, state, .. } => Some((why.clone(), *state, *wait)),
        _ => None,
    });
    end.expect("it has ended")
}

#[test]
fn a_stream_is_asked_for_and_again_behind_its_last_event() {
    let mut rig = asking(&[]);
    let request = |id: &str| {
        format!(
            "GET /a HTTP/1.1\r\nHost: 10.0.0.1\r\nAccept: text/event-stream\r\n\
             Cache-Control: no-store\r\n{id}\r\nAuthorization: Bearer secret\r\n\r\n"
        )
    };
    assert_eq!(String::from_utf8_lossy(&rig.written), request("last-event-id: 0-0"));
    rig.receive(HEAD.as_bytes());
    rig.receive(b"id: 1-0\n\nretry: 20000\nid: 2-0\ndata: x\n\nid: 3-0\ndata: never whole\n");
    rig.act(|dialler, means| dialler.lost(means, None));
    let (why, state, wait) = end(&rig);
    assert_eq!((why, state), (Why::Ended, State::Waiting));
    assert!(wait.unwrap() >= Duration::from_secs(20), "{wait:?}");
    ask(&mut rig);
    assert_eq!(String::from_utf8_lossy(&rig.written), request("Last-Event-ID: 2-0"));
    // What the server has said once holds for all its ends; an id for all events behind it.
    rig.receive(CHUNKED.as_bytes());
    rig.receive(chunk("data: y\n\n").as_bytes());
    assert_eq!(events(&rig.told), [("message", "x", "2-0"), ("message", "y", "2-0")]);
    rig.act(|dialler, means| dialler.lost(means, None));
    let (why, _, wait) = end(&rig);
    assert!(matches!(why, Why::Lost(_)), "{why}");
    assert!(wait.unwrap() >= Duration::from_secs(20), "{wait:?}");
}

/// An empty id takes back those before, and what the application has named.
#[test]
fn an_empty_id_is_asked_for_without_any() {
    for (text, line) in [
        ("data: x\n\n", Some("last-event-id: 0-0\r\n")),
        ("id: 1-0\n\nid\n", Some("Last-Event-ID: 1-0\r\n")),
        ("id: 1-0\n\nid\n\n", None),
        ("id:\ndata: x\n\n", None),
    ] {
        let mut rig = opened(&[]);
        rig.receive(text.as_bytes());
        // What was said outlives an answer that says nothing.
        for _ in 0..2 {
            rig.act(|dialler, means| dialler.lost(means, None));
            ask(&mut rig);
            let written = String::from_utf8_lossy(&rig.written).into_owned();
            let has_any = written.to_ascii_lowercase().contains("last-event-id");
            assert_eq!(has_any, line.is_some(), "{text:?}: {written}");
            assert!(line.is_none_or(|line| written.contains(line)), "{text:?}: {written}");
            rig.receive(HEAD.as_bytes());
        }
    }
}

#[test]
fn header_lines_stand_in_place_of_those_of_an_event_stream() {
    let mut setup = setup(&["http://10.0.0.1/a"], rules(&[]));
    setup.purpose = Purpose::Events(Resume::default());
    for (name, value) in [("accept", "a/b"), ("cache-control", "c"), ("authorization", "d")] {
        setup.headers.push((name.into(), value.into()));
    }
    let mut rig = Rig::new(setup, 1, 1000);
    ask(&mut rig);
    assert_eq!(
        String::from_utf8_lossy(&rig.written),
        "GET /a HTTP/1.1\r\nHost: 10.0.0.1\r\naccept: a/b\r\ncache-control: c\r\n\
         authorization: d\r\n\r\n"
    );
}

#[test]
fn each_answer_is_followed_by_what_the_guide_says() {
    let stream = "200 OK\r\nContent-Type: text/event-stream";
    for (answer, state) in [
        (stream.to_owned(), State::Open),
        ("200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8".into(), State::Open),
        (format!("{stream}\r\nContent-Encoding: identity"), State::Open),
        (format!("{stream}\r\nContent-Encoding: gzip"), State::Stopped),
        ("200 OK".into(), State::Stopped),
        ("200 OK\r\nContent-Type: text/html".into(), State::Stopped),
        ("200 OK\r\nContent-Type: text/event-streams".into(), State::Stopped),
        ("204 No Content".into(), State::Stopped),
        ("404 Not Found".into(), State::Stopped),
        ("401 Unauthorized".into(), State::Waiting),
        ("302 Found\r\nLocation: /b".into(), State::Waiting),
        ("503 Service Unavailable\r\nRetry-After: 70".into(), State::Waiting),
        ("101 Switching Protocols\r\nUpgrade: websocket".into(), State::Waiting),
        (format!("{stream}\r\nContent-Length: 0"), State::Waiting),
        (format!("{stream}\r\nContent-Length: 5\r\nTransfer-Encoding: chunked"), State::Waiting),
    ] {
        let mut rig = asking(&[]);
        rig.receive(format!("HTTP/1.1 {answer}\r\n\r\n").as_bytes());
        assert_eq!(rig.dialler.state(), state, "{answer:?}");
        assert_eq!(rig.is_kept, state == State::Open);
        assert_eq!(rig.renewals, u32::from(answer.starts_with("401")));
        if answer.starts_with("503") {
            let after = Some(Duration::from_secs(70));
            assert_eq!(end(&rig).0, Why::Status { status: 503, retry_after: after });
            assert_eq!(end(&rig).2, after);
        }
    }
    let mut rig = asking(&[]);
    rig.receive(b"HTTP/1.1 204 X\r\n\r\n");
    let sentence = "no use in the event stream: the server has no events: status 204";
    assert_eq!(end(&rig).0.to_string(), sentence);
}

#[test]
fn however_its_bytes_are_cut_a_stream_says_the_same() {
    let told = |pieces: &dyn Fn(&[u8]) -> Vec<Vec<u8>>| {
        let mut rig = asking(&[]);
        let mut text = format!("HTTP/1.1 103 X\r\nLink: x\r\n\r\n{CHUNKED}");
        text += &chunk("\u{feff}: hi\r\n\r\nid: 1\r\ndata: grü");
        text += &chunk("ß\r\n\r\nevent: x\ndata: a\ndata: b\n\nda");
        text += &chunk("ta: c\r\rid: 2\n\ndata: left");
        text += "0\r\nTrailer: x\r\n\r\ndata: d\n\n";
        for piece in pieces(text.as_bytes()) {
            rig.receive(&piece);
        }
        (rig.told, text.len())
    };
    let (whole, length) = told(&|bytes| vec![bytes.to_vec()]);
    let all = [("message", "grüß", "1"), ("x", "a\nb", "1"), ("message", "c", "1")];
    assert_eq!(events(&whole), all);
    assert!(matches!(whole.last(), Some(Told::State { why: Some(Why::Ended), .. })));
    for cut in 0..=length {
        let (cut_told, _) = told(&|bytes| vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()]);
        assert_eq!(cut_told, whole, "cut at {cut}");
    }
    let (dripped, _) = told(&|bytes| bytes.iter().map(|byte| vec![*byte]).collect());
    assert_eq!(dripped, whole);
}

#[test]
fn silence_ends_a_stream_and_a_sign_of_life_keeps_it() {
    let mut rig = opened(&[]);
    for _ in 0..100 {
        rig.pass_to(rig.now_ms + 59_000);
        rig.receive(b":\n\n");
    }
    assert_eq!(rig.dialler.state(), State::Open);
    rig.pass_to(rig.now_ms + 60_000);
    assert_eq!(rig.dialler.state(), State::Open);
    rig.pass_to(rig.now_ms + 1);
    assert_eq!(end(&rig).0, Why::Silent);
    // It is bounded where the key is off: there are no pings instead.
    let mut rig = opened(&[("deadlines.read_idle", "off")]);
    rig.pass_to(rig.now_ms + 60_001);
    assert_eq!(end(&rig).0, Why::Silent);
    // A pause in which the application takes nothing does not count.
    let mut rig = opened(&[]);
    let now = rig.now();
    rig.receive(b"data: x");
    rig.act(|dialler, _| dialler.set_paused(now, true));
    rig.pass_to(rig.now_ms + 3_600_000);
    let now = rig.now();
    rig.act(|dialler, _| dialler.set_paused(now, false));
    rig.receive(b"\n\n");
    assert_eq!(events(&rig.told), [("message", "x", "")]);
    assert_eq!(rig.dialler.state(), State::Open);
}

#[test]
fn an_event_that_drips_or_has_no_end_ends_the_stream() {
    for drip in [&b"data: x"[..], b":", b"data: x\n", b"event: x\n", b"id: 1\n"] {
        let mut rig = opened(&[]);
        let began = rig.now_ms;
        for byte in drip.iter().chain([&b'x'; 100]) {
            rig.pass_to(rig.now_ms + 1000);
            if rig.dialler.state() != State::Open {
                break;
            }
            rig.receive(&[*byte]);
        }
        assert_eq!(end(&rig).0, Why::Message);
        assert!((began + 30_000..began + 33_000).contains(&rig.now_ms), "{}", rig.now_ms);
    }
    for endless in ["data: xxxxxxxxxxxxxxxxxxxxxxxxxxx\n", ":xxxxxxxxxxxxxxxxxx", "data"] {
        let mut rig = opened(&[("limits.message_bytes", "1k")]);
        let mut sent = 0;
        while rig.dialler.state() == State::Open {
            rig.receive(endless.as_bytes());
            sent += endless.len();
            assert!(sent < 2000, "it is not bounded");
        }
        assert_eq!(end(&rig).0, Why::Stream("an event is too long".into()));
        assert_eq!(rig.dialler.state(), State::Stopped, "it would come again");
    }
    let mut rig = opened(&[]);
    rig.receive(b"data: x\n\nid: \x01\ndata: y\n\n");
    assert_eq!((events(&rig.told).len(), rig.dialler.state()), (1, State::Stopped));
    // A head that drips has the deadline of an upgrade.
    let mut rig = asking(&[]);
    for byte in CHUNKED.as_bytes() {
        rig.pass_to(rig.now_ms + 1000);
        rig.receive(&[*byte]);
    }
    assert!(rig.told.iter().any(|told| matches!(
        told,
        Told::State { why: Some(Why::TimedOut(State::Upgrading)), .. }
    )));
}

/// Comments complete no event that has begun, and begin none.
#[test]
fn comments_keep_a_stream_but_no_event_that_has_begun() {
    for begun in ["data: x\n", "event: x\n", "id: 1\n"] {
        let mut rig = opened(&[]);
        rig.receive(begun.as_bytes());
        rig.pass_to(rig.now_ms + 20_000);
        rig.receive(b":\n");
        rig.pass_to(rig.now_ms + 20_000);
        assert!(is_too_late(&rig), "{begun:?}");
    }
    // Each read ends inside a line, which the next read completes.
    let mut rig = opened(&[]);
    rig.receive(b": ali");
    for _ in 0..100 {
        rig.pass_to(rig.now_ms + 20_000);
        rig.receive(b"ve\n: ali");
    }
    assert_eq!(rig.dialler.state(), State::Open);
    rig.pass_to(rig.now_ms + 40_000);
    assert!(is_too_late(&rig));
}

#[test]
fn what_came_before_a_broken_chunk_is_told() {
    let mut rig = asking(&[]);
    let bytes = format!("{CHUNKED}{}ffffffffffffffffff\r\n", chunk("id: 1\ndata: x\n\n"));
    rig.receive(bytes.as_bytes());
    assert_eq!(events(&rig.told), [("message", "x", "1")]);
    assert!(matches!(end(&rig).0, Why::Answer(_)), "{}", end(&rig).0);
    ask(&mut rig);
    assert!(String::from_utf8_lossy(&rig.written).contains("Last-Event-ID: 1\r\n"));
}

#[test]
fn ends_in_good_order_open_no_breaker_and_others_do() {
    for (is_good, expected) in [(true, State::Waiting), (false, State::Broken)] {
        let mut rig = asking(&[]);
        for tries in 0..8 {
            if rig.dialler.state() == State::Broken {
                break;
            }
            if tries > 0 {
                ask(&mut rig);
            }
            rig.receive(CHUNKED.as_bytes());
            match is_good {
                true => rig.receive(b"0\r\n\r\n"),
                false => rig.act(|dialler, means| dialler.lost(means, None)),
            }
        }
        assert_eq!(rig.dialler.state(), expected);
    }
    // A stream that has held counts as a connection that has.
    let mut rig = opened(&[]);
    rig.pass_to(rig.now_ms + 10_000);
    rig.act(|dialler, means| dialler.lost(means, Some("reset".into())));
    let Some(Told::State { failures: 0, why: Some(Why::Lost(_)), .. }) = rig.told.last() else {
        panic!("{:?}", rig.told.last());
    };
    let mut rig = opened(&[]);
    rig.act(|dialler, means| dialler.stop(means, 1000, ""));
    assert_eq!(end(&rig).0, Why::Stopped);
    let mut rig = opened(&[]);
    rig.act(|dialler, means| dialler.reconnect(means));
    assert_eq!((end(&rig).0, rig.dialler.state()), (Why::Ended, State::Waiting));
}

/// Streams of lines with and without sense, against a reader by the text of the standard; some are
/// broken, and then give the same in any pieces.
#[test]
fn random_streams_are_read_as_by_the_standard_however_they_are_cut() {
    const LINES: [&str; 14] = [
        "data: x", "data:  y", "data", "data:", "event: e", "event", "id: 1", "id", "id: 2",
        "retry: 7", ": life", ":", "", "",
    ];
    let mut seen = 0;
    for seed in 0..3000 {
        let mut rng = Rng::new(seed);
        let mut text = ["", "\u{feff}"][rng.below(2) as usize].to_owned();
        for _ in 0..rng.below(30) {
            text += LINES[rng.below(14) as usize];
            text += ["\n", "\r", "\r\n"][rng.below(3) as usize];
        }
        let mut bytes = HEAD.as_bytes().to_vec();
        match rng.chance(50) {
            true => bytes.extend_from_slice(text.as_bytes()),
            false => {
                bytes = CHUNKED.as_bytes().to_vec();
                for piece in text.as_bytes().chunks(1 + rng.below(9) as usize) {
                    bytes.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
                    bytes.extend_from_slice(piece);
                    bytes.extend_from_slice(b"\r\n");
                }
            }
        }
        let is_broken = rng.chance(30);
        if is_broken {
            let at = HEAD.len() + rng.below((bytes.len() - HEAD.len()) as u64 + 1) as usize;
            bytes.insert(at, rng.next_u64() as u8);
        }
        let mut rig = asking(&[]);
        rig.receive(&bytes);
        let mut other = asking(&[]);
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(1 + rng.below(rest.len().min(9) as u64) as usize);
            other.receive(piece);
            rest = left;
        }
        assert_eq!(rig.told, other.told, "SEED={seed} {}", bytes.escape_ascii());
        if !is_broken {
            let mut reader = Reader::default();
            reader.read(text.as_bytes());
            let expected: Vec<(&str, &str, &str)> = reader
                .dispatched
                .iter()
                .map(|event| (&*event.event_type, &*event.data, &*event.last_event_id))
                .collect();
            assert_eq!(events(&rig.told), expected, "SEED={seed} {text:?}");
            seen += expected.len();
        }
    }
    assert!(seen > 1500, "{seen} events");
}

fn heard(events: &[LinkEvent]) -> Vec<(&str, &str)> {
    let heard = events.iter().filter_map(|event| match event {
        LinkEvent::Event(StreamEvent { name, data, .. }) => Some((name.as_str(), data.as_str())),
        _ => None,
    });
    heard.collect()
}

#[test]
fn a_server_of_ours_is_heard_for_hours_and_resumed_after_it_was_away() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/topics/a").events());
    let (many, told_of_many) = both.connect(dial("/events?topic=a&topic=b").events());
    both.settle();
    let handle = both.server.as_ref().unwrap().handle();
    handle.publish("a", "one\ntwo").unwrap();
    handle.publish("b", vec![0, 255]).unwrap();
    both.pass(Duration::from_secs(2 * 3600));
    assert_eq!((link.state(), many.state()), (State::Open, State::Open));
    assert_eq!(heard(&told.take()), [("message", "one\ntwo")]);
    let events = told_of_many.take();
    let binary = ("binary", "{\"topic\":\"b\",\"base64\":\"AP8=\"}");
    assert_eq!(heard(&events), [("a", "one\ntwo"), binary]);
    // It forgets all: what it cannot give any more is a gap.
    both.server = None;
    both.pass(Duration::from_secs(1));
    both.serve();
    let handle = both.server.as_ref().unwrap().handle();
    handle.publish("a", "three").unwrap();
    both.pass(Duration::from_secs(60));
    let events = told.take();
    let [("gap", _), ("message", "three")] = heard(&events)[..] else {
        panic!("{events:?}");
    };
    link.close().unwrap();
    link.send("not sent").unwrap_or_default();
    both.settle();
    assert_eq!((link.state(), told.last_why()), (State::Stopped, Some(Why::Stopped)));
    let (lost, told) = both.connect(dial("/nowhere").events());
    both.settle();
    assert_eq!(lost.state(), State::Stopped);
    assert!(matches!(told.last_why(), Some(Why::Status { status: 404, .. })));
}

#[test]
fn an_event_as_long_as_the_limit_comes_and_nothing_is_lost_over_breaks() {
    let mut config = Config::default();
    config.set("client.delay", "10ms").unwrap();
    config.set("client.delay_max", "100ms").unwrap();
    let server = Server::builder().topics("/topics/{topic}").listen("127.0.0.1:0").unwrap();
    let address = server.local_addresses()[0].as_tcp().unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.run().unwrap());
    let most = config.limits.message_bytes as usize;
    let dial = Dial::to(&format!("http://{address}/topics/a")).unwrap().events();
    let dial = dial.config(&config).unwrap();
    let mut links = Links::new().unwrap();
    let publisher = handle.clone();
    let mut left: Vec<Vec<u8>> = (0..20).map(|n| vec![n; 3000]).collect();
    left.insert(0, vec![0xff; most]);
    let (mut expected, mut has_begun) = (left.len(), false);
    left.reverse();
    let mut publish = move || {
        if let Some(payload) = left.pop() {
            publisher.publish("a", payload).unwrap();
        }
    };
    links
        .connect(dial, move |link: &Link, event: LinkEvent| match event {
            LinkEvent::State(change) if change.state == State::Open => {
                // While the client is here, and below while it is away.
                has_begun = true;
                (0..2).for_each(|_| publish());
            }
            LinkEvent::State(change) if has_begun => {
                publish();
                assert!(change.state != State::Stopped || expected == 0, "{:?}", change.why);
            }
            LinkEvent::Event(event) => {
                assert_eq!(event.name, "binary");
                expected -= 1;
                match expected {
                    0 => link.close().unwrap(),
                    _ => link.reconnect().unwrap(),
                }
            }
            _ => {}
        })
        .unwrap();
    links.run().unwrap();
    handle.shut_down().unwrap();
    serving.join().unwrap();
}

//! Plain requests: what is sent, what may answer, and the one deadline.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use heartwheel::core::client::{Purpose, State, Told, Why};
use heartwheel::http::RequestError;
use heartwheel::{
    Answer, Ask, Client, ClientError, Dial, DialError, Handle, Links, MemoryNetwork, Server,
};

use super::common::rng::Rng;
use super::memory::{Both, dial};
use super::rig::{Rig, rules, setup};

/// A client that has sent its request.
fn asking(ask: Ask, settings: &[(&str, &str)]) -> Rig {
    let mut setup = setup(&["http://10.0.0.1/a"], rules(settings));
    setup.purpose = Purpose::Request(ask);
    let mut rig = Rig::new(setup, 1, 1000);
    rig.act(|dialler, means| dialler.timeout(means));
    rig.act(|dialler, means| dialler.connected(means, 0));
    rig.write_all();
    assert_eq!(rig.dialler.state(), State::Open);
    rig
}

/// What was told of a request that is over: once an answer, or why there is none.
fn verdict(rig: &Rig) -> Result<Answer, Why> {
    assert_eq!((rig.dialler.state(), rig.is_kept), (State::Stopped, false));
    let answers = rig.told.iter().filter_map(|told| match told {
        Told::Answer(answer) => Some((**answer).clone()),
        _ => None,
    });
    let answers: Vec<Answer> = answers.collect();
    let Some(Told::State { state: State::Stopped, why: Some(why), wait: None, .. }) =
        rig.told.last()
    else {
        panic!("{:?}", rig.told.last());
    };
    match &answers[..] {
        [] => Err(why.clone()),
        [answer] if *why == Why::Stopped => Ok(answer.clone()),
        other => panic!("{other:?} and {why}"),
    }
}

/// What becomes of an answer that comes in these pieces, before a FIN.
fn read(ask: Ask, pieces: &[&[u8]]) -> Result<Answer, Why> {
    let mut rig = asking(ask, &[("limits.head_bytes", "1k"), ("limits.headers", "8")]);
    pieces.iter().for_each(|piece| rig.receive(piece));
    rig.act(|dialler, means| dialler.lost(means, None));
    verdict(&rig)
}

/// The same, however the bytes are cut.
fn read_cut(ask: &Ask, bytes: &[u8]) -> Result<Answer, Why> {
    let whole = read(ask.clone(), &[bytes]);
    for cut in 0..=bytes.len() {
        let (one, other) = bytes.split_at(cut);
        assert_eq!(read(ask.clone(), &[one, other]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(read(ask.clone(), &single), whole, "byte by byte");
    whole
}

#[test]
fn a_request_says_what_it_was_made_of() {
    let ask = Ask::new("PUT", "/b?c=d").header("X-Y", "z").body("text/plain", "hello");
    let rig = asking(ask, &[]);
    assert_eq!(
        String::from_utf8_lossy(&rig.written),
        "PUT /b?c=d HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\nContent-Type: text/plain\r\n\
         Content-Length: 5\r\nX-Y: z\r\nAuthorization: Bearer secret\r\n\r\nhello"
    );
    // An empty path is that of the URL.
    let written = asking(Ask::get(""), &[]).written;
    assert!(written.starts_with(b"GET /a HTTP/1.1\r\n"));
}

/// Each name is there once: the line of the request goes before that of the `Dial`, both before the
/// token.
#[test]
fn header_lines_stand_in_place_of_those_that_are_more_general() {
    let written = |of_dial: &[(&str, &str)], ask: Ask| {
        let mut setup = setup(&["http://10.0.0.1/a"], rules(&[]));
        let lines = of_dial.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        setup.headers = lines.collect();
        setup.purpose = Purpose::Request(ask);
        let mut rig = Rig::new(setup, 1, 1000);
        rig.act(|dialler, means| dialler.timeout(means));
        rig.act(|dialler, means| dialler.connected(means, 0));
        rig.write_all();
        let written = String::from_utf8(rig.written).unwrap();
        let lines =
            written.strip_prefix("GET / HTTP/1.1\r\nHost: 10.0.0.1\r\nConnection: close\r\n");
        lines.unwrap().to_owned()
    };
    let get = || Ask::get("/");
    let of_dial = [("Authorization", "Basic x"), ("A", "1"), ("A", "2"), ("B", "3")];
    assert_eq!(written(&[], get()), "Authorization: Bearer secret\r\n\r\n");
    assert_eq!(written(&of_dial, get()), "Authorization: Basic x\r\nA: 1\r\nA: 2\r\nB: 3\r\n\r\n");
    assert_eq!(
        written(&of_dial, get().header("a", "4").header("a", "5").header("authorization", "y")),
        "B: 3\r\na: 4\r\na: 5\r\nauthorization: y\r\n\r\n"
    );
    assert_eq!(written(&[], get().header("authorization", "y")), "authorization: y\r\n\r\n");
}

#[test]
fn what_is_printed_for_people_has_no_secrets() {
    let ask = Ask::post("/a?access_token=secret", "text/plain", "secret").header("A", "secret");
    let printed = format!("{ask:?}");
    assert!(printed.contains("\"/a\"") && !printed.contains("secret"), "{printed}");
    let answer = read(Ask::get("/"), &[b"HTTP/1.1 200 OK\r\nSet-Cookie: secret\r\n\r\nsecret"]);
    let printed = format!("{:?}", answer.unwrap());
    assert_eq!(printed, "Answer { status: 200, headers: 1, body_bytes: 6 }");
}

#[test]
fn answers_end_by_their_length_their_chunks_or_the_connection() {
    let get = Ask::get("/");
    for (text, status, body) in [
        ("200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, "hello"),
        ("404 X\r\nContent-Length: 0\r\n\r\n", 404, ""),
        ("302 X\r\nLocation: /b\r\nContent-Length: 0\r\n\r\n", 302, ""),
        (
            "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;\r\nlo\r\n0\r\nA: b\r\n\r\n",
            200,
            "hello",
        ),
        ("200 OK\r\n\r\nhello", 200, "hello"),
        ("204 X\r\nContent-Length: 5\r\n\r\n", 204, ""),
        (
            "100 Continue\r\n\r\nHTTP/1.1 103 X\r\nLink: x\r\n\r\nHTTP/1.1 201 X\r\n\r\nhello",
            201,
            "hello",
        ),
        // What comes behind the end belongs to nothing.
        ("200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n\r\n", 200, "hello"),
        ("204 X\r\n\r\nhello", 204, ""),
        ("200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nmore", 200, ""),
    ] {
        let answer = read_cut(&get, format!("HTTP/1.1 {text}").as_bytes()).unwrap();
        assert_eq!((answer.status(), answer.text()), (status, Some(body)), "{text:?}");
    }
    let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nEtag: x\r\n\r\n";
    let answer = read_cut(&Ask::new("HEAD", "/"), head).unwrap();
    assert_eq!((answer.body().len(), answer.header("etag")), (0, Some("x")));
    assert_eq!(answer.headers().count(), 2);
    let old = read_cut(&get, b"HTTP/1.0 200 OK\r\n\r\nhello").unwrap();
    assert!(old.is_success() && old.body() == "hello");
}

#[test]
fn what_is_no_answer_or_a_part_of_one_is_a_failure_that_says_so() {
    let interim = "100 Continue\r\n\r\nHTTP/1.1 ".repeat(9);
    let long = format!("200 {}", "x".repeat(2000));
    let many = format!("200 OK\r\n{}\r\n", "A: b\r\n".repeat(9));
    let giant = format!("200 OK\r\nContent-Length: {}\r\n\r\nhello", 1u64 << 63);
    let chunked = "200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (text, sentence) in [
        ("", "closed inside the head"),
        ("200 OK\r\nContent-Le", "closed inside the head"),
        ("200 OK\r\nContent-Length: 5\r\n\r\nhell", "closed inside the body"),
        ("200 OK\r\nContent-Length: 5\r\n\r\n", "closed inside the body"),
        (&format!("{chunked}3\r\nhel\r\n"), "closed inside the body"),
        (&format!("{chunked}3\r\nhel\r\n0\r\n"), "closed inside the body"),
        (&format!("{chunked}ffffffffffffffff\r\nx"), "too large"),
        (&format!("{chunked}10000000000000000\r\nx"), "chunk"),
        (&format!("{chunked}-1\r\nx"), "chunk"),
        (&format!("{chunked}3\r\nhello\r\n"), "chunk"),
        (&format!("{chunked}65\r\n"), "too large"),
        (&giant, "too large"),
        ("200 OK\r\nContent-Length: 101\r\n\r\n", "too large"),
        (&format!("200 OK\r\n\r\n{}", "x".repeat(101)), "too large"),
        ("200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "ambiguous"),
        ("200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "ambiguous"),
        ("200 OK\r\nContent-Length: -5\r\n\r\nhello", "not a number"),
        ("200 OK\r\nTransfer-Encoding: gzip\r\n\r\nhello", "not known"),
        ("101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n", "answers no request"),
        ("99 X\r\n\r\n", "status line"),
        (&interim, "too many interim"),
        (&long, "too long"),
        (&many, "header"),
    ] {
        let why = read_cut(&Ask::get("/").limit(100), format!("HTTP/1.1 {text}").as_bytes());
        let Err(Why::Answer(error)) = &why else { panic!("{text:?}: {why:?}") };
        assert!(error.contains(sentence), "{text:?}: {error}");
    }
    let none = read(Ask::get("/"), &[]).unwrap_err();
    assert_eq!(none.to_string(), "no good answer: the server closed without an answer");
    let other = read_cut(&Ask::get("/"), b"SSH-2.0-OpenSSH_9.7\r\n");
    assert!(matches!(other, Err(Why::Answer(_))), "{other:?}");
}

#[test]
fn a_reset_ends_no_answer() {
    let mut rig = asking(Ask::get("/"), &[]);
    rig.receive(b"HTTP/1.1 200 OK\r\n\r\nhello");
    rig.act(|dialler, means| dialler.lost(means, Some("reset".into())));
    assert_eq!(verdict(&rig), Err(Why::Lost("reset".into())));
}

/// Whatever a server drips, and wherever it is silent, the request ends by its one deadline.
#[test]
fn one_deadline_is_for_the_whole() {
    for drip in [
        &b"HTTP/1.1 200 OK"[..],
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhello, hello, hello",
        b"HTTP/1.1 200 OK\r\n\r\nhello, hello, hello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100\r\nhello, hello, hello",
        b"",
    ] {
        let mut rig = asking(Ask::get("/").within(Duration::from_secs(7)), &[]);
        let (head, rest) = drip.split_at(drip.len().saturating_sub(20));
        rig.receive(head);
        for byte in rest.iter().cycle().take(20).chain([&b'x'; 20]) {
            if rig.dialler.state() == State::Stopped {
                break;
            }
            rig.pass_to(rig.now_ms + 500);
            if !drip.is_empty() {
                rig.receive(&[*byte]);
            }
        }
        assert_eq!(verdict(&rig), Err(Why::TimedOut(State::Open)), "{}", drip.escape_ascii());
        assert_eq!(verdict(&rig).unwrap_err().to_string(), "no answer in time");
    }
    // The name, the addresses and the proxy take from the same span.
    let mut setup = setup(&["http://one.example/"], rules(&[]));
    setup.proxy = Some("http://proxy:3128".parse().unwrap());
    setup.purpose = Purpose::Request(Ask::get("/").within(Duration::from_secs(20)));
    let mut rig = Rig::new(setup, 1, 1000);
    rig.act(|dialler, means| dialler.timeout(means));
    rig.pass_to(9000);
    assert_eq!(rig.dialler.state(), State::Resolving);
    rig.act(|dialler, means| dialler.resolved(means, 1, Ok(vec!["10.0.0.1:80".parse().unwrap()])));
    rig.pass_to(17_000);
    rig.act(|dialler, means| dialler.connected(means, 0));
    rig.write_all();
    assert!(rig.written.starts_with(b"CONNECT one.example:80 HTTP/1.1\r\n"));
    rig.pass_to(21_000);
    assert_eq!(rig.dialler.state(), State::Connecting);
    rig.pass_to(21_001);
    assert_eq!(verdict(&rig), Err(Why::TimedOut(State::Connecting)));
}

#[test]
fn another_address_is_tried_only_where_nothing_was_sent() {
    let mut setup = setup(&["http://10.0.0.1/", "http://10.0.0.2/"], rules(&[]));
    setup.purpose = Purpose::Request(Ask::post("/", "text/plain", "x"));
    for connects in [1, 2] {
        let mut rig = Rig::new(setup.clone(), 1, 1000);
        rig.act(|dialler, means| dialler.timeout(means));
        if connects == 2 {
            rig.act(|dialler, means| dialler.connect_failed(means, 0, "refused".into()));
        }
        assert_eq!((rig.dialler.state(), rig.connects), (State::Connecting, connects));
        rig.act(|dialler, means| dialler.connected(means, 0));
        rig.write_all();
        rig.act(|dialler, means| dialler.lost(means, None));
        assert!(matches!(verdict(&rig), Err(Why::Answer(_))));
        assert_eq!(rig.connects, connects);
    }
}

/// Each address has its share of the time, and the last one all that is left.
#[test]
fn a_silent_address_leaves_time_for_the_next_one() {
    let urls = ["http://10.0.0.1/", "http://one.example/", "http://10.0.0.3/"];
    let mut setup = setup(&urls, rules(&[]));
    setup.purpose = Purpose::Request(Ask::get("/").within(Duration::from_secs(9)));
    let mut rig = Rig::new(setup.clone(), 1, 1000);
    rig.act(|dialler, means| dialler.timeout(means));
    rig.pass_to(4000);
    assert_eq!((rig.dialler.state(), rig.connects), (State::Connecting, 1));
    rig.pass_to(4001);
    assert_eq!((rig.dialler.state(), rig.asked.len()), (State::Resolving, 1));
    rig.pass_to(7001);
    assert_eq!((rig.dialler.state(), rig.connects), (State::Connecting, 2));
    // What is found too late is none of the next address.
    rig.act(|dialler, means| dialler.resolved(means, 2, Ok(vec!["10.0.0.2:80".parse().unwrap()])));
    rig.act(|dialler, means| dialler.connected(means, 0));
    rig.write_all();
    assert!(rig.written.starts_with(b"GET / HTTP/1.1\r\nHost: 10.0.0.3\r\n"));
    rig.pass_to(10_000);
    assert_eq!(rig.dialler.state(), State::Open);
    rig.receive(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(verdict(&rig).is_ok());
    // Where all are silent the last one ends with the whole.
    let mut rig = Rig::new(setup.clone(), 1, 1000);
    rig.act(|dialler, means| dialler.timeout(means));
    rig.pass_to(10_000);
    assert_eq!((rig.dialler.state(), rig.connects), (State::Connecting, 2));
    rig.pass_to(10_001);
    assert_eq!(verdict(&rig), Err(Why::TimedOut(State::Connecting)));
    // One that was sent has the whole time for its answer, whichever address took it.
    let mut rig = Rig::new(setup.clone(), 1, 1000);
    rig.act(|dialler, means| dialler.timeout(means));
    rig.act(|dialler, means| dialler.connected(means, 0));
    rig.pass_to(10_000);
    assert_eq!(rig.dialler.state(), State::Open);
    rig.pass_to(10_001);
    assert_eq!(verdict(&rig), Err(Why::TimedOut(State::Open)));
    // Where there is much time none has more of it than another client would give.
    setup.purpose = Purpose::Request(Ask::get("/").within(Duration::from_secs(900)));
    let mut rig = Rig::new(setup, 1, 1000);
    rig.act(|dialler, means| dialler.timeout(means));
    rig.pass_to(16_000);
    assert_eq!(rig.dialler.state(), State::Connecting);
    rig.pass_to(16_001);
    assert_eq!(rig.dialler.state(), State::Resolving);
}

/// Answers with random faults: the verdict does not depend on the pieces, and there is always one.
#[test]
fn hostile_answers_are_judged_alike_however_they_are_cut() {
    let good: [&[u8]; 4] = [
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: b\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a\r\nhel\r\n02\r\nlo\r\n0\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 404 Not Found\r\n\r\nhello",
        b"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n",
    ];
    let (mut answered, mut refused) = (0, 0);
    for seed in 0..10_000 {
        let mut rng = Rng::new(seed);
        let mut bytes = good[rng.below(4) as usize].to_vec();
        for _ in 0..rng.below(4) {
            if bytes.len() < 2 {
                break;
            }
            let at = rng.below(bytes.len() as u64) as usize;
            match rng.below(4) {
                0 => bytes[at] = b"\r\n :;0159fF\0\xff"[rng.below(13) as usize],
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, bytes[rng.below(bytes.len() as u64) as usize]),
                _ => bytes.truncate(at.max(1)),
            }
        }
        let ask = Ask::get("/").limit(9);
        let whole = read(ask.clone(), &[&bytes]);
        let mut pieces = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(1 + rng.below(rest.len().min(9) as u64) as usize);
            pieces.push(piece);
            rest = left;
        }
        assert_eq!(read(ask, &pieces), whole, "SEED={seed} {}", bytes.escape_ascii());
        match whole {
            Ok(_) => answered += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(answered > 2000 && refused > 2000, "{answered} {refused}");
}

#[test]
fn what_cannot_be_sent_is_refused_before() {
    let mut links = Links::new().unwrap();
    for (ask, error) in [
        (Ask::new("G T", "/"), RequestError::Method),
        (Ask::new("CONNECT", "/"), RequestError::Method),
        (Ask::get("b"), RequestError::Target),
        (Ask::get("/b c"), RequestError::Target),
        (Ask::get("/b\r\nEvil: x"), RequestError::Target),
    ] {
        let refused = links.request(dial("/a"), ask, |_| panic!("it is not called"));
        assert_eq!(refused, Err(DialError::Request(error)));
    }
    for ask in [
        Ask::get("/").header("Evil", "x\r\ny"),
        Ask::get("/").header("Content-Length", "1"),
        Ask::post("/", "a\nb", "x"),
    ] {
        let refused = links.request(dial("/a"), ask, |_| panic!("it is not called"));
        assert!(matches!(refused, Err(DialError::Request(RequestError::Header(_)))), "{refused:?}");
    }
    assert!(links.is_empty());
}

fn request(both: &mut Both, dial: Dial, ask: Ask) -> Receiver<Result<Answer, Why>> {
    let (sender, receiver) = channel();
    both.links.request(dial, ask, move |answer| sender.send(answer).unwrap()).unwrap();
    receiver
}

#[test]
fn a_server_of_ours_is_asked_and_told() {
    let mut both = Both::new();
    let post = request(&mut both, dial(""), Ask::post("/topics/a", "text/plain", "open"));
    both.settle();
    let posted = post.recv().unwrap().unwrap();
    assert_eq!(posted.status(), 200, "{posted:?}");
    let get = request(&mut both, dial("").topics(), Ask::get("/topics/a"));
    let head = request(&mut both, dial("/topics/a"), Ask::new("HEAD", ""));
    let lost = request(&mut both, dial(""), Ask::get("/nowhere"));
    let old = request(&mut both, dial(""), Ask::get("/topics/a?after=0-0"));
    both.settle();
    let got = get.recv().unwrap().unwrap();
    assert_eq!((got.status(), got.text()), (200, Some("open")));
    assert!(posted.text().unwrap().contains(got.header("event-id").unwrap()), "{posted:?}");
    let head = head.recv().unwrap().unwrap();
    assert_eq!(
        (head.status(), head.header("content-length"), head.body().len()),
        (200, Some("4"), 0)
    );
    assert_eq!(lost.recv().unwrap().unwrap().status(), 404);
    let old = old.recv().unwrap().unwrap();
    assert_eq!(old.header("transfer-encoding"), Some("chunked"));
    assert!(old.text().unwrap().contains("open"));
    assert!(both.links.is_empty());
    assert_eq!(both.server.as_ref().unwrap().connections(), 0);
}

#[test]
fn a_limit_and_a_deadline_are_kept_in_memory_too() {
    let mut both = Both::new();
    let handle = both.server.as_ref().unwrap().handle();
    handle.publish("a", "x".repeat(5000)).unwrap();
    both.settle();
    for (limit, fits) in [(5000, true), (4999, false)] {
        let answer = request(&mut both, dial("/topics/a"), Ask::get("").limit(limit));
        both.settle();
        assert_eq!(answer.recv().unwrap().is_ok(), fits);
    }
    let mut config = heartwheel::Config::default();
    config.set("limits.message_bytes", "4k").unwrap();
    let small = dial("/topics/a").config(&config).unwrap();
    let answer = request(&mut both, small, Ask::get(""));
    both.settle();
    assert!(matches!(answer.recv().unwrap(), Err(Why::Answer(_))));
    // A server that takes connections and does nothing with them.
    both.server = None;
    let network = MemoryNetwork::new();
    let deaf = Server::builder().listen_memory(&network).unwrap();
    both.links.on_memory(&network);
    let answer = request(&mut both, dial(""), Ask::get("/"));
    both.pass(Duration::from_secs(9));
    assert!(answer.try_recv().is_err());
    both.pass(Duration::from_secs(2));
    assert_eq!(answer.recv().unwrap(), Err(Why::TimedOut(State::Open)));
    drop(deaf);
}

/// A request from a server's loop to itself, and one that its end overtakes.
#[test]
fn a_servers_loop_asks_and_each_function_is_called_once() {
    let network = MemoryNetwork::new();
    let server = Server::builder().topics("/topics/{topic}").listen("127.0.0.1:0").unwrap();
    let address = server.local_addresses()[0].as_tcp().unwrap();
    let handle = server.handle();
    let (sender, answers) = channel();
    let dial = Dial::to(&format!("http://{address}")).unwrap();
    let again = (handle.clone(), dial.clone());
    let told = sender.clone();
    let ask = Ask::post("/topics/a", "application/json", "[1]");
    let posted = move |answer: Result<Answer, Why>| {
        told.send(answer).unwrap();
        let (handle, dial) = again;
        handle
            .request(dial, Ask::get("/topics/a"), move |answer| told.send(answer).unwrap())
            .unwrap();
    };
    handle.request(dial.clone(), ask, posted).unwrap();
    let serving = std::thread::spawn(move || server.run().unwrap());
    let patience = Duration::from_secs(60);
    assert_eq!(answers.recv_timeout(patience).unwrap().unwrap().status(), 200);
    let got = answers.recv_timeout(patience).unwrap().unwrap();
    assert_eq!((got.header("content-type"), got.text()), (Some("application/json"), Some("[1]")));
    handle.shut_down().unwrap();
    serving.join().unwrap();
    let told = sender.clone();
    let late =
        handle.request(dial.clone(), Ask::get("/"), move |answer| told.send(answer).unwrap());
    assert_eq!(late, Err(DialError::Ended));
    assert!(answers.try_recv().is_err(), "a function that is refused is not called");
    let mut links = Links::new().unwrap();
    links.on_memory(&network);
    links.request(dial, Ask::get("/"), move |answer| sender.send(answer).unwrap()).unwrap();
    drop(links);
    assert_eq!(answers.recv().unwrap(), Err(Why::Stopped));
    assert!(answers.recv().is_err(), "each was called once, and is gone");
}

/// Asks again after each failure, and tells what became of each attempt to ask.
fn ask_on(handle: Handle, dial: Dial, told: Sender<Result<(), DialError>>) {
    let again = (handle.clone(), dial.clone(), told.clone());
    let failed = move |answer: Result<Answer, Why>| {
        assert_eq!(answer, Err(Why::Stopped));
        ask_on(again.0, again.1, again.2);
    };
    told.send(handle.request(dial, Ask::get("/"), failed)).unwrap();
}

/// The loop's end tells the first function; the request that this one makes is discarded with the
/// loop; the request of the second function is refused.
#[test]
fn a_function_that_asks_again_after_each_failure_comes_to_an_end() {
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let dial = Dial::to(&format!("http://{}", deaf.local_addr().unwrap())).unwrap();
    let mut server = Server::builder().listen("127.0.0.1:0").unwrap();
    let (sender, told) = channel();
    ask_on(server.handle(), dial, sender);
    server.turn().unwrap();
    drop(server);
    let told: Vec<_> = told.iter().collect();
    assert_eq!(told, [Ok(()), Ok(()), Err(DialError::Ended)]);
}

#[test]
fn a_panic_of_a_function_harms_neither_the_loop_nor_other_requests() {
    let mut both = Both::new();
    let panics = |_: Result<Answer, Why>| panic!("on purpose");
    both.links.request(dial(""), Ask::get("/nowhere"), panics).unwrap();
    both.settle();
    let answer = request(&mut both, dial(""), Ask::get("/nowhere"));
    both.settle();
    assert_eq!(answer.recv().unwrap().unwrap().status(), 404);
    // These are discarded with the loop, which has not taken them.
    both.links.request(dial(""), Ask::get("/nowhere"), panics).unwrap();
    let answer = request(&mut both, dial(""), Ask::get("/nowhere"));
    drop(both);
    assert_eq!(answer.recv().unwrap(), Err(Why::Stopped));
}

#[test]
fn requests_of_a_loop_are_bounded_in_number_and_in_bytes() {
    let mut both = Both::new();
    let refused = |_: Result<Answer, Why>| panic!("it is not called");
    let (sender, answers) = channel();
    let post = |both: &mut Both, bytes: usize| {
        let told = sender.clone();
        let function = move |answer: Result<Answer, Why>| {
            told.send(answer.map(|answer| answer.status())).unwrap();
        };
        both.links.request(dial(""), Ask::post("/nowhere", "text/plain", vec![7; bytes]), function)
    };
    // One of any length, and none beside it until the loop has taken it.
    assert_eq!(post(&mut both, 300 << 10), Ok(()));
    assert_eq!(both.links.request(dial(""), Ask::get("/"), refused), Err(DialError::Full));
    both.links.turn().unwrap();
    assert_eq!(post(&mut both, 200 << 10), Ok(()));
    for ask in [
        Ask::get(format!("/{}", "x".repeat(56 << 10))),
        Ask::get("/").header("X-Long", "x".repeat(56 << 10)),
        Ask::post("/", "text/plain", vec![7; 56 << 10]),
    ] {
        assert_eq!(both.links.request(dial(""), ask, refused), Err(DialError::Full));
    }
    assert_eq!(post(&mut both, 55 << 10), Ok(()));
    // As many as may be under way, taken or not.
    both.links.turn().unwrap();
    for _ in 3..256 {
        assert_eq!(post(&mut both, 1), Ok(()));
    }
    for _ in 0..2 {
        assert_eq!(both.links.request(dial(""), Ask::get("/"), refused), Err(DialError::Full));
        both.links.turn().unwrap();
    }
    both.pass(Duration::from_secs(11));
    assert_eq!(answers.try_iter().count(), 256);
    // All that they took is free again.
    assert_eq!(post(&mut both, 300 << 10), Ok(()));
    both.pass(Duration::from_secs(11));
    assert_eq!(answers.try_iter().count(), 1);
}

#[test]
fn a_script_asks_beside_its_topics() {
    let network = MemoryNetwork::new();
    let builder = Server::builder().topics("/topics/{topic}").hub("/ws");
    let server = builder.listen_memory(&network).unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.run().unwrap());
    let mut links = Links::new().unwrap();
    links.on_memory(&network);
    let mut client = Client::on(links, dial("/ws")).unwrap();
    assert_eq!(client.get("/topics/a").unwrap().status(), 204);
    assert_eq!(client.state().state, State::Waiting, "nothing of topics was asked for");
    let _ = client.subscribe("a", heartwheel::topics::After::Now).unwrap();
    client.publish("b", "x").unwrap();
    let posted = client.post("/topics/a", "text/plain", "one").unwrap();
    assert_eq!(posted.status(), 200);
    let (topic, heard) = client.events().next().unwrap();
    assert!(matches!(heard, heartwheel::Heard::Event(event) if topic == "a"
        && event.payload.as_text() == Some("one")));
    let wrong = client.get("no path");
    assert!(matches!(wrong, Err(ClientError::Dial(DialError::Request(_)))), "{wrong:?}");
    handle.shut_down().unwrap();
    serving.join().unwrap();
    let gone = client.get("/topics/a");
    assert!(matches!(gone, Err(ClientError::Failed(Why::Unreachable(_)))), "{gone:?}");
}

/// Any input in any state, of a request and of an event stream: no second connection, which the rig
/// watches, never a state without a deadline, and one end. A request ends by its deadline.
#[test]
fn whatever_happens_there_is_one_end() {
    let mut states = std::collections::BTreeSet::new();
    for seed in 0..4000 {
        let mut rng = Rng::new(seed);
        let urls = ["http://10.0.0.1/", "https://one.example/", "http://[::1]/"];
        let first = rng.below(3) as usize;
        let mut setup = setup(&urls[first..], rules(&[("client.broken_for", "20s")]));
        setup.renews = rng.chance(50);
        setup.proxy = rng.chance(20).then(|| "http://proxy:3128".parse().unwrap());
        let is_request = rng.chance(50);
        setup.purpose = match is_request {
            true => Purpose::Request(Ask::get("/").within(Duration::from_secs(20))),
            false => Purpose::Events(Default::default()),
        };
        let mut rig = Rig::new(setup, rng.next_u64(), 1000);
        let began = rig.now_ms;
        rig.act(|dialler, means| dialler.timeout(means));
        for _ in 0..60 {
            step(&mut rig, &mut rng);
            let state = rig.dialler.state();
            states.insert((is_request, state.label()));
            let at = rig.dialler.poll_timeout(rig.now());
            assert_eq!(at.is_none(), state == State::Stopped, "SEED={seed} {state}");
        }
        match is_request {
            true => rig.pass_to(began + 20_001),
            false => rig.act(|dialler, means| dialler.stop(means, 1000, "")),
        }
        let is_end = |told: &&Told| matches!(told, Told::State { state: State::Stopped, .. });
        assert_eq!(rig.told.iter().filter(is_end).count(), 1, "SEED={seed}");
        assert!(!rig.is_kept && rig.tries.is_empty(), "SEED={seed}");
        if is_request {
            drop(verdict(&rig));
        }
    }
    // `broken` takes more failures in a row than there are steps.
    assert_eq!(states.len(), 5 + 7, "{states:?}");
}

fn step(rig: &mut Rig, rng: &mut Rng) {
    let texts: [&[u8]; 8] = [
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 503 X\r\nRetry-After: 2\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 401 X\r\n\r\n",
        b"id: 7\ndata: x\n\nretry: 3000\n\n",
        b"hello",
        b":\n",
        b"\0\xff\r",
    ];
    let number = rig.tries.first().copied().unwrap_or_default();
    let asked = rig.asked.last().copied().unwrap_or_default();
    let address = ["10.0.0.1:80", "[::1]:80"].map(|text| text.parse().unwrap());
    match rng.below(13) {
        0 => rig.act(|dialler, means| dialler.resolved(means, asked, Ok(address.to_vec()))),
        1 if rng.chance(20) => {
            rig.act(|dialler, means| dialler.resolved(means, asked, Err("none".into())));
        }
        2 | 3 => rig.act(|dialler, means| dialler.connected(means, number)),
        4 if rng.chance(30) => {
            rig.tries.remove(&number);
            rig.act(|dialler, means| dialler.connect_failed(means, number, "refused".into()));
        }
        5 | 6 => rig.act(|dialler, means| dialler.secured(means)),
        7 | 8 => rig.receive(texts[rng.below(8) as usize]),
        9 if rng.chance(20) => {
            let error = rng.chance(50).then(|| "reset".into());
            rig.act(|dialler, means| dialler.lost(means, error));
        }
        10 if rng.chance(10) => {
            rig.act(|dialler, means| dialler.tls_failed(means, Why::Tls("alert".into())));
        }
        11 => {
            let token = rng.chance(90).then(|| "new".into());
            if rig.renewals > 0 {
                rig.act(|dialler, means| dialler.renewed(means, token));
            }
        }
        12 => rig.pass_to(rig.now_ms + rng.below(700)),
        _ => rig.write_all(),
    }
}

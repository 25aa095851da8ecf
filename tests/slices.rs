//! What is asked for, or published, becomes long on its way: a megabyte of control characters is
//! six of JSON. It is made as its reader takes it: in turns that are short, in memory that is
//! counted before it is taken.

mod common;

use std::time::Duration;

use heartwheel::core::contract::event::{Command, Done, Event, Job, Outcome, Session, Task};
use heartwheel::http::Response;
use heartwheel::{Accept, CloseReason, ConnectionId, Payload, Placement};

use common::engine::TestEngine;
use common::http::Answer;
use common::rng::Rng;
use common::topics::dechunk;

const KIB: usize = 1024;
const MIB: usize = 1 << 20;

/// FAULTS 180: what one turn may take of the CPU, for whatever is asked for.
const TURN_MAX: Duration = match cfg!(debug_assertions) {
    false => Duration::from_millis(2),
    // Without optimisation a byte takes a hundred times as long to encode.
    true => Duration::from_millis(500),
};

/// How many ask at once.
const CLIENTS: usize = if cfg!(debug_assertions) { 20 } else { 100 };

fn text(byte: u8, len: usize) -> String {
    char::from(byte).to_string().repeat(len)
}

/// Asks on a connection of its own, of which `window` bytes are taken.
fn ask(server: &mut TestEngine, window: usize, target: &str) -> ConnectionId {
    let id = server.connect("127.0.0.1:9").expect("there is room");
    server.narrow(id, window);
    server.send(id, format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    server.settle();
    id
}

/// Gives the head of an answer, and what is behind it.
fn apart(answer: &[u8]) -> (String, &[u8]) {
    let (head, end) = Answer::read(answer).expect("a whole head");
    (head.head, &answer[end..])
}

/// Gives the strings of a member, unescaped.
fn data_of(json: &str, count: usize) -> Vec<String> {
    let value: tinyjson::JsonValue = json.parse().unwrap_or_else(|error| panic!("{error}"));
    let rows: Vec<tinyjson::JsonValue> = value.try_into().expect("an array");
    assert_eq!(rows.len(), count);
    rows.iter().map(|row| row["data"].get::<String>().expect("text").clone()).collect()
}

#[test]
fn a_history_comes_whole_in_slices_however_it_is_read() {
    let mut server = TestEngine::new(&[("topics.retain_bytes", "8m")]);
    let lens = [0, 1, 20_000, 5, 300_000, 16_300, 16_384, 40_000, 3, 70_000];
    let texts: Vec<_> =
        lens.iter().enumerate().map(|(n, len)| text([1, b'a', b'"'][n % 3], *len)).collect();
    for text in &texts {
        server.publish("a", text.as_str());
    }
    for step in [usize::MAX, 100_000, 7_777] {
        let id = ask(&mut server, step, "/topics/a?after=0-0");
        let mut answer = server.received(id);
        while !answer.ends_with(b"\r\n0\r\n\r\n") {
            server.narrow(id, step);
            server.settle();
            let more = server.received(id);
            assert!(!more.is_empty(), "it goes on");
            answer.extend(more);
        }
        let (head, body) = apart(&answer);
        assert!(head.contains("\r\nTransfer-Encoding: chunked\r\n"), "{head}");
        assert_eq!(data_of(&dechunk(body), texts.len()), texts, "{step}");
        assert!(!server.is_over(id), "the connection is kept");
    }
    let stranger = ask(&mut server, usize::MAX, "/topics/none?after=0-0");
    assert_eq!(dechunk(apart(&server.received(stranger)).1), "[]");
}

#[test]
fn old_clients_get_a_history_until_the_end_and_head_gets_none() {
    let mut server = TestEngine::new(&[]);
    server.publish("a", text(2, 100_000));
    let id = server.connect("127.0.0.1:9").expect("there is room");
    server.send(id, "GET /topics/a?after=0-0 HTTP/1.0\r\n\r\n");
    server.settle();
    let answer = server.received(id);
    let (head, body) = apart(&answer);
    assert!(head.contains("Connection: close") && !head.contains("chunked"), "{head}");
    let body = std::str::from_utf8(body).expect("JSON is text");
    assert_eq!(data_of(body, 1), [text(2, 100_000)]);
    assert!(server.is_over(id));
    let id = server.connect("127.0.0.1:9").expect("there is room");
    server.send(id, "HEAD /topics/a?after=x HTTP/1.1\r\nHost: localhost\r\n\r\n");
    server.settle();
    let answer = server.received(id);
    let (head, body) = apart(&answer);
    assert!(head.starts_with("HTTP/1.1 200 ") && head.contains("Event-Gap: "), "{head}");
    assert!(body.is_empty() && !server.is_over(id));
}

/// What is published meanwhile is not in it: it ends.
#[test]
fn a_history_ends_with_what_was_newest_when_it_was_asked_for() {
    let mut server = TestEngine::new(&[]);
    for n in 0..3 {
        server.publish("a", format!("{n}{}", text(1, 20_000)));
    }
    let id = ask(&mut server, 1000, "/topics/a?after=0-0");
    server.publish("a", "later");
    server.narrow(id, usize::MAX);
    server.settle();
    let answer = server.received(id);
    let rows = data_of(&dechunk(apart(&answer).1), 3);
    assert!(rows[2].starts_with('2'));
}

/// A reader so slow that the log has moved on gets an answer that is seen to be broken, and never
/// one that is short and whole.
#[test]
fn a_history_that_is_evicted_before_it_is_read_breaks_off() {
    let mut server = TestEngine::new(&[("topics.retain_events", "4")]);
    for n in 0..4 {
        server.publish("a", format!("{n}{}", text(1, 20_000)));
    }
    let id = ask(&mut server, 1000, "/topics/a?after=0-0");
    let done = ask(&mut server, 1000, "/topics/a?after=0-0");
    for _ in 0..2 {
        server.publish("a", "next");
    }
    server.narrow(id, usize::MAX);
    server.settle();
    assert!(server.is_over(id));
    let answer = server.received(id);
    assert!(!answer.ends_with(b"0\r\n\r\n"));
    let stats = server.engine.stats();
    assert_eq!((stats.closed_by(CloseReason::Overflow), stats.gaps), (1, 1));
    // What had been begun is held until it is written, whatever is evicted.
    server.end(done);
}

/// FAULTS 180. What waits for each is the event as it was published.
#[test]
fn a_hundred_ask_for_a_log_of_control_characters() {
    let mut server = TestEngine::new(&[("limits.memory_bytes", "4m")]);
    server.publish("a", text(1, MIB - 64));
    let ids: Vec<_> = (0..CLIENTS).map(|_| ask(&mut server, 0, "/topics/a?after=0-0")).collect();
    let used = server.memory_in_use();
    assert!(used <= 3 * MIB, "{used}");
    server.longest_turn = Duration::ZERO;
    ids.iter().for_each(|id| server.narrow(*id, 64 * KIB));
    server.settle();
    assert!(ids.iter().all(|id| server.received(*id).len() == 64 * KIB));
    server.narrow(ids[0], usize::MAX);
    server.settle();
    println!("{used} bytes in use, the longest turn {:?}", server.longest_turn);
    assert!(server.longest_turn <= TURN_MAX, "{:?}", server.longest_turn);
    let rest = server.received(ids[0]);
    assert!(rest.len() > 6 * (MIB - 64) - 64 * KIB);
    assert!(rest.ends_with(b"\"}\r\n1\r\n]\r\n0\r\n\r\n"));
    let stats = server.engine.stats();
    assert_eq!((stats.closed_total(), stats.rejected_memory), (0, 0));
}

/// FAULTS 181. All hold the event as it was published; each is sent it in lines.
#[test]
fn a_hundred_streams_are_sent_a_megabyte_of_line_feeds() {
    let mut server = TestEngine::new(&[("limits.memory_bytes", "4m")]);
    let kinds = ["/topics/a", "/events?topic=a"];
    let stream = |server: &mut TestEngine, target: &str| {
        let id = server.connect("127.0.0.1:9").expect("there is room");
        let accept = "Accept: text/event-stream\r\n";
        server.send(id, format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{accept}\r\n"));
        server.settle();
        server.received(id);
        server.narrow(id, 0);
        id
    };
    let ids: Vec<_> = (0..CLIENTS).map(|n| stream(&mut server, kinds[n % 2])).collect();
    server.longest_turn = Duration::ZERO;
    server.publish("a", text(b'\n', MIB - 64));
    let used = server.memory_in_use();
    assert!(used <= 3 * MIB, "{used}");
    ids.iter().for_each(|id| server.narrow(*id, 64 * KIB));
    server.settle();
    assert!(ids.iter().all(|id| server.received(*id).len() == 64 * KIB));
    ids[..2].iter().for_each(|id| server.narrow(*id, usize::MAX));
    server.settle();
    println!("{used} bytes in use, the longest turn {:?}", server.longest_turn);
    assert!(server.longest_turn <= TURN_MAX, "{:?}", server.longest_turn);
    for id in &ids[..2] {
        let rest = server.received(*id).len();
        assert!(rest > 7 * (MIB - 64) - 64 * KIB, "{rest}");
    }
    assert_eq!(server.engine.stats().closed_total(), 0);
}

/// Events that overtake each other in an outbox do so only where the peer is slow: one that is
/// encoded over several turns keeps nobody's peer from the next.
#[test]
fn large_events_one_behind_the_other_reach_who_reads() {
    let mut server = TestEngine::new(&[]);
    let hubs: Vec<_> = (0..3).map(|_| server.open("/ws")).collect();
    for id in &hubs {
        let message = br#"{"op":"subscribe","topic":"a"}"#;
        server.send(*id, common::frame::frame(0x81, message));
        server.settle();
        server.received(*id);
    }
    for _ in 0..5 {
        let payload = Payload::from(text(b'"', 900 * KIB));
        server.command(Command::Publish("a".into(), payload.into()));
    }
    server.settle();
    for id in hubs {
        let got = server.received(id).len();
        assert!((5 * 1800 * KIB..5 * 1801 * KIB).contains(&got), "{got}");
    }
    assert_eq!(server.engine.stats().closed_total(), 0);
    assert!(server.longest_turn <= TURN_MAX * 2, "{:?}", server.longest_turn);
}

/// The newest event goes out as it lies in the log, to however many.
#[test]
fn a_thousand_are_answered_with_one_megabyte() {
    let mut server = TestEngine::new(&[("limits.memory_bytes", "4m")]);
    server.publish("a", vec![7; MIB]);
    let ids: Vec<_> = (0..1000).map(|_| ask(&mut server, 0, "/topics/a")).collect();
    let used = server.memory_in_use();
    assert!(used <= 3 * MIB, "{used}");
    for &id in &ids[..10] {
        server.narrow(id, usize::MAX);
        server.settle();
        let answer = server.received(id);
        let (head, body) = apart(&answer);
        assert!(head.contains(&format!("\r\nContent-Length: {MIB}\r\n")), "{head}");
        assert!(body == vec![7; MIB]);
    }
}

/// What is published is checked as it comes: whatever a megabyte of JSON is made of, no turn takes
/// long for it. Sound or not, over HTTP and on `/ws`.
#[test]
fn a_megabyte_of_json_is_checked_in_short_turns() {
    let mut server = TestEngine::new(&[("limits.memory_bytes", "64m")]);
    for (name, json) in hostile_json() {
        server.longest_turn = Duration::ZERO;
        let id = server.connect("127.0.0.1:9").expect("there is room");
        let lines = "Host: localhost\r\nContent-Type: application/json\r\n";
        let length = json.len();
        let head = format!("POST /topics/a HTTP/1.1\r\n{lines}Content-Length: {length}\r\n\r\n");
        server.send(id, [head.as_bytes(), json.as_bytes()].concat());
        server.settle();
        let is_sound = !name.starts_with("broken");
        let status = if is_sound { "200 OK" } else { "400 Bad Request" };
        assert!(server.received(id).starts_with(format!("HTTP/1.1 {status}\r\n").as_bytes()));
        server.end(id);
        let posted = std::mem::take(&mut server.longest_turn);

        let id = server.open("/ws");
        let text = format!(r#"{{"op":"publish","topic":"a","ref":[7],"data":{json}}}"#);
        server.send(id, common::frame::frame(0x81, text.as_bytes()));
        server.settle();
        let answer = String::from_utf8_lossy(&server.received(id)).into_owned();
        let op = if is_sound { "published" } else { "error" };
        assert!(answer.contains(&format!(r#"{{"op":"{op}","#)), "{name}: {answer}");
        assert!(answer.ends_with(r#""ref":[7]}"#) || is_sound, "{name}: {answer}");
        server.end(id);
        let published = std::mem::take(&mut server.longest_turn);
        println!("{name}: the longest turn {posted:?} over HTTP, {published:?} on /ws");
        assert!(posted.max(published) <= TURN_MAX, "{name}: {posted:?} {published:?}");
    }
}

/// A megabyte of each of what has taken longest for its length, and of mixtures that no processor
/// can foresee.
fn hostile_json() -> Vec<(&'static str, String)> {
    let len = MIB - 1024;
    let mut rng = Rng::new(1);
    let mut many = |parts: &[&str], between: &str| {
        let mut text = String::with_capacity(len);
        while text.len() < len - 512 {
            text += parts[rng.below(parts.len() as u64) as usize];
            text += between;
        }
        text
    };
    let array = |items: String| format!("[{items}1]");
    let string = |content: String| format!("\"{content}\"");
    let deep = "[".repeat(99) + &"]".repeat(99);
    let deep_objects = r#"{"":"#.repeat(99) + "1" + &"}".repeat(99);
    let scalars = ["1", "-1", "0", "1.5", "1e5", "true", "\"\"", "\"a\"", "[]", "{}"];
    let escapes = ["a", "\\n", "\\u0041", "\\ud83d\\ude00", "\\ud83d", "é"];
    vec![
        ("ones", array(many(&["1"], ","))),
        ("arrays", array(many(&["[]"], ","))),
        ("objects", array(many(&["{}"], ","))),
        ("members", format!("{{{}\"\":1}}", many(&["\"a\":1"], ","))),
        ("short strings", array(many(&["\"\"", "\"a\""], ","))),
        ("escapes of control characters", string(many(&["\\u0001"], ""))),
        ("surrogate pairs", string(many(&["\\ud83d\\ude00"], ""))),
        ("halves of pairs", string(many(&["\\ud83d"], ""))),
        ("line feeds", string(many(&["\\n"], ""))),
        ("plain text", string(many(&["a"], ""))),
        ("two bytes each", string(many(&["é"], ""))),
        ("three bytes each", string(many(&["水"], ""))),
        ("four bytes each", string(many(&["😀"], ""))),
        ("one to four bytes", string(many(&["a", "é", "水", "😀"], ""))),
        ("nested arrays", array(many(&[&deep], ","))),
        ("nested objects", array(many(&[&deep_objects], ","))),
        ("exponents", array(many(&["-1.5e+10"], ","))),
        ("one number", many(&["1"], "")),
        ("blanks", array(many(&[" "], ""))),
        ("blanks between", array(many(&["1", " 1", "\n1\t"], ","))),
        ("literals", array(many(&["true", "false", "null"], ","))),
        ("scalars", array(many(&scalars, ","))),
        (
            "scalars in objects",
            format!("{{{}\"\":1}}", many(&["\"a\":1", "\"\":[]", "\"\\n\":{}"], ",")),
        ),
        ("text and line feeds", string(many(&["a", "\\n"], ""))),
        ("text and escapes", string(many(&escapes, ""))),
        ("broken at its end", array(many(&scalars, ",")) + "]"),
        ("broken at its beginning", format!("[x{}]", many(&scalars, ","))),
        ("broken by its depth", "[".repeat(1000) + &many(&["[", "]", "1,"], "")),
        ("broken within a string", string("\n".to_owned() + &many(&escapes, ""))),
    ]
}

/// FAULTS 183: an entry counts in `limits.outbox_bytes`.
#[test]
fn tiny_events_count_with_their_entries() {
    let pairs = [("overflow.policy", "drop_newest"), ("limits.memory_bytes", "64m")];
    let mut server = TestEngine::new(&pairs);
    let id = server.open("/topics/a");
    server.narrow(id, 0);
    for _ in 0..20_000 {
        server.command(Command::Publish("a".into(), "abc".into()));
    }
    server.settle();
    let used = server.memory("outbox");
    let waiting = server.figure("heartwheel_outbox_bytes");
    println!("{used} bytes of memory for {waiting}");
    assert!((128 * KIB..512 * KIB).contains(&used), "{used}");
    assert!((1000..256 * KIB / 128 * 5).contains(&waiting), "{waiting}");
}

/// FAULTS 184. Handlers are busy; connections come, fill their inboxes, and go.
#[test]
fn the_budget_sees_what_connections_left_behind() {
    let mut server = TestEngine::new(&[("limits.memory_bytes", "64m")]);
    let fill = |server: &mut TestEngine, id| {
        server.send(id, common::frame::frame(0x82, &[7; 8 * KIB]).repeat(8));
        server.settle();
    };
    let take = |server: &mut TestEngine| {
        assert!(!server.world.undecided.is_empty(), "a worker has something");
        server.world.undecided.remove(0)
    };
    let held = |server: &TestEngine| server.memory("inbox");
    // Their handlers know them, and have nothing of theirs when they go.
    let known: Vec<_> = (0..50).map(|_| server.open("/busy")).collect();
    for _ in &known {
        let job = take(&mut server);
        server.command(done(job));
    }
    known.iter().for_each(|id| fill(&mut server, *id));
    known.iter().for_each(|id| server.end(*id));
    server.run_for(20_000);
    assert!(server.engine.is_empty() && held(&server) >= 50 * 64 * KIB, "{}", held(&server));
    // The workers take that, and then what others send who go at once.
    let mut jobs: Vec<_> = known.iter().map(|_| take(&mut server)).collect();
    let others: Vec<_> = (0..50).map(|_| server.open("/busy")).collect();
    others.iter().for_each(|id| fill(&mut server, *id));
    jobs.extend(others.iter().map(|_| take(&mut server)));
    others.iter().for_each(|id| server.end(*id));
    let head = "POST /busy/post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500000\r\n\r\n";
    let poster = server.connect("127.0.0.1:9").expect("there is room");
    server.send(poster, [head.as_bytes(), &[b'x'; 500_000]].concat());
    server.settle();
    jobs.push(take(&mut server));
    server.run_for(20_000);
    assert_eq!(server.engine.len(), 0);
    let bytes = 100 * 64 * KIB + 500_000;
    assert!((bytes..bytes * 11 / 10).contains(&held(&server)), "{}", held(&server));
    for job in jobs {
        server.command(done(job));
    }
    while let Some(job) = server.engine.poll_job(Placement::Worker) {
        server.command(done(job));
    }
    assert_eq!(held(&server), 0);
}

/// A turn that had spent its budget on reading gave workers one message at a time, and the answers
/// left one at a time.
#[test]
fn a_worker_is_given_all_that_was_read_together() {
    const PEERS: usize = 50;
    const DEPTH: usize = 4;
    let mut server = TestEngine::new(&[("turn.bytes", "64k")]);
    let known: Vec<_> = (0..PEERS).map(|_| server.open("/busy")).collect();
    for job in std::mem::take(&mut server.world.undecided) {
        server.command(done(job));
    }
    for id in known {
        server.send(id, common::frame::frame(0x82, &[7; KIB]).repeat(DEPTH));
    }
    server.settle();
    assert!(server.turns > 3, "more was read than fits one turn");
    let jobs = std::mem::take(&mut server.world.undecided);
    let counts = jobs.iter().map(|job| match &job.task {
        Task::Events { events, .. } => events.len(),
        task => panic!("{task:?}"),
    });
    // The read at which a turn's budget ends may be decoded in two parts.
    let whole = counts.clone().filter(|count| *count == DEPTH).count();
    assert!(whole >= PEERS * 9 / 10, "{:?}", counts.collect::<Vec<_>>());
}

/// What a handler gives back that has taken everything.
fn done(Job { id, route, task, .. }: Job) -> Command {
    let outcome = match task {
        Task::Events { mut events, .. } => {
            let is_over = matches!(events.back(), Some(Event::Closed(_)));
            let messages = events.iter().filter(|event| matches!(event, Event::Message(_)));
            let messages_handled = messages.count() as u64;
            events.clear();
            let session: Option<Session> = if is_over { None } else { Some(Box::new(())) };
            Outcome::Events { session, messages_handled, events }
        }
        Task::Authorize(request) => Outcome::Verdict(request, Ok(Accept::default())),
        Task::Call(_) => unreachable!("no timer of the server's own was set"),
        Task::Answer(_) => Outcome::Answer(Response::new(200)),
        Task::Pull(_) | Task::Step(..) | Task::Offer(_) => panic!("no route here is for it"),
    };
    Command::Done(Done { id, route, outcome })
}

//! The table of connections: each row, and thousands of them.

use std::thread;
use std::time::Duration;

use heartwheel::CloseReason;
use tinyjson::JsonValue;

use super::common::client::Client;
use super::common::http::get_request;
use super::common::timing::{eventually, ms};
use super::common::topics::{Hub, Stream, fetch, request};
use super::{admin, dechunk, start};

type Row = std::collections::HashMap<String, JsonValue>;

#[track_caller]
fn rows(text: &str) -> Vec<Row> {
    let table: JsonValue = text.parse().unwrap_or_else(|error| panic!("{error}: {text}"));
    let rows: Vec<JsonValue> = table.try_into().expect("it is an array");
    rows.into_iter().map(|row| row.try_into().expect("a row is an object")).collect()
}

fn text<'a>(row: &'a Row, name: &str) -> &'a str {
    let value = row.get(name).unwrap_or_else(|| panic!("no {name} in {row:?}"));
    value.get::<String>().unwrap_or_else(|| panic!("{name} is no string in {row:?}"))
}

fn number(row: &Row, name: &str) -> f64 {
    let value = row.get(name).unwrap_or_else(|| panic!("no {name} in {row:?}"));
    *value.get::<f64>().unwrap_or_else(|| panic!("{name} is no number in {row:?}"))
}

#[test]
fn each_row_says_who_it_is_and_what_is_due_next() {
    let server = start(&[
        // The first ping comes anywhere in it: after the table is read, almost always.
        ("heartbeat.interval", "20m"),
        ("deadlines.read_idle", "1h"),
        ("heartbeat.jitter", "0"),
        ("deadlines.handshake", "20s"),
        ("deadlines.keep_alive", "30s"),
    ]);
    let address = server.address;
    let mut echo = Client::open(address, "/echo");
    echo.text("four");
    assert_eq!(echo.message(), "four");
    let _hub = Hub::open(address);
    let mut stream = Stream::open(address, "/topics/news.de");
    stream.position();
    let _socket = Client::open(address, "/topics/a:1");
    let mut kept = Client::connect(address);
    kept.send(get_request("/healthz", "").as_bytes());
    kept.read_answer();
    let silent = Client::connect(address);
    eventually("all have been accepted", || server.open() == 6);
    thread::sleep(ms(50));

    let reply = fetch(admin(&server), "/connections");
    assert_eq!(reply.header("Content-Type"), Some("application/json"));
    let rows = rows(&dechunk(&reply.body));
    println!("{}", dechunk(&reply.body));
    assert_eq!(rows.len(), 7, "the one that asks is among them");
    let find = |path: &str| {
        let is_it = |row: &&Row| row["path"].get::<String>().is_some_and(|own| own == path);
        let found: Vec<_> = rows.iter().filter(is_it).collect();
        assert_eq!(found.len(), 1, "{path}");
        found[0]
    };
    let names = "id transport phase subprotocol peer path opened_at last_heard_ms messages_in \
        messages_out bytes_in bytes_out outbox_bytes missed rtt_ms next_deadline suspect";
    for row in &rows {
        let mut own: Vec<_> = row.keys().map(String::as_str).collect();
        let mut names: Vec<_> = names.split_whitespace().collect();
        own.sort();
        names.sort();
        assert_eq!(own, names);
        assert!(text(row, "id").parse::<u64>().is_ok());
        let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let age_ms = unix.as_millis() as f64 - number(row, "opened_at");
        assert!((0.0..60_000.0).contains(&age_ms), "{age_ms}");
        assert_eq!((number(row, "missed"), &row["suspect"]), (0.0, &JsonValue::Boolean(false)));
        assert_eq!(row["rtt_ms"], JsonValue::Null);
    }
    for (path, transport, phase, kind, most_ms) in [
        ("/echo", "websocket", "open", "ping", 1_200_000.0),
        ("/ws", "websocket", "open", "ping", 1_200_000.0),
        ("/topics/a:1", "websocket", "open", "ping", 1_200_000.0),
        ("/topics/news.de", "events", "open", "comment", 15_001.0),
        ("/healthz", "http", "request", "keep_alive", 30_001.0),
        ("/connections", "http", "request", "write_stall", 10_001.0),
    ] {
        let row = find(path);
        assert_eq!((text(row, "transport"), text(row, "phase")), (transport, phase), "{path}");
        let next: &Row = row["next_deadline"].get().expect("it is an object");
        assert_eq!(text(next, "kind"), kind, "{path}");
        assert!((0.0..=most_ms).contains(&number(next, "in_ms")), "{path}: {next:?}");
        assert!(number(row, "bytes_in") > 0.0 && number(row, "bytes_out") > 0.0);
    }
    let row = find("/echo");
    assert_eq!((number(row, "messages_in"), number(row, "messages_out")), (1.0, 1.0));
    let row = rows.iter().find(|row| row["path"] == JsonValue::Null).expect("the silent one");
    assert_eq!((text(row, "phase"), number(row, "bytes_in")), ("handshake", 0.0));
    assert_eq!(text(row, "peer"), silent.stream.local_addr().unwrap().to_string());
    assert!(number(row, "last_heard_ms") >= 40.0, "{row:?}");
}

#[test]
fn a_suspect_is_called_one_and_round_trips_are_told() {
    let server = start(&[
        ("heartbeat.interval", "100ms"),
        ("heartbeat.jitter", "0"),
        ("heartbeat.pong", "100ms"),
        ("heartbeat.max_missed", "100"),
        ("deadlines.read_idle", "off"),
    ]);
    let mut honest = Client::open(server.address, "/echo");
    let _deaf = Client::open(server.address, "/ws");
    let answered = thread::spawn(move || {
        let began = std::time::Instant::now();
        while began.elapsed() < Duration::from_secs(2) {
            if let super::common::client::Seen::Frame(0x89, payload) = honest.see_within(ms(20)) {
                honest.pong(&payload);
            }
        }
        honest
    });
    eventually("one is suspect", || {
        let rows = rows(&dechunk(&fetch(admin(&server), "/connections").body));
        let is_suspect = |path: &str, suspect: bool| {
            rows.iter().any(|row| {
                text(row, "path") == path && row["suspect"] == JsonValue::Boolean(suspect)
            })
        };
        let is_measured = rows.iter().any(|row| row["rtt_ms"].get::<f64>().is_some());
        is_suspect("/ws", true) && is_suspect("/echo", false) && is_measured
    });
    answered.join().unwrap();
}

/// Thousands of rows go out while their connections come and go and everybody else is served; an
/// answer that nobody reads holds a slice and no more, and ends by `write_stall`.
#[test]
fn a_long_table_goes_out_in_slices() {
    let server = start(&[("deadlines.write_stall", "2s"), ("turn.bytes", "64k")]);
    let address = server.address;
    let mut peers: Vec<_> = (0..1500).map(|_| Client::open(address, "/echo")).collect();
    let turns = server.stats().turns;
    let mut reader = Client::connect(admin(&server));
    reader.send(b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n");
    peers.drain(..100).for_each(Client::reset);
    peers[1300].text("x");
    assert_eq!(peers[1300].message(), "x");
    reader.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut bytes = Vec::new();
    std::io::Read::read_to_end(&mut reader.stream, &mut bytes).expect("it comes whole");
    let text = String::from_utf8(bytes).expect("it is text");
    let (first, second) = text.split_once("0\r\n\r\nHTTP/1.1 200").expect("two answers");
    assert!(second.contains("\r\n\r\nok\n"), "the next request is answered");
    let (head, body) = first.split_once("\r\n\r\n").expect("a head");
    assert!(head.contains("\r\nTransfer-Encoding: chunked"), "{head}");
    let rows = rows(&dechunk(format!("{body}0\r\n\r\n").as_bytes()));
    println!("{} rows in {} bytes", rows.len(), body.len());
    assert!((1400..=1501).contains(&rows.len()), "{}", rows.len());

    let turns = server.stats().turns - turns;
    assert!(turns >= rows.len() as u64 / 60, "a slice in each turn, {turns} turns");

    let mut narrow = Client::connect_narrow(admin(&server));
    narrow.send(b"GET /connections HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let own = format!("\"peer\":\"{}\"", narrow.stream.local_addr().unwrap());
    let waiting = |text: &str| {
        let row = text.lines().find(|line| line.contains(&own))?;
        let (_, rest) = row.split_once("\"outbox_bytes\":")?;
        rest.split(',').next()?.parse::<usize>().ok()
    };
    let mut most = 0;
    eventually("something waits", || {
        let table = dechunk(&fetch(admin(&server), "/connections").body);
        most = waiting(&table).expect("it is still there");
        most > 0
    });
    println!("{most} bytes wait for who does not read");
    assert!(most <= 20 * 1024, "{most}");
    eventually("nobody reads it", || server.closed_by(CloseReason::WriteStall) == 1);
    let turn = server.stats().turn_us.max();
    println!("the longest turn took {turn} us");
}

#[test]
fn old_clients_read_it_until_the_end() {
    let server = start(&[]);
    let mut old = Client::connect(admin(&server));
    old.send(b"GET /connections HTTP/1.0\r\n\r\n");
    let mut text = String::new();
    std::io::Read::read_to_string(&mut old.stream, &mut text).expect("it comes whole");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    assert!(!head.contains("Transfer-Encoding") && head.contains("Connection: close"), "{head}");
    assert_eq!(rows(body).len(), 1);
    let head = request(admin(&server), "HEAD /connections", "", b"");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("Transfer-Encoding"), Some("chunked"));
}

//! Tokens over connections in memory, by a clock that is moved by hand: where they are taken, and
//! how their time ends.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use heartwheel::stats::{DeadlineKind, Transport};
use heartwheel::{CloseReason, Route};

use crate::common::http::{get_request, upgrade_request};
use crate::common::temp_file::TempFile;
use crate::common::world::*;
use crate::maker::*;

/// A server at [`NOW`] that takes tokens of this maker.
pub fn world(maker: &Maker, name: &str, more: &[(&str, &str)]) -> (World, TempFile) {
    let file = TempFile::new(name, &maker.file());
    let pairs = [&[("admission.jwt", file.path())], more].concat();
    let world = World::new(&pairs, builder());
    world.clock.set_date(now());
    (world, file)
}

fn builder() -> heartwheel::Builder {
    let quiet = |_: &heartwheel::Peer, _: heartwheel::Event| {};
    let who = |request: &heartwheel::http::Request| {
        heartwheel::http::Response::new(200).text(request.identity().unwrap_or("nobody"))
    };
    heartwheel::Server::builder()
        .route(Route::topics("/topics/{topic}"))
        .route(Route::hub("/ws"))
        .route(Route::events("/events"))
        .health()
        .operator()
        .websocket("/quiet", quiet)
        .route(Route::get("/who", who))
}

pub fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

pub fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

const ALL: &str = r#","sub":"device 7","publish":["*"],"subscribe":["*"]"#;

#[test]
fn a_token_is_taken_wherever_tokens_are() {
    let maker = Maker::secret();
    let file = TempFile::new("either-tokens", "line subscribe=a\n");
    let (mut world, _file) = world(&maker, "either", &[("admission.tokens", file.path())]);
    let good = maker.token_for(60.0, r#","sub":"me","subscribe":["a"]"#);
    let bad = Maker::Secret(vec![1; 32]).token_for(60.0, r#","subscribe":["a"]"#);
    for (token, path, expected) in [
        (&*good, "/topics/a", 204),
        (&*good, "/topics/b", 403),
        (&*good, "/events?topic=a&topic=b", 403),
        (&*bad, "/topics/a", 401),
        ("line", "/topics/a", 204),
        ("line", "/topics/b", 403),
        ("other", "/topics/a", 401),
        ("other", "/healthz", 200),
    ] {
        let separator = if path.contains('?') { '&' } else { '?' };
        let by_query = format!("{path}{separator}access_token={token}");
        for (path, lines) in [(path, bearer(token)), (&*by_query, String::new())] {
            let answer = world.ask(&get_request(path, &lines));
            assert_eq!(status(&answer), expected, "{path} {answer}");
        }
    }
    for (token, expected) in [(&*good, 101), (&*bad, 401), ("", 401)] {
        let lines = format!("Sec-WebSocket-Protocol: heartwheel.v1, heartwheel.bearer.{token}\r\n");
        let answer = world.ask(&upgrade_request("/ws", &lines));
        assert_eq!(status(&answer), expected, "{answer}");
    }
    assert!(world.ask(&get_request("/who", &bearer(&good))).ends_with("\r\n\r\nme"));
    assert_eq!(status(&world.ask(&get_request("/topics/a", ""))), 401);
    assert_eq!(world.server.stats().rejected_tokens, 7);
}

/// A WebSocket and an event stream end at most a tick after `exp`, and never before. What was there
/// before a token was asked for anew counts no more.
#[test]
fn a_connection_ends_at_most_a_tick_after_its_token() {
    let maker = Maker::ecdsa();
    for seconds in [0.5, 1.25, 59.999, 60.0, 3600.0, 86_400.0] {
        let (mut world, _file) = world(&maker, "ends", &[]);
        let token = maker.token_for(seconds, ALL);
        let query = format!("access_token={token}");
        let paths = ["/quiet?", "/topics/a?", "/ws?"].map(|path| format!("{path}{query}"));
        let mut clients = paths.map(|path| world.open(&path));
        let mut stream = world.send(get_request("/events?topic=a", &bearer(&token)).as_bytes());
        let end = Duration::from_secs_f64(seconds);
        // A stream is read, or it is dropped for that.
        while end - world.clock.elapsed() > SECOND {
            let left = end - world.clock.elapsed() - SECOND;
            world.pass(left.min(HOUR), &mut clients);
            read_all(&mut stream);
        }
        let left = end - world.clock.elapsed() - Duration::from_millis(1);
        world.pass(left, &mut clients);
        assert_eq!(world.server.connections(), 4, "{seconds}");
        world.pass(Duration::from_millis(1) + TICK, &mut clients);
        for client in &clients {
            assert_eq!(client.code(), 3000);
        }
        let (rest, ended) = read_all(&mut stream);
        assert_eq!(ended, None, "{}", text(&rest));
        assert!(text(&rest).ends_with("0\r\n\r\n"), "{}", text(&rest));
        world.pass(5 * SECOND, &mut clients);
        let stats = world.server.stats();
        assert_eq!(stats.closed_by(CloseReason::Auth), 4);
        assert_eq!(stats.fired(DeadlineKind::Auth), 4);
        let of_streams = stats.closed[Transport::EventStream as usize];
        assert_eq!(of_streams[CloseReason::Auth.index()], 1);
        assert!(u128::from(stats.deadline_lateness.max()) <= TICK.as_millis());
        assert_eq!(world.server.connections(), 0);
    }
}

/// Requests are judged when they come: a connection that is kept between two has no end by its
/// token, and the next request needs a good one.
#[test]
fn a_kept_connection_is_judged_at_each_request() {
    let maker = Maker::secret();
    let (mut world, _file) = world(&maker, "kept", &[]);
    let get = get_request("/topics/a", &bearer(&maker.token_for(10.0, ALL)));
    let mut peer = world.send(get.as_bytes());
    assert_eq!(status(&text(&read_all(&mut peer).0)), 204);
    world.pass(20 * SECOND, &mut []);
    std::io::Write::write_all(&mut peer, get.as_bytes()).unwrap();
    world.settle();
    assert_eq!(status(&text(&read_all(&mut peer).0)), 401);
    assert_eq!(world.server.stats().closed_by(CloseReason::Auth), 0);
}

/// The clock is set: forwards a token's time is over at once, backwards it is long.
#[test]
fn the_end_of_a_token_follows_the_clock_that_is_set() {
    let maker = Maker::ed25519();
    for (path, is_stream) in [("/quiet", false), ("/ws", false), ("/events?topic=a", true)] {
        let (mut world, _file) = world(&maker, "steps", &[]);
        let query = if is_stream { '&' } else { '?' };
        let path = format!("{path}{query}access_token={}", maker.token_for(3600.0, ALL));
        let mut stream = None;
        let mut clients = match is_stream {
            true => {
                stream = Some(world.send(get_request(&path, "").as_bytes()));
                Vec::new()
            }
            false => vec![world.open(&path)],
        };
        let mut pass = |world: &mut World, span| {
            world.pass(span, &mut clients);
            stream.as_mut().map(read_all);
        };
        pass(&mut world, 60 * SECOND);
        set_date(&mut world, now() - 3600 * SECOND);
        for _ in 0..119 {
            pass(&mut world, 60 * SECOND);
        }
        assert_eq!(world.server.connections(), 1, "{path}");
        set_date(&mut world, now() + 3600 * SECOND - Duration::from_millis(1));
        assert_eq!(world.server.stats().closed_total(), 0);
        pass(&mut world, TICK);
        pass(&mut world, 5 * SECOND);
        assert_eq!(world.server.stats().closed_by(CloseReason::Auth), 1, "{path}");
        assert_eq!(world.server.connections(), 0);
    }
}

/// Sets the date. A server sees it when it next has something to do.
fn set_date(world: &mut World, date: SystemTime) {
    world.clock.set_date(date);
    world.server.turn().unwrap();
    world.settle();
}

/// A date that runs away slowly is followed, too: by 1 ms in a second.
#[test]
fn the_end_of_a_token_follows_a_clock_that_drifts() {
    let maker = Maker::secret();
    let (mut world, _file) = world(&maker, "drifts", &[]);
    let path = format!("/quiet?access_token={}", maker.token_for(600.0, ALL));
    let mut clients = [world.open(&path)];
    for _ in 0..598 {
        world.pass(SECOND, &mut clients);
        world.clock.set_date(world.clock.date() + Duration::from_millis(1));
    }
    assert_eq!(world.server.connections(), 1);
    let end = now() + 600 * SECOND;
    let left = end.duration_since(world.clock.date()).unwrap();
    world.pass(left - Duration::from_millis(1), &mut clients);
    assert!(clients[0].close.is_none());
    world.pass(TICK + Duration::from_millis(10 + 1), &mut clients);
    assert_eq!(clients[0].code(), 3000);
}

/// The time in which a machine was suspended counts for its tokens.
#[test]
fn a_token_expires_while_the_machine_sleeps() {
    let maker = Maker::secret();
    let (mut world, _file) = world(&maker, "sleeps", &[]);
    let tokens = [60.0, 3600.0 * 9.0].map(|seconds| maker.token_for(seconds, ALL));
    let mut clients = tokens.map(|token| world.open(&format!("/quiet?access_token={token}")));
    world.clock.suspend(8 * HOUR);
    world.server.turn().unwrap();
    world.pass(TICK, &mut clients);
    assert_eq!(clients[0].code(), 3000);
    assert!(clients[1].close.is_none());
}

#[test]
fn a_clock_that_was_never_set_judges_no_token() {
    let maker = Maker::secret();
    let (mut world, _file) = world(&maker, "unset", &[]);
    let request = get_request("/topics/a", &bearer(&maker.token_for(60.0, ALL)));
    world.clock.set_date(UNIX_EPOCH + 86_400 * SECOND);
    let answer = world.ask(&request);
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("\r\nRetry-After: "), "{answer}");
    assert!(answer.ends_with("the clock of this machine was never set\n"), "{answer}");
    assert_eq!(status(&world.ask(&get_request("/topics/a", ""))), 401);
    world.clock.set_date(now());
    assert_eq!(status(&world.ask(&request)), 204);
    let stats = world.server.stats();
    assert_eq!((stats.rejected_clock, stats.rejected_tokens), (1, 1));
}

/// What `authorize` says comes before what the token says; rights must come from both.
#[test]
fn authorize_stands_beside_the_token() {
    let maker = Maker::secret();
    let file = TempFile::new("authorize", &maker.file());
    let builder = heartwheel::Server::builder().route(Route::topics("/topics/{topic}").authorize(
        |request: &heartwheel::http::Request| {
            assert_eq!(request.identity(), Some("device 7"));
            Ok(heartwheel::Accept::new().identity("ann").subscribe(["a"]))
        },
    ));
    let mut world = World::new(&[("admission.jwt", file.path())], builder);
    world.clock.set_date(now());
    let token = maker.token_for(60.0, r#","sub":"device 7","subscribe":["a","b"]"#);
    for (topic, expected) in [("a", 101), ("b", 403), ("c", 403)] {
        let path = format!("/topics/{topic}?access_token={token}");
        assert_eq!(status(&world.ask(&upgrade_request(&path, ""))), expected);
    }
    let mut client = [world.open(&format!("/topics/a?access_token={token}"))];
    world.pass(60 * SECOND + TICK, &mut client);
    assert_eq!(client[0].code(), 3000);
}

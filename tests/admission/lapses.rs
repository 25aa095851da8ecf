//! What the service of `admission.request` lets in until a moment, and what renews it.

use std::time::{Duration, UNIX_EPOCH};

use heartwheel::http::Request;
use heartwheel::{Accept, CloseReason, Route, Server};

use crate::common::http::{get_request, upgrade_request};
use crate::common::world::*;
use crate::service::{Asking, status};

/// 1 January 2027.
const NOW: u64 = 1_798_761_600;

/// A server at [`NOW`] that asks a service.
fn asking(builder: heartwheel::Builder) -> Asking {
    let asking = Asking::with(&[], builder);
    asking.world.clock.set_date(UNIX_EPOCH + Duration::from_secs(NOW));
    asking
}

/// Has the service let all in until `seconds` after [`NOW`].
fn answers_until(asking: &Asking, seconds: u64, subscribe: &str) {
    let ends = (NOW + seconds).to_string();
    let who = ("Heartwheel-Identity", "ann");
    asking.answers(200, &[who, ("Heartwheel-Subscribe", subscribe), (EXPIRES, &ends)]);
}

fn told(client: &Client) -> Vec<String> {
    client.messages.iter().map(ToString::to_string).collect()
}

fn hand_in(token: &str) -> String {
    format!(r#"{{"op":"token","token":"{token}","ref":1}}"#)
}

const EXPIRES: &str = "Heartwheel-Expires";

#[test]
fn all_that_lasts_ends_when_the_service_has_said() {
    let mut asking = asking(crate::service::builder());
    answers_until(&asking, 100, "*");
    let mut clients = ["/ws", "/topics/a", "/echo"].map(|path| asking.open(path));
    let mut stream = asking.send(&get_request("/events?topic=a", ""));
    asking.settle();
    assert!(text(&read_all(&mut stream).0).starts_with("HTTP/1.1 200"));
    asking.pass_for(100 * SECOND - Duration::from_millis(1), &mut clients);
    assert!(clients.iter().all(|client| client.close.is_none()));
    assert_eq!(read_all(&mut stream).1, Some(std::io::ErrorKind::WouldBlock));
    asking.pass_for(TICK, &mut clients);
    assert!(clients.iter().all(|client| client.code() == 3000));
    assert_eq!(read_all(&mut stream).1, None, "the stream has ended");
    drop(stream);
    asking.pass_for(TICK, &mut clients);
    assert_eq!(asking.world.server.stats().closed_by(CloseReason::Auth), 4);
}

#[test]
fn an_end_that_has_come_lets_nobody_in_and_is_not_kept() {
    let mut asking = asking(crate::service::builder());
    for (seconds, expected, asked) in [(0, 401, 2), (9, 200, 2), (60, 200, 1)] {
        answers_until(&asking, seconds, "*");
        for _ in 0..2 {
            let answer = asking.ask(&get_request(&format!("/who?{seconds}"), ""));
            assert_eq!(status(&answer), expected, "{seconds} {answer}");
        }
        assert_eq!(asking.heads().len(), asked, "{seconds}");
    }
    // A clock that was never set judges nothing.
    answers_until(&asking, 100, "*");
    asking.world.clock.set_date(UNIX_EPOCH + 86_400 * SECOND);
    let answer = asking.ask(&get_request("/who?unset", ""));
    assert_eq!(status(&answer), 503, "{answer}");
    assert_eq!(asking.world.server.stats().rejected_clock, 1);
    // The latest end that can be written.
    asking.answers(200, &[(EXPIRES, "18446744073709551615")]);
    asking.world.clock.set_date(UNIX_EPOCH + Duration::from_secs(NOW));
    assert_eq!(status(&asking.ask(&upgrade_request("/echo", ""))), 101);
}

#[test]
fn a_client_renews_by_a_token_that_the_service_lets_in() {
    let mut asking = asking(crate::service::builder());
    answers_until(&asking, 100, "a, b");
    let mut client = [asking.open("/ws?access_token=one")];
    client[0].say(r#"{"op":"subscribe","topic":"a"}"#);
    client[0].say(r#"{"op":"subscribe","topic":"b"}"#);
    asking.pass_for(70 * SECOND - Duration::from_millis(1), &mut client);
    assert_eq!(told(&client[0]).len(), 3, "{:?}", told(&client[0]));
    asking.pass_for(TICK, &mut client);
    let word = &told(&client[0])[3];
    assert!(word.starts_with(r#"{"op":"token","expires_in_ms":"#), "{word}");
    asking.heads();
    client[0].messages.clear();
    answers_until(&asking, 500, "b, c");
    let elapsed = asking.world.clock.elapsed();
    client[0].say(&hand_in("two"));
    asking.pass_for(Duration::ZERO, &mut client);
    let heads = asking.heads();
    assert_eq!(heads.len(), 1);
    assert!(heads[0].contains("X-Original-URI: /ws?access_token=one\n"), "{}", heads[0]);
    assert!(heads[0].ends_with("\nAuthorization: Bearer two\n"), "{}", heads[0]);
    assert_eq!(heads[0].matches("Authorization").count(), 1, "{}", heads[0]);
    let left = (500 * SECOND - elapsed).as_millis();
    let [word, error, end] = &told(&client[0])[..] else { panic!("{:?}", told(&client[0])) };
    assert_eq!(*word, format!(r#"{{"op":"token","ref":1,"expires_in_ms":{left}}}"#));
    assert!(error.contains(r#""code":"forbidden""#) && error.ends_with(r#""ref":"a"}"#), "{error}");
    assert_eq!(end, r#"{"op":"unsubscribed","topic":"a"}"#);
    client[0].say(r#"{"op":"subscribe","topic":"c"}"#);
    asking.pass_for(Duration::ZERO, &mut client);
    assert!(told(&client[0])[3].starts_with(r#"{"op":"subscribed","topic":"c""#));
    asking.pass_for(500 * SECOND - elapsed - Duration::from_millis(1), &mut client);
    assert!(client[0].close.is_none());
    asking.pass_for(TICK, &mut client);
    assert_eq!(client[0].code(), 3000);
    assert_eq!(asking.world.server.stats().tokens_renewed, 1);
    assert!(asking.metric("heartwheel_admission_requests_total{result=\"allowed\"} 2"));
}

/// What `authorize` has said stays, whatever the service says later.
#[test]
fn a_renewal_gives_no_right_that_authorize_has_not_given() {
    let authorize = |_: &Request| Ok(Accept::new().subscribe(["a", "c"]));
    let mut asking = asking(Server::builder().route(Route::hub("/ws").authorize(authorize)));
    answers_until(&asking, 100, "a, b");
    let mut client = [asking.open("/ws")];
    answers_until(&asking, 100, "b, c, d");
    client[0].say(&hand_in("two"));
    asking.pass_for(Duration::ZERO, &mut client);
    client[0].messages.clear();
    for topic in ["a", "b", "c", "d"] {
        client[0].say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
    }
    asking.pass_for(Duration::ZERO, &mut client);
    let is_subscribed = |word: &String| word.contains(r#""op":"subscribed""#);
    let given: Vec<bool> = told(&client[0]).iter().map(is_subscribed).collect();
    assert_eq!(given, [false, false, true, false], "{:?}", told(&client[0]));
}

#[test]
fn a_token_that_the_service_does_not_let_in_renews_nothing() {
    let mut asking = asking(crate::service::builder());
    answers_until(&asking, 100, "a");
    let mut client = [asking.open("/ws?access_token=one")];
    asking.pass_for(SECOND, &mut client);
    let ends = (NOW + 500).to_string();
    let good = [(EXPIRES, &*ends), ("Heartwheel-Identity", "ann")];
    let bob = [(EXPIRES, &*ends), ("Heartwheel-Identity", "bob")];
    let past = [(EXPIRES, "1"), ("Heartwheel-Identity", "ann")];
    let long = "x".repeat(5000);
    for (number, (answers, lines, token, sentence)) in [
        (401, &good[..], "", "this token is not good"),
        (403, &good, "", "this token is not good"),
        (500, &good, "", "it cannot be decided about this token"),
        (200, &past, "", "this token is not good"),
        (200, &bob, "", "this token is another's"),
        (200, &good[..1], "", "this token is another's"),
        (200, &good, r"two\nX-A: b", "this token cannot be asked about"),
        (200, &good, &long, "this token cannot be asked about"),
    ]
    .into_iter()
    .enumerate()
    {
        asking.answers(answers, lines);
        client[0].messages.clear();
        let token = if token.is_empty() { format!("token{number}") } else { token.into() };
        client[0].say(&hand_in(&token));
        asking.pass_for(Duration::ZERO, &mut client);
        let message = format!(r#""code":"forbidden","message":"{sentence}","ref":1}}"#);
        let [word] = &told(&client[0])[..] else { panic!("{number}: {:?}", told(&client[0])) };
        assert!(word.ends_with(&message), "{number}: {word}");
    }
    asking.pass_for(99 * SECOND, &mut client);
    assert_eq!(client[0].code(), 3000, "the old end stands");
    assert_eq!(asking.world.server.stats().tokens_refused, 8);
}

#[test]
fn one_token_is_decided_about_at_a_time() {
    let mut asking = asking(crate::service::builder());
    answers_until(&asking, 100, "a");
    let mut client = [asking.open("/ws")];
    answers_until(&asking, 500, "a");
    client[0].say(&hand_in("two"));
    client[0].say(&hand_in("three"));
    asking.pass_for(Duration::ZERO, &mut client);
    let words = told(&client[0]);
    assert!(words[1].contains("another token is being decided about"), "{words:?}");
    assert!(words[2].starts_with(r#"{"op":"token","ref":1"#), "{words:?}");
    assert_eq!(asking.heads().len(), 2);
    // Where no end was named there is nothing to renew.
    asking.answers(200, &[]);
    let mut client = [asking.open("/ws?other")];
    client[0].say(&hand_in("two"));
    asking.pass_for(Duration::ZERO, &mut client);
    assert!(told(&client[0])[1].contains("no token that expires"), "{:?}", told(&client[0]));
}

/// Both must let in, and the earlier end counts.
#[cfg(feature = "jwt")]
#[test]
fn a_token_that_expires_and_the_service_stand_side_by_side() {
    let maker = crate::maker::Maker::secret();
    let file = crate::common::temp_file::TempFile::new("lapses-jwt", &maker.file());
    let mut asking = Asking::with(&[("admission.jwt", file.path())], crate::service::builder());
    asking.world.clock.set_date(crate::maker::now());
    assert_eq!(NOW, crate::maker::NOW);
    let token = |seconds, name: &str| {
        maker.token_for(seconds, &format!(r#","sub":"{name}","subscribe":["a","b"]"#))
    };
    answers_until(&asking, 400, "a, c");
    let mut client = [asking.open(&format!("/ws?access_token={}", token(100.0, "me")))];
    asking.pass_for(70 * SECOND, &mut client);
    assert!(told(&client[0])[1].starts_with(r#"{"op":"token""#), "{:?}", told(&client[0]));
    asking.heads();
    client[0].messages.clear();
    for (bad, sentence) in
        [("x".into(), "this token is not good"), (token(300.0, "you"), "this token is another's")]
    {
        client[0].say(&hand_in(&bad));
        asking.pass_for(Duration::ZERO, &mut client);
        assert!(client[0].messages.pop().unwrap().to_string().contains(sentence));
    }
    assert_eq!(asking.heads().len(), 0, "the service is asked about good tokens alone");
    let elapsed = asking.world.clock.elapsed();
    let left = |client: &mut Client, until: u32| {
        let word = client.messages.remove(0).to_string();
        let left = (until * SECOND - elapsed).as_millis();
        assert_eq!(word, format!(r#"{{"op":"token","ref":1,"expires_in_ms":{left}}}"#));
    };
    client[0].say(&hand_in(&token(300.0, "me")));
    asking.pass_for(Duration::ZERO, &mut client);
    left(&mut client[0], 300);
    answers_until(&asking, 200, "*");
    client[0].say(&hand_in(&token(500.0, "me")));
    asking.pass_for(Duration::ZERO, &mut client);
    left(&mut client[0], 200);
    for (topic, is_allowed) in [("a", true), ("b", true), ("c", false)] {
        client[0].say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
        asking.pass_for(Duration::ZERO, &mut client);
        let word = client[0].messages.remove(0).to_string();
        assert_eq!(word.contains(r#""op":"subscribed""#), is_allowed, "{word}");
    }
    asking.pass_for(200 * SECOND - elapsed - Duration::from_millis(1), &mut client);
    assert!(client[0].close.is_none());
    asking.pass_for(TICK, &mut client);
    assert_eq!(client[0].code(), 3000);
}

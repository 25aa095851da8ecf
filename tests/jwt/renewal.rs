//! Tokens that clients of `/ws` hand in before theirs expire.

use std::time::Duration;

use heartwheel::CloseReason;

use crate::common::world::*;
use crate::expiry::world;
use crate::maker::*;

const ALL: &str = r#","sub":"me","publish":["*"],"subscribe":["*"]"#;

fn told(client: &Client) -> Vec<String> {
    client.messages.iter().map(ToString::to_string).collect()
}

fn hand_in(token: &str, more: &str) -> String {
    format!(r#"{{"op":"token","token":"{token}"{more}}}"#)
}

#[test]
fn a_client_is_told_half_a_minute_before_the_end_and_may_renew() {
    let maker = Maker::ecdsa();
    let (mut world, _file) = world(&maker, "renews", &[]);
    let mut client = [world.open(&format!("/ws?access_token={}", maker.token_for(100.0, ALL)))];
    world.pass(70 * SECOND - Duration::from_millis(1), &mut client);
    assert_eq!(told(&client[0]).len(), 1, "the hello");
    world.pass(TICK, &mut client);
    let messages = told(&client[0]);
    let [_, word] = &messages[..] else { panic!("{messages:?}") };
    let left = word.strip_prefix(r#"{"op":"token","expires_in_ms":"#).unwrap();
    let left: u64 = left.trim_end_matches('}').parse().unwrap();
    assert!((29_900..=30_000).contains(&left), "{word}");
    world.pass(10 * SECOND, &mut client);
    assert_eq!(told(&client[0]).len(), 2, "it is told once");
    let elapsed = world.clock.elapsed();
    client[0].say(&hand_in(&maker.token_for(500.0, ALL), r#","ref":7"#));
    world.pass(Duration::ZERO, &mut client);
    let left = (500 * SECOND - elapsed).as_millis();
    let expected = format!(r#"{{"op":"token","ref":7,"expires_in_ms":{left}}}"#);
    assert_eq!(told(&client[0])[2], expected);
    world.pass(470 * SECOND - elapsed + TICK, &mut client);
    assert_eq!(told(&client[0]).len(), 4, "and again");
    world.pass(30 * SECOND - Duration::from_millis(2 + 51), &mut client);
    assert!(client[0].close.is_none());
    world.pass(2 * TICK, &mut client);
    assert_eq!(client[0].code(), 3000);
    let stats = world.server.stats();
    assert_eq!((stats.tokens_renewed, stats.tokens_refused), (1, 0));
}

#[test]
fn a_token_with_little_time_left_is_told_at_once() {
    let maker = Maker::secret();
    let (mut world, _file) = world(&maker, "short", &[]);
    let mut client = [world.open(&format!("/ws?access_token={}", maker.token_for(4.0, ALL)))];
    world.pass(TICK, &mut client);
    let messages = told(&client[0]);
    let [hello, word] = &messages[..] else { panic!("{messages:?}") };
    assert!(hello.starts_with(r#"{"op":"hello""#), "{hello}");
    assert!(word.starts_with(r#"{"op":"token","expires_in_ms":"#), "{word}");
    // Renewed by one as short, it is not asked for again without a pause.
    for round in 0..5_u64 {
        let now = world.clock.elapsed().as_secs_f64();
        client[0].say(&hand_in(&maker.token_for(now + 4.0, ALL), ""));
        client[0].messages.clear();
        world.pass(2 * SECOND - Duration::from_millis(100), &mut client);
        assert_eq!(told(&client[0]).len(), 1, "{round}");
        world.pass(3 * TICK, &mut client);
        assert_eq!(told(&client[0]).len(), 2, "{round}");
    }
}

/// What is refused changes nothing: the old end stands.
#[test]
fn a_token_that_is_not_good_renews_nothing() {
    let maker = Maker::secret();
    let file = crate::common::temp_file::TempFile::new("no-renewal-line", "line subscribe=*\n");
    let (mut world, _file) = world(&maker, "no-renewal", &[("admission.tokens", file.path())]);
    let mut client = [world.open(&format!("/ws?access_token={}", maker.token_for(100.0, ALL)))];
    world.pass(Duration::ZERO, &mut client);
    let other = Maker::Secret(vec![1; 32]);
    for (token, sentence) in [
        (other.token_for(500.0, ALL), "this token is not good"),
        (maker.token_for(-1.0, ALL), "this token is not good"),
        ("line".into(), "this token is not good"),
        ("x".repeat(5000), "this token is not good"),
        (maker.token_for(500.0, r#","sub":"you""#), "this token is another's"),
        (maker.token_for(500.0, ""), "this token is another's"),
    ] {
        client[0].messages.clear();
        client[0].say(&hand_in(&token, r#","ref":"r""#));
        world.pass(Duration::ZERO, &mut client);
        let expected =
            format!(r#"{{"op":"error","code":"forbidden","message":"{sentence}","ref":"r"}}"#);
        assert_eq!(told(&client[0]), [expected]);
    }
    for bad in [r#"{"op":"token"}"#, r#"{"op":"token","token":7}"#] {
        client[0].messages.clear();
        client[0].say(bad);
        world.pass(Duration::ZERO, &mut client);
        assert!(told(&client[0])[0].contains("bad_request"), "{:?}", told(&client[0]));
    }
    world.pass(100 * SECOND + TICK, &mut client);
    assert_eq!(client[0].code(), 3000);
    assert_eq!(world.server.stats().tokens_refused, 6);
    assert_eq!(world.server.stats().closed_by(CloseReason::Auth), 1);
    // A connection that came with a token of the file has none to renew.
    let mut client = [world.open("/ws?access_token=line")];
    client[0].say(&hand_in(&maker.token_for(500.0, ALL), ""));
    world.pass(Duration::ZERO, &mut client);
    assert!(told(&client[0])[1].contains("no token that expires"), "{:?}", told(&client[0]));
}

#[test]
fn topics_that_the_new_token_does_not_allow_end() {
    let maker = Maker::ed25519();
    let (mut world, _file) = world(&maker, "fewer", &[]);
    let mut client = [world.open(&format!("/ws?access_token={}", maker.token_for(100.0, ALL)))];
    for topic in ["a", "b", "c"] {
        client[0].say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
    }
    world.pass(Duration::ZERO, &mut client);
    client[0].messages.clear();
    let fewer = r#","sub":"me","publish":["b"],"subscribe":["b","d"]"#;
    client[0].say(&hand_in(&maker.token_for(500.0, fewer), ""));
    for topic in ["a", "b", "d"] {
        client[0].say(&format!(r#"{{"op":"publish","topic":"{topic}","data":1,"ref":"{topic}"}}"#));
    }
    world.pass(TICK, &mut client);
    let messages = told(&client[0]);
    let mut ended: Vec<&str> = Vec::new();
    for pair in messages[1..5].chunks(2) {
        let topic = pair[1].strip_prefix(r#"{"op":"unsubscribed","topic":""#).unwrap();
        let topic = topic.trim_end_matches("\"}");
        let sentence = "this token may not subscribe to that";
        let error = format!(
            r#"{{"op":"error","code":"forbidden","message":"{sentence}","ref":"{topic}"}}"#
        );
        assert_eq!(pair[0], error);
        ended.push(topic);
    }
    ended.sort();
    assert_eq!(ended, ["a", "c"], "{messages:?}");
    let rest = messages[5..].join("\n");
    assert!(rest.contains(r#""message":"this token may not publish there","ref":"a""#), "{rest}");
    assert!(rest.contains(r#"{"op":"published","ref":"b""#), "{rest}");
    assert!(rest.contains(r#"{"op":"event","topic":"b""#), "{rest}");
    assert!(rest.contains(r#""ref":"d"}"#) && !rest.contains(r#"published","ref":"d""#), "{rest}");
}

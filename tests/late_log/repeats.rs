//! What is sent again while a log that answers later has the first of it is not published twice.

use crate::common::world::Client;
use crate::log::*;

/// Opens `/ws` as a client that may send again.
#[track_caller]
fn author(late: &mut Late) -> Client {
    let mut client = late.hub(&[]);
    client.say(r#"{"op":"hello","client":"abcdefghijklmnop","version":"1"}"#);
    late.settle();
    assert_eq!(late.hear(&mut client), [""; 0]);
    client
}

/// Publishes with a number as `ref`, which is the payload as well.
#[track_caller]
fn publish(late: &mut Late, client: &mut Client, number: u64) {
    client.say(&format!(r#"{{"op":"publish","topic":"a","ref":{number},"data":"{number}"}}"#));
    late.settle();
}

/// Gives the answers that have come, in short: `REF ID`, or `REF CODE`.
#[track_caller]
fn told(late: &mut Late, client: &mut Client) -> Vec<String> {
    late.settle();
    while client.attend(late.world.clock.elapsed()) {
        late.settle();
    }
    let messages = std::mem::take(&mut client.messages);
    let member = |text: &str, name: &str| -> String {
        let (_, rest) = text.split_once(&format!("\"{name}\":")).expect(name);
        rest.split([',', '}']).next().unwrap().trim_matches('"').to_owned()
    };
    let brief = |text: &str| {
        let is_error = text.contains("\"op\":\"error\"");
        format!("{} {}", member(text, "ref"), member(text, if is_error { "code" } else { "id" }))
    };
    messages.iter().map(|message| brief(message.to_text().expect("text"))).collect()
}

#[test]
fn what_is_sent_again_waits_for_the_answer_to_the_first() {
    let mut late = Late::new(&[]);
    let mut first = author(&mut late);
    publish(&mut late, &mut first, 1);
    publish(&mut late, &mut first, 2);
    first.socket.get_mut().shut_down();
    drop(first);
    let mut second = author(&mut late);
    let mut third = author(&mut late);
    // Both, and between them one more.
    publish(&mut late, &mut second, 1);
    publish(&mut late, &mut second, 3);
    publish(&mut late, &mut second, 2);
    publish(&mut late, &mut third, 1);
    publish(&mut late, &mut third, 1);
    assert_eq!(late.waiting(), ["1", "2", "3"]);
    let two = late.answer("2");
    assert_eq!(told(&mut late, &mut second), [""; 0]);
    let one = late.answer("1");
    assert_eq!(told(&mut late, &mut second), [format!("1 {one}")]);
    assert_eq!(told(&mut late, &mut third), [format!("1 {one}"), format!("1 {one}")]);
    let three = late.answer("3");
    assert_eq!(told(&mut late, &mut second), [format!("3 {three}"), format!("2 {two}")]);
    // Answered once, it is known; behind what waits it is told in its turn.
    publish(&mut late, &mut third, 4);
    publish(&mut late, &mut third, 2);
    assert_eq!(told(&mut late, &mut third), [""; 0]);
    let four = late.answer("4");
    assert_eq!(told(&mut late, &mut third), [format!("4 {four}"), format!("2 {two}")]);
    assert_eq!(late.waiting(), [""; 0]);
    assert_eq!(late.world.server.stats().publishes_repeated, 5);
}

#[test]
fn what_the_log_refused_may_be_tried_again() {
    let mut late = Late::new(&[]);
    let (mut first, mut second) = (author(&mut late), author(&mut late));
    publish(&mut late, &mut first, 1);
    publish(&mut late, &mut second, 1);
    late.refuse("1");
    assert_eq!(told(&mut late, &mut first), ["1 unavailable"]);
    assert_eq!(told(&mut late, &mut second), ["1 unavailable"]);
    publish(&mut late, &mut second, 1);
    let one = late.answer("1");
    assert_eq!(told(&mut late, &mut second), [format!("1 {one}")]);
}

#[test]
fn what_the_log_has_not_answered_in_time_is_not_given_to_it_again() {
    let mut late = Late::new(&[]);
    let (mut first, mut second) = (author(&mut late), author(&mut late));
    publish(&mut late, &mut first, 1);
    late.world.pass(DEADLINE / 2, &mut []);
    publish(&mut late, &mut second, 1);
    late.world.pass(DEADLINE / 2 + crate::common::world::TICK, &mut []);
    assert_eq!(told(&mut late, &mut first), ["1 unavailable"]);
    assert_eq!(told(&mut late, &mut second), ["1 unavailable"], "at the same time");
    publish(&mut late, &mut second, 1);
    assert_eq!(told(&mut late, &mut second), ["1 unavailable"], "at once");
    assert_eq!(late.waiting(), ["1"]);
    late.answer("1");
    assert_eq!(late.world.server.stats().messages_posted, 0);
    assert!(late.world.server.next_timeout() > Some(std::time::Duration::ZERO));
}

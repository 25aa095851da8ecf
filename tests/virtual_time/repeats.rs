//! For how long a publication that is sent again is known, and what that takes.

use std::time::Duration;

use crate::common::topics::member;
use crate::common::world::*;

fn author(world: &mut World, client: &str) -> Client {
    let mut hub = world.open("/ws");
    hub.say(&format!(r#"{{"op":"hello","client":"{client}","version":"1"}}"#));
    hub
}

/// Publishes, and gives the event's id.
#[track_caller]
fn publish(world: &mut World, hub: &mut Client, reference: i64) -> String {
    hub.say(&format!(r#"{{"op":"publish","topic":"a","data":1,"ref":{reference}}}"#));
    world.settle();
    hub.attend(world.clock.elapsed());
    let message = hub.messages.pop().expect("it is answered");
    member(message.to_text().unwrap(), "id").to_owned()
}

#[test]
fn a_publication_is_known_for_a_minute() {
    let mut world = World::new(&[], routes());
    let mut hub = author(&mut world, "abcdefghijklmnop");
    let first = publish(&mut world, &mut hub, 1);
    let mut clients = [hub];
    world.pass(MINUTE - SECOND, &mut clients);
    let [hub] = &mut clients;
    assert_eq!(publish(&mut world, hub, 1), first);
    // That it was asked for does not make it younger.
    world.pass(SECOND, &mut clients);
    let [hub] = &mut clients;
    assert_ne!(publish(&mut world, hub, 1), first);
}

/// Nothing wakes the loop for what is remembered, and an hour later it is gone.
#[test]
fn what_is_remembered_wakes_nobody() {
    let turns = |is_author: bool| {
        let mut world = World::new(&[("heartbeat.interval", "off")], routes());
        let mut hub = match is_author {
            true => author(&mut world, "abcdefghijklmnop"),
            false => world.open("/ws"),
        };
        publish(&mut world, &mut hub, 1);
        let before = world.server.stats().turns;
        world.pass(Duration::from_secs(20 * 60), &mut [hub]);
        world.server.stats().turns - before
    };
    assert_eq!(turns(true), turns(false));
}

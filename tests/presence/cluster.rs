//! Members of other servers of a cluster, on an engine below the sockets.

use std::num::NonZeroU64;

use heartwheel::ConnectionId;
use heartwheel::core::admission::credentials::Credentials;
use heartwheel::core::contract::event::{Command, Order};
use heartwheel::core::engine::{Engine, MemberChange};
use heartwheel::core::topics::presence::Seen;

use crate::common::engine::TestEngine;
use crate::common::frame::{TEXT, frame};

const REDIS: (&str, &str) = ("cluster.redis", "redis://127.0.0.1:1");

/// An engine of a cluster, with a client that is on both topics.
fn start(presence: &str) -> (TestEngine, ConnectionId) {
    let mut server = TestEngine::new(&[REDIS, ("topics.presence", presence)]);
    let client = server.open("/ws");
    for topic in ["room", "hall"] {
        let word = format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#);
        server.send(client, frame(TEXT, word.as_bytes()));
    }
    server.settle();
    (server, client)
}

fn reload(server: &mut TestEngine, presence: &str) {
    let mut config = server.engine.config().clone();
    config.set("topics.presence", presence).unwrap();
    server.command(Engine::reload_command(config, Credentials::default()));
    server.run_for(100);
}

/// Tells who is on the topics of another server, as its thread does.
fn tell_others(server: &mut TestEngine) {
    let order = Order::of(|engine: &mut Engine, now| {
        let seen = |number| {
            let connection = ConnectionId::from_u64(NonZeroU64::new(number).unwrap());
            Seen { identity: None, connection, info: None }
        };
        let members = [("room", 1 << 40), ("hall", 2 << 40)];
        let members = members.map(|(topic, number)| (topic.parse().unwrap(), seen(number)));
        engine.set_members_of(now, "b", members.into());
    });
    server.command(Command::Order(order));
    server.run_for(100);
}

/// What others are to be told, in short.
fn changes(server: &mut TestEngine) -> Vec<String> {
    let all = std::iter::from_fn(|| server.engine.poll_member_change());
    let words = all.map(|change| match change {
        MemberChange::Here(topic, _) => format!("+{topic}"),
        MemberChange::Left(topic, _) => format!("-{topic}"),
        MemberChange::Reloaded => "reloaded".to_owned(),
    });
    words.collect()
}

/// How many members there are when all is told.
fn members(server: &mut TestEngine) -> usize {
    server.run_for(1500);
    server.engine.presence_members()
}

// FAULTS 288.
#[test]
fn a_reload_names_topics_for_the_people_of_all_nodes() {
    let (mut server, _) = start("off");
    assert!(!server.engine.tells_member_changes(), "nobody is told of anything");
    tell_others(&mut server);
    assert_eq!(members(&mut server), 0);
    reload(&mut server, "room");
    assert!(server.engine.tells_member_changes());
    assert_eq!(changes(&mut server), ["reloaded", "+room"]);
    tell_others(&mut server);
    assert_eq!(members(&mut server), 2, "this one's and the other's");
    // Others: who was there leaves, who is there now is asked for again.
    reload(&mut server, "hall");
    assert_eq!(changes(&mut server), ["reloaded", "-room", "+hall"]);
    assert_eq!(members(&mut server), 1, "the other's has left without a word of its server");
    tell_others(&mut server);
    assert_eq!(members(&mut server), 2);
    reload(&mut server, "off");
    assert_eq!(changes(&mut server), ["reloaded", "-hall"]);
    assert_eq!(members(&mut server), 0);
    tell_others(&mut server);
    assert_eq!(members(&mut server), 0);
    reload(&mut server, "*");
    assert_eq!(changes(&mut server), ["reloaded", "+room", "+hall"]);
    tell_others(&mut server);
    assert_eq!(members(&mut server), 4);
    let stats = server.engine.stats();
    assert_eq!((stats.presence_joins, stats.presence_leaves), (8, 4));
}

#[test]
fn where_no_thread_takes_them_changes_take_no_memory() {
    let (mut server, client) = start("room");
    reload(&mut server, "room,hall");
    server.engine.keep_member_changes();
    server.end(client);
    server.run_for(100);
    assert_eq!(changes(&mut server), [""; 0]);
    // The next reload tries again.
    reload(&mut server, "hall");
    assert!(server.engine.tells_member_changes());
    // A server without a cluster has nobody to tell.
    let mut alone = TestEngine::new(&[("topics.presence", "room")]);
    reload(&mut alone, "hall");
    assert!(!alone.engine.tells_member_changes());
}

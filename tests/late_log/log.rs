//! A log made of a test's own hands, in the virtual world.

use heartwheel::MemoryPeer;
use heartwheel::core::contract::backbone::{Logged, Publication, Ticket};
use heartwheel::topics::{Content, EventId};

use crate::common::topics::{find_member, member};
use crate::common::world::{Client, World, read_all, routes, text};

/// How long a publisher waits: `deadlines.handshake`.
pub const DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

/// A world whose events are kept by a log that answers when the test says so.
pub struct Late {
    pub world: World,
    /// What the log has taken and not answered, in the order of asking.
    pub taken: Vec<Publication>,
    issued: u64,
}

impl Late {
    pub fn new(pairs: &[(&str, &str)]) -> Late {
        let mut world = World::new(pairs, routes());
        world.server.follow_log(id(0));
        Late { world, taken: Vec::new(), issued: 0 }
    }

    /// Turns until nothing is left to do, and takes what was published.
    #[track_caller]
    pub fn settle(&mut self) {
        self.world.settle();
        self.taken.extend(std::iter::from_fn(|| self.world.server.poll_publication()));
    }

    /// Answers the one of this payload with the next id. Returns the id.
    #[track_caller]
    pub fn answer(&mut self, payload: &str) -> String {
        let Publication { ticket, topic, content, .. } = self.take(payload);
        self.give(Some(ticket), &topic, content)
    }

    /// Refuses the one of this payload.
    #[track_caller]
    pub fn refuse(&mut self, payload: &str) {
        let Publication { ticket, .. } = self.take(payload);
        self.say(Logged::Refused(ticket));
    }

    /// Gives the server the next event of the log. Returns its id.
    #[track_caller]
    pub fn give(
        &mut self,
        ticket: Option<Ticket>,
        topic: &str,
        content: impl Into<Content>,
    ) -> String {
        self.issued += 1;
        let id = id(self.issued);
        let topic = topic.parse().expect("a topic");
        let content = content.into();
        self.say(Logged::Event { ticket, id, topic, content });
        id.to_string()
    }

    #[track_caller]
    pub fn say(&mut self, logged: Logged) {
        self.world.server.handle().logged(logged).expect("there is room");
        self.settle();
    }

    /// Takes out the one of this payload.
    #[track_caller]
    pub fn take(&mut self, payload: &str) -> Publication {
        self.settle();
        let is_it = |one: &Publication| one.content.payload.as_bytes() == payload.as_bytes();
        let place = self.taken.iter().position(is_it);
        self.taken.remove(place.unwrap_or_else(|| panic!("{payload} was not published")))
    }

    /// Gives the payloads that the log has taken.
    pub fn waiting(&mut self) -> Vec<String> {
        self.settle();
        self.taken.iter().map(|one| text(one.content.payload.as_bytes())).collect()
    }

    /// Sends a request on a connection of its own.
    #[track_caller]
    pub fn post(&mut self, topic: &str, body: &str) -> MemoryPeer {
        let peer = self.world.send(request(topic, body).as_bytes());
        self.settle();
        peer
    }

    /// Opens `/ws`, subscribed to these topics.
    #[track_caller]
    pub fn hub(&mut self, topics: &[&str]) -> Client {
        let mut client = self.world.open("/ws");
        for topic in topics {
            client.say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
        }
        self.settle();
        self.hear(&mut client);
        client
    }

    /// Publishes on `/ws`, with the payload as `ref`.
    #[track_caller]
    pub fn publish(&mut self, client: &mut Client, topic: &str, payload: &str) {
        client.say(&format!(
            r#"{{"op":"publish","topic":"{topic}","ref":"{payload}","data":"{payload}"}}"#
        ));
        self.settle();
    }

    /// Gives what has come, in short: `event PAYLOAD`, `published REF`, `CODE REF`, or the `op`.
    #[track_caller]
    pub fn hear(&mut self, client: &mut Client) -> Vec<String> {
        self.settle();
        while client.attend(self.world.clock.elapsed()) {
            self.settle();
        }
        let messages = std::mem::take(&mut client.messages);
        messages.iter().map(|message| brief(message.to_text().expect("text"))).collect()
    }

    /// Gives a figure of `GET /metrics`.
    #[track_caller]
    pub fn figure(&self, name: &str) -> u64 {
        let metrics = self.world.server.metrics();
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no figure {name}")).parse().expect("a number")
    }
}

/// Gives the nth id of the log.
pub fn id(nth: u64) -> EventId {
    EventId::new(2_000_000_000_000, nth * 65536 + 77)
}

pub fn request(topic: &str, body: &str) -> String {
    let head = format!("POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\n");
    format!("{head}Content-Length: {}\r\n\r\n{body}", body.len())
}

/// Gives what a connection has been answered so far: the statuses and bodies.
#[track_caller]
pub fn answers(peer: &mut MemoryPeer) -> Vec<String> {
    let all = text(&read_all(peer).0);
    let answers = all.split("HTTP/1.1 ").skip(1);
    answers
        .map(|answer| format!("{} {}", &answer[..3], answer.split("\r\n\r\n").nth(1).unwrap()))
        .collect()
}

pub fn published(id: &str) -> String {
    format!("200 {{\"id\":\"{id}\"}}")
}

fn brief(json: &str) -> String {
    let said = |name| find_member(json, name).unwrap_or("-");
    match member(json, "op") {
        "event" => format!("event {}", said("data")),
        "published" => format!("published {}", said("ref")),
        "error" => format!("{} {}", said("code"), said("ref")),
        op => op.to_owned(),
    }
}

//! A client and a server in one process, by a clock that is moved by hand.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwheel::topics::After;
use heartwheel::{
    Client, Config, Dial, Event, Link, LinkEvent, Links, ManualClock, MemoryNetwork, Message,
    Payload, Peer, SendError, Server, State, TopicEvent, Trace, Why,
};

/// A server and a loop of clients on one network and one clock.
pub struct Both {
    pub server: Option<Server>,
    pub links: Links,
    pub clock: ManualClock,
    pub network: MemoryNetwork,
    pairs: &'static [(&'static str, &'static str)],
}

impl Both {
    pub fn new() -> Both {
        Both::with(&[])
    }

    /// Begins with a server of this configuration.
    pub fn with(pairs: &'static [(&'static str, &'static str)]) -> Both {
        let (network, clock) = (MemoryNetwork::new(), ManualClock::new());
        let mut links = Links::by_clock(clock.clone(), 7).unwrap();
        links.on_memory(&network);
        let mut both = Both { server: None, links, clock, network, pairs };
        both.serve();
        both
    }

    /// Begins a server, where there is none.
    pub fn serve(&mut self) {
        let echo = |peer: &Peer, event: Event| match event {
            Event::Message(Message::Text(text)) if text.as_str() == "go" => {
                peer.close(4500, "for good").unwrap();
            }
            Event::Message(message) => drop(peer.send(message)),
            _ => {}
        };
        let mut config = Config::default();
        config.set("workers", "0").unwrap();
        self.pairs.iter().for_each(|(key, value)| config.set(key, value).unwrap());
        let builder = Server::builder().config(config).clock(self.clock.clone());
        let builder = builder.topics("/topics/{topic}").hub("/ws").events("/events");
        let builder = builder.websocket("/echo", echo);
        self.server = Some(builder.listen_memory(&self.network).unwrap());
    }

    /// Lets both do all that they can do without time passing.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let mut has_work = self.links.next_timeout() == Some(Duration::ZERO);
            self.links.turn().unwrap();
            if let Some(server) = &mut self.server {
                has_work |= server.next_timeout() == Some(Duration::ZERO);
                server.turn().unwrap();
            }
            if !has_work {
                return;
            }
        }
        panic!("there is no end");
    }

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, span: Duration) {
        let until = self.clock.elapsed() + span;
        self.settle();
        while self.clock.elapsed() < until {
            let left = until - self.clock.elapsed();
            let server = self.server.as_ref().and_then(Server::next_timeout);
            let next = server.into_iter().chain(self.links.next_timeout()).chain([left]).min();
            self.clock.advance(next.unwrap().max(Duration::from_millis(1)).min(left));
            self.settle();
        }
    }

    /// Makes a client whose events are kept.
    pub fn connect(&mut self, dial: Dial) -> (Link, Told) {
        let told = Told::default();
        let kept = told.clone();
        let handler = move |_: &Link, event: LinkEvent| kept.0.lock().unwrap().push(event);
        (self.links.connect(dial, handler).unwrap(), told)
    }
}

#[derive(Clone, Default)]
pub struct Told(Arc<Mutex<Vec<LinkEvent>>>);

impl Told {
    pub fn take(&self) -> Vec<LinkEvent> {
        std::mem::take(&mut self.0.lock().unwrap())
    }

    pub fn states(&self) -> Vec<State> {
        let states = self.take().into_iter().filter_map(|event| match event {
            LinkEvent::State(change) => Some(change.state),
            _ => None,
        });
        states.collect()
    }

    pub fn last_why(&self) -> Option<Why> {
        let all = self.0.lock().unwrap();
        all.iter().rev().find_map(|event| match event {
            LinkEvent::State(change) => change.why.clone(),
            _ => None,
        })
    }
}

pub fn dial(path: &str) -> Dial {
    Dial::to(&format!("ws://localhost{path}")).unwrap()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_client_connects_talks_and_is_closed() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/echo"));
    both.settle();
    use State::*;
    assert_eq!(told.states(), [Resolving, Connecting, Upgrading, Open]);
    for size in [0, 1, 125, 126, 70_000] {
        link.send(vec![7; size]).unwrap();
        both.settle();
        assert_eq!(told.take(), [LinkEvent::Message(Message::binary(vec![7; size]))], "{size}");
    }
    link.close().unwrap();
    both.settle();
    assert_eq!((told.last_why(), link.state()), (Some(Why::Stopped), Stopped));
    assert_eq!(told.states(), [Closing, Stopped]);
    for _ in 0..10 {
        assert_eq!(link.send(vec![7; 70_000]), Err(SendError::Ended));
    }
    assert!(both.links.is_empty());
    assert_eq!(both.server.as_ref().unwrap().connections(), 0);
}

#[test]
fn pings_go_both_ways_and_an_idle_client_stays_for_an_hour() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/echo"));
    both.pass(3600 * SECOND);
    assert_eq!(link.state(), State::Open);
    assert_eq!(told.states().len(), 4, "it has never been anywhere else");
}

#[test]
fn a_server_that_goes_is_tried_again_and_topics_go_on_where_they_were() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/ws").topics());
    link.subscribe("a", After::Now).unwrap();
    both.settle();
    let reference = link.publish("a", "one").unwrap();
    both.settle();
    let events: Vec<LinkEvent> = told.take();
    assert!(events.iter().any(|event| matches!(
        event,
        LinkEvent::Topic(TopicEvent::Published { reference: other, .. }) if *other == reference
    )));
    assert!(events.iter().any(|event| matches!(event, LinkEvent::Topic(TopicEvent::Event { .. }))));
    both.server = None;
    both.pass(20 * SECOND);
    assert!(matches!(told.last_why(), Some(Why::Unreachable(_))), "{:?}", told.last_why());
    let late = link.publish("a", "late").unwrap();
    both.serve();
    both.pass(40 * SECOND);
    assert_eq!(link.state(), State::Open);
    let events = told.take();
    let is_late = |event: &LinkEvent| {
        matches!(
            event,
            LinkEvent::Topic(TopicEvent::Published { reference: other, .. }) if *other == late
        )
    };
    assert!(events.iter().any(is_late), "{events:?}");
    let is_gap = |event: &LinkEvent| matches!(event, LinkEvent::Topic(TopicEvent::Gap { .. }));
    assert!(events.iter().any(is_gap), "a server that was restarted has forgotten: {events:?}");
    assert!(events.contains(&LinkEvent::Alarm), "it was away for five tries: {events:?}");
}

#[test]
fn what_is_published_with_a_trace_context_comes_with_it() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/ws").topics());
    link.subscribe("a", After::Now).unwrap();
    both.settle();
    let trace: Trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".parse().unwrap();
    link.publish("a", Payload::text("one").traced(Some(trace.clone()))).unwrap();
    link.publish("a", "two").unwrap();
    both.settle();
    let events = told.take().into_iter().filter_map(|event| match event {
        LinkEvent::Topic(TopicEvent::Event { event, .. }) => Some((event.payload, event.trace)),
        _ => None,
    });
    let expected = [("one".into(), Some(trace)), ("two".into(), None)];
    assert_eq!(events.collect::<Vec<(Payload, _)>>(), expected);
}

#[test]
fn a_code_from_4500_on_is_for_good() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/echo"));
    both.settle();
    link.send("go").unwrap();
    both.settle();
    let why = told.last_why();
    assert!(matches!(why, Some(Why::Closed { code: 4500, .. })), "{why:?}");
    assert_eq!(link.state(), State::Stopped);
    let (link, told) = both.connect(dial("/nowhere"));
    both.settle();
    let why = told.last_why();
    assert!(matches!(why, Some(Why::Status { status: 404, .. })), "{why:?}");
    assert_eq!(link.state(), State::Stopped);
}

/// Makes a client that waits for its answers, and a server on a thread, which the closure ends.
fn waiting() -> (Client, impl FnOnce()) {
    let network = MemoryNetwork::new();
    let server = Server::builder().hub("/ws").listen_memory(&network).unwrap();
    let handle = server.handle();
    let serving = std::thread::spawn(move || server.run().unwrap());
    let mut links = Links::new().unwrap();
    links.on_memory(&network);
    let shut_down = move || {
        handle.shut_down().unwrap();
        serving.join().unwrap();
    };
    (Client::on(links, dial("/ws")).unwrap(), shut_down)
}

#[test]
fn a_waiting_client_publishes_and_hears() {
    let (mut client, shut_down) = waiting();
    let id = client.publish("a", "one").unwrap();
    client.publish("a", "two").unwrap();
    let mut events = client.subscribe("a", After::Position(id)).unwrap();
    let (topic, heard) = events.next().unwrap();
    assert_eq!(topic, "a");
    assert!(matches!(heard, heartwheel::Heard::Event(event)
        if event.payload.as_text() == Some("two") && event.id > id));
    client.close();
    shut_down();
}

#[test]
fn an_event_that_json_makes_long_comes_as_any_other() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/ws").topics());
    link.subscribe("a", After::Now).unwrap();
    both.settle();
    told.take();
    let text = "\u{1}".repeat(1 << 20);
    let handle = both.server.as_ref().unwrap().handle();
    handle.publish("a", text.as_str()).unwrap();
    both.pass(SECOND);
    assert_eq!(told.last_why(), None);
    let events = told.take().into_iter().filter_map(|event| match event {
        LinkEvent::Topic(TopicEvent::Event { event, .. }) => Some(event.payload),
        _ => None,
    });
    assert!(events.eq([heartwheel::topics::Payload::text(text)]));
}

/// A script that subscribes, publishes and never takes what comes.
#[test]
fn events_that_nobody_takes_do_not_pile_up_without_end() {
    let (mut client, shut_down) = waiting();
    let _ = client.subscribe("a", After::Now).unwrap();
    let large = "x".repeat(30_000);
    let published = (0..1000).take_while(|_| client.publish("a", large.as_str()).is_ok()).count();
    assert!((130..160).contains(&published), "{published} of 30 kB");
    let first = client.events().next().unwrap();
    assert!(matches!(first.1, heartwheel::Heard::Event(_)));
    for _ in 0..20 {
        client.events().next().unwrap();
    }
    client.publish("a", "again").unwrap();
    client.close();
    shut_down();
}

// What is refused has no number: `heartwheel publish` counts on that.
#[test]
fn publications_are_numbered_without_a_gap() {
    let mut both = Both::new();
    let (link, _) = both.connect(dial("/ws").topics());
    let text = "x".repeat(100_000);
    let mut numbers = Vec::new();
    let mut refused = 0;
    for _ in 0..12 {
        match link.publish("a", text.as_str()) {
            Ok(number) => numbers.push(number),
            Err(SendError::Full) => {
                refused += 1;
                both.settle();
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(refused > 2, "{refused}");
    assert!(numbers.iter().copied().eq(0..numbers.len() as u32), "{numbers:?}");
}

#[test]
fn what_is_published_before_a_close_is_published() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/ws").topics());
    let heard = both.server.as_ref().unwrap().handle().subscribe("a", After::Now).unwrap();
    both.settle();
    told.take();
    let reference = link.publish("a", "last").unwrap();
    link.close().unwrap();
    both.settle();
    assert!(matches!(heard.try_receive(), Ok(heartwheel::Heard::Event(_))));
    let fates: Vec<LinkEvent> = told.take();
    let is_ours = |event: &LinkEvent| match event {
        LinkEvent::Topic(TopicEvent::Published { reference: other, .. }) => *other == reference,
        LinkEvent::Topic(TopicEvent::NotPublished { reference: other, code, .. }) => {
            *other == reference && code == "unknown"
        }
        _ => false,
    };
    assert_eq!(fates.iter().filter(|event| is_ours(event)).count(), 1, "{fates:?}");
    assert_eq!(link.publish("a", "late"), Err(SendError::Ended));
}

/// A WebSocket that is no `/ws` never greets.
#[test]
fn a_server_without_topics_is_found_out() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/echo").topics());
    both.pass(4 * SECOND);
    assert_eq!(link.state(), State::Open);
    both.pass(2 * SECOND);
    assert!(matches!(told.last_why(), Some(Why::Answer(_))), "{:?}", told.last_why());
}

#[test]
fn a_client_without_topics_refuses_them() {
    let mut both = Both::new();
    let (link, _) = both.connect(dial("/ws"));
    assert_eq!(link.subscribe("a", After::Now), Err(SendError::Topic));
    assert_eq!(link.publish("a", "x"), Err(SendError::Topic));
}

#[test]
fn a_token_that_cannot_be_sent_stops_it_and_a_panic_gives_none() {
    let bad: [fn() -> Option<String>; 3] =
        [|| Some("a\r\nb".into()), || None, || panic!("as asked")];
    for source in bad {
        let mut both = Both::new();
        let (link, _) = both.connect(dial("/echo").token_from(source));
        both.settle();
        assert_eq!(link.state(), State::Stopped);
    }
}

/// The loop goes, be it the clients' own or the server's.
#[test]
fn handlers_are_told_when_the_loop_ends() {
    let mut both = Both::new();
    let (link, told) = both.connect(dial("/echo"));
    both.settle();
    let server = both.server.take().unwrap();
    let own = Told::default();
    let kept = own.clone();
    let handler = move |_: &Link, event: LinkEvent| kept.0.lock().unwrap().push(event);
    let beside = server.handle().connect(dial("/nowhere"), handler).unwrap();
    both.server = Some(server);
    both.settle();
    both.server = None;
    assert_eq!(beside.state(), State::Stopped);
    assert_eq!(own.states().last(), Some(&State::Stopped));
    both.settle();
    told.take();
    drop(both);
    assert_eq!((link.state(), told.states().last()), (State::Stopped, Some(&State::Stopped)));
    assert_eq!(link.send("x"), Err(SendError::Ended));
}

#[test]
fn a_waiting_client_may_rest_before_it_is_asked() {
    let (mut client, shut_down) = waiting();
    let timeout = 3 * SECOND;
    client.set_timeout(Some(timeout));
    std::thread::sleep(timeout + Duration::from_millis(100));
    let mut events = client.subscribe("a", After::Now).unwrap();
    assert!(matches!(events.next_within(Some(Duration::from_millis(50))), Ok(None)));
    client.publish("a", "x").unwrap();
    let mut polls = 0;
    // Zero asks for what is there.
    while client.events().next_within(Some(Duration::ZERO)).unwrap().is_none() {
        polls += 1;
        assert!(polls < 10_000, "it comes");
        std::thread::sleep(Duration::from_millis(1));
    }
    client.close();
    shut_down();
}

//! A box and a hub in one process, by a clock that is moved by hand: what is published in the box
//! is heard at the hub once, or a gap is told.

use std::collections::BTreeMap;
use std::time::Duration;

use heartwheel::config::Bridge;
use heartwheel::topics::{After, Payload};
use heartwheel::{Config, Heard, ManualClock, MemoryNetwork, Server, Subscription};

/// A box with a bridge to a hub.
struct Tree {
    clock: ManualClock,
    hub_network: MemoryNetwork,
    near: Server,
    hub: Option<Server>,
    /// The hub does not turn: its process is stopped.
    is_stopped: bool,
    heard: BTreeMap<String, Subscription>,
    got: BTreeMap<String, Vec<String>>,
}

fn config(settings: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    for (name, text) in [&[("workers", "0")], settings].concat() {
        config.set(name, text).unwrap();
    }
    config
}

fn bridge() -> Bridge {
    Bridge::new("hub", "ws://localhost")
}

impl Tree {
    fn new(bridge: Bridge, near: &[(&str, &str)], hub: &[(&str, &str)]) -> Tree {
        let (clock, hub_network) = (ManualClock::new(), MemoryNetwork::new());
        let builder = Server::builder().config(config(near)).bridge(bridge).clock(clock.clone());
        let builder = builder.topics("/topics/{topic}").hub("/ws").dial_on_memory(&hub_network);
        let near = builder.listen_memory(&MemoryNetwork::new()).unwrap();
        let (heard, got) = (BTreeMap::new(), BTreeMap::new());
        let mut tree = Tree { clock, hub_network, near, hub: None, is_stopped: false, heard, got };
        tree.begin_hub(hub);
        tree
    }

    fn begin_hub(&mut self, settings: &[(&str, &str)]) {
        let builder = Server::builder().config(config(settings)).clock(self.clock.clone());
        let builder = builder.topics("/topics/{topic}").hub("/ws");
        self.hub = Some(builder.listen_memory(&self.hub_network).unwrap());
        for topic in self.heard.keys().cloned().collect::<Vec<_>>() {
            self.hear(&topic);
        }
    }

    /// Keeps what is published to a topic of the hub.
    fn hear(&mut self, topic: &str) {
        let handle = self.hub.as_ref().unwrap().handle();
        let beginning = After::parse("0-0");
        self.heard.insert(topic.into(), handle.subscribe(topic, beginning).unwrap());
        self.settle();
    }

    fn settle(&mut self) {
        for _ in 0..10_000 {
            let mut has_work = false;
            let hub = self.hub.as_mut().filter(|_| !self.is_stopped);
            for server in [Some(&mut self.near), hub].into_iter().flatten() {
                has_work |= server.next_timeout() == Some(Duration::ZERO);
                server.turn().unwrap();
            }
            for (topic, subscription) in &self.heard {
                while let Ok(heard) = subscription.try_receive() {
                    let text = match heard {
                        Heard::Event(event) => match event.payload.as_text() {
                            Some(text) => text.to_owned(),
                            None => format!("{} bytes", event.payload.len()),
                        },
                        Heard::Gap(_) => "gap here".to_owned(),
                        _ => continue,
                    };
                    self.got.entry(topic.clone()).or_default().push(text);
                    has_work = true;
                }
            }
            if !has_work {
                return;
            }
        }
        panic!("there is no end");
    }

    fn pass(&mut self, span: Duration) {
        let until = self.clock.elapsed() + span;
        self.settle();
        while self.clock.elapsed() < until {
            let left = until - self.clock.elapsed();
            let hub = self.hub.as_ref().filter(|_| !self.is_stopped);
            let servers = [Some(&self.near), hub].into_iter().flatten();
            let next = servers.filter_map(Server::next_timeout).chain([left]).min();
            self.clock.advance(next.unwrap().max(Duration::from_millis(1)).min(left));
            self.settle();
        }
    }

    fn publish(&mut self, topic: &str, text: &str) {
        self.near.handle().publish(topic, text).unwrap();
    }

    fn publish_far(&mut self, topic: &str, text: &str) {
        self.hub.as_ref().unwrap().handle().publish(topic, text).unwrap();
    }

    fn take(&mut self, topic: &str) -> Vec<String> {
        self.settle();
        self.got.remove(topic).unwrap_or_default()
    }

    #[track_caller]
    fn figure(&self, name: &str) -> u64 {
        let metrics = self.near.metrics();
        let name = format!("heartwheel_bridge_{name}{{bridge=\"hub\"}} ");
        let value = metrics.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_else(|| panic!("{name}")).parse().unwrap()
    }
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn what_is_published_is_published_there_in_order_and_a_backlog_first() {
    let mut tree = Tree::new(bridge().out("a.* -> up.{topic}").out("b -> all"), &[], &[]);
    for topic in ["up.a.1", "up.a.2", "all"] {
        tree.hear(topic);
    }
    for n in 0..100 {
        tree.publish(if n % 2 == 0 { "a.1" } else { "b" }, &n.to_string());
    }
    tree.publish("c", "not for the hub");
    tree.pass(SECOND);
    let even: Vec<String> = (0..100).step_by(2).map(|n| n.to_string()).collect();
    let odd: Vec<String> = (1..100).step_by(2).map(|n| n.to_string()).collect();
    assert_eq!((tree.take("up.a.1"), tree.take("all")), (even, odd));
    assert_eq!((tree.figure("connected"), tree.figure("sent_total")), (1, 100));
    assert_eq!((tree.figure("lag_events"), tree.figure("gaps_total")), (0, 0));
    let stats = tree.near.handle().subscribe("$stats", After::Now).unwrap();
    tree.pass(3 * SECOND);
    let told = std::iter::from_fn(|| stats.try_receive().ok()).filter_map(|heard| match heard {
        Heard::Event(event) => event.payload.as_text().map(str::to_owned),
        _ => None,
    });
    let told = told.last().expect("the status page is told each second");
    assert!(told.contains(r#""bridges":{"hub":{"connected":true,"lag":0,"gaps":0}}"#), "{told}");
    // JSON and traces go as they are.
    let json = Payload::Json("{\"a\":[1,2]}".into());
    tree.near.handle().publish("a.2", json).unwrap();
    assert_eq!(tree.take("up.a.2"), ["{\"a\":[1,2]}"]);
}

#[test]
fn a_bridge_at_rest_wakes_nothing() {
    let off = [("heartbeat.interval", "off"), ("deadlines.read_idle", "48h")];
    let mut tree = Tree::new(bridge().out("a -> b").incoming("c -> d"), &off, &off);
    tree.publish("a", "x");
    tree.pass(12 * SECOND);
    assert_eq!(tree.figure("lag_events"), 0);
    tree.pass(700 * SECOND);
    let next = tree.near.next_timeout().expect("the end of all silence");
    assert!(next > Duration::from_secs(3600), "{next:?}");
}

/// FAULTS 230.
#[test]
fn after_a_cut_and_while_the_hub_is_away_nothing_is_lost_or_doubled() {
    let mut tree = Tree::new(bridge().out("a -> b"), &[("topics.retain_events", "1000")], &[]);
    tree.hear("b");
    let mut expected = Vec::new();
    for round in 0..6 {
        for n in 0..50 {
            let text = format!("{round}.{n}");
            tree.publish("a", &text);
            expected.push(text);
            if n == 25 && round % 2 == 0 {
                // Cut with events in flight: the hub goes on, and knows what it has.
                tree.near.turn().unwrap();
                let handle = tree.hub.as_ref().unwrap().handle();
                handle.shed(1.0).unwrap();
            }
        }
        tree.pass(10 * SECOND);
    }
    assert_eq!(tree.take("b"), expected);
    assert!(tree.figure("reconnects_total") >= 3);
    assert_eq!(tree.figure("sent_total"), 300);
}

#[test]
fn what_was_evicted_while_the_hub_was_away_is_a_gap_at_its_place() {
    let mut tree =
        Tree::new(bridge().out("a.* -> b.{topic}"), &[("topics.retain_events", "10")], &[]);
    for topic in ["b.a.1", "b.a.1:gap", "b.a.2", "b.a.2:gap"] {
        tree.hear(topic);
    }
    tree.publish("a.1", "first");
    tree.publish("a.2", "first");
    tree.pass(SECOND);
    assert_eq!(
        (tree.take("b.a.1"), tree.take("b.a.2")),
        (vec!["first".into()], vec!["first".into()])
    );
    tree.hub = None;
    tree.settle();
    (0..100).for_each(|n| tree.publish("a.1", &n.to_string()));
    tree.publish("a.2", "second");
    tree.pass(SECOND);
    assert_eq!((tree.figure("connected"), tree.figure("lag_events")), (0, 11));
    tree.begin_hub(&[]);
    tree.pass(60 * SECOND);
    let last: Vec<String> = (90..100).map(|n| n.to_string()).collect();
    assert_eq!(tree.take("b.a.1"), last);
    assert_eq!(tree.take("b.a.2"), ["second"]);
    let gaps = tree.take("b.a.1:gap");
    assert!(
        matches!(&gaps[..], [gap] if gap.starts_with("{\"topic\":\"a.1\",\"first\":\"")),
        "{gaps:?}"
    );
    assert!(tree.take("b.a.2:gap").is_empty());
    assert_eq!((tree.figure("gaps_total"), tree.figure("lag_events")), (1, 0));
}

/// FAULTS 233.
#[test]
fn what_the_hub_does_not_take_is_a_gap_and_holds_up_nothing() {
    let mut tree = Tree::new(bridge().out("a -> b"), &[], &[("limits.message_bytes", "1k")]);
    tree.hear("b");
    tree.hear("b:gap");
    tree.pass(SECOND);
    tree.publish("a", &"x".repeat(5000));
    tree.near.handle().publish("a", vec![0xff; 8]).unwrap();
    tree.publish("a", "after");
    tree.pass(SECOND);
    // Without CBOR a client of `/ws` has no way to send bytes.
    let (taken, gaps): (&[&str], _) =
        if cfg!(feature = "cbor") { (&["8 bytes", "after"], 1) } else { (&["after"], 2) };
    assert_eq!(tree.take("b"), taken);
    assert_eq!(tree.take("b:gap").len(), gaps);
    assert_eq!((tree.figure("gaps_total"), tree.figure("lag_events")), (gaps as u64, 0));
}

#[test]
fn what_comes_in_does_not_go_out_again_and_echoes_are_dropped() {
    let rules = bridge().out("a.* -> x.{topic}").incoming("cmd -> a.cmd").incoming("x.a.1 -> back");
    let mut tree = Tree::new(rules, &[], &[]);
    for topic in ["x.a.1", "x.a.cmd"] {
        tree.hear(topic);
    }
    let handle = tree.near.handle();
    let here = handle.subscribe("a.cmd", After::parse("0-0")).unwrap();
    let back = handle.subscribe("back", After::parse("0-0")).unwrap();
    tree.pass(SECOND);
    for n in 0..300 {
        tree.publish_far("cmd", &n.to_string());
        tree.publish("a.1", &n.to_string());
        if n % 7 == 0 {
            tree.settle();
        }
    }
    tree.publish_far("x.a.1", "from elsewhere");
    tree.pass(10 * SECOND);
    let events = |subscription: &Subscription| {
        std::iter::from_fn(|| subscription.try_receive().ok())
            .filter(|heard| matches!(heard, Heard::Event(_)))
            .count()
    };
    assert_eq!(tree.take("x.a.1").len(), 301, "all of ours, and that from elsewhere");
    assert!(tree.take("x.a.cmd").is_empty(), "it came from there");
    let mut in_all = 0;
    for _ in 0..20 {
        in_all += events(&here);
        tree.settle();
    }
    assert_eq!(in_all, 300);
    assert_eq!(events(&back), 1, "echoes are dropped");
    assert_eq!(tree.figure("received_total"), 301);
}

#[test]
fn a_gap_on_the_far_side_is_a_gap_here() {
    let mut tree =
        Tree::new(bridge().incoming("cmd -> here"), &[], &[("topics.retain_events", "5")]);
    tree.pass(SECOND);
    tree.publish_far("cmd", "first");
    tree.pass(SECOND);
    let handle = tree.near.handle();
    let (heard, gaps) =
        (handle.subscribe("here", After::parse("0-0")), handle.subscribe("here:gap", After::Now));
    let (heard, gaps) = (heard.unwrap(), gaps.unwrap());
    // Cut, and more than the hub retains before the box is back.
    tree.hub.as_ref().unwrap().handle().shed(1.0).unwrap();
    tree.settle();
    (0..20).for_each(|n| tree.publish_far("cmd", &n.to_string()));
    tree.pass(60 * SECOND);
    let texts = |subscription: &Subscription| -> Vec<String> {
        let all = std::iter::from_fn(|| subscription.try_receive().ok());
        all.filter_map(|heard| match heard {
            Heard::Event(event) => Some(event.payload.as_text()?.to_owned()),
            _ => None,
        })
        .collect()
    };
    assert_eq!(texts(&heard), ["first", "15", "16", "17", "18", "19"]);
    let gaps = texts(&gaps);
    assert!(
        matches!(&gaps[..], [gap] if gap.starts_with("{\"topic\":\"cmd\",\"first\":\"")),
        "{gaps:?}"
    );
    assert_eq!(tree.figure("gaps_total"), 1);
}

/// FAULTS 230.
#[test]
fn a_hub_that_hangs_is_connected_to_anew_and_gets_the_rest() {
    let mut bridge = bridge().out("a -> b").window(8);
    bridge.ack = 2 * SECOND;
    let mut tree = Tree::new(bridge, &[], &[]);
    tree.hear("b");
    tree.publish("a", "first");
    tree.pass(SECOND);
    tree.is_stopped = true;
    let sent: Vec<String> = (0..50).map(|n| n.to_string()).collect();
    sent.iter().for_each(|text| tree.publish("a", text));
    tree.pass(SECOND);
    assert_eq!((tree.figure("reconnects_total"), tree.figure("lag_events")), (0, 50));
    tree.pass(9 * SECOND);
    assert!(tree.figure("reconnects_total") >= 1, "none was acknowledged for two seconds");
    tree.is_stopped = false;
    tree.pass(60 * SECOND);
    let mut got = tree.take("b");
    got.retain(|text| text != "first");
    got.dedup();
    assert_eq!(got, sent);
    assert_eq!(tree.figure("lag_events"), 0);
}

#[test]
fn a_reload_begins_changes_and_ends_bridges_and_leaves_others_alone() {
    let mut tree = Tree::new(bridge().out("a -> b"), &[], &[]);
    for topic in ["b", "c", "d"] {
        tree.hear(topic);
    }
    tree.publish("a", "1");
    tree.pass(SECOND);
    let reload = |tree: &mut Tree, bridges: Vec<Bridge>| {
        let mut all = config(&[]);
        bridges.into_iter().for_each(|bridge| all.add_bridge(bridge));
        tree.near.handle().reload(all).unwrap();
        tree.pass(SECOND);
    };
    // Another beside it: this one keeps its connection.
    let other = || Bridge::new("other", "ws://localhost").out("a -> c");
    reload(&mut tree, vec![bridge().out("a -> b"), other()]);
    assert_eq!((tree.take("b"), tree.take("c")), (vec!["1".into()], vec!["1".into()]));
    assert_eq!(tree.hub.as_ref().unwrap().connections(), 2);
    // Changed: it goes on from its position, under another rule.
    reload(&mut tree, vec![bridge().out("a -> d"), other()]);
    tree.publish("a", "2");
    tree.pass(SECOND);
    assert_eq!((tree.take("b"), tree.take("c")), (vec![], vec!["2".into()]));
    assert_eq!((tree.take("d"), tree.figure("sent_total")), (vec!["2".into()], 2));
    // A fault changes nothing.
    let mut faulty = config(&[]);
    faulty.add_bridge(bridge().out("a -> b c"));
    assert!(tree.near.handle().reload(faulty).is_err());
    reload(&mut tree, vec![]);
    tree.publish("a", "3");
    tree.pass(SECOND);
    assert!(tree.take("d").is_empty() && tree.take("c").is_empty());
    assert_eq!(tree.hub.as_ref().unwrap().connections(), 0);
}

/// FAULTS 232.
#[test]
fn a_bridge_that_cannot_be_does_not_start() {
    for (name, text) in [("bridge.a.url", "ws://x"), ("bridge.a.out", "a -> b")] {
        let builder = Server::builder().config(config(&[(name, text)]));
        assert!(builder.listen_memory(&MemoryNetwork::new()).is_err(), "{name}");
    }
    for rule in ["a.* -> {rest}", "a -> b c", "$stats -> a"] {
        let builder = Server::builder().bridge(bridge().out(rule));
        assert!(builder.listen_memory(&MemoryNetwork::new()).is_err(), "{rule}");
    }
}

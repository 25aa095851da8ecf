//! Clients in Rust whose tokens expire.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use heartwheel::topics::After;
use heartwheel::{CloseReason, Dial, Link, LinkEvent, Links, State, TopicEvent};

use crate::common::world::*;
use crate::expiry::world;
use crate::maker::*;

const ALL: &str = r#","sub":"me","publish":["*"],"subscribe":["*"]"#;

struct Both {
    world: World,
    links: Links,
    told: Arc<Mutex<Vec<LinkEvent>>>,
}

impl Both {
    fn new(world: World) -> Both {
        let mut links = Links::by_clock(world.clock.clone(), 7).unwrap();
        links.on_memory(&world.network);
        Both { world, links, told: Arc::default() }
    }

    fn connect(&mut self, dial: Dial) -> Link {
        let told = self.told.clone();
        let handler = move |_: &Link, event: LinkEvent| told.lock().unwrap().push(event);
        self.links.connect(dial.topics(), handler).unwrap()
    }

    fn pass(&mut self, span: Duration) {
        let until = self.world.clock.elapsed() + span;
        self.settle();
        while self.world.clock.elapsed() < until {
            let left = until - self.world.clock.elapsed();
            let next = [self.world.server.next_timeout(), self.links.next_timeout(), Some(left)];
            let next = next.into_iter().flatten().min().unwrap();
            self.world.clock.advance(next.max(Duration::from_millis(1)).min(left));
            self.settle();
        }
    }

    fn settle(&mut self) {
        for _ in 0..1000 {
            self.world.settle();
            let is_done = self.links.next_timeout() != Some(Duration::ZERO);
            self.links.turn().unwrap();
            if is_done && self.world.server.next_timeout() != Some(Duration::ZERO) {
                return;
            }
        }
        panic!("there is no end");
    }

    /// How many of what a client was told pass.
    fn count(&self, passes: impl Fn(&LinkEvent) -> bool) -> usize {
        self.told.lock().unwrap().iter().filter(|event| passes(event)).count()
    }
}

/// Gives tokens of a minute by the clock of the world, as many as there are.
fn source(
    world: &World,
    maker: Maker,
    count: u32,
) -> impl Fn() -> Option<String> + Send + Sync + use<> {
    let (clock, left) = (world.clock.clone(), Mutex::new(count));
    move || {
        let mut left = left.lock().unwrap();
        *left = left.checked_sub(1)?;
        Some(maker.token_for(clock.elapsed().as_secs_f64() + 60.0, ALL))
    }
}

#[test]
fn a_client_hands_in_another_token_without_a_break() {
    let maker = Maker::secret();
    let (world, _file) = world(&maker, "hands-in", &[]);
    let source = source(&world, maker, u32::MAX);
    let mut both = Both::new(world);
    let link = both.connect(Dial::to("ws://localhost/ws").unwrap().token_from(source));
    link.subscribe("a", After::Now).unwrap();
    both.pass(10 * MINUTE);
    link.publish("a", "x").unwrap();
    both.pass(SECOND);
    let is_open = |event: &LinkEvent| match event {
        LinkEvent::State(change) => change.state == State::Open,
        _ => false,
    };
    assert_eq!(both.count(is_open), 1, "the connection has lasted");
    let stats = both.world.server.stats();
    // One soon after each half minute.
    assert!((19..=21).contains(&stats.tokens_renewed), "{}", stats.tokens_renewed);
    assert_eq!((stats.tokens_refused, stats.closed_by(CloseReason::Auth)), (0, 0));
    let is_event = |event: &LinkEvent| matches!(event, LinkEvent::Topic(TopicEvent::Event { .. }));
    let is_published =
        |event: &LinkEvent| matches!(event, LinkEvent::Topic(TopicEvent::Published { .. }));
    assert_eq!((both.count(is_event), both.count(is_published)), (1, 1));
}

#[test]
fn where_there_is_no_other_token_the_connection_lasts_to_the_end_of_the_old_one() {
    let maker = Maker::secret();
    let (world, _file) = world(&maker, "no-other", &[]);
    let source = source(&world, maker, 2);
    let mut both = Both::new(world);
    let link = both.connect(Dial::to("ws://localhost/ws").unwrap().token_from(source));
    both.pass(89 * SECOND);
    assert_eq!(link.state(), State::Open);
    both.pass(2 * SECOND);
    assert_eq!(link.state(), State::Stopped);
    assert_eq!(both.world.server.stats().closed_by(CloseReason::Auth), 1);
    assert_eq!(both.world.server.stats().tokens_renewed, 1);
}

/// What the server does not take changes nothing: the client goes on, and asks again at the end.
#[test]
fn a_token_that_is_refused_ends_no_connection() {
    let maker = Maker::secret();
    let (world, _file) = world(&maker, "refused", &[]);
    let first = Mutex::new(Some(maker.token_for(60.0, ALL)));
    let source = move || first.lock().unwrap().take().or(Some("bad".into()));
    let mut both = Both::new(world);
    let link = both.connect(Dial::to("ws://localhost/ws").unwrap().token_from(source));
    both.pass(59 * SECOND);
    assert_eq!(link.state(), State::Open);
    assert_eq!(both.world.server.stats().tokens_refused, 1);
    let told_errors = both.count(|event| {
        matches!(
            event,
            LinkEvent::Topic(TopicEvent::NotPublished { .. } | TopicEvent::NotSubscribed { .. })
        )
    });
    assert_eq!(told_errors, 0);
    both.pass(MINUTE);
    assert_eq!(link.state(), State::Stopped, "the server has refused what was given twice");
}

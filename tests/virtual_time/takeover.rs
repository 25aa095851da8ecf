//! Takeover: what becomes of an open connection whose identity connects again.

use std::sync::{Arc, Mutex};

use heartwheel::config::Takeover;
use heartwheel::http::Request;
use heartwheel::{Accept, CloseReason, Event, Peer, Route, Server};

use crate::common::http::{get_request, upgrade_request};
use crate::common::rng::Rng;
use crate::common::world::*;

/// Why connections ended, as their handler was told.
type Told = Arc<Mutex<Vec<CloseReason>>>;

fn identify(request: &Request) -> Result<Accept, heartwheel::http::Refusal> {
    let user = request.query_value("user");
    Ok(user.map_or(Accept::new(), |user| Accept::new().identity(user).subscribe(["*"])))
}

fn start(pairs: &[(&str, &str)], takeover: Takeover) -> (World, Told) {
    let told = Told::default();
    let tell = told.clone();
    let handler = move |_: &Peer, event: Event| {
        if let Event::Closed(reason) = event {
            tell.lock().unwrap().push(reason);
        }
    };
    let echo = Route::websocket("/echo", handler).authorize(identify);
    let builder = Server::builder()
        .route(echo.takeover(takeover))
        .route(Route::hub("/ws").authorize(identify))
        .route(Route::events("/events").authorize(identify).takeover(takeover));
    (World::new(pairs, builder), told)
}

#[test]
fn the_newest_connection_of_an_identity_stays() {
    let (mut world, told) = start(&[], Takeover::Newest);
    // Others: without an identity, of another route, of another identity.
    let mut others: Vec<Client> =
        ["/echo", "/echo", "/echo?user=bob", "/ws?user=ann", "/ws?user=ann"]
            .map(|path| world.open(path))
            .into();
    let mut all = vec![world.open("/echo?user=ann")];
    for count in 2..5 {
        all.push(world.open("/echo?user=ann"));
        world.meet(&mut all);
        let open = all.iter().filter(|client| client.ended_at.is_none()).count();
        assert_eq!((open, all.last().unwrap().ended_at), (1, None), "of {count}");
    }
    for replaced in &all[..3] {
        let frame = replaced.close.as_ref().unwrap();
        assert_eq!((replaced.code(), frame.reason.as_str()), (4409, "replaced"));
    }
    assert_eq!(*told.lock().unwrap(), [CloseReason::Replaced; 3]);
    assert_eq!(world.server.stats().closed_by(CloseReason::Replaced), 3);
    world.pass(MINUTE, &mut others);
    assert!(others.iter().all(|client| client.ended_at.is_none()));
    // One that has ended is not what the next one takes over from.
    drop(all);
    world.settle();
    let _next = world.open("/echo?user=ann");
    assert_eq!(world.server.stats().closed_by(CloseReason::Replaced), 3);
}

#[test]
fn an_older_connection_is_asked_whether_its_client_is_there() {
    for interval in ["30s", "off"] {
        let pairs = [("heartbeat.interval", interval), ("heartbeat.pong", "5s")];
        let pairs = [&pairs[..], &[("deadlines.read_idle", "10m")]].concat();
        let (mut world, told) = start(&pairs, Takeover::Probe);
        let mut there = [world.open("/echo?user=ann"), world.open("/echo?user=ann")];
        world.pass(20 * SECOND, &mut there);
        assert!(there.iter().all(|client| client.ended_at.is_none()), "it has answered");
        assert!(!there[0].pings.is_empty());
        let [_, mut silent] = there;
        let mut next = [world.open("/echo?user=ann")];
        world.pass(5 * SECOND - TICK, &mut next);
        assert!(silent.close.is_none() && told.lock().unwrap().is_empty());
        world.pass(2 * TICK, &mut next);
        world.meet(std::slice::from_mut(&mut silent));
        assert_eq!(silent.code(), 4409);
        assert_eq!(*told.lock().unwrap(), [CloseReason::Replaced], "{interval}");
        assert!(next[0].ended_at.is_none());
    }
}

#[test]
fn an_event_stream_ends_at_once() {
    for takeover in [Takeover::Probe, Takeover::Newest] {
        let (mut world, _) = start(&[], takeover);
        let request = get_request("/events?topic=a&user=ann", "Accept: text/event-stream\r\n");
        let mut one = world.send(request.as_bytes());
        assert_eq!(read_all(&mut one).1, Some(std::io::ErrorKind::WouldBlock));
        let mut other = world.send(request.as_bytes());
        assert_eq!(read_all(&mut one).1, None, "it has ended");
        assert_eq!(read_all(&mut other).1, Some(std::io::ErrorKind::WouldBlock));
        one.shut_down();
        world.settle();
        assert_eq!(world.server.stats().closed_by(CloseReason::Replaced), 1);
    }
}

/// Clients of one identity that connect, drip, and leave, in any order: at the end one is open, the
/// last whose upgrade was complete, unless its client has left.
#[test]
fn of_any_number_that_race_one_stays() {
    let rounds = 300 * std::env::var("ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let (mut world, _) = start(&[], Takeover::Newest);
    for round in 0..rounds {
        let mut rng = Rng::new(round);
        let mut below = |n: usize| rng.below(n as u64) as usize;
        let request = upgrade_request(&format!("/echo?user=u{round}"), "");
        let mut racing: Vec<(heartwheel::MemoryPeer, usize)> = Vec::new();
        let (mut waiting, mut newest) = (4, None);
        while waiting > 0 || racing.iter().any(|(_, sent)| *sent < request.len()) {
            if waiting > 0 && below(3) == 0 {
                racing.push((world.network.connect().unwrap(), 0));
                waiting -= 1;
                continue;
            }
            let begun: Vec<usize> =
                (0..racing.len()).filter(|at| racing[*at].1 < request.len()).collect();
            let Some(at) = (!begun.is_empty()).then(|| begun[below(begun.len())]) else {
                continue;
            };
            let (peer, sent) = &mut racing[at];
            let end = request.len().min(*sent + 1 + below(request.len()));
            std::io::Write::write_all(peer, &request.as_bytes()[*sent..end]).unwrap();
            *sent = end;
            world.settle();
            if end == request.len() {
                newest = Some(at);
            }
        }
        let open = |peer: &mut heartwheel::MemoryPeer| {
            let (bytes, end) = read_all(peer);
            // A close frame comes behind the 101, and FIN behind the answer to it.
            end.is_some() && !bytes.windows(2).any(|two| two == 4409_u16.to_be_bytes())
        };
        let staying: Vec<usize> = (0..racing.len()).filter(|at| open(&mut racing[*at].0)).collect();
        assert_eq!(staying, [newest.unwrap()], "round {round}");
        drop(racing);
        world.settle();
    }
}

/// Nobody knows what has come through of what was sent last: the new connection goes on behind what
/// was surely read.
#[test]
fn a_client_without_a_position_goes_on_where_its_old_connection_surely_was() {
    for takeover in [Takeover::Newest, Takeover::Probe] {
        let name = if takeover == Takeover::Newest { "newest" } else { "probe" };
        let (mut world, _) = start(&[("admission.takeover", name)], takeover);
        let mut old = [world.open("/ws?user=ann")];
        old[0].say(r#"{"op":"subscribe","topic":"a"}"#);
        old[0].say(r#"{"op":"subscribe","topic":"b"}"#);
        world.meet(&mut old);
        publish(&mut world, "a", "read");
        world.pass(MINUTE, &mut old);
        assert!(old[0].pings.len() > 1 && told(&old[0]).iter().any(|word| word.contains("read")));
        // The client is gone, and the server cannot know.
        publish(&mut world, "a", "lost");
        publish(&mut world, "c", "other");
        world.settle();
        let mut new = [world.open("/ws?user=ann")];
        for topic in ["a", "c", "b", "a"] {
            new[0].say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
            world.meet(&mut new);
        }
        publish(&mut world, "b", "live");
        world.meet(&mut new);
        let data = |word: &String| word.split(r#""data":"#).nth(1).map(str::to_owned);
        let data: Vec<String> = told(&new[0]).iter().filter_map(data).collect();
        assert_eq!(data, [r#""lost"}"#, r#""live"}"#], "{takeover:?}: once, and of its own topics");
        assert!(!told(&new[0]).iter().any(|word| word.contains("gap")), "{:?}", told(&new[0]));
    }
}

/// Connections that come one after the other, as those of a device on a bad network, subscribe to
/// what they have time for: the last one has all that none of them has surely read.
#[test]
fn what_a_connection_inherited_and_did_not_ask_for_is_left_to_the_next() {
    let (mut world, _) = start(&[("admission.takeover", "newest")], Takeover::Newest);
    let mut old = [world.open("/ws?user=ann")];
    for topic in ["a", "b"] {
        old[0].say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
    }
    world.meet(&mut old);
    publish(&mut world, "a", "lost of a");
    publish(&mut world, "b", "lost of b");
    world.settle();
    let mut between = [world.open("/ws?user=ann")];
    between[0].say(r#"{"op":"subscribe","topic":"a"}"#);
    world.meet(&mut between);
    let silent = world.open("/ws?user=ann");
    world.settle();
    let mut new = [world.open("/ws?user=ann")];
    for topic in ["b", "a"] {
        new[0].say(&format!(r#"{{"op":"subscribe","topic":"{topic}"}}"#));
        world.meet(&mut new);
    }
    for text in ["lost of a", "lost of b"] {
        let count = told(&new[0]).iter().filter(|word| word.contains(text)).count();
        assert_eq!(count, 1, "{text}: {:?}", told(&new[0]));
    }
    drop(silent);
}

#[test]
fn what_a_client_names_itself_comes_first_and_what_is_gone_is_a_gap() {
    let pairs = [("admission.takeover", "newest"), ("topics.retain_events", "2")];
    let (mut world, _) = start(&pairs, Takeover::Newest);
    let mut old = [world.open("/ws?user=ann")];
    old[0].say(r#"{"op":"subscribe","topic":"a"}"#);
    world.meet(&mut old);
    for text in ["1", "2", "3", "4"] {
        publish(&mut world, "a", text);
    }
    world.meet(&mut old);
    let event = told(&old[0]).pop().unwrap();
    let last = event.split(r#""id":""#).nth(1).unwrap().split('"').next().unwrap();
    let mut new = [world.open("/ws?user=ann")];
    new[0].say(&format!(r#"{{"op":"subscribe","topic":"a","after":"{last}"}}"#));
    world.meet(&mut new);
    assert!(told(&new[0])[1].contains("subscribed"), "{:?}", told(&new[0]));
    // It had said from where it reads: so does the next one.
    let mut next = [world.open("/ws?user=ann")];
    next[0].say(r#"{"op":"subscribe","topic":"a"}"#);
    world.meet(&mut next);
    assert!(told(&next[0])[1].contains("subscribed"), "{:?}", told(&next[0]));
    for text in ["5", "6", "7"] {
        publish(&mut world, "a", text);
    }
    world.settle();
    let mut third = [world.open("/ws?user=ann")];
    third[0].say(r#"{"op":"subscribe","topic":"a"}"#);
    world.meet(&mut third);
    assert!(told(&third[0])[1].contains(r#""op":"gap""#), "{:?}", told(&third[0]));
    assert!(told(&third[0])[2].ends_with(r#""data":"6"}"#), "{:?}", told(&third[0]));
}

fn publish(world: &mut World, topic: &str, text: &str) {
    world.server.handle().publish(topic, text).unwrap();
    world.settle();
}

fn told(client: &Client) -> Vec<String> {
    client.messages.iter().map(ToString::to_string).collect()
}

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

//! The gateway of the examples, by a clock that is moved by hand, over connections in memory.

use std::fs;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use heartwheel::{CloseReason, MemoryPeer, Server};
use tungstenite::client::IntoClientRequest;
use tungstenite::{HandshakeError, Message};

use common::world::{Client, MINUTE, SECOND, World, read_all, text};
use gateway::{Gateway, Store};

mod common;
#[allow(dead_code, reason = "main is for the example")]
#[path = "../examples/gateway.rs"]
mod gateway;

/// A gateway with two users, and with devices of theirs.
struct Site {
    world: World,
    gateway: Arc<Gateway>,
    ada: String,
    bob: String,
    boiler: String,
}

impl Site {
    fn new(store: Store, pairs: &[(&str, &str)]) -> Site {
        let [ada, bob] = ["ada", "bob"].map(|user| store.add_user(user).unwrap());
        let boiler = store.add_device("ada", "boiler").unwrap();
        store.add_device("bob", "boiler").unwrap();
        let gateway = Gateway::new(store);
        let world = World::new(pairs, gateway.routes(Server::builder().seed(7)));
        Site { world, gateway, ada, bob, boiler }
    }

    /// Handlers run within turns.
    fn in_memory() -> Site {
        Site::new(Store::open(":memory:").unwrap(), &[])
    }

    /// Opens the WebSocket of a device; gives the status if that was refused.
    fn open(&mut self, token: &str) -> Result<Client, u16> {
        let mut request = "ws://localhost/device".into_client_request().unwrap();
        let bearer = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert("Authorization", bearer);
        let peer = self.world.network.connect().unwrap();
        let mut handshake = tungstenite::client(request, peer);
        loop {
            match handshake {
                Ok((socket, _)) => return Ok(Client::new(socket)),
                Err(HandshakeError::Interrupted(waiting)) => {
                    self.world.settle();
                    self.world.server.turn().unwrap();
                    handshake = waiting.handshake();
                }
                Err(HandshakeError::Failure(tungstenite::Error::Http(answer))) => {
                    return Err(answer.status().as_u16());
                }
                Err(HandshakeError::Failure(error)) => panic!("{error}"),
            }
        }
    }

    fn get(&mut self, path: &str, token: &str, lines: &str) -> MemoryPeer {
        let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        self.world.send(format!("{head}Authorization: Bearer {token}\r\n{lines}\r\n").as_bytes())
    }

    fn answer(&mut self, path: &str, token: &str) -> String {
        text(&read_all(&mut self.get(path, token, "")).0)
    }

    /// Gives what has come since the last time.
    fn heard(&mut self, peer: &mut MemoryPeer) -> String {
        self.world.settle();
        text(&read_all(peer).0)
    }

    /// Sends a reading, and gives what has come for it.
    fn say(&mut self, device: &mut Client, reading: &str) -> Vec<Message> {
        device.say(reading);
        self.world.pass(Duration::ZERO, std::slice::from_mut(device));
        std::mem::take(&mut device.messages)
    }
}

const EVENTS: &str = "/events?topic=readings.ada.boiler&topic=presence.ada.boiler";

/// Gives the id of the last event.
fn last_id(stream: &str) -> String {
    let id = stream.lines().filter_map(|line| line.strip_prefix("id: ")).next_back();
    id.expect("a stream begins with an id").to_owned()
}

#[test]
fn tokens_open_what_is_theirs_and_nothing_else() {
    let mut site = Site::in_memory();
    let (ada, bob, boiler) = (site.ada.clone(), site.bob.clone(), site.boiler.clone());
    for token in ["", "x", "' OR ''='", &ada, &boiler[1..]] {
        assert_eq!(site.open(token).err(), Some(401), "{token}");
    }
    assert!(site.open(&boiler).is_ok());
    for path in [EVENTS, "/topics/presence.ada.boiler", "/devices", "/readings/boiler"] {
        for token in ["", "x", &boiler] {
            assert!(site.answer(path, token).starts_with("HTTP/1.1 401 "), "{path} {token}");
        }
        assert!(site.answer(path, &ada).starts_with("HTTP/1.1 200 "), "{path}");
    }
    for path in [EVENTS, "/events?topic=readings.bob.boiler&topic=readings.ada.boiler"] {
        assert!(site.answer(path, &bob).starts_with("HTTP/1.1 403 "), "{path}");
    }
    let publish = format!(
        "POST /topics/readings.ada.boiler HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
         Authorization: Bearer {ada}\r\n\r\n1"
    );
    assert!(site.world.ask(&publish).starts_with("HTTP/1.1 403 "), "devices alone have readings");
}

#[test]
fn a_reading_is_kept_answered_and_heard_by_the_owner_alone() {
    let mut site = Site::in_memory();
    let (ada, bob, boiler) = (site.ada.clone(), site.bob.clone(), site.boiler.clone());
    let mut owner = site.get(EVENTS, &ada, "");
    let mut other = site.get("/events?topic=readings.bob.boiler", &bob, "");
    let _ = site.heard(&mut other);
    let mut device = site.open(&boiler).unwrap();
    assert_eq!(site.say(&mut device, "21.5"), [Message::text("1")]);
    assert_eq!(site.say(&mut device, " -3 "), [Message::text("2")]);

    let kept = site.gateway.store.readings("ada.boiler", 0).unwrap();
    let kept: Vec<_> = kept.iter().map(|reading| (reading.number, reading.value)).collect();
    assert_eq!(kept, [(1, 21.5), (2, -3.0)]);
    let heard = site.heard(&mut owner);
    assert!(heard.contains("event: presence.ada.boiler\ndata: online\n\n"), "{heard}");
    assert!(heard.contains("event: readings.ada.boiler\ndata: {\"number\":1,\"at\":"), "{heard}");
    assert!(heard.contains("\"value\":21.5}\n\n"), "{heard}");
    assert!(heard.contains("\"value\":-3}\n\n"), "{heard}");
    assert_eq!(site.heard(&mut other), "");

    let list = site.answer("/devices", &ada);
    assert!(
        list.ends_with("[{\"device\":\"ada.boiler\",\"online\":true,\"newest\":2}]\n"),
        "{list}"
    );
    let list = site.answer("/devices", &bob);
    assert!(
        list.ends_with("[{\"device\":\"bob.boiler\",\"online\":false,\"newest\":0}]\n"),
        "{list}"
    );
    let history = site.answer("/readings/boiler?after=1", &ada);
    assert!(history.contains("[{\"number\":2,") && !history.contains("21.5"), "{history}");
    assert!(site.answer("/readings/boiler", &bob).ends_with("\r\n\r\n[]\n"));
    assert!(site.answer("/readings/boiler?after=x", &ada).starts_with("HTTP/1.1 400 "));
}

#[test]
fn what_is_no_reading_ends_the_device_and_is_not_kept() {
    for reading in ["warm", "", "NaN", "inf", "1e999", "1,5"] {
        let mut site = Site::in_memory();
        let boiler = site.boiler.clone();
        let mut device = site.open(&boiler).unwrap();
        assert_eq!(site.say(&mut device, reading), []);
        assert_eq!(device.code(), 1008, "{reading}");
        assert!(site.gateway.store.readings("ada.boiler", 0).unwrap().is_empty());
    }
}

#[test]
fn who_comes_back_gets_what_was_missed() {
    let mut site = Site::in_memory();
    let (ada, boiler) = (site.ada.clone(), site.boiler.clone());
    let mut device = site.open(&boiler).unwrap();
    let mut owner = site.get(EVENTS, &ada, "");
    site.say(&mut device, "1.25");
    let id = last_id(&site.heard(&mut owner));
    owner.reset();
    site.say(&mut device, "2.25");
    site.say(&mut device, "3.25");

    let mut owner = site.get(EVENTS, &ada, &format!("Last-Event-ID: {id}\r\n"));
    let missed = site.heard(&mut owner);
    let values = |text: &str| {
        let after =
            |line: &str| Some(line.split_once("\"value\":")?.1.trim_end_matches('}').into());
        text.lines().filter_map(after).collect::<Vec<String>>()
    };
    assert_eq!(values(&missed), ["2.25", "3.25"]);
    assert!(!missed.contains("event: gap"), "{missed}");
    site.say(&mut device, "4.25");
    assert_eq!(values(&site.heard(&mut owner)), ["4.25"]);
}

/// The heartbeat is the default one: pinged after 30 s, three pings missed after 10 s each, and the
/// close gets no answer.
#[test]
fn a_device_that_goes_silent_is_told_to_be_offline() {
    let mut site = Site::in_memory();
    let (ada, boiler) = (site.ada.clone(), site.boiler.clone());
    let mut owner = site.get(EVENTS, &ada, "");
    let device = site.open(&boiler).unwrap();
    let heard = site.heard(&mut owner);
    assert!(heard.trim_end().ends_with("event: presence.ada.boiler\ndata: online"), "{heard}");

    let silent_at = site.world.clock.elapsed();
    let ended = |server: &Server| server.stats().closed_by(CloseReason::Heartbeat) == 1;
    let noticed_at = site.world.until("the device is given up", ended);
    assert!(noticed_at - silent_at <= 64 * SECOND, "{:?}", noticed_at - silent_at);
    let heard = site.heard(&mut owner);
    assert!(heard.trim_end().ends_with("event: presence.ada.boiler\ndata: offline"), "{heard}");
    drop(device);
}

/// Topics forget what is older than 10 minutes.
#[test]
fn presence_is_retained_as_long_as_the_device_is_there() {
    let mut site = Site::in_memory();
    let (ada, boiler) = (site.ada.clone(), site.boiler.clone());
    let mut devices = [site.open(&boiler).unwrap()];
    for _ in 0..6 {
        site.world.pass(7 * MINUTE, &mut devices);
        let newest = site.answer("/topics/presence.ada.boiler", &ada);
        assert!(newest.ends_with("online"), "{newest}");
    }
    devices[0].socket.get_mut().reset();
    site.world.pass(SECOND, &mut devices);
    assert!(site.answer("/topics/presence.ada.boiler", &ada).ends_with("offline"));
    site.world.pass(11 * MINUTE, &mut devices);
    assert!(site.answer("/topics/presence.ada.boiler", &ada).starts_with("HTTP/1.1 204 "));
}

#[test]
fn a_device_that_comes_back_replaces_its_old_connection_and_stays_online() {
    let mut site = Site::in_memory();
    let (ada, boiler) = (site.ada.clone(), site.boiler.clone());
    let before = site.open(&boiler).unwrap();
    let now = site.open(&boiler).unwrap();
    let mut both = [before, now];
    site.world.pass(SECOND, &mut both);
    assert_eq!(both[0].code(), 4001);
    assert!(both[1].ended_at.is_none());
    assert!(site.answer("/topics/presence.ada.boiler", &ada).ends_with("online"));
    assert_eq!(site.say(&mut both[1], "1"), [Message::text("1")]);
}

#[test]
fn a_device_keeps_a_thousand_readings() {
    let site = Site::in_memory();
    let store = &site.gateway.store;
    for n in 1..=1_003 {
        assert_eq!(store.add_reading("ada.boiler", 1.0).unwrap().number, n);
    }
    assert_eq!(store.readings("ada.boiler", 0).unwrap()[0].number, 4);
}

#[test]
fn names_are_pieces_of_topics() {
    let store = Store::open(":memory:").unwrap();
    store.add_user("ada").unwrap();
    for name in ["", "a.b", "a b", "\"", "Boiler", "*", &"x".repeat(33)] {
        assert!(store.add_device("ada", name).is_err(), "{name:?}");
        assert!(store.add_user(name).is_err(), "{name:?}");
    }
    assert!(store.add_device("eve", "boiler").is_err(), "there is no such user");
    assert!(store.add_device("ada", &"x".repeat(32)).is_ok());
}

/// Handlers run on workers. The server is drained while readings are under way; whatever of them
/// was answered is in the file of the database.
#[test]
fn a_graceful_stop_loses_nothing_that_was_answered() {
    let file = format!("{}/gateway-{}.db", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    let mut site = Site::new(Store::open(&file).unwrap(), &[("workers", "2")]);
    let boiler = site.boiler.clone();
    let mut device = site.open(&boiler).unwrap();
    (0..40).for_each(|n| device.say(&n.to_string()));
    let mut answered = 0;
    let mut is_stopping = false;
    while !site.world.server.is_over() {
        site.world.server.turn().unwrap();
        device.attend(site.world.clock.elapsed());
        if !is_stopping && device.messages.len() > 10 {
            site.world.server.handle().drain().unwrap();
            is_stopping = true;
        }
        if device.messages.len() == answered {
            // Workers are at it, or the drain waits for its time.
            thread::yield_now();
            site.world.clock.advance(Duration::from_millis(u64::from(is_stopping)));
        }
        answered = device.messages.len();
    }
    assert!(answered > 10);
    assert_eq!(device.code(), 1001);
    let Site { world, gateway, .. } = site;
    drop(world);
    gateway.store.flush().unwrap();
    assert_eq!(fs::metadata(format!("{file}-wal")).map_or(0, |log| log.len()), 0);
    assert_eq!(Arc::into_inner(gateway).map(drop), Some(()), "workers have ended");

    let kept = Store::open(&file).unwrap().readings("ada.boiler", 0).unwrap();
    for (n, answer) in device.messages.iter().enumerate() {
        assert_eq!(answer, &Message::text((n + 1).to_string()));
        assert_eq!((kept[n].number, kept[n].value), (n as i64 + 1, n as f64));
    }
    fs::remove_file(&file).unwrap();
}

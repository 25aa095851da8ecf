//! Clients over real sockets, against servers that are none, or no good ones.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::{Ask, Config, Dial, Link, LinkEvent, Links, State, StateChange, Why};
use socket2::{Domain, Socket, Type};
use tungstenite::handshake::derive_accept_key;

use super::common::timing::{PATIENCE, Span, ms};

/// A server of a few lines: each connection gets `serve` on a thread of its own.
struct Stub {
    address: SocketAddr,
    count: Arc<AtomicUsize>,
}

impl Stub {
    fn new(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> Stub {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, serve) = (count.clone(), Arc::new(serve));
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                counted.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                thread::spawn(move || serve(stream));
            }
        });
        Stub { address, count }
    }

    /// A server that reads a request and gives this answer.
    fn answering(answer: impl Into<Vec<u8>>) -> Stub {
        let answer = answer.into();
        Stub::new(move |mut stream| {
            read_head(&mut stream);
            let _ = stream.write_all(&answer);
            wait_for_end(&mut stream);
        })
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8_lossy(&head).into_owned()
}

fn wait_for_end(stream: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while stream.read(&mut buffer).is_ok_and(|len| len > 0) {}
}

/// Answers an upgrade as it should be.
fn take_upgrade(stream: &mut TcpStream) {
    let head = read_head(stream);
    let key = head.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.split('\r').next());
    let accept = derive_accept_key(key.unwrap_or_default().as_bytes());
    let _ = write!(
        stream,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
}

/// A listener whose queue is full: the kernel answers no SYN.
fn deaf() -> (Socket, Vec<TcpStream>, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let fill = || TcpStream::connect_timeout(&address, ms(200)).ok();
    let filling: Vec<TcpStream> = std::iter::from_fn(fill).take(64).collect();
    assert!(filling.len() < 64, "the queue has no end");
    (socket, filling, address)
}

/// A port on which nothing listens, and nothing else can while the socket is there.
fn closed() -> (Socket, SocketAddr) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    (socket, address)
}

/// A client, its loop, and the changes of its state.
struct Tried {
    links: Links,
    link: Link,
    changes: Arc<Mutex<Vec<StateChange>>>,
    span: Span,
}

impl Tried {
    fn new(dial: Dial) -> Tried {
        let mut links = Links::new().unwrap();
        let changes = Arc::new(Mutex::new(Vec::new()));
        let kept = changes.clone();
        let span = Span::begin();
        let handler = move |_: &Link, event: LinkEvent| {
            if let LinkEvent::State(change) = event {
                kept.lock().unwrap().push(change);
            }
        };
        let link = links.connect(dial, handler).unwrap();
        Tried { links, link, changes, span }
    }

    /// Turns the loop until something is so.
    #[track_caller]
    fn until<T>(&mut self, what: &str, mut is_so: impl FnMut(&[StateChange]) -> Option<T>) -> T {
        let began = Instant::now();
        loop {
            self.links.turn().unwrap();
            if let Some(found) = is_so(&self.changes.lock().unwrap()) {
                return found;
            }
            let is_late = began.elapsed() > 3 * PATIENCE;
            assert!(!is_late, "{what}: {:?}", self.changes.lock().unwrap());
            thread::sleep(ms(1));
        }
    }

    /// Returns how the first try ended, and what followed.
    #[track_caller]
    fn first_end(&mut self) -> (Why, State, Option<Duration>) {
        self.until("an end", |changes| {
            let end = changes.iter().find(|change| change.why.is_some())?;
            Some((end.why.clone()?, end.state, end.wait))
        })
    }

    /// Asserts that a deadline of the first try has acted in time: the loop's tick is 50 ms.
    #[track_caller]
    fn took(&self, what: &str, span: Duration) {
        self.span.took_between(what, span, span + ms(100));
    }

    #[track_caller]
    fn until_state(&mut self, state: State) -> StateChange {
        let is_it = |change: &&StateChange| change.state == state;
        self.until(state.label(), |changes| changes.iter().find(is_it).cloned())
    }
}

fn dial(address: SocketAddr) -> Dial {
    Dial::to(&format!("ws://{address}/ws")).unwrap()
}

fn config(settings: &[(&str, &str)]) -> Config {
    let mut config = Config::default();
    settings.iter().for_each(|(key, value)| config.set(key, value).unwrap());
    config
}

#[test]
fn a_wall_of_statuses_is_told_and_followed_as_the_guide_says() {
    for (line, expected, least) in [
        ("502 Bad Gateway", State::Waiting, 0),
        ("503 Service Unavailable\r\nRetry-After: 7", State::Waiting, 7),
        ("429 Too Many Requests\r\nRetry-After: 9", State::Waiting, 9),
        ("302 Found\r\nLocation: ws://127.0.0.1:1/", State::Waiting, 0),
        ("401 Unauthorized", State::Stopped, 0),
        ("403 Forbidden", State::Stopped, 0),
    ] {
        let stub = Stub::answering(format!("HTTP/1.1 {line}\r\nContent-Length: 2\r\n\r\nno"));
        let mut tried = Tried::new(dial(stub.address));
        let (why, state, wait) = tried.first_end();
        let status: u16 = line[..3].parse().unwrap();
        assert!(matches!(why, Why::Status { status: told, .. } if told == status), "{why:?}");
        assert_eq!((state, stub.count()), (expected, 1), "{line}");
        assert!(wait.is_none_or(|wait| wait >= Duration::from_secs(least)), "{line}: {wait:?}");
    }
}

#[test]
fn credentials_are_asked_for_once_more_and_the_second_refusal_stops() {
    let stub = Stub::answering("HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let dial = dial(stub.address).config(&config(&[("client.delay", "10ms")])).unwrap();
    let mut tried = Tried::new(
        dial.token_from(move || Some(format!("token{}", counted.fetch_add(1, Ordering::SeqCst)))),
    );
    tried.until_state(State::Stopped);
    assert_eq!((asked.load(Ordering::SeqCst), stub.count()), (2, 2));
}

#[test]
fn a_port_on_which_nothing_listens_is_tried_with_growing_waits() {
    let (_socket, address) = closed();
    let config = config(&[("client.delay", "10ms")]);
    let mut tried = Tried::new(dial(address).config(&config).unwrap());
    let failures = tried.until("seven failures", |changes| {
        let failed = changes.iter().filter(|change| change.state == State::Waiting);
        (failed.clone().count() >= 7).then(|| failed.cloned().collect::<Vec<_>>())
    });
    for (index, change) in failures.iter().enumerate() {
        assert!(matches!(change.why, Some(Why::Unreachable(_))), "{change:?}");
        assert_eq!(change.failures as usize, index + 1);
        assert!(change.wait.unwrap() <= ms(10 << index), "{change:?}");
    }
}

#[test]
fn a_server_that_says_nothing_has_the_deadline_of_the_upgrade() {
    let stub = Stub::new(|mut stream| wait_for_end(&mut stream));
    let config = config(&[("client.upgrade", "300ms")]);
    let mut tried = Tried::new(dial(stub.address).config(&config).unwrap());
    let (why, ..) = tried.first_end();
    tried.took("the upgrade", ms(300));
    assert_eq!(why, Why::TimedOut(State::Upgrading));
}

#[test]
fn a_kernel_that_answers_nothing_has_the_deadline_of_connecting() {
    let (_socket, _filling, address) = deaf();
    let config = config(&[("client.connect", "400ms")]);
    let mut tried = Tried::new(dial(address).config(&config).unwrap());
    let (why, ..) = tried.first_end();
    tried.took("connecting", ms(400));
    assert_eq!(why, Why::TimedOut(State::Connecting));
}

/// Success is a connection that held: a server that accepts and drops gets five tries, then none
/// for a while, then one.
#[test]
fn who_accepts_and_drops_at_once_is_left_alone_and_then_probed_once_a_period() {
    for is_upgraded in [false, true] {
        let stub = Stub::new(move |mut stream| {
            if is_upgraded {
                take_upgrade(&mut stream);
            }
        });
        let config = config(&[
            ("client.delay", "5ms"),
            ("client.delay_max", "5ms"),
            ("client.broken_for", "600ms"),
        ]);
        let mut tried = Tried::new(dial(stub.address).config(&config).unwrap());
        let broken = tried.until_state(State::Broken);
        assert_eq!((stub.count(), broken.wait), (5, Some(ms(600))), "{broken:?}");
        let again = tried.until("a probe that failed", |changes| {
            let mut all = changes.iter().filter(|change| change.state == State::Broken);
            all.nth(1).cloned()
        });
        assert_eq!(
            (stub.count(), again.wait),
            (6, Some(ms(1200))),
            "one probe, and twice the time"
        );
    }
}

#[test]
fn a_page_for_people_is_no_answer_however_long_it_is() {
    for length in [100, 8 << 20] {
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}");
        let stub =
            Stub::answering(format!("{head}\r\n\r\n{}", "<p>Log in</p>".repeat(length / 13)));
        let mut tried = Tried::new(dial(stub.address));
        let (why, state, _) = tried.first_end();
        assert_eq!(why, Why::Status { status: 200, retry_after: None });
        assert_eq!(state, State::Waiting);
    }
}

#[test]
fn a_wrong_accept_key_stops_the_client() {
    let stub = Stub::answering(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
    );
    let mut tried = Tried::new(dial(stub.address));
    let (why, state, _) = tried.first_end();
    assert_eq!((why, state), (Why::AcceptKey, State::Stopped));
    assert!(tried.links.is_empty());
}

#[test]
fn of_two_addresses_the_one_that_lives_is_used() {
    let (_deaf, _filling, silent) = deaf();
    let (_closed, refusing) = closed();
    for dead in [refusing, silent] {
        let stub = Stub::new(|mut stream| {
            take_upgrade(&mut stream);
            wait_for_end(&mut stream);
        });
        // It is for the one that lives, too.
        let config = config(&[("client.connect", "3s"), ("client.delay", "10ms")]);
        let dial = dial(dead).or_to(&format!("ws://{}/ws", stub.address)).unwrap();
        let mut tried = Tried::new(dial.config(&config).unwrap());
        tried.until_state(State::Open);
        assert_eq!(stub.count(), 1);
        tried.link.close().unwrap();
        tried.until_state(State::Stopped);
    }
}

#[test]
fn a_plain_request_reaches_the_address_behind_a_silent_one() {
    let (_deaf, _filling, silent) = deaf();
    let stub = Stub::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let dial = dial(silent).or_to(&format!("http://{}/", stub.address)).unwrap();
    let (sender, answers) = channel();
    let mut links = Links::new().unwrap();
    let ask = Ask::get("/").within(ms(2000));
    links.request(dial, ask, move |answer| sender.send(answer).unwrap()).unwrap();
    links.run().unwrap();
    let answer = answers.recv().unwrap().unwrap();
    assert_eq!((answer.status(), stub.count()), (200, 1));
}

#[test]
fn a_proxy_connects_refuses_or_is_silent() {
    let through = |proxy: &Stub, span: &str| {
        let proxy = format!("http://{}", proxy.address);
        let config = config(&[("client.proxy", &proxy), ("client.connect", span)]);
        let dial = Dial::to("ws://server.invalid:8765/ws").unwrap().config(&config).unwrap();
        Tried::new(dial)
    };
    let heads = Arc::new(Mutex::new(String::new()));
    let kept = heads.clone();
    let proxy = Stub::new(move |mut stream| {
        *kept.lock().unwrap() = read_head(&mut stream);
        stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").unwrap();
        take_upgrade(&mut stream);
        wait_for_end(&mut stream);
    });
    through(&proxy, "5s").until_state(State::Open);
    let head = heads.lock().unwrap().clone();
    assert_eq!(head, "CONNECT server.invalid:8765 HTTP/1.1\r\nHost: server.invalid:8765\r\n\r\n");
    let proxy = Stub::answering("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n");
    let (why, state, _) = through(&proxy, "5s").first_end();
    assert!(matches!(&why, Why::Unreachable(text) if text.contains("407")), "{why:?}");
    assert_eq!(state, State::Waiting);
    let proxy = Stub::new(|mut stream| wait_for_end(&mut stream));
    let mut tried = through(&proxy, "500ms");
    let (why, ..) = tried.first_end();
    tried.took("the proxy's answer", ms(500));
    assert_eq!(why, Why::TimedOut(State::Connecting));
}

/// Whether a name service answers here, late or never, a name that does not exist ends the try in
/// time, and another client of the loop goes on meanwhile.
#[test]
fn a_name_that_does_not_exist_ends_the_try_and_holds_up_nobody() {
    let config = config(&[("client.resolve", "2s")]);
    let name = Dial::to("ws://no-such-host.invalid:8765/ws").unwrap().config(&config).unwrap();
    let mut tried = Tried::new(name);
    let stub = Stub::new(|mut stream| {
        take_upgrade(&mut stream);
        wait_for_end(&mut stream);
    });
    let other = tried.links.connect(dial(stub.address), |_: &Link, _: LinkEvent| {}).unwrap();
    tried.until("the other is open", |_| (other.state() == State::Open).then_some(()));
    let (why, state, _) = tried.first_end();
    assert!(matches!(why, Why::Name(_) | Why::TimedOut(State::Resolving)), "{why:?}");
    assert_eq!(state, State::Waiting);
}

#[test]
fn a_name_with_two_families_of_which_one_is_served_is_reached() {
    let stub = Stub::new(|mut stream| {
        take_upgrade(&mut stream);
        wait_for_end(&mut stream);
    });
    let url = format!("ws://localhost:{}/ws", stub.address.port());
    Tried::new(Dial::to(&url).unwrap()).until_state(State::Open);
}

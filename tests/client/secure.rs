//! Clients of ours over TLS, against servers of ours.

use std::time::{Duration, Instant};

use heartwheel::topics::After;
use heartwheel::{
    Client, ClientError, Config, Dial, DialError, Event, Handle, Heard, Message, Peer, Server, Why,
};
use ring::digest::{SHA256, digest};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

fn file(name: &str) -> String {
    format!("{}/tests/tls/certificates/{name}", env!("CARGO_MANIFEST_DIR"))
}

/// A server over TLS on a thread, until it is dropped.
struct Serving {
    handle: Handle,
    url: String,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Serving {
    fn start(settings: &[(&str, &str)]) -> Serving {
        let echo = |peer: &Peer, event: Event| {
            if let Event::Message(message) = event {
                peer.send(message);
            }
        };
        let mut config = Config::default();
        let (certificate, key) = (file("server.crt"), file("server.key"));
        let own = [("tls.certificate", &*certificate), ("tls.key", &*key)];
        for (name, value) in own.iter().chain(settings) {
            config.set(name, value).unwrap();
        }
        let builder = Server::builder().config(config).topics("/topics/{topic}");
        let builder = builder.hub("/ws").websocket("/echo", echo);
        let server = builder.listen("tls:0.0.0.0:0").unwrap();
        let port = server.local_addresses()[0].as_tcp().unwrap().port();
        let handle = server.handle();
        let thread = std::thread::spawn(move || drop(server.run()));
        Serving { handle, url: format!("wss://localhost:{port}"), thread: Some(thread) }
    }

    fn dial(&self) -> Dial {
        let mut config = Config::default();
        config.set("client.delay", "10ms").unwrap();
        Dial::to(&self.url).unwrap().config(&config).unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.shut_down().unwrap();
        self.thread.take().unwrap().join().unwrap();
    }
}

#[test]
fn topics_go_over_tls() {
    for suite in
        ["TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"]
    {
        let server = Serving::start(&[("tls.ciphers", suite)]);
        let mut client = Client::new(server.dial().ca(file("ca.crt"))).unwrap();
        let first = client.publish("a", "first").unwrap();
        let long = "x".repeat(200_000);
        client.publish("a", long.as_str()).unwrap();
        let mut events = client.subscribe("a", After::Position(first)).unwrap();
        let Some((_, Heard::Event(event))) = events.next() else { panic!("there is one") };
        assert_eq!(event.payload.as_text(), Some(&*long));
        client.close();
    }
}

#[test]
fn plain_requests_go_over_tls() {
    let server = Serving::start(&[]);
    let mut client = Client::new(server.dial().ca(file("ca.crt"))).unwrap();
    let long = "x".repeat(200_000);
    let posted = client.post("/topics/a", "text/plain", long.clone()).unwrap();
    assert_eq!(posted.status(), 200);
    assert_eq!(client.get("/topics/a").unwrap().text(), Some(&*long));
    let mut other = Client::new(server.dial().ca(file("other-ca.crt"))).unwrap();
    let refused = other.get("/topics/a");
    assert!(matches!(refused, Err(ClientError::Failed(Why::Certificate(_)))), "{refused:?}");
}

#[test]
fn event_streams_go_over_tls() {
    use heartwheel::{Link, LinkEvent, Links, State};
    let server = Serving::start(&[]);
    let url = format!("{}/topics/a", server.url);
    let dial = Dial::to(&url).unwrap().ca(file("ca.crt")).events();
    let mut links = Links::new().unwrap();
    let handle = server.handle.clone();
    let long = "x".repeat(200_000);
    let handler = move |link: &Link, event: LinkEvent| match event {
        LinkEvent::State(change) if change.state == State::Open => {
            handle.publish("a", long.as_str()).unwrap();
        }
        LinkEvent::Event(event) => {
            assert_eq!(event.data, long);
            link.close().unwrap();
        }
        LinkEvent::State(change) => assert!(!matches!(change.why, Some(Why::Tls(_)))),
        _ => {}
    };
    links.connect(dial, handler).unwrap();
    links.run().unwrap();
}

/// An attacker on the way can end TCP, but not say so in TLS.
#[test]
fn an_answer_that_ends_with_the_connection_ends_by_the_word_of_the_server() {
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let chain = CertificateDer::pem_file_iter(file("server.crt")).unwrap();
    let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(file("server.key")).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let config = std::sync::Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://localhost:{}", listener.local_addr().unwrap().port());
    std::thread::spawn(move || {
        for (index, stream) in listener.incoming().flatten().enumerate() {
            let connection = rustls::ServerConnection::new(config.clone()).unwrap();
            let mut stream = rustls::StreamOwned::new(connection, stream);
            let _ = std::io::Read::read(&mut stream, &mut [0; 4096]);
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\n\r\nhello");
            if index == 0 {
                stream.conn.send_close_notify();
            }
            let _ = std::io::Write::flush(&mut stream);
            let _ = stream.sock.shutdown(std::net::Shutdown::Write);
            while std::io::Read::read(&mut stream.sock, &mut [0; 64]).is_ok_and(|len| len > 0) {}
        }
    });
    let mut client = Client::new(Dial::to(&url).unwrap().ca(file("ca.crt"))).unwrap();
    assert_eq!(client.get("/").unwrap().text(), Some("hello"));
    let cut = client.get("/");
    assert!(matches!(cut, Err(ClientError::Failed(Why::Lost(_)))), "{cut:?}");
}

#[test]
fn a_certificate_that_is_not_trusted_stops_it() {
    let server = Serving::start(&[]);
    let why = |dial: Dial| {
        let mut client = Client::new(dial).unwrap();
        match client.publish("a", "x") {
            Err(ClientError::Stopped(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    for dial in [server.dial().ca(file("other-ca.crt")), server.dial().pin([7; 32])] {
        assert!(matches!(why(dial), Why::Certificate(_)));
    }
    let unnamed = server.url.replace("localhost", "127.0.0.2");
    let dial = Dial::to(&unnamed).unwrap().ca(file("ca.crt"));
    let why = why(dial);
    assert!(matches!(why, Why::Certificate(_)), "{why}");
    let missing = Client::new(server.dial().ca("/no/such/file"));
    assert!(matches!(missing, Err(ClientError::Dial(DialError::Tls(_)))), "{missing:?}");
}

#[test]
fn a_pinned_certificate_is_trusted_by_itself() {
    let server = Serving::start(&[]);
    let der = CertificateDer::from_pem_file(file("server.crt")).unwrap();
    let pin: [u8; 32] = digest(&SHA256, &der).as_ref().try_into().unwrap();
    let mut client = Client::new(server.dial().pin(pin)).unwrap();
    client.publish("a", "x").unwrap();
}

#[test]
fn a_server_may_ask_for_the_clients_certificate() {
    let ca = file("ca.crt");
    let server = Serving::start(&[("tls.client", "required"), ("tls.client_ca", &ca)]);
    let dial = server.dial().ca(&ca);
    let mut client = Client::new(dial.clone()).unwrap();
    client.set_timeout(Some(TIMEOUT));
    let refused = client.publish("a", "x");
    assert!(matches!(refused, Err(ClientError::TimedOut(Some(Why::Tls(_))))), "{refused:?}");
    let shown = dial.certificate(file("client.crt"), file("client.key"));
    Client::new(shown).unwrap().publish("a", "x").unwrap();
}

#[test]
fn what_is_no_tls_is_told_and_tried_again() {
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("wss://localhost:{}", plain.local_addr().unwrap().port());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = plain.accept() {
            let _ = std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n");
        }
    });
    let mut client = Client::new(Dial::to(&url).unwrap().ca(file("ca.crt"))).unwrap();
    client.set_timeout(Some(TIMEOUT));
    let began = Instant::now();
    let refused = client.publish("a", "x");
    assert!(matches!(refused, Err(ClientError::TimedOut(Some(Why::Tls(_))))), "{refused:?}");
    assert!(began.elapsed() >= TIMEOUT);
}

// Messages in both directions at once, larger than all buffers.
#[test]
fn floods_go_both_ways() {
    use heartwheel::{Link, LinkEvent, Links, State};
    let server = Serving::start(&[]);
    let url = format!("{}/echo", server.url);
    let dial = Dial::to(&url).unwrap().ca(file("ca.crt"));
    let (sender, came) = crossbeam_channel::unbounded();
    let mut links = Links::new().unwrap();
    let mut left = 40;
    let handler = move |link: &Link, event: LinkEvent| match event {
        LinkEvent::State(change) if change.state == State::Open => {
            (0..4).for_each(|n| link.send(vec![n; 60_000]).unwrap());
        }
        LinkEvent::Message(Message::Binary(bytes)) => {
            left -= 1;
            match left {
                0 => drop(link.close()),
                _ if left > 3 => link.send(Message::Binary(bytes.clone())).unwrap(),
                _ => {}
            }
            let _ = sender.send(bytes);
        }
        _ => {}
    };
    links.connect(dial, handler).unwrap();
    links.run().unwrap();
    let all: Vec<_> = came.try_iter().collect();
    assert_eq!(all.len(), 40);
    assert!(all.iter().enumerate().all(|(n, bytes)| bytes[..] == vec![n as u8 % 4; 60_000][..]));
}

/// Long enough for a first try, also where the machine lets nobody run for two seconds.
const TIMEOUT: Duration = Duration::from_secs(3);

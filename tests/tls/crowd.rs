//! A thousand connections over TLS, and what may happen beside them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::Config;

use super::anyone::Anyone;
use super::client::{TlsClient, borrowed, chain, config, file, settings};
use crate::common::frame;
use crate::common::server::TestServer;
use crate::common::timing::{PATIENCE, percentile};

const CONNECTIONS: usize = 1000;

fn start() -> TestServer {
    TestServer::start(&borrowed(&settings(&[
        ("limits.connections", "3000".into()),
        ("limits.pings_per_second", "1000".into()),
    ])))
}

/// Opens so many, by four threads.
fn open(server: &TestServer) -> Vec<TlsClient> {
    let address = server.address;
    let parts = [(); 4].map(|()| {
        thread::spawn(move || {
            let config = Arc::new(config(None));
            let open = |_| {
                let mut client = TlsClient::connect_with(address, &config, "localhost");
                client.upgrade("/inline");
                client
            };
            (0..CONNECTIONS / 4).map(open).collect::<Vec<_>>()
        })
    });
    parts.into_iter().flat_map(|part| part.join().expect("it opens them")).collect()
}

/// FAULTS 144.
#[test]
fn a_reload_under_a_thousand_connections_drops_none() {
    let server = start();
    let mut clients = open(&server);
    for round in 0..4 {
        let (certificate, key) = match round % 2 {
            0 => ("second.crt", "second.key"),
            _ => ("server.crt", "server.key"),
        };
        // Messages are under way while the files change.
        clients.iter_mut().for_each(|client| client.send(frame::frame(0x82, &[round; 100])));
        let mut next = Config::default();
        let pairs = settings(&[
            ("heartbeat.interval", "off".into()),
            ("limits.connections", "3000".into()),
            ("limits.pings_per_second", "1000".into()),
        ]);
        for (name, text) in &pairs {
            next.set(name, text).unwrap();
        }
        next.set("tls.certificate", &file(certificate)).unwrap();
        next.set("tls.key", &file(key)).unwrap();
        server.handle.reload(next).unwrap();
        let mut client = config(None);
        client.dangerous().set_certificate_verifier(Arc::new(Anyone));
        let mut newcomer = TlsClient::connect_with(server.address, &Arc::new(client), "localhost");
        newcomer.shake().unwrap();
        assert_eq!(newcomer.stream.conn.peer_certificates().unwrap(), chain(certificate));
        for client in &mut clients {
            assert_eq!(client.read_frame(), (0x82, vec![round; 100]));
        }
    }
    server.wait_until(|seen| seen.connections == CONNECTIONS);
    let stats = server.stats();
    assert_eq!(stats.closed_total(), 4, "the newcomers alone have gone");
    drop(clients);
    server.stop();
}

/// FAULTS 142: how long pings wait beside 500 handshakes a second and a thousand connections. The
/// clients of the handshakes take more CPU than the server, on the same machine.
#[test]
#[ignore = "it measures, and takes an optimized build"]
fn pongs_beside_500_handshakes_a_second_and_a_thousand_connections() {
    let server = start();
    let mut clients = open(&server);
    let address = server.address;
    let is_over = Arc::new(AtomicBool::new(false));
    let count = Arc::new(AtomicU32::new(0));
    let began = Instant::now();
    let flood = [(); 4].map(|()| {
        let (is_over, count) = (is_over.clone(), count.clone());
        thread::spawn(move || {
            let client = Arc::new(config(None));
            while !is_over.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                let due_at = began + Duration::from_millis(2) * number;
                thread::sleep(due_at.saturating_duration_since(Instant::now()));
                let mut peer = TlsClient::connect_with(address, &client, "localhost");
                peer.shake().expect("it comes in");
            }
        })
    });
    let mut took = Vec::new();
    while began.elapsed() < PATIENCE {
        let at = took.len() % clients.len();
        let sent_at = Instant::now();
        clients[at].send(frame::frame(0x89, b"ping"));
        assert_eq!(clients[at].read_frame(), (0x8a, b"ping".to_vec()));
        took.push(sent_at.elapsed());
        thread::sleep(Duration::from_millis(5).saturating_sub(sent_at.elapsed()));
    }
    let rate = f64::from(count.load(Ordering::Relaxed)) / began.elapsed().as_secs_f64();
    is_over.store(true, Ordering::Relaxed);
    flood.into_iter().for_each(|thread| thread.join().expect("all came in"));
    let latest = took.iter().max().copied();
    let p99 = percentile(&mut took, 99);
    println!(
        "{} pongs beside {rate:.0} handshakes a second: 99 of 100 within {p99:?}, all {latest:?}",
        took.len()
    );
    // Nobody was lost.
    server.wait_until(|seen| seen.connections == CONNECTIONS);
    drop(clients);
    server.stop();
}

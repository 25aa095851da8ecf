//! The same records through rustls's own connection and through our record layer, in any pieces:
//! the same bytes come out, the same alerts, the same ends. `ROUNDS` raises the number of sessions,
//! `SEED` says where to begin.

use std::collections::HashMap;
use std::io::{ErrorKind, IoSlice, Read, Write};
use std::sync::{Arc, Mutex};

use heartwheel::core::ground::time::Instant;
use heartwheel::core::wire::tls::{Ended, Secret, Session, Suite};
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::{
    ClientConfig, ClientConnection, Error, KeyLog, ServerConfig, ServerConnection,
    SupportedCipherSuite,
};

use super::client;
use crate::common::rng::Rng;

/// The secrets of all connections of a configuration, by their label.
#[derive(Debug, Default)]
struct Secrets(Mutex<HashMap<String, Vec<u8>>>);

impl KeyLog for Secrets {
    fn log(&self, label: &str, _: &[u8], secret: &[u8]) {
        self.0.lock().unwrap().insert(label.into(), secret.into());
    }
}

/// Both configurations for one suite.
struct Kind {
    suite: Suite,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
    secrets: Arc<Secrets>,
}

impl Kind {
    fn new(suite: Suite, theirs: SupportedCipherSuite) -> Kind {
        let mut provider = default_provider();
        provider.cipher_suites = vec![theirs];
        let provider = Arc::new(provider);
        let secrets = Arc::new(Secrets::default());
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(client::chain("server.crt"), client::key("server.key"))
            .unwrap();
        server.key_log = secrets.clone();
        // Tickets would use numbers of records that nobody tells.
        server.send_tls13_tickets = 0;
        Kind { suite, client: Arc::new(client::config(None)), server: Arc::new(server), secrets }
    }

    /// Does a handshake. Gives both ends of rustls, our session in the place of the server, and one
    /// in the place of the client that opens what servers say at the end.
    fn shake(&self) -> (ClientConnection, ServerConnection, [Box<Session>; 3]) {
        let name = "localhost".try_into().unwrap();
        let mut client = ClientConnection::new(self.client.clone(), name).unwrap();
        let mut server = ServerConnection::new(self.server.clone()).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            server.process(&client.take()).unwrap();
            client.process(&server.take()).unwrap();
        }
        let secrets = self.secrets.0.lock().unwrap();
        let [theirs, ours] = ["CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0"]
            .map(|label| Secret::new(&secrets[label]).unwrap());
        let server_session = || Session::new(self.suite, (&theirs, 0), (&ours, 0));
        let client_session = || Session::new(self.suite, (&ours, 0), (&theirs, 0));
        (client, server, [server_session(), client_session(), client_session()])
    }
}

/// What both ends of rustls can do.
trait End {
    fn take(&mut self) -> Vec<u8>;
    fn process(&mut self, bytes: &[u8]) -> Result<(Vec<u8>, bool), Error>;
}

macro_rules! end {
    ($name:ty) => {
        impl End for $name {
            fn take(&mut self) -> Vec<u8> {
                let mut out = Vec::new();
                while self.wants_write() {
                    self.write_tls(&mut out).unwrap();
                }
                out
            }

            /// Gives the plaintext, and whether the peer has ended its side.
            fn process(&mut self, mut bytes: &[u8]) -> Result<(Vec<u8>, bool), Error> {
                let (mut plain, mut is_over) = (Vec::new(), false);
                while !bytes.is_empty() {
                    self.read_tls(&mut bytes).unwrap();
                    let state = self.process_new_packets();
                    let mut buffer = [0; 4096];
                    loop {
                        match self.reader().read(&mut buffer) {
                            Ok(0) => break is_over = true,
                            Ok(len) => plain.extend_from_slice(&buffer[..len]),
                            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                            Err(error) => panic!("{error}"),
                        }
                    }
                    state?;
                    if is_over {
                        break;
                    }
                }
                Ok((plain, is_over))
            }
        }
    };
}
end!(ClientConnection);
end!(ServerConnection);

/// What an end of ours makes of bytes that come in pieces.
#[derive(Default)]
struct Reading {
    buffer: Vec<u8>,
    plain: Vec<u8>,
    own: Vec<u8>,
    ended: Option<Ended>,
}

impl Reading {
    fn take(&mut self, session: &mut Session, piece: &[u8]) {
        if self.ended.is_some() {
            return;
        }
        self.buffer.extend_from_slice(piece);
        let now = Instant::from_millis(0);
        let opened = session.open(now, &mut self.buffer, &mut self.own);
        self.plain.extend_from_slice(&self.buffer[..opened.plain]);
        self.buffer.drain(..opened.used);
        self.ended = opened.ended;
    }

    fn take_in_pieces(&mut self, session: &mut Session, bytes: &[u8], rng: &mut Rng) {
        let longest = [1, 3, 30, 2000, 40_000][rng.below(5) as usize];
        let mut rest = bytes;
        while !rest.is_empty() {
            let len = (1 + rng.below(longest) as usize).min(rest.len());
            self.take(session, &rest[..len]);
            rest = &rest[len..];
        }
    }
}

#[test]
fn records_are_read_and_sealed_as_rustls_does_however_they_are_cut() {
    let kinds = [
        Kind::new(Suite::Aes128, cipher_suite::TLS13_AES_128_GCM_SHA256),
        Kind::new(Suite::Aes256, cipher_suite::TLS13_AES_256_GCM_SHA384),
        Kind::new(Suite::ChaCha20, cipher_suite::TLS13_CHACHA20_POLY1305_SHA256),
    ];
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    let first: u64 = number("SEED").unwrap_or(1);
    for seed in first..first + number("ROUNDS").unwrap_or(200) {
        let mut rng = Rng::new(seed);
        let kind = &kinds[rng.below(3) as usize];
        let result =
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| session(kind, &mut rng)));
        assert!(result.is_ok(), "SEED={seed}");
    }
}

fn session(kind: &Kind, rng: &mut Rng) {
    let (mut client, mut oracle, [mut ours, mut told, mut told_by_us]) = kind.shake();
    let mut reading = Reading::default();
    let mut updates = 0;
    for _ in 0..rng.below(12) {
        // The client speaks: data in records of any length, key updates, the end.
        let mut bytes = Vec::new();
        for _ in 0..1 + rng.below(4) {
            match rng.below(10) {
                0 if updates < 10 => {
                    updates += 1;
                    client.refresh_traffic_keys().unwrap();
                }
                1 => client.writer().write_all(&vec![7; 20_000]).unwrap(),
                _ => {
                    let len = [1, 20, 500, 16_384][rng.below(4) as usize];
                    let data: Vec<u8> = (0..rng.below(len)).map(|_| rng.next_u64() as u8).collect();
                    client.writer().write_all(&data).unwrap();
                }
            }
            bytes.extend(client.take());
        }
        let is_last = rng.chance(10);
        if is_last {
            client.send_close_notify();
            bytes.extend(client.take());
        }
        let is_changed = rng.chance(10) && !bytes.is_empty();
        if is_changed {
            // The body of a record: of the header rustls judges the version too.
            let at = rng.below(bytes.len() as u64) as usize;
            let mut start = 0;
            let len_at = |start: usize| {
                5 + usize::from(u16::from_be_bytes([bytes[start + 3], bytes[start + 4]]))
            };
            while start + len_at(start) <= at {
                start += len_at(start);
            }
            let at = at.max(start + 5);
            bytes[at] ^= 1 << rng.below(8);
        }
        let from = reading.plain.len();
        reading.take_in_pieces(&mut ours, &bytes, rng);
        match oracle.process(&bytes) {
            Ok((plain, is_over)) => {
                assert!(!is_changed, "nothing that was changed is taken");
                assert_eq!(reading.plain[from..], plain);
                assert_eq!(reading.ended, is_over.then_some(Ended::Closed));
            }
            Err(error) => {
                assert!(matches!(reading.ended, Some(Ended::Fault(_))), "{error}");
                let alert = said(&mut told, oracle.take());
                let own = std::mem::take(&mut reading.own);
                assert_eq!(said(&mut told_by_us, own), alert, "{error}");
                return;
            }
        }
        // What each server answers to key updates comes first, then data.
        let mut answer = std::mem::take(&mut reading.own);
        let data: Vec<u8> = (0..rng.below(40_000)).map(|at| at as u8).collect();
        let mut sealed = 0;
        while sealed < data.len() {
            let cut = sealed + rng.below((data.len() - sealed) as u64 + 1) as usize;
            let slices = [IoSlice::new(&data[..cut]), IoSlice::new(&data[cut..])];
            sealed += ours.seal_data(&slices, sealed, &mut answer);
            if rng.chance(5) {
                ours.update(&mut answer);
            }
        }
        // The client of rustls reads what we have sealed.
        assert_eq!(client.process(&answer).unwrap(), (data, false));
        // What the client says to that is heard by us alone.
        let heard = client.take();
        assert!(heard.is_empty(), "it was asked nothing");
        skip(&mut told, oracle.take());
        if is_last {
            let mut last = Vec::new();
            ours.close(&mut last);
            assert_eq!(client.process(&last).unwrap(), (Vec::new(), true));
            return;
        }
        // The other sessions in the client's place hear all, so that they can read the last word.
        skip(&mut told_by_us, answer);
    }
}

/// Reads what a server has said, to be able to go on.
fn skip(session: &mut Session, mut records: Vec<u8>) {
    let opened = session.open(Instant::from_millis(0), &mut records, &mut Vec::new());
    assert_eq!((opened.used, opened.ended), (records.len(), None));
}

/// Gives the alert that a server ends with.
fn said(session: &mut Session, mut records: Vec<u8>) -> u8 {
    let opened = session.open(Instant::from_millis(0), &mut records, &mut Vec::new());
    match opened.ended {
        Some(Ended::ByPeer(alert)) => alert,
        other => panic!("{other:?}"),
    }
}

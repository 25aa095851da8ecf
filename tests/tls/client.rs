//! A client that speaks TLS by rustls, and the certificates of the tests.

// Each test takes what it needs.
#![allow(dead_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::Resumption;
use rustls::crypto::ring::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::common::frame;
use crate::common::http::upgrade_request;

/// The folder of certificates, with a slash behind it.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/certificates/");

/// Gives the path of one of the files.
pub fn file(name: &str) -> String {
    format!("{FOLDER}{name}")
}

/// Gives the settings of a server that speaks TLS, and further ones.
pub fn settings(more: &[(&'static str, String)]) -> Vec<(&'static str, String)> {
    let own = [
        ("listen", "tls:127.0.0.1:0".to_owned()),
        ("tls.certificate", file("server.crt")),
        ("tls.key", file("server.key")),
    ];
    own.into_iter().chain(more.iter().cloned()).collect()
}

/// Gives them as servers of tests take them.
pub fn borrowed<'a>(settings: &'a [(&'static str, String)]) -> Vec<(&'static str, &'a str)> {
    settings.iter().map(|(name, text)| (*name, &**text)).collect()
}

pub fn chain(name: &str) -> Vec<CertificateDer<'static>> {
    let found = CertificateDer::pem_file_iter(file(name)).expect("it is there");
    found.map(|certificate| certificate.expect("it is PEM")).collect()
}

pub fn key(name: &str) -> PrivateKeyDer<'static> {
    PrivateKeyDer::from_pem_file(file(name)).expect("it is there")
}

/// Makes the configuration of a client that trusts the CA of the tests, and shows a certificate of
/// this name if one is named.
pub fn config(certificate: Option<&str>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(chain("ca.crt").remove(0)).expect("it is a CA");
    let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("there is one")
        .with_root_certificates(roots);
    let mut config = match certificate {
        None => builder.with_no_client_auth(),
        Some(name) => builder
            .with_client_auth_cert(chain(&format!("{name}.crt")), key(&format!("{name}.key")))
            .expect("they fit"),
    };
    config.resumption = Resumption::disabled();
    config
}

/// One connection.
pub struct TlsClient {
    pub stream: StreamOwned<ClientConnection, TcpStream>,
}

impl TlsClient {
    pub fn connect(address: SocketAddr) -> TlsClient {
        TlsClient::connect_with(address, &Arc::new(config(None)), "localhost")
    }

    pub fn connect_with(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> TlsClient {
        let stream = TcpStream::connect(address).expect("the server accepts");
        stream.set_nodelay(true).expect("it is TCP");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        stream.set_write_timeout(Some(PATIENCE)).expect("it is a socket");
        let name = name.to_owned().try_into().expect("it is a name");
        let tls = ClientConnection::new(config.clone(), name).expect("it is sound");
        TlsClient { stream: StreamOwned::new(tls, stream) }
    }

    /// Does the handshake alone.
    pub fn shake(&mut self) -> io::Result<()> {
        while self.stream.conn.is_handshaking() {
            self.stream.conn.complete_io(&mut self.stream.sock)?;
        }
        Ok(())
    }

    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).expect("the server takes it");
        self.stream.flush().expect("the server takes it");
    }

    pub fn upgraded(address: SocketAddr, path: &str) -> TlsClient {
        let mut client = TlsClient::connect(address);
        client.upgrade(path);
        client
    }

    #[track_caller]
    pub fn upgrade(&mut self, path: &str) {
        self.send(upgrade_request(path, ""));
        let head = self.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    }

    /// Reads a head, up to its empty line.
    #[track_caller]
    pub fn read_head(&mut self) -> String {
        self.read_until("\r\n\r\n")
    }

    /// Reads up to what ends so.
    #[track_caller]
    pub fn read_until(&mut self, end: &str) -> String {
        let mut text = Vec::new();
        while !text.ends_with(end.as_bytes()) {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap_or_else(|error| {
                panic!("{error} behind {:?}", String::from_utf8_lossy(&text))
            });
            text.extend(byte);
        }
        String::from_utf8(text).expect("it is text")
    }

    /// Asks for a path and gives the answer up to the end of the connection.
    pub fn get(&mut self, path: &str) -> String {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
        let mut answer = String::new();
        self.stream.read_to_string(&mut answer).expect("it ends with close_notify");
        answer
    }

    /// Reads a frame of the server: its first byte and its payload.
    #[track_caller]
    pub fn read_frame(&mut self) -> (u8, Vec<u8>) {
        let mut head = [0; 2];
        self.stream.read_exact(&mut head).expect("a frame comes");
        let mut len = [0; 8];
        match head[1] {
            126 => self.stream.read_exact(&mut len[6..]).expect("a length comes"),
            127 => self.stream.read_exact(&mut len).expect("a length comes"),
            short => len[7] = short,
        }
        let mut payload = vec![0; u64::from_be_bytes(len) as usize];
        self.stream.read_exact(&mut payload).expect("a payload comes");
        (head[0], payload)
    }

    /// Sends a message and awaits the same.
    #[track_caller]
    pub fn assert_echo(&mut self, payload: &[u8]) {
        self.send(frame::frame(0x82, payload));
        assert_eq!(self.read_frame(), (0x82, payload.to_vec()));
    }

    /// Reads to the end. An end without close_notify is an error.
    pub fn read_to_end(&mut self) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        self.stream.read_to_end(&mut all).map(|_| all)
    }

    /// Says whether the server ended the connection by an alert or a FIN, and how.
    pub fn ended_by(&mut self) -> String {
        match self.shake().and_then(|()| self.read_to_end().map(drop)) {
            Ok(()) => "close_notify".into(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("it never ended"),
            Err(error) => error.to_string(),
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(10);

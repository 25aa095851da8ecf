//! The socket of a client, with TLS above it where the server speaks that: with `TLS=1` the servers
//! of the tests do, and the tests that know only [`Client`](super::client::Client) need not know.

use std::collections::HashSet;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpStream};
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, OnceLock};

use rustls::crypto::ring::default_provider;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use super::timing::lock;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/certificates/");

/// Gives the keys of a server that is to speak TLS at an address, which is its own: none without
/// `TLS=1`.
pub fn settings(address: &str) -> Vec<(&'static str, String)> {
    if std::env::var_os("TLS").is_none_or(|text| text != "1") {
        return Vec::new();
    }
    let own: SocketAddr = address.parse().expect("it is an address and a port");
    lock(sealed()).insert(own.ip());
    vec![
        ("listen", format!("tls:{address}")),
        ("tls.certificate", format!("{FOLDER}server.crt")),
        ("tls.key", format!("{FOLDER}server.key")),
    ]
}

/// The addresses at which servers of this process speak TLS.
fn sealed() -> &'static Mutex<HashSet<IpAddr>> {
    static SEALED: OnceLock<Mutex<HashSet<IpAddr>>> = OnceLock::new();
    SEALED.get_or_init(Mutex::default)
}

/// A socket, read and written in the clear.
#[derive(Debug)]
pub struct Link {
    stream: TcpStream,
    tls: Option<Arc<Tls>>,
}

#[derive(Debug)]
struct Tls {
    connection: Mutex<ClientConnection>,
    /// What has come in the clear: rustls keeps 16 KiB of it at most. Taken after `connection`.
    plain: Mutex<Vec<u8>>,
    /// Sealed, and not with the kernel. Taken before `connection`, so that records go out in order.
    unsent: Mutex<Vec<u8>>,
}

impl Link {
    /// Speaks with the server at an address as that speaks.
    pub fn over(stream: TcpStream, address: SocketAddr) -> Link {
        let is_sealed = lock(sealed()).contains(&address.ip());
        Link { stream, tls: is_sealed.then(|| Arc::new(Tls::new())) }
    }

    pub fn try_clone(&self) -> io::Result<Link> {
        Ok(Link { stream: self.stream.try_clone()?, tls: self.tls.clone() })
    }

    /// As that of the socket; close_notify goes before a FIN.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if let Some(tls) = self.tls.as_ref().filter(|_| how != Shutdown::Read) {
            let mut unsent = lock(&tls.unsent);
            let mut connection = lock(&tls.connection);
            connection.send_close_notify();
            take_sealed(&mut connection, &mut unsent);
            drop(connection);
            let _ = send(&self.stream, &mut unsent);
        }
        self.stream.shutdown(how)
    }

    /// Looks whether anything has come in the clear, or the end: no bytes are given.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = self.tls.as_ref().filter(|tls| !tls.is_handshaking()) else {
            return self.stream.peek(buffer);
        };
        loop {
            match tls.open(&mut []) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                opened => return opened,
            }
            tls.take_in(&self.stream)?;
        }
    }
}

impl Tls {
    fn new() -> Tls {
        let mut roots = RootCertStore::empty();
        let ca = CertificateDer::from_pem_file(format!("{FOLDER}ca.crt")).expect("it is there");
        roots.add(ca).expect("it is a CA");
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("there is one")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = "localhost".try_into().expect("it is a name");
        let mut connection = ClientConnection::new(Arc::new(config), name).expect("it is sound");
        connection.set_buffer_limit(None);
        Tls {
            connection: Mutex::new(connection),
            plain: Mutex::default(),
            unsent: Mutex::default(),
        }
    }

    /// Gives what has come in the clear. An end without the last word is an error behind the
    /// handshake: no connection in order ends so.
    fn open(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut connection = lock(&self.connection);
        let mut plain = lock(&self.plain);
        if plain.is_empty() {
            // No bytes are left there: what comes of it is the end, or that there is none yet.
            return connection.reader().read(&mut [0]);
        }
        let len = plain.len().min(buffer.len());
        buffer[..len].copy_from_slice(&plain[..len]);
        plain.drain(..len);
        Ok(len)
    }

    fn is_handshaking(&self) -> bool {
        lock(&self.connection).is_handshaking()
    }

    /// Reads from the socket once. Says whether it has ended.
    fn take_in(&self, mut stream: &TcpStream) -> io::Result<bool> {
        let mut buffer = [0; 64 * 1024];
        let len = stream.read(&mut buffer)?;
        let mut unsent = lock(&self.unsent);
        let mut connection = lock(&self.connection);
        let mut left = &buffer[..len];
        loop {
            connection.read_tls(&mut left)?;
            let state = connection.process_new_packets();
            let state = state.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
            let mut plain = lock(&self.plain);
            let from = plain.len();
            plain.resize(from + state.plaintext_bytes_to_read(), 0);
            connection.reader().read_exact(&mut plain[from..])?;
            drop(plain);
            if left.is_empty() {
                break;
            }
        }
        take_sealed(&mut connection, &mut unsent);
        drop(connection);
        let _ = send(stream, &mut unsent);
        Ok(len == 0)
    }

    /// Does the handshake. Says whether the socket has ended meanwhile.
    fn shake(&self, stream: &TcpStream) -> io::Result<bool> {
        while self.is_handshaking() {
            let mut unsent = lock(&self.unsent);
            take_sealed(&mut lock(&self.connection), &mut unsent);
            send(stream, &mut unsent)?;
            drop(unsent);
            if self.take_in(stream)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

fn take_sealed(connection: &mut ClientConnection, unsent: &mut Vec<u8>) {
    while connection.wants_write() {
        connection.write_tls(unsent).expect("memory takes it");
    }
}

/// Sends what waits, as far as the socket takes it.
fn send(mut stream: &TcpStream, unsent: &mut Vec<u8>) -> io::Result<()> {
    while !unsent.is_empty() {
        match stream.write(unsent) {
            Ok(len) => drop(unsent.drain(..len)),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

impl Read for Link {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.stream.read(buffer) };
        if tls.shake(&self.stream)? {
            return Ok(0);
        }
        loop {
            match tls.open(buffer) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    tls.take_in(&self.stream)?;
                }
                opened => return opened,
            }
        }
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &self.tls else { return self.stream.write(bytes) };
        if tls.shake(&self.stream)? {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let mut unsent = lock(&tls.unsent);
        send(&self.stream, &mut unsent)?;
        let mut connection = lock(&tls.connection);
        let taken = connection.writer().write(&bytes[..bytes.len().min(1 << 14)])?;
        take_sealed(&mut connection, &mut unsent);
        drop(connection);
        match send(&self.stream, &mut unsent) {
            // What is sealed goes out first the next time.
            Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Deref for Link {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

impl AsFd for Link {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

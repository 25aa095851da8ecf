//! TLS 1.3 of a client: the handshake by rustls, and after it the keys alone, as the server has
//! them ([`wire::tls`](crate::core::wire::tls)).

use std::io::{self, ErrorKind, IoSlice, Read};
use std::sync::Arc;

use mio::net::TcpStream;
use rustls::client::UnbufferedClientConnection;
use rustls::pki_types::ServerName;
use rustls::unbuffered::UnbufferedStatus;
use rustls::{ClientConfig, ConnectionTrafficSecrets, Error};

use crate::core::client::Why;
use crate::core::ground::time::Instant;
use crate::core::transport::Transport as _;
use crate::core::wire::tls::{Ended, RECORD_BYTES_MAX, Session, Suite, record_len};
use crate::io::transport::Plain;
use crate::io::transport::tls::take;
use crate::system::tls::Secrets;

/// A connection over TLS.
#[derive(Debug)]
pub(super) struct Tls {
    pub stream: TcpStream,
    state: State,
    /// Sealed, and not with the kernel.
    held: Vec<u8>,
    /// What has come of a record that is not complete.
    partial: Vec<u8>,
    /// The last byte that was sealed has not been reported as taken.
    owes: bool,
    /// The server has said that nothing follows.
    has_ended: bool,
}

#[derive(Debug)]
enum State {
    Shaking(Box<Shaking>),
    Open(Box<Session>),
    Broken,
}

struct Shaking {
    connection: UnbufferedClientConnection,
    input: Vec<u8>,
    secrets: Secrets,
}

impl std::fmt::Debug for Shaking {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Shaking")
    }
}

impl Tls {
    /// Begins a handshake with the server of this name, or address.
    pub fn new(stream: TcpStream, config: Arc<ClientConfig>, name: &str) -> Result<Tls, Why> {
        let name = ServerName::try_from(name.to_owned());
        let name = name.map_err(|error| Why::Certificate(error.to_string()))?;
        let connection = UnbufferedClientConnection::new(config, name).map_err(why)?;
        let (input, secrets) = (Vec::new(), Secrets::default());
        let state = State::Shaking(Box::new(Shaking { connection, input, secrets }));
        Ok(Tls {
            stream,
            state,
            held: Vec::new(),
            partial: Vec::new(),
            owes: false,
            has_ended: false,
        })
    }

    /// Goes on with the handshake. Returns whether it is done; `false` waits for the socket.
    pub fn shake(&mut self) -> Result<bool, Why> {
        loop {
            let shaken = match &mut self.state {
                State::Shaking(shaking) => shaking.step(&mut self.held),
                State::Open(_) => return Ok(true),
                State::Broken => return Ok(false),
            };
            let sent = self.flush();
            let is_done = shaken.inspect_err(|_| self.state = State::Broken)?;
            match sent {
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Err(Why::Tls(error.to_string()));
                }
                _ => {}
            }
            if is_done {
                self.agree()?;
                return Ok(true);
            }
            let State::Shaking(shaking) = &mut self.state else { continue };
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Why::Tls("the server closed".into())),
                Ok(len) => shaking.input.extend_from_slice(&buffer[..len]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(false),
                    ErrorKind::Interrupted => {}
                    _ => return Err(Why::Tls(error.to_string())),
                },
            }
            if shaking.input.len() > INPUT_BYTES_MAX {
                return Err(Why::Tls("the server's part of the handshake is too long".into()));
            }
        }
    }

    /// Throws all of the handshake away but the keys.
    fn agree(&mut self) -> Result<(), Why> {
        let State::Shaking(shaking) = std::mem::replace(&mut self.state, State::Broken) else {
            return Ok(());
        };
        let Shaking { connection, input, mut secrets } = *shaking;
        let (keys, _) = connection.dangerous_into_kernel_connection().map_err(why)?;
        let suite = match &keys.tx.1 {
            ConnectionTrafficSecrets::Aes128Gcm { .. } => Suite::Aes128,
            ConnectionTrafficSecrets::Aes256Gcm { .. } => Suite::Aes256,
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Suite::ChaCha20,
            _ => return Err(why(Error::HandshakeNotComplete)),
        };
        let (Some(sent), Some(received)) = (secrets.client.take(), secrets.server.take()) else {
            return Err(why(Error::HandshakeNotComplete));
        };
        let mut session = Session::new(suite, (&received, keys.rx.0), (&sent, keys.tx.0));
        session.marks |= Session::TAKES_TICKETS;
        self.state = State::Open(session);
        self.partial = input;
        Ok(())
    }

    /// Returns whether something is sealed that is not with the kernel.
    pub fn wants_write(&self) -> bool {
        !self.held.is_empty()
    }

    /// Returns whether the server has said that nothing follows.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Reads and opens records: the plaintext stands at the front of `buffer`, which has room for
    /// two records. `Ok(None)`: the server has ended its side.
    pub fn read(&mut self, now: Instant, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let State::Open(session) = &mut self.state else {
            return Err(ErrorKind::WouldBlock.into());
        };
        if self.has_ended {
            return Ok(None);
        }
        let have = self.partial.len();
        debug_assert!(buffer.len() >= 2 * RECORD_BYTES_MAX && have <= INPUT_BYTES_MAX);
        buffer[..have].copy_from_slice(&self.partial);
        let has_record = record_len(&self.partial).is_some_and(|len| len <= have);
        let read = match self.stream.read(&mut buffer[have..]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && has_record => 0,
            Ok(0) if !has_record => return Ok(None),
            read => read?,
        };
        self.partial = Vec::new();
        let end = have + read;
        let mut own = Vec::new();
        let opened = session.open(now, &mut buffer[..end], &mut own);
        self.held.append(&mut own);
        if opened.used < end && opened.ended.is_none() {
            self.partial = buffer[opened.used..end].to_vec();
        }
        match opened.ended {
            None => {}
            // What came before it counts first; the next read finds the end.
            Some(Ended::Closed) => self.has_ended = true,
            Some(ended) => {
                let _ = self.flush();
                self.state = State::Broken;
                let text = match ended {
                    Ended::ByPeer(alert) => format!("the server says alert {alert}"),
                    Ended::Fault(alert) => format!("a bad record: {}", alert.label()),
                    Ended::Closed => unreachable!("it is no fault"),
                };
                return Err(io::Error::new(ErrorKind::InvalidData, text));
            }
        }
        match opened.plain {
            // A ticket, or a key update: more may wait.
            0 => Err(ErrorKind::Interrupted.into()),
            plain => Ok(Some(plain)),
        }
    }

    /// Seals, and writes as much as the kernel takes. The last byte counts as taken only when all
    /// that is sealed is with the kernel.
    pub fn write(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.flush()?;
        let State::Open(session) = &mut self.state else {
            return Err(ErrorKind::WouldBlock.into());
        };
        let asked: usize = slices.iter().map(|slice| slice.len()).sum();
        let mut sealed = usize::from(std::mem::take(&mut self.owes));
        if sealed < asked {
            let len = session.seal_data(slices, sealed, &mut self.held);
            if len == 0 {
                return Err(ErrorKind::InvalidData.into());
            }
            sealed += len;
        }
        match self.flush() {
            Ok(()) => Ok(sealed.min(asked)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                self.owes = true;
                match sealed - 1 {
                    0 => Err(error),
                    taken => Ok(taken),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Writes what is held.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.held.is_empty() {
            match Plain(&mut self.stream).write(&[IoSlice::new(&self.held)]) {
                Ok(written) => drop(self.held.drain(..written.taken)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.held = Vec::new();
        Ok(())
    }

    /// Says that nothing follows, as far as one write goes.
    pub fn say_last(&mut self) {
        if let State::Open(session) = &mut self.state {
            session.close(&mut self.held);
            let _ = self.flush();
        }
    }
}

impl Shaking {
    /// Takes all steps that what has come allows. Returns whether the handshake is done.
    fn step(&mut self, output: &mut Vec<u8>) -> Result<bool, Why> {
        let mut seen = 0;
        loop {
            // Record by record, so that what comes behind the handshake is left alone.
            loop {
                let status = self.connection.process_tls_records(&mut self.input[..seen]);
                let UnbufferedStatus { discard, state, .. } = status;
                let stepped = state.map(|state| take(state, output));
                self.secrets.take_logged();
                self.input.drain(..discard);
                seen -= discard;
                match stepped {
                    Ok(true) => break,
                    Ok(false) => {}
                    Err(error) => {
                        self.take_last_words(seen, output);
                        return Err(why(error));
                    }
                }
            }
            if !self.connection.is_handshaking() {
                return Ok(true);
            }
            let rest = &self.input[seen..];
            match record_len(rest) {
                Some(len) if len <= rest.len() => seen += len,
                Some(len) if len > RECORD_BYTES_MAX => {
                    return Err(Why::Tls("the server speaks no TLS".into()));
                }
                _ => return Ok(false),
            }
        }
    }

    /// Takes the alert that tells the server of an error.
    fn take_last_words(&mut self, seen: usize, output: &mut Vec<u8>) {
        for _ in 0..4 {
            let status = self.connection.process_tls_records(&mut self.input[..seen]);
            let Ok(state) = status.state else { break };
            if take(state, output) {
                break;
            }
        }
        self.secrets.take_logged();
    }
}

fn why(error: Error) -> Why {
    match error {
        Error::InvalidCertificate(error) => Why::Certificate(error.to_string()),
        error => Why::Tls(error.to_string()),
    }
}

/// The most that is kept of what comes in the server's flight, and of a record.
const INPUT_BYTES_MAX: usize = 64 << 10;

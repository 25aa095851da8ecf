//! A handshake, and the steps of it that take long: signatures, key exchanges, certificates. A step
//! runs wherever it is called, on a worker or on the loop.

use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{ConnectionState, EncodeError, InsufficientSizeError, UnbufferedStatus};
use rustls::{ConnectionTrafficSecrets, Error, HandshakeKind, PeerIncompatible};

use crate::core::wire::tls::{Certificate, OVERHEAD_BYTES, Secret, Suite, record_len};
use crate::system::tls::{Acceptor, Secrets, unix_seconds_now};

/// A handshake under way.
pub(crate) struct Shake {
    connection: Box<UnbufferedServerConnection>,
    /// What has come and is not used.
    pub input: Vec<u8>,
    /// How much of it the connection has seen: whole records.
    seen: usize,
    /// What the peer is to be sent.
    pub output: Vec<u8>,
    secrets: Secrets,
}

/// What became of a step.
pub(crate) enum Step {
    /// The peer must say more.
    Waits(Box<Shake>),
    /// The handshake is done.
    Done(Box<Agreed>),
    /// It has failed; the peer is sent these bytes.
    Failed(Failure, Vec<u8>),
}

/// What stays of a handshake.
pub(crate) struct Agreed {
    pub suite: Suite,
    /// Of each direction the secret, and how many records were sealed with it.
    pub received: (Secret, u64),
    pub sent: (Secret, u64),
    /// What the peer is still to be sent, sealed: tickets.
    pub output: Vec<u8>,
    /// What came behind the handshake.
    pub input: Vec<u8>,
    pub is_resumed: bool,
    /// What the client has shown.
    pub certificate: Option<Box<Certificate>>,
}

/// Why a handshake has failed: a label for metrics, a sentence for the log.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    pub label: &'static str,
    pub text: String,
}

impl Shake {
    /// Begins with what has come so far.
    pub fn new(acceptor: &Acceptor, input: Vec<u8>) -> Result<Box<Shake>, Failure> {
        let connection = UnbufferedServerConnection::new(acceptor.config.clone());
        let connection = connection.map_err(|error| Failure::of(&error))?;
        Ok(Box::new(Shake {
            connection: Box::new(connection),
            input,
            seen: 0,
            output: Vec::new(),
            secrets: Secrets::default(),
        }))
    }

    /// Returns whether there is something for a step.
    pub fn is_ready(&self) -> bool {
        let rest = &self.input[self.seen..];
        // What is too long to be one is judged at once.
        record_len(rest).is_some_and(|len| len <= rest.len() || len > LONGEST)
    }

    /// Takes all steps that what has come allows.
    pub fn step(mut self: Box<Shake>) -> Step {
        let advanced = self.advance();
        match advanced {
            Ok(false) => {
                self.input.shrink_to_fit();
                self.output.shrink_to_fit();
                Step::Waits(self)
            }
            Ok(true) => match self.agree() {
                Ok(agreed) => Step::Done(Box::new(agreed)),
                Err(failure) => Step::Failed(failure, Vec::new()),
            },
            Err(error) => {
                self.take_last_words();
                Step::Failed(Failure::of(&error), std::mem::take(&mut self.output))
            }
        }
    }

    /// Goes on record by record, so that what comes behind the handshake is left alone. Says
    /// whether the handshake is done.
    fn advance(&mut self) -> Result<bool, Error> {
        loop {
            self.drain_output()?;
            if !self.connection.is_handshaking() {
                return Ok(true);
            }
            if !self.is_ready() {
                return Ok(false);
            }
            let rest = &self.input[self.seen..];
            let len = record_len(rest).expect("it is ready").min(rest.len());
            self.seen += len;
        }
    }

    /// Has the connection look at what it may see, and takes what it has to say.
    fn drain_output(&mut self) -> Result<(), Error> {
        loop {
            let status = self.connection.process_tls_records(&mut self.input[..self.seen]);
            let UnbufferedStatus { discard, state, .. } = status;
            let is_over = match state {
                Ok(state) => take(state, &mut self.output),
                Err(error) => {
                    self.secrets.take_logged();
                    self.discard(discard);
                    return Err(error);
                }
            };
            self.secrets.take_logged();
            self.discard(discard);
            if is_over {
                return Ok(());
            }
        }
    }

    /// Takes what the peer is told of an error, up to the alert. Behind it the connection would
    /// look at the same bytes again, and fail again.
    fn take_last_words(&mut self) {
        let mut is_told = false;
        while !is_told {
            let from = self.output.len();
            let status = self.connection.process_tls_records(&mut self.input[..self.seen]);
            let Ok(state @ ConnectionState::EncodeTlsData(_)) = status.state else { break };
            take(state, &mut self.output);
            is_told = is_alert(&self.output[from..]);
        }
        self.secrets.take_logged();
    }

    fn discard(&mut self, len: usize) {
        self.input.drain(..len);
        self.seen -= len;
    }

    /// Throws all away but the keys.
    fn agree(mut self) -> Result<Agreed, Failure> {
        let is_resumed = self.connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let leaf = self.connection.peer_certificates().and_then(<[_]>::first);
        let certificate = match leaf.map(|leaf| Certificate::read(leaf)) {
            None => None,
            // A session that is resumed does not outlive its certificate.
            Some(Some(leaf)) if leaf.not_after >= unix_seconds_now() => Some(Box::new(leaf)),
            Some(_) => {
                let text = "the certificate of the client has expired, or cannot be read".into();
                return Err(Failure { label: "bad_certificate", text });
            }
        };
        debug_assert_eq!(self.seen, 0, "all of the handshake was used");
        let kept = (*self.connection).dangerous_into_kernel_connection();
        let (keys, _) = kept.map_err(|error| Failure::of(&error))?;
        let suite = match &keys.tx.1 {
            ConnectionTrafficSecrets::Aes128Gcm { .. } => Suite::Aes128,
            ConnectionTrafficSecrets::Aes256Gcm { .. } => Suite::Aes256,
            ConnectionTrafficSecrets::Chacha20Poly1305 { .. } => Suite::ChaCha20,
            _ => return Err(Failure::of(&Error::HandshakeNotComplete)),
        };
        let (Some(received), Some(sent)) = (self.secrets.client.take(), self.secrets.server.take())
        else {
            return Err(Failure::of(&Error::HandshakeNotComplete));
        };
        let (received, sent) = ((received, keys.rx.0), (sent, keys.tx.0));
        let mut input = std::mem::take(&mut self.input);
        input.shrink_to_fit();
        let output = std::mem::take(&mut self.output);
        Ok(Agreed { suite, received, sent, output, input, is_resumed, certificate })
    }
}

/// Returns whether a record is an alert, in plain text or, as its length says, sealed.
fn is_alert(record: &[u8]) -> bool {
    const SEALED: usize = OVERHEAD_BYTES + 2;
    matches!((record.first(), record.len()), (Some(21), _) | (Some(23), SEALED))
}

/// Takes what the connection has to say. Returns whether it has nothing more to say for now.
pub(crate) fn take<Data>(state: ConnectionState<'_, '_, Data>, output: &mut Vec<u8>) -> bool {
    match state {
        ConnectionState::EncodeTlsData(mut data) => {
            let from = output.len();
            let mut room = 4096;
            loop {
                output.resize(from + room, 0);
                match data.encode(&mut output[from..]) {
                    Ok(len) => break output.truncate(from + len),
                    Err(EncodeError::InsufficientSize(InsufficientSizeError { required_size })) => {
                        room = required_size
                    }
                    Err(EncodeError::AlreadyEncoded) => break output.truncate(from),
                }
            }
            false
        }
        ConnectionState::TransmitTlsData(data) => {
            data.done();
            false
        }
        _ => true,
    }
}

impl Failure {
    fn of(error: &Error) -> Failure {
        let label = match error {
            Error::AlertReceived(_) => "alert",
            Error::NoApplicationProtocol => "no_application_protocol",
            Error::NoCertificatesPresented => "no_certificate",
            Error::InvalidCertificate(_) => "bad_certificate",
            Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => "no_cipher",
            Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::ServerDoesNotSupportTls12Or13,
            ) => "version",
            // The name that was asked for is none of ours, and there is no other.
            Error::General(text) if text.contains("no server certificate") => "no_name",
            _ => "protocol",
        };
        Failure { label, text: error.to_string() }
    }
}

/// No record of a handshake is longer than this: 2^14 and what sealing adds.
const LONGEST: usize = crate::core::wire::tls::RECORD_BYTES_MAX;

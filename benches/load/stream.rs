//! What bears the bytes of a connection: TCP, or TLS 1.3 over it, by rustls's own client. No
//! certificate is judged: the generator measures, and has nothing to lose.

use std::io::{self, Read, Write};

use mio::net::TcpStream;

#[cfg(feature = "tls")]
type TlsStream = rustls::StreamOwned<rustls::ClientConnection, TcpStream>;

pub enum Stream {
    Plain(TcpStream),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream>),
}

impl Stream {
    /// Has TLS be spoken over it, if it should.
    ///
    /// # Errors
    ///
    /// If this build has none.
    pub fn new(tcp: TcpStream, is_tls: bool) -> io::Result<Stream> {
        match is_tls {
            false => Ok(Stream::Plain(tcp)),
            #[cfg(feature = "tls")]
            true => tls::stream(tcp),
            #[cfg(not(feature = "tls"))]
            true => Err(io::Error::other(NO_TLS)),
        }
    }

    pub fn is_plain(&self) -> bool {
        matches!(self, Stream::Plain(_))
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => &stream.sock,
        }
    }

    pub fn socket_mut(&mut self) -> &mut TcpStream {
        match self {
            Stream::Plain(stream) => stream,
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => &mut stream.sock,
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.read(buffer),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => stream.write(bytes),
            #[cfg(feature = "tls")]
            // It takes nothing while its own buffer is full.
            Stream::Tls(stream) => match stream.write(bytes)? {
                0 => Err(io::ErrorKind::WouldBlock.into()),
                taken => Ok(taken),
            },
        }
    }

    /// Over TLS what was taken may still wait to be sent.
    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(_) => Ok(()),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) if !stream.conn.wants_write() => Ok(()),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.flush(),
        }
    }
}

/// The settings with which the program speaks TLS.
pub fn settings() -> Vec<String> {
    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/certificates");
    let file = |key: &str, name: &str| format!("{key}={FOLDER}/{name}");
    vec![
        "listen=tls:127.0.0.1:0".to_owned(),
        file("tls.certificate", "server.crt"),
        file("tls.key", "server.key"),
    ]
}

#[cfg_attr(feature = "tls", expect(dead_code))]
pub const NO_TLS: &str = "this build has no TLS: cargo bench --features tls --bench load";

#[cfg(feature = "tls")]
#[path = "../../tests/tls/anyone.rs"]
mod anyone;

#[cfg(feature = "tls")]
mod tls {
    use std::io;
    use std::sync::{Arc, LazyLock};

    use mio::net::TcpStream;
    use rustls::StreamOwned;
    use rustls::client::{ClientConfig, ClientConnection, Resumption};
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::ServerName;

    use super::Stream;
    use super::anyone::Anyone;

    /// Every handshake is a full one.
    static CONFIG: LazyLock<Arc<ClientConfig>> = LazyLock::new(|| {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()));
        let builder = builder.with_safe_default_protocol_versions().expect("there is one");
        let builder = builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone));
        let mut config = builder.with_no_client_auth();
        config.resumption = Resumption::disabled();
        Arc::new(config)
    });

    pub fn stream(tcp: TcpStream) -> io::Result<Stream> {
        let name = ServerName::try_from("localhost").expect("it is a name");
        let connection = ClientConnection::new(CONFIG.clone(), name).map_err(io::Error::other)?;
        Ok(Stream::Tls(Box::new(StreamOwned::new(connection, tcp))))
    }
}

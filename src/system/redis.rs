//! A connection to Redis that blocks: over TCP, TLS or a Unix socket.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::core::config::{Credentials, RedisPlace, RedisUrl, Sentinels};
use crate::core::wire::resp::{Decoder, Fault, Value, write_command};

/// What keeps a connection from being made or used, in words.
#[derive(Debug)]
pub(crate) enum LinkError {
    /// The connection, or what came by it.
    Broken(String),
    /// An answer took more than it may.
    TooLarge,
}

impl LinkError {
    pub fn sentence(&self) -> String {
        match self {
            LinkError::Broken(sentence) => sentence.clone(),
            LinkError::TooLarge => Fault::TooLarge.to_string(),
        }
    }
}

impl From<io::Error> for LinkError {
    fn from(error: io::Error) -> LinkError {
        match is_late(&error) {
            true => LinkError::Broken("no answer in time".into()),
            false => LinkError::Broken(error.to_string()),
        }
    }
}

impl From<Fault> for LinkError {
    fn from(fault: Fault) -> LinkError {
        match fault {
            Fault::TooLarge => LinkError::TooLarge,
            Fault::Garbage => LinkError::Broken(fault.to_string()),
        }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Link {
    stream: Stream,
    decoder: Decoder,
    buffer: Box<[u8]>,
    out: Vec<u8>,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
    #[cfg(feature = "tls")]
    Tls(Box<rustls::StreamOwned<rustls::ClientConnection, TcpStream>>),
}

/// Ends a connection from another thread.
#[derive(Debug)]
pub(crate) enum Closer {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Closer {
    pub fn close(&self) {
        // It may have ended by itself.
        let _ = match self {
            Closer::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Closer::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

impl Link {
    /// Connects to the master. Sentinels are asked anew each time, one after the other.
    ///
    /// # Errors
    ///
    /// Why there is no connection.
    pub fn connect(
        url: &RedisUrl,
        (bytes_max, answer_max): (u64, usize),
    ) -> Result<Link, LinkError> {
        let make = |stream| Link {
            stream,
            decoder: Decoder::new(bytes_max, answer_max),
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            out: Vec::new(),
        };
        let mut link = match &url.place {
            RedisPlace::Tcp(host, port) => make(Stream::Tcp(dial(host, *port)?)),
            RedisPlace::Unix(path) => {
                // A Redis that stands still takes no connection: that must not hold the thread.
                let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
                socket.connect_timeout(&SockAddr::unix(path)?, STEP_MAX)?;
                socket.set_write_timeout(Some(STEP_MAX))?;
                make(Stream::Unix(OwnedFd::from(socket).into()))
            }
            RedisPlace::Tls(host, port) => make(secured(host, *port)?),
            RedisPlace::Sentinel(sentinels) => {
                let (host, port) = ask_sentinels(sentinels, url.credentials.as_ref())?;
                make(match sentinels.is_secure {
                    true => secured(&host, port)?,
                    false => Stream::Tcp(dial(&host, port)?),
                })
            }
        };
        if let Some(credentials) = &url.credentials {
            link.log_in(credentials)?;
        }
        if url.database > 0 {
            let database = url.database.to_string();
            link.ask([b"SELECT".as_slice(), database.as_bytes()])?;
        }
        Ok(link)
    }

    fn log_in(&mut self, credentials: &Credentials) -> Result<(), LinkError> {
        let user = credentials.user.as_deref().map(str::as_bytes);
        let parts = [b"AUTH".as_slice()].into_iter().chain(user);
        self.ask(parts.chain([credentials.password.as_bytes()])).map(|_| ())
    }

    /// Returns what ends the connection from another thread.
    pub fn closer(&self) -> io::Result<Closer> {
        Ok(match &self.stream {
            Stream::Tcp(stream) => Closer::Tcp(stream.try_clone()?),
            Stream::Unix(stream) => Closer::Unix(stream.try_clone()?),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => Closer::Tcp(stream.get_ref().try_clone()?),
        })
    }

    /// Adds a command to what is sent next.
    pub fn queue<'a>(&mut self, parts: impl IntoIterator<Item = &'a [u8]>) {
        write_command(&mut self.out, parts);
    }

    /// Sends what is queued, in [`SEND_MAX`] at most.
    pub fn send(&mut self) -> Result<(), LinkError> {
        let sent = match &mut self.stream {
            Stream::Tcp(stream) => write_all(stream, &self.out),
            Stream::Unix(stream) => write_all(stream, &self.out),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.write_all(&self.out).and_then(|()| stream.flush()),
        };
        self.out.clear();
        self.out.shrink_to(BUFFER_BYTES);
        Ok(sent?)
    }

    /// Waits for the next answer, for at most `wait` in all.
    pub fn receive(&mut self, wait: Duration) -> Result<Value, LinkError> {
        let late = || LinkError::Broken("no answer in time".into());
        self.receive_if_any(wait)?.ok_or_else(late)
    }

    /// Waits for an answer, for at most `wait` in all; that there is none is no fault.
    pub fn receive_if_any(&mut self, wait: Duration) -> Result<Option<Value>, LinkError> {
        let until = Instant::now() + wait;
        loop {
            if let Some(value) = self.decoder.poll() {
                return Ok(Some(value));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(None);
            }
            self.set_read_timeout(left)?;
            let count = match &mut self.stream {
                Stream::Tcp(stream) => stream.read(&mut self.buffer),
                Stream::Unix(stream) => stream.read(&mut self.buffer),
                #[cfg(feature = "tls")]
                Stream::Tls(stream) => stream.read(&mut self.buffer),
            };
            match count {
                Ok(0) => return Err(LinkError::Broken("Redis has ended the connection".into())),
                Ok(count) => self.decoder.feed(&self.buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_late(&error) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Asks, and waits for the answer, which must not be an error.
    pub fn ask<'a>(
        &mut self,
        parts: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Value, LinkError> {
        self.queue(parts);
        self.send()?;
        match self.receive(STEP_MAX)? {
            Value::Error(error) => Err(LinkError::Broken(error)),
            value => Ok(value),
        }
    }

    fn set_read_timeout(&self, wait: Duration) -> io::Result<()> {
        match &self.stream {
            Stream::Tcp(stream) => stream.set_read_timeout(Some(wait)),
            Stream::Unix(stream) => stream.set_read_timeout(Some(wait)),
            #[cfg(feature = "tls")]
            Stream::Tls(stream) => stream.get_ref().set_read_timeout(Some(wait)),
        }
    }
}

/// Writes all, to a peer that takes some of it every now and then, too, but not for long.
fn write_all(stream: &mut impl Write, mut bytes: &[u8]) -> io::Result<()> {
    let until = Instant::now() + SEND_MAX;
    while !bytes.is_empty() {
        match stream.write(bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if !bytes.is_empty() && Instant::now() >= until {
            return Err(io::ErrorKind::TimedOut.into());
        }
    }
    Ok(())
}

/// Returns whether nothing came in time.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Connects to the first address of a host that takes it.
fn dial(host: &str, port: u16) -> Result<TcpStream, LinkError> {
    let mut error = LinkError::Broken(format!("{host} has no address"));
    for address in (host, port).to_socket_addrs()?.take(ADDRESSES_MAX) {
        match TcpStream::connect_timeout(&address, STEP_MAX) {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(STEP_MAX))?;
                return Ok(stream);
            }
            Err(fault) => error = fault.into(),
        }
    }
    Err(error)
}

#[cfg(feature = "tls")]
fn secured(host: &str, port: u16) -> Result<Stream, LinkError> {
    let config = crate::system::tls::redis_client().map_err(LinkError::Broken)?;
    let name = rustls::pki_types::ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| LinkError::Broken(format!("{host} is no name of a server")))?;
    let connection = rustls::ClientConnection::new(config, name);
    let connection = connection.map_err(|error| LinkError::Broken(error.to_string()))?;
    let stream = dial(host, port)?;
    stream.set_read_timeout(Some(STEP_MAX))?;
    let mut stream = rustls::StreamOwned::new(connection, stream);
    // So a handshake that fails is told as what it is.
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(Stream::Tls(Box::new(stream)))
}

#[cfg(not(feature = "tls"))]
fn secured(_: &str, _: u16) -> Result<Stream, LinkError> {
    Err(LinkError::Broken("this build has no TLS: feature `tls`".into()))
}

/// Asks the sentinels where the master is, one after the other.
fn ask_sentinels(
    sentinels: &Sentinels,
    redis: Option<&Credentials>,
) -> Result<(String, u16), LinkError> {
    let mut error = LinkError::Broken("there is no sentinel".into());
    for (host, port) in &sentinels.hosts {
        match ask_sentinel(host, *port, sentinels, redis) {
            Ok(found) => return Ok(found),
            Err(fault) => {
                let sentence = fault.sentence();
                error = LinkError::Broken(format!("sentinel {host}:{port}: {sentence}"));
            }
        }
    }
    Err(error)
}

/// Asks one. It is told a password of its own, or, if it asks for one, that of Redis.
fn ask_sentinel(
    host: &str,
    port: u16,
    sentinels: &Sentinels,
    redis: Option<&Credentials>,
) -> Result<(String, u16), LinkError> {
    let place = match sentinels.is_secure {
        true => RedisPlace::Tls(host.into(), port),
        false => RedisPlace::Tcp(host.into(), port),
    };
    let sentinel = RedisUrl { place, credentials: sentinels.credentials.clone(), database: 0 };
    let mut link = Link::connect(&sentinel, (4096, 64 * 1024))?;
    let master = &sentinels.master;
    let question = || [b"SENTINEL".as_slice(), b"get-master-addr-by-name", master.as_bytes()];
    let mut answer = link.ask(question());
    if let (Err(LinkError::Broken(sentence)), Some(redis)) = (&answer, redis)
        && sentence.starts_with("NOAUTH")
    {
        link.log_in(redis)?;
        answer = link.ask(question());
    }
    let answer = answer?;
    let found = answer.list().and_then(|list| match list {
        [host, port] => Some((host.text()?.to_owned(), port.text()?.parse().ok()?)),
        _ => None,
    });
    found.ok_or_else(|| LinkError::Broken(format!("it knows no master {master}")))
}

/// How long connecting, a write, or the answer to a short question may take.
const STEP_MAX: Duration = Duration::from_secs(2);
/// How long a Redis may take for what is sent to it at once, if it goes on taking some.
const SEND_MAX: Duration = Duration::from_secs(10);
/// How many addresses of a host are tried.
const ADDRESSES_MAX: usize = 4;
const BUFFER_BYTES: usize = 16 * 1024;

//! Tests the peers: `peer-check [NAME...]`, of those in `peers.txt`. A line for each says whether
//! it holds. Exit status 1 if one does not, or is named and has not been built.
//!
//! A peer has to upgrade on any path, and to send back messages of every kind of length, text as
//! text and binary as binary, sixteen of them sent before the first is read. With `--fanout`, what
//! one connection sends has to reach all others, in order, and not itself. It is looked for beside
//! this program, and in `../extra`.

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Duration;
use std::{env, thread};

use tungstenite::client::client_with_config;
use tungstenite::protocol::{Role, WebSocketConfig};
use tungstenite::{Message, WebSocket};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    let named: Vec<String> = env::args().skip(1).collect();
    let mut is_sound = true;
    let mut judge = |name: &str, verdict: Result<&str>| match verdict {
        Ok(verdict) => println!("{name}: {verdict}"),
        Err(error) => {
            is_sound = false;
            println!("{name}: FAILED: {error}");
        }
    };
    let peers: Vec<Peer> = include_str!("../../peers.txt").lines().map(Peer::read).collect();
    for name in &named {
        if !peers.iter().any(|peer| peer.name == name) {
            judge(name, Err("there is no such peer in peers.txt".into()));
        }
    }
    for peer in peers {
        if named.is_empty() || named.iter().any(|name| name == peer.name) {
            judge(peer.name, peer.check(!named.is_empty()));
        }
    }
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line of `peers.txt`.
struct Peer {
    name: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy)]
enum Kind {
    Tcp,
    WebSocket,
}

impl Peer {
    fn read(line: &'static str) -> Peer {
        let mut columns = line.split('\t');
        let name = columns.next().expect("a line has a name");
        let kind = match columns.next() {
            Some("tcp") => Kind::Tcp,
            Some("ws") => Kind::WebSocket,
            other => panic!("{name} is of kind {other:?}"),
        };
        assert_eq!(columns.count(), 1, "{name} has one description");
        Peer { name, kind }
    }

    fn check(&self, must_exist: bool) -> Result<&'static str> {
        let Some(program) = self.program()? else {
            return if must_exist { Err("not built".into()) } else { Ok("not built") };
        };
        let server = Server::start(Command::new(&program))?;
        match self.kind {
            Kind::Tcp => check_echo_of_bytes(server.address)?,
            Kind::WebSocket => check_echo(server.address)?,
        }
        if !FAN_OUT.contains(&self.name) {
            return Ok("ok: echo");
        }
        let mut command = Command::new(&program);
        command.arg("--fanout");
        let server = Server::start(command)?;
        match self.kind {
            Kind::Tcp => check_fan_out_of_bytes(server.address)?,
            Kind::WebSocket => check_fan_out(server.address)?,
        }
        Ok("ok: echo, fan-out")
    }

    fn program(&self) -> Result<Option<PathBuf>> {
        let name = format!("peer-{}", self.name);
        let own = env::current_exe()?;
        let here = own.parent().expect("a program is in a folder");
        let places = [here.join(&name), here.with_file_name("extra").join(&name)];
        Ok(places.into_iter().find(|place| place.exists()))
    }
}

/// A peer that runs until it is dropped.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(mut command: Command) -> Result<Server> {
        command.args(["--listen", "127.0.0.1:0"]).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("it is piped")).read_line(&mut line)?;
        let address = line.trim_end().strip_prefix("listening ").and_then(|text| text.parse().ok());
        let fallback = SocketAddr::from(([0; 4], 0));
        let server = Server { child, address: address.unwrap_or(fallback) };
        match address {
            Some(_) => Ok(server),
            None => Err(format!("it said {line:?}").into()),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It fails if the program has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn check_echo_of_bytes(address: SocketAddr) -> Result<()> {
    let mut stream = connect(address)?;
    for length in LENGTHS {
        let sent: Vec<u8> =
            (0..DEPTH).flat_map(|number| text(length, number).into_bytes()).collect();
        let mut writer = stream.try_clone()?;
        thread::scope(|scope| {
            let written = scope.spawn(|| writer.write_all(&sent));
            let mut received = vec![0; sent.len()];
            stream.read_exact(&mut received)?;
            written.join().expect("it does not panic")?;
            expect(received == sent, || format!("other bytes at length {length}"))
        })?;
    }
    Ok(())
}

fn check_echo(address: SocketAddr) -> Result<()> {
    let mut socket = upgrade(address)?;
    let writer = socket.get_ref().try_clone()?;
    let mut writer = WebSocket::from_raw_socket(writer, Role::Client, Some(unlimited()));
    for length in LENGTHS {
        check_echo_of(&mut socket, &mut writer, length, DEPTH)?;
    }
    check_echo_of(&mut socket, &mut writer, LARGEST, 1)
}

/// Sends messages in a thread of its own: a peer may stop reading while nobody reads its echoes.
fn check_echo_of(
    socket: &mut WebSocket<TcpStream>,
    writer: &mut WebSocket<TcpStream>,
    length: usize,
    depth: usize,
) -> Result<()> {
    thread::scope(|scope| {
        let written = scope.spawn(move || -> Result<()> {
            for number in 0..depth {
                writer.write(message(length, number))?;
            }
            Ok(writer.flush()?)
        });
        for number in 0..depth {
            let received = socket.read()?;
            expect(received == message(length, number), || {
                format!("at length {length}, message {number} came back as another one")
            })?;
        }
        written.join().expect("it does not panic")
    })
}

/// Each connection sends in its turn: what comes back to itself, it finds in the next round.
fn check_fan_out_of_bytes(address: SocketAddr) -> Result<()> {
    let mut streams = Vec::new();
    for _ in 0..CONNECTIONS {
        streams.push(connect(address)?);
    }
    for number in 0..2 * CONNECTIONS {
        let from = number % CONNECTIONS;
        for length in LENGTHS {
            let sent = text(length, number).into_bytes();
            streams[from].write_all(&sent)?;
            for (to, stream) in streams.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                let mut received = vec![0; length];
                stream.read_exact(&mut received)?;
                expect(received == sent, || format!("{from} to {to}: other bytes at {length}"))?;
            }
        }
    }
    Ok(())
}

fn check_fan_out(address: SocketAddr) -> Result<()> {
    let mut sockets = Vec::new();
    for _ in 0..CONNECTIONS {
        sockets.push(upgrade(address)?);
    }
    for number in 0..2 * CONNECTIONS {
        let from = number % CONNECTIONS;
        for length in LENGTHS {
            sockets[from].send(message(length, number))?;
            for (to, socket) in sockets.iter_mut().enumerate().filter(|(to, _)| *to != from) {
                let received = socket.read()?;
                expect(received == message(length, number), || {
                    format!("{from} to {to}: another message at {length}")
                })?;
            }
        }
    }
    Ok(())
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn upgrade(address: SocketAddr) -> Result<WebSocket<TcpStream>> {
    let url = format!("ws://{address}/any/path?at=all");
    let handshake = client_with_config(url, connect(address)?, Some(unlimited()));
    Ok(handshake.map_err(|error| error.to_string())?.0)
}

fn unlimited() -> WebSocketConfig {
    WebSocketConfig::default().max_frame_size(None).max_message_size(None)
}

/// Makes the message of a number: text and binary by turns, and not like the one before.
fn message(length: usize, number: usize) -> Message {
    match number % 2 {
        0 => Message::text(text(length, number)),
        _ => Message::binary(text(length, number).into_bytes()),
    }
}

fn text(length: usize, number: usize) -> String {
    (0..length).map(|index| char::from(b'a' + ((index + number) % 26) as u8)).collect()
}

fn expect(holds: bool, fault: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(fault().into()) }
}

/// The peers that have `--fanout`.
const FAN_OUT: [&str; 3] = ["raw", "tokio-tungstenite", "tokio-tungstenite-multi"];
/// Around where the length takes more bytes in the header of a frame, and beyond every buffer.
const LENGTHS: [usize; 5] = [0, 125, 126, 65_536, 1 << 20];
/// What every peer takes at least.
const LARGEST: usize = 16 << 20;
const DEPTH: usize = 16;
const CONNECTIONS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(20);

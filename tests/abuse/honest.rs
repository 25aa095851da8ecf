//! Clients that do nothing wrong, and how they are served while others do everything wrong.

use std::fmt;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::common::client::is_timeout;
use crate::common::frame::{CLOSE, TEXT, frame};
use crate::common::http::{get_request, upgrade_request};

/// How one client was served.
pub struct Service {
    name: &'static str,
    /// The process that serves.
    program: u32,
    /// How often it got what it asked for.
    pub served: u64,
    /// How long the latest of these took, without the time for which nothing was done because
    /// other processes had the processors.
    pub worst: Duration,
    /// How often it was told that there is no memory, and stayed connected.
    refused: u64,
    /// Why its connections ended, or were none, where it was told.
    told: Vec<String>,
    /// The same, where it was not.
    pub untold: Vec<String>,
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let Service { name, served, worst, refused, .. } = self;
        write!(f, "{name}: {served} served, {} ms at most, {refused} refused", worst.as_millis())?;
        write!(f, ", told {:?}, not told {:?}", counted(&self.told), counted(&self.untold))
    }
}

/// Starts one client of each kind: they stay until `until`, and come back after an end.
pub fn start(address: SocketAddr, program: u32, until: Instant) -> Vec<JoinHandle<Service>> {
    let kinds: [(&str, Session); 4] =
        [("echo", echo), ("stream", stream), ("/ws", ws), ("newcomer", newcomer)];
    let client = |(name, session): (&'static str, Session)| {
        thread::spawn(move || {
            let mut service = Service {
                name,
                program,
                served: 0,
                worst: Duration::ZERO,
                refused: 0,
                told: Vec::new(),
                untold: Vec::new(),
            };
            while Instant::now() < until {
                match session(address, until, &mut service) {
                    Ok(()) => {}
                    Err(End::Told(why)) => service.told.push(why),
                    Err(End::Untold(why)) => service.untold.push(why),
                }
                thread::sleep(PAUSE);
            }
            service
        })
    };
    kinds.into_iter().map(client).collect()
}

/// Says whether somebody who comes now is served.
pub fn is_served(address: SocketAddr) -> bool {
    let echo = || {
        let mut link = Link::upgraded(address, "/echo")?;
        link.send(&frame(TEXT, b"as if nothing had been"))?;
        link.message()
    };
    echo().is_ok_and(|message: String| message == "as if nothing had been")
}

type Session = fn(SocketAddr, Instant, &mut Service) -> Result<(), End>;

fn echo(address: SocketAddr, until: Instant, service: &mut Service) -> Result<(), End> {
    let mut link = Link::upgraded(address, "/echo")?;
    while Instant::now() < until {
        let began = service.ask();
        link.send(&frame(TEXT, &[b'e'; 100]))?;
        link.message()?;
        service.was_served(began);
    }
    Ok(())
}

/// Publishes by POST, and reads it from an event stream.
fn stream(address: SocketAddr, until: Instant, service: &mut Service) -> Result<(), End> {
    let mut stream = Link::connect(address)?;
    let lines = "Accept: text/event-stream\r\n";
    stream.send(get_request("/events?topic=honest", lines).as_bytes())?;
    stream.expect_status("200")?;
    let mut number = 0;
    while Instant::now() < until {
        let mut publisher = Link::connect(address)?;
        while Instant::now() < until {
            let began = service.ask();
            number += 1;
            let body = number.to_string();
            let lines = format!("Content-Length: {}\r\n", body.len());
            let request = get_request("/topics/honest", &lines).replacen("GET", "POST", 1);
            publisher.send(format!("{request}{body}").as_bytes())?;
            if publisher.status()? != "200" {
                service.refused += 1;
                thread::sleep(PAUSE);
                break;
            }
            publisher.read_past(b"}")?;
            stream.read_past(format!("data: {body}\n\n").as_bytes())?;
            service.was_served(began);
        }
    }
    Ok(())
}

/// Publishes on `/ws`, and reads the answer and the event.
fn ws(address: SocketAddr, until: Instant, service: &mut Service) -> Result<(), End> {
    let mut link = Link::upgraded(address, "/ws")?;
    link.send(&frame(TEXT, br#"{"op":"subscribe","topic":"honest.ws"}"#))?;
    let mut number = 0;
    while Instant::now() < until {
        let began = service.ask();
        number += 1;
        let data =
            format!(r#""op":"publish","topic":"honest.ws","data":"{number}","ref":{number}"#);
        link.send(&frame(TEXT, format!("{{{data}}}").as_bytes()))?;
        let (mut is_published, mut has_come) = (false, false);
        while !(is_published && has_come) {
            let message = link.message()?;
            if message.contains(r#""op":"error""#) || message.contains(r#""op":"gap""#) {
                service.refused += 1;
                thread::sleep(PAUSE);
                break;
            }
            is_published |= message.contains(r#""op":"published""#);
            has_come |= message.contains(&format!(r#""data":"{number}""#));
        }
        if is_published && has_come {
            service.was_served(began);
        }
    }
    Ok(())
}

/// Asks on a connection of its own whether the server lives.
fn newcomer(address: SocketAddr, _: Instant, service: &mut Service) -> Result<(), End> {
    let began = service.ask();
    let mut link = Link::connect(address)?;
    link.send(get_request("/healthz", "").as_bytes())?;
    link.expect_status("200")?;
    service.was_served(began);
    Ok(())
}

impl Service {
    fn ask(&self) -> Asked {
        Asked { at: Instant::now(), kept_waiting: kept_waiting(self.program) }
    }

    fn was_served(&mut self, asked: Asked) {
        let kept_waiting = kept_waiting(self.program).saturating_sub(asked.kept_waiting);
        self.served += 1;
        self.worst = self.worst.max(asked.at.elapsed().saturating_sub(kept_waiting));
        thread::sleep(PAUSE);
    }
}

/// When a client asked, and how long its server and itself had waited for a processor until then.
struct Asked {
    at: Instant,
    kept_waiting: Duration,
}

/// Gives how long this thread and the loop of a server, which is the first thread of its process,
/// were ready to run and had no processor. Where the kernel does not count it, there is none.
fn kept_waiting(program: u32) -> Duration {
    let files = [format!("/proc/{program}/schedstat"), "/proc/thread-self/schedstat".into()];
    let waited = |file: &String| {
        fs::read_to_string(file).ok()?.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    Duration::from_nanos(files.iter().filter_map(waited).sum())
}

/// How a connection ended.
enum End {
    /// With a close frame, a status, or the last chunk of a stream.
    Told(String),
    Untold(String),
}

/// A connection that may end.
struct Link {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Link {
    fn connect(address: SocketAddr) -> Result<Link, End> {
        let connect = || {
            let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_write_timeout(Some(PATIENCE))?;
            Ok(Link { stream, rest: Vec::new() })
        };
        connect().map_err(|error: std::io::Error| End::Untold(format!("connect: {error}")))
    }

    fn upgraded(address: SocketAddr, path: &str) -> Result<Link, End> {
        let mut link = Link::connect(address)?;
        link.send(upgrade_request(path, "").as_bytes())?;
        link.expect_status("101")?;
        Ok(link)
    }

    /// What came before an end is read: it tells why.
    fn send(&mut self, bytes: &[u8]) -> Result<(), End> {
        match self.stream.write_all(bytes) {
            Err(error) if is_timeout(&error) => Err(End::Untold("nothing was taken".into())),
            _ => Ok(()),
        }
    }

    fn read_more(&mut self) -> Result<(), End> {
        let mut buffer = [0; 4096];
        let untold = match self.stream.read(&mut buffer) {
            Ok(0) => "FIN",
            Ok(len) => {
                self.rest.extend_from_slice(&buffer[..len]);
                return Ok(());
            }
            Err(error) if is_timeout(&error) => "nothing came",
            Err(error) if error.kind() == ErrorKind::ConnectionReset => "reset",
            Err(_) => "an error",
        };
        let is_told = self.rest.ends_with(b"\r\n0\r\n\r\n") || self.rest == b"0\r\n\r\n";
        Err(if is_told { End::Told("last chunk".into()) } else { End::Untold(untold.into()) })
    }

    /// Reads up to the end of this text, and gives what came before it.
    fn read_past(&mut self, text: &[u8]) -> Result<Vec<u8>, End> {
        loop {
            if let Some(at) = self.rest.windows(text.len()).position(|window| window == text) {
                let rest = self.rest.split_off(at + text.len());
                return Ok(std::mem::replace(&mut self.rest, rest));
            }
            self.read_more()?;
        }
    }

    fn read_exact(&mut self, len: usize) -> Result<Vec<u8>, End> {
        while self.rest.len() < len {
            self.read_more()?;
        }
        let rest = self.rest.split_off(len);
        Ok(std::mem::replace(&mut self.rest, rest))
    }

    /// Reads the head of an answer.
    fn status(&mut self) -> Result<String, End> {
        let head = String::from_utf8_lossy(&self.read_past(b"\r\n\r\n")?).into_owned();
        Ok(head.split(' ').nth(1).unwrap_or("no status").into())
    }

    fn expect_status(&mut self, status: &str) -> Result<(), End> {
        let came = self.status()?;
        if came == status { Ok(()) } else { Err(End::Told(came)) }
    }

    fn message(&mut self) -> Result<String, End> {
        let head = self.read_exact(2)?;
        let len = match head[1] {
            126 => {
                let len = self.read_exact(2)?;
                usize::from(u16::from_be_bytes([len[0], len[1]]))
            }
            len => usize::from(len),
        };
        let payload = self.read_exact(len)?;
        match head[0] {
            CLOSE => Err(End::Told(format!("{}", u16::from_be_bytes([payload[0], payload[1]])))),
            _ => Ok(String::from_utf8_lossy(&payload).into_owned()),
        }
    }
}

fn counted(ends: &[String]) -> Vec<(&str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for end in ends {
        match counts.iter_mut().find(|(own, _)| own == end) {
            Some((_, count)) => *count += 1,
            None => counts.push((end, 1)),
        }
    }
    counts
}

/// Between two requests.
const PAUSE: Duration = Duration::from_millis(50);
/// What does not come within this time is not served.
const PATIENCE: Duration = Duration::from_secs(20);

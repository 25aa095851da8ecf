//! Clients that do what is expected of them: a neighbour who must not notice what others do, and a
//! crowd of idle ones.

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::client::{Client, Link, Seen};
use super::frame::frame;
use super::server::timespec;
use super::timing::{Span, ms};

/// A client that has each of its messages echoed, until it is asked how it went.
pub struct Neighbour {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(usize, Duration)>,
    since: Span,
}

impl Neighbour {
    pub fn start(address: SocketAddr) -> Neighbour {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let mut peer = Client::open(address, "/echo");
        let thread = std::thread::spawn(move || {
            let (mut rounds, mut worst) = (0, Duration::ZERO);
            while rounds < 3 || !stopped.load(Ordering::Relaxed) {
                let sent_at = Instant::now();
                peer.text(&format!("round {rounds}"));
                assert_eq!(next_message(&mut peer), format!("round {rounds}"));
                worst = worst.max(sent_at.elapsed());
                rounds += 1;
                std::thread::sleep(ms(15));
            }
            peer.close(1000);
            peer.expect_close(1000);
            peer.expect_fin();
            (rounds, worst)
        });
        Neighbour { stop, thread, since: Span::begin() }
    }

    /// Asserts that every message was echoed, in order and in time, and that the connection closes
    /// as it should.
    #[track_caller]
    pub fn was_undisturbed(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (rounds, worst) = self.thread.join().expect("the honest neighbour was served");
        println!("neighbour: {rounds} messages echoed, the slowest in {worst:?}");
        assert!(worst < ms(500) + self.since.lateness_max(), "{worst:?}");
    }
}

/// Gives the next message; pings are answered.
fn next_message(peer: &mut Client) -> String {
    loop {
        match peer.see() {
            Seen::Frame(0x89, payload) => peer.pong(&payload),
            Seen::Frame(0x81, payload) => return String::from_utf8(payload).unwrap(),
            other => panic!("the neighbour expected its echo: {other:?}"),
        }
    }
}

/// Many idle clients on one thread. They answer pings, note when they came, and close when told to.
pub struct Crowd {
    stop: Arc<AtomicBool>,
    pings: Arc<AtomicUsize>,
    thread: JoinHandle<Vec<Member>>,
}

/// One of a crowd.
pub struct Member {
    stream: Link,
    pub opened_at: Instant,
    pub pinged_at: Vec<Instant>,
    pub closed_at: Option<Instant>,
    /// The close frame's payload, if one came.
    pub closed_with: Option<Vec<u8>>,
    /// Whether the connection has ended.
    pub has_ended: bool,
}

impl Crowd {
    pub fn open(address: SocketAddr, target: &str, count: usize) -> Crowd {
        let member = |_| {
            let opened_at = Instant::now();
            let Client { stream, .. } = Client::open(address, target);
            stream.set_nonblocking(true).unwrap();
            Member {
                stream,
                opened_at,
                pinged_at: Vec::new(),
                closed_at: None,
                closed_with: None,
                has_ended: false,
            }
        };
        let members: Vec<Member> = (0..count).map(member).collect();
        let (stop, pings) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (stopped, counted) = (stop.clone(), pings.clone());
        let thread = std::thread::spawn(move || attend(members, &stopped, &counted));
        Crowd { stop, pings, thread }
    }

    /// Gives how many pings came so far.
    pub fn pings(&self) -> usize {
        self.pings.load(Ordering::Relaxed)
    }

    /// Ends the crowd and gives what each saw. Their connections stay until they are dropped.
    pub fn finish(self) -> Vec<Member> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the crowd was served")
    }
}

fn attend(mut members: Vec<Member>, stop: &AtomicBool, pings: &AtomicUsize) -> Vec<Member> {
    while !stop.load(Ordering::Relaxed) {
        let ready: Vec<usize> = {
            let live: Vec<usize> =
                (0..members.len()).filter(|at| !members[*at].has_ended).collect();
            let watch = |at: &usize| PollFd::new(&members[*at].stream, PollFlags::IN);
            let mut watched: Vec<PollFd<'_>> = live.iter().map(watch).collect();
            let _ = poll(&mut watched, Some(&timespec(ms(50))));
            let is_ready = |(fd, _): &(&PollFd<'_>, &usize)| !fd.revents().is_empty();
            watched.iter().zip(&live).filter(is_ready).map(|(_, at)| *at).collect()
        };
        for at in ready {
            members[at].attend(pings);
        }
    }
    members
}

impl Member {
    fn attend(&mut self, pings: &AtomicUsize) {
        let mut buffer = [0; 4096];
        let len = match self.stream.read(&mut buffer) {
            Ok(0) => 0,
            Ok(len) => len,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return,
            Err(_) => 0,
        };
        self.has_ended = len == 0;
        let mut rest = &buffer[..len];
        while let [first, len, tail @ ..] = rest {
            let (payload, tail) = tail.split_at(usize::from(*len).min(tail.len()));
            rest = tail;
            match first {
                0x89 => {
                    self.pinged_at.push(Instant::now());
                    pings.fetch_add(1, Ordering::Relaxed);
                    let _ = self.stream.write_all(&frame(0x8A, payload));
                }
                0x88 => {
                    self.closed_at = Some(Instant::now());
                    self.closed_with = Some(payload.to_vec());
                    let _ = self.stream.write_all(&frame(0x88, payload));
                    let _ = self.stream.shutdown(std::net::Shutdown::Write);
                }
                _ => {}
            }
        }
    }
}

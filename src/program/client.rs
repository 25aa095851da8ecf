//! `heartwheel subscribe`, `publish` and `verdict`: what they are made of. A client on a loop of
//! its own, what it is told, and how a run ends.

use std::ffi::OsStr;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{env, fs, io, thread};

use crossbeam_channel::{Receiver, unbounded};
use log::info;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::asked::Asked;
use super::load::{Loaded, load};
use super::options::{Command, Options};
use super::{complain, log_queue, publish, refuse, subscribe, verdict};
use crate::client::{Links, State, TopicEvent, Why};
use crate::core::config::Config;
use crate::core::config::units::show_duration;
use crate::core::topics::Name;
use crate::system::spawn::spawn;
use crate::threads::dial::Dial;
use crate::threads::link::{Link, LinkEvent, StateChange};

/// Runs one of these commands.
pub(super) fn run(options: Options) -> ExitCode {
    let loaded = load(&options, env::vars_os(), |path| fs::read_to_string(path));
    let Loaded { mut config, warnings } = match loaded {
        Ok(loaded) => loaded,
        Err(faults) => return refuse(&faults),
    };
    let faults = config.check().faults;
    if !faults.is_empty() {
        return refuse(&faults);
    }
    warnings.iter().for_each(|warning| complain(format_args!("warning: {warning}")));
    if config.is_set("log") {
        log_queue::install(config.log);
    }
    // The server bounds what it publishes.
    if !config.is_set("limits.message_bytes") {
        config.limits.message_bytes = EVENT_BYTES_MAX;
    }
    let Options { command, asked, .. } = options;
    let begun = match command {
        Command::Subscribe => subscribe::run(&asked, &config),
        Command::Verdict => verdict::run(&asked, &config),
        _ => publish::run(&asked, &config),
    };
    let status = match begun {
        Err(fault) => refuse(&[fault]),
        Ok(Err(failure)) => {
            complain(failure);
            ExitCode::FAILURE
        }
        Ok(Ok(())) => ExitCode::SUCCESS,
    };
    log::logger().flush();
    status
}

/// How a run went: why it failed.
pub(super) type Ended = Result<(), String>;

/// A client, and the loop that it is on.
pub(super) struct Session {
    links: Links,
    pub stop: Stop,
    told: Receiver<LinkEvent>,
    /// For what is told of it.
    host: String,
    /// Since when there has been no connection.
    lost_at: Option<Instant>,
    /// Why there is none.
    why: Option<Why>,
    /// The end does not wait for longer.
    ends_at: Option<Instant>,
}

/// What stops a client in good order, from any thread.
#[derive(Clone)]
pub(super) struct Stop {
    pub link: Link,
    is_told: Arc<AtomicBool>,
}

impl Stop {
    pub fn stop(&self) {
        self.is_told.store(true, Ordering::Release);
        // A loop that has ended needs no end.
        let _ = self.link.close();
    }
}

/// For how long a run may last.
pub(super) enum Patience {
    /// For so long in all.
    Run(Option<Duration>),
    /// For so long without a connection.
    Lost(Option<Duration>),
}

/// What takes the events of a client.
pub(super) trait Hears {
    /// Takes an event. Returns whether others are wanted.
    ///
    /// # Errors
    ///
    /// Why the run fails.
    fn hear(&mut self, event: TopicEvent) -> Result<bool, String>;

    /// Writes what has come; as [`Hears::hear`].
    fn flush(&mut self) -> Result<bool, String>;
}

impl Session {
    /// Begins a client: it connects when the session runs.
    ///
    /// # Errors
    ///
    /// Why there is no loop.
    pub fn begin(dial: Dial) -> Result<Session, String> {
        let host = dial.setup.targets[0].host().to_owned();
        let mut links = Links::new().map_err(|error| format!("there is no loop: {error}"))?;
        let (tell, told) = unbounded();
        let handler = move |_: &Link, event: LinkEvent| drop(tell.send(event));
        let link = links.connect(dial, handler).map_err(|error| error.to_string())?;
        let stop = Stop { link, is_told: Arc::default() };
        let lost_at = Some(Instant::now());
        Ok(Session { links, stop, told, host, lost_at, why: None, ends_at: None })
    }

    /// Runs until the client has stopped, in good order if nobody else has stopped it.
    ///
    /// # Errors
    ///
    /// Why the run has failed.
    pub fn run(mut self, hears: &mut dyn Hears, patience: Patience) -> Ended {
        let begun_at = Instant::now();
        let mut ended = None;
        loop {
            // Where the end has begun, it is the end that is bounded.
            let until = self.ends_at.or(self.due_at(&patience, begun_at));
            let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
            self.links.turn_within(wait).map_err(|error| format!("the poller failed: {error}"))?;
            let mut has_stopped = false;
            while let Ok(event) = self.told.try_recv() {
                match event {
                    LinkEvent::State(change) => has_stopped |= self.note(change),
                    LinkEvent::Topic(event) if ended.is_none() => {
                        ended = self.end_if(hears.hear(event));
                    }
                    LinkEvent::Alarm => self.sound_alarm(),
                    _ => {}
                }
            }
            let flushed = hears.flush();
            if ended.is_none() {
                ended = self.end_if(flushed);
            }
            let (now, is_told) = (Instant::now(), self.stop.is_told.load(Ordering::Acquire));
            if is_told {
                self.ends_at.get_or_insert(now + CLOSE_WAIT);
            }
            if has_stopped || self.links.is_empty() || self.ends_at.is_some_and(|at| at <= now) {
                return match (ended, &self.why) {
                    (Some(ended), _) => ended,
                    (None, Some(why)) if !is_told => Err(format!("{}: {why}", self.host)),
                    (None, _) => Ok(()),
                };
            }
            let due_at = self.due_at(&patience, begun_at).filter(|_| !is_told);
            if due_at.is_some_and(|at| at <= now) {
                return Err(self.out_of_patience(&patience));
            }
        }
    }

    fn due_at(&self, patience: &Patience, begun_at: Instant) -> Option<Instant> {
        let (from, span) = match patience {
            Patience::Run(span) => (Some(begun_at), span),
            Patience::Lost(span) => (self.lost_at, span),
        };
        from.zip(*span).and_then(|(from, span)| from.checked_add(span))
    }

    /// Begins the end, if what was heard has ended the run.
    fn end_if(&self, heard: Result<bool, String>) -> Option<Ended> {
        let ended = match heard {
            Ok(true) => return None,
            Ok(false) => Ok(()),
            Err(failure) => Err(failure),
        };
        self.stop.stop();
        Some(ended)
    }

    /// Takes note of where the client is. Returns whether it has stopped.
    fn note(&mut self, change: StateChange) -> bool {
        let StateChange { state, failures, why, .. } = change;
        match &why {
            Some(why) => info!("client state={state} failures={failures} why={why}"),
            None => info!("client state={state}"),
        }
        match state {
            State::Open => (self.lost_at, self.why) = (None, None),
            _ => drop(self.lost_at.get_or_insert_with(Instant::now)),
        }
        // Why the last try failed is of interest until there is a connection.
        self.why = why.or(self.why.take());
        state == State::Stopped
    }

    fn sound_alarm(&self) {
        let Session { host, .. } = self;
        match &self.why {
            Some(why) => complain(format_args!("{host}: {why}: it is tried again")),
            None => complain(format_args!("{host}: it is tried again")),
        }
    }

    fn out_of_patience(&self, patience: &Patience) -> String {
        let what = match patience {
            Patience::Run(Some(span)) => format!("not done within {}", show_duration(*span)),
            Patience::Lost(Some(span)) => format!("no connection for {}", show_duration(*span)),
            _ => unreachable!("without a bound there is no end to it"),
        };
        match &self.why {
            Some(why) => format!("{}: {what}: {why}", self.host),
            None => format!("{}: {what}", self.host),
        }
    }
}

/// Reads the URL and the topic's names, of which there must be at least one, and makes a client's
/// `Dial` of all that was said.
///
/// # Errors
///
/// What is not right.
pub(super) fn dial(asked: &Asked, config: &Config) -> Result<Dial, String> {
    let url = asked.arguments.first().ok_or("there is no URL, such as ws://127.0.0.1:8765")?;
    let dial = Dial::to(&url.to_string_lossy()).map_err(|error| error.to_string())?;
    let dial = dial.topics().config(config).map_err(|error| error.to_string())?;
    let dial = with_token(with_files(dial, asked)?, asked)?;
    dial.check().map_err(|error| error.to_string())?;
    Ok(dial)
}

/// Reads a name of a topic.
///
/// # Errors
///
/// That it is none.
pub(super) fn topic_of(word: &OsStr) -> Result<&str, String> {
    let topic = word.to_str().filter(|word| Name::is_valid(word));
    topic.ok_or_else(|| {
        let word = word.to_string_lossy();
        format!("{word}: no topic can have this name: 1 to 128 of A-Z a-z 0-9 . _ - :")
    })
}

/// Adds the token.
fn with_token(dial: Dial, asked: &Asked) -> Result<Dial, String> {
    match (&asked.token, &asked.token_file) {
        (Some(_), Some(_)) => Err("--token-file: there is --token already".into()),
        (Some(token), None) => Ok(dial.token(token)),
        (None, Some(path)) => {
            let path = path.clone();
            let read = move || read_token(&path);
            // A file that cannot be read is told of now; later the client does without it.
            read()?;
            Ok(dial.token_from(move || read().ok()))
        }
        (None, None) => Ok(dial),
    }
}

fn read_token(path: &Path) -> Result<String, String> {
    let fault = |what: &dyn Display| format!("--token-file {}: {what}", path.display());
    let text = fs::read_to_string(path).map_err(|error| fault(&error))?;
    match text.trim() {
        "" => Err(fault(&"there is no token in it")),
        token => Ok(token.to_owned()),
    }
}

/// Adds the files of TLS.
#[cfg(feature = "tls")]
fn with_files(mut dial: Dial, asked: &Asked) -> Result<Dial, String> {
    let named = named_file(asked);
    if let Some(option) = named.filter(|_| !dial.setup.targets[0].is_secure()) {
        return Err(format!("{option}: is for wss:// and https://"));
    }
    if let Some(ca) = &asked.ca {
        dial = dial.ca(ca);
    }
    match (&asked.certificate, &asked.key) {
        (Some(certificate), Some(key)) => Ok(dial.certificate(certificate, key)),
        (None, None) => Ok(dial),
        (Some(_), None) => Err("--cert: must come with --key".into()),
        (None, Some(_)) => Err("--key: must come with --cert".into()),
    }
}

#[cfg(not(feature = "tls"))]
fn with_files(dial: Dial, asked: &Asked) -> Result<Dial, String> {
    match named_file(asked) {
        Some(option) => Err(format!("{option}: this build has no TLS: feature `tls`")),
        None => Ok(dial),
    }
}

/// Returns an option of TLS that was used.
fn named_file(asked: &Asked) -> Option<&'static str> {
    let files = [("--ca", &asked.ca), ("--cert", &asked.certificate), ("--key", &asked.key)];
    files.into_iter().find(|(_, file)| file.is_some()).map(|(option, _)| option)
}

/// Has the first SIGTERM or SIGINT end the run in good order, and a second one end it at once.
///
/// # Errors
///
/// If the system takes no handler of signals, or has no thread.
pub(super) fn on_signal(end: impl FnOnce() + Send + 'static) -> Ended {
    wait_for_signal(end).map_err(|error| format!("signals cannot be waited for: {error}"))
}

fn wait_for_signal(end: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let is_told = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGINT] {
        // The handler itself ends the process: whatever the threads wait for, it is not awaited.
        flag::register_conditional_shutdown(signal, 1, is_told.clone())?;
    }
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let wait = move || {
        signals.forever().next();
        is_told.store(true, Ordering::SeqCst);
        end();
        // Perhaps nobody reads what is written, or the server does not answer.
        thread::sleep(GRACE);
        give_up();
    };
    spawn("heartwheel-signals".into(), None, Box::new(wait)).map(drop)
}

/// Ends the process with a line on stderr, if stderr takes one: another thread may wait for that,
/// and hold the lock of stderr meanwhile.
fn give_up() -> ! {
    let stderr = io::stderr();
    let mut watched = [PollFd::new(&stderr, PollFlags::OUT)];
    let is_ready = poll(&mut watched, Some(&Timespec::default())).is_ok_and(|ready| ready > 0);
    if is_ready && watched[0].revents().contains(PollFlags::OUT) {
        let _ = rustix::io::write(&stderr, b"heartwheel: told to end, and did not get done\n");
    }
    std::process::exit(1)
}

/// The longest event that is sent, and that is taken where nothing else was set.
pub(super) const EVENT_BYTES_MAX: u64 = 16 << 20;
/// How long the server's close frame is awaited.
const CLOSE_WAIT: Duration = Duration::from_secs(1);
/// How long the end may take after a signal.
const GRACE: Duration = Duration::from_secs(5);

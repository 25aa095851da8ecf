//! A client for scripts: each call waits for its answer.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::{Duration, Instant};

use crossbeam_channel::bounded;
use tungstenite::Bytes;

use crate::client::links::Links;
use crate::core::client::ask::{Answer, Ask};
use crate::core::client::topics::TopicEvent;
use crate::core::client::{State, Why};
use crate::core::topics::{After, Content, EventId};
use crate::threads::dial::{Dial, DialError};
use crate::threads::link::{Link, LinkEvent, StateChange};
use crate::threads::subscription::Heard;

/// A client of the topics of a heartwheel server, on the caller's thread: a call waits for its
/// answer, and connects, connects again and resumes meanwhile.
///
/// ```no_run
/// use heartwheel::{Client, Dial, Heard, topics::After};
///
/// let mut client = Client::new(Dial::to("ws://127.0.0.1:8765")?)?;
/// let id = client.publish("doors", "open")?;
/// for (topic, heard) in client.subscribe("doors", After::Position(id))? {
///     match heard {
///         Heard::Event(event) => println!("{topic} {}: {:?}", event.id, event.payload),
///         Heard::Gap(_) => eprintln!("{topic}: events are missing"),
///         _ => {}
///     }
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Nothing happens between calls: a program that does something else for longer than the server's
/// `deadlines.read_idle` comes back to a connection that has ended, and resumes.
pub struct Client {
    links: Links,
    dial: Dial,
    /// Made when something of topics is asked for.
    link: Option<Link>,
    timeout: Option<Duration>,
    /// Events that came while a call waited for something else.
    heard: VecDeque<(String, Heard)>,
    heard_bytes: usize,
    answers: VecDeque<TopicEvent>,
    state: StateChange,
    /// Since when there has been no connection.
    lost_at: Option<Instant>,
}

/// Why a call of [`Client`] failed.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL, the token or a header line is none.
    Dial(DialError),
    /// The client has stopped: another try would be of no use.
    Stopped(Why),
    /// There was no answer in time, perhaps for this reason. What was published may still be.
    TimedOut(Option<Why>),
    /// The server refused: `bad_request`, `forbidden`, `limit`, `unavailable`; or `unknown`: the
    /// connection broke, and the fate of what was published is not known.
    Refused {
        /// The kind of refusal.
        code: String,
        /// In words.
        sentence: String,
    },
    /// The server's application has taken over what was published: it has no id.
    Taken,
    /// A plain request got no answer, for this reason. The server may still have acted on it.
    Failed(Why),
    /// The message cannot be sent.
    Message(String),
    /// The kernel's poller failed.
    Io(io::Error),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Dial(error) => error.fmt(f),
            ClientError::Stopped(why) | ClientError::Failed(why) => why.fmt(f),
            ClientError::TimedOut(None) => f.write_str("no answer in time"),
            ClientError::TimedOut(Some(why)) => write!(f, "no answer in time: {why}"),
            ClientError::Refused { code, sentence } => write!(f, "{code}: {sentence}"),
            ClientError::Taken => f.write_str("the server's application has taken it over"),
            ClientError::Message(rule) => f.write_str(rule),
            ClientError::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {}

impl From<DialError> for ClientError {
    fn from(error: DialError) -> ClientError {
        ClientError::Dial(error)
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> ClientError {
        ClientError::Io(error)
    }
}

impl Client {
    /// Makes a client; it connects when something is asked of it.
    ///
    /// # Errors
    ///
    /// [`ClientError::Dial`] if no upgrade can be made of `dial`; [`ClientError::Io`] if the kernel
    /// has no more descriptors.
    pub fn new(dial: Dial) -> Result<Client, ClientError> {
        Client::on(Links::new()?, dial)
    }

    /// Makes a client on a loop without other clients: one in memory, for instance.
    ///
    /// # Errors
    ///
    /// As [`Client::new`].
    pub fn on(links: Links, dial: Dial) -> Result<Client, ClientError> {
        dial.clone().topics().check()?;
        let state = StateChange { state: State::Waiting, wait: None, failures: 0, why: None };
        let (heard, heard_bytes, answers) = Default::default();
        let timeout = Some(TIMEOUT);
        let lost_at = Some(Instant::now());
        let link = None;
        Ok(Client { links, dial, link, timeout, heard, heard_bytes, answers, state, lost_at })
    }

    /// Sets how long [`Client::publish`], [`Client::get`] and [`Client::post`] wait for an answer,
    /// 10 s at first, and how long [`Events`] wait without a connection. `None`: for as long as it
    /// takes; `get` and `post` wait for 10 s.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Returns where the client is, and why.
    pub fn state(&self) -> &StateChange {
        &self.state
    }

    /// Publishes an event, and returns its id when the server has it. Events of topics that come
    /// meanwhile are kept for [`Client::events`].
    ///
    /// # Errors
    ///
    /// [`ClientError`]; [`ClientError::Message`] also if 4 MiB of events wait to be taken: what was
    /// published before may still be.
    pub fn publish(
        &mut self,
        topic: &str,
        content: impl Into<Content>,
    ) -> Result<EventId, ClientError> {
        self.check_heard()?;
        let until = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let link = self.link()?;
        let reference = link.next_reference();
        // The client is made in the first turn.
        self.turn(Some(Duration::ZERO))?;
        let (content, now, number) = (content.into(), self.links.now(), link.number());
        let taken = self
            .links
            .clients()
            .ask(now, number, |entry, means| entry.publish(means, reference, topic, &content));
        if let Some(Err(refused)) = taken {
            return Err(ClientError::Message(refused.to_string()));
        }
        loop {
            let is_ours = |answer: &TopicEvent| match answer {
                TopicEvent::Published { reference: other, .. }
                | TopicEvent::Taken { reference: other }
                | TopicEvent::NotPublished { reference: other, .. } => *other == reference,
                _ => false,
            };
            if let Some(index) = self.answers.iter().position(is_ours) {
                return match self.answers.remove(index) {
                    Some(TopicEvent::NotPublished { .. }) if self.state.state == State::Stopped => {
                        Err(self.stopped())
                    }
                    Some(TopicEvent::NotPublished { code, sentence, .. }) => {
                        Err(ClientError::Refused { code, sentence })
                    }
                    Some(TopicEvent::Published { id, .. }) => Ok(id),
                    Some(TopicEvent::Taken { .. }) => Err(ClientError::Taken),
                    _ => unreachable!("it is the answer"),
                };
            }
            self.check_heard()?;
            self.wait(until)?;
        }
    }

    /// Makes a GET request for this path of the server, and returns its answer, whatever the status
    /// is. The client's token goes with it; no connection for topics is made.
    ///
    /// ```no_run
    /// use heartwheel::{Client, Dial};
    ///
    /// let mut client = Client::new(Dial::to("http://127.0.0.1:8765")?)?;
    /// let newest = client.get("/topics/doors")?;
    /// println!("{} {:?}", newest.status(), newest.text());
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::Failed`] if there is no answer; [`ClientError::Dial`] if `path` does not
    /// begin with `/`, or has anything but visible ASCII.
    pub fn get(&mut self, path: &str) -> Result<Answer, ClientError> {
        self.request(self.timed(Ask::get(path)))
    }

    /// Makes a POST request, as [`Client::get`] does, with a body of this type.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; [`ClientError::Dial`] also if the type has a control character.
    pub fn post(
        &mut self,
        path: &str,
        content_type: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, ClientError> {
        self.request(self.timed(Ask::post(path, content_type, body)))
    }

    /// Makes any plain request, by its own deadline. Events of topics that come meanwhile are kept
    /// for [`Client::events`].
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; [`ClientError::Dial`] also if the method is no token, a header line
    /// cannot be sent, or the `Links` has too many requests under way ([`DialError::Full`]).
    pub fn request(&mut self, ask: Ask) -> Result<Answer, ClientError> {
        let (sender, answers) = bounded(1);
        let handler = move |answer| drop(sender.send(answer));
        self.links.request(self.dial.clone(), ask, handler)?;
        loop {
            self.turn(None)?;
            if let Ok(answer) = answers.try_recv() {
                return answer.map_err(ClientError::Failed);
            }
        }
    }

    fn timed(&self, ask: Ask) -> Ask {
        match self.timeout {
            Some(timeout) => ask.within(timeout),
            None => ask,
        }
    }

    /// Makes the client of topics, at the first call.
    fn link(&mut self) -> Result<Link, ClientError> {
        if self.link.is_none() {
            self.link = Some(self.links.make_link(self.dial.clone().topics(), None)?);
        }
        Ok(self.link.clone().expect("it is made"))
    }

    fn stopped(&self) -> ClientError {
        ClientError::Stopped(self.state.why.clone().unwrap_or(Why::Stopped))
    }

    fn check_heard(&self) -> Result<(), ClientError> {
        match self.heard_bytes > HEARD_BYTES_MAX {
            true => Err(ClientError::Message("4 MiB of events wait to be taken".into())),
            false => Ok(()),
        }
    }

    /// Subscribes to a topic, and returns what comes of all that are subscribed to, topic by topic.
    ///
    /// # Errors
    ///
    /// [`ClientError::Message`] if no topic can have this name.
    pub fn subscribe(&mut self, topic: &str, after: After) -> Result<Events<'_>, ClientError> {
        let link = self.link()?;
        self.turn(Some(Duration::ZERO))?;
        let (now, number) = (self.links.now(), link.number());
        let taken = self.links.clients().ask(now, number, |entry, _| entry.subscribe(topic, after));
        match taken {
            Some(Err(refused)) => Err(ClientError::Message(refused.to_string())),
            _ => Ok(Events(self)),
        }
    }

    /// Returns what comes of the topics that are subscribed to.
    pub fn events(&mut self) -> Events<'_> {
        Events(self)
    }

    /// Closes the connection in good order, for at most a second.
    pub fn close(mut self) {
        let until = Instant::now() + CLOSE_WAIT;
        if self.link.as_ref().is_some_and(|link| link.close().is_ok()) {
            while self.state.state != State::Stopped && self.wait(Some(until)).is_ok() {}
        }
    }

    /// Waits for the next event; `Ok(None)` if none has come until then.
    fn next_until(
        &mut self,
        until: Option<Instant>,
    ) -> Result<Option<(String, Heard)>, ClientError> {
        loop {
            if let Some(heard) = self.heard.pop_front() {
                self.heard_bytes -= bytes_of(&heard);
                return Ok(Some(heard));
            }
            let refused = |answer: &TopicEvent| matches!(answer, TopicEvent::NotSubscribed { .. });
            if let Some(index) = self.answers.iter().position(refused)
                && let Some(TopicEvent::NotSubscribed { code, sentence, .. }) =
                    self.answers.remove(index)
            {
                return Err(ClientError::Refused { code, sentence });
            }
            match self.wait(until) {
                Err(ClientError::TimedOut(_)) => return Ok(None),
                other => other?,
            }
        }
    }

    /// Does one turn, and takes what it brings.
    fn wait(&mut self, until: Option<Instant>) -> Result<(), ClientError> {
        if self.state.state == State::Stopped {
            return Err(self.stopped());
        }
        let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
        if wait.is_some_and(|wait| wait.is_zero()) {
            return Err(ClientError::TimedOut(self.state.why.clone()));
        }
        self.turn(wait)
    }

    fn hear(&mut self, topic: String, heard: Heard) {
        let heard = (topic, heard);
        self.heard_bytes += bytes_of(&heard);
        self.heard.push_back(heard);
    }

    fn turn(&mut self, wait: Option<Duration>) -> Result<(), ClientError> {
        self.links.turn_within(wait)?;
        let Some(link) = &self.link else { return Ok(()) };
        let (now, number) = (self.links.now(), link.number());
        // Beyond that no more is taken: then no more is read.
        if self.heard_bytes > HEARD_BYTES_MAX {
            return Ok(());
        }
        let told = self.links.clients().ask(now, number, |entry, _| entry.take_inbox());
        for event in told.into_iter().flatten() {
            match event {
                LinkEvent::State(change) => {
                    match change.state {
                        State::Open => self.lost_at = None,
                        _ => drop(self.lost_at.get_or_insert_with(Instant::now)),
                    }
                    // Why the last try failed is of interest until there is a connection.
                    let why = match (&change.why, change.state) {
                        (None, state) if state != State::Open => self.state.why.take(),
                        (why, _) => why.clone(),
                    };
                    self.state = StateChange { why, ..change };
                }
                LinkEvent::Topic(TopicEvent::Event { topic, event }) => {
                    self.hear(topic, Heard::Event(event));
                }
                LinkEvent::Topic(TopicEvent::Gap { topic, gap }) => {
                    self.hear(topic, Heard::Gap(gap));
                }
                LinkEvent::Topic(
                    answer @ (TopicEvent::Published { .. }
                    | TopicEvent::Taken { .. }
                    | TopicEvent::NotPublished { .. }
                    | TopicEvent::NotSubscribed { .. }),
                ) => {
                    self.answers.push_back(answer);
                }
                _ => {}
            }
        }
        // Answers that no call waits for any more are forgotten.
        while self.answers.len() > ANSWERS_MAX {
            self.answers.pop_front();
        }
        Ok(())
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("state", &self.state.state).finish_non_exhaustive()
    }
}

/// What comes of the topics that a client has subscribed to, with the name of the topic: see
/// [`Client::subscribe`]. As an iterator it waits for what comes next, and ends when the client has
/// stopped, or has been without a connection for longer than its timeout.
#[derive(Debug)]
pub struct Events<'c>(&'c mut Client);

impl Events<'_> {
    /// Waits for what comes next, for at most `wait` (`None`: for as long as it takes); `Ok(None)`
    /// if nothing has come until then.
    ///
    /// # Errors
    ///
    /// [`ClientError::Stopped`] or [`ClientError::Refused`]: of the latter other topics still come.
    /// [`ClientError::TimedOut`] after the client's timeout without a connection.
    pub fn next_within(
        &mut self,
        wait: Option<Duration>,
    ) -> Result<Option<(String, Heard)>, ClientError> {
        let began_at = Instant::now();
        let until = wait.and_then(|wait| began_at.checked_add(wait));
        // What has come while the caller did something else, and however short the wait.
        if self.0.heard.is_empty() {
            self.0.turn(Some(Duration::ZERO))?;
        }
        loop {
            let client = &mut *self.0;
            // Nothing is tried between calls: that time does not count.
            let lost_at = client.lost_at.map(|at| at.max(began_at));
            let lost = lost_at.zip(client.timeout);
            let gives_up_at = lost.and_then(|(at, timeout)| at.checked_add(timeout));
            let next = client.next_until(until.into_iter().chain(gives_up_at).min())?;
            let now = Instant::now();
            if next.is_some() || until.is_some_and(|until| until <= now) {
                return Ok(next);
            }
            if client.lost_at.is_some() && gives_up_at.is_some_and(|at| at <= now) {
                return Err(ClientError::TimedOut(client.state.why.clone()));
            }
        }
    }
}

impl Iterator for Events<'_> {
    type Item = (String, Heard);

    fn next(&mut self) -> Option<(String, Heard)> {
        loop {
            match self.next_within(None) {
                Ok(next) => return next,
                Err(ClientError::Refused { .. }) => {}
                Err(_) => return None,
            }
        }
    }
}

/// Returns what an event takes while it waits.
fn bytes_of((topic, heard): &(String, Heard)) -> usize {
    let payload = match heard {
        Heard::Event(event) => event.payload.len(),
        _ => 0,
    };
    size_of::<(String, Heard)>() + topic.len() + payload
}

const TIMEOUT: Duration = Duration::from_secs(10);
const CLOSE_WAIT: Duration = Duration::from_secs(1);
const ANSWERS_MAX: usize = 256;
const HEARD_BYTES_MAX: usize = 4 << 20;

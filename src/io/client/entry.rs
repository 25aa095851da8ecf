//! One client of a loop: its state machine, its socket, and the application's end of it.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use log::{debug, error};
use mio::{Registry, Token};

use super::stream::Stream;
#[cfg(feature = "mqtt")]
use crate::core::client::broker::Heard;
use crate::core::client::topics::{TopicEvent, TopicRefused, Topics};
use crate::core::client::{Action, Dialler, Means, SendRefused, State, Told, Why};
use crate::core::topics::{After, Content};
use crate::core::wire::message::Message;
use crate::io::client::names::Names;
#[cfg(feature = "tls")]
use crate::io::client::tls::Tls;
use crate::io::memory::MemoryNetwork;
use crate::threads::dial::{Dial, TokenSource};
use crate::threads::link::{Link, LinkEvent, LinkHandler, LinkOrder, StateChange};

/// A client.
pub(crate) struct Entry {
    pub dialler: Dialler,
    pub link: Link,
    pub topics: Option<Box<Topics>>,
    renews: Option<Arc<TokenSource>>,
    #[cfg(feature = "tls")]
    connector: Option<Arc<rustls::ClientConfig>>,
    listener: Listener,
    socket: Option<Socket>,
    tries: Option<Box<Tries>>,
    network: Option<MemoryNetwork>,
    pub is_due: bool,
}

/// Where a client's events go.
enum Listener {
    Handler(Box<dyn LinkHandler>),
    /// They wait until they are asked for.
    Inbox(Box<Inbox>),
}

/// What a client without a handler has been told.
#[derive(Default)]
struct Inbox {
    events: VecDeque<LinkEvent>,
    bytes: usize,
}

impl Inbox {
    fn has_room(&self) -> bool {
        self.events.len() < INBOX_MAX && self.bytes < INBOX_BYTES_MAX
    }

    /// Adds an event. Where nobody takes them, the newest state stands for those before it.
    fn push(&mut self, event: LinkEvent) {
        let is_state = |event: &LinkEvent| matches!(event, LinkEvent::State(_));
        if !self.has_room()
            && is_state(&event)
            && let Some(last) = self.events.back_mut().filter(|last| is_state(last))
        {
            *last = event;
            return;
        }
        self.bytes += bytes_of(&event);
        self.events.push_back(event);
    }

    #[cfg(any(feature = "ffi", feature = "bridge"))]
    fn pop(&mut self) -> Option<LinkEvent> {
        let event = self.events.pop_front()?;
        self.bytes -= bytes_of(&event);
        if self.events.is_empty() {
            // A client at rest owns nothing for it.
            self.events = VecDeque::new();
        }
        Some(event)
    }
}

/// Returns what an event takes while it waits, without what all take.
fn bytes_of(event: &LinkEvent) -> usize {
    match event {
        LinkEvent::Message(message) => message.len(),
        LinkEvent::Event(event) => event.name.len() + event.data.len() + event.id.len(),
        LinkEvent::Topic(TopicEvent::Event { topic, event }) => topic.len() + event.payload.len(),
        #[cfg(feature = "mqtt")]
        LinkEvent::Broker(Heard::Came(arrival)) => arrival.topic.len() + arrival.payload.len(),
        _ => 0,
    }
}

/// Connections that are being made, by the number of the try.
#[derive(Default)]
struct Tries(Vec<(u8, Stream)>);

struct Socket {
    stream: Stream,
    is_readable: bool,
    is_writable: bool,
}

/// What the clients of a loop share.
pub(crate) struct Around<'a> {
    pub registry: &'a Registry,
    pub names: &'a Names,
    /// The first token of this client.
    pub token: usize,
    pub buffer: &'a mut [u8],
    pub scratch: &'a mut Vec<u8>,
}

impl Entry {
    pub fn new(
        link: Link,
        dial: Dial,
        handler: Option<Box<dyn LinkHandler>>,
        network: Option<MemoryNetwork>,
        means: &mut Means<'_>,
    ) -> Entry {
        let mut dialler = Dialler::new(dial.setup.clone(), dial.token.clone(), means.now);
        if let Some(source) = &dial.renews {
            // It is checked as later ones are.
            dialler.renewed(means, ask(source));
        }
        let make_topics = || Box::new(Topics::new(dial.pending_max, means.random));
        let topics = dial.has_topics.then(make_topics);
        #[cfg(feature = "tls")]
        let connector = dial.is_secure().then(|| dial.connector().ok()).flatten();
        let listener = handler.map_or_else(|| Listener::Inbox(Box::default()), Listener::Handler);
        Entry {
            dialler,
            link,
            topics,
            renews: dial.renews,
            #[cfg(feature = "tls")]
            connector,
            listener,
            socket: None,
            tries: None,
            network,
            is_due: false,
        }
    }

    /// Returns whether nothing will happen to it any more, and it may be forgotten.
    pub fn is_over(&self) -> bool {
        self.dialler.state() == State::Stopped && matches!(self.listener, Listener::Handler(_))
    }

    /// Returns whether a turn would find something to do that no poller tells of.
    pub fn has_news(&self) -> bool {
        let has_room = self.has_room();
        self.socket.as_ref().is_some_and(|socket| socket.stream.has_news() && has_room)
    }

    /// Returns whether its socket is one in memory.
    pub fn is_in_memory(&self) -> bool {
        self.network.is_some()
    }

    fn has_room(&self) -> bool {
        match &self.listener {
            Listener::Handler(_) => true,
            Listener::Inbox(inbox) => inbox.has_room(),
        }
    }

    /// Returns whether a client without a handler has been told something.
    #[cfg(any(feature = "ffi", feature = "bridge"))]
    pub fn has_inbox(&self) -> bool {
        matches!(&self.listener, Listener::Inbox(inbox) if !inbox.events.is_empty())
    }

    /// Takes the next of what a client without a handler has been told.
    #[cfg(any(feature = "ffi", feature = "bridge"))]
    pub fn pop_inbox(&mut self) -> Option<LinkEvent> {
        match &mut self.listener {
            Listener::Handler(_) => None,
            Listener::Inbox(inbox) => inbox.pop(),
        }
    }

    /// Takes what a client without a handler has been told.
    pub fn take_inbox(&mut self) -> VecDeque<LinkEvent> {
        match &mut self.listener {
            Listener::Handler(_) => VecDeque::new(),
            Listener::Inbox(inbox) => std::mem::take(&mut **inbox).events,
        }
    }

    /// Takes note of the readiness of one of its sockets; 0 is the connection, others are tries.
    pub fn note_ready(&mut self, number: usize, readable: bool, writable: bool) {
        // A try that became the connection keeps its token.
        if let Some(socket) = &mut self.socket {
            socket.is_readable |= readable;
            socket.is_writable |= writable;
        }
        debug_assert!(number < TOKENS, "each try has one");
    }

    /// Takes an order of the application's.
    pub fn take_order(&mut self, means: &mut Means<'_>, order: LinkOrder) {
        match order {
            LinkOrder::Connect(_) | LinkOrder::Request(..) => {}
            LinkOrder::Send(message) => {
                let len = message.len();
                if let Err(refused) = self.send(means, message) {
                    debug!("client message dropped bytes={len} why={refused:?}");
                }
            }
            LinkOrder::Publish(reference, topic, content) => {
                if let Err(refused) = self.publish(means, reference, &topic, &content) {
                    self.tell(means, LinkEvent::Topic(refused.of(reference)));
                }
            }
            LinkOrder::Subscribe(topic, after) => {
                let subscribed = self.subscribe(&topic, after);
                debug_assert_eq!(subscribed, Ok(()), "the link has checked it");
            }
            #[cfg(feature = "presence")]
            LinkOrder::SubscribeAs(topic, after, info) => {
                let subscribed = self.subscribe_as(&topic, after, &info);
                debug_assert_eq!(subscribed, Ok(()), "the link has checked it");
            }
            #[cfg(feature = "presence")]
            LinkOrder::Presence(reference, topic) => {
                if let Err(refused) = self.ask_presence(reference, &topic) {
                    let (code, sentence) = ("full".into(), refused.to_string());
                    let told = TopicEvent::NoPresence { reference, topic, code, sentence };
                    self.tell(means, LinkEvent::Topic(told));
                }
            }
            LinkOrder::Unsubscribe(topic) => self.unsubscribe(&topic),
            LinkOrder::Close(code, reason) => self.stop(means, code, reason.as_str()),
            LinkOrder::Reconnect => {
                self.hand_over(means);
                self.dialler.reconnect(means);
            }
        }
    }

    /// Stops the client, behind what was sent and published before.
    pub fn stop(&mut self, means: &mut Means<'_>, code: u16, reason: &str) {
        self.hand_over(means);
        self.dialler.stop(means, code, reason);
    }

    /// Stops the client, of which nobody wants to hear any more.
    #[cfg(feature = "bridge")]
    pub fn leave(&mut self, means: &mut Means<'_>) {
        self.listener = Listener::Handler(Box::new(|_: &Link, _: LinkEvent| {}));
        self.stop(means, 1000, "");
    }

    /// Tells that the client is no more, because its loop is none: it may be in any state.
    pub fn end(&mut self, means: &mut Means<'_>) {
        self.tell_all(means);
        if self.dialler.state() != State::Stopped {
            let (state, failures) = (State::Stopped, 0);
            let why = Some(Why::Stopped);
            self.tell_one(means, Told::State { state, wait: None, failures, why });
        }
    }

    pub fn send(&mut self, means: &mut Means<'_>, message: Message) -> Result<(), SendRefused> {
        self.dialler.send(means, message)
    }

    pub fn publish(
        &mut self,
        means: &mut Means<'_>,
        reference: u32,
        topic: &str,
        content: &Content,
    ) -> Result<(), TopicRefused> {
        let topics = self.topics.as_mut().ok_or(TopicRefused::Topic)?;
        topics.publish(means.now, reference, topic, content)
    }

    pub fn subscribe(&mut self, topic: &str, after: After) -> Result<(), TopicRefused> {
        self.topics.as_mut().ok_or(TopicRefused::Topic)?.subscribe(topic, after)
    }

    #[cfg(feature = "presence")]
    pub fn subscribe_as(
        &mut self,
        topic: &str,
        after: After,
        info: &str,
    ) -> Result<(), TopicRefused> {
        self.topics.as_mut().ok_or(TopicRefused::Topic)?.subscribe_as(topic, after, info)
    }

    #[cfg(feature = "presence")]
    pub fn ask_presence(&mut self, reference: u32, topic: &str) -> Result<(), TopicRefused> {
        self.topics.as_mut().ok_or(TopicRefused::Topic)?.ask_presence(reference, topic)
    }

    pub fn unsubscribe(&mut self, topic: &str) {
        if let Some(topics) = &mut self.topics {
            topics.unsubscribe(topic);
        }
    }

    /// Does all that can be done now. Returns whether more is left than one turn may do.
    pub fn drive(&mut self, means: &mut Means<'_>, around: &mut Around<'_>) -> bool {
        for _ in 0..ROUNDS_MAX {
            let mut has_acted = self.act(means, around);
            has_acted |= self.shake(means);
            has_acted |= self.tell_all(means);
            has_acted |= self.hand_over(means);
            has_acted |= self.write(means, around);
            has_acted |= self.read(means, around);
            if !has_acted {
                return false;
            }
        }
        true
    }

    /// Does what the client asks for, then looks at its tries: those that it has closed are none.
    fn act(&mut self, means: &mut Means<'_>, around: &mut Around<'_>) -> bool {
        let mut has_acted = false;
        while let Some(action) = self.dialler.poll_action() {
            has_acted = true;
            self.follow(means, around, action);
        }
        has_acted | self.look_at_tries(means)
    }

    fn follow(&mut self, means: &mut Means<'_>, around: &mut Around<'_>, action: Action) {
        match action {
            Action::Resolve(number, name, port) => match &self.network {
                Some(_) => {
                    let address = ([127, 0, 0, 1], port).into();
                    self.dialler.resolved(means, number, Ok(vec![address]));
                }
                None => around.names.ask((self.link.number(), number), name, port),
            },
            Action::Connect(number, address) => {
                let connected = match &self.network {
                    Some(network) => network.connect().map(|peer| Stream::Memory(Box::new(peer))),
                    None => Stream::connect(
                        address,
                        around.registry,
                        Token(around.token + usize::from(number) % TOKENS),
                        self.dialler.rules().write_stall.saturating_mul(3),
                    ),
                };
                match connected {
                    Ok(stream) => self.tries.get_or_insert_default().0.push((number, stream)),
                    Err(error) => self.dialler.connect_failed(means, number, error.to_string()),
                }
            }
            Action::Keep(number) => {
                let tries = self.tries.take().unwrap_or_default();
                let kept = tries.0.into_iter().find(|(other, _)| *other == number);
                self.socket =
                    kept.map(|(_, stream)| Socket { stream, is_readable: true, is_writable: true });
            }
            Action::Secure(name) => self.secure(means, &name),
            Action::Renew => {
                let token = self.renews.as_ref().and_then(ask);
                self.dialler.renewed(means, token);
            }
            Action::Close { abort } => {
                self.tries = None;
                if let Some(mut socket) = self.socket.take() {
                    match abort {
                        true => socket.stream.set_abort(),
                        false => socket.stream.say_last(),
                    }
                }
            }
        }
    }

    /// Begins TLS on the connection.
    #[cfg(feature = "tls")]
    fn secure(&mut self, means: &mut Means<'_>, name: &str) {
        let Some(mut socket) = self.socket.take() else { return };
        // The files were read when the client was made, or there would be none.
        let begun = match (socket.stream, self.connector.clone()) {
            (Stream::Tcp(stream), Some(config)) => Tls::new(stream, config, name),
            _ => Err(Why::Tls("there is no TLS in memory".into())),
        };
        match begun {
            Ok(tls) => {
                socket.stream = Stream::Tls(Box::new(tls));
                self.socket = Some(socket);
            }
            Err(why) => self.dialler.tls_failed(means, why),
        }
    }

    #[cfg(not(feature = "tls"))]
    fn secure(&mut self, means: &mut Means<'_>, _: &str) {
        self.dialler.tls_failed(means, Why::Tls("this build has no TLS: feature `tls`".into()));
    }

    /// Goes on with the handshake of TLS. Returns whether that has come to something.
    fn shake(&mut self, means: &mut Means<'_>) -> bool {
        #[cfg(feature = "tls")]
        if self.dialler.state() == State::Securing
            && let Some(Socket { stream: Stream::Tls(tls), .. }) = &mut self.socket
        {
            match tls.shake() {
                Ok(false) => {}
                Ok(true) => {
                    self.dialler.secured(means);
                    return true;
                }
                Err(why) => {
                    self.dialler.tls_failed(means, why);
                    return true;
                }
            }
        }
        let _ = means;
        false
    }

    /// Looks which tries have connected, or failed.
    fn look_at_tries(&mut self, means: &mut Means<'_>) -> bool {
        let Some(tries) = &mut self.tries else { return false };
        let mut done = Vec::new();
        tries.0.retain(|(number, stream)| match stream.is_connected() {
            Ok(false) => true,
            Ok(true) => {
                done.push((*number, None));
                true
            }
            Err(error) => {
                done.push((*number, Some(error.to_string())));
                false
            }
        });
        let has_acted = !done.is_empty();
        for (number, error) in done {
            match error {
                None => self.dialler.connected(means, number),
                Some(error) => self.dialler.connect_failed(means, number, error),
            }
        }
        has_acted
    }

    fn tell_all(&mut self, means: &mut Means<'_>) -> bool {
        let told = self.dialler.take_told();
        let has_told = !told.is_empty();
        for told in told {
            self.tell_one(means, told);
        }
        has_told
    }

    fn tell_one(&mut self, means: &mut Means<'_>, told: Told) {
        let event = match told {
            Told::State { state, wait, failures, why } => {
                self.link.note_state(state);
                if let Some(topics) = &mut self.topics {
                    topics.reset();
                }
                if state == State::Stopped {
                    let why = why.as_ref().map_or_else(String::new, Why::to_string);
                    self.give_up_all(means, &why);
                }
                LinkEvent::State(StateChange { state, wait, failures, why })
            }
            Told::Message(message)
                if self.topics.as_ref().is_some_and(|topics| topics.reads(&message)) =>
            {
                return self.hear(means, &message);
            }
            Told::Message(message) => LinkEvent::Message(message),
            Told::Event(event) => LinkEvent::Event(event),
            Told::Answer(answer) => LinkEvent::Answer(answer),
            #[cfg(feature = "mqtt")]
            Told::Broker(heard) => LinkEvent::Broker(heard),
            Told::Degraded => LinkEvent::Degraded,
            Told::Alarm => LinkEvent::Alarm,
        };
        self.tell(means, event);
    }

    fn hear(&mut self, means: &mut Means<'_>, message: &Message) {
        let Some(topics) = &mut self.topics else { return };
        let mut all = Vec::new();
        topics.receive(means.now, message, &mut |heard| all.push(heard));
        for heard in all {
            match &heard {
                TopicEvent::Goaway(wait) => self.dialler.note_goaway(*wait),
                TopicEvent::Ready => self.dialler.note_greeted(),
                _ => {}
            }
            self.tell(means, LinkEvent::Topic(heard));
        }
        self.extend();
    }

    /// Hands in another token, if the server says that the one before soon expires. If there is
    /// none the server ends the connection, and the next one asks again.
    fn extend(&mut self) {
        let Some(topics) = &mut self.topics else { return };
        if !topics.take_token_due() {
            return;
        }
        let token = self.renews.as_ref().and_then(ask);
        if let Some(token) = token.filter(|token| self.dialler.set_token(token)) {
            topics.hand_in(&token);
        }
    }

    /// Tells what has become of publications that nobody will answer.
    fn give_up_all(&mut self, means: &mut Means<'_>, why: &str) {
        let Some(topics) = &mut self.topics else { return };
        let mut all = Vec::new();
        topics.give_up_all(why, &mut |heard| all.push(heard));
        all.into_iter().for_each(|heard| self.tell(means, LinkEvent::Topic(heard)));
    }

    fn tell(&mut self, means: &mut Means<'_>, event: LinkEvent) {
        let handler = match &mut self.listener {
            Listener::Handler(handler) => handler,
            Listener::Inbox(inbox) => return inbox.push(event),
        };
        let call = AssertUnwindSafe(|| handler.on_event(&self.link, event));
        if catch_unwind(call).is_err() {
            error!("a client's handler panicked: the client is stopped");
            // Its state may be broken: it is called no more.
            self.listener = Listener::Handler(Box::new(|_: &Link, _: LinkEvent| {}));
            self.dialler.stop(means, 1000, "");
        }
    }

    /// Hands what topics have to say to the connection.
    fn hand_over(&mut self, means: &mut Means<'_>) -> bool {
        let mut has_acted = false;
        let Some(topics) = &mut self.topics else { return false };
        while let Some(message) = topics.poll_send() {
            match self.dialler.send(means, message.clone()) {
                Ok(()) => has_acted = true,
                Err(_) => {
                    topics.put_back(message);
                    break;
                }
            }
        }
        has_acted
    }

    fn write(&mut self, means: &mut Means<'_>, around: &mut Around<'_>) -> bool {
        let mut has_acted = false;
        while let Some(socket) = &mut self.socket
            && (self.dialler.wants_write() || socket.stream.wants_write())
            && (socket.is_writable || socket.stream.is_memory())
        {
            around.scratch.clear();
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let count = self.dialler.gather(&mut slices, around.scratch);
            match socket.stream.write(&slices[..count]) {
                Ok(0) => break,
                Ok(len) => {
                    self.dialler.written(means, len);
                    has_acted = true;
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => {
                        socket.is_writable = false;
                        return has_acted;
                    }
                    _ => {
                        // What the server has said before it closed is still to be read.
                        socket.is_writable = false;
                        socket.is_readable = true;
                        return has_acted;
                    }
                },
            }
        }
        has_acted
    }

    fn read(&mut self, means: &mut Means<'_>, around: &mut Around<'_>) -> bool {
        let has_room = self.has_room();
        self.dialler.set_paused(means.now, !has_room);
        let has_room = has_room && self.dialler.wants_read();
        #[cfg(feature = "deflate")]
        if has_room && self.dialler.receive_unread(means) {
            return true;
        }
        let Some(socket) = &mut self.socket else { return false };
        if self.dialler.state() == State::Securing {
            return false;
        }
        if !has_room || !(socket.is_readable || socket.stream.is_memory()) {
            return false;
        }
        match socket.stream.read(means.now, around.buffer) {
            Ok(0) => {
                let error = socket.stream.is_cut().then(|| "FIN without close_notify".into());
                self.socket = None;
                self.dialler.lost(means, error);
                true
            }
            Ok(len) => {
                #[cfg(feature = "mqtt")]
                if self.dialler.awaits_broker() {
                    socket.stream.acknowledge_at_once();
                }
                self.dialler.receive(means, &mut around.buffer[..len]);
                true
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted => true,
                ErrorKind::WouldBlock => {
                    socket.is_readable = false;
                    false
                }
                ErrorKind::InvalidData => {
                    self.dialler.tls_failed(means, Why::Tls(error.to_string()));
                    true
                }
                _ => {
                    self.socket = None;
                    self.dialler.lost(means, Some(error.to_string()));
                    true
                }
            },
        }
    }
}

/// Asks the application for a token; a panic gives none.
fn ask(source: &Arc<TokenSource>) -> Option<String> {
    catch_unwind(AssertUnwindSafe(|| source())).unwrap_or_else(|_| {
        error!("what gives a client its token panicked: the client is stopped");
        None
    })
}

/// How many tokens a client has: one for each address that may be tried at once.
pub(super) const TOKENS: usize = 8;

/// How often a client reads and writes in one turn.
const ROUNDS_MAX: usize = 16;

/// How many pieces are written at once.
const SLICES_MAX: usize = 16;

/// What waits for a client without a handler before no more is read.
const INBOX_MAX: usize = 1024;

/// And their bytes: one more message is taken.
const INBOX_BYTES_MAX: usize = 1 << 20;

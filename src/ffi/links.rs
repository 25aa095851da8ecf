//! Clients of a host: connections that it makes, on the loop that has its server.
//!
//! Without the feature `client` the functions of the header are there, and say so.

use std::ffi::{c_char, c_int, c_uint, c_void};

use tungstenite::Bytes;

use super::failure::{Code, Failure, OK};
use super::handle::{Heartwheel, with};
use super::host::Host;
use super::input;
use crate::core::topics::Payload;

/// Makes a client.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_connect(
    handle: *mut Heartwheel,
    url: *const c_char,
    token: *const c_char,
    flags: c_uint,
    out: *mut u64,
) -> c_int {
    let body = |host: &mut Host| {
        if out.is_null() || !out.is_aligned() {
            return Err(Failure::new(Code::Argument, c"out must point to a peer"));
        }
        // SAFETY: the host's texts.
        let (url, token) = unsafe { (input::text(url)?, input::optional_text(token)?) };
        let client = host.connect(url, token, flags)?;
        // SAFETY: it is not null and aligned, and the host says that a peer can be put there.
        unsafe { out.write(client) };
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Publishes text to a topic of the server of a client.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_publish_to(
    handle: *mut Heartwheel,
    client: u64,
    topic: *const c_char,
    text: *const c_char,
    len: usize,
    reference: *mut u64,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's texts.
        let (topic, text) = unsafe { (input::text(topic)?, input::utf8(text, len)?) };
        let published = host.publish_to(input::peer(client)?, topic, Payload::text(text))?;
        // SAFETY: the host's place.
        unsafe { put(reference, published) };
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Publishes bytes to a topic of the server of a client.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_publish_binary_to(
    handle: *mut Heartwheel,
    client: u64,
    topic: *const c_char,
    data: *const c_void,
    len: usize,
    reference: *mut u64,
) -> c_int {
    let body = |host: &mut Host| {
        // SAFETY: the host's text and bytes.
        let (topic, data) = unsafe { (input::text(topic)?, input::bytes(data.cast(), len)?) };
        let payload = Payload::Binary(Bytes::copy_from_slice(data));
        let published = host.publish_to(input::peer(client)?, topic, payload)?;
        // SAFETY: the host's place.
        unsafe { put(reference, published) };
        Ok(OK)
    };
    // SAFETY: the host's handle.
    unsafe { with(handle, body) }
}

/// Writes a reference, if the host has given a place for it.
///
/// # Safety
///
/// `place` is null, or a number can be put there.
pub(super) unsafe fn put(place: *mut u64, reference: u64) {
    if !place.is_null() && place.is_aligned() {
        // SAFETY: it is not null and aligned, and the caller says that a number can be put there.
        unsafe { place.write(reference) };
    }
}

/// Writes the topic of the event that was pulled last.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_event_topic(
    handle: *mut Heartwheel,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the host's place and handle.
    unsafe { with(handle, |host| input::show(host.event_topic()?.as_bytes(), text, size)) }
}

/// Writes the id of the event that was pulled last.
///
/// # Safety
///
/// As the header says.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn heartwheel_event_id(
    handle: *mut Heartwheel,
    text: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: the host's place and handle.
    unsafe { with(handle, |host| input::show(host.event_id()?.as_bytes(), text, size)) }
}

#[cfg(not(feature = "client"))]
impl Host {
    fn connect(&mut self, _: &str, _: Option<&str>, _: c_uint) -> Result<u64, Failure> {
        Err(NO_CLIENTS)
    }

    fn publish_to(
        &mut self,
        _: crate::core::ground::id::ConnectionId,
        _: &str,
        _: Payload,
    ) -> Result<u64, Failure> {
        Err(NO_CLIENTS)
    }

    fn event_topic(&self) -> Result<String, Failure> {
        Err(NO_CLIENTS)
    }

    fn event_id(&self) -> Result<String, Failure> {
        Err(NO_CLIENTS)
    }
}

#[cfg(not(feature = "client"))]
const NO_CLIENTS: Failure =
    Failure::new(Code::Argument, c"the library was built without the feature `client`");

#[cfg(feature = "client")]
pub(super) use with_clients::LinkPulled;
#[cfg(all(feature = "client", feature = "presence"))]
pub(super) use with_clients::{number_of, topic_taken};

#[cfg(feature = "client")]
mod with_clients {
    use std::ffi::c_uint;

    use super::super::event::HeartwheelEvent;
    use super::super::failure::{Code, Failure};
    use super::super::host::Host;
    use crate::core::client::topics::{TopicEvent, TopicRefused};
    use crate::core::client::{SendRefused, State};
    use crate::core::engine::Refused;
    use crate::core::ground::id::{ConnectionId, Generation};
    use crate::core::ground::time::millis_up;
    use crate::core::topics::{After, Payload};
    use crate::core::wire::message::Message;
    use crate::threads::dial::{Dial, DialError};
    use crate::threads::link::{Link, LinkEvent};

    /// The event of a client that was pulled last.
    pub(in super::super) struct LinkPulled {
        pub event: LinkEvent,
        /// Whom it names, if the host has asked.
        #[cfg(feature = "presence")]
        pub named: Option<super::super::presence::Named>,
    }

    impl Host {
        pub(super) fn connect(
            &mut self,
            url: &str,
            token: Option<&str>,
            flags: c_uint,
        ) -> Result<u64, Failure> {
            if flags & !TOPICS != 0 {
                return Err(Failure::new(Code::Argument, c"there are no such flags"));
            }
            let config = self.server.inner.engine().config().clone();
            let dial = Dial::to(url).and_then(|dial| dial.config(&config)).map_err(refused)?;
            let dial = match token {
                Some(token) => dial.token(token),
                None => dial,
            };
            let dial = if flags & TOPICS != 0 { dial.topics() } else { dial };
            // The system's certificates are read, and kept, once for all clients.
            #[cfg(feature = "tls")]
            let dial = match &self.first_dial {
                Some(first) => dial.share_files(first),
                None => dial,
            };
            dial.check().map_err(refused)?;
            #[cfg(feature = "tls")]
            self.first_dial.get_or_insert_with(|| dial.clone());
            let link = self.server.inner.with_clients(|clients, now| clients.connect(now, dial));
            let id = id_of(link.number()).as_u64();
            self.links.push(link);
            Ok(id)
        }

        pub(super) fn publish_to(
            &mut self,
            id: ConnectionId,
            topic: &str,
            payload: Payload,
        ) -> Result<u64, Failure> {
            let link = self.link(id).ok_or(Refused::Gone)?;
            let (number, reference) = (link.number(), link.next_reference());
            let content = payload.into();
            let taken = self.server.inner.with_clients(|clients, now| {
                clients.ask(now, number, |entry, means| {
                    entry.publish(means, reference, topic, &content)
                })
            });
            topic_taken(taken)?;
            Ok(reference.into())
        }

        pub(super) fn event_topic(&self) -> Result<String, Failure> {
            let event = self.link_event.as_ref().map(|pulled| &pulled.event);
            match event {
                Some(LinkEvent::Topic(
                    TopicEvent::Event { topic, .. }
                    | TopicEvent::Gap { topic, .. }
                    | TopicEvent::NotSubscribed { topic, .. },
                )) => Ok(topic.clone()),
                #[cfg(feature = "presence")]
                Some(LinkEvent::Topic(
                    TopicEvent::Presence { topic, .. } | TopicEvent::NoPresence { topic, .. },
                )) => Ok(topic.clone()),
                _ => Err(Failure::new(Code::None, c"the event is of no topic")),
            }
        }

        pub(super) fn event_id(&self) -> Result<String, Failure> {
            let event = self.link_event.as_ref().map(|pulled| &pulled.event);
            match event {
                Some(LinkEvent::Topic(TopicEvent::Event { event, .. })) => Ok(event.id.to_string()),
                Some(LinkEvent::Topic(TopicEvent::Published { id, .. })) => Ok(id.to_string()),
                _ => Err(Failure::new(Code::None, c"the event has no id")),
            }
        }

        /// Returns the client of this id.
        pub fn link(&self, id: ConnectionId) -> Option<&Link> {
            let number = number_of(id)?;
            self.links.iter().find(|link| link.number() == number)
        }

        /// Sends a message to the server of a client; `None` if the id is of a peer.
        pub fn send_to_server(
            &mut self,
            id: ConnectionId,
            make: &dyn Fn() -> Option<Message>,
        ) -> Option<Result<(), Failure>> {
            let number = number_of(id)?;
            Some(match make() {
                None => Err(Failure::new(Code::Full, c"there is no memory for the message")),
                Some(message) => {
                    let sent = self.server.inner.with_clients(|clients, now| {
                        clients.ask(now, number, |entry, means| entry.send(means, message))
                    });
                    match sent {
                        Some(Ok(())) => Ok(()),
                        Some(Err(SendRefused::Full)) => Err(Refused::OutboxFull.into()),
                        Some(Err(SendRefused::NotOpen)) => {
                            Err(Failure::new(Code::Gone, c"the client has no open connection"))
                        }
                        None => Err(Refused::Gone.into()),
                    }
                }
            })
        }

        /// Stops a client; `None` if the id is of a peer.
        pub fn stop_link(
            &mut self,
            id: ConnectionId,
            code: u16,
            text: &str,
        ) -> Option<Result<(), Failure>> {
            let number = number_of(id)?;
            let stopped = self.server.inner.with_clients(|clients, now| {
                clients.ask(now, number, |entry, means| entry.stop(means, code, text))
            });
            Some(stopped.ok_or(Refused::Gone.into()))
        }

        /// Subscribes to a topic of the server of a client, or ends that; `None` if the id is of a
        /// peer.
        pub fn subscribe_at_server(
            &mut self,
            id: ConnectionId,
            topic: &str,
            after: Option<After>,
        ) -> Option<Result<bool, Failure>> {
            let number = number_of(id)?;
            let taken = self.server.inner.with_clients(|clients, now| {
                clients.ask(now, number, |entry, _| match after {
                    Some(after) => entry.subscribe(topic, after),
                    None => {
                        entry.unsubscribe(topic);
                        Ok(())
                    }
                })
            });
            Some(topic_taken(taken).map(|()| false))
        }

        /// Pulls the next event of a client.
        pub fn next_link_event(&mut self) -> Option<HeartwheelEvent> {
            self.link_event = None;
            if self.links.is_empty() {
                return None;
            }
            loop {
                let (number, event) =
                    self.server.inner.with_clients(|clients, now| clients.poll_inbox(now))?;
                let is_last = matches!(
                    &event,
                    LinkEvent::State(change) if change.state == State::Stopped
                );
                if is_last {
                    self.links.retain(|link| link.number() != number);
                    self.server.inner.with_clients(|clients, _| clients.forget(number));
                }
                let pulled = LinkPulled {
                    event,
                    #[cfg(feature = "presence")]
                    named: None,
                };
                let pulled = self.link_event.insert(Box::new(pulled));
                if let Some(event) = event_of(id_of(number), &pulled.event) {
                    return Some(event);
                }
            }
        }
    }

    /// Describes an event of a client; `None` for those that hosts are not told.
    fn event_of(id: ConnectionId, event: &LinkEvent) -> Option<HeartwheelEvent> {
        let peer = id.as_u64();
        let made = |kind, code, data: &[u8]| HeartwheelEvent::made(kind, code, peer, data);
        Some(match event {
            LinkEvent::State(change) => {
                let code = change.why.as_ref().map_or(0, |why| why.code());
                let event = made(STATE, code, change.state.label().as_bytes());
                event.with_token(change.wait.map_or(0, millis_up))
            }
            LinkEvent::Message(message) => HeartwheelEvent::of_message(id, message),
            LinkEvent::Degraded => made(DEGRADED, 0, b""),
            LinkEvent::Alarm => made(ALARM, 0, b""),
            LinkEvent::Topic(TopicEvent::Event { event, .. }) => match &event.payload {
                Payload::Binary(bytes) => made(TOPIC_BINARY, 0, bytes),
                text => made(TOPIC_TEXT, 0, text.as_bytes()),
            },
            LinkEvent::Topic(TopicEvent::Gap { .. }) => made(TOPIC_GAP, 0, b""),
            LinkEvent::Topic(TopicEvent::Published { reference, .. }) => {
                made(PUBLISHED, 0, b"").with_token((*reference).into())
            }
            LinkEvent::Topic(TopicEvent::Taken { reference }) => {
                made(PUBLISHED, 0, b"").with_token((*reference).into())
            }
            LinkEvent::Topic(TopicEvent::NotPublished { reference, code, .. }) => {
                made(NOT_PUBLISHED, 0, code.as_bytes()).with_token((*reference).into())
            }
            LinkEvent::Topic(TopicEvent::NotSubscribed { code, .. }) => {
                made(NOT_SUBSCRIBED, 0, code.as_bytes())
            }
            #[cfg(feature = "presence")]
            LinkEvent::Topic(TopicEvent::Presence { reference, .. }) => {
                made(PRESENCE, 0, b"").with_token((*reference).into())
            }
            #[cfg(feature = "presence")]
            LinkEvent::Topic(TopicEvent::NoPresence { reference, code, .. }) => {
                made(NO_PRESENCE, 0, code.as_bytes()).with_token((*reference).into())
            }
            LinkEvent::Topic(_) | LinkEvent::Event(_) | LinkEvent::Answer(_) => return None,
            #[cfg(feature = "mqtt")]
            LinkEvent::Broker(_) => return None,
        })
    }

    fn refused(error: DialError) -> Failure {
        let code = match error {
            DialError::Tls(_) => Code::Config,
            _ => Code::Argument,
        };
        Failure::told(code, &error.to_string())
    }

    pub(in super::super) fn topic_taken(
        taken: Option<Result<(), TopicRefused>>,
    ) -> Result<(), Failure> {
        match taken {
            None => Err(Refused::Gone.into()),
            Some(Ok(())) => Ok(()),
            Some(Err(refused)) => {
                let code = match refused {
                    TopicRefused::Full => Code::Full,
                    _ => Code::Argument,
                };
                Err(Failure::told(code, &refused.to_string()))
            }
        }
    }

    /// Returns the id under which C knows a client: no connection has such a slot.
    fn id_of(number: u64) -> ConnectionId {
        ConnectionId::new(CLIENT_SLOT, Generation::from_bits(number + 1))
    }

    pub(in super::super) fn number_of(id: ConnectionId) -> Option<u64> {
        let generation = (id.key() == CLIENT_SLOT).then_some(id.as_u64() >> 24)?;
        generation.checked_sub(1)
    }

    /// The slot below those that listeners and the server itself have.
    const CLIENT_SLOT: usize = ConnectionId::SLOTS_MAX - 3;

    const TOPICS: c_uint = 1;

    const STATE: u32 = 11;
    const TOPIC_TEXT: u32 = 12;
    const TOPIC_BINARY: u32 = 13;
    const TOPIC_GAP: u32 = 14;
    const PUBLISHED: u32 = 15;
    const NOT_PUBLISHED: u32 = 16;
    const NOT_SUBSCRIBED: u32 = 17;
    const DEGRADED: u32 = 18;
    const ALARM: u32 = 19;
    #[cfg(feature = "presence")]
    const PRESENCE: u32 = 20;
    #[cfg(feature = "presence")]
    const NO_PRESENCE: u32 = 21;
}

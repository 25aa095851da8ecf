//! A client's session with a broker, over all its connections.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use log::{debug, warn};
use tungstenite::{Bytes, Utf8Bytes};

use super::echoes::Echoes;
use super::framer::{BadLength, Framer};
use super::login::{Login, Version};
use super::packets::{Outgoing, Packets, Said};
use crate::core::bridge::rules::fits;
use crate::core::client::link::after;
use crate::core::client::why::Why;
use crate::core::ground::time::{Instant, sooner};
use crate::core::topics::{EventId, Payload};

/// What outlasts a connection, and the connection that there is.
#[derive(Debug)]
pub struct Session {
    login: Arc<Login>,
    /// The next connection speaks version 5.
    is_five: bool,
    /// The broker has accepted a connection in this version: it is not tried in another.
    is_known: bool,
    has_subscribed: bool,
    /// Which connection it is.
    number: u32,
    talk: Option<Box<Talk>>,
    /// Publications without an acknowledgement, in their order: first those that were sent on this
    /// connection.
    pending: VecDeque<Pending>,
    echoes: Option<Box<Echoes>>,
}

/// One connection.
#[derive(Debug)]
struct Talk {
    packets: Packets,
    framer: Framer,
    is_up: bool,
    is_paused: bool,
    heard_at: Instant,
    sent_at: Instant,
    /// A PINGREQ has no answer.
    pinged: bool,
    keep_alive: Duration,
    /// What has come without an acknowledgement from here.
    unacknowledged: u16,
    /// When the filters were sent, until they are answered.
    subscribing_at: Option<Instant>,
}

#[derive(Debug)]
struct Pending {
    publication: Publication,
    /// The number of its packet, and when that was sent on this connection.
    sent: Option<(u16, Instant)>,
    is_again: bool,
}

/// What is to be published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication {
    /// By which its fate is told.
    pub reference: u32,
    /// The broker's name of the topic.
    pub topic: String,
    /// What is published.
    pub payload: Payload,
    /// The event that it is here, if it is one.
    pub id: Option<EventId>,
}

/// What the broker said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// The broker has accepted the connection.
    Accepted,
    /// A publication has arrived.
    Acked(u32),
    /// A publication was refused, and is not sent again.
    Refused {
        /// Which.
        reference: u32,
        /// In words.
        why: String,
    },
    /// Something was published by another client.
    Came(Arrival),
    /// The broker does not let this client subscribe to a filter.
    NotSubscribed(String),
}

/// What another client has published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// The broker's name of the topic.
    pub topic: String,
    /// What was published: UTF-8 is text.
    pub payload: Payload,
    /// What the acknowledgement needs; none is wanted where there is none.
    pub receipt: Option<Receipt>,
}

/// Names what has come, until it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    connection: u32,
    id: u16,
}

impl Receipt {
    /// Returns it as a number, which is not 0.
    pub fn number(self) -> u64 {
        u64::from(self.connection) << 16 | u64::from(self.id)
    }

    /// Returns the receipt of a number; `None` of 0.
    pub fn from_number(number: u64) -> Option<Receipt> {
        let receipt = Receipt { connection: (number >> 16) as u32, id: number as u16 };
        (receipt.id != 0).then_some(receipt)
    }
}

/// What is due on an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Ping,
    Silence,
    Ack,
    Packet,
}

impl Session {
    pub fn new(login: Arc<Login>) -> Session {
        Session {
            is_five: login.version != Version::V311,
            is_known: false,
            has_subscribed: false,
            number: 0,
            talk: None,
            pending: VecDeque::new(),
            echoes: None,
            login,
        }
    }

    /// Returns whether the broker has accepted the connection.
    pub fn is_up(&self) -> bool {
        self.talk.as_ref().is_some_and(|talk| talk.is_up)
    }

    /// Returns whether publications wait for the broker.
    pub fn has_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Returns how many more publications are taken.
    pub fn room(&self) -> usize {
        usize::from(self.login.window).saturating_sub(self.pending.len())
    }

    /// Returns whether more of what the broker sends is taken: not while too much waits for the
    /// acknowledgement from here. A broker of version 5 keeps to the window by itself.
    pub fn wants_read(&self) -> bool {
        self.talk.as_ref().is_none_or(|talk| talk.unacknowledged < ARRIVALS_MAX)
    }

    /// Begins a connection.
    pub fn begin(&mut self, now: Instant) -> Result<(), Why> {
        let mut packets = Packets::new(&self.login, self.is_five);
        packets.connect(&self.login).map_err(|error| broken(&error))?;
        self.number = self.number.wrapping_add(1);
        self.talk = Some(Box::new(Talk {
            packets,
            framer: Framer::default(),
            is_up: false,
            is_paused: false,
            heard_at: now,
            sent_at: now,
            pinged: false,
            keep_alive: self.login.keep_alive,
            unacknowledged: 0,
            subscribing_at: None,
        }));
        Ok(())
    }

    /// Takes note that there is no connection any more.
    pub fn end(&mut self) {
        if self.talk.take().is_some_and(|talk| !talk.is_up) {
            self.try_other_version();
        }
        for pending in &mut self.pending {
            pending.is_again |= pending.sent.take().is_some();
        }
    }

    /// Takes what is to be sent.
    pub fn take_out(&mut self, now: Instant) -> Option<Vec<u8>> {
        let talk = self.talk.as_mut()?;
        let out = talk.packets.take_out();
        if out.is_empty() {
            return None;
        }
        talk.sent_at = now;
        Some(out)
    }

    /// Takes what the broker has sent.
    pub fn receive(
        &mut self,
        now: Instant,
        mut input: &[u8],
        tell: &mut dyn FnMut(Heard),
    ) -> Result<(), Why> {
        loop {
            let Some(talk) = &mut self.talk else { return Ok(()) };
            talk.heard_at = now;
            talk.pinged = false;
            let is_first = !talk.is_up && talk.framer.begun_at().is_none();
            if is_first && input.first().is_some_and(|head| *head != CONNACK) {
                return Err(Why::Answer("what answers is no MQTT broker".into()));
            }
            let packet = match talk.framer.next(now, &mut input, self.login.packet_max) {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(()),
                Err(BadLength::Malformed) => {
                    return Err(Why::Answer("a packet is malformed".into()));
                }
                Err(BadLength::TooLong) => return Err(Why::Answer("a packet is too long".into())),
            };
            let said = talk.packets.read(packet.as_ref()).map_err(|error| broken(&error))?;
            self.hear(now, said, tell)?;
        }
    }

    fn hear(&mut self, now: Instant, said: Said, tell: &mut dyn FnMut(Heard)) -> Result<(), Why> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        match said {
            Said::Accepted { .. } if talk.is_up => {
                Err(Why::Answer("the broker breaks MQTT: it accepts twice".into()))
            }
            Said::Accepted { has_session, keep_alive } => {
                talk.is_up = true;
                if let Some(seconds) = keep_alive {
                    talk.keep_alive = Duration::from_secs(seconds.into());
                }
                self.is_known = true;
                debug!("broker accepted session={has_session} version={}", self.version());
                self.begin_anew(now, has_session, tell)
            }
            Said::Refused { why, is_for_version } => {
                // What is refused in the form of version 5 was understood.
                self.is_known = self.is_five && !is_for_version;
                Err(Why::Answer(format!("the broker refuses: {why}")))
            }
            Said::Acked { id, refused } => {
                let is_its = |pending: &Pending| pending.sent.is_some_and(|(own, _)| own == id);
                // The library has checked that one bears it.
                let Some(index) = self.pending.iter().position(is_its) else { return Ok(()) };
                let Some(pending) = self.pending.remove(index) else { return Ok(()) };
                let reference = pending.publication.reference;
                tell(match refused {
                    None => Heard::Acked(reference),
                    Some(why) => Heard::Refused { reference, why },
                });
                self.send_pending(now, tell)
            }
            Said::Subscribed { refused } => {
                talk.subscribing_at = None;
                self.has_subscribed = true;
                for index in refused {
                    let Some(filter) = self.login.filters.get(index) else { continue };
                    warn!("the broker refuses the subscription to {filter}");
                    tell(Heard::NotSubscribed(filter.clone()));
                }
                Ok(())
            }
            Said::Came { id, topic, payload, origin } => {
                self.take_arrival(id, topic, payload, origin, tell)
            }
            Said::Ends(why) => Err(Why::Lost(format!("the broker disconnects: {why}"))),
            Said::Alive => Ok(()),
        }
    }

    fn begin_anew(
        &mut self,
        now: Instant,
        has_session: bool,
        tell: &mut dyn FnMut(Heard),
    ) -> Result<(), Why> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        tell(Heard::Accepted);
        // A session from before this process may be subscribed to other filters.
        let is_subscribed = has_session && self.has_subscribed;
        if !self.login.filters.is_empty() && !is_subscribed {
            talk.packets.subscribe(&self.login).map_err(|error| broken(&error))?;
            talk.subscribing_at = Some(now);
        }
        self.send_pending(now, tell)
    }

    fn take_arrival(
        &mut self,
        id: Option<u16>,
        topic: String,
        payload: Bytes,
        origin: Option<String>,
        tell: &mut dyn FnMut(Heard),
    ) -> Result<(), Why> {
        let is_own = origin.is_some_and(|origin| origin == self.login.node);
        let is_echo =
            is_own || self.echoes.as_mut().is_some_and(|echoes| echoes.take(&topic, &payload));
        let Some(talk) = &mut self.talk else { return Ok(()) };
        if is_echo {
            return match id {
                Some(id) => talk.packets.acknowledge(id).map_err(|error| broken(&error)),
                None => Ok(()),
            };
        }
        let connection = self.number;
        let receipt = id.map(|id| Receipt { connection, id });
        talk.unacknowledged = talk.unacknowledged.saturating_add(u16::from(id.is_some()));
        let payload = match Utf8Bytes::try_from(payload.clone()) {
            Ok(text) => Payload::Text(text),
            Err(_) => Payload::Binary(payload),
        };
        tell(Heard::Came(Arrival { topic, payload, receipt }));
        Ok(())
    }

    /// Publishes, now or when there is a connection.
    ///
    /// # Errors
    ///
    /// The publication, where there is no room.
    pub fn publish(
        &mut self,
        now: Instant,
        publication: Publication,
        tell: &mut dyn FnMut(Heard),
    ) -> Result<(), Publication> {
        if self.room() == 0 {
            return Err(publication);
        }
        self.pending.push_back(Pending { publication, sent: None, is_again: false });
        // What the connection is not able to take waits for the next one.
        let _ = self.send_pending(now, tell);
        Ok(())
    }

    /// Sends what has not been sent on this connection, as far as the broker takes it.
    fn send_pending(&mut self, now: Instant, tell: &mut dyn FnMut(Heard)) -> Result<(), Why> {
        let Some(talk) = self.talk.as_mut().filter(|talk| talk.is_up) else { return Ok(()) };
        let login = &self.login;
        let mut index = self.pending.partition_point(|pending| pending.sent.is_some());
        while let Some(pending) = self.pending.get_mut(index) {
            if talk.packets.room() == 0 {
                break;
            }
            let Publication { reference, topic, payload, id } = &pending.publication;
            let id = id.map(|id| id.to_string());
            let outgoing = Outgoing {
                topic,
                payload: payload.as_bytes(),
                labels: id.as_deref().map(|id| (id, login.node.as_str())),
                is_again: pending.is_again && login.qos > 0,
            };
            let sent = talk.packets.publish(login.qos, &outgoing);
            let is_echoed = !self.is_five && login.filters.iter().any(|filter| fits(filter, topic));
            if sent.is_ok() && is_echoed && !pending.is_again {
                self.echoes.get_or_insert_default().note(topic, payload.as_bytes());
            }
            let heard = match sent {
                Ok(Some(id)) => {
                    pending.sent = Some((id, now));
                    index += 1;
                    continue;
                }
                Ok(None) => Heard::Acked(*reference),
                Err(error) => Heard::Refused { reference: *reference, why: format!("{error:?}") },
            };
            self.pending.remove(index);
            tell(heard);
        }
        if self.pending.is_empty() {
            // A bridge at rest owns nothing.
            self.pending = VecDeque::new();
        }
        Ok(())
    }

    /// Acknowledges what has come. What came on a connection before this one comes again.
    pub fn acknowledge(&mut self, now: Instant, receipt: Receipt) {
        let is_current = receipt.connection == self.number;
        let was_read = self.wants_read();
        let Some(talk) = self.talk.as_mut().filter(|_| is_current) else { return };
        talk.unacknowledged = talk.unacknowledged.saturating_sub(1);
        if let Err(error) = talk.packets.acknowledge(receipt.id) {
            debug!("broker not told of a receipt: {error:?}");
        }
        if !was_read {
            // The broker is not judged for what was not read.
            self.spare(now);
        }
    }

    /// Says that the connection ends in good order.
    pub fn disconnect(&mut self) {
        if let Some(talk) = &mut self.talk {
            // An error means that the broker has not accepted the connection: the end will do.
            let _ = talk.packets.disconnect();
        }
    }

    /// Begins or ends a pause of reading: what is judged by what comes is not judged meanwhile.
    pub fn set_paused(&mut self, now: Instant, is_paused: bool) {
        let Some(talk) = &mut self.talk else { return };
        if std::mem::replace(&mut talk.is_paused, is_paused) && !is_paused {
            self.spare(now);
        }
    }

    /// Begins all spans of the broker's anew: the process could not run, or did not read.
    pub fn spare(&mut self, now: Instant) {
        let Some(talk) = &mut self.talk else { return };
        talk.heard_at = now;
        talk.framer.spare(now);
        talk.subscribing_at = talk.subscribing_at.map(|_| now);
        for pending in &mut self.pending {
            pending.sent = pending.sent.map(|(id, _)| (id, now));
        }
    }

    /// Returns when something is due on an open connection; `message` is for one packet.
    pub fn due_at(&self, message: Duration) -> Option<Instant> {
        self.due(message).map(|(at, _)| at)
    }

    fn due(&self, message: Duration) -> Option<(Instant, Due)> {
        let talk = self.talk.as_ref().filter(|talk| talk.is_up)?;
        let is_read = !talk.is_paused && self.wants_read();
        let beats = !talk.keep_alive.is_zero();
        let quiet_at = match is_read && !talk.pinged {
            true => talk.heard_at.min(talk.sent_at),
            false => talk.sent_at,
        };
        let oldest = self.pending.front().and_then(|pending| pending.sent.map(|(_, at)| at));
        let waits_since = sooner(oldest, talk.subscribing_at);
        let silent_at = talk.heard_at + talk.keep_alive + talk.keep_alive / 2;
        let all = [
            beats.then(|| (quiet_at + talk.keep_alive, Due::Ping)),
            (beats && is_read).then(|| (after(silent_at, Duration::ZERO), Due::Silence)),
            waits_since.filter(|_| is_read).map(|at| (after(at, self.login.ack), Due::Ack)),
            talk.framer.begun_at().filter(|_| is_read).map(|at| (after(at, message), Due::Packet)),
        ];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// Acts on what is due.
    pub fn timeout(&mut self, now: Instant, message: Duration) -> Result<(), Why> {
        let Some((at, due)) = self.due(message) else { return Ok(()) };
        if at > now {
            return Ok(());
        }
        match due {
            Due::Ping => {
                let Some(talk) = &mut self.talk else { return Ok(()) };
                talk.pinged = true;
                talk.packets.ping().map_err(|error| broken(&error))
            }
            Due::Silence => Err(Why::Silent),
            Due::Ack => Err(Why::Lost("no acknowledgement in time".into())),
            Due::Packet => Err(Why::Message),
        }
    }

    /// A connection that was not accepted may have failed for its version: brokers say so in
    /// several ways, and some by closing.
    fn try_other_version(&mut self) {
        if self.login.version == Version::Auto && !self.is_known {
            self.is_five = !self.is_five;
        }
    }

    fn version(&self) -> &'static str {
        if self.is_five { "5" } else { "3.1.1" }
    }
}

/// The first byte of the broker's first packet (MQTT 5, 3.2.1).
const CONNACK: u8 = 0x20;

/// How much may have come without an acknowledgement from here before no more is read.
const ARRIVALS_MAX: u16 = 1024;

fn broken(error: &impl std::fmt::Debug) -> Why {
    Why::Answer(format!("the broker breaks MQTT: {error:?}"))
}

//! Packets of both versions as one, by the library's own state of a connection.

use std::sync::Arc;

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::{ConnectionOptions, Event};
use mqtt_protocol_core::mqtt::packet::{
    GenericPacketTrait as _, Packet, Property, Qos, RetainHandling, SessionExpiryInterval,
    SubEntry, SubOpts, UserProperty, v3_1_1, v5_0,
};
use mqtt_protocol_core::mqtt::result_code::MqttError;
use tungstenite::Bytes;

use super::login::Login;

/// One connection, as the library has it.
pub(super) struct Packets {
    wire: mqtt::Connection<mqtt::role::Client>,
    is_five: bool,
    /// What is to be sent.
    out: Vec<u8>,
}

/// What a packet of the broker's says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// The connection is accepted. The broker may want another keep-alive, in seconds.
    Accepted { has_session: bool, keep_alive: Option<u16> },
    /// The connection is refused, in words; perhaps for the version alone.
    Refused { why: String, is_for_version: bool },
    /// A publication has arrived, or was refused, in words.
    Acked { id: u16, refused: Option<String> },
    /// The filters that were refused, by their places in the list.
    Subscribed { refused: Vec<usize> },
    /// A publication of another client.
    Came { id: Option<u16>, topic: String, payload: Bytes, origin: Option<String> },
    /// The broker ends the connection, in words.
    Ends(String),
    /// An answer to a ping, and what says nothing.
    Alive,
}

/// One publication, as it is written.
pub(super) struct Outgoing<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// The id of the event, and the node that has it.
    pub labels: Option<(&'a str, &'a str)>,
    pub is_again: bool,
}

impl Packets {
    pub fn new(login: &Login, is_five: bool) -> Packets {
        let version = if is_five { mqtt::Version::V5_0 } else { mqtt::Version::V3_1_1 };
        let mut options = ConnectionOptions::new().maximum_packet_size_recv(login.packet_max);
        if is_five {
            options = options.receive_maximum(login.window);
        }
        let wire = mqtt::Connection::with_options(version, options);
        Packets { wire, is_five, out: Vec::new() }
    }

    /// Takes what is to be sent.
    pub fn take_out(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out)
    }

    /// Returns how many more publications the broker takes before it acknowledges one.
    pub fn room(&self) -> u16 {
        self.wire.get_receive_maximum_vacancy_for_send().unwrap_or(u16::MAX)
    }

    /// Asks for a connection. The session is kept by the broker.
    pub fn connect(&mut self, login: &Login) -> Result<(), MqttError> {
        let seconds = u16::try_from(login.keep_alive.as_secs()).unwrap_or(u16::MAX);
        let packet: Packet = if self.is_five {
            let expiry = Property::SessionExpiryInterval(SessionExpiryInterval::new(SESSION_KEPT)?);
            let mut connect = v5_0::Connect::builder()
                .client_id(login.client_id.as_str())?
                .clean_start(false)
                .keep_alive(seconds)
                .props(vec![expiry]);
            if let Some(user) = &login.user {
                connect = connect.user_name(user.as_str())?;
            }
            if let Some(password) = &login.password {
                connect = connect.password(password)?;
            }
            connect.build()?.into()
        } else {
            let mut connect = v3_1_1::Connect::builder()
                .client_id(login.client_id.as_str())?
                .clean_session(false)
                .keep_alive(seconds);
            if let Some(user) = &login.user {
                connect = connect.user_name(user.as_str())?;
            }
            if let Some(password) = &login.password {
                connect = connect.password(password)?;
            }
            connect.build()?.into()
        };
        self.send(packet)
    }

    /// Subscribes to all filters. What this client publishes does not come back in version 5, and
    /// what is retained comes for a new subscription alone.
    pub fn subscribe(&mut self, login: &Login) -> Result<(), MqttError> {
        let id = self.wire.acquire_packet_id()?;
        let qos = qos(login.qos);
        let options = match self.is_five {
            true => SubOpts::new()
                .set_qos(qos)
                .set_nl(true)
                .set_rh(RetainHandling::SendRetainedIfNotExists),
            false => SubOpts::new().set_qos(qos),
        };
        let entries = login.filters.iter().map(|filter| SubEntry::new(filter.as_str(), options));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let packet: Packet = if self.is_five {
            v5_0::Subscribe::builder().packet_id(id).entries(entries).build()?.into()
        } else {
            v3_1_1::Subscribe::builder().packet_id(id).entries(entries).build()?.into()
        };
        self.send(packet)
    }

    /// Publishes with quality 1, and returns the number that the acknowledgement will bear; with
    /// quality 0 there is none.
    pub fn publish(
        &mut self,
        level: u8,
        outgoing: &Outgoing<'_>,
    ) -> Result<Option<u16>, MqttError> {
        let id = (level > 0).then(|| self.wire.acquire_packet_id()).transpose()?;
        let built = self.build(id, outgoing).and_then(|packet| self.send(packet));
        if built.is_err()
            && let Some(id) = id
        {
            // The library has given it back where it has refused the packet itself.
            self.wire.release_packet_id(id);
        }
        built.map(|()| id)
    }

    fn build(&self, id: Option<u16>, outgoing: &Outgoing<'_>) -> Result<Packet, MqttError> {
        let Outgoing { topic, payload, labels, is_again } = *outgoing;
        let qos = qos(u8::from(id.is_some()));
        let payload: Arc<[u8]> = payload.into();
        if !self.is_five {
            let publish = v3_1_1::Publish::builder().topic_name(topic)?.qos(qos).dup(is_again);
            return Ok(publish.packet_id(id).payload(payload).build()?.into());
        }
        let mut publish = v5_0::Publish::builder().topic_name(topic)?.qos(qos).dup(is_again);
        if let Some((id, node)) = labels {
            let id = Property::UserProperty(UserProperty::new(ID, id)?);
            let node = Property::UserProperty(UserProperty::new(ORIGIN, node)?);
            publish = publish.props(vec![id, node]);
        }
        Ok(publish.packet_id(id).payload(payload).build()?.into())
    }

    /// Acknowledges what has come.
    pub fn acknowledge(&mut self, id: u16) -> Result<(), MqttError> {
        let packet: Packet = match self.is_five {
            true => v5_0::Puback::builder().packet_id(id).build()?.into(),
            false => v3_1_1::Puback::builder().packet_id(id).build()?.into(),
        };
        self.send(packet)
    }

    pub fn ping(&mut self) -> Result<(), MqttError> {
        let packet: Packet = match self.is_five {
            true => v5_0::Pingreq::builder().build()?.into(),
            false => v3_1_1::Pingreq::builder().build()?.into(),
        };
        self.send(packet)
    }

    /// Says that the connection ends in good order.
    pub fn disconnect(&mut self) -> Result<(), MqttError> {
        let packet: Packet = match self.is_five {
            true => v5_0::Disconnect::builder().build()?.into(),
            false => v3_1_1::Disconnect::builder().build()?.into(),
        };
        self.send(packet)
    }

    /// Reads one whole packet.
    pub fn read(&mut self, packet: &[u8]) -> Result<Said, MqttError> {
        // A broker that knows 3.1.1 alone refuses version 5 in the form of 3.1.1.
        if self.is_five && matches!(packet, [0x20, 2, _, 1]) {
            let why = "it does not know MQTT 5".to_owned();
            return Ok(Said::Refused { why, is_for_version: true });
        }
        let mut cursor = mqtt::common::Cursor::new(packet);
        let events = self.wire.recv(&mut cursor);
        let packet = self.follow(events)?;
        packet.map_or(Ok(Said::Alive), read)
    }

    fn send(&mut self, packet: Packet) -> Result<(), MqttError> {
        let events = self.wire.send(packet);
        self.follow(events).map(drop)
    }

    /// Does what the library asks for. Time is not its business here.
    fn follow(&mut self, events: Vec<Event>) -> Result<Option<Packet>, MqttError> {
        let mut received = None;
        let mut failed = None;
        for event in events {
            match event {
                Event::NotifyPacketReceived(packet) => received = Some(packet),
                Event::RequestSendPacket { packet, .. } => {
                    let bytes = packet.to_continuous_buffer();
                    match self.out.is_empty() {
                        true => self.out = bytes,
                        false => self.out.extend_from_slice(&bytes),
                    }
                }
                Event::NotifyError(error) => failed = Some(error),
                Event::RequestClose
                | Event::NotifyPacketIdReleased(_)
                | Event::RequestTimerReset { .. }
                | Event::RequestTimerCancel(_) => {}
            }
        }
        failed.map_or(Ok(received), Err)
    }
}

impl std::fmt::Debug for Packets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packets").field("is_five", &self.is_five).finish_non_exhaustive()
    }
}

/// Returns what a packet of the broker's says.
fn read(packet: Packet) -> Result<Said, MqttError> {
    Ok(match packet {
        Packet::V5_0Connack(connack) => match connack.reason_code() {
            code if (code as u8) < FAILURES => {
                let keep_alive = connack.props().iter().find_map(|property| match property {
                    Property::ServerKeepAlive(seconds) => Some(seconds.val()),
                    _ => None,
                });
                Said::Accepted { has_session: connack.session_present(), keep_alive }
            }
            code => Said::Refused {
                why: format!("{code:?}"),
                is_for_version: code as u8 == MqttError::UnsupportedProtocolVersion as u8,
            },
        },
        Packet::V3_1_1Connack(connack) => match connack.return_code() {
            code if code.is_success() => {
                Said::Accepted { has_session: connack.session_present(), keep_alive: None }
            }
            code => Said::Refused { why: format!("{code:?}"), is_for_version: false },
        },
        Packet::V5_0Puback(puback) => {
            let refused = puback.reason_code().filter(|code| *code as u8 >= FAILURES);
            Said::Acked { id: puback.packet_id(), refused: refused.map(|code| format!("{code:?}")) }
        }
        Packet::V3_1_1Puback(puback) => Said::Acked { id: puback.packet_id(), refused: None },
        Packet::V5_0Suback(suback) => {
            Said::Subscribed { refused: failures(suback.reason_codes(), |code| code.is_failure()) }
        }
        Packet::V3_1_1Suback(suback) => {
            Said::Subscribed { refused: failures(suback.return_codes(), |code| code.is_failure()) }
        }
        Packet::V5_0Publish(publish) => {
            let origin = publish.props().iter().find_map(|property| match property {
                Property::UserProperty(pair) if pair.key() == ORIGIN => Some(pair.val().to_owned()),
                _ => None,
            });
            came(publish.qos(), publish.packet_id(), publish.topic_name(), origin, || {
                Bytes::copy_from_slice(publish.payload().as_slice())
            })?
        }
        Packet::V3_1_1Publish(publish) => {
            came(publish.qos(), publish.packet_id(), publish.topic_name(), None, || {
                Bytes::copy_from_slice(publish.payload().as_slice())
            })?
        }
        Packet::V5_0Disconnect(disconnect) => Said::Ends(
            disconnect.reason_code().map_or("nothing".into(), |code| format!("{code:?}")),
        ),
        Packet::V5_0Pingresp(_) | Packet::V3_1_1Pingresp(_) => Said::Alive,
        // Nothing was asked for to which these are answers.
        _ => return Err(MqttError::ProtocolError),
    })
}

fn came(
    qos: Qos,
    id: Option<u16>,
    topic: &str,
    origin: Option<String>,
    payload: impl FnOnce() -> Bytes,
) -> Result<Said, MqttError> {
    match qos {
        // More was not asked for.
        Qos::ExactlyOnce => Err(MqttError::QosNotSupported),
        // MQTT 5, 2.2.1.
        Qos::AtLeastOnce if id == Some(0) => Err(MqttError::ProtocolError),
        _ => Ok(Said::Came { id, topic: topic.to_owned(), payload: payload(), origin }),
    }
}

fn failures<T>(codes: Vec<T>, is_failure: impl Fn(&T) -> bool) -> Vec<usize> {
    let all = codes.iter().enumerate();
    all.filter(|(_, code)| is_failure(code)).map(|(index, _)| index).collect()
}

fn qos(level: u8) -> Qos {
    if level == 0 { Qos::AtMostOnce } else { Qos::AtLeastOnce }
}

/// The user properties of what is published: the event's id, and the node that has it.
const ID: &str = "hw-id";
const ORIGIN: &str = "hw-origin";

/// From this on a reason code is one of failure (MQTT 5, 2.4).
const FAILURES: u8 = 0x80;

/// The broker keeps a session for so many seconds: a week.
const SESSION_KEPT: u32 = 7 * 24 * 60 * 60;

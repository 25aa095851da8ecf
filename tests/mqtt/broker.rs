//! A broker for one client, which keeps its session: the other role of the library.

use std::collections::{BTreeMap, VecDeque};

use mqtt_protocol_core::mqtt;
use mqtt_protocol_core::mqtt::connection::Event;
use mqtt_protocol_core::mqtt::packet::{GenericPacketTrait as _, Packet, Qos, v3_1_1, v5_0};
use mqtt_protocol_core::mqtt::result_code::{
    ConnectReasonCode, ConnectReturnCode, SubackReasonCode, SubackReturnCode,
};

/// How a broker that does not know version 5 says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    Knows5,
    Answers,
    Closes,
}

/// A broker, and the session of its client.
pub struct Broker {
    wire: Option<mqtt::Connection<mqtt::role::Server>>,
    pub old: Old,
    pub is_five: bool,
    pub has_session: bool,
    pub subscriptions: u32,
    /// What has come, each time it has come: topic, payload, whether it is said to come again.
    pub got: Vec<(String, Vec<u8>, bool)>,
    /// What has come without an acknowledgement, in order.
    pub unanswered: VecDeque<u16>,
    /// What is to go to the client, and what has gone without an acknowledgement.
    pub queue: VecDeque<Vec<u8>>,
    pub sent: BTreeMap<u16, Vec<u8>>,
    /// The bytes for the client.
    pub out: Vec<u8>,
    /// The broker has closed.
    pub is_closed: bool,
    pub disconnects: u32,
    /// The client's connection was accepted.
    is_up: bool,
}

impl Broker {
    pub fn new(old: Old) -> Broker {
        Broker {
            wire: None,
            old,
            is_five: true,
            has_session: false,
            subscriptions: 0,
            got: Vec::new(),
            unanswered: VecDeque::new(),
            queue: VecDeque::new(),
            sent: BTreeMap::new(),
            out: Vec::new(),
            is_closed: false,
            disconnects: 0,
            is_up: false,
        }
    }

    /// A connection begins.
    pub fn accept(&mut self) {
        self.wire = Some(mqtt::Connection::new(mqtt::Version::Undetermined));
        self.out.clear();
        self.is_closed = false;
        self.is_up = false;
        self.unanswered.clear();
    }

    /// The connection is gone: what was not acknowledged goes out again.
    pub fn cut(&mut self) {
        self.wire = None;
        self.is_up = false;
        self.out.clear();
        let again: Vec<Vec<u8>> = std::mem::take(&mut self.sent).into_values().collect();
        again.into_iter().rev().for_each(|payload| self.queue.push_front(payload));
    }

    /// Forgets the session.
    pub fn forget(&mut self) {
        self.has_session = false;
        self.queue.clear();
        self.sent.clear();
    }

    pub fn receive(&mut self, bytes: &[u8]) {
        let mut cursor = mqtt::common::Cursor::new(bytes);
        while (cursor.position() as usize) < bytes.len() && !self.is_closed {
            let Some(wire) = &mut self.wire else { return };
            let events = wire.recv(&mut cursor);
            self.follow(events);
        }
    }

    fn follow(&mut self, events: Vec<Event>) {
        for event in events {
            match event {
                Event::RequestSendPacket { packet, .. } => {
                    self.out.extend(packet.to_continuous_buffer());
                }
                Event::NotifyPacketReceived(packet) => self.take(packet),
                Event::NotifyError(error) => panic!("the client breaks MQTT: {error:?}"),
                _ => {}
            }
        }
    }

    fn send(&mut self, packet: Packet) {
        if let Some(wire) = &mut self.wire {
            let events = wire.send(packet);
            self.follow(events);
        }
    }

    fn take(&mut self, packet: Packet) {
        match packet {
            Packet::V5_0Connect(_) if self.old == Old::Answers => {
                self.out.extend([0x20, 2, 0, 1]);
                self.is_closed = true;
            }
            Packet::V5_0Connect(_) if self.old == Old::Closes => self.is_closed = true,
            Packet::V5_0Connect(connect) => {
                assert!(!connect.clean_start());
                self.is_five = true;
                let connack = v5_0::Connack::builder()
                    .session_present(self.has_session)
                    .reason_code(ConnectReasonCode::Success);
                self.has_session = true;
                self.is_up = true;
                self.send(connack.build().unwrap().into());
            }
            Packet::V3_1_1Connect(connect) => {
                assert!(!connect.clean_session());
                self.is_five = false;
                let connack = v3_1_1::Connack::builder()
                    .session_present(self.has_session)
                    .return_code(ConnectReturnCode::Accepted);
                self.has_session = true;
                self.is_up = true;
                self.send(connack.build().unwrap().into());
            }
            Packet::V5_0Subscribe(subscribe) => {
                self.subscriptions += 1;
                assert!(subscribe.entries().iter().all(|entry| entry.sub_opts().nl()));
                let codes = vec![SubackReasonCode::GrantedQos1; subscribe.entries().len()];
                let suback = v5_0::Suback::builder().packet_id(subscribe.packet_id());
                self.send(suback.reason_codes(codes).build().unwrap().into());
            }
            Packet::V3_1_1Subscribe(subscribe) => {
                self.subscriptions += 1;
                let codes = vec![SubackReturnCode::SuccessMaximumQos1; subscribe.entries().len()];
                let suback = v3_1_1::Suback::builder().packet_id(subscribe.packet_id());
                self.send(suback.return_codes(codes).build().unwrap().into());
            }
            Packet::V5_0Publish(publish) => {
                let payload = publish.payload().as_slice().to_vec();
                self.got.push((publish.topic_name().into(), payload, publish.dup()));
                self.unanswered.extend(publish.packet_id());
            }
            Packet::V3_1_1Publish(publish) => {
                let payload = publish.payload().as_slice().to_vec();
                self.got.push((publish.topic_name().into(), payload, publish.dup()));
                self.unanswered.extend(publish.packet_id());
            }
            Packet::V5_0Puback(puback) => drop(self.sent.remove(&puback.packet_id())),
            Packet::V3_1_1Puback(puback) => drop(self.sent.remove(&puback.packet_id())),
            Packet::V5_0Pingreq(_) => self.send(v5_0::Pingresp::new().into()),
            Packet::V3_1_1Pingreq(_) => self.send(v3_1_1::Pingresp::new().into()),
            Packet::V5_0Disconnect(_) | Packet::V3_1_1Disconnect(_) => self.disconnects += 1,
            other => panic!("{other:?}"),
        }
    }

    /// Acknowledges the oldest that came.
    pub fn acknowledge(&mut self) {
        let Some(id) = self.unanswered.pop_front() else { return };
        let packet: Packet = match self.is_five {
            true => v5_0::Puback::builder().packet_id(id).build().unwrap().into(),
            false => v3_1_1::Puback::builder().packet_id(id).build().unwrap().into(),
        };
        self.send(packet);
    }

    /// Sends what waits for the client, as many as may be unacknowledged.
    pub fn publish(&mut self, most: usize) {
        while self.is_up
            && self.sent.len() < most
            && let Some(payload) = self.queue.pop_front()
        {
            let Some(wire) = &mut self.wire else { return };
            let id = wire.acquire_packet_id().unwrap();
            self.sent.insert(id, payload.clone());
            let packet: Packet = match self.is_five {
                true => v5_0::Publish::builder()
                    .topic_name("in/x")
                    .unwrap()
                    .qos(Qos::AtLeastOnce)
                    .packet_id(id)
                    .payload(payload)
                    .build()
                    .unwrap()
                    .into(),
                false => v3_1_1::Publish::builder()
                    .topic_name("in/x")
                    .unwrap()
                    .qos(Qos::AtLeastOnce)
                    .packet_id(id)
                    .payload(payload)
                    .build()
                    .unwrap()
                    .into(),
            };
            self.send(packet);
        }
    }
}

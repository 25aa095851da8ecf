//! The far side of a bridge, as the loop has it: a client of the loop. All that a bridge says to
//! its far side, and hears of it, goes through here.

use crate::core::bridge::{Coming, Sending};
#[cfg(feature = "mqtt")]
use crate::core::client::broker::{self, Publication, Receipt};
use crate::core::client::topics::{TopicEvent, TopicRefused};
use crate::core::client::{State, Why};
use crate::core::config::{Bridge as Settings, Config};
use crate::core::ground::time::Instant;
use crate::core::topics::{After, EventId};
use crate::io::client::Clients;
use crate::threads::dial::Dial;
use crate::threads::link::{Link, LinkEvent, StateChange};

/// The connection to a far side. It connects again by itself, until it has stopped.
pub(super) struct Far {
    link: Link,
    #[cfg(feature = "mqtt")]
    is_broker: bool,
}

/// What is heard of a far side.
pub(super) enum Heard {
    /// What is sent is taken from now on.
    Connected,
    /// There is no connection.
    Lost(Option<Why>),
    /// There will be no other connection.
    Stopped(Option<Why>),
    /// What was sent by this reference is there, with this id if the far side has ids.
    Acknowledged(u32, Option<EventId>),
    /// It is not known whether it is there.
    Unknown(u32),
    /// It is not there, and may be later.
    NotNow(u32, String),
    /// It will never be there.
    Refused(u32, String),
    /// An event or a gap has come.
    Came(Coming),
    /// A topic does not come.
    NotSubscribed(String, String),
}

impl Far {
    /// Begins to connect.
    ///
    /// # Errors
    ///
    /// Why that cannot be.
    pub fn connect(
        clients: &mut Clients,
        now: Instant,
        settings: &Settings,
        config: &Config,
    ) -> Result<Far, String> {
        Ok(Far {
            link: clients.connect(now, Dial::to_far_side(settings, config)?),
            #[cfg(feature = "mqtt")]
            is_broker: settings.is_to_broker(),
        })
    }

    /// Returns whether there is something to hear.
    pub fn has_news(&self, clients: &Clients) -> bool {
        clients.has_inbox(self.link.number())
    }

    /// Takes the next that is heard.
    pub fn poll(&self, clients: &mut Clients, now: Instant) -> Option<Heard> {
        let number = self.link.number();
        while clients.has_inbox(number) {
            let event = clients.ask(now, number, |entry, _| entry.pop_inbox())??;
            if let Some(heard) = heard(event) {
                return Some(heard);
            }
        }
        None
    }

    /// Sends an event. Returns the reference that its acknowledgement bears; `None` while no more
    /// is taken.
    ///
    /// # Errors
    ///
    /// It can never be sent.
    pub fn publish(
        &self,
        clients: &mut Clients,
        now: Instant,
        sending: &Sending,
    ) -> Result<Option<u32>, String> {
        let reference = self.link.next_reference();
        let Sending { topic, content, .. } = sending;
        #[cfg(feature = "mqtt")]
        if self.is_broker {
            let (topic, payload) = (topic.clone(), content.payload.clone());
            let publication = Publication { reference, topic, payload, id: sending.id };
            let published = clients.ask(now, self.link.number(), |entry, means| {
                entry.dialler.publish_to_broker(means, publication)
            });
            return Ok(published.and_then(Result::ok).map(|()| reference));
        }
        let published = clients.ask(now, self.link.number(), |entry, means| {
            entry.publish(means, reference, topic, content)
        });
        match published {
            Some(Ok(())) => Ok(Some(reference)),
            Some(Err(TopicRefused::Full)) | None => Ok(None),
            Some(Err(refused)) => Err(refused.to_string()),
        }
    }

    /// Asks for a topic, from behind a position on.
    pub fn subscribe(&self, clients: &mut Clients, now: Instant, topic: &str, after: EventId) {
        #[cfg(feature = "mqtt")]
        if self.is_broker {
            // The session has its filters from the beginning.
            return;
        }
        clients.ask(now, self.link.number(), |entry, _| {
            let subscribed = entry.subscribe(topic, After::Position(after));
            debug_assert_eq!(subscribed, Ok(()), "the rules have topics alone");
        });
    }

    /// Says that what bore this receipt is published here. A heartwheel is not told.
    pub fn acknowledge(&self, _clients: &mut Clients, _now: Instant, _receipt: u64) {
        #[cfg(feature = "mqtt")]
        if let Some(receipt) = Receipt::from_number(_receipt) {
            _clients.ask(_now, self.link.number(), |entry, means| {
                entry.dialler.acknowledge_to_broker(means, receipt);
            });
        }
    }

    /// Ends the connection, and makes another.
    pub fn reconnect(&self, clients: &mut Clients, now: Instant) {
        clients.ask(now, self.link.number(), |entry, means| entry.dialler.reconnect(means));
    }

    /// Ends it for good.
    pub fn end(self, clients: &mut Clients, now: Instant) {
        clients.ask(now, self.link.number(), |entry, means| entry.leave(means));
    }
}

fn heard(event: LinkEvent) -> Option<Heard> {
    Some(match event {
        LinkEvent::State(StateChange { state: State::Stopped, why, .. }) => Heard::Stopped(why),
        LinkEvent::State(StateChange { state: State::Waiting | State::Broken, why, .. }) => {
            Heard::Lost(why)
        }
        LinkEvent::Topic(TopicEvent::Ready) => Heard::Connected,
        #[cfg(feature = "mqtt")]
        LinkEvent::Broker(said) => match said {
            broker::Heard::Accepted => Heard::Connected,
            broker::Heard::Acked(reference) => Heard::Acknowledged(reference, None),
            broker::Heard::Refused { reference, why } => Heard::Refused(reference, why),
            broker::Heard::NotSubscribed(filter) => {
                Heard::NotSubscribed(filter, "the broker refuses it".into())
            }
            broker::Heard::Came(arrival) => Heard::Came(Coming {
                topic: arrival.topic,
                id: None,
                content: arrival.payload.into(),
                is_gap: false,
                receipt: arrival.receipt.map_or(0, Receipt::number),
            }),
        },
        LinkEvent::Topic(TopicEvent::Published { reference, id }) => {
            Heard::Acknowledged(reference, Some(id))
        }
        LinkEvent::Topic(TopicEvent::Taken { reference }) => Heard::Acknowledged(reference, None),
        LinkEvent::Topic(TopicEvent::NotPublished { reference, code, sentence }) => match &*code {
            "unknown" | "closed" => Heard::Unknown(reference),
            "unavailable" | "full" => Heard::NotNow(reference, sentence),
            _ => Heard::Refused(reference, sentence),
        },
        LinkEvent::Topic(TopicEvent::Event { topic, event }) => Heard::Came(Coming {
            topic,
            id: Some(event.id),
            content: event.payload.traced(event.trace),
            is_gap: false,
            receipt: 0,
        }),
        LinkEvent::Topic(TopicEvent::Gap { topic, gap }) => Heard::Came(Coming {
            content: crate::core::bridge::gap(&topic, gap.first),
            topic,
            id: None,
            is_gap: true,
            receipt: 0,
        }),
        LinkEvent::Topic(TopicEvent::NotSubscribed { topic, sentence, .. }) => {
            Heard::NotSubscribed(topic, sentence)
        }
        _ => return None,
    })
}

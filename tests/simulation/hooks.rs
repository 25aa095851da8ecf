//! Hooks of the routes with topics: they publish what clients publish, take some of it over, refuse
//! some, and panic, on workers that take their time.

use std::collections::VecDeque;

use heartwheel::core::contract::event::{Command, Outcome, Session};
use heartwheel::core::contract::offer::{Offered, Offerer};
use heartwheel::core::engine::offers;
use heartwheel::http::Refusal;
use heartwheel::{ConnectionId, Event, Message};

use crate::application::{Application, panicked};
use crate::plan::Chaos;

impl Application {
    /// Decides on what a request publishes.
    pub fn decide_posted(
        &mut self,
        id: ConnectionId,
        offered: Offered,
        chaos: &Chaos,
        commands: &mut Vec<Command>,
    ) -> Outcome {
        if self.panics(id, chaos) {
            return panicked(None, 0, 0);
        }
        // Its client takes it for published.
        commands.push(self.decide(id, offered, &Chaos::default()));
        Outcome::Called
    }

    /// Decides on what a WebSocket publishes.
    pub fn decide_all(
        &mut self,
        id: ConnectionId,
        session: Option<Session>,
        mut events: VecDeque<Event>,
        sent: &[Message],
        chaos: &Chaos,
        commands: &mut Vec<Command>,
    ) -> Outcome {
        let record = self.record(id);
        assert!(!std::mem::replace(&mut record.job_out, true), "one job at a time");
        let session = session.expect("the engine has made it");
        assert_eq!(session.downcast_ref(), Some(&false), "nobody else has it");
        let given = events.iter().filter_map(Event::message_bytes).count() as u64;
        let mut handled = 0;
        while let Some(event) = events.pop_front() {
            let offered = match event {
                Event::Offered(offered) => *offered,
                Event::Closed(_) => {
                    assert!(events.is_empty(), "nothing follows the end");
                    continue;
                }
                _ => unreachable!("hooks are told of nothing else"),
            };
            if let Offered::Open(offer, Offerer::Plain) = &offered {
                let record = self.record(id);
                let expected = sent.get(record.messages).map(Message::as_bytes);
                assert_eq!(expected, Some(offer.payload.as_bytes()), "as it was sent");
                record.messages += 1;
            }
            if self.panics(id, chaos) {
                return panicked(Some(session), handled, given - handled);
            }
            commands.push(self.decide(id, offered, chaos));
            handled += 1;
        }
        Outcome::Events { session: Some(session), messages_handled: handled, events }
    }

    fn panics(&mut self, id: ConnectionId, chaos: &Chaos) -> bool {
        let panics = self.chance(chaos.panic);
        let record = self.record(id);
        record.is_hooked = true;
        record.panicked |= panics;
        panics
    }

    fn decide(&mut self, id: ConnectionId, offered: Offered, chaos: &Chaos) -> Command {
        match offered {
            Offered::Refused(code, sentence, by) => offers::refuse(id, code, sentence, by),
            Offered::Open(offer, by) => {
                let refuses = self.chance(chaos.close) && matches!(by, Offerer::Hub(_));
                let verdict = match (refuses, self.chance(chaos.close)) {
                    (true, _) => Err(Refusal::new(403, "not you")),
                    (false, takes) => Ok(Some(offer.payload).filter(|_| !takes)),
                };
                offers::follow(id, offer.topic, by, offer.trace, verdict)
            }
        }
    }
}

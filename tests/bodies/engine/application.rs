//! The handlers: they echo, and hold what they are told against what they have been told.

use std::collections::{BTreeMap, VecDeque};

use heartwheel::core::contract::event::{Command, Done, Event, Job, Outcome, Session, Task};
use heartwheel::core::contract::handlers::Said;
use heartwheel::http::{Refusal, Response};
use heartwheel::{Accept, ConnectionId, Message};

use super::super::source::Source;

#[derive(Debug, Default)]
pub struct Application {
    /// What each connection's handler has been told, in the order of ids.
    told: BTreeMap<ConnectionId, Told>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Told {
    opened: bool,
    closed: bool,
    /// A job is with the handler.
    busy: bool,
}

impl Application {
    /// Takes note that a job was given out, be it for now or for later.
    pub fn take(&mut self, job: &Job) {
        let told = self.told.entry(job.id).or_default();
        assert!(!std::mem::replace(&mut told.busy, true), "one job of a connection at a time");
    }

    /// Does a job as the input has it: well, badly, or not to its end.
    pub fn run(&mut self, job: Job, source: &mut Source) -> (Vec<Command>, Done) {
        let Job { id, route, task, .. } = job;
        let mut commands = Vec::new();
        let manner = source.byte();
        let outcome = match task {
            Task::Authorize(request) => match manner {
                1..50 => Outcome::Verdict(request, Err(Refusal::new(403, "not you"))),
                50..70 => panicked(None, 0, 0),
                _ => Outcome::Verdict(request, Ok(Accept::default())),
            },
            Task::Call(_) => unreachable!("no timer of the server's own was set"),
            Task::Answer(request) => match manner {
                50..70 => panicked(None, 0, 0),
                _ => {
                    Outcome::Answer(Response::new(200).bytes("text/plain", request.body().clone()))
                }
            },
            Task::Pull(_) | Task::Step(..) | Task::Offer(_) => unreachable!("no route is for it"),
            Task::Events { session, events } => {
                let told = self.told.get_mut(&id).expect("a job was given out");
                take_events(id, told, session, events, manner, &mut commands)
            }
        };
        self.told.entry(id).or_default().busy = false;
        (commands, Done { id, route, outcome })
    }

    /// Takes a message while it is decoded, well or badly. Says whether the handler returned.
    pub fn hear(
        &self,
        id: ConnectionId,
        session: &Session,
        message: Message,
        source: &mut Source,
        said: &mut Said,
    ) -> bool {
        let told = self.told[&id];
        assert!(told.opened && !told.closed && !told.busy, "in its turn");
        assert_eq!(session.downcast_ref(), Some(&id), "its own session");
        let manner = source.byte();
        let returns = !(51..70).contains(&manner);
        if returns {
            said.commands = answers(id, message, manner);
            while let Some(Command::Send(_, answer)) = said.commands.first() {
                said.answers.push(answer.clone());
                said.commands.remove(0);
            }
        }
        returns
    }

    /// Gives one of the connections that ever were.
    pub fn pick(&self, source: &mut Source) -> Option<ConnectionId> {
        let index = source.below(256).checked_rem(self.told.len())?;
        self.told.keys().nth(index).copied()
    }

    /// Every handler that was told of a beginning has been told of the end.
    pub fn check_end(&self) {
        for (id, told) in &self.told {
            assert!(!told.busy && told.opened == told.closed, "{id}: {told:?}");
        }
    }
}

fn take_events(
    id: ConnectionId,
    told: &mut Told,
    mut session: Option<Session>,
    mut events: VecDeque<Event>,
    manner: u8,
    commands: &mut Vec<Command>,
) -> Outcome {
    assert!(!events.is_empty(), "a job has something to do");
    let given = events.iter().filter(|event| matches!(event, Event::Message(_))).count() as u64;
    let mut handled = 0;
    while let Some(event) = events.pop_front() {
        assert!(!told.closed, "nothing follows the end: {event:?}");
        assert_eq!(
            told.opened,
            !matches!(event, Event::Opened(_)),
            "opened once, first: {event:?}"
        );
        match event {
            Event::Opened(_) => {
                told.opened = true;
                if manner == 50 {
                    told.closed = true;
                    return panicked(None, 0, given);
                }
                assert!(session.replace(Box::new(id)).is_none(), "no session before");
            }
            Event::Closed(_) => close(id, told, session.take()),
            Event::Message(_) if (51..70).contains(&manner) => {
                // The end is told all the same.
                if matches!(events.back(), Some(Event::Closed(_))) {
                    close(id, told, session.take());
                }
                return panicked(session, handled, given - handled);
            }
            Event::Message(message) => {
                handled += 1;
                commands.extend(answers(id, message, manner));
            }
            _ => {}
        }
    }
    Outcome::Events { session, messages_handled: handled, events }
}

fn close(id: ConnectionId, told: &mut Told, session: Option<Session>) {
    told.closed = true;
    let session = session.expect("the session comes back");
    assert_eq!(*session.downcast::<ConnectionId>().expect("as it was"), id, "its own session");
}

fn answers(id: ConnectionId, message: Message, manner: u8) -> Vec<Command> {
    match manner {
        1..10 => vec![Command::Close(id, 4000, "enough".into())],
        10..20 => vec![Command::Publish("a".into(), message.as_bytes().to_vec().into())],
        20..30 => vec![Command::Send(id, message.clone()), Command::Send(id, message)],
        30..40 => Vec::new(),
        _ => vec![Command::Send(id, message)],
    }
}

fn panicked(session: Option<Session>, messages_handled: u64, messages_lost: u64) -> Outcome {
    Outcome::Panicked { session, messages_handled, messages_lost }
}

//! Hooks of routes with topics: what a client asks to be published is offered to the application,
//! and what the application makes of it is published, or refused. See
//! [`offer`](crate::core::contract::offer).
//!
//! A program without such hooks does not carry this code: the routes that have one refer to it.

use std::borrow::Cow;

use crate::core::connection::Told;
use crate::core::connection::http::Pending;
use crate::core::contract::event::{Command, Event, Job, Order, Task};
use crate::core::contract::offer::{HubOfferer, Offer, Offered, Offerer, Verdict};
use crate::core::engine::repeats::Known;
use crate::core::engine::tickets::Answer;
use crate::core::engine::{Engine, find_mut, tickets};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::time::Instant;
use crate::core::ground::trace::Trace;
use crate::core::observe::stats::HookVerdict;
use crate::core::topics::{BadName, Content, Name};
use crate::core::wire::http::{Refusal, Response};
use crate::core::wire::hub::ErrorCode;

/// What is done with what clients publish on a route that has a hook.
#[derive(Debug)]
pub(super) struct Hooks {
    /// Offers what a WebSocket of a topic publishes.
    pub offer_plain: fn(&mut Engine, ConnectionId, Offer),
    /// Offers what a client of `/ws` publishes, unless it was refused before.
    pub offer_hub: OfferHub,
    /// Offers what a request publishes.
    pub offer_posted: fn(&mut Engine, ConnectionId, Pending, Offer),
}

type OfferHub = fn(
    &mut Engine,
    Instant,
    ConnectionId,
    HubOfferer,
    Result<(&str, Content), (ErrorCode, Cow<'static, str>)>,
);

pub(super) static HOOKS: Hooks = Hooks {
    offer_plain: |engine, id, offer| engine.offer(id, Offered::Open(offer, Offerer::Plain)),
    offer_hub: Engine::offer_hub,
    offer_posted: Engine::offer_posted,
};

/// A verdict with the trace context of what it is about.
type Traced = Result<Option<Content>, Refusal>;

/// Makes the command by which the engine follows a verdict on what a connection has published, with
/// this trace context.
pub fn follow(
    id: ConnectionId,
    topic: Name,
    by: Offerer,
    trace: Option<Trace>,
    verdict: Verdict,
) -> Command {
    let carried = match &verdict {
        Ok(Some(payload)) => topic.len() + payload.len(),
        _ => 0,
    };
    let verdict = verdict.map(|payload| payload.map(|payload| payload.traced(trace)));
    let mut order = Order::of(move |engine: &mut Engine, now| {
        engine.follow_verdict(now, id, &topic, by, verdict);
    });
    order.bytes += carried;
    Command::Order(order)
}

/// Makes the command that tells a client of `/ws` a refusal without the hook.
pub fn refuse(
    id: ConnectionId,
    code: ErrorCode,
    sentence: Cow<'static, str>,
    by: Offerer,
) -> Command {
    let order = Order::of(move |engine: &mut Engine, now| {
        if let Offerer::Hub(by) = by {
            let answer = Answer::Refused(code, sentence);
            engine.answer_in_order(now, id, by.reference.as_deref(), answer);
        }
    });
    Command::Order(order.unbounded())
}

impl Engine {
    /// Returns what is done with what clients publish on the route of a connection, if the route
    /// has a hook.
    pub(super) fn hooks_of(&self, id: ConnectionId) -> Option<&'static Hooks> {
        let route = self.get(id)?.route?;
        self.settings.routes[usize::from(route)].hooks()
    }

    /// Returns whether offers of a connection wait for the hook, or are with it.
    fn has_offers(&self, id: ConnectionId) -> bool {
        self.get(id).is_some_and(|connection| {
            let waits = connection.inbox.as_ref().is_some_and(|inbox| !inbox.events.is_empty());
            connection.flags.told == Told::Out || waits
        })
    }

    fn offer_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        by: HubOfferer,
        checked: Result<(&str, Content), (ErrorCode, Cow<'static, str>)>,
    ) {
        let checked = checked.and_then(|(topic, content)| match topic.parse() {
            Ok(topic) => Ok(Offer { topic, payload: content.payload, trace: content.trace }),
            Err(BadName) => Err((ErrorCode::BadRequest, BadName::SENTENCE.into())),
        });
        match checked {
            Ok(offer) => self.offer(id, Offered::Open(offer, Offerer::Hub(by))),
            Err((code, sentence)) if self.has_offers(id) => {
                self.offer(id, Offered::Refused(code, sentence, Offerer::Hub(by)));
            }
            Err((code, sentence)) => {
                let answer = Answer::Refused(code, sentence);
                self.answer_in_order(now, id, by.reference.as_deref(), answer);
            }
        }
    }

    fn offer(&mut self, id: ConnectionId, offered: Offered) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        if connection.flags.told == Told::Not {
            // From now on what waits for the hook is given to it, whatever becomes of the
            // connection. No event was refused so far.
            connection.flags.told = Told::Yes;
            connection.session = Some(Box::new(false));
        }
        // Not yet: the hook has still to be asked.
        self.stats.messages_handled -= 1;
        self.push_event(id, Event::Offered(Box::new(offered)));
    }

    fn offer_posted(&mut self, id: ConnectionId, mut pending: Pending, offer: Offer) {
        let Some(connection) = find_mut(&mut self.connections, id) else { return };
        let (route, identity) = (pending.route, self.admission.identity(connection));
        pending.given_bytes = offer.payload.len();
        connection.await_log(pending);
        let task = Task::Offer(Box::new(Offered::Open(offer, Offerer::Post)));
        self.queue_job(Job { id, route, identity, task });
    }

    /// Follows the verdict of a hook.
    fn follow_verdict(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        by: Offerer,
        verdict: Traced,
    ) {
        match by {
            Offerer::Post => {
                match self.get(id).is_some_and(|connection| connection.is_deciding()) {
                    true => self.follow_posted(now, id, topic, verdict),
                    // Its client has been told that nothing is published, or is gone.
                    false => self.count_verdict(HookVerdict::Late),
                }
            }
            Offerer::Hub(by) => self.follow_for_hub(now, id, topic, by, verdict),
            Offerer::Plain => match self.split_verdict(verdict) {
                Err(_) => self.fail(now, id, CloseReason::Forbidden),
                Ok(None) => {}
                Ok(Some(content)) => self.conclude_plain(now, id, topic, content),
            },
        }
    }

    fn follow_for_hub(
        &mut self,
        now: Instant,
        id: ConnectionId,
        topic: &str,
        HubOfferer { reference, known_by }: HubOfferer,
        verdict: Traced,
    ) {
        let reference = reference.as_deref();
        let verdict = self.split_verdict(verdict);
        // It may have come again on another connection, and be published there, while the hook
        // decided.
        if let Some(known_by) = &known_by
            && self.answer_repeat(now, id, reference, known_by)
        {
            return;
        }
        let answer = match verdict {
            Ok(Some(content)) => {
                return self.conclude_hub(now, id, topic, content, reference, known_by);
            }
            Ok(None) => {
                self.remember(now, known_by, Known::Taken);
                Answer::Taken
            }
            Err(refusal) => Answer::Refused(code_of(&refusal), refusal.to_string().into()),
        };
        self.answer_in_order(now, id, reference, answer);
    }

    fn follow_posted(&mut self, now: Instant, id: ConnectionId, topic: &str, verdict: Traced) {
        let verdict = self.split_verdict(verdict);
        let Some(pending) = self.take_pending(id) else { return };
        let response = match verdict {
            Ok(Some(content)) => return self.conclude_post(now, id, topic, content, pending),
            Ok(None) => tickets::taken(),
            Err(refusal) => Response::from(refusal),
        };
        self.answer(now, id, response, &pending);
    }

    /// Counts a verdict.
    fn split_verdict(&mut self, verdict: Traced) -> Traced {
        self.count_verdict(match &verdict {
            Ok(Some(_)) => HookVerdict::Publish,
            Ok(None) => HookVerdict::Take,
            Err(_) => HookVerdict::Refuse,
        });
        verdict
    }

    fn count_verdict(&mut self, verdict: HookVerdict) {
        self.stats.hook_verdicts[verdict as usize] += 1;
    }
}

/// Returns the code of `/ws` that says what the status of a refusal does.
fn code_of(refusal: &Refusal) -> ErrorCode {
    match refusal.status() {
        400 | 409..=422 => ErrorCode::BadRequest,
        429 => ErrorCode::Limit,
        500.. => ErrorCode::Unavailable,
        _ => ErrorCode::Forbidden,
    }
}

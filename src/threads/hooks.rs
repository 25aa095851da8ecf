//! Hooks of routes with topics: what applications have run when clients publish, and when topics
//! get their first subscriber and lose their last one.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::core::contract::event::{Event, Outcome, Session, Task};
use crate::core::contract::offer::{Offer, Offered, Offerer, Verdict};
use crate::core::engine::{AudienceHook, offers};
use crate::core::ground::json;
use crate::core::topics::{Name, Payload};
use crate::core::wire::http::Refusal;
use crate::threads::handle::Handle;
use crate::threads::handler::{Endpoint, panicked};
use crate::threads::peer::Peer;

/// The endpoint of a route with topics whose hook decides on what clients publish.
pub(crate) struct PublishEndpoint<F>(pub F);

/// Makes what the engine calls when a topic gets its first subscriber, or loses its last one.
pub(crate) fn audience_hook(
    handle: &Handle,
    hook: impl Fn(&Handle, &str) + Send + Sync + 'static,
) -> AudienceHook {
    let own = handle.clone();
    Arc::new(move |topic: &Name| {
        catch_unwind(AssertUnwindSafe(|| hook(&own, topic.as_str()))).is_ok()
    })
}

impl<F: Fn(&Peer, Offer) -> Verdict + Send + Sync> Endpoint for PublishEndpoint<F> {
    fn run(&self, peer: &Peer, task: Task, tick: &mut dyn FnMut()) -> Outcome {
        let outcome = match task {
            Task::Offer(offered) => {
                tick();
                match catch_unwind(AssertUnwindSafe(|| self.decide(peer, *offered, &mut false))) {
                    Ok(()) => Outcome::Called,
                    Err(_) => panicked(None, 0, 0),
                }
            }
            Task::Events { session, events } => self.decide_all(peer, session, events, tick),
            _ => panicked(None, 0, 0),
        };
        tick();
        outcome
    }
}

impl<F: Fn(&Peer, Offer) -> Verdict> PublishEndpoint<F> {
    fn decide_all(
        &self,
        peer: &Peer,
        mut session: Option<Session>,
        mut events: VecDeque<Event>,
        tick: &mut dyn FnMut(),
    ) -> Outcome {
        let given = events.iter().filter_map(Event::message_bytes).count() as u64;
        let mut handled = 0;
        let mut nothing = false;
        let is_refused = session.as_mut().and_then(|session| session.downcast_mut::<bool>());
        debug_assert!(is_refused.is_some(), "the session is as the engine made it");
        let is_refused = is_refused.unwrap_or(&mut nothing);
        let result = catch_unwind(AssertUnwindSafe(|| {
            while let Some(event) = events.pop_front() {
                tick();
                if let Event::Offered(offered) = event {
                    self.decide(peer, *offered, is_refused);
                    handled += 1;
                }
            }
        }));
        match result {
            Ok(()) => Outcome::Events { session, messages_handled: handled, events },
            Err(_) => panicked(session, handled, given - handled),
        }
    }

    /// Has the loop follow the verdict of the hook. What a WebSocket of a topic has sent behind an
    /// event that was refused is refused, too: then its client knows that what was published is the
    /// beginning of what it has sent.
    fn decide(&self, peer: &Peer, offered: Offered, is_refused: &mut bool) {
        let command = match offered {
            Offered::Refused(code, sentence, by) => offers::refuse(peer.id(), code, sentence, by),
            Offered::Open(offer, by) => {
                let topic = offer.topic.clone();
                let (given, trace) = (offer.payload.clone(), offer.trace.clone());
                let verdict = match *is_refused {
                    false => checked(&given, (self.0)(peer, offer)),
                    true => Err(Refusal::new(403, "an event before it was refused")),
                };
                *is_refused = matches!((&by, &verdict), (Offerer::Plain, Err(_)));
                offers::follow(peer.id(), topic, by, trace, verdict)
            }
        };
        peer.handle().decide(command);
    }
}

/// Checks what a hook makes of a payload: what it calls JSON must be JSON, or it would break the
/// messages in which subscribers get it.
fn checked(given: &Payload, verdict: Verdict) -> Verdict {
    match &verdict {
        Ok(Some(Payload::Json(text))) if !is_same(given, text.as_bytes()) => {
            match json::value(text.as_str()) {
                Ok(value) if value.len() == text.len() => verdict,
                _ => Err(Refusal::new(500, "the hook made JSON that is none")),
            }
        }
        _ => verdict,
    }
}

fn is_same(given: &Payload, bytes: &[u8]) -> bool {
    matches!(given, Payload::Json(_)) && std::ptr::eq(given.as_bytes(), bytes)
}

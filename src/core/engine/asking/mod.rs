//! Requests that wait for the opinion of the service that `admission.request` names.
//!
//! They wait as those do whose `authorize` runs on a worker: complete, under `deadlines.handshake`,
//! and what comes too late is dropped. `authorize` is asked behind the service.

mod opinion;
mod questions;

use log::{debug, info, warn};

use crate::core::client::Why;
use crate::core::client::ask::{Answer, Ask};
use crate::core::client::breaker::Rules;
use crate::core::connection::Connection;
use crate::core::contract::event::{Command, Order};
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::engine::asking::opinion::{NoOpinion, Opinion, Question};
use crate::core::engine::asking::questions::{Asked, News};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::{Instant, millis_up};
use crate::core::observe::service::ServiceState;
use crate::core::wire::http::{Refusal, Request};

pub(super) use questions::Questions;

/// What becomes of a request: the opinion, or none because the service has failed.
type Heard<'a> = Result<&'a Opinion, &'a str>;

impl Engine {
    /// Takes the next question to ask the service, with its number:
    /// [`Engine::opinion_command`] brings the answer.
    pub fn poll_question(&mut self, now: Instant) -> Option<(u32, Ask)> {
        let connections = &self.connections;
        let waits = |id: ConnectionId| {
            let connection = connections.get(id.key()).filter(|connection| connection.id == id);
            connection.is_some_and(Connection::is_asked)
        };
        let question = self.questions.poll(now, waits)?;
        self.stats.service.asked += 1;
        Some(question)
    }

    /// Makes the command that brings the service's answer to the question of this number, or the
    /// reason why there is none.
    pub fn opinion_command(number: u32, answer: Result<Answer, Why>) -> Command {
        let order = move |engine: &mut Engine, now| engine.hear_opinion(now, number, answer);
        Command::Order(Order::of(order).unbounded())
    }

    /// Returns how it stands with the service, if there is one.
    pub(super) fn service_state(&self) -> Option<ServiceState> {
        let questions = &self.questions;
        let state =
            ServiceState { waiting: questions.waiting() as u64, is_broken: questions.is_broken() };
        self.settings.config.admission.request.as_ref().map(|_| state)
    }

    /// Returns whether the service is asked about requests for a route: about those that would need
    /// a token.
    pub(super) fn asks_service(&self, id: ConnectionId, route: usize) -> bool {
        let is_public = |connection: &Connection| connection.face != Face::Admin;
        self.settings.config.admission.request.is_some()
            && !self.settings.routes[route].is_open
            && self.get(id).is_some_and(is_public)
    }

    /// Has a complete request, whose connection is deciding, wait for the service's opinion.
    pub(super) fn ask_service(&mut self, now: Instant, id: ConnectionId, request: Box<Request>) {
        let admission = &self.settings.config.admission;
        let url = admission.request.as_deref().unwrap_or_default();
        let question = Question::about(&request, url, &admission.request_headers);
        if let Some(connection) = self.get_mut(id) {
            connection.await_opinion(request);
        }
        if self.questions.waiting() > 2 * self.connections.len() + WAITING_SPARE {
            let Engine { questions, connections, .. } = self;
            questions.retain(|id| {
                let connection = connections.get(id.key()).filter(|found| found.id == id);
                connection.is_some_and(Connection::is_asked)
            });
        }
        match question.map(|question| self.questions.ask(now, id, question)) {
            Err(refusal) => self.refuse_asked(now, id, refusal),
            Ok(Asked::Known(opinion)) => self.follow_opinion(now, id, Ok(&opinion)),
            Ok(Asked::Broken) => self.follow_opinion(now, id, Err("it is broken")),
            Ok(Asked::Waits) => {}
        }
    }

    /// Forgets opinions that have lapsed.
    pub(super) fn forget_opinions(&mut self, now: Instant) {
        self.questions.forget(now);
    }

    fn hear_opinion(&mut self, now: Instant, number: u32, answer: Result<Answer, Why>) {
        let opinion = Opinion::read(answer);
        let config = &self.settings.config;
        let rules = Rules { window: config.client.window, broken_for: config.client.broken_for };
        let keep_for = config.admission.request_cache;
        let heard = self.questions.hear(now, number, opinion.as_ref(), keep_for, &rules);
        let Some(heard) = heard else { return };
        self.stats.service.took.record_ms(heard.took);
        let why = opinion.as_ref().map_or_else(NoOpinion::to_string, |_| String::new());
        let took = millis_up(heard.took);
        match heard.news {
            Some(News::Fails) => warn!("the admission service fails took_ms={took} why={why}"),
            Some(News::Works) => info!("the admission service answers again took_ms={took}"),
            Some(News::Broken(span)) => {
                let for_ms = millis_up(span);
                warn!("the admission service is broken for_ms={for_ms} why={why}");
            }
            None if opinion.is_err() => debug!("the admission service failed why={why}"),
            None => {}
        }
        for id in heard.connections {
            self.follow_opinion(now, id, opinion.as_ref().map_err(|_| why.as_str()));
            self.advance(now, id);
        }
        if let Some(News::Broken(_)) = heard.news {
            for id in self.questions.take_refused() {
                self.follow_opinion(now, id, Err("it is broken"));
                self.advance(now, id);
            }
        }
    }

    /// Goes on with a request, or refuses it. One whose deadline was earlier was answered before.
    fn follow_opinion(&mut self, now: Instant, id: ConnectionId, heard: Heard<'_>) {
        let Some(mut request) = self.get_mut(id).and_then(Connection::take_asked) else { return };
        let verdict = match heard {
            Ok(opinion) => opinion.verdict.clone().map_err(|status| {
                debug!(target: TARGET, "refused id={id} status={status} by=service");
                Refusal::new(status, "the service that decides about this refuses it")
            }),
            Err(why) => {
                debug!(target: TARGET, "refused id={id} status=503 service={why}");
                Err(Refusal::new(503, "it cannot be decided now whether this is let in"))
            }
        };
        let count = match &verdict {
            Ok(_) => &mut self.stats.service.allowed,
            Err(refusal) if refusal.status() == 503 => &mut self.stats.service.failed,
            Err(_) => &mut self.stats.service.refused,
        };
        *count += 1;
        let Some(mut pending) = self.take_pending(id) else { return };
        let terms = verdict.and_then(|accept| Ok(accept.into_terms()?));
        match terms.and_then(|terms| self.take_terms(id, &mut request, &mut pending, terms)) {
            Err(refusal) => self.answer(now, id, refusal.into(), &pending),
            Ok(()) => {
                let Some(connection) = self.get_mut(id) else { return };
                connection.go_on(pending);
                self.decide_here(now, id, request);
            }
        }
    }

    fn refuse_asked(&mut self, now: Instant, id: ConnectionId, refusal: Refusal) {
        if let Some(pending) = self.take_pending(id) {
            self.answer(now, id, refusal.into(), &pending);
        }
    }
}

const TARGET: &str = "heartwheel::connection";

/// How many requests of ended connections may wait, beside twice as many as there are connections.
const WAITING_SPARE: usize = 64;

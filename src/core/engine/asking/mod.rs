//! Requests that wait for the opinion of the service that `admission.request` names.
//!
//! They wait as those do whose `authorize` runs on a worker: complete, under `deadlines.handshake`,
//! and what comes too late is dropped. `authorize` is asked behind the service.

mod opinion;
mod questions;
mod tracing;

use std::time::Duration;

use log::{debug, info, warn};

use crate::core::admission::grant::{BUILT_MS, LapsingOpinion};
use crate::core::admission::question::Question;
use crate::core::client::Why;
use crate::core::client::ask::{Answer, Ask};
use crate::core::client::breaker::Rules;
use crate::core::connection::Connection;
use crate::core::contract::accept::Accept;
use crate::core::contract::event::{Command, Order};
use crate::core::contract::route::{Face, RouteKind};
use crate::core::engine::Engine;
use crate::core::engine::asking::opinion::{NoOpinion, Opinion};
use crate::core::engine::asking::questions::News;
use crate::core::engine::asking::tracing::Lines;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::{Instant, millis_up};
use crate::core::ground::trace::Trace;
use crate::core::observe::service::ServiceState;
use crate::core::wire::http::{Refusal, Request};

pub(super) use opinion::EXPIRES_MS_MAX;
pub(super) use questions::{Asked, Questions};

/// What becomes of a request or of a token: the opinion, or none because the service has failed.
pub(super) type Heard<'a> = Result<&'a Opinion, &'a str>;

impl Engine {
    /// Takes the next question to ask the service, with its number:
    /// [`Engine::opinion_command`] brings the answer.
    pub fn poll_question(&mut self, now: Instant) -> Option<(u32, Ask)> {
        let connections = &self.connections;
        let waits = |id: ConnectionId| {
            let connection = connections.get(id.key()).filter(|connection| connection.id == id);
            connection.is_some_and(Connection::awaits_opinion)
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
        let question = self.question_about(&request);
        let passed = &self.settings.config.admission.request_headers;
        let lines = tracing::lines(&request, passed);
        if let Some(connection) = self.get_mut(id) {
            connection.await_opinion(request);
        }
        match question.map(|question| self.ask_question(now, id, question, lines)) {
            Err(refusal) => self.refuse_asked(now, id, refusal),
            Ok(Asked::Known(opinion)) => self.follow_opinion(now, id, Ok(&opinion)),
            Ok(Asked::Broken) => self.follow_opinion(now, id, Err("it is broken")),
            Ok(Asked::Waits) => {}
        }
    }

    fn question_about(&self, request: &Request) -> Result<Question, Refusal> {
        let admission = &self.settings.config.admission;
        let url = admission.request.as_deref().unwrap_or_default();
        Question::about(request, url, admission.request_headers.names())
    }

    /// Asks a question for a connection that waits for its opinion; the lines go along.
    pub(super) fn ask_question(
        &mut self,
        now: Instant,
        id: ConnectionId,
        question: Question,
        lines: Lines,
    ) -> Asked {
        if self.questions.waiting() > 2 * self.connections.len() + WAITING_SPARE {
            let Engine { questions, connections, .. } = self;
            questions.retain(|id| {
                let connection = connections.get(id.key()).filter(|found| found.id == id);
                connection.is_some_and(Connection::awaits_opinion)
            });
        }
        self.questions.ask(now, id, question, lines)
    }

    /// Forgets opinions that have lapsed.
    pub(super) fn forget_opinions(&mut self, now: Instant) {
        self.questions.forget(now);
    }

    fn hear_opinion(&mut self, now: Instant, number: u32, answer: Result<Answer, Why>) {
        let opinion = Opinion::read(answer);
        let config = &self.settings.config;
        let rules = Rules { window: config.client.window, broken_for: config.client.broken_for };
        let left = |opinion: &Opinion| {
            opinion.expires_ms.map(|ms| ms.saturating_sub(self.reports.date.unix_ms))
        };
        let left = opinion.as_ref().ok().and_then(left).map(Duration::from_millis);
        // An opinion whose own end comes before is not kept.
        let counts = |span: &Duration| left.is_none_or(|left| *span < left);
        let keep_for = config.admission.request_cache.filter(counts);
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
        let Some(mut request) = self.get_mut(id).and_then(Connection::take_asked) else {
            return self.hear_renewal(now, id, heard);
        };
        let verdict = self.judge(id, heard);
        let Some(mut pending) = self.take_pending(id) else { return };
        let terms = verdict.and_then(|accept| Ok(accept.into_terms()?));
        let identity = terms.as_ref().ok().and_then(|terms| terms.identity.clone());
        match terms.and_then(|terms| self.take_terms(id, &mut request, &mut pending, terms)) {
            Err(refusal) => self.answer(now, id, refusal.into(), &pending),
            Ok(()) => {
                if let Some(expires_ms) = heard.ok().and_then(|opinion| opinion.expires_ms) {
                    let is_hub = self.settings.routes[pending.route].kind == RouteKind::Hub;
                    let question = is_hub.then(|| self.question_about(&request).ok()).flatten();
                    let lapse = LapsingOpinion { expires_ms, identity, question, renewal: None };
                    self.lapse(now, id, lapse);
                }
                let Some(connection) = self.get_mut(id) else { return };
                connection.go_on(pending);
                self.decide_here(now, id, request);
            }
        }
    }

    /// Returns what is let in by an opinion at this moment, and counts it.
    pub(super) fn judge(&mut self, id: ConnectionId, heard: Heard<'_>) -> Result<Accept, Refusal> {
        let unix_ms = self.reports.date.unix_ms;
        let trace = Trace::shown(self.get(id).and_then(Connection::trace));
        let (count, refusal) = match heard {
            Ok(Opinion { expires_ms: Some(_), .. }) if unix_ms < BUILT_MS => {
                let refusal = self.refuse_clock();
                (&mut self.stats.service.failed, refusal)
            }
            Ok(Opinion { verdict: Ok(accept), expires_ms, .. })
                if expires_ms.is_none_or(|ends_ms| ends_ms > unix_ms) =>
            {
                self.stats.service.allowed += 1;
                return Ok(accept.clone());
            }
            Ok(opinion) => {
                let status = opinion.verdict.as_ref().err().copied().unwrap_or(401);
                debug!(target: TARGET, "refused id={id} status={status} by=service{trace}");
                let refusal = "the service that decides about this refuses it";
                (&mut self.stats.service.refused, Refusal::new(status, refusal))
            }
            Err(why) => {
                debug!(target: TARGET, "refused id={id} status=503 service={why}{trace}");
                let refusal = "it cannot be decided now whether this is let in";
                (&mut self.stats.service.failed, Refusal::new(503, refusal))
            }
        };
        *count += 1;
        Err(refusal)
    }

    /// Has a connection end when what the service has said does not count any more.
    fn lapse(&mut self, now: Instant, id: ConnectionId, opinion: LapsingOpinion) {
        self.need_wall(now);
        let unix_ms = self.reports.date.unix_ms;
        if let Some(connection) = self.get_mut(id) {
            connection.lapse(opinion, now, unix_ms);
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

//! What the operator's listener answers: figures, the table of connections, the configuration, and
//! commands to end connections.

use std::num::NonZeroU64;

use crate::core::connection::Connection;
use crate::core::connection::http::Rest;
use crate::core::contract::event::Place;
use crate::core::contract::route::{Operation, RouteKind};
use crate::core::engine::Engine;
use crate::core::engine::services::{Asked, Service};
use crate::core::ground::decimal;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::json::Object;
use crate::core::ground::time::Instant;
use crate::core::observe::figures::Surroundings;
use crate::core::observe::metrics;
use crate::core::wire::http::{HeaderLines, Method, Refusal, Request, Response};

/// Returns what an operation is to the engine.
pub(super) fn service(kind: RouteKind) -> &'static Service {
    match kind {
        RouteKind::Operator(Operation::Kick | Operation::KickAll) => &DELETE,
        RouteKind::Operator(Operation::Drain | Operation::Shed) => &POST,
        _ => &GET,
    }
}

const GET: Service = Service::by(Asked::By(Method::Get), Engine::operate);
const DELETE: Service = Service::by(Asked::By(Method::Delete), Engine::operate);
const POST: Service =
    Service { is_bare: true, ..Service::by(Asked::By(Method::Post), Engine::operate) };

impl Engine {
    /// Answers a request of the operator's, which is complete.
    fn operate(&mut self, now: Instant, id: ConnectionId, request: Box<Request>) {
        let Some(RouteKind::Operator(operation)) = self.kind_of(id) else { return };
        let answer = match operation {
            // Some of the figures are the loop's.
            Operation::Metrics => return self.reports.ask(id),
            Operation::Connections => {
                let Some(pending) = self.take_pending(id) else { return };
                let rest = Rest::Table(Place::default());
                return self.begin_slices(now, id, &pending, &HeaderLines::default(), rest);
            }
            Operation::Config => {
                let toml = self.settings.config.to_toml();
                Ok(Response::new(200).text(toml))
            }
            Operation::Kick => self.answer_kick(now, id, &request),
            Operation::KickAll => self.answer_kick_all(now, id, &request),
            Operation::Drain => {
                self.begin_drain(now);
                let object = Object::new().number("connections", self.admission.public as u64);
                Ok(Response::new(202).json(object.end()))
            }
            Operation::Shed => self.answer_shed(now, &request),
            #[cfg(feature = "cluster")]
            Operation::Nodes => Ok(Response::new(200).json(self.nodes(now))),
        };
        self.handle_answer(now, id, answer.unwrap_or_else(Response::from));
    }

    /// Takes the next connection that waits for the server's figures, to be answered by
    /// [`Engine::answer_scrape`]: one in a turn, since each is a walk over all connections.
    pub fn poll_scrape(&mut self) -> Option<ConnectionId> {
        self.reports.poll_scrape()
    }

    /// Answers with the server's figures.
    pub fn answer_scrape(&mut self, now: Instant, id: ConnectionId, around: &Surroundings) {
        if !self.contains(id) {
            return;
        }
        let text = self.metrics(around);
        let response = Response::new(200).bytes(metrics::CONTENT_TYPE, text);
        self.handle_answer(now, id, response);
        self.advance(now, id);
    }

    fn answer_kick(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
    ) -> Result<Response, Refusal> {
        let number = request.path().rsplit('/').next().and_then(|text| text.parse().ok());
        let target = number.and_then(NonZeroU64::new).map(ConnectionId::from_u64);
        let unknown = || Refusal::new(404, "there is no such connection");
        let target = target.filter(|target| self.contains(*target)).ok_or_else(unknown)?;
        self.kick_for(now, id, target);
        Ok(Response::new(204))
    }

    /// Ends the connections of an identity, or those that came with a token, in a walk over all.
    fn answer_kick_all(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
    ) -> Result<Response, Refusal> {
        let identity = request.query_value("identity");
        let token = request.query_value("token").map(|text| read_token_name(&text)).transpose()?;
        let connections = self.connections.iter().map(|(_, connection)| connection);
        let found: Vec<ConnectionId> = match (identity, token) {
            (Some(identity), None) => {
                let is_meant = |one: &&Connection| self.admission.name(one) == Some(&*identity);
                connections.filter(is_meant).map(|connection| connection.id).collect()
            }
            (None, Some(name)) => {
                let tokens = self.settings.credentials.tokens.as_ref();
                let line = tokens.and_then(|tokens| tokens.find_named(name));
                let is_meant = |one: &&Connection| one.came_with(line, name);
                connections.filter(is_meant).map(|connection| connection.id).collect()
            }
            _ => return Err(Refusal::bad_request("say whose: ?identity=NAME or ?token=HEX")),
        };
        found.iter().for_each(|target| self.kick_for(now, id, *target));
        Ok(Response::new(200).json(Object::new().number("ended", found.len() as u64).end()))
    }

    /// Ends a connection as another one asks. A connection that ends itself is answered first.
    fn kick_for(&mut self, now: Instant, id: ConnectionId, target: ConnectionId) {
        let is_own = target == id;
        if !is_own || !self.get_mut(id).is_some_and(Connection::end_behind_answer) {
            self.kick(now, target);
        }
    }

    fn answer_shed(&mut self, now: Instant, request: &Request) -> Result<Response, Refusal> {
        let fraction = request.query_value("fraction").and_then(|text| decimal::parse(&text));
        let fraction = fraction.filter(|fraction| *fraction > 0.0 && *fraction <= 1.0);
        let Some(fraction) = fraction else {
            return Err(Refusal::bad_request("say which part: ?fraction=0.3, at most 1"));
        };
        if self.schedule.drain.is_some() {
            return Err(Refusal::new(409, "the server is draining"));
        }
        let count = self.begin_shed(now, fraction);
        Ok(Response::new(200).json(Object::new().number("shed", count as u64).end()))
    }
}

/// Reads what an operator calls a token: the first 16 hexadecimal digits of its SHA-256.
fn read_token_name(text: &str) -> Result<[u8; 8], Refusal> {
    let is_name = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let name = u64::from_str_radix(text, 16).ok().filter(|_| is_name);
    let rule = || Refusal::bad_request("a token is named by 16 digits of its SHA-256");
    Ok(name.ok_or_else(rule)?.to_be_bytes())
}

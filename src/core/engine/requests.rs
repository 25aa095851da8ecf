//! HTTP requests: admission, routing, the upgrade, answers and refusals.

use log::warn;
use tungstenite::Bytes;

use crate::core::admission::credentials::Pass;
#[cfg(feature = "client")]
use crate::core::admission::rights::Rights;
use crate::core::connection::http::{Answering, Body, Pending};
use crate::core::connection::{Connection, RouteIndex};
use crate::core::contract::accept::{Accept, Terms};
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::engine::admission::TOO_MANY_FROM_THERE;
use crate::core::engine::services::{self, Found};
use crate::core::ground::cohort::Cohort;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::reason::CloseReason;
use crate::core::ground::subprotocol::Subprotocol;
use crate::core::ground::time::Instant;
use crate::core::ground::trace::{BadTrace, Trace};
use crate::core::outbox::Kind;
use crate::core::wire::frame::Frame;
use crate::core::wire::http::{
    self, Admitted, BodyLength, BodyReader, Caching, Cors, Head, Method, Origins, Refusal, Request,
    Response, Wire,
};

/// What a request is to become.
enum Aim {
    /// A WebSocket of this route.
    Upgrade { route: usize, accept_key: String },
    /// An answer of this route.
    Route(usize),
    /// An answer that is known already.
    Known(Response),
}

impl Engine {
    /// Takes a complete head: the request is admitted and routed before its body is read.
    pub(super) fn handle_head(&mut self, now: Instant, id: ConnectionId, mut head: Head) {
        let head_only = head.request.method() == "HEAD";
        if !self.spend_message(now, id) {
            let pending = Pending { head_only, ..Pending::default() };
            return self.refuse_pending(now, id, 429, CloseReason::Rate, &pending);
        }
        let is_welcome = self.follow_forwarded(id, &head.request);
        let Some(connection) = self.get(id) else { return };
        head.request.set_peer(connection.peer.address().map(|address| address.ip()));
        let face = connection.face;
        let draining = self.schedule.drain.is_some() && face != Face::Admin;
        let began_at = connection.phase_at();
        let mut pending = Pending {
            began_at,
            is_http10: head.version == http::Version::Http10,
            keep: head.keep_alive && !draining && !http::offers_websocket(&head.request),
            head_only,
            ..Pending::default()
        };
        let trace = self.take_trace(head.request.traceparent());
        if let Some(connection) = self.get_mut(id) {
            connection.note_trace(trace);
        }
        let admitted = match is_welcome {
            true => self.admit(now, id, &mut head, face, draining, &mut pending),
            false => Err(Refusal::new(429, TOO_MANY_FROM_THERE)),
        };
        let (admitted, pass) = match admitted {
            Ok((aim, pass)) => (Ok(aim), pass),
            Err(refusal) => (Err(refusal), Pass::Nothing),
        };
        let identity = self.identity_of(id, pass.line());
        // The request is checked by the tokens that hold now.
        self.catch_up(id.key());
        let Some(connection) = self.get_mut(id) else { return };
        connection.admit(pass, identity);
        let identity = connection.identity().cloned();
        head.request.set_identity(self.or_certificate(id, identity));
        self.tell_cohort(id, &mut head.request);
        match admitted {
            Err(refusal) => {
                pending.keep &= head.body.is_empty();
                self.answer(now, id, refusal.into(), &pending);
            }
            Ok(Aim::Known(response)) => {
                pending.keep &= head.body.is_empty();
                self.answer(now, id, response, &pending);
            }
            Ok(Aim::Upgrade { route, accept_key }) => {
                #[cfg(feature = "tls")]
                self.admission.certificates.forget(id.key());
                let offered = &self.settings.routes[route].protocols;
                let protocol = http::choose_protocol(&head.request, offered).map(str::to_owned);
                pending.route = route;
                pending.upgrade = Some((accept_key, protocol));
                self.decide(now, id, Box::new(head.request), pending);
            }
            Ok(Aim::Route(route)) => {
                pending.route = route;
                self.begin_body(now, id, head, pending);
            }
        }
    }

    /// Takes a trace context; one that is none is counted.
    pub(super) fn take_trace(&mut self, trace: Option<Result<Trace, BadTrace>>) -> Option<Trace> {
        let trace = trace?;
        self.stats.traces_ignored += u64::from(trace.is_err());
        trace.ok()
    }

    fn begin_body(&mut self, now: Instant, id: ConnectionId, head: Head, mut pending: Pending) {
        if cfg!(feature = "streams")
            && let Some(limit) = self.settings.routes[pending.route].piecewise
        {
            return self.begin_upload(now, id, head, pending, limit);
        }
        if head.body.is_empty() {
            return self.decide(now, id, Box::new(head.request), pending);
        }
        let route = RouteIndex::new(pending.route);
        let limit = self.settings.route_rules(route).limits.message_bytes;
        let reader = http::check_encoding(&head.request)
            .and_then(|()| BodyReader::new(head.body, limit, &self.settings.head_limits));
        match reader {
            Err(refusal) => {
                pending.keep = false;
                self.answer(now, id, refusal.into(), &pending);
            }
            Ok(reader) => {
                if head.expects_continue {
                    self.push_frame(now, id, Frame::raw(http::CONTINUE), Kind::Response);
                }
                let service = services::service_of(&self.settings.routes[pending.route]);
                let posted = (service.posted)(&head.request).map(Box::new);
                let body = Body { request: head.request, reader, posted, pending };
                let Some(connection) = self.get_mut(id) else { return };
                connection.begin_body(now, body);
            }
        }
    }

    /// Takes the complete body.
    pub(super) fn handle_body(&mut self, now: Instant, id: ConnectionId, bytes: Bytes) {
        let Some(connection) = self.get_mut(id) else { return };
        if let Some((request, pending)) = connection.take_body(bytes) {
            self.decide(now, id, Box::new(request), pending);
        }
    }

    /// Has the service and `authorize` judge a complete request, where they are asked, and serves
    /// it.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: Box<Request>,
        pending: Pending,
    ) {
        #[cfg(feature = "client")]
        let asks_service = self.asks_service(id, pending.route);
        let Some(connection) = self.get_mut(id) else { return };
        connection.begin_deciding(now, pending);
        #[cfg(feature = "client")]
        if asks_service {
            return self.ask_service(now, id, request);
        }
        self.decide_here(now, id, request);
    }

    /// Has `authorize` judge a complete request, or serves it where none is asked.
    pub(super) fn decide_here(&mut self, now: Instant, id: ConnectionId, request: Box<Request>) {
        let Some(route) = self.get(id).and_then(|connection| connection.route) else { return };
        let route = usize::from(route);
        match self.settings.routes[route].authorizes {
            true => self.ask(now, id, request),
            false => self.serve_request(now, id, request, route),
        }
    }

    /// Takes the verdict of `authorize` on a request. One that comes after the deadline is dropped.
    pub(super) fn handle_verdict(
        &mut self,
        now: Instant,
        id: ConnectionId,
        mut request: Box<Request>,
        verdict: Result<Accept, Refusal>,
    ) {
        let Some(mut pending) = self.take_pending(id) else { return };
        let route = pending.route;
        let verdict = verdict.and_then(|accept| {
            accept.into_terms().map_err(|fault| {
                let trace = Trace::shown(request.trace().as_ref());
                warn!(target: TARGET, "refused id={id} status=500{trace}: {fault}");
                fault.into()
            })
        });
        self.stats.rejected_by_handlers += u64::from(verdict.is_err());
        match verdict.and_then(|terms| self.take_terms(id, &mut request, &mut pending, terms)) {
            Err(refusal) => self.answer(now, id, refusal.into(), &pending),
            Ok(()) => {
                let Some(connection) = self.get_mut(id) else { return };
                pending.is_judged = true;
                connection.go_on(pending);
                self.serve_request(now, id, request, route);
            }
        }
    }

    /// Has a request that was let in, and its connection, follow the terms.
    pub(super) fn take_terms(
        &mut self,
        id: ConnectionId,
        request: &mut Request,
        pending: &mut Pending,
        terms: Terms,
    ) -> Result<(), Refusal> {
        let Terms { protocol, identity, rights, headers, .. } = terms;
        if let Some(rights) = &rights {
            self.check_rights(rights, request, pending.route)?;
        }
        if let (Some((_, chosen)), Some(protocol)) = (&mut pending.upgrade, protocol) {
            *chosen = Some(protocol);
        }
        pending.lines = headers;
        let Some(connection) = self.get_mut(id) else { return Ok(()) };
        let identity = identity.or_else(|| connection.identity().cloned());
        #[cfg(feature = "client")]
        let rights = Rights::both(connection.take_rights(), rights);
        connection.identify(identity.clone(), rights);
        request.set_identity(self.or_certificate(id, identity));
        self.tell_cohort(id, request);
        Ok(())
    }

    /// Has a request, and its connection, know the cohort of their client.
    fn tell_cohort(&mut self, id: ConnectionId, request: &mut Request) {
        request.set_cohort(self.settings.config.canary.cohort(request));
        if let Some(connection) = self.get_mut(id) {
            connection.flags.cohort = request.cohort();
        }
    }

    /// Counts how long it took to open a WebSocket or an event stream.
    pub(super) fn count_handshake(&mut self, now: Instant, id: ConnectionId, pending: &Pending) {
        let span = now.since(pending.began_at.near(now));
        self.stats.handshake.record_ms(span);
        if self.get(id).is_some_and(|connection| connection.flags.cohort == Some(Cohort::Canary)) {
            self.stats.canary.handshake.record_ms(span);
        }
    }

    /// Answers an upgrade that nothing stands against, and opens its WebSocket.
    pub(super) fn accept_upgrade(&mut self, now: Instant, id: ConnectionId, request: Box<Request>) {
        #[cfg(feature = "sessions")]
        let Some(request) = self.with_session(now, id, request) else { return };
        let Some(mut pending) = self.take_pending(id) else { return };
        let Some((accept_key, protocol)) = pending.upgrade.take() else { return };
        let prepared = match self.schedule.drain {
            Some(_) => Err(Refusal::new(503, "the server is draining")),
            None => self.prepare_upgrade(now, id, &request),
        };
        let lines = match prepared {
            Ok(lines) => lines,
            Err(refusal) => return self.answer(now, id, refusal.into(), &pending),
        };
        self.count_handshake(now, id, &pending);
        let protocol = protocol.filter(|protocol| http::may_name(protocol));
        #[cfg(feature = "deflate")]
        let lines = self.agree_on_compression(id, &request, lines);
        let accepted = http::switching_protocols(&accept_key, protocol.as_deref(), &lines);
        self.push_answer(now, id, accepted, &pending);
        self.open(now, id, request, Subprotocol::of(protocol.as_deref()));
        self.advance(now, id);
    }

    /// Takes the answer to a plain request. One that comes after the deadline is dropped.
    pub(super) fn handle_answer(&mut self, now: Instant, id: ConnectionId, response: Response) {
        let Some(pending) = self.take_pending(id) else { return };
        let mut response = response;
        match response.take_source(pending.is_http10) {
            Some((shape, source)) => self.begin_source(now, id, response, (shape, source), pending),
            None if response.lacks_source() => {
                self.answer(now, id, Response::new(500).text(GIVEN_AWAY), &pending);
            }
            None => self.answer(now, id, response, &pending),
        }
    }

    pub(super) fn take_pending(&mut self, id: ConnectionId) -> Option<Pending> {
        self.get_mut(id)?.take_pending()
    }

    /// Refuses a request whose rest cannot be read: the connection ends behind the answer. An
    /// answer to HEAD has no body.
    pub(super) fn refuse(
        &mut self,
        now: Instant,
        id: ConnectionId,
        refusal: Refusal,
        head_only: bool,
    ) {
        self.stats.bad_requests += 1;
        let mut pending = self.give_up_request(id);
        pending.head_only |= head_only;
        self.answer(now, id, refusal.into(), &pending);
    }

    /// Takes what is known of the refused request. An answer to HEAD has no body, whatever its
    /// headers say. The connection ends behind the answer.
    pub(super) fn give_up_request(&mut self, id: ConnectionId) -> Pending {
        let pending = self.get_mut(id).map_or_else(Pending::default, Connection::give_up_request);
        // The handler still has the request.
        self.jobs.note_left(id, pending.given_bytes);
        pending
    }

    /// Refuses a request in the name of a deadline, or of a rate.
    pub(super) fn refuse_late(
        &mut self,
        now: Instant,
        id: ConnectionId,
        status: u16,
        reason: CloseReason,
    ) {
        let pending = self.give_up_request(id);
        self.refuse_pending(now, id, status, reason, &pending);
    }

    fn refuse_pending(
        &mut self,
        now: Instant,
        id: ConnectionId,
        status: u16,
        reason: CloseReason,
        pending: &Pending,
    ) {
        let sentence = reason.to_string();
        self.answer(now, id, Refusal::new(status, sentence).into(), pending);
        if let Some(connection) = self.get_mut(id) {
            connection.blame(reason);
        }
        self.advance(now, id);
    }

    /// Queues the bytes of an answer, and counts the answer. The headers that every answer owes to
    /// its request are written only here.
    pub(super) fn push_answer(
        &mut self,
        now: Instant,
        id: ConnectionId,
        response: Response,
        pending: &Pending,
    ) {
        self.stats.answers[usize::from(response.status() / 100).clamp(1, 5) - 1] += 1;
        let keep_alive = pending.keep.then_some(self.settings.common_spans().keep_alive);
        let wire =
            Wire { date: self.reports.date.text(), keep_alive, head_only: pending.head_only };
        let response = response.headers(&pending.lines);
        let response = response.caching(pending.caching).cors(&pending.cors);
        let (head, body) = response.encode_apart(&wire);
        self.push_frame(now, id, Frame::raw(head), Kind::Response);
        if !body.is_empty() {
            // The body may be an event that many clients ask for: all are sent the same bytes.
            self.push_frame(now, id, Frame::raw(body), Kind::Response);
        }
    }

    /// Queues an answer, behind which the next request may come.
    pub(super) fn answer(
        &mut self,
        now: Instant,
        id: ConnectionId,
        response: Response,
        pending: &Pending,
    ) {
        self.push_answer(now, id, response, pending);
        if let Some(connection) = self.get_mut(id) {
            let reason = CloseReason::Done;
            let keep = pending.keep;
            connection.begin_answer(now, Answering { keep, reason, more: None });
        }
    }

    /// Lets the next request come, since the answer is with the kernel.
    pub(super) fn keep_alive(&mut self, now: Instant, id: ConnectionId) {
        self.return_to_hop(id);
        if let Some(connection) = self.get_mut(id) {
            connection.keep_alive(now);
            self.mark_ready(id);
        }
    }

    /// Checks Host, Origin and token, and finds out what the request is to become.
    fn admit(
        &mut self,
        now: Instant,
        id: ConnectionId,
        head: &mut Head,
        face: Face,
        draining: bool,
        pending: &mut Pending,
    ) -> Result<(Aim, Pass), Refusal> {
        let request = &head.request;
        let found = self.settings.paths.find(&self.settings.routes, face, request.path());
        pending.caching = found.map_or(Caching::default(), |found| found.caching);
        let admission = &self.settings.config.admission;
        if !found.is_some_and(|found| found.is_health) {
            let (hosts, key) = match face {
                Face::Admin => (&admission.admin_hosts, "admission.admin_hosts"),
                Face::Public | Face::Both => (&admission.hosts, "admission.hosts"),
            };
            let hosts = hosts.check(request.host(), &self.settings.machine_name, key);
            hosts.inspect_err(|_| self.stats.rejected_hosts += 1)?;
        }
        let admitted = admission.origins.check(request, self.is_sealed(id));
        let admitted = admitted.and_then(|admitted| match admitted {
            Admitted::Foreign(_) if changes_the_server(request, face, &admission.origins) => {
                Err(Refusal::new(403, "only pages that are named in admission.origins may do this"))
            }
            admitted => Ok(admitted),
        });
        let admitted = admitted.inspect_err(|_| {
            self.stats.rejected_origins += 1;
            pending.cors = Cors::refused(request);
        })?;
        pending.cors = admitted.cors();
        let found = found.ok_or_else(|| Refusal::new(404, "there is nothing here"))?;
        if http::is_preflight(request) {
            // Browsers send it without credentials.
            return Ok((Aim::Known(http::preflight(request)), Pass::Nothing));
        }
        let aim = aim(head, found, draining);
        let route = match &aim {
            Ok(Aim::Upgrade { route, .. } | Aim::Route(route)) => Some(*route),
            Ok(Aim::Known(_)) => None,
            // A client that may not use this path is told that, and not by which method to ask.
            Err(_) => found.any(),
        };
        let pattern = route.and_then(|route| self.settings.routes[route].pattern());
        head.request.set_pattern(pattern);
        let request = &head.request;
        let pass = match route {
            Some(route) => self.check_token(now, id, request, face, route)?,
            None => Pass::Nothing,
        };
        Ok((aim?, pass))
    }
}

/// Returns whether a request would change the server through the operator's listener while pages of
/// any origin are admitted: only public routes may be for all pages.
fn changes_the_server(request: &Request, face: Face, origins: &Origins) -> bool {
    let is_safe = matches!(request.method(), "GET" | "HEAD" | "OPTIONS");
    face == Face::Admin && *origins == Origins::Any && !is_safe
}

/// Begins an answer whose body is made as its connection takes it: in chunks, or, for HTTP/1.0,
/// until the connection is closed.
pub(super) fn begin_of_body(content_type: &'static str, pending: &Pending) -> Response {
    match pending.is_http10 {
        true => Response::new(200).until_close(content_type),
        false => Response::new(200).chunked(content_type),
    }
}

const TARGET: &str = "heartwheel::connection";

/// Answers a handler's clone of a response whose stream has gone with another.
const GIVEN_AWAY: &str = "the stream of this answer was given to another\n";

/// Finds out what a request is to become.
fn aim(head: &Head, found: Found, draining: bool) -> Result<Aim, Refusal> {
    let request = &head.request;
    if let Some(route) = found.websocket
        && http::wants_websocket(request)
    {
        if draining {
            return Err(Refusal::new(503, "the server is draining"));
        }
        let accept_key = http::upgrade(head)?.accept_key;
        // With HEAD nothing can be switched to: the offer is ignored.
        if request.method() == "GET" {
            return Ok(Aim::Upgrade { route, accept_key });
        }
    }
    let method = Method::of(request.method());
    let route = method.and_then(|method| Some((method, found.by(method)?)));
    let is_bare = matches!(head.body, BodyLength::None) && !found.is_bare;
    match (request.method(), route) {
        (_, Some((method, _))) if method.brings_content() && is_bare => {
            Err(Refusal::new(411, "say how long the body is"))
        }
        (_, Some((_, route))) => Ok(Aim::Route(route)),
        ("GET" | "HEAD", None) if found.websocket.is_some() => Err(Refusal::upgrade_required()),
        ("OPTIONS", None) => Ok(Aim::Known(Response::options(&found.allow()))),
        _ => Err(Refusal::method_not_allowed(&found.allow())),
    }
}

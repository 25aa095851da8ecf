//! What a request must bear, who makes it, and what its connection may do from then on.

use log::debug;

use crate::core::admission::credentials::{Credentials, Pass};
#[cfg(feature = "jwt")]
use crate::core::admission::grant::Grant;
#[cfg(feature = "jwt")]
use crate::core::admission::jwt::Fault;
use crate::core::admission::rights::{Right, Rights};
use crate::core::admission::tokens::TokenIndex;
use crate::core::connection::Connection;
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::engine::rounds::{Beats, Change};
use crate::core::engine::services::{self, Needs, Served};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::identity::Identity;
use crate::core::ground::time::Instant;
use crate::core::ground::trace::Trace;
use crate::core::topics::Name;
#[cfg(feature = "presence")]
use crate::core::topics::presence::subject;
use crate::core::wire::http::{self, Refusal, Request};

impl Engine {
    /// Lets requests in by these from now on. No connection keeps what was taken away: its next
    /// publish or subscribe is judged by what its token may then. A token that was removed has no
    /// rights, and its connection ends where `admission.revoke` says so.
    pub fn set_credentials(&mut self, now: Instant, credentials: Credentials) {
        self.change_credentials(now, credentials, Beats::Stay);
    }

    /// As [`Engine::set_credentials`]; `beats` says what becomes of heartbeats.
    pub(super) fn change_credentials(
        &mut self,
        now: Instant,
        credentials: Credentials,
        beats: Beats,
    ) {
        // A round that is under way compares with what it replaced.
        self.finish_round(now);
        let before = std::mem::replace(&mut self.settings.credentials, credentials);
        self.begin_round(now, Change { credentials: Some(before), beats });
    }

    /// Checks the token of a request for a route, and whether it may do what the request asks for.
    ///
    /// The operator's listener is guarded by where it is bound, not by tokens.
    pub(super) fn check_token(
        &mut self,
        now: Instant,
        id: ConnectionId,
        request: &Request,
        face: Face,
        route: usize,
    ) -> Result<Pass, Refusal> {
        let is_asked = self.settings.credentials.are_asked();
        if !is_asked || face == Face::Admin || self.settings.routes[route].is_open {
            return Ok(Pass::Nothing);
        }
        let borne = http::bearer(request);
        let pass = self.find_pass(now, id, borne.as_deref())?;
        let credentials = &self.settings.credentials;
        let may = |right, topic: &str| pass.may(credentials, right, topic);
        let unmet = unmet(&self.settings.routes[route], request, may);
        self.refuse_right(unmet).map(|()| pass)
    }

    /// Finds what a request is let in by.
    fn find_pass(
        &mut self,
        _now: Instant,
        id: ConnectionId,
        borne: Option<&str>,
    ) -> Result<Pass, Refusal> {
        if let Some(token) = self.find_line(id, borne) {
            return Ok(Pass::Line(token));
        }
        // The log tells the operator which of the two it was. The peer is not told.
        let what = if borne.is_some() { "unknown" } else { "none" };
        #[cfg(feature = "jwt")]
        let what = match borne.filter(|_| self.settings.credentials.keys.is_some()) {
            None => what,
            Some(token) => match self.verify_token(_now, token) {
                Ok(token) => {
                    let unix_ms = self.reports.date.unix_ms;
                    return Ok(Pass::Grant(Box::new(Grant::of_token(token, _now, unix_ms))));
                }
                Err(Fault::Clock) => {
                    return Err(self.refuse_clock());
                }
                Err(fault) => fault.label(),
            },
        };
        self.stats.rejected_tokens += 1;
        let trace = Trace::shown(self.get(id).and_then(Connection::trace));
        debug!(target: "heartwheel::connection", "refused id={id} status=401 token={what}{trace}");
        Err(Refusal::new(401, "this takes a token"))
    }

    /// Refuses a request that cannot be judged by the wall clock.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub(super) fn refuse_clock(&mut self) -> Refusal {
        self.stats.rejected_clock += 1;
        Refusal::new(503, "the clock of this machine was never set")
    }

    /// Finds the line of the file of tokens for what a request bears.
    fn find_line(&self, _id: ConnectionId, borne: Option<&str>) -> Option<TokenIndex> {
        let tokens = self.settings.credentials.tokens.as_ref()?;
        match borne {
            // An unknown token is refused, whatever certificate comes with it.
            Some(token) => tokens.find(token),
            #[cfg(feature = "tls")]
            None => tokens.find_certificate(self.admission.certificates.of(_id.key())?),
            #[cfg(not(feature = "tls"))]
            None => None,
        }
    }

    /// Checks that what `authorize` lets a connection do is what its request asks for.
    pub(super) fn check_rights(
        &mut self,
        rights: &Rights,
        request: &Request,
        route: usize,
    ) -> Result<(), Refusal> {
        let may = |right, topic: &str| rights.may(right, topic);
        let unmet = unmet(&self.settings.routes[route], request, may);
        self.refuse_right(unmet)
    }

    fn refuse_right(&mut self, unmet: Option<Right>) -> Result<(), Refusal> {
        let Some(right) = unmet else { return Ok(()) };
        self.stats.rejected_rights += 1;
        Err(Refusal::new(403, if right == Right::Publish { NO_PUBLISH } else { NO_SUBSCRIBE }))
    }

    /// Returns who makes a request, by the line of its token. Where the client has shown a
    /// certificate, only the line for that says more than the certificate.
    pub(super) fn identity_of(
        &self,
        _id: ConnectionId,
        token: Option<TokenIndex>,
    ) -> Option<Identity> {
        let (tokens, token) = (self.settings.credentials.tokens.as_ref()?, token?);
        #[cfg(feature = "tls")]
        if !tokens.is_certificate(token) && self.admission.names.of(_id.key()).is_some() {
            return None;
        }
        tokens.identity(token).cloned()
    }

    /// Returns an identity, or without one that of the connection's certificate.
    #[inline(always)]
    pub(super) fn or_certificate(
        &self,
        _id: ConnectionId,
        identity: Option<Identity>,
    ) -> Option<Identity> {
        #[cfg(feature = "tls")]
        let identity = identity.or_else(|| Identity::new(self.admission.names.of(_id.key())?));
        identity
    }

    /// Returns whether a connection has a right now: whether its token and `authorize` both give
    /// it, where they are asked. A name that no topic can have is refused elsewhere.
    pub(super) fn may(&mut self, id: ConnectionId, right: Right, topic: &str) -> bool {
        self.catch_up(id.key());
        let topic = subject(topic);
        let Some(connection) = self.get(id) else { return true };
        let credentials = &self.settings.credentials;
        let is_asked = credentials.are_asked() && connection.face != Face::Admin;
        let by_token = !is_asked || connection.may(credentials, right, topic);
        let by_terms = connection.rights().is_none_or(|rights| rights.may(right, topic));
        let is_allowed = by_token && by_terms || !Name::is_valid(topic);
        self.stats.rejected_rights += u64::from(!is_allowed);
        is_allowed
    }
}

/// Returns the right that a request for a route needs and does not have.
fn unmet(route: &Served, request: &Request, may: impl Fn(Right, &str) -> bool) -> Option<Right> {
    let lacks = |right, topic: &str| Name::is_valid(topic) && !may(right, subject(topic));
    match services::service_of(route).needs {
        Needs::Nothing => None,
        Needs::ForPath(right) => {
            let topic = request.parameter("topic").unwrap_or_default();
            lacks(right, &topic).then_some(right)
        }
        Needs::ForQuery(right) => {
            request.query_values("topic").any(|topic| lacks(right, &topic)).then_some(right)
        }
    }
}

/// Returns the topic whose right a topic needs.
#[cfg(not(feature = "presence"))]
fn subject(topic: &str) -> &str {
    topic
}

pub(super) const NO_PUBLISH: &str = "this token may not publish there";
pub(super) const NO_SUBSCRIBE: &str = "this token may not subscribe to that";

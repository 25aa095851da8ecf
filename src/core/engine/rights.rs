//! Tokens: what a request must bear, and what its connection may do from then on.

use log::debug;

use crate::core::admission::tokens::{Right, TokenIndex, Tokens};
use crate::core::connection::Connection;
use crate::core::contract::route::Face;
use crate::core::engine::Engine;
use crate::core::engine::rounds::{Beats, Change};
use crate::core::engine::services::{self, Needs, Service};
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::topics::Name;
use crate::core::wire::http::{self, Refusal, Request};

impl Engine {
    /// Asks for these tokens from now on; `None` asks for none. No connection is ended, and each
    /// keeps its subscriptions. Its next publish or subscribe is judged by its token's rights then.
    /// A removed token has no rights.
    pub fn set_tokens(&mut self, now: Instant, tokens: Option<Tokens>) {
        self.change_tokens(now, tokens, Beats::Stay);
    }

    /// As [`Engine::set_tokens`]; `beats` says what becomes of heartbeats.
    pub(super) fn change_tokens(&mut self, now: Instant, tokens: Option<Tokens>, beats: Beats) {
        // A round that is under way compares with the tokens that it replaced.
        self.finish_round(now);
        let before = std::mem::replace(&mut self.settings.tokens, tokens);
        self.begin_round(now, Change { tokens: Some(before), beats });
    }

    /// Checks the token of a request for a route, and whether it may do what the request asks for.
    ///
    /// The operator's listener is guarded by where it is bound, not by tokens.
    pub(super) fn check_token(
        &mut self,
        id: ConnectionId,
        request: &Request,
        face: Face,
        route: usize,
    ) -> Result<Option<TokenIndex>, Refusal> {
        let spec = &self.settings.routes[route];
        let Some(tokens) =
            self.settings.tokens.as_ref().filter(|_| face != Face::Admin && !spec.is_open)
        else {
            return Ok(None);
        };
        let borne = http::bearer(request);
        let token = borne.as_ref().and_then(|token| tokens.find(token));
        #[cfg(feature = "tls")]
        let token = token.or_else(|| match &borne {
            // An unknown token is refused, whatever certificate comes with it.
            Some(_) => None,
            None => tokens.find_certificate(self.admission.certificates.of(id.key())?),
        });
        let Some(token) = token else {
            self.stats.rejected_tokens += 1;
            // The log tells the operator which of the two it was. The peer is not told.
            let what = if borne.is_some() { "unknown" } else { "none" };
            debug!(
                target: "heartwheel::connection",
                "refused id={id} status=401 token={what}"
            );
            return Err(Refusal::new(401, "this takes a token"));
        };
        let may = |right, topic: &str| !Name::is_valid(topic) || tokens.may(token, right, topic);
        let refused = match Service::of(spec.kind).needs {
            Needs::Nothing => None,
            Needs::ForPath(right) => {
                let topic = services::topic_of(&spec.path, request.path()).unwrap_or_default();
                (!may(right, &topic)).then_some(right)
            }
            Needs::ForQuery(right) => {
                let mut topics = request.query_values("topic");
                topics.any(|topic| !may(right, &topic)).then_some(right)
            }
        };
        let Some(right) = refused else { return Ok(Some(token)) };
        self.stats.rejected_rights += 1;
        Err(Refusal::new(403, if right == Right::Publish { NO_PUBLISH } else { NO_SUBSCRIBE }))
    }

    /// Returns whether the token of a connection has a right now, or no right is needed. A name
    /// that no topic can have is refused elsewhere.
    pub(super) fn may(&mut self, id: ConnectionId, right: Right, topic: &str) -> bool {
        self.catch_up(id.key());
        let is_allowed = match (&self.settings.tokens, self.get(id)) {
            (Some(tokens), Some(Connection { token, face, .. })) => {
                let may = |token| tokens.may(token, right, topic);
                *face == Face::Admin || !Name::is_valid(topic) || token.is_some_and(may)
            }
            _ => true,
        };
        self.stats.rejected_rights += u64::from(!is_allowed);
        is_allowed
    }
}

pub(super) const NO_PUBLISH: &str = "this token may not publish there";
pub(super) const NO_SUBSCRIBE: &str = "this token may not subscribe to that";

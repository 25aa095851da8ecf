//! Tokens that clients of `/ws` hand in before the end of what they came with.
//!
//! ```text
//!   {"op":"token"} ─► the token is good ─► the service is asked ─► it holds: the new end is told
//!                     (if it expires)      (if it has named an end)
//!                          └────── no ─────────────┴──► error forbidden: the old end stands
//! ```

#[cfg(feature = "jwt")]
use log::debug;

use crate::core::admission::grant::Renewed;
#[cfg(feature = "client")]
use crate::core::admission::grant::{LapsingOpinion, Renewal};
use crate::core::admission::rights::Right;
#[cfg(feature = "client")]
use crate::core::admission::rights::Rights;
use crate::core::connection::Connection;
use crate::core::engine::Engine;
#[cfg(feature = "client")]
use crate::core::engine::asking::{Asked, EXPIRES_MS_MAX, Heard};
use crate::core::engine::rights::NO_SUBSCRIBE;
use crate::core::ground::id::ConnectionId;
use crate::core::ground::time::Instant;
use crate::core::wire::hub::{ErrorCode, ServerMessage};

impl Engine {
    /// Takes a token that a client of `/ws` hands in instead of the one that it came with.
    pub(super) fn renew_token(
        &mut self,
        now: Instant,
        id: ConnectionId,
        token: &str,
        reference: Option<&str>,
    ) {
        match self.check_renewal(now, id, token) {
            Err(sentence) => self.refuse_renewal(now, id, sentence, reference),
            #[cfg(feature = "client")]
            Ok(renewed) if self.has_lapsing_opinion(id) => {
                let reference = reference.map(Box::from);
                self.ask_about_renewal(now, id, token, Renewal { renewed, reference });
            }
            Ok(renewed) => self.finish_renewal(now, id, renewed, reference),
        }
    }

    #[cfg_attr(not(feature = "jwt"), expect(unused_variables, reason = "no token is judged here"))]
    fn check_renewal(
        &mut self,
        now: Instant,
        id: ConnectionId,
        token: &str,
    ) -> Result<Renewed, &'static str> {
        let grant = self.get(id).and_then(Connection::grant);
        let grant = grant.ok_or("this connection came with no token that expires")?;
        #[cfg(feature = "client")]
        if grant.opinion.as_ref().is_some_and(|opinion| opinion.renewal.is_some()) {
            return Err("another token is being decided about");
        }
        #[cfg(feature = "jwt")]
        if let Some(before) = &grant.token {
            let subject = before.subject.clone();
            let token = self.verify_token(now, token).map_err(|fault| {
                debug!(target: "heartwheel::connection", "no renewal id={id} token={fault}");
                "this token is not good"
            })?;
            return match token.subject == subject {
                true => Ok(token.into()),
                false => Err(OF_ANOTHER),
            };
        }
        Ok(Renewed::default())
    }

    fn refuse_renewal(
        &mut self,
        now: Instant,
        id: ConnectionId,
        sentence: &str,
        reference: Option<&str>,
    ) {
        self.stats.tokens_refused += 1;
        let code = ErrorCode::Forbidden;
        self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
    }

    fn finish_renewal(
        &mut self,
        now: Instant,
        id: ConnectionId,
        renewed: Renewed,
        reference: Option<&str>,
    ) {
        let unix_ms = self.reports.date.unix_ms;
        let Some(connection) = self.get_mut(id) else { return };
        connection.flags.relink = true;
        let Some(grant) = connection.grant_mut() else { return };
        grant.renew(renewed);
        grant.tell_again(now, unix_ms);
        let expires_in_ms = grant.left_ms(unix_ms);
        self.stats.tokens_renewed += 1;
        self.tell(now, id, &ServerMessage::Token { expires_in_ms, reference });
        self.end_forbidden(now, id);
        self.touch(id);
    }

    /// Ends the subscriptions that a connection's rights do not allow any more.
    fn end_forbidden(&mut self, now: Instant, id: ConnectionId) {
        let Some(connection) = self.get(id) else { return };
        let keys = self.topics.subscriptions_of(&connection.subscriptions);
        let topics: Vec<_> = keys.map(|key| self.topics.topic_of(key).clone()).collect();
        self.allowance.charge_looks(topics.len());
        for topic in topics {
            if self.may(id, Right::Subscribe, &topic) {
                continue;
            }
            let quoted = self.quoted(id, &topic);
            let (code, sentence) = (ErrorCode::Forbidden, NO_SUBSCRIBE);
            let reference = Some(&*quoted);
            self.tell(now, id, &ServerMessage::Error { code, sentence, reference });
            self.unsubscribe(now, id, &topic);
            self.tell(now, id, &ServerMessage::Unsubscribed { topic: &topic });
        }
    }
}

#[cfg(feature = "client")]
impl Engine {
    fn has_lapsing_opinion(&self, id: ConnectionId) -> bool {
        self.get(id).and_then(Connection::grant).is_some_and(|grant| grant.opinion.is_some())
    }

    /// Asks the service about a token that is handed in instead of the one before.
    fn ask_about_renewal(&mut self, now: Instant, id: ConnectionId, token: &str, renewal: Renewal) {
        let opinion = self.get_mut(id).and_then(Connection::lapsing_opinion_mut);
        let question = match opinion {
            Some(LapsingOpinion { question: Some(question), .. }) if token.len() <= ASKED_MAX => {
                question.with_token(token)
            }
            _ => None,
        };
        let Some(question) = question else {
            let reference = renewal.reference.as_deref();
            return self.refuse_renewal(now, id, "this token cannot be asked about", reference);
        };
        if let Some(opinion) = self.get_mut(id).and_then(Connection::lapsing_opinion_mut) {
            opinion.renewal = Some(renewal);
        }
        match self.ask_question(now, id, question, Vec::new()) {
            Asked::Known(opinion) => self.hear_renewal(now, id, Ok(&opinion)),
            Asked::Broken => self.hear_renewal(now, id, Err("it is broken")),
            Asked::Waits => {}
        }
    }

    /// Takes what the service says about a token that was handed in, if the connection waits for
    /// that.
    pub(super) fn hear_renewal(&mut self, now: Instant, id: ConnectionId, heard: Heard<'_>) {
        let Some(opinion) = self.get_mut(id).and_then(Connection::lapsing_opinion_mut) else {
            return;
        };
        let identity = opinion.identity.clone();
        let Some(Renewal { mut renewed, reference }) = opinion.renewal.take() else { return };
        let reference = reference.as_deref();
        let terms = match self.judge(id, heard).and_then(|accept| Ok(accept.into_terms()?)) {
            Err(refusal) if refusal.status() == 503 => Err("it cannot be decided about this token"),
            Err(_) => Err("this token is not good"),
            Ok(terms) if terms.identity != identity => Err(OF_ANOTHER),
            Ok(terms) => Ok(terms),
        };
        match terms {
            Err(sentence) => self.refuse_renewal(now, id, sentence, reference),
            Ok(terms) => {
                let expires_ms = heard.ok().and_then(|opinion| opinion.expires_ms);
                renewed.expires_ms = Some(expires_ms.unwrap_or(EXPIRES_MS_MAX));
                self.replace_rights(id, terms.rights.map(|rights| *rights).unwrap_or_default());
                self.finish_renewal(now, id, renewed, reference);
            }
        }
    }

    /// Replaces what the service lets a connection do. What `authorize` has said stays.
    fn replace_rights(&mut self, id: ConnectionId, rights: Rights) {
        let extra = self.get_mut(id).and_then(|connection| connection.extra.as_mut());
        if let Some(given) = extra.and_then(|extra| extra.rights.as_mut()) {
            given.replace_first(rights);
        }
    }
}

const OF_ANOTHER: &str = "this token is another's";

/// The longest token that a service is asked about, in bytes.
#[cfg(feature = "client")]
const ASKED_MAX: usize = 4096;

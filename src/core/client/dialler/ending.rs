//! The end of a try or a connection, and what follows it.

use std::time::Duration;

use log::{debug, info, warn};

use super::{Action, Dialler, Means, News, Phase, Purpose};
use crate::core::client::breaker::{Breaker, Change};
use crate::core::client::link::{Closing, Stage, after};
#[cfg(feature = "mqtt")]
use crate::core::client::told::State;
use crate::core::client::told::Told;
use crate::core::client::verdict::Verdict;
use crate::core::client::why::Why;
use crate::core::ground::time::{Instant, millis_up};
use crate::core::outbox::Kind;
use crate::core::wire::ws::{Decoder, encoder};

impl Dialler {
    pub(super) fn begin_closing(
        &mut self,
        means: &mut Means<'_>,
        why: Why,
        code: u16,
        reason: &str,
    ) {
        let Phase::Open(link) = &mut self.phase else { return };
        let decoder: Decoder = std::mem::take(&mut link.decoder);
        #[cfg(feature = "deflate")]
        let unread = link.compression.take().map(|compression| compression.unread);
        let has_held = self.note_age(means.now);
        self.queue(means, encoder::close(code, reason), Kind::Close);
        let closing = Closing { why, decoder: Some(decoder), stage: Stage::Sending, has_held };
        let until = after(means.now, self.setup.rules.close_send);
        self.enter(Phase::Closing(Box::new(closing)), until);
        #[cfg(feature = "deflate")]
        self.receive(means, &mut unread.unwrap_or_default());
    }

    pub(super) fn note_close_sent(&mut self, means: &mut Means<'_>) {
        let Phase::Closing(closing) = &mut self.phase else { return };
        closing.stage = match closing.decoder {
            Some(_) => Stage::Awaiting,
            None => Stage::Ending,
        };
        self.until = after(means.now, self.setup.rules.close_ack);
    }

    pub(super) fn take_close_reply(&mut self, means: &mut Means<'_>) {
        let Phase::Closing(closing) = &mut self.phase else { return };
        if closing.stage == Stage::Awaiting {
            closing.stage = Stage::Ending;
            self.until = after(means.now, self.setup.rules.close_ack);
        }
    }

    /// Returns whether the connection has held, and counts that if it was not told before.
    pub(super) fn note_age(&mut self, now: Instant) -> bool {
        let (is_stable, opened_at) = match &self.phase {
            Phase::Closing(closing) => return closing.has_held,
            Phase::Open(link) => (link.is_stable, link.opened_at.near(now)),
            Phase::Streaming(feed) => (feed.is_stable, feed.opened_at),
            #[cfg(feature = "mqtt")]
            Phase::Broker(held) if self.state() == State::Open => (held.is_stable, held.opened_at),
            _ => return false,
        };
        let has_held = is_stable || opened_at + self.setup.rules.stable <= now;
        if has_held && !is_stable {
            self.note_held(now);
        }
        has_held
    }

    /// Lends what is still to be done and told.
    pub(super) fn news(&mut self) -> &mut News {
        self.news.get_or_insert_default()
    }

    /// Lends the breaker of the address that is tried.
    pub(super) fn breaker(&mut self) -> &mut Breaker {
        self.breakers[self.target as usize].get_or_insert_default()
    }

    /// Forgets the tries that say nothing any more.
    pub(super) fn forget_tries(&mut self, now: Instant) {
        let rules = self.setup.rules.breaker;
        self.breakers[self.target as usize].take_if(|breaker| breaker.is_at_rest(now, &rules));
    }

    pub(super) fn note_held(&mut self, now: Instant) {
        let rules = self.setup.rules.breaker;
        self.breaker().note_held(now, &rules);
        (self.retries, self.failures, self.has_renewed) = (0, 0, false);
    }

    /// Ends a try or a connection: closes its sockets, judges, and plans what follows.
    pub(super) fn finish(&mut self, means: &mut Means<'_>, why: Why, abort: bool) {
        let now = means.now;
        let has_held = self.note_age(now);
        self.note_resume();
        #[cfg(feature = "mqtt")]
        if let Some(session) = &mut self.broker {
            session.end();
        }
        let discarded = self.outbox.discard();
        if !matches!(self.phase, Phase::Waiting | Phase::Broken) {
            self.news().actions.push_back(Action::Close { abort });
        }
        if discarded.messages > 0 {
            debug!("client dropped messages={} url={}", discarded.messages, self.target());
        }
        if self.is_stopping {
            return self.stop_for(now, Why::Stopped);
        }
        if let Purpose::Request(_) = &self.setup.purpose {
            return self.finish_request(means, why);
        }
        // A connection that has held is no failed try, however it ended.
        self.failures = if has_held { 0 } else { self.failures.saturating_add(1) };
        let rules = self.setup.rules.breaker;
        let has_failed = why.is_servers_fault() && !has_held;
        let change = self.breaker().note_ended(now, &rules, has_failed);
        match change {
            Some(Change::Degraded) => {
                warn!("client degraded url={} why={why}", self.target());
                self.news().told.push(Told::Degraded);
            }
            Some(Change::Broken(until)) => {
                let span = millis_up(until.since(now));
                warn!("client broken url={} for_ms={span} why={why}", self.target());
            }
            None => {}
        }
        if self.failures == ALARM_AT {
            warn!("client alarm failures={} url={} why={why}", self.failures, self.target());
            self.news().told.push(Told::Alarm);
        }
        match why.verdict() {
            Verdict::Stop => return self.stop_for(now, why),
            Verdict::Renew if !self.setup.renews || self.has_renewed => {
                return self.stop_for(now, why);
            }
            Verdict::Renew => {
                self.has_renewed = true;
                self.news().actions.push_back(Action::Renew);
            }
            Verdict::Retry => {}
        }
        self.plan(means, why);
    }

    /// Plans the next try.
    pub(super) fn plan(&mut self, means: &mut Means<'_>, why: Why) {
        let now = means.now;
        let count = self.setup.targets.len();
        let next = |step: usize| (self.target as usize + step) % count;
        let in_turn = (1..=count).map(next);
        let open_until = |index: &usize| self.breakers[*index].as_ref()?.open_until(now);
        let free = in_turn.clone().find(|index| open_until(index).is_none());
        let asked = Duration::from_millis(self.asked_wait_ms.into());
        let asked = asked.max(why.asked_wait()).max(self.setup.retry()).min(ASKED_WAIT_MAX);
        let (target, until, phase) = match free {
            Some(target) => {
                let wait = self.setup.rules.backoff.draw(self.retries, asked, means.random);
                self.retries = self.retries.saturating_add(1);
                (target, now + wait, Phase::Waiting)
            }
            None => {
                let target = in_turn.min_by_key(open_until).unwrap_or(self.target as usize);
                let until = open_until(&target).unwrap_or(now).max(now + asked);
                (target, until, Phase::Broken)
            }
        };
        self.target = target as u32;
        self.phase = phase;
        self.until = until;
        let wait = until.since(now);
        info!(
            "client waits url={} state={} wait_ms={} failures={} why={why}",
            self.target(),
            self.state(),
            millis_up(wait),
            self.failures
        );
        self.tell(Some(wait), Some(why));
    }

    pub(super) fn stop_for(&mut self, now: Instant, why: Why) {
        match (&why, &self.setup.purpose) {
            (Why::Stopped, _) => debug!("client stopped url={}", self.target()),
            // The application is told, and may ask often.
            (_, Purpose::Request(_)) => debug!("client stopped url={} why={why}", self.target()),
            _ => warn!("client stopped url={} why={why}", self.target()),
        }
        self.phase = Phase::Stopped;
        self.until = now;
        self.tell(None, Some(why));
    }

    pub(super) fn enter(&mut self, phase: Phase, until: Instant) {
        self.phase = phase;
        // The deadline of a plain request is for all its phases.
        if !matches!(&self.setup.purpose, Purpose::Request(_)) {
            self.until = until;
        }
        self.tell(None, None);
    }

    pub(super) fn tell(&mut self, wait: Option<Duration>, why: Option<Why>) {
        let (state, failures) = (self.state(), self.failures);
        self.news().told.push(Told::State { state, wait, failures, why });
    }
}

/// How many failures in a row are told as an alarm.
const ALARM_AT: u32 = 5;

/// The longest wait that a server may ask for, in whatever way.
const ASKED_WAIT_MAX: Duration = Duration::from_secs(24 * 60 * 60);

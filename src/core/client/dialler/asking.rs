//! A plain request that was sent, and its end.

use super::{Dialler, Means, Phase, Purpose};
use crate::core::client::ask::Answer;
use crate::core::client::rules::Rules;
use crate::core::client::told::{State, Told};
use crate::core::client::why::Why;
use crate::core::ground::time::{Instant, SPAN_MAX};

impl Dialler {
    /// Tells the answer, and stops.
    pub(super) fn finish_answered(&mut self, means: &mut Means<'_>, answer: Answer) {
        self.news().told.push(Told::Answer(Box::new(answer)));
        self.finish(means, Why::Stopped, false);
    }

    /// Takes the end of the connection. A reset, and TLS that was cut off, end no answer.
    pub(super) fn lost_asking(&mut self, means: &mut Means<'_>, error: Option<String>) {
        if let Some(error) = error {
            return self.finish(means, Why::Lost(error), false);
        }
        let Phase::Asking(exchange) = std::mem::replace(&mut self.phase, Phase::Stopped) else {
            return;
        };
        match exchange.close() {
            Ok(answer) => self.finish_answered(means, answer),
            Err(error) => self.finish(means, Why::Answer(error.to_string()), false),
        }
    }

    /// Returns the deadline of a phase that has one alone. A try of an address of a plain request
    /// has its share of the time where others are left, and no more than any client gives to it.
    pub(super) fn due_at(&self) -> Instant {
        let Purpose::Request(ask) = &self.setup.purpose else { return self.until };
        let count = self.setup.targets.len() as u32;
        let is_last = self.target + 1 == count;
        match &self.phase {
            Phase::Resolving | Phase::Connecting(_) | Phase::Tunnelling(_) | Phase::Securing
                if !is_last =>
            {
                let span = ask.span().min(SPAN_MAX);
                let Rules { resolve, connect, secure, .. } = &self.setup.rules;
                let most = resolve.saturating_add(*connect).saturating_add(*secure);
                let share = (span / count).min(most);
                let behind = span.saturating_sub(share.saturating_mul(self.target + 1));
                self.until - behind
            }
            _ => self.until,
        }
    }

    /// Stops, or goes on with the next address where nothing can have been sent, by the same
    /// deadline.
    pub(super) fn finish_request(&mut self, means: &mut Means<'_>, why: Why) {
        let is_unsent = match &why {
            Why::Name(_) | Why::Unreachable(_) => true,
            Why::TimedOut(state) => *state != State::Open,
            _ => false,
        };
        let is_last = self.target as usize + 1 == self.setup.targets.len();
        if is_unsent && !is_last && means.now < self.until {
            self.target += 1;
            return self.begin_try(means);
        }
        self.stop_for(means.now, why);
    }
}

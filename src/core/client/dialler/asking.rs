//! A plain request that was sent, and its end.

use super::{Dialler, Means, Phase};
use crate::core::client::ask::Answer;
use crate::core::client::told::{State, Told};
use crate::core::client::why::Why;
use crate::core::ground::time::Instant;

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

    /// Returns the deadline of a phase of a plain request. Where other addresses are left, a try of
    /// this one takes no more than its share of the time, and no longer than any client would.
    pub(super) fn until_in_request(&self, now: Instant, phase: &Phase, until: Instant) -> Instant {
        let left = self.setup.targets.len() - self.target as usize;
        match phase {
            Phase::Asking(_) => self.ends_at,
            _ if left < 2 => self.ends_at,
            _ => until.min(now + self.ends_at.since(now) / left as u32),
        }
    }

    /// Stops, or goes on with the next address where nothing can have been sent.
    pub(super) fn finish_request(&mut self, means: &mut Means<'_>, why: Why) {
        let is_unsent = match &why {
            Why::Name(_) | Why::Unreachable(_) => true,
            Why::TimedOut(state) => *state != State::Open,
            _ => false,
        };
        let is_last = self.target as usize + 1 == self.setup.targets.len();
        if is_unsent && !is_last && means.now < self.ends_at {
            self.target += 1;
            return self.begin_try(means);
        }
        self.stop_for(means.now, why);
    }
}

//! A plain request that was sent, and its end.

use super::{Dialler, Means, Phase};
use crate::core::client::ask::Answer;
use crate::core::client::told::Told;
use crate::core::client::why::Why;

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

    /// Stops behind the one try; only where nothing can have been sent the next address is tried,
    /// by the same deadline.
    pub(super) fn finish_request(&mut self, means: &mut Means<'_>, why: Why) {
        let is_unsent = matches!(why, Why::Name(_) | Why::Unreachable(_));
        if is_unsent && (self.target as usize) + 1 < self.setup.targets.len() {
            self.target += 1;
            return self.begin_try(means);
        }
        self.stop_for(means.now, why);
    }
}

//! The service that `admission.request` names: the engine's questions go out by the clients of the
//! loop, and their answers come back as commands.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::client::Why;
use crate::core::client::ask::Answer;
use crate::core::config::{Client, Config};
use crate::core::engine::Engine;
use crate::core::ground::time::Instant;
use crate::io::event_loop::EventLoop;
use crate::io::memory::MemoryNetwork;
use crate::threads::dial::Dial;

/// How the service is asked, and what it has answered.
#[derive(Default)]
pub(super) struct Service {
    answers: Arc<Answers>,
    /// Made of this URL and these settings.
    dial: Option<(String, Client, Dial)>,
}

/// The answers that the engine has not been told, with the numbers of the questions.
#[derive(Default)]
struct Answers(Mutex<VecDeque<(u32, Result<Answer, Why>)>>);

impl EventLoop {
    /// Has clients that are made from now on connect within the process.
    pub fn dial_on_memory(&mut self, network: MemoryNetwork) {
        self.outside.clients.set_network(network);
    }

    /// Does what is due for the clients of the loop; the service is one that they ask.
    pub(super) fn turn_clients(&mut self, now: Instant) {
        self.ask_service(now);
        self.outside.clients.turn(now);
        if !self.outside.service.has_answers() {
            return;
        }
        while let Some((number, answer)) = self.outside.service.answers.pop() {
            let command = Engine::opinion_command(number, answer);
            self.engine.take_command(now, &mut self.outside, None, command);
        }
        self.outside.dispatch_to_workers(&mut self.engine);
        // Others have waited for their turn.
        self.ask_service(now);
    }

    fn ask_service(&mut self, now: Instant) {
        while let Some((number, ask)) = self.engine.poll_question(now) {
            let service = &mut self.outside.service;
            let answers = service.answers.clone();
            let sent = service.dial(self.engine.config()).and_then(|dial| {
                let told = answers.clone();
                let links = self.outside.clients.shared();
                let consulted = links.consult(dial, ask, move |answer| told.push(number, answer));
                consulted.map_err(|error| error.to_string())
            });
            if let Err(error) = sent {
                answers.push(number, Err(Why::Unreachable(error)));
            }
        }
    }
}

impl Service {
    /// Returns whether the engine has not been told all answers.
    pub fn has_answers(&self) -> bool {
        !self.answers.lock().is_empty()
    }

    /// Returns to whom a question goes, as the configuration is now.
    fn dial(&mut self, config: &Config) -> Result<Dial, String> {
        let url = config.admission.request.as_deref().unwrap_or_default();
        match &self.dial {
            Some((own, client, dial)) if own == url && *client == config.client => Ok(dial.clone()),
            _ => {
                let dial = Dial::to_service(config)?.ok_or("admission.request is off")?;
                self.dial = Some((url.to_owned(), config.client.clone(), dial.clone()));
                Ok(dial)
            }
        }
    }
}

impl Answers {
    fn push(&self, number: u32, answer: Result<Answer, Why>) {
        self.lock().push_back((number, answer));
    }

    fn pop(&self) -> Option<(u32, Result<Answer, Why>)> {
        self.lock().pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u32, Result<Answer, Why>)>> {
        // Nothing under the lock panics.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! How a script is followed.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};

use crate::common::rng::Rng;
use crate::ledger::Ledger;
use crate::link::Link;
use crate::script::{self, Act, Script};
use crate::witness::{Said, Witness};

/// A peer that follows a script.
pub struct Scripted {
    pub script: Script,
    step: usize,
    dripped: usize,
    pending: VecDeque<u8>,
    next_at: u64,
    view: Witness,
    /// Requests that may bear a position, just sent.
    pub asked: Vec<String>,
    /// What may be sent again, and was just sent.
    pub said: Vec<String>,
    /// It is time to close, for those that stay.
    pub wants_close: bool,
    pub closes: bool,
}

impl Scripted {
    pub fn new(script: Script, starts_at: u64) -> Scripted {
        Scripted {
            view: Witness::new(&script.heads),
            script,
            step: 0,
            dripped: 0,
            pending: VecDeque::new(),
            next_at: starts_at,
            asked: Vec::new(),
            said: Vec::new(),
            wants_close: false,
            closes: false,
        }
    }

    pub fn act(&mut self, now: u64, link: &mut Link, rng: &mut Rng, ledger: &Ledger) {
        if self.script.reads && !link.arrived.is_empty() {
            let mut bytes = [0; 4096];
            while let Ok(len @ 1..) = Read::read(link, &mut bytes) {
                for said in self.view.take(&bytes[..len]) {
                    if let Said::Ping(payload) = said
                        && self.script.pongs
                    {
                        self.pending.extend(script::frame(rng, 10, true, &payload));
                    }
                }
            }
        }
        if self.wants_close && !self.closes && self.pending.is_empty() {
            self.say_goodbye(link, rng);
        }
        while self.push(link) && self.next_at <= now && self.take_step(now, link, rng, ledger) {}
        let sees_end = link.client_sees_end && self.script.hangs_up && self.script.reads;
        if sees_end || link.client_sees_reset {
            link.client_shut();
        }
    }

    /// A WebSocket closes, a stream hangs up; what it had in mind it leaves undone.
    fn say_goodbye(&mut self, link: &mut Link, rng: &mut Rng) {
        self.closes = true;
        self.step = self.script.acts.len();
        match self.view.upgraded {
            true => self.pending.extend(script::frame(rng, 8, true, &1000u16.to_be_bytes())),
            false => link.client_shut(),
        }
    }

    /// Sends what waits. Says whether nothing waits any more.
    fn push(&mut self, link: &mut Link) -> bool {
        while !self.pending.is_empty() {
            let (front, _) = self.pending.as_slices();
            match Write::write(link, front) {
                Ok(len) => drop(self.pending.drain(..len)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => self.pending.clear(),
            }
        }
        true
    }

    /// Says whether the next step may follow at once.
    fn take_step(&mut self, now: u64, link: &mut Link, rng: &mut Rng, ledger: &Ledger) -> bool {
        match self.script.acts.get(self.step) {
            None => return false,
            Some(Act::Send(bytes)) => self.pending.extend(bytes),
            Some(Act::Drip { bytes, piece, every_ms }) => {
                let end = bytes.len().min(self.dripped + piece);
                self.pending.extend(&bytes[self.dripped..end]);
                self.dripped = end;
                self.next_at = now + every_ms;
                if end < bytes.len() {
                    return true;
                }
            }
            Some(Act::Wait(ms)) => self.next_at = now + ms,
            Some(Act::AwaitUpgrade) if !self.view.upgraded => return false,
            Some(Act::AwaitAnswers(count)) if self.view.answers < *count => return false,
            Some(Act::AwaitContinue) if self.view.continues == 0 => return false,
            Some(Act::AwaitUpgrade | Act::AwaitAnswers(_) | Act::AwaitContinue) => {}
            Some(Act::Ask(text)) => {
                let text = with_position(text, rng, ledger);
                self.pending.extend(text.as_bytes());
                self.asked.push(text);
            }
            Some(Act::AskHub(text)) => {
                let text = with_position(text, rng, ledger);
                self.pending.extend(self.script.hub_frame(rng, &text));
                self.asked.push(text);
            }
            Some(Act::Again(bytes, payload)) => {
                self.pending.extend(bytes);
                self.said.push(payload.clone());
            }
            Some(Act::Fin) => link.client_shut(),
            Some(Act::Reset) => link.reset(),
        }
        self.step += 1;
        true
    }

    pub fn next_at(&self, now: u64) -> Option<u64> {
        let waits = matches!(
            self.script.acts.get(self.step),
            None | Some(Act::AwaitUpgrade | Act::AwaitAnswers(_) | Act::AwaitContinue)
        );
        (!waits && self.pending.is_empty()).then_some(self.next_at.max(now))
    }
}

fn with_position(text: &str, rng: &mut Rng, ledger: &Ledger) -> String {
    let (ms, seq) = ledger.any_id(rng.next_u64()).unwrap_or_default();
    text.replace("{id}", &format!("{ms}-{seq}"))
}

//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::script::Kind;

pub struct Options {
    pub seconds: u64,
    pub rate: u64,
    pub seed: u64,
    /// The abusive kinds that take part.
    pub kinds: Vec<Kind>,
    pub is_steady: bool,
    pub html: Option<PathBuf>,
    pub is_pinned: bool,
    pub settings: Vec<String>,
    /// How often a phase without abuse is followed by one with it.
    pub rounds: usize,
}

impl Options {
    pub fn parse() -> Result<Options, lexopt::Error> {
        let mut options = Options {
            seconds: 60,
            rate: 500,
            seed: 1,
            kinds: Vec::new(),
            is_steady: false,
            html: None,
            is_pinned: false,
            settings: Vec::new(),
            rounds: 7,
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("seconds") => options.seconds = parser.value()?.parse()?,
                Long("quick") => options.seconds = 12,
                Long("rate") => options.rate = parser.value()?.parse()?,
                Long("seed") => options.seed = parser.value()?.parse()?,
                Long("only") => options.kinds.push(Kind::named(&parser.value()?.string()?)?),
                Long("steady") => options.is_steady = true,
                Long("html") => options.html = Some(parser.value()?.into()),
                Long("pin") => options.is_pinned = true,
                Long("set") => options.settings.push(parser.value()?.string()?),
                // Cargo says it to every benchmark.
                Long("bench") => {}
                _ => return Err(argument.unexpected()),
            }
        }
        if options.kinds.is_empty() {
            options.kinds = Kind::ABUSIVE.to_vec();
        }
        options.seconds = options.seconds.max(4);
        options.rate = options.rate.max(5);
        if options.seconds < 30 {
            options.rounds = 3;
        }
        Ok(options)
    }

    /// Before anything is measured: an eighth of the time.
    pub fn warm_up(&self) -> Duration {
        Duration::from_secs(self.seconds) / 8
    }

    /// How long each phase takes.
    pub fn phase(&self) -> Duration {
        let phases = if self.is_steady { self.rounds } else { 2 * self.rounds };
        (Duration::from_secs(self.seconds) - self.warm_up()) / phases as u32
    }
}

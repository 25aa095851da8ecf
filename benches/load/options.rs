//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use super::condition::Condition;
use super::connection::Endpoint;
use super::ring::Kind;

pub struct Options {
    pub mode: Mode,
    pub connections: Option<usize>,
    pub size: Option<usize>,
    pub depth: Option<usize>,
    pub rate: Option<f64>,
    pub seconds: Option<f64>,
    pub warmup: Option<f64>,
    pub rounds: Option<usize>,
    pub seed: u64,
    pub is_quick: bool,
    /// The server's core and the generator's.
    pub cores: Option<(usize, usize)>,
    pub verifies: bool,
    /// Each message goes out in a write of its own, as soon as the echo has come that it waits for.
    pub is_singly: bool,
    pub kind: Kind,
    /// The program is spoken to over TLS.
    pub is_tls: bool,
    /// Only this server, which runs already.
    pub url: Option<Endpoint>,
    /// Servers that run already, beside the others.
    pub against: Vec<Endpoint>,
    /// Peers to build and run; all of them if it is empty.
    pub peers: Option<Vec<String>>,
    pub settings: Vec<String>,
    pub workers: Option<u32>,
    /// How long the handler of the mode `blocking` blocks.
    pub block: Duration,
    pub conditions: Vec<Condition>,
    pub json: Option<PathBuf>,
    pub html: Option<PathBuf>,
    /// As it was given.
    pub command: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Echo,
    Matrix,
    Rate,
    Idle,
    Fanout,
    Churn,
    Deadlines,
    Blocking,
    All,
}

impl Options {
    /// Reads the arguments behind the program's name.
    ///
    /// # Errors
    ///
    /// If one is unknown, or no mode is named.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Options, lexopt::Error> {
        let arguments: Vec<OsString> = arguments.into_iter().collect();
        let mut options = Options::default();
        let mut mode = None;
        let words = arguments.iter().filter(|argument| *argument != "--bench");
        options.command = words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ");
        let mut parser = lexopt::Parser::from_args(arguments);
        while let Some(argument) = parser.next()? {
            match argument {
                Value(value) if mode.is_none() => mode = Some(Mode::named(&value.string()?)?),
                Long("peers") => options.peers = Some(peers(&mut parser)?),
                Long("quick") => options.is_quick = true,
                Long("no-pin") => options.cores = None,
                Long("singly") => options.is_singly = true,
                Long("verify") => options.verifies = true,
                Long("text") => options.kind = Kind::Text,
                #[cfg(feature = "tls")]
                Long("tls") => options.is_tls = true,
                #[cfg(not(feature = "tls"))]
                Long("tls") => return Err(super::stream::NO_TLS.into()),
                // Cargo says it to every benchmark.
                Long("bench") => {}
                Long(name) => {
                    let name = name.to_owned();
                    options.set(&name, &mut parser)?;
                }
                _ => return Err(argument.unexpected()),
            }
        }
        options.mode = mode.ok_or_else(|| format!("say what to measure: {}", Mode::names()))?;
        if options.is_tls && matches!(options.mode, Mode::Deadlines | Mode::Blocking | Mode::All) {
            return Err(format!("{} is not measured over TLS", options.mode.name()).into());
        }
        Ok(options)
    }

    /// Reads an option with a value.
    fn set(&mut self, name: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        match name {
            "conns" => self.connections = Some(at_least_one(parser)?),
            "size" => self.size = Some(parser.value()?.parse_with(bytes)?),
            "depth" => self.depth = Some(at_least_one(parser)?),
            "rate" => self.rate = Some(positive(parser)?),
            "seconds" => self.seconds = Some(positive(parser)?),
            "warmup" => self.warmup = Some(parser.value()?.parse()?),
            "rounds" => self.rounds = Some(at_least_one(parser)?),
            "seed" => self.seed = parser.value()?.parse()?,
            "url" => self.url = Some(parser.value()?.parse_with(Endpoint::parse)?),
            "against" => self.against.push(parser.value()?.parse_with(Endpoint::parse)?),
            "cores" => self.cores = Some(parser.value()?.parse_with(cores)?),
            "set" => self.settings.push(parser.value()?.string()?),
            "workers" => self.workers = Some(parser.value()?.parse()?),
            "block-ms" => self.block = Duration::from_millis(parser.value()?.parse()?),
            "fail-if" => self.conditions.push(parser.value()?.parse()?),
            "json" => self.json = Some(parser.value()?.into()),
            "html" => self.html = Some(parser.value()?.into()),
            name => return Err(Long(name).unexpected()),
        }
        Ok(())
    }

    /// How long is measured: what was asked for, or else this, or a third of it if it must be
    /// quick.
    pub fn seconds(&self, default: f64) -> Duration {
        let default = if self.is_quick { default / 3.0 } else { default };
        Duration::from_secs_f64(self.seconds.unwrap_or(default))
    }

    /// What goes before, unmeasured.
    pub fn warmup(&self) -> Duration {
        let default = match self.mode {
            Mode::Matrix => 0.3,
            _ if self.is_quick => 0.25,
            _ => 0.5,
        };
        Duration::from_secs_f64(self.warmup.unwrap_or(default).max(0.0))
    }

    pub fn rounds(&self, default: usize) -> usize {
        self.rounds.unwrap_or(if self.is_quick { 1 } else { default })
    }
}

impl Default for Options {
    fn default() -> Options {
        Options {
            mode: Mode::Echo,
            connections: None,
            size: None,
            depth: None,
            rate: None,
            seconds: None,
            warmup: None,
            rounds: None,
            seed: 1,
            is_quick: false,
            cores: Some((0, 1)),
            verifies: false,
            is_singly: false,
            kind: Kind::Binary,
            is_tls: false,
            url: None,
            against: Vec::new(),
            peers: None,
            settings: Vec::new(),
            workers: None,
            block: Duration::from_millis(20),
            conditions: Vec::new(),
            json: None,
            html: None,
            command: String::new(),
        }
    }
}

impl Mode {
    pub const EACH: [Mode; 8] = [
        Mode::Echo,
        Mode::Matrix,
        Mode::Rate,
        Mode::Idle,
        Mode::Fanout,
        Mode::Churn,
        Mode::Deadlines,
        Mode::Blocking,
    ];

    /// Says whether `all` measures it. The matrix takes a compiler for C, and measures again what
    /// `echo` does.
    pub fn is_of_all(self) -> bool {
        self != Mode::Matrix
    }

    pub fn name(self) -> &'static str {
        match self {
            Mode::Echo => "echo",
            Mode::Matrix => "matrix",
            Mode::Rate => "rate",
            Mode::Idle => "idle",
            Mode::Fanout => "fanout",
            Mode::Churn => "churn",
            Mode::Deadlines => "deadlines",
            Mode::Blocking => "blocking",
            Mode::All => "all",
        }
    }

    fn named(name: &str) -> Result<Mode, String> {
        let found = Mode::EACH.into_iter().chain([Mode::All]).find(|mode| mode.name() == name);
        found.ok_or_else(|| format!("{name} is not one of {}", Mode::names()))
    }

    fn names() -> String {
        Mode::EACH.iter().map(|mode| format!("{}, ", mode.name())).collect::<String>() + "all"
    }
}

/// Names may follow, in the same word or in the next; a mode or an option is no name.
fn peers(parser: &mut lexopt::Parser) -> Result<Vec<String>, lexopt::Error> {
    let names = match parser.optional_value() {
        Some(names) => Some(names),
        None => parser.raw_args()?.next_if(|next| {
            let next = next.to_string_lossy();
            !next.starts_with('-') && Mode::named(&next).is_err()
        }),
    };
    let names = names.map(|names| names.string()).transpose()?.unwrap_or_default();
    let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
    Ok(names.map(str::to_owned).collect())
}

fn at_least_one(parser: &mut lexopt::Parser) -> Result<usize, lexopt::Error> {
    parser.value()?.parse_with(|text| match text.parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err("it must be a number above 0"),
    })
}

fn positive(parser: &mut lexopt::Parser) -> Result<f64, lexopt::Error> {
    parser.value()?.parse_with(|text| match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("it must be a number above 0"),
    })
}

/// Two numbers, as in `0,1`.
fn cores(text: &str) -> Result<(usize, usize), &'static str> {
    let cores = text.split_once(',').map(|(server, generator)| (server.parse(), generator.parse()));
    match cores {
        Some((Ok(server), Ok(generator))) => Ok((server, generator)),
        _ => Err("it must be the server's core and the generator's, as in 0,1"),
    }
}

/// `125`, `16k`, `1m`; at most 64 MiB.
fn bytes(text: &str) -> Result<usize, &'static str> {
    let (digits, factor) = match text.strip_suffix(['k', 'm']) {
        Some(digits) if text.ends_with('k') => (digits, 1024),
        Some(digits) => (digits, 1024 * 1024),
        None => (text, 1),
    };
    let number: Option<usize> = digits.parse().ok();
    let number = number.and_then(|number| number.checked_mul(factor));
    number.filter(|number| *number <= 64 << 20).ok_or("it must be bytes, as in 125, 16k or 1m")
}

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Options, lexopt::Error> {
        Options::parse(words.iter().map(OsString::from))
    }

    #[test]
    fn options_stand_before_and_behind_the_mode() {
        let options = parse(&["--size", "16k", "echo", "--conns", "64", "--no-pin", "--bench"]);
        let options = options.unwrap();
        assert_eq!(options.mode, Mode::Echo);
        assert_eq!((options.size, options.connections), (Some(16_384), Some(64)));
        assert_eq!(options.cores, None);
        assert_eq!(parse(&["echo", "--cores", "2,4"]).unwrap().cores, Some((2, 4)));
        assert_eq!(options.command, "--size 16k echo --conns 64 --no-pin");
    }

    #[test]
    fn peers_may_be_named() {
        let peers = |words: &[&str]| parse(words).unwrap().peers.unwrap();
        assert_eq!(peers(&["--peers", "echo"]), [""; 0]);
        assert_eq!(peers(&["echo", "--peers"]), [""; 0]);
        assert_eq!(peers(&["echo", "--peers", "--no-pin"]), [""; 0]);
        assert_eq!(peers(&["echo", "--peers", "raw,fast"]), ["raw", "fast"]);
        assert_eq!(peers(&["--peers=raw", "echo"]), ["raw"]);
    }

    #[test]
    fn nonsense_is_refused() {
        for words in [
            &[][..],
            &["nothing"],
            &["echo", "rate"],
            &["echo", "--conns", "0"],
            &["echo", "--rate", "-1"],
            &["echo", "--size", "1g"],
            &["echo", "--cores", "1"],
            &["echo", "--url", "http://x"],
            &["echo", "--fail-if", "p42>1ms"],
            &["echo", "--nothing", "1"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
    }
}

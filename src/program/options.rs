//! The command line: which command, which file, which keys.
//!
//! [`COMMANDS`] and [`FLAGS`] are the only lists: reading, `--help`, the manual page and the
//! completions of the shells all come from these tables. What is a client's has tables of its own,
//! which a build without the feature `client` does not go by.

use std::ffi::{OsStr, OsString};
use std::fmt::{self, Display};
use std::path::PathBuf;

use lexopt::prelude::*;

#[cfg(feature = "client")]
use super::asked::Asked;

/// A command: a word on the command line without a dash.
pub struct CommandWord {
    /// Its name.
    pub name: &'static str,
    /// What stands behind it: `URL TOPIC...`. Empty if nothing may.
    pub arguments: &'static str,
    /// What it does, in a few words.
    pub meaning: &'static str,
    command: Command,
}

/// An option.
pub struct Flag {
    /// Its letter, behind one dash.
    pub short: Option<char>,
    /// Its name, behind two dashes.
    pub long: &'static str,
    /// The name of its value in `--help`: `FILE`. `None` if it takes no value.
    pub value: Option<&'static str>,
    /// What it does, in a few words.
    pub meaning: &'static str,
    does: Does,
}

impl Flag {
    /// Returns the key of the configuration that the option sets; `None` if it sets no single key.
    pub fn key(&self) -> Option<&'static str> {
        match self.does {
            Does::Key(key) => Some(key),
            _ => None,
        }
    }
}

/// All commands.
pub const COMMANDS: &[CommandWord] = &[
    CommandWord {
        name: "serve",
        arguments: "",
        meaning: "run the server until SIGTERM or SIGINT (the default)",
        command: Command::Serve,
    },
    CommandWord {
        name: "check",
        arguments: "",
        meaning: "judge the configuration: limits, contradictions, worst-case memory",
        command: Command::Check,
    },
    CommandWord {
        name: "print-config",
        arguments: "",
        meaning: "print the effective configuration as TOML",
        command: Command::PrintConfig,
    },
];

/// The commands of the other end, in builds with the feature `client`.
pub const CLIENT_COMMANDS: &[CommandWord] = &[
    CommandWord {
        name: "subscribe",
        arguments: "URL TOPIC...",
        meaning: "print the events of a server's topics, and go on after each break",
        command: Command::Subscribe,
    },
    CommandWord {
        name: "publish",
        arguments: "URL TOPIC [PAYLOAD | -]",
        meaning: "publish PAYLOAD, or all of stdin, or with - each line of it; print the ids",
        command: Command::Publish,
    },
    CommandWord {
        name: "verdict",
        arguments: "URL",
        meaning: "compare the canary with the other clients by /metrics; status 1 if worse",
        command: Command::Verdict,
    },
];

/// All options but those of the other end; each command takes all of them.
pub const FLAGS: &[Flag] = &[
    Flag {
        short: Some('c'),
        long: "config",
        value: Some("FILE"),
        meaning: "read the configuration from a TOML file",
        does: Does::File,
    },
    Flag {
        short: None,
        long: "set",
        value: Some("KEY=VALUE"),
        meaning: "set a key, such as deadlines.handshake=2s; repeatable",
        does: Does::Setting,
    },
    Flag {
        short: None,
        long: "listen",
        value: Some("ADDR"),
        meaning: "listen on host:port, [v6]:port, *:port or unix:/path; repeatable",
        does: Does::Key("listen"),
    },
    Flag {
        short: None,
        long: "admin-listen",
        value: Some("ADDR"),
        meaning: "listen for the operator there; off for nowhere; repeatable",
        does: Does::Key("admin_listen"),
    },
    #[cfg(feature = "streams")]
    Flag {
        short: None,
        long: "files",
        value: Some("DIR"),
        meaning: "serve the files of this folder at /",
        does: Does::Key("serve.files"),
    },
    Flag {
        short: None,
        long: "workers",
        value: Some("N"),
        meaning: "worker threads; 0: handlers run on the loop thread",
        does: Does::Key("workers"),
    },
    Flag {
        short: None,
        long: "log",
        value: Some("LEVEL"),
        meaning: "off, error, warn, info, debug or trace",
        does: Does::Key("log"),
    },
    Flag {
        short: Some('h'),
        long: "help",
        value: None,
        meaning: "print this",
        does: Does::Only(Command::Help),
    },
    Flag {
        short: Some('V'),
        long: "version",
        value: None,
        meaning: "print the version",
        does: Does::Only(Command::Version),
    },
];

/// The options of builds with the feature `store`.
pub const STORE_FLAGS: &[Flag] = &[Flag {
    short: None,
    long: "flash",
    value: Some("FILE"),
    meaning: "check: measure the flash by this file, which must not exist yet",
    does: Does::Flash,
}];

/// The options of [`CLIENT_COMMANDS`].
pub const CLIENT_FLAGS: &[Flag] = &[
    Flag {
        short: None,
        long: "token",
        value: Some("T"),
        meaning: "send this token, which other users of the machine can see",
        does: Does::Client,
    },
    Flag {
        short: None,
        long: "token-file",
        value: Some("FILE"),
        meaning: "send the token in this file, read again when the server asks for another",
        does: Does::Client,
    },
    Flag {
        short: None,
        long: "ca",
        value: Some("FILE"),
        meaning: "trust the certificates that those in this file have signed, and no others",
        does: Does::Client,
    },
    Flag {
        short: None,
        long: "cert",
        value: Some("FILE"),
        meaning: "show this certificate; with --key",
        does: Does::Client,
    },
    Flag {
        short: None,
        long: "key",
        value: Some("FILE"),
        meaning: "the certificate's key",
        does: Does::Client,
    },
    Flag {
        short: None,
        long: "timeout",
        value: Some("D"),
        meaning: "publish: the whole run (10s); subscribe: without a connection (off)",
        does: Does::Client,
    },
    Flag {
        short: None,
        long: "after",
        value: Some("ID"),
        meaning: "subscribe: begin after this event; 0-0: with all that is retained",
        does: Does::Subscribe,
    },
    Flag {
        short: None,
        long: "json",
        value: None,
        meaning: "subscribe: print events and gaps as lines of JSON",
        does: Does::Subscribe,
    },
    Flag {
        short: None,
        long: "count",
        value: Some("N"),
        meaning: "subscribe: end after so many events",
        does: Does::Subscribe,
    },
    Flag {
        short: None,
        long: "for",
        value: Some("D"),
        meaning: "verdict: compare what is counted in this time (60s)",
        does: Does::Verdict,
    },
];

/// What an option does.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Does {
    /// Names the configuration file.
    File,
    /// Sets the key that its value names.
    Setting,
    /// Sets this key.
    Key(&'static str),
    /// Names the file by which `check` measures the flash.
    Flash,
    /// Ends the reading: only this command runs.
    Only(Command),
    /// Is for clients.
    Client,
    /// Is for `subscribe`.
    Subscribe,
    /// Is for `verdict`.
    Verdict,
}

/// What the program is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Command {
    /// Run the server; also where no command is named.
    #[default]
    Serve,
    /// Judge the configuration.
    Check,
    /// Print the configuration as TOML.
    PrintConfig,
    /// Print the events of topics.
    Subscribe,
    /// Publish to a topic.
    Publish,
    /// Compare the cohorts.
    Verdict,
    /// Print the usage.
    Help,
    /// Print the version.
    Version,
}

/// The command line, understood but not yet applied to a configuration.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// What to do.
    pub command: Command,
    /// The configuration file.
    pub file: Option<PathBuf>,
    /// Keys and values in the order given; a later one wins.
    pub settings: Vec<(String, String)>,
    /// The file by which `check` measures the flash.
    #[cfg(feature = "store")]
    pub flash: Option<PathBuf>,
    /// What a client is told.
    #[cfg(feature = "client")]
    pub asked: Asked,
}

impl Options {
    /// Reads the arguments that follow the program's name. `--help` and `--version` end the
    /// reading.
    ///
    /// # Errors
    ///
    /// The first argument that is not understood: those after it may not mean what they seem to.
    pub fn parse<I>(arguments: I) -> Result<Options, lexopt::Error>
    where
        I: IntoIterator<Item = OsString, IntoIter: 'static>,
    {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options = Options::default();
        let mut command = None;
        #[cfg(feature = "client")]
        let mut of_clients = Vec::new();
        while let Some(argument) = parser.next()? {
            let flag = match &argument {
                Short(letter) => flags().find(|flag| flag.short == Some(*letter)),
                Long(name) => flags().find(|flag| flag.long == *name),
                Value(word) if command.is_none() => {
                    command = Some(Command::named(word)?);
                    continue;
                }
                #[cfg(feature = "client")]
                Value(word) if command.is_some_and(Command::is_client) => {
                    options.asked.arguments.push(word.clone());
                    continue;
                }
                Value(_) => None,
            };
            match flag.map(|flag| flag.does) {
                Some(Does::File) => options.file = Some(parser.value()?.into()),
                Some(Does::Setting) => options.set(parser.value()?.string()?)?,
                Some(Does::Key(key)) => options.push(key, parser.value()?.string()?),
                #[cfg(feature = "store")]
                Some(Does::Flash) => options.flash = Some(parser.value()?.into()),
                #[cfg(not(feature = "store"))]
                Some(Does::Flash) => return Err(argument.unexpected()),
                Some(Does::Only(command)) => return Ok(Options { command, ..Options::default() }),
                #[cfg(feature = "client")]
                Some(Does::Client | Does::Subscribe | Does::Verdict) => {
                    let flag = flag.expect("it does something");
                    options.asked.take(flag.long, &mut parser)?;
                    of_clients.push(flag);
                }
                #[cfg(not(feature = "client"))]
                Some(Does::Client | Does::Subscribe | Does::Verdict) => {
                    return Err(argument.unexpected());
                }
                None => return Err(argument.unexpected()),
            }
        }
        options.command = command.unwrap_or_default();
        #[cfg(feature = "store")]
        if options.flash.is_some() && options.command != Command::Check {
            return Err("--flash: is for check".into());
        }
        #[cfg(feature = "client")]
        for flag in of_clients {
            let command = options.command;
            if flag.does == Does::Subscribe && command != Command::Subscribe {
                return Err(format!("--{}: is for subscribe", flag.long).into());
            } else if flag.does == Does::Verdict && command != Command::Verdict {
                return Err(format!("--{}: is for verdict", flag.long).into());
            } else if !command.is_client() {
                return Err(
                    format!("--{}: is for subscribe, publish and verdict", flag.long).into()
                );
            }
        }
        Ok(options)
    }

    fn set(&mut self, setting: String) -> Result<(), String> {
        match setting.split_once('=') {
            Some((key, value)) => self.settings.push((key.trim().into(), value.trim().into())),
            None => return Err(format!("--set {setting}: must be KEY=VALUE")),
        }
        Ok(())
    }

    /// Adds the value of an option that sets one key; addresses add to those named so far.
    fn push(&mut self, key: &str, value: String) {
        let adds_up = matches!(key, "listen" | "admin_listen");
        match self.settings.iter_mut().rfind(|(other, _)| adds_up && other == key) {
            Some((_, list)) => *list += &format!(",{value}"),
            None => self.settings.push((key.into(), value)),
        }
    }
}

/// Returns the options that this build knows.
fn flags() -> impl Iterator<Item = &'static Flag> {
    let of_store = STORE_FLAGS.iter().filter(|_| cfg!(feature = "store"));
    let of_clients = CLIENT_FLAGS.iter().filter(|_| cfg!(feature = "client"));
    FLAGS.iter().chain(of_store).chain(of_clients)
}

/// Returns the commands that this build knows.
fn commands() -> impl Iterator<Item = &'static CommandWord> {
    COMMANDS.iter().chain(CLIENT_COMMANDS.iter().filter(|_| cfg!(feature = "client")))
}

impl Command {
    /// Returns whether it is one of the other end.
    #[cfg(feature = "client")]
    pub fn is_client(self) -> bool {
        matches!(self, Command::Subscribe | Command::Publish | Command::Verdict)
    }

    fn named(word: &OsStr) -> Result<Command, String> {
        #[cfg(not(feature = "client"))]
        if CLIENT_COMMANDS.iter().any(|command| word == command.name) {
            let word = word.to_string_lossy();
            return Err(format!("{word}: this build has no client: feature `client`"));
        }
        let found = commands().find(|command| command.name == word);
        let unknown = || format!("{}: there is no such command", word.to_string_lossy());
        found.map(|found| found.command).ok_or_else(unknown)
    }
}

/// What `--help` prints.
pub struct Usage;

impl Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(USAGE_HEAD)?;
        for CommandWord { name, arguments, meaning, .. } in commands() {
            if !arguments.is_empty() {
                write!(f, "  {name} {arguments}\n  {:<14} {meaning}\n", "")?;
                continue;
            }
            writeln!(f, "  {name:<14} {meaning}")?;
        }
        f.write_str("\nOptions:\n")?;
        FLAGS.iter().try_for_each(|flag| write_flag(f, flag))?;
        #[cfg(feature = "store")]
        STORE_FLAGS.iter().try_for_each(|flag| write_flag(f, flag))?;
        #[cfg(feature = "client")]
        {
            f.write_str("\nOptions of subscribe, publish and verdict:\n")?;
            CLIENT_FLAGS.iter().try_for_each(|flag| write_flag(f, flag))?;
        }
        f.write_str(USAGE_END)
    }
}

fn write_flag(f: &mut fmt::Formatter<'_>, flag: &Flag) -> fmt::Result {
    let Flag { short, long, value, meaning, .. } = flag;
    match short {
        Some(letter) => write!(f, "  -{letter}, ")?,
        None => f.write_str("      ")?,
    }
    let width = 17_usize.saturating_sub(long.len());
    writeln!(f, "--{long} {:<width$} {meaning}", value.unwrap_or_default())
}

const USAGE_HEAD: &str = "\
heartwheel: a server in which no connection is ever without a deadline

Usage: heartwheel [COMMAND] [OPTIONS]

Commands:
";

const USAGE_END: &str = "
Options win over the environment (HEARTWHEEL_DEADLINES_HANDSHAKE=2s), the environment
over the file, the file over the defaults. `heartwheel check` lists all keys.

Exit status: 0 after a clean drain, 1 on a failure at run time, 2 for a bad configuration.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &'static str) -> Result<Options, String> {
        let arguments = line.split_whitespace().map(OsString::from);
        Options::parse(arguments).map_err(|error| error.to_string())
    }

    fn settings(line: &'static str) -> Vec<(String, String)> {
        parse(line).unwrap().settings
    }

    fn setting(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn a_command_may_stand_anywhere_and_serve_is_the_default() {
        for (line, command) in [
            ("", Command::Serve),
            ("serve", Command::Serve),
            ("check", Command::Check),
            ("--workers 1 print-config --log debug", Command::PrintConfig),
            ("check --help --nonsense", Command::Help),
            ("-V", Command::Version),
        ] {
            assert_eq!(parse(line).unwrap().command, command, "{line}");
        }
    }

    #[test]
    fn options_become_settings_in_their_order() {
        assert_eq!(
            settings("--workers 1 --set tick=10ms --log=warn --set workers=3"),
            [
                setting("workers", "1"),
                setting("tick", "10ms"),
                setting("log", "warn"),
                setting("workers", "3"),
            ]
        );
        assert_eq!(parse("-c a.toml").unwrap().file, Some("a.toml".into()));
        assert_eq!(parse("--config=a.toml").unwrap().file, Some("a.toml".into()));
    }

    #[test]
    fn addresses_add_up() {
        let line = "--listen 127.0.0.1:1 --workers 1 --listen [::1]:2,unix:/run/h.sock";
        let expected = setting("listen", "127.0.0.1:1,[::1]:2,unix:/run/h.sock");
        assert_eq!(settings(line)[0], expected);
        let line =
            "--admin-listen 127.0.0.1:1 --listen 127.0.0.1:2 --admin-listen unix:/run/a.sock";
        let expected = setting("admin_listen", "127.0.0.1:1,unix:/run/a.sock");
        assert_eq!(settings(line)[0], expected);
        assert_eq!(settings("--admin-listen off"), [setting("admin_listen", "off")]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (line, error) in [
            ("start", "start: there is no such command"),
            ("serve check", "unexpected argument \"check\""),
            ("--port 80", "invalid option '--port'"),
            ("-x", "invalid option '-x'"),
            ("--set", "missing argument for option '--set'"),
            ("--set tick", "--set tick: must be KEY=VALUE"),
        ] {
            assert_eq!(parse(line), Err(error.into()), "{line}");
        }
    }
}

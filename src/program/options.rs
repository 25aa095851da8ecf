//! The command line: which command, which file, which keys.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::*;

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
}

impl Options {
    /// Reads the arguments that follow the program's name. `--help` and `--version` end the
    /// reading.
    ///
    /// # Errors
    ///
    /// The first argument that makes no sense: what comes after it may not mean what it seems to.
    pub fn parse<I>(arguments: I) -> Result<Options, lexopt::Error>
    where
        I: IntoIterator<Item = OsString, IntoIter: 'static>,
    {
        let mut parser = lexopt::Parser::from_args(arguments);
        let mut options = Options::default();
        let mut command = None;
        while let Some(argument) = parser.next()? {
            match argument {
                Short('h') | Long("help") => return Ok(Options::only(Command::Help)),
                Short('V') | Long("version") => return Ok(Options::only(Command::Version)),
                Short('c') | Long("config") => options.file = Some(parser.value()?.into()),
                Long("set") => options.set(parser.value()?.string()?)?,
                Long("listen") => options.listen(parser.value()?.string()?),
                Long("workers") => options.push("workers", parser.value()?.string()?),
                Long("log") => options.push("log", parser.value()?.string()?),
                Value(word) if command.is_none() => command = Some(Command::named(&word)?),
                _ => return Err(argument.unexpected()),
            }
        }
        options.command = command.unwrap_or_default();
        Ok(options)
    }

    fn only(command: Command) -> Options {
        Options { command, ..Options::default() }
    }

    fn set(&mut self, setting: String) -> Result<(), String> {
        match setting.split_once('=') {
            Some((key, value)) => self.push(key.trim(), value.trim().into()),
            None => return Err(format!("--set {setting}: must be KEY=VALUE")),
        }
        Ok(())
    }

    /// Adds to the addresses that the command line has named so far.
    fn listen(&mut self, addresses: String) {
        match self.settings.iter_mut().rfind(|(key, _)| key == "listen") {
            Some((_, list)) => *list += &format!(",{addresses}"),
            None => self.push("listen", addresses),
        }
    }

    fn push(&mut self, key: &str, value: String) {
        self.settings.push((key.into(), value));
    }
}

impl Command {
    fn named(word: &OsString) -> Result<Command, String> {
        match word.to_string_lossy().as_ref() {
            "serve" => Ok(Command::Serve),
            "check" => Ok(Command::Check),
            "print-config" => Ok(Command::PrintConfig),
            other => Err(format!("{other}: there is no such command")),
        }
    }
}

/// What `--help` prints.
pub const USAGE: &str = "\
heartwheel: a server in which no connection is ever without a deadline

Usage: heartwheel [COMMAND] [OPTIONS]

Commands:
  serve          run the server until SIGTERM or SIGINT (the default)
  check          judge the configuration: limits, contradictions, worst-case memory
  print-config   print the effective configuration as TOML

Options:
  -c, --config FILE     read the configuration from a TOML file
      --set KEY=VALUE   set a key, such as deadlines.handshake=2s; repeatable
      --listen ADDR     listen on host:port, [v6]:port or unix:/path; repeatable
      --workers N       worker threads; 0: handlers run on the loop thread
      --log LEVEL       off, error, warn, info, debug or trace
  -h, --help            print this
  -V, --version         print the version

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

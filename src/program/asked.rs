//! What the commands of the other end are told on the command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use lexopt::prelude::*;

use crate::core::config::units::read_duration;
use crate::core::topics::EventId;

/// What stands behind `subscribe` and `publish`, and their own options.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The words: a URL, topics, a payload.
    pub arguments: Vec<OsString>,
    /// The token.
    pub token: Option<String>,
    /// The file that has the token.
    pub token_file: Option<PathBuf>,
    /// The file of certificates that are trusted.
    pub ca: Option<PathBuf>,
    /// The file of our certificate.
    pub certificate: Option<PathBuf>,
    /// The file of its key.
    pub key: Option<PathBuf>,
    /// The bound of the run, `Some(None)` for none; `None` if nothing was said of it.
    pub timeout: Option<Option<Duration>>,
    /// Where to begin.
    pub after: Option<EventId>,
    /// Events are printed as JSON.
    pub is_json: bool,
    /// After how many events to end.
    pub count: Option<u64>,
    /// For how long to count.
    pub span: Option<Duration>,
}

impl Asked {
    /// Takes an option, and its value from the parser.
    ///
    /// # Errors
    ///
    /// The rule that the value breaks.
    pub fn take(&mut self, option: &str, parser: &mut lexopt::Parser) -> Result<(), lexopt::Error> {
        if option == "json" {
            self.is_json = true;
            return Ok(());
        }
        let value = parser.value()?;
        match option {
            "token-file" => self.token_file = Some(value.into()),
            "ca" => self.ca = Some(value.into()),
            "cert" => self.certificate = Some(value.into()),
            "key" => self.key = Some(value.into()),
            _ => self.take_text(option, value.string()?)?,
        }
        Ok(())
    }

    fn take_text(&mut self, option: &str, text: String) -> Result<(), String> {
        let must = |rule: &str| format!("--{option} {text}: must be {rule}");
        match option {
            "token" => self.token = Some(text),
            "timeout" if text == "off" => self.timeout = Some(None),
            "timeout" => {
                let span = read_duration(&text).filter(|span| !span.is_zero());
                self.timeout = Some(Some(span.ok_or_else(|| must("a time such as 10s, or off"))?));
            }
            "after" => {
                let id = text.parse().map_err(|_| must("the id of an event, or 0-0"))?;
                self.after = Some(id);
            }
            "count" => {
                let count = text.parse().ok().filter(|count| *count > 0);
                self.count = Some(count.ok_or_else(|| must("a whole number from 1"))?);
            }
            "for" => {
                let span = read_duration(&text).filter(|span| *span >= Duration::from_secs(1));
                self.span = Some(span.ok_or_else(|| must("a time from 1s on"))?);
            }
            _ => unreachable!("the table has no other"),
        }
        Ok(())
    }
}

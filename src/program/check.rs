//! What `check` says of a configuration that can be read: the values in force, the worst case,
//! advice and warnings.

use std::fmt::{self, Display};

use crate::config::units::show_duration;
use crate::config::{ClientAdvice, Config, KEYS, Term};

/// The text that `check` prints. Faults are not in it: they go where all faults go.
pub struct Judgement<'a> {
    /// The configuration in question.
    pub config: &'a Config,
    /// What is doubtful about it, a line each.
    pub warnings: &'a [String],
}

impl Display for Judgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_keys(f, self.config)?;
        write_worst_case(f, &self.config.worst_case())?;
        write_advice(f, self.config.client_advice())?;
        if !self.warnings.is_empty() {
            writeln!(f, "\nWarnings")?;
        }
        self.warnings.iter().try_for_each(|warning| writeln!(f, "  {warning}"))
    }
}

/// Writes a line for each key, marked with a star if it was set.
fn write_keys(f: &mut fmt::Formatter<'_>, config: &Config) -> fmt::Result {
    writeln!(f, "Keys (* set, the others at their defaults)")?;
    let mut section = "";
    for key in KEYS {
        if key.section() != section {
            section = key.section();
            writeln!(f)?;
        }
        let mark = if config.is_set(key.name) { '*' } else { ' ' };
        writeln!(f, "{mark} {:<24} {:<14}  {}", key.name, key.value(config), key.meaning)?;
    }
    Ok(())
}

fn write_worst_case(f: &mut fmt::Formatter<'_>, terms: &[Term]) -> fmt::Result {
    writeln!(f, "\nWorst-case memory: every connection takes all it may at once")?;
    let mut sum: u64 = 0;
    for term in terms {
        let Term { what, count, bytes, .. } = term;
        writeln!(f, "  {what:<21} {count:>9} x {bytes:>10} B = {:>10}", rounded(term.total()))?;
        sum = sum.saturating_add(term.total());
    }
    writeln!(f, "  {:<46} = {:>10}", "in all", rounded(sum))
}

fn write_advice(f: &mut fmt::Formatter<'_>, advice: ClientAdvice) -> fmt::Result {
    writeln!(f, "\nWhat a client must use")?;
    match advice.read_timeout {
        Some(timeout) => writeln!(f, "  read timeout          {}", show_duration(timeout))?,
        None => writeln!(f, "  read timeout          none: the server sends no pings")?,
    }
    let events = show_duration(advice.events_read_timeout);
    writeln!(f, "  ... of event streams  {events}")?;
    if let Some(every) = advice.send_every {
        writeln!(f, "  something to send     every {} at least", show_duration(every))?;
    }
    let within = show_duration(advice.reconnect_within);
    writeln!(f, "  reconnect delay       0 to {within} at random; MS where told retry=MS")
}

/// Shows bytes with one decimal in the largest binary unit.
fn rounded(bytes: u64) -> String {
    let step = bytes.checked_ilog2().unwrap_or(0) / 10;
    let unit = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"][step as usize];
    format!("{:.1} {unit}", bytes as f64 / (1u64 << (10 * step)) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_every_warning_has_a_line() {
        let mut config = Config::default();
        config.set("deadlines.body", "90s").unwrap();
        let warnings = ["one".to_string(), "two".to_string()];
        let text = Judgement { config: &config, warnings: &warnings }.to_string();
        for key in KEYS {
            let mark = if key.name == "deadlines.body" { '*' } else { ' ' };
            let is_line = |line: &str| line.starts_with(&format!("{mark} {} ", key.name));
            assert_eq!(text.lines().filter(|line| is_line(line)).count(), 1, "{}", key.name);
        }
        assert!(text.ends_with("Warnings\n  one\n  two\n"), "{text}");
    }

    #[test]
    fn bytes_are_rounded() {
        for (bytes, text) in [
            (0, "0.0 B"),
            (1023, "1023.0 B"),
            (1024, "1.0 KiB"),
            (1536 << 20, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(rounded(bytes), text);
        }
    }
}

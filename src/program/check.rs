//! What `check` prints of a configuration that can be read: the values in force, the worst case,
//! advice and warnings.

use std::fmt::{self, Display};

use crate::core::config::units::show_duration;
use crate::core::config::{ClientAdvice, Config, KEYS, Term};
use crate::core::ground::decimal::tenths;

/// The text that `check` prints. Faults are not in it: they go to stderr, as all faults do.
pub struct Judgement<'a> {
    /// The configuration in question.
    pub config: &'a Config,
    /// What is doubtful about it, a line each.
    pub warnings: &'a [String],
    /// The bytes that `limits.memory_bytes = auto` means on this machine.
    pub memory_auto: u64,
}

impl Display for Judgement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_keys(f, self.config)?;
        let budget = self.config.limits.memory_bytes.unwrap_or(self.memory_auto);
        write_worst_case(f, &self.config.worst_case(), budget)?;
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
    #[cfg(feature = "bridge")]
    for bridge in &config.bridges {
        writeln!(f)?;
        for key in crate::core::config::BRIDGE_KEYS {
            let name = format!("bridge.{}.{}", bridge.name(), key.name);
            writeln!(f, "* {name:<24} {:<14}  {}", key.value(bridge), key.meaning)?;
        }
    }
    Ok(())
}

/// Writes the most memory that everything may take: first what no budget bounds, then what
/// `limits.memory_bytes` bounds; then the one sum to plan with.
fn write_worst_case(f: &mut fmt::Formatter<'_>, terms: &[Term], budget: u64) -> fmt::Result {
    writeln!(f, "\nWorst-case memory: every connection takes all it may at once")?;
    let fixed = write_terms(f, terms, false)?;
    let what = "in all, with no budget for these";
    let budgeted = write_terms(f, terms, true)?;
    writeln!(f, "  {what:<46} = {:>10}", rounded(fixed.saturating_add(budgeted)))?;
    let held = budgeted.min(budget);
    let what = "held to limits.memory_bytes, these take";
    writeln!(f, "  {what:<46} = {:>10}", rounded(held))?;
    let parts = [fixed, held, held / HOLES_PART, PROGRAM_BYTES];
    let plan = parts.into_iter().fold(0, u64::saturating_add);
    let [fixed, held, holes, program] = parts.map(rounded);
    writeln!(f, "\nMemory to plan with: {}", rounded(plan))?;
    writeln!(
        f,
        "  {fixed} beside the budget + {held} within it + {holes} of holes + {program} of program"
    )?;
    writeln!(f, "  not in it: the kernel's buffers of sockets, and what handlers keep")
}

/// Writes the terms that `limits.memory_bytes` bounds, or the others; returns their sum in bytes.
fn write_terms(
    f: &mut fmt::Formatter<'_>,
    terms: &[Term],
    is_budgeted: bool,
) -> Result<u64, fmt::Error> {
    let mut sum: u64 = 0;
    for term in terms.iter().filter(|term| term.is_budgeted == is_budgeted) {
        let Term { what, count, bytes, .. } = term;
        writeln!(f, "  {what:<21} {count:>9} x {bytes:>10} B = {:>10}", rounded(term.total()))?;
        sum = sum.saturating_add(term.total());
    }
    if !is_budgeted {
        writeln!(f, "  {:<46} = {:>10}", "no budget bounds these", rounded(sum))?;
    }
    Ok(sum)
}

/// With glibc, if large messages come and go: see the operator's page.
const HOLES_PART: u64 = 4;

/// Resident bytes of a server without connections, with two workers.
const PROGRAM_BYTES: u64 = 4 << 20;

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
    tenths(bytes as f64 / (1u64 << (10 * step)) as f64) + " " + unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_and_every_warning_has_a_line() {
        let mut config = Config::default();
        config.set("deadlines.body", "90s").unwrap();
        let warnings = ["one".to_string(), "two".to_string()];
        let text = Judgement { config: &config, warnings: &warnings, memory_auto: 0 }.to_string();
        for key in KEYS {
            let mark = if key.name == "deadlines.body" { '*' } else { ' ' };
            let is_line = |line: &str| line.starts_with(&format!("{mark} {} ", key.name));
            assert_eq!(text.lines().filter(|line| is_line(line)).count(), 1, "{}", key.name);
        }
        assert!(text.ends_with("Warnings\n  one\n  two\n"), "{text}");
    }

    #[test]
    fn one_line_says_how_much_memory_to_plan_with() {
        const MIB: u64 = 1 << 20;
        let mut config = Config::default();
        config.set("limits.connections", "1000").unwrap();
        let line = |config: &Config, memory_auto| {
            let text = Judgement { config, warnings: &[], memory_auto }.to_string();
            let mut lines = text.lines().filter(|line| line.starts_with("Memory to plan with: "));
            let line = lines.next().expect("it is there").to_owned();
            assert_eq!(lines.next(), None, "{text}");
            line
        };
        // 1,000 times 240 B and 400 B of timers, and 148 KiB for all; then the budget and a quarter
        // of it; then the program.
        assert_eq!(line(&config, 40 * MIB), "Memory to plan with: 54.8 MiB");
        config.set("limits.memory_bytes", "4m").unwrap();
        assert_eq!(line(&config, 40 * MIB), "Memory to plan with: 9.8 MiB");
        // If all that may wait is less than the budget, that counts.
        for (name, text) in [("limits.connections", "1"), ("limits.topics", "1"), ("workers", "0")]
        {
            config.set(name, text).unwrap();
        }
        config.set("limits.memory_bytes", "1g").unwrap();
        let sum = |is_budgeted| -> u64 {
            let terms = config.worst_case().into_iter();
            terms.filter(|term| term.is_budgeted == is_budgeted).map(|term| term.total()).sum()
        };
        let (fixed, waits) = (sum(false), sum(true));
        let plan = fixed + waits + waits / 4 + 4 * MIB;
        assert_eq!(line(&config, 0), format!("Memory to plan with: {}", rounded(plan)));
        assert!(plan < 20 * MIB, "{plan}");
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

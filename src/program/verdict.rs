//! `heartwheel verdict`: says whether the canary does worse than the other clients.
//!
//! The figures are read twice, and what has been counted between is compared. So a rollout has an
//! end that a script can act on.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::thread;
use std::time::Duration;

use super::asked::Asked;
use super::client::{Ended, dial};
use super::print;
use crate::client::{Ask, Client};
use crate::core::config::Config;
use crate::core::ground::cohort::Cohort;
use crate::core::ground::reason::{CloseReason, Severity};

/// Reads the figures twice and compares the cohorts.
///
/// # Errors
///
/// What on the command line is not right, or why there is nothing to compare.
pub(super) fn run(asked: &Asked, config: &Config) -> Result<Ended, String> {
    if let Some(word) = asked.arguments.get(1) {
        return Err(format!("unexpected argument {word:?}"));
    }
    let dial = dial(asked, config)?;
    let url = asked.arguments[0].to_string_lossy();
    let behind = url.split_once("://").map_or(&*url, |(_, behind)| behind);
    let path = if behind.contains('/') { "" } else { "/metrics" };
    let mut client = Client::new(dial).map_err(|error| error.to_string())?;
    let mut read = || -> Result<Figures, String> {
        let ask = Ask::get(path).within(TIMEOUT).limit(FIGURES_BYTES_MAX);
        let answer = client.request(ask).map_err(|error| error.to_string())?;
        match (answer.status(), answer.text()) {
            (200, Some(text)) => Ok(Figures::read(text)),
            (status, _) => Err(format!("{url}: there are no figures: status {status}")),
        }
    };
    let before = read()?;
    thread::sleep(asked.span.unwrap_or(SPAN));
    let verdict = Verdict::of(&before, &read()?)?;
    print(&verdict);
    let worse: Vec<String> = verdict.worse().map(Row::to_string).collect();
    Ok(match worse.is_empty() {
        true => Ok(()),
        false => Err(format!("the canary is more than 15% worse: {}", worse.join("; "))),
    })
}

/// What is counted of a cohort.
#[derive(Clone, Debug, Default, PartialEq)]
struct Counted {
    ends: f64,
    faults: f64,
    /// Of the buckets of a histogram, by the figure's name: how many values are up to each bound.
    buckets: BTreeMap<String, Vec<(f64, f64)>>,
}

/// The figures of the cohorts, by their labels.
#[derive(Debug, Default)]
struct Figures(BTreeMap<String, Counted>);

impl Figures {
    /// Reads the Prometheus text format, as heartwheel writes it.
    fn read(text: &str) -> Figures {
        let mut figures = Figures::default();
        for line in text.lines() {
            let Some((name, labels, value)) = sample(line) else { continue };
            let label = |name: &str| label(labels, name);
            let Some(cohort) = label("cohort") else { continue };
            let counted = figures.0.entry(cohort.to_owned()).or_default();
            if name == "heartwheel_connections_closed_total" {
                counted.ends += value;
                counted.faults +=
                    label("reason").filter(|own| is_fault(own)).map_or(0.0, |_| value);
            } else if let Some(name) = name.strip_suffix("_bucket") {
                let bound =
                    label("le").map_or(f64::INFINITY, |le| le.parse().unwrap_or(f64::INFINITY));
                counted.buckets.entry(name.to_owned()).or_default().push((bound, value));
            }
        }
        figures
    }
}

/// Takes a line apart: the name, the labels, the value. `None` if it is no sample with labels.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once("} ")?;
    Some((name, labels, value.parse().ok()?))
}

/// Returns the value of a label. In those that are looked for nothing is escaped.
fn label<'l>(labels: &'l str, name: &str) -> Option<&'l str> {
    let mut pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
    pairs.find(|(own, _)| *own == name).map(|(_, value)| value.trim_end_matches('"'))
}

/// Returns whether all ends of this label are faults, of the peer or by a deadline.
fn is_fault(label: &str) -> bool {
    let mut of_label = CloseReason::ALL.into_iter().filter(|reason| reason.label() == label);
    of_label.all(|reason| reason.severity() != Severity::Clean)
}

/// A figure of both cohorts.
struct Row {
    name: &'static str,
    unit: &'static str,
    canary: f64,
    stable: f64,
    /// How many values there are of each.
    counts: (f64, f64),
    /// There are too few values to judge by.
    is_doubtful: bool,
}

/// What the comparison has given.
struct Verdict(Vec<Row>);

impl Verdict {
    /// Compares what was counted between two readings.
    ///
    /// # Errors
    ///
    /// There is nothing to compare.
    fn of(before: &Figures, after: &Figures) -> Result<Verdict, String> {
        let between = |cohort: Cohort| {
            let none = Counted::default();
            let begun = before.0.get(cohort.label()).unwrap_or(&none);
            after.0.get(cohort.label()).map(|ended| ended.since(begun))
        };
        let (Some(canary), Some(stable)) = (between(Cohort::Canary), between(Cohort::Stable))
        else {
            return Err(
                "there are no cohorts: canary.percent is 0, or the server is another".into()
            );
        };
        let mut rows = vec![Row {
            name: "ends by fault",
            unit: "%",
            canary: 100.0 * canary.faults / canary.ends.max(1.0),
            stable: 100.0 * stable.faults / stable.ends.max(1.0),
            counts: (canary.ends, stable.ends),
            is_doubtful: canary.ends.min(stable.ends) < VALUES_MIN
                || (canary.faults < FAULTS_MIN && stable.faults < FAULTS_MIN),
        }];
        for (name, figure, share) in PERCENTILES {
            let of = |counted: &Counted| {
                let buckets = counted.buckets.get(*figure).map_or(&[][..], Vec::as_slice);
                (percentile(buckets, *share) * 1000.0, buckets.last().map_or(0.0, |last| last.1))
            };
            let ((canary, count), (stable, of_stable)) = (of(&canary), of(&stable));
            rows.push(Row {
                name,
                unit: "ms",
                canary,
                stable,
                counts: (count, of_stable),
                // Some values must lie beyond it.
                is_doubtful: count.min(of_stable) * (1.0 - share) < VALUES_MIN / 10.0,
            });
        }
        match rows.iter().all(|row| row.is_doubtful) {
            true => {
                Err("there is too little to compare: it takes more clients, or a longer --for"
                    .into())
            }
            false => Ok(Verdict(rows)),
        }
    }

    fn worse(&self) -> impl Iterator<Item = &Row> {
        self.0.iter().filter(|row| !row.is_doubtful && row.canary > row.stable * WORSE)
    }
}

impl Counted {
    /// Returns what was counted since. A server that was started anew has counted all of it since.
    fn since(&self, before: &Counted) -> Counted {
        if self.ends < before.ends {
            return self.clone();
        }
        let mut since = self.clone();
        since.ends -= before.ends;
        since.faults -= before.faults;
        for (name, buckets) in &mut since.buckets {
            let begun = before.buckets.get(name).map_or(&[][..], Vec::as_slice);
            for ((_, count), (_, before)) in buckets.iter_mut().zip(begun) {
                *count -= before;
            }
        }
        since
    }
}

/// Returns the value below which a share of all values lies: within a bucket they are taken for
/// evenly spread. 0 without values.
fn percentile(buckets: &[(f64, f64)], share: f64) -> f64 {
    let wanted = buckets.last().map_or(0.0, |last| last.1) * share;
    let (mut low, mut below) = (0.0, 0.0);
    for (bound, count) in buckets {
        if *count >= wanted && *count > below {
            let part = (wanted - below) / (count - below);
            // Of values beyond the last bound only that is known.
            return if bound.is_finite() { low + (bound - low) * part } else { low };
        }
        (low, below) = (*bound, *count);
    }
    0.0
}

impl Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row { name, unit, canary, stable, .. } = self;
        write!(f, "{name} {canary:.1} {unit}, of the others {stable:.1} {unit}")
    }
}

impl Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<18}{:>13}{:>13}   of", "", "canary", "others")?;
        for Row { name, unit, canary, stable, counts, is_doubtful } in &self.0 {
            let [canary, stable] = [canary, stable].map(|value| format!("{value:.1} {unit}"));
            let note = if *is_doubtful { ": too few to judge by" } else { "" };
            let (own, others) = counts;
            writeln!(f, "{name:<18}{canary:>13}{stable:>13}   {own} and {others}{note}")?;
        }
        Ok(())
    }
}

/// The percentiles that are compared: the name, the figure, the share below.
const PERCENTILES: &[(&str, &str, f64)] = &[
    ("handshake p50", "heartwheel_handshake_seconds", 0.5),
    ("handshake p99", "heartwheel_handshake_seconds", 0.99),
    ("round trip p50", "heartwheel_ping_rtt_seconds", 0.5),
    ("round trip p99", "heartwheel_ping_rtt_seconds", 0.99),
];

/// How much more of it is worse.
const WORSE: f64 = 1.15;
/// Fewer values are chance.
const VALUES_MIN: f64 = 20.0;
/// Fewer faults are chance.
const FAULTS_MIN: f64 = 5.0;
const SPAN: Duration = Duration::from_secs(60);
const TIMEOUT: Duration = Duration::from_secs(10);
const FIGURES_BYTES_MAX: u64 = 4 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    /// Figures of so many ends, faults, and values of each of three buckets.
    fn figures(canary: (u32, u32, [u32; 3]), stable: (u32, u32, [u32; 3])) -> Figures {
        let mut text = String::from("# HELP x\nheartwheel_turns_total 7\n");
        for (cohort, (clean, faults, buckets)) in [("canary", canary), ("stable", stable)] {
            for (reason, count) in [("peer", clean), ("heartbeat", faults)] {
                text += &format!(
                    "heartwheel_connections_closed_total{{transport=\"websocket\",\
                     reason=\"{reason}\",cohort=\"{cohort}\"}} {count}\n"
                );
            }
            let mut sum = 0;
            for (bound, count) in ["0.1", "0.2", "+Inf"].into_iter().zip(buckets) {
                sum += count;
                text += &format!(
                    "heartwheel_ping_rtt_seconds_bucket{{cohort=\"{cohort}\",\
                     le=\"{bound}\"}} {sum}\n"
                );
            }
        }
        Figures::read(&text)
    }

    fn worse(canary: (u32, u32, [u32; 3]), stable: (u32, u32, [u32; 3])) -> Vec<&'static str> {
        let before = figures((7, 3, [5, 5, 5]), (70, 30, [50, 50, 50]));
        let plus = |(clean, faults, buckets): (u32, u32, [u32; 3]), times: u32| {
            (clean + 7 * times, faults + 3 * times, buckets.map(|count| count + 5 * times))
        };
        let verdict = Verdict::of(&before, &figures(plus(canary, 1), plus(stable, 10))).unwrap();
        verdict.worse().map(|row| row.name).collect()
    }

    #[test]
    fn what_is_more_than_15_percent_worse_is_named() {
        let stable = (900, 100, [900, 90, 10]);
        assert_eq!(worse((90, 10, [90, 9, 1]), stable), [""; 0]);
        assert_eq!(worse((886, 114, [900, 90, 10]), stable), [""; 0]);
        assert_eq!(worse((884, 116, [900, 90, 10]), stable), ["ends by fault"]);
        assert_eq!(worse((900, 100, [300, 700, 0]), stable), ["round trip p50"]);
        let slow = worse((900, 100, [900, 95, 5]), (900, 100, [1000, 0, 0]));
        assert_eq!(slow, ["round trip p99"]);
    }

    #[test]
    fn chance_is_no_verdict() {
        // Four faults more, of few ends.
        assert_eq!(worse((96, 4, [900, 90, 10]), (1000, 0, [900, 90, 10])), [""; 0]);
        // One slow value of ten is no percentile of a hundred.
        assert_eq!(worse((900, 100, [9, 0, 1]), (900, 100, [1000, 0, 0])), [""; 0]);
        let few = (3, 1, [1, 1, 0]);
        let said = Verdict::of(&Figures::default(), &figures(few, few)).err().unwrap();
        assert!(said.contains("too little to compare"), "{said}");
        let said = Verdict::of(&Figures::default(), &Figures::default()).err().unwrap();
        assert!(said.contains("there are no cohorts"), "{said}");
    }

    #[test]
    fn a_percentile_lies_within_its_bucket() {
        let buckets = [(0.1, 0.0), (0.2, 50.0), (0.4, 100.0), (f64::INFINITY, 101.0)];
        assert!((percentile(&buckets, 0.25) - 0.15).abs() < 0.001);
        assert!((percentile(&buckets, 0.75) - 0.303).abs() < 0.001);
        assert_eq!(percentile(&buckets, 1.0), 0.4);
        assert_eq!(percentile(&[], 0.5), 0.0);
    }

    #[test]
    fn a_server_that_was_started_anew_has_counted_all_since() {
        let before = figures((900, 100, [9, 9, 9]), (900, 100, [9, 9, 9]));
        let after = figures((90, 10, [900, 90, 10]), (90, 10, [900, 90, 10]));
        assert!(Verdict::of(&before, &after).unwrap().worse().next().is_none());
    }
}

//! What was measured: one entry for each run, and what follows from several.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use super::common::machine::Machine;
use super::condition::Condition;
use super::errors::Errors;
use super::figure::{FIGURES, Figure};
use super::options::Mode;
use super::stats::Spread;
use super::target::RAWECHO;
use super::window::Spent;

/// Everything that one call of the benchmark measured.
pub struct Record {
    pub machine: Machine,
    /// The server's core and the generator's.
    pub cores: Option<(usize, usize)>,
    /// When it began, in seconds since 1970.
    pub began: u64,
    pub command: String,
    /// Servers by name, with a description.
    pub servers: Vec<(String, String)>,
    /// Of them those that are here only to be compared with.
    pub peers: Vec<String>,
    pub runs: Vec<Run>,
}

/// One server under one load, once.
pub struct Run {
    pub mode: Mode,
    pub load: String,
    pub server: String,
    pub round: usize,
    figures: BTreeMap<&'static str, f64>,
    /// In nanoseconds.
    pub latency: Option<Histogram<u64>>,
    /// How events lie over time, in equal parts, where that is a question.
    pub over_time: Vec<u64>,
    pub errors: Errors,
    /// What a reader must know of this run.
    pub notes: Vec<String>,
}

/// All runs of one server under one load.
pub struct Group<'a> {
    pub mode: Mode,
    pub load: &'a str,
    pub server: &'a str,
    pub runs: Vec<&'a Run>,
}

impl Run {
    pub fn new(mode: Mode, load: impl Into<String>, server: &str, round: usize) -> Run {
        Run {
            mode,
            load: load.into(),
            server: server.to_owned(),
            round,
            figures: BTreeMap::new(),
            latency: None,
            over_time: Vec::new(),
            errors: Errors::default(),
            notes: Vec::new(),
        }
    }

    /// Notes a figure by its name in the list of figures.
    pub fn set(&mut self, name: &'static str, value: f64) {
        debug_assert!(Figure::named(name).is_some(), "{name} is not listed");
        self.figures.insert(name, value);
    }

    pub fn figure(&self, name: &str) -> Option<f64> {
        if name == "errors" {
            return Some(self.errors.total() as f64);
        }
        self.figures.get(name).copied()
    }

    /// Gives all figures in the order of the list.
    pub fn figures(&self) -> impl Iterator<Item = (&'static Figure, f64)> {
        FIGURES.iter().filter_map(|figure| Some((figure, self.figure(figure.name)?)))
    }

    /// Notes percentiles in microseconds.
    pub fn set_latency(&mut self, latency: Histogram<u64>) {
        if !latency.is_empty() {
            let us = |quantile| latency.value_at_quantile(quantile) as f64 / 1000.0;
            self.set("p50", us(0.5));
            self.set("p90", us(0.9));
            self.set("p99", us(0.99));
            self.set("p999", us(0.999));
            self.set("max", latency.max() as f64 / 1000.0);
            self.set("mean", latency.mean() / 1000.0);
        }
        self.latency = Some(latency);
    }

    /// Notes what was used, for `count` messages, deliveries or connections.
    pub fn set_spent(&mut self, spent: &Spent, count: u64) {
        self.set("rate", count as f64 / spent.lasted.as_secs_f64());
        self.set("count", count as f64);
        self.set("generator_cpu", spent.percent(spent.generator));
        self.set_others(spent);
        if let (Some(server), Some(cpu_us)) = (spent.server, spent.cpu_us(count)) {
            self.set("cpu_us", cpu_us);
            self.set("server_cpu", spent.percent(server.cpu));
            self.set("switches", server.voluntary as f64 / count as f64);
            self.set("preempted", server.involuntary as f64 / count as f64);
        }
        if spent.percent(spent.generator) > GENERATOR_PERCENT_MAX {
            self.notes.push(BUSY.to_owned());
        }
    }

    /// Notes what the machine did for others meanwhile.
    pub fn set_others(&mut self, spent: &Spent) {
        self.set("others", 100.0 * spent.others);
        self.set("stolen", 100.0 * spent.stolen);
        if spent.others > OTHERS_MAX {
            self.notes.push(DISTURBED.to_owned());
        }
    }
}

impl Record {
    /// Gives runs of one server under one load together, in the order of their first ones.
    pub fn groups(&self) -> Vec<Group<'_>> {
        let mut groups: Vec<Group> = Vec::new();
        for run in &self.runs {
            let is_its = |group: &&mut Group| (group.mode, group.load, group.server) == key(run);
            match groups.iter_mut().find(is_its) {
                Some(group) => group.runs.push(run),
                None => {
                    let (mode, load, server) = key(run);
                    groups.push(Group { mode, load, server, runs: vec![run] });
                }
            }
        }
        groups
    }

    /// Gives the server that others are compared with: bare bytes if they were measured.
    pub fn baseline(&self) -> Option<&str> {
        let named = |known: &str| self.servers.iter().find(|(name, _)| name == known);
        named(RAWECHO).or_else(|| named(BASELINE)).map(|(name, _)| name.as_str())
    }

    /// Gives the CPU time of a group in multiples of the baseline's in the same round.
    pub fn ratio(&self, group: &Group) -> Option<Spread> {
        let baseline = self.baseline().filter(|name| *name != group.server)?;
        let ratios: Vec<f64> = group
            .runs
            .iter()
            .filter_map(|run| {
                let same = |other: &&Run| {
                    (other.mode, other.load.as_str(), other.server.as_str(), other.round)
                        == (run.mode, run.load.as_str(), baseline, run.round)
                };
                let other = self.runs.iter().find(same)?;
                Some(run.figure("cpu_us")? / other.figure("cpu_us")?)
            })
            .collect();
        Spread::of(&ratios)
    }

    /// Gives what must not be and is. Peers are not judged. A condition that no run has a figure
    /// for is one of them: it was not looked at.
    pub fn failures(&self, conditions: &[Condition]) -> Vec<String> {
        let mut failures = Vec::new();
        let groups = self.groups();
        for condition in conditions {
            let mut is_looked_at = false;
            for group in groups.iter().filter(|group| !self.peers.contains(&group.server.into())) {
                let Some(value) = group.value(condition.figure.name) else { continue };
                is_looked_at = true;
                if condition.is_met(value) {
                    let Group { mode, load, server, .. } = group;
                    let value = condition.figure.text(value);
                    failures.push(format!("{} {load} {server}: {condition}: {value}", mode.name()));
                }
            }
            if !is_looked_at {
                failures.push(format!("{condition}: nothing was measured by this name"));
            }
        }
        failures
    }
}

impl Group<'_> {
    /// Gives a figure over all rounds.
    pub fn spread(&self, name: &str) -> Option<Spread> {
        let values: Vec<f64> = self.runs.iter().filter_map(|run| run.figure(name)).collect();
        Spread::of(&values)
    }

    /// Gives the median of a figure over all rounds; of errors, the sum.
    pub fn value(&self, name: &str) -> Option<f64> {
        match name {
            "errors" => Some(self.runs.iter().map(|run| run.errors.total()).sum::<u64>() as f64),
            name => self.spread(name).map(|spread| spread.median),
        }
    }

    /// Gives the latencies of all rounds together.
    pub fn latency(&self) -> Option<Histogram<u64>> {
        let mut all = self.runs.iter().filter_map(|run| run.latency.as_ref());
        let mut sum = all.next()?.clone();
        all.for_each(|one| sum.add(one).expect("all have the same bounds"));
        Some(sum)
    }

    /// Says whether other programs had more of the machine than they may, in any round.
    pub fn is_disturbed(&self) -> bool {
        self.runs.iter().any(|run| run.notes.iter().any(|note| note == DISTURBED))
    }

    /// Gives the notes of its runs, each once.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        for run in &self.runs {
            let first = run.errors.first.as_ref().map(|first| format!("first error: {first}"));
            for note in run.notes.iter().cloned().chain(first) {
                if !notes.contains(&note) {
                    notes.push(note);
                }
            }
        }
        notes
    }
}

fn key(run: &Run) -> (Mode, &str, &str) {
    (run.mode, &run.load, &run.server)
}

/// The peer that echoes bare bytes: what the kernel costs by itself.
pub const BASELINE: &str = "raw";
const BUSY: &str =
    "the generator had no time left: the server may do more a second; its CPU for each holds";
const DISTURBED: &str = "disturbed: more than a tenth of the cores went to other programs";
const GENERATOR_PERCENT_MAX: f64 = 95.0;
const OTHERS_MAX: f64 = 0.1;

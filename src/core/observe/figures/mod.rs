//! Every figure that a server reports, declared once. `/metrics`, the topic `$stats` and the
//! operator's page come from [`FIGURES`], as the configuration comes from the table of keys.
//!
//! To add a figure: count it in [`Stats`], and add a row here. `BLESS=1 cargo test --test operator
//! figures` then writes it into the operator's page, where the last column is written by hand.

mod table;

use std::time::Duration;

use crate::core::ground::cohort::Cohort;
use crate::core::ground::decimal::Decimal;
use crate::core::ground::json::Object;
use crate::core::observe::metrics::{Exposition, Family, Unit};
use crate::core::observe::stats::{Crowd, Histogram, Stats};
use crate::core::observe::versions::Versions;

pub use table::FIGURES;

/// A figure: one family of samples.
#[derive(Debug)]
pub struct Figure {
    /// The name in `/metrics`.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// How the figure is read.
    pub read: Read,
    /// The member of `$stats` that has the figure, if there is one.
    pub member: Option<Member>,
}

/// How a figure is read, and the type of its samples.
#[derive(Clone, Copy, Debug)]
pub enum Read {
    /// A number that only grows.
    Counter(fn(&Snapshot) -> u64),
    /// Numbers that only grow, one for each value of the labels. Labels from the first
    /// empty value on are left out.
    Counters(&'static [&'static str], Samples),
    /// A number that goes up and down.
    Gauge(fn(&Snapshot) -> u64),
    /// Numbers that go up and down, one for each value of the labels.
    Gauges(&'static [&'static str], Samples),
    /// Counts of values by size, written in seconds.
    Histogram(Unit, fn(&Stats) -> &Histogram),
    /// The same, and the part of the canary in it, in milliseconds. Where there are cohorts, each
    /// is written apart.
    Cohorts(fn(&Stats) -> &Histogram, fn(&Stats) -> &Histogram),
    /// A number of the process that only grows, if the kernel reports it.
    ProcessCounter(fn(&Process) -> Option<Decimal>),
    /// A number of the process, if the kernel reports it.
    ProcessGauge(fn(&Process) -> Option<Decimal>),
}

/// Calls the closure for each sample: the values of the labels, and the number.
pub type Samples = fn(&Snapshot, &mut dyn FnMut(&[&str], u64));

/// A member of the JSON object of a `$stats` event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Member {
    /// The sum of all samples; for a histogram an object with `mean` and `max` in its own unit, or
    /// `null` before the first value. A dot in the name makes an object of the members that share
    /// the part before the dot; they are neighbours in the table.
    Number(&'static str),
    /// An object with a member for each value of one label; samples that differ in other labels
    /// are summed.
    By(&'static str, &'static str),
}

/// The source of the figures: the state of a server at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Snapshot<'a> {
    /// The counters.
    pub stats: &'a Stats,
    /// Which clients of `/ws` have said who they are.
    pub versions: &'a Versions,
    /// Whether there are cohorts.
    pub has_cohorts: bool,
    /// The connections.
    pub connections: Crowd,
    /// The most connections that may be open.
    pub connections_limit: u64,
    /// Bytes that wait for peers.
    pub outbox_bytes: u64,
    /// Entries on the timing wheel.
    pub deadlines_armed: u64,
    /// Jobs that wait for a worker in the engine.
    pub jobs_waiting: u64,
    /// Handler calls that were requested and have not returned.
    pub jobs_out: u64,
    /// Topics.
    pub topics: u64,
    /// Subscriptions of all connections.
    pub subscriptions: u64,
    /// Members of topics that tell of them.
    #[cfg(feature = "presence")]
    pub presence_members: u64,
    /// Events published.
    pub events_published: u64,
    /// Memory in use, by kind.
    pub memory: [(&'static str, u64); 5],
    /// The most memory that may be in use.
    pub memory_limit: u64,
    /// How it stands with the service of `admission.request`, if there is one.
    #[cfg(feature = "client")]
    pub service: Option<crate::core::observe::service::ServiceState>,
    /// What is counted of sessions, if a route has them.
    #[cfg(feature = "sessions")]
    pub sessions: Option<crate::core::observe::sessions::SessionFigures>,
    /// What bridges read.
    #[cfg(feature = "bridge")]
    pub topics_read: &'a crate::core::topics::Topics,
    /// What the loop around the engine knows.
    pub around: &'a Surroundings,
}

/// What the loop around the engine knows and the engine does not.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Jobs that were handed to the workers and that no worker has begun.
    pub jobs_queued: usize,
    /// Bytes of commands on their way to the loop.
    pub command_bytes: usize,
    /// Log lines that the host's logger has dropped.
    pub log_lines_dropped: u64,
    /// The process as a whole.
    pub process: Process,
    /// What is counted of TLS, where it is spoken.
    #[cfg(feature = "tls")]
    pub tls: Option<Box<crate::core::observe::tls::TlsFigures>>,
    /// What is counted of the store of durable topics, if there is one.
    #[cfg(feature = "store")]
    pub store: Option<Box<crate::core::observe::store::StoreFigures>>,
    /// What is counted of the cluster, if there is one.
    #[cfg(feature = "cluster")]
    pub cluster: Option<Box<crate::core::observe::cluster::ClusterFigures>>,
    /// What is counted of each bridge.
    #[cfg(feature = "bridge")]
    pub bridges: Vec<crate::core::observe::bridges::BridgeFigures>,
}

/// What the kernel reports of the process. A figure that it does not report is `None`.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// CPU time of all threads.
    pub cpu: Duration,
    /// Descriptors in use.
    pub open_descriptors: Option<u64>,
    /// How many descriptors there may be.
    pub descriptors_max: Option<u64>,
    /// Address space, in bytes.
    pub virtual_bytes: Option<u64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<u64>,
    /// When the process was started, from 1970 on.
    pub started_at: Option<Duration>,
}

impl Snapshot<'_> {
    /// Returns all figures in the Prometheus text format.
    pub fn exposition(&self) -> String {
        let mut out = Exposition::default();
        for figure in FIGURES {
            figure.write(self, &mut out);
        }
        #[cfg(feature = "client")]
        if let Some(service) = &self.service {
            service.write(&self.stats.service, &mut out);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.around.tls {
            tls.write(&mut out);
        }
        #[cfg(feature = "store")]
        if let Some(store) = &self.around.store {
            store.write(&mut out);
        }
        #[cfg(feature = "cluster")]
        if let Some(cluster) = &self.around.cluster {
            cluster.write(&mut out);
        }
        #[cfg(feature = "sessions")]
        if let Some(sessions) = &self.sessions {
            sessions.write(&mut out);
        }
        #[cfg(feature = "bridge")]
        if !self.around.bridges.is_empty() {
            crate::core::observe::bridges::write(&self.around.bridges, self.topics_read, &mut out);
        }
        out.end()
    }

    /// Adds the figures of `$stats` to its object.
    pub fn members(&self, object: Object) -> Object {
        let mut object = object;
        let mut group: Option<(&str, Object)> = None;
        for figure in FIGURES {
            let Some(member) = figure.member else { continue };
            let name = member.name();
            let (prefix, name) = name.split_once('.').unwrap_or(("", name));
            if let Some((before, inner)) = group.take_if(|(before, _)| *before != prefix) {
                object = object.raw(before, &inner.end());
            }
            let value = figure.member_value(self, member);
            if prefix.is_empty() {
                object = object.raw(name, &value);
            } else {
                let (_, inner) = group.take().unwrap_or((prefix, Object::new()));
                group = Some((prefix, inner.raw(name, &value)));
            }
        }
        let object = match group {
            Some((prefix, inner)) => object.raw(prefix, &inner.end()),
            None => object,
        };
        #[cfg(feature = "cluster")]
        let object = match &self.around.cluster {
            Some(cluster) => object.raw("cluster", &cluster.object()),
            None => object,
        };
        #[cfg(feature = "bridge")]
        let object = match self.around.bridges.is_empty() {
            true => object,
            false => {
                let bridges = &self.around.bridges;
                object.raw(
                    "bridges",
                    &crate::core::observe::bridges::object(bridges, self.topics_read),
                )
            }
        };
        object
    }
}

impl Figure {
    /// Returns the names of the samples' labels.
    pub fn labels(&self) -> &'static [&'static str] {
        match self.read {
            Read::Counters(labels, _) | Read::Gauges(labels, _) => labels,
            _ => &[],
        }
    }

    fn write(&self, snapshot: &Snapshot, out: &mut Exposition) {
        let Figure { name, help, .. } = *self;
        match self.read {
            Read::Counter(read) => out.counter(name, help).value(read(snapshot)),
            Read::Gauge(read) => out.gauge(name, help).value(read(snapshot)),
            Read::Counters(labels, read) => {
                write_samples(&mut out.counter(name, help), labels, read, snapshot);
            }
            Read::Gauges(labels, read) => {
                write_samples(&mut out.gauge(name, help), labels, read, snapshot);
            }
            Read::Histogram(unit, read) => out.histogram(name, help, read(snapshot.stats), unit),
            Read::Cohorts(read, canary) if snapshot.has_cohorts => {
                let (all, canary) = (read(snapshot.stats), canary(snapshot.stats));
                let cohorts = [
                    (Cohort::Canary.label(), canary),
                    (Cohort::Stable.label(), &all.without(canary)),
                ];
                out.histograms_by(name, help, "cohort", cohorts);
            }
            Read::Cohorts(read, _) => {
                out.histogram(name, help, read(snapshot.stats), Unit::Milliseconds);
            }
            Read::ProcessCounter(read) => {
                if let Some(value) = read(&snapshot.around.process) {
                    out.counter(name, help).value(value);
                }
            }
            Read::ProcessGauge(read) => {
                if let Some(value) = read(&snapshot.around.process) {
                    out.gauge(name, help).value(value);
                }
            }
        }
    }

    fn member_value(&self, snapshot: &Snapshot, member: Member) -> String {
        match (self.read, member) {
            (Read::Counter(read) | Read::Gauge(read), _) => read(snapshot).to_string(),
            (Read::Counters(labels, read) | Read::Gauges(labels, read), Member::By(_, label)) => {
                sums_by(label, labels, read, snapshot)
            }
            (Read::Counters(_, read) | Read::Gauges(_, read), Member::Number(_)) => {
                let mut sum = 0;
                read(snapshot, &mut |_, count| sum += count);
                sum.to_string()
            }
            (Read::Histogram(_, read) | Read::Cohorts(read, _), _) => {
                mean_and_max(read(snapshot.stats))
            }
            (Read::ProcessCounter(read) | Read::ProcessGauge(read), _) => {
                let value = read(&snapshot.around.process);
                value.map_or("null".to_owned(), |value| value.to_string())
            }
        }
    }
}

impl Member {
    /// Returns the name.
    pub const fn name(self) -> &'static str {
        match self {
            Member::Number(name) | Member::By(name, _) => name,
        }
    }
}

fn write_samples(
    family: &mut Family<'_>,
    labels: &'static [&'static str],
    read: Samples,
    snapshot: &Snapshot,
) {
    read(snapshot, &mut |values, count| {
        debug_assert_eq!(labels.len(), values.len());
        let mut pairs = [("", ""); LABELS_MAX];
        let pairs = &mut pairs[..labels.len()];
        for (pair, (label, value)) in pairs.iter_mut().zip(labels.iter().zip(values)) {
            *pair = (label, value);
        }
        let given = pairs.iter().take_while(|(_, value)| !value.is_empty()).count();
        family.labelled(&pairs[..given], count);
    });
}

fn sums_by(label: &str, labels: &[&str], read: Samples, snapshot: &Snapshot) -> String {
    let place = labels.iter().position(|own| *own == label).unwrap_or(0);
    let mut sums: Vec<(String, u64)> = Vec::new();
    read(snapshot, &mut |values, count| match sums
        .iter_mut()
        .find(|(value, _)| value == values[place])
    {
        Some((_, sum)) => *sum += count,
        None => sums.push((values[place].to_owned(), count)),
    });
    sums.iter().fold(Object::new(), |object, (name, sum)| object.number(name, *sum)).end()
}

/// Returns `null` if nothing was measured: a mean of 0 would be a figure.
fn mean_and_max(histogram: &Histogram) -> String {
    match histogram.sum().checked_div(histogram.count()) {
        Some(mean) => Object::new().number("mean", mean).number("max", histogram.max()).end(),
        None => "null".to_owned(),
    }
}

fn each<'a>(pairs: impl IntoIterator<Item = (&'a str, u64)>, found: &mut dyn FnMut(&[&str], u64)) {
    for (value, count) in pairs {
        found(&[value], count);
    }
}

const LABELS_MAX: usize = 3;

const fn figure(name: &'static str, help: &'static str, read: Read) -> Figure {
    Figure { name, help, read, member: None }
}

const fn told(figure: Figure, member: Member) -> Figure {
    Figure { member: Some(member), ..figure }
}

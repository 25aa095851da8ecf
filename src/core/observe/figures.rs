//! Every figure that a server reports, declared once. `/metrics`, the topic `$stats` and the
//! operator's page come from [`FIGURES`], as the configuration comes from the table of keys.
//!
//! To add a figure: count it in [`Stats`], and add a row here. `BLESS=1 cargo test --test operator
//! figures` then writes it into the operator's page, where the last column is written by hand.

use std::time::Duration;

use crate::core::config::OverflowPolicy;
use crate::core::ground::decimal::Decimal;
use crate::core::ground::json::Object;
use crate::core::ground::reason::CloseReason;
use crate::core::observe::metrics::{Exposition, Family, Unit};
use crate::core::observe::stats::{DeadlineKind, Histogram, PhaseName, Stats, Transport};
use crate::core::wire::ws::Violation;

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
    /// Numbers that only grow, one for each value of the labels.
    Counters(&'static [&'static str], Samples),
    /// A number that goes up and down.
    Gauge(fn(&Snapshot) -> u64),
    /// Numbers that go up and down, one for each value of the labels.
    Gauges(&'static [&'static str], Samples),
    /// Counts of values by size, written in seconds.
    Histogram(Unit, fn(&Stats) -> &Histogram),
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
    /// Connections, by [`Transport`] and [`PhaseName`].
    pub connections: [[u64; PhaseName::COUNT]; Transport::COUNT],
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
    /// Events published.
    pub events_published: u64,
    /// Memory in use, by kind.
    pub memory: [(&'static str, u64); 5],
    /// The most memory that may be in use.
    pub memory_limit: u64,
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

/// All figures, in the order in which they are written.
pub const FIGURES: &[Figure] = &[
    told(
        figure(
            "heartwheel_connections",
            "Open connections.",
            Read::Gauges(&["transport", "phase"], |s, found| {
                for transport in Transport::ALL {
                    for phase in PhaseName::ALL {
                        let count = s.connections[transport as usize][phase as usize];
                        found(&[transport.label(), phase.label()], count);
                    }
                }
            }),
        ),
        Member::By("connections", "transport"),
    ),
    figure(
        "heartwheel_connections_limit",
        "The most that may be open through public listeners: `limits.connections`, as it fits the \
         descriptors.",
        Read::Gauge(|s| s.connections_limit),
    ),
    told(
        figure(
            "heartwheel_connections_accepted_total",
            "Connections that got a slot. Always those open and those closed.",
            Read::Counter(|s| s.stats.accepted),
        ),
        Member::Number("accepted"),
    ),
    figure(
        "heartwheel_connections_rejected_total",
        "Refusals. `connections`, `per_ip` and `memory` got no slot and count here alone.",
        Read::Counters(&["reason"], |s, found| each(s.stats.rejected(), found)),
    ),
    told(
        figure(
            "heartwheel_connections_closed_total",
            "Ends of connections, by the first fault.",
            Read::Counters(&["transport", "reason"], |s, found| {
                for transport in Transport::ALL {
                    for reason in CloseReason::ALL {
                        let count = s.stats.closed[transport as usize][reason.index()];
                        found(&[transport.label(), reason.label()], count);
                    }
                }
            }),
        ),
        Member::By("closed", "reason"),
    ),
    figure(
        "heartwheel_handshake_seconds",
        "Accept, or first byte of a later request, to the 101 or the stream's head.",
        Read::Histogram(Unit::Milliseconds, |stats| &stats.handshake),
    ),
    figure(
        "heartwheel_http_answers_total",
        "Answers to requests, refusals included, by the class of their status.",
        Read::Counters(&["class"], |s, found| {
            each(["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(s.stats.answers), found);
        }),
    ),
    figure(
        "heartwheel_accept_errors_total",
        "Times that accept failed and the loop went on.",
        Read::Counter(|s| s.stats.accept_errors),
    ),
    figure(
        "heartwheel_accept_pauses_total",
        "Times that accepting paused because descriptors or memory had run out.",
        Read::Counter(|s| s.stats.accept_pauses),
    ),
    told(
        figure(
            "heartwheel_messages_received_total",
            "Messages received; over `http` what was published by POST.",
            Read::Counters(&["transport"], |s, found| {
                found(&["websocket"], s.stats.messages_received);
                found(&["http"], s.stats.messages_posted);
            }),
        ),
        Member::Number("messages_received"),
    ),
    told(
        figure(
            "heartwheel_messages_sent_total",
            "Messages and events queued for peers.",
            Read::Counters(&["transport"], |s, found| {
                found(&["websocket"], s.stats.messages_sent - s.stats.messages_streamed);
                found(&["events"], s.stats.messages_streamed);
            }),
        ),
        Member::Number("messages_sent"),
    ),
    told(
        figure(
            "heartwheel_received_bytes_total",
            "Bytes received from the kernel.",
            Read::Counter(|s| s.stats.received_bytes),
        ),
        Member::Number("received_bytes"),
    ),
    told(
        figure(
            "heartwheel_sent_bytes_total",
            "Bytes handed to the kernel.",
            Read::Counter(|s| s.stats.sent_bytes),
        ),
        Member::Number("sent_bytes"),
    ),
    figure(
        "heartwheel_messages_dropped_total",
        "Messages lost, either way, by the policy that let them go. `close`: an end cut them off; \
         the others: they gave way in a full outbox, and a gap was told.",
        Read::Counters(&["policy"], |s, found| {
            let dropped = OverflowPolicy::ALL;
            each(dropped.map(|policy| (policy.label(), s.stats.dropped_by(policy))), found);
        }),
    ),
    figure(
        "heartwheel_rate_pauses_total",
        "Times that a rate held something up: a read, a send, or accepting.",
        Read::Counters(&["what"], |s, found| {
            found(&["read"], s.stats.read_pauses);
            found(&["send"], s.stats.send_pauses);
            found(&["handshakes"], s.stats.handshake_pauses);
        }),
    ),
    told(
        figure(
            "heartwheel_outbox_bytes",
            "Bytes waiting for peers; a shared frame counts for each peer that waits for it.",
            Read::Gauge(|s| s.outbox_bytes),
        ),
        Member::Number("outbox_bytes"),
    ),
    figure(
        "heartwheel_protocol_errors_total",
        "Breaches of RFC 6455, by what was wrong; `http`: requests that cannot be read.",
        Read::Counters(&["kind"], |s, found| {
            each(
                Violation::ALL.map(|kind| (kind.kind(), s.stats.violations[kind as usize])),
                found,
            );
            found(&["http"], s.stats.bad_requests);
        }),
    ),
    figure(
        "heartwheel_deadlines_armed",
        "Entries on the timing wheel: one for each connection.",
        Read::Gauge(|s| s.deadlines_armed),
    ),
    told(
        figure(
            "heartwheel_deadlines_fired_total",
            "Deadlines that acted; `ping`, `pong` and `comment` are routine.",
            Read::Counters(&["kind"], |s, found| {
                each(DeadlineKind::ALL.map(|kind| (kind.label(), s.stats.fired(kind))), found);
            }),
        ),
        Member::By("deadlines_fired", "kind"),
    ),
    figure(
        "heartwheel_deadline_lateness_seconds",
        "How late deadlines acted: a tick and the turn in progress.",
        Read::Histogram(Unit::Milliseconds, |stats| &stats.deadline_lateness),
    ),
    told(
        figure(
            "heartwheel_pings_sent_total",
            "Pings queued.",
            Read::Counter(|s| s.stats.pings_sent),
        ),
        Member::Number("pings_sent"),
    ),
    told(
        figure(
            "heartwheel_pings_missed_total",
            "Pings that no byte answered within `heartbeat.pong`.",
            Read::Counter(|s| s.stats.pings_missed),
        ),
        Member::Number("pings_missed"),
    ),
    told(
        figure(
            "heartwheel_ping_rtt_seconds",
            "Round trips of pings.",
            Read::Histogram(Unit::Milliseconds, |stats| &stats.ping_rtt),
        ),
        Member::Number("ping_rtt_ms"),
    ),
    figure(
        "heartwheel_suspects_total",
        "Connections that missed two pings in a row.",
        Read::Counter(|s| s.stats.suspects),
    ),
    figure(
        "heartwheel_time_jumps_total",
        "Times that the process could not run for so long that all peers were pinged anew.",
        Read::Counter(|s| s.stats.time_jumps),
    ),
    figure(
        "heartwheel_watch_alarms_total",
        "Alarms of the early warning (`watch.*`).",
        Read::Counter(|s| s.stats.watch_alarms),
    ),
    told(
        figure(
            "heartwheel_turn_seconds",
            "How long turns of the loop took, the wait left out.",
            Read::Histogram(Unit::Microseconds, |stats| &stats.turn_us),
        ),
        Member::Number("turn_us"),
    ),
    figure(
        "heartwheel_worker_queue",
        "Jobs that wait for a worker.",
        Read::Gauge(|s| s.jobs_waiting + s.around.jobs_queued as u64),
    ),
    told(
        figure(
            "heartwheel_jobs",
            "Handler calls asked for that have not come back.",
            Read::Gauge(|s| s.jobs_out),
        ),
        Member::Number("workers.queue"),
    ),
    told(
        figure(
            "heartwheel_handlers_stuck",
            "Handler calls that run longer than `deadlines.handler` now.",
            Read::Gauge(|s| s.stats.handlers_stuck),
        ),
        Member::Number("workers.stuck"),
    ),
    figure(
        "heartwheel_handler_seconds",
        "How long handler calls took. Calls on the loop for one connection in one turn are timed \
         together, and each counts as their mean.",
        Read::Histogram(Unit::Microseconds, |stats| &stats.handler_us),
    ),
    figure(
        "heartwheel_handler_panics_total",
        "Handler calls that panicked: the connection got 1011.",
        Read::Counter(|s| s.stats.handler_panics),
    ),
    figure(
        "heartwheel_commands_stale_total",
        "Commands for connections that were gone.",
        Read::Counter(|s| s.stats.commands_stale),
    ),
    figure(
        "heartwheel_log_lines_dropped_total",
        "Log lines dropped because nobody took them.",
        Read::Counter(|s| s.around.log_lines_dropped),
    ),
    told(
        figure("heartwheel_topics", "Topics.", Read::Gauge(|s| s.topics)),
        Member::Number("topics"),
    ),
    figure(
        "heartwheel_subscriptions",
        "Subscriptions of all connections.",
        Read::Gauge(|s| s.subscriptions),
    ),
    told(
        figure(
            "heartwheel_events_published_total",
            "Events published.",
            Read::Counter(|s| s.events_published),
        ),
        Member::Number("events_published"),
    ),
    figure(
        "heartwheel_publishes_refused_total",
        "Events and subscriptions of handlers that were refused: a bad name, or a topic too many.",
        Read::Counter(|s| s.stats.publishes_refused),
    ),
    figure(
        "heartwheel_publishes_unavailable_total",
        "Publications that the log refused, or did not answer in time, or was too busy for.",
        Read::Counter(|s| s.stats.publishes_unavailable),
    ),
    figure(
        "heartwheel_resumes_total",
        "Subscriptions that began at a position; `gap`: something was missing after it.",
        Read::Counters(&["result"], |s, found| {
            found(&["complete"], s.stats.resumes_complete);
            found(&["gap"], s.stats.resumes_gap);
        }),
    ),
    figure(
        "heartwheel_gaps_total",
        "Gaps told to subscribers, or counted where there is no word for them.",
        Read::Counter(|s| s.stats.gaps),
    ),
    figure(
        "heartwheel_memory_bytes",
        "Memory in use for what waits.",
        Read::Gauges(&["kind"], |s, found| each(s.memory, found)),
    ),
    figure(
        "heartwheel_memory_limit_bytes",
        "How much of it there may be: `limits.memory_bytes`.",
        Read::Gauge(|s| s.memory_limit),
    ),
    figure(
        "heartwheel_build_info",
        "Which version this is.",
        Read::Gauges(&["version"], |_, found| found(&[env!("CARGO_PKG_VERSION")], 1)),
    ),
    figure(
        "process_cpu_seconds_total",
        "CPU time of all threads.",
        Read::ProcessCounter(|process| Some(Decimal::seconds(process.cpu))),
    ),
    figure(
        "process_open_fds",
        "Descriptors in use.",
        Read::ProcessGauge(|process| process.open_descriptors.map(Decimal::from)),
    ),
    figure(
        "process_max_fds",
        "How many descriptors there may be.",
        Read::ProcessGauge(|process| process.descriptors_max.map(Decimal::from)),
    ),
    figure(
        "process_virtual_memory_bytes",
        "Address space.",
        Read::ProcessGauge(|process| process.virtual_bytes.map(Decimal::from)),
    ),
    figure(
        "process_resident_memory_bytes",
        "Memory in use.",
        Read::ProcessGauge(|process| process.resident_bytes.map(Decimal::from)),
    ),
    figure(
        "process_start_time_seconds",
        "When the process was started, in seconds since 1970.",
        Read::ProcessGauge(|process| process.started_at.map(Decimal::seconds)),
    ),
];

impl Snapshot<'_> {
    /// Returns all figures in the Prometheus text format.
    pub fn exposition(&self) -> String {
        let mut out = Exposition::default();
        for figure in FIGURES {
            figure.write(self, &mut out);
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.around.tls {
            tls.write(&mut out);
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
        match group {
            Some((prefix, inner)) => object.raw(prefix, &inner.end()),
            None => object,
        }
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
            (Read::Histogram(_, read), _) => mean_and_max(read(snapshot.stats)),
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
        family.labelled(pairs, count);
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

const LABELS_MAX: usize = 2;

const fn figure(name: &'static str, help: &'static str, read: Read) -> Figure {
    Figure { name, help, read, member: None }
}

const fn told(figure: Figure, member: Member) -> Figure {
    Figure { member: Some(member), ..figure }
}

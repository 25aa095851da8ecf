//! The server's figures as Prometheus reads them. What each means, and what to do about it, stands
//! in the operator's page, [`operating`](crate::operating).

use crate::config::OverflowPolicy;
use crate::engine::Engine;
use crate::engine::census::{Census, PhaseName};
use crate::metrics::{Exposition, Unit};
use crate::reason::CloseReason;
use crate::stats::{DeadlineKind, Transport};
use crate::ws::Violation;

/// What the loop around the engine knows and the engine does not.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    /// Jobs handed to the workers that none of them has begun.
    pub jobs_queued: usize,
    /// Bytes of commands on their way to the loop.
    pub command_bytes: usize,
    /// Log lines that the host's logger has dropped.
    pub log_lines_dropped: u64,
    /// The process as a whole.
    pub process: Process,
}

/// What the kernel tells of the process. What it does not tell is left out.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// CPU time of all threads, in seconds.
    pub cpu_seconds: f64,
    /// Descriptors in use.
    pub open_descriptors: Option<u64>,
    /// How many there may be.
    pub descriptors_max: Option<u64>,
    /// Address space.
    pub virtual_bytes: Option<u64>,
    /// Memory in use.
    pub resident_bytes: Option<u64>,
    /// When it was started, in seconds since 1970.
    pub started_at_seconds: Option<f64>,
}

impl Engine {
    /// Gives all figures in the Prometheus text format. Takes time by the number of connections,
    /// some nanoseconds for each.
    pub fn metrics(&self, around: &Surroundings) -> String {
        let census = self.census();
        let mut out = Exposition::default();
        self.write_connections(&mut out, &census);
        self.write_traffic(&mut out, &census);
        self.write_deadlines(&mut out);
        self.write_loop(&mut out, around);
        self.write_topics(&mut out);
        self.write_memory(&mut out, &census, around);
        write_process(&mut out, &around.process);
        out.end()
    }

    fn write_connections(&self, out: &mut Exposition, census: &Census) {
        let stats = &self.stats;
        let mut family = out.gauge("heartwheel_connections", "Open connections.");
        for transport in Transport::ALL {
            for stage in PhaseName::ALL {
                let labels = [("transport", transport.label()), ("phase", stage.label())];
                let count = census.connections[transport as usize][stage as usize];
                family.labelled(&labels, count);
            }
        }
        let help = "The most that may be open through public listeners.";
        out.gauge("heartwheel_connections_limit", help).value(self.config().limits.connections);
        let help = "Connections that got a slot.";
        out.counter("heartwheel_connections_accepted_total", help).value(stats.accepted);
        let help = "Refusals; those without a slot count here alone.";
        out.counter("heartwheel_connections_rejected_total", help).by("reason", stats.rejected());
        let help = "Ends of connections.";
        let mut family = out.counter("heartwheel_connections_closed_total", help);
        for transport in Transport::ALL {
            for reason in CloseReason::ALL {
                let labels = [("transport", transport.label()), ("reason", reason.label())];
                family.labelled(&labels, stats.closed[transport as usize][reason.index()]);
            }
        }
        let help = "Accept, or first byte of a later request, to the 101 or the stream's head.";
        let name = "heartwheel_handshake_seconds";
        out.histogram(name, help, &stats.handshake, Unit::Milliseconds);
        let help = "Answers to requests, by the class of their status.";
        let classes = ["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(stats.answers);
        out.counter("heartwheel_http_answers_total", help).by("class", classes);
        let help = "Times that accept failed and the loop went on.";
        out.counter("heartwheel_accept_errors_total", help).value(stats.accept_errors);
        let help = "Times that accepting paused because descriptors or memory had run out.";
        out.counter("heartwheel_accept_pauses_total", help).value(stats.accept_pauses);
    }

    fn write_traffic(&self, out: &mut Exposition, census: &Census) {
        let stats = &self.stats;
        let help = "Messages received; over http what was published by POST.";
        let received = [("websocket", stats.messages_received), ("http", stats.messages_posted)];
        out.counter("heartwheel_messages_received_total", help).by("transport", received);
        let help = "Messages and events queued for peers.";
        let sent = [
            ("websocket", stats.messages_sent - stats.messages_streamed),
            ("events", stats.messages_streamed),
        ];
        out.counter("heartwheel_messages_sent_total", help).by("transport", sent);
        let help = "Bytes received.";
        out.counter("heartwheel_received_bytes_total", help).value(stats.received_bytes);
        let help = "Bytes handed to the kernel.";
        out.counter("heartwheel_sent_bytes_total", help).value(stats.sent_bytes);
        let help = "Messages lost, either way, by the policy that let them go; close: by an end.";
        let dropped = OverflowPolicy::ALL.map(|policy| (policy.label(), stats.dropped_by(policy)));
        out.counter("heartwheel_messages_dropped_total", help).by("policy", dropped);
        let help = "Times that a rate held something up: reads, sends or accepts.";
        let pauses = [
            ("read", stats.read_pauses),
            ("send", stats.send_pauses),
            ("handshakes", stats.handshake_pauses),
        ];
        out.counter("heartwheel_rate_pauses_total", help).by("what", pauses);
        let help = "Bytes waiting for peers; a frame counts for each peer it waits for.";
        out.gauge("heartwheel_outbox_bytes", help).value(census.outbox_bytes);
        let help = "Breaches of protocol, by what was wrong; http: requests that cannot be read.";
        let kinds = Violation::ALL.map(|kind| (kind.kind(), stats.violations[kind as usize]));
        let kinds = kinds.into_iter().chain([("http", stats.bad_requests)]);
        out.counter("heartwheel_protocol_errors_total", help).by("kind", kinds);
    }

    fn write_deadlines(&self, out: &mut Exposition) {
        let stats = &self.stats;
        let help = "Entries on the timing wheel: one for each connection.";
        out.gauge("heartwheel_deadlines_armed", help).value(self.deadlines_armed());
        let help = "Deadlines that acted.";
        let fired = DeadlineKind::ALL.map(|kind| (kind.label(), stats.fired(kind)));
        out.counter("heartwheel_deadlines_fired_total", help).by("kind", fired);
        let help = "How late deadlines acted.";
        let name = "heartwheel_deadline_lateness_seconds";
        out.histogram(name, help, &stats.deadline_lateness, Unit::Milliseconds);
        out.counter("heartwheel_pings_sent_total", "Pings queued.").value(stats.pings_sent);
        let help = "Pings that no byte answered in time.";
        out.counter("heartwheel_pings_missed_total", help).value(stats.pings_missed);
        let help = "Round trips of pings.";
        let name = "heartwheel_ping_rtt_seconds";
        out.histogram(name, help, &stats.ping_rtt, Unit::Milliseconds);
        let help = "Connections that missed two pings in a row.";
        out.counter("heartwheel_suspects_total", help).value(stats.suspects);
        let help = "Times that the process could not run for so long that peers were asked anew.";
        out.counter("heartwheel_time_jumps_total", help).value(stats.time_jumps);
        let help = "Alarms of the early warning (watch.*).";
        out.counter("heartwheel_watch_alarms_total", help).value(stats.watch_alarms);
    }

    fn write_loop(&self, out: &mut Exposition, around: &Surroundings) {
        let stats = &self.stats;
        let help = "How long turns of the loop took, the wait left out.";
        out.histogram("heartwheel_turn_seconds", help, &stats.turn_us, Unit::Microseconds);
        let help = "Jobs that wait for a worker.";
        let waiting = self.jobs.waiting() + around.jobs_queued;
        out.gauge("heartwheel_worker_queue", help).value(waiting);
        let help = "How long handler calls took.";
        out.histogram("heartwheel_handler_seconds", help, &stats.handler_us, Unit::Microseconds);
        let help = "Handler calls that run longer than deadlines.handler now.";
        out.gauge("heartwheel_handlers_stuck", help).value(stats.handlers_stuck);
        let help = "Handler calls that panicked.";
        out.counter("heartwheel_handler_panics_total", help).value(stats.handler_panics);
        let help = "Commands for connections that were gone.";
        out.counter("heartwheel_commands_stale_total", help).value(stats.commands_stale);
        let help = "Log lines dropped because nobody took them.";
        let name = "heartwheel_log_lines_dropped_total";
        out.counter(name, help).value(around.log_lines_dropped);
    }

    fn write_topics(&self, out: &mut Exposition) {
        let stats = &self.stats;
        out.gauge("heartwheel_topics", "Topics.").value(self.topics.len());
        let help = "Subscriptions of all connections.";
        out.gauge("heartwheel_subscriptions", help).value(self.topics.subscriptions());
        let help = "Events published.";
        let published = self.topics.events_published();
        out.counter("heartwheel_events_published_total", help).value(published);
        let help = "Events and subscriptions of handlers that were refused.";
        let name = "heartwheel_publishes_refused_total";
        out.counter(name, help).value(stats.publishes_refused);
        let help = "Subscriptions that began at a position; gap: something was missing after it.";
        let results = [("complete", stats.resumes_complete), ("gap", stats.resumes_gap)];
        out.counter("heartwheel_resumes_total", help).by("result", results);
        let help = "Gaps told to subscribers, or counted where there is no word for them.";
        out.counter("heartwheel_gaps_total", help).value(stats.gaps);
    }

    fn write_memory(&self, out: &mut Exposition, census: &Census, around: &Surroundings) {
        let help = "Memory in use for what waits.";
        let kinds = [
            ("partial", census.partial_bytes),
            ("inbox", census.inbox_bytes),
            ("outbox", census.queued_bytes),
            ("log", (self.topics.bytes() + self.topics.waiting_only_bytes()) as u64),
            ("command", around.command_bytes as u64),
        ];
        out.gauge("heartwheel_memory_bytes", help).by("kind", kinds);
        let help = "How much of it there may be: limits.memory_bytes.";
        out.gauge("heartwheel_memory_limit_bytes", help).value(self.budget.limit());
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauge("heartwheel_build_info", "Which version this is.").labelled(&version, 1);
    }
}

fn write_process(out: &mut Exposition, process: &Process) {
    let help = "CPU time of all threads.";
    out.counter("process_cpu_seconds_total", help).value(process.cpu_seconds);
    for (name, help, value) in [
        ("process_open_fds", "Descriptors in use.", process.open_descriptors),
        ("process_max_fds", "How many descriptors there may be.", process.descriptors_max),
        ("process_virtual_memory_bytes", "Address space.", process.virtual_bytes),
        ("process_resident_memory_bytes", "Memory in use.", process.resident_bytes),
    ] {
        if let Some(value) = value {
            out.gauge(name, help).value(value);
        }
    }
    if let Some(at) = process.started_at_seconds {
        let help = "When the process was started, in seconds since 1970.";
        out.gauge("process_start_time_seconds", help).value(at);
    }
}

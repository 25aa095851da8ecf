//! The table of all figures: one row for each family of samples.

use super::{Figure, Member, Read, each, figure, told};
use crate::core::config::OverflowPolicy;
use crate::core::ground::cohort::Cohort;
use crate::core::ground::decimal::Decimal;
use crate::core::ground::reason::CloseReason;
use crate::core::observe::metrics::Unit;
use crate::core::observe::stats::{DeadlineKind, Ends, HookVerdict, PhaseName, Transport};
use crate::core::wire::ws::Violation;

/// All figures, in the order in which they are written.
pub const FIGURES: &[Figure] = &[
    told(
        figure(
            "heartwheel_connections",
            "Open connections.",
            Read::Gauges(&["transport", "phase", "subprotocol"], |s, found| {
                for transport in Transport::ALL {
                    for phase in PhaseName::ALL {
                        let counts = &s.connections[transport as usize][phase as usize];
                        for spoken in transport.subprotocols() {
                            let labels = [transport.label(), phase.label(), spoken.label()];
                            found(&labels, counts[*spoken as usize]);
                        }
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
            Read::Counters(&["transport", "reason", "cohort"], |s, found| {
                for transport in Transport::ALL {
                    for reason in CloseReason::ALL {
                        let ends = |closed: &Ends| closed[transport as usize][reason.index()];
                        let (all, canary) = (ends(&s.stats.closed), ends(&s.stats.canary.closed));
                        let mut found = |cohort, count| {
                            found(&[transport.label(), reason.label(), cohort], count)
                        };
                        if s.has_cohorts {
                            found(Cohort::Canary.label(), canary);
                            found(Cohort::Stable.label(), all - canary);
                        } else {
                            found("", all);
                        }
                    }
                }
            }),
        ),
        Member::By("closed", "reason"),
    ),
    #[cfg(any(feature = "jwt", feature = "client"))]
    figure(
        "heartwheel_token_renewals_total",
        "Tokens that clients of `/ws` handed in before theirs expired.",
        Read::Counters(&["result"], |s, found| {
            found(&["renewed"], s.stats.tokens_renewed);
            found(&["refused"], s.stats.tokens_refused);
        }),
    ),
    figure(
        "heartwheel_handshake_seconds",
        "Accept, or first byte of a later request, to the 101 or the stream's head.",
        Read::Cohorts(|stats| &stats.handshake, |stats| &stats.canary.handshake),
    ),
    figure(
        "heartwheel_http_answers_total",
        "Answers to requests, refusals included, by the class of their status.",
        Read::Counters(&["class"], |s, found| {
            each(["1xx", "2xx", "3xx", "4xx", "5xx"].into_iter().zip(s.stats.answers), found);
        }),
    ),
    figure(
        "heartwheel_uploads_total",
        "Bodies that handlers began to take in pieces, and those cut off by an end.",
        Read::Counters(&["what"], |s, found| {
            found(&["begun"], s.stats.uploads);
            found(&["cut"], s.stats.uploads_cut);
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
    #[cfg(feature = "deflate")]
    figure(
        "heartwheel_compressions_total",
        "Messages that were compressed; one that many peers get is so once or twice.",
        Read::Counter(|s| s.stats.compressions),
    ),
    #[cfg(feature = "deflate")]
    figure(
        "heartwheel_compressed_bytes_total",
        "Bytes of compressed messages: `wire` as they travel, `plain` as they are without.",
        Read::Counters(&["direction", "form"], |s, found| {
            found(&["sent", "plain"], s.stats.deflated_plain_bytes);
            found(&["sent", "wire"], s.stats.deflated_bytes);
            found(&["received", "plain"], s.stats.inflated_plain_bytes);
            found(&["received", "wire"], s.stats.inflated_bytes);
        }),
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
        "heartwheel_messages_undecodable_total",
        "Messages that a codec of the application refused, and those behind them.",
        Read::Counter(|s| s.stats.messages_undecodable),
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
            Read::Cohorts(|stats| &stats.ping_rtt, |stats| &stats.canary.ping_rtt),
        ),
        Member::Number("ping_rtt_ms"),
    ),
    figure(
        "heartwheel_suspects_total",
        "Connections that missed two pings in a row.",
        Read::Counter(|s| s.stats.suspects),
    ),
    figure(
        "heartwheel_timers_total",
        "Timers, by what became of them: `set`; then `due` or `cancelled`; or `refused` instead.",
        Read::Counters(&["event"], |s, found| each(s.stats.timers(), found)),
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
    #[cfg(feature = "presence")]
    told(
        figure(
            "heartwheel_presence_members",
            "Members of topics that tell who is on them (`topics.presence`).",
            Read::Gauge(|s| s.presence_members),
        ),
        Member::Number("presence_members"),
    ),
    #[cfg(feature = "presence")]
    figure(
        "heartwheel_presence_changes_total",
        "Persons who have come to a topic for good, or gone: a connection that comes back within a \
         second is neither.",
        Read::Counters(&["what"], |s, found| {
            found(&["joined"], s.stats.presence_joins);
            found(&["left"], s.stats.presence_leaves);
        }),
    ),
    #[cfg(feature = "presence")]
    figure(
        "heartwheel_presence_refused_total",
        "Questions for the members of topics that `topics.presence` does not name.",
        Read::Counter(|s| s.stats.presence_refused),
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
        "heartwheel_publish_hooks_total",
        "Verdicts of hooks on what clients publish; `late`: its POST had been answered before.",
        Read::Counters(&["verdict"], |s, found| {
            let mut told = |verdict: HookVerdict| {
                found(&[verdict.label()], s.stats.hook_verdicts[verdict as usize]);
            };
            HookVerdict::ALL.into_iter().for_each(&mut told);
        }),
    ),
    figure(
        "heartwheel_publishes_unavailable_total",
        "Publications that the log refused, or did not answer in time, or was too busy for.",
        Read::Counter(|s| s.stats.publishes_unavailable),
    ),
    figure(
        "heartwheel_publishes_repeated_total",
        "Publications that clients of `/ws` sent again, and that were not published again.",
        Read::Counter(|s| s.stats.publishes_repeated),
    ),
    figure(
        "heartwheel_traces_ignored_total",
        "Trace contexts, of `traceparent` and of `/ws`, that are not valid.",
        Read::Counter(|s| s.stats.traces_ignored),
    ),
    figure(
        "heartwheel_hub_hellos_total",
        "Clients of `/ws` that said who they are, by their version: the first 16, and all `other`.",
        Read::Counters(&["version"], |s, found| s.versions.each(found)),
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

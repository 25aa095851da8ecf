//! What is seen on one connection from outside, held against CONTRACT: what is written, when, and
//! how it ends.

use std::time::Duration;

use heartwheel::config::{Heartbeat, RateAction};
use heartwheel::{ConnectionId, Message};

use crate::common::cbor;
use crate::journal;
use crate::link::Link;
use crate::peer::{Kind, Peer};
use crate::sealed::Sealing;
use crate::topical::Form;
use crate::witness::Said;
use crate::world::{Step, World};

impl World {
    /// Looks at what the server has just written to a peer.
    pub fn watch(&mut self, index: usize, link: &mut Link) {
        let bytes = std::mem::take(&mut link.written);
        let peer = &mut self.peers[index];
        let id = peer.id.expect("it was accepted");
        for said in peer.witness.take(&bytes) {
            self.note(Step::Said { peer: index, what: said.gist() });
            match said {
                Said::Answer { status: 100, .. } => {}
                Said::Answer { status, gap, body } => self.watch_answer(index, status, gap, &body),
                Said::Message(message) => self.watch_message(index, id, message),
                Said::Block(lines) => {
                    let is_event = self.note_block(index, &lines);
                    self.frames_written += u64::from(is_event);
                }
                Said::Ping(_) => self.watch_ping(index, link),
                Said::Pong(payload) => assert!(
                    [&b"early"[..], b"flood", b"a", b"b"].contains(&&payload[..]),
                    "a pong bears the payload of a ping"
                ),
                Said::Close { code, text } => {
                    if code == 1001 {
                        assert!(text.starts_with("retry="), "who goes away says when to come back");
                    }
                    let now = self.now;
                    self.ledger.end(index);
                    let seen = &mut self.peers[index].seen;
                    seen.close_at = Some(now);
                    seen.silent_ms_at_close = now - link.last_read_at;
                    seen.unread_at_close = link.inbound.len();
                    seen.ping_age_at_close = seen.ping_at.map_or(0, |at| now - at);
                    // Bytes may be read while a close that was decided on waits for room.
                    let is_unheard = seen.read_at_ping == link.read_bytes || waited(link);
                    seen.pings_at_close = if is_unheard { seen.pings } else { 0 };
                }
            }
        }
    }

    fn watch_message(&mut self, index: usize, id: ConnectionId, message: Message) {
        // An event of a topic that some handler has subscribed it to, or the server's own figures.
        let begins = |mark: &[u8]| message.as_bytes().starts_with(mark);
        let is_event = begins(b"event ") || begins(b"{\"at_ms\":");
        let is_cbor = self.peers[index].is_cbor();
        let counts = match (self.peers[index].form(), message.as_text()) {
            (Form::Hub, text) if is_cbor => {
                assert_eq!(text, None, "it speaks CBOR");
                self.note_message(index, &cbor::to_json(message.as_bytes()))
            }
            (Form::Plain | Form::Hub, Some(text)) => self.note_message(index, text),
            _ if is_event => true,
            _ => {
                let record = self.application.record(id);
                assert_eq!(record.issued.pop_front(), Some(message), "in order, none missing");
                true
            }
        };
        self.frames_written += u64::from(counts);
    }

    fn watch_answer(&mut self, index: usize, status: u16, gap: Option<String>, body: &[u8]) {
        let now = self.now;
        let peer = &mut self.peers[index];
        peer.seen.status = status;
        match status {
            101 => {
                peer.seen.upgraded_at = now;
                self.note_plain(index, gap);
            }
            200 if peer.witness.streams => peer.seen.upgraded_at = now,
            200 => {
                let nth = peer.witness.answers - 1;
                let Kind::Scripted(scripted) = &peer.kind else { panic!("nobody asked") };
                match scripted.script.answers.get(nth) {
                    Some(expected) => assert_eq!(body, expected.as_bytes(), "answers in order"),
                    None => self.note_answer(index, nth, body),
                }
            }
            204 => {}
            _ => peer.seen.refused_at = Some(now),
        }
    }

    /// A ping is not sent before its time.
    fn watch_ping(&mut self, index: usize, link: &Link) {
        let now = self.now;
        // One that was queued before time jumped may be followed by another at once.
        let stall = self.plan.config.deadlines.write_stall.as_millis() as u64;
        let jump_is_over_at = self.jumped_at.map_or(0, |at| at + stall);
        let heartbeat = &self.plan.config.heartbeat;
        let interval = heartbeat.interval.expect("heartbeats are on");
        let interval = if heartbeat.adaptive { heartbeat.min } else { interval };
        let interval = interval.as_millis() as u64;
        let drawn = (interval as f64 * (1.0 - heartbeat.jitter)) as u64;
        let least = if interval > 5000 { drawn.saturating_sub(1000) } else { drawn };
        let pong = shortest_pong_wait(heartbeat).as_millis() as u64;
        let seen = &mut self.peers[index].seen;
        let heard = seen.read_at_ping != link.read_bytes;
        // One that waited for room may go at any time.
        let waited = waited(link);
        match seen.ping_at.filter(|at| *at > jump_is_over_at) {
            Some(_) if heard && !waited => {
                let silent = now - link.last_read_at;
                assert!(silent >= least, "a ping after {silent} ms of silence");
            }
            Some(ping_at) if !heard && !seen.ping_waited => {
                let waited = now - ping_at;
                assert!(waited >= least.min(pong), "another ping after {waited} ms");
            }
            _ => {}
        }
        seen.pings = if heard { 1 } else { seen.pings + 1 };
        seen.ping_at = Some(now);
        seen.ping_waited = waited;
        seen.read_at_ping = link.read_bytes;
    }

    /// Judges how a connection ended.
    pub fn end(&mut self, index: usize, link: &Link, line: &str, aborts: bool) {
        let label = journal::value(line, "reason").to_owned();
        let now = self.now;
        let peer = &mut self.peers[index];
        let id = peer.id.expect("it was accepted");
        let name = peer.name();
        assert_eq!(journal::value(line, "id"), id.to_string(), "ends are told in order");
        assert_eq!(journal::value(line, "bytes_in"), link.read_bytes.to_string());
        assert_eq!(journal::value(line, "bytes_out"), link.written_bytes.to_string());
        assert!(peer.seen.ended.is_none(), "one end");
        peer.seen.ended = Some((now, label.clone(), aborts));
        self.ledger.end(index);
        let peer = &mut self.peers[index];
        let code: u16 = journal::value(line, "code").parse().expect("a number");
        peer.seen.code = code;
        let upgraded = peer.witness.upgraded;
        let close = peer.witness.close;
        let context = format!("{name} {line}, wrote {close:?}, aborted {aborts}");
        if let Some(close) = close {
            self.judge_code(index, &label, close, code, &context);
        }
        let is_servers = ["application", "lifetime", "drain", "shed", "kicked"].contains(&&*label);
        if is_servers && upgraded {
            let told = close.unwrap_or(1006);
            assert_eq!(code, told, "the code is the one exchanged: {context}");
        }
        if has_code(&label) && upgraded && !aborts && !link.has_failed() {
            assert!(close.is_some(), "a close frame tells why: {context}");
        }
        if !link.was_reset {
            assert!(self.allows(index, &label), "an end without cause: {context}");
        }
        if !link.has_failed() {
            self.judge_moment(index, link, &label, aborts, &context);
        }
    }

    /// The close code is the one that CONTRACT 5 gives the cause.
    fn judge_code(&mut self, index: usize, label: &str, close: u16, code: u16, context: &str) {
        let id = self.peers[index].id.expect("it was accepted");
        let by_application = self.application.record(id).closed_with;
        let expected: &[u16] = match label {
            "peer" => &[if code == 1005 { 1000 } else { code }],
            "application" => &[by_application.expect("it closed")],
            "protocol" => &[1002],
            "utf8" => &[1007],
            "too_big" => &[1009],
            "fragments" | "rate" | "forbidden" | "kicked" => &[1008],
            "read_idle" | "heartbeat" | "message" => &[3008],
            "overflow" | "memory" => &[1013],
            "panic" => &[1011],
            "lifetime" | "drain" => &[1001],
            "shed" => &[1012],
            "close_ack" => &[1000, 1001, 1008, 1012, 4001, 4321, 3999],
            _ => &[],
        };
        assert!(expected.contains(&close), "the wrong code: {context}");
    }

    /// Says whether a connection may end under a label, by all that happened to it.
    fn allows(&mut self, index: usize, label: &str) -> bool {
        let id = self.peers[index].id.expect("it was accepted");
        let record = self.application.record(id);
        let (closed, panicked) = (record.closed_with.is_some(), record.panicked);
        let (pushes, refused) = (record.has_pushes, record.refused);
        let peer = &self.peers[index];
        let draining = self.drain_at.is_some();
        let has_lifetime = self.plan.config.deadlines.lifetime.is_some();
        let chaos = &self.plan.chaos;
        let may_be_slow = chaos.blocked_write + chaos.short_write > 0;
        // Its answer to a close waits behind all that it sent before.
        let is_read_slowly = chaos.short_read + chaos.late_bytes > 0;
        // A transport that has to write first does not hear a peer that takes nothing.
        let is_unheard = peer.sealing.as_ref().is_some_and(Sealing::has_waited);
        let is_read_slowly = is_read_slowly || is_unheard;
        let may_end_as = |label: &str| match &peer.kind {
            Kind::Honest(honest) => honest.closes() && label == "peer",
            Kind::Scripted(scripted) => scripted.script.labels.contains(&label),
        };
        let own = may_end_as(label);
        let is_honest = matches!(peer.kind, Kind::Honest(_));
        let is_seen_late = chaos.late_bytes + chaos.delayed_readiness > 0;
        let was_dropped = peer.seen.ended.as_ref().is_some_and(|(_, _, aborts)| *aborts);
        let has_budget = self.plan.config.limits.memory_bytes.is_some();
        let is_old = self.now - peer.accepted_at >= self.oldest_ms();
        let told_to_go = self.told_to_go;
        let is_plain = !peer.witness.upgraded && !peer.witness.streams;
        let (stays, closes) = match &peer.kind {
            Kind::Scripted(scripted) => (scripted.script.stays, scripted.closes),
            Kind::Honest(_) => (false, false),
        };
        let is_turned_away = peer.form() != Form::None && peer.seen.refused_at.is_some();
        let is_clean = closed || draining || told_to_go || has_lifetime || own_peer(peer);
        // What was closing already keeps the cause that it had.
        let drain_ms = self.plan.config.deadlines.drain.as_millis() as u64;
        let is_drain_over = self.drain_at.is_some_and(|at| self.now >= at + drain_ms);
        let cut_short = self.shut_down_at == Some(self.now) || is_drain_over;
        own || cut_short
            || match label {
                "application" => closed,
                "panic" => panicked,
                "memory" => has_budget,
                // Dropped for its memory while it closes: the cause stays the peer's.
                "peer" => has_budget && may_end_as("close_ack"),
                // What waited was older than it may be: more is published than its link takes.
                "write_stall" => !is_honest && is_old && (may_be_slow || peer.form() != Form::None),
                // What a plain answer was yet to tell may be evicted before the peer takes it.
                "overflow" => pushes || is_plain && was_dropped,
                "rate" => self.plan.rate_action() == Some(RateAction::Close),
                "drain" => draining,
                "shed" | "kicked" => told_to_go,
                "shutdown" => self.shut_down_at.is_some(),
                "lifetime" => has_lifetime,
                "done" => draining || panicked || refused || is_turned_away,
                "keep_alive" => is_turned_away,
                "message" => is_read_slowly || is_seen_late,
                // It waits for `100 Continue`.
                "body" => {
                    let is_slow = is_read_slowly || is_seen_late || may_be_slow;
                    is_slow && peer.seen.status == 408
                }
                // It has nothing to say, or waits for answers, and is not asked, or the question
                // waits behind a frame.
                "read_idle" => {
                    let is_asked = self.plan.config.heartbeat.interval.is_some();
                    let waits = stays || is_honest && chaos.slow_worker > 0;
                    waits && (!is_asked || may_be_slow && stays)
                }
                "eof" if closes => true,
                // An answer that came too late; it may not have left when memory was short. Or a
                // head that was seen too late.
                "handshake" => {
                    peer.seen.status == 503
                        || (peer.seen.status == 408 && is_seen_late)
                        || (peer.witness.answers == 0 && !peer.reads())
                        || (has_budget && was_dropped)
                }
                "close_send" => is_clean && (!is_honest || may_be_slow),
                "close_ack" => is_clean && (!is_honest || is_read_slowly),
                // Scripts end as they can when something else has ended them first.
                "eof" => {
                    !is_honest
                        && (draining
                            || told_to_go
                            || refused
                            || panicked
                            || peer.seen.status == 503)
                }
                _ => false,
            }
    }

    /// No deadline acts before its time.
    fn judge_moment(
        &mut self,
        index: usize,
        link: &Link,
        label: &str,
        aborts: bool,
        context: &str,
    ) {
        let config = &self.plan.config;
        let ms = |span: std::time::Duration| span.as_millis() as u64;
        let deadlines = &config.deadlines;
        let Peer { seen, accepted_at, .. } = &self.peers[index];
        if !aborts
            && matches!(label, "drain" | "shed" | "kicked")
            && let Some(chunks) = &self.peers[index].witness.chunks
        {
            assert!(chunks.is_over(), "a stream ends with its last chunk: {context}");
        }
        let decided_at = seen.refused_at.or(link.finish_at).unwrap_or(self.now);
        let upgraded_for = seen.close_at.unwrap_or(self.now).saturating_sub(seen.upgraded_at);
        let last_write_ago = self.now - link.last_written_at;
        let (took, least) = match label {
            "handshake" => (decided_at - accepted_at, ms(deadlines.handshake)),
            "body" => (decided_at - accepted_at, ms(deadlines.body)),
            "keep_alive" => {
                let shut_at = link.finish_at.expect("it was answered");
                (shut_at - link.last_written_at, ms(deadlines.keep_alive))
            }
            "read_idle" if seen.close_at.is_some() => {
                (seen.silent_ms_at_close, ms(deadlines.read_idle.expect("it is on")))
            }
            "heartbeat" if seen.close_at.is_some() => {
                let most = config.heartbeat.max_missed;
                assert!(seen.pings_at_close >= most, "too few pings: {context}");
                // Some may come while a close that was decided on waits for room.
                let unread = seen.unread_at_close.min(seen.unread_when_judged);
                assert_eq!(unread, 0, "judged with bytes unread: {context}");
                (seen.ping_age_at_close, ms(shortest_pong_wait(&config.heartbeat)))
            }
            "message" => (upgraded_for, ms(deadlines.message)),
            "lifetime" => {
                let lifetime = ms(deadlines.lifetime.expect("it is on")) as f64;
                (self.now - accepted_at, (lifetime * (1.0 - config.heartbeat.jitter)) as u64)
            }
            // An older one may have had something wait for as long as it may.
            "write_stall" if self.now - accepted_at < self.oldest_ms() => {
                (last_write_ago, ms(deadlines.write_stall))
            }
            "close_ack" => {
                let since = link.finish_at.or(seen.close_at).expect("it was closing");
                (self.now - since, ms(deadlines.close_ack))
            }
            "drain"
                if aborts
                    && seen.close_at.is_none()
                    && self.shut_down_at.is_none()
                    && config.limits.memory_bytes.is_none() =>
            {
                (self.now - self.drain_at.expect("it drains"), ms(deadlines.drain))
            }
            _ => return,
        };
        assert!(took >= least, "after {took} ms, not {least}: {context}");
    }
}

/// Says whether what leaves now may have waited for room.
fn waited(link: &Link) -> bool {
    link.blocked_since.is_some() || link.unblocked_at + EDGE_MS_MAX >= link.last_read_at
}

/// How long after its cause an edge is seen, as good as ever.
const EDGE_MS_MAX: u64 = 2000;

/// Adapted to the round trip it is a second at the least.
pub fn shortest_pong_wait(heartbeat: &Heartbeat) -> Duration {
    match heartbeat.adaptive {
        true => heartbeat.pong.min(Duration::from_secs(1)),
        false => heartbeat.pong,
    }
}

fn own_peer(peer: &Peer) -> bool {
    match &peer.kind {
        Kind::Honest(honest) => honest.closes(),
        Kind::Scripted(scripted) => {
            scripted.script.labels.iter().any(|label| ["peer", "close_ack"].contains(label))
        }
    }
}

fn has_code(label: &str) -> bool {
    matches!(
        label,
        "peer"
            | "application"
            | "protocol"
            | "utf8"
            | "too_big"
            | "fragments"
            | "rate"
            | "read_idle"
            | "heartbeat"
            | "message"
            | "overflow"
            | "panic"
            | "lifetime"
            | "drain"
            | "shed"
            | "kicked"
    )
}

//! An open connection of a client, and its end.

use crate::core::client::dialler::Means;
use crate::core::client::rules::Rules;
use crate::core::client::why::Why;
use crate::core::connection::heartbeat::{Due, Heartbeat};
use crate::core::ground::bucket::Bucket;
use crate::core::ground::time::{Instant, Moment, SPAN_MAX, SomeMoment, sooner};
use crate::core::wire::ws::{Decoder, Incoming, Limits, Role, Violation};

/// An open WebSocket, on the client's side.
#[derive(Debug)]
pub(super) struct Link {
    pub decoder: Decoder,
    pub heartbeat: Heartbeat,
    pub pings: Bucket,
    pub heard_at: Moment,
    pub opened_at: Moment,
    /// It has held: this was told.
    pub is_stable: bool,
    /// The server has greeted, or need not.
    pub is_greeted: bool,
    /// Since when nothing is read, because the application takes nothing.
    paused_at: Option<SomeMoment>,
    /// What was agreed on of compressed messages; `None`: there are none.
    #[cfg(feature = "deflate")]
    pub compression: Option<Box<super::compression::Compression>>,
}

/// What is due on an open connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LinkDue {
    /// It has held.
    Stable,
    /// The server has not greeted in time.
    Greeting,
    /// A ping.
    Ping,
    /// The end of the wait for a pong.
    Pong,
    /// The end of all silence.
    ReadIdle,
    /// A message has taken too long.
    Message,
}

impl Link {
    pub fn new(now: Instant, heartbeat: Heartbeat, is_greeted: bool) -> Link {
        Link {
            decoder: Decoder::default(),
            heartbeat,
            pings: Bucket::default(),
            heard_at: now.into(),
            opened_at: now.into(),
            is_stable: false,
            is_greeted,
            paused_at: None,
            #[cfg(feature = "deflate")]
            compression: None,
        }
    }

    /// Decodes what stands at the front of a server's bytes.
    pub fn decode(
        &mut self,
        means: &mut Means<'_>,
        input: &mut [u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Incoming>), Violation> {
        let Link { decoder, .. } = self;
        #[cfg(feature = "deflate")]
        if let Some(compression) = &mut self.compression {
            let Means { memory, coders, .. } = means;
            let history = Some(&mut compression.history);
            return decoder.decode_compressed(Role::Client, input, limits, memory, coders, history);
        }
        decoder.decode_into(Role::Client, input, limits, means.memory)
    }

    /// Begins or ends a pause of reading. What is judged by what comes goes on where it stood.
    pub fn set_paused(&mut self, now: Instant, is_paused: bool) {
        match self.paused_at {
            None if is_paused => self.paused_at = Some(now.into()),
            Some(at) if !is_paused => {
                self.paused_at = None;
                self.heard_at = now.into();
                self.heartbeat.resume(at.near(now), now);
                if self.decoder.begun_at().is_some() {
                    self.decoder.set_begun_at(now.into());
                }
            }
            _ => {}
        }
    }

    /// Returns what is due next, and when; `None` if heartbeats and deadlines are off, and the
    /// connection has held.
    pub fn due(&self, rules: &Rules, now: Instant) -> Option<(Instant, LinkDue)> {
        let heard_at = self.heard_at.near(now);
        let stable_at = self.opened_at.near(now) + rules.stable;
        let is_paused = self.paused_at.is_some();
        let ping = match self.heartbeat.due(&rules.rhythm, heard_at, is_paused, now) {
            Due::Ping(at) => Some((at, LinkDue::Ping)),
            Due::Pong(at) => Some((at, LinkDue::Pong)),
            Due::Nothing => None,
        };
        let begun_at = self.decoder.begun_at().filter(|_| !is_paused).map(|at| at.near(now));
        let read_idle = rules.read_idle.filter(|_| !is_paused);
        let greeting_at = after(self.opened_at.near(now), rules.upgrade);
        let all = [
            (!self.is_stable).then_some((stable_at, LinkDue::Stable)),
            (!self.is_greeted && !is_paused).then_some((greeting_at, LinkDue::Greeting)),
            ping,
            read_idle.map(|span| (after(heard_at, span), LinkDue::ReadIdle)),
            begun_at.map(|at| (after(at, rules.message), LinkDue::Message)),
        ];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }
}

/// A connection that ends in good order.
#[derive(Debug)]
pub(super) struct Closing {
    pub why: Why,
    /// Reads on for the server's close frame, as long as frames can be told apart.
    pub decoder: Option<Decoder>,
    pub stage: Stage,
    /// The connection had held before.
    pub has_held: bool,
}

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Our close frame is on its way. Bounded by `close_send`.
    Sending,
    /// The server's close frame is awaited. Bounded by `close_ack`.
    Awaiting,
    /// Both have been sent. The server ends TCP first (RFC 6455, 7.1.1). Bounded by `close_ack`.
    Ending,
}

impl Closing {
    /// Looks for the server's close frame.
    pub fn receive(&mut self, input: &mut [u8]) -> bool {
        let Some(decoder) = &mut self.decoder else { return false };
        let mut rest = input;
        while !rest.is_empty() {
            match decoder.discard(Role::Client, rest) {
                Ok((_, Some(_))) => {
                    self.decoder = None;
                    return true;
                }
                Ok((used, None)) => rest = &mut rest[used..],
                Err(_) => {
                    self.decoder = None;
                    return false;
                }
            }
        }
        false
    }
}

/// Returns the first moment at which `span` has surely passed since `at`.
pub(super) fn after(at: Instant, span: std::time::Duration) -> Instant {
    at + span + Instant::RESOLUTION
}

/// Returns the earlier of a deadline and that of bytes which the server does not take.
pub(super) fn with_stall(
    at: Option<Instant>,
    waiting: Option<(Moment, Moment)>,
    rules: &Rules,
    now: Instant,
) -> Option<Instant> {
    let stalls_at = waiting.map(|(progress_at, oldest_at)| {
        let stalls_at = after(progress_at.near(now), rules.write_stall);
        // Two moments further apart than that cannot be compared.
        let oldest_for = rules.write_stall.saturating_mul(3).min(SPAN_MAX);
        stalls_at.min(after(oldest_at.near(now), oldest_for))
    });
    sooner(at, stalls_at)
}

//! What a client follows, drawn from the configuration.

use std::time::Duration;

use super::backoff::Backoff;
use super::breaker;
use crate::core::config::Config;
use crate::core::connection::heartbeat::Rhythm;
use crate::core::wire::http::HeadLimits;
use crate::core::wire::ws::Limits;

/// The spans and limits of a client.
#[derive(Clone, Debug)]
pub struct Rules {
    /// For the name to be looked up.
    pub resolve: Duration,
    /// For one of its addresses to be connected to, and for the proxy's answer.
    pub connect: Duration,
    /// For the TLS handshake.
    pub secure: Duration,
    /// For the answer to the upgrade.
    pub upgrade: Duration,
    /// The waits between tries.
    pub backoff: Backoff,
    /// From then on a connection counts as one that held.
    pub stable: Duration,
    /// When the breaker opens.
    pub breaker: breaker::Rules,
    /// When to ping.
    pub rhythm: Rhythm,
    /// Silence that ends a connection.
    pub read_idle: Option<Duration>,
    /// From the first byte of a message to its last.
    pub message: Duration,
    /// Bytes wait and none is taken.
    pub write_stall: Duration,
    /// From the beginning of an end to the close frame's last byte.
    pub close_send: Duration,
    /// From then to the server's close frame, and again to its FIN.
    pub close_ack: Duration,
    /// Of an answer's head.
    pub head: HeadLimits,
    /// Of messages.
    pub frames: Limits,
    /// Pings that are answered.
    pub pings_per_second: u64,
    /// Bytes that may wait to be sent.
    pub outbox_bytes: usize,
    /// Whether messages are compressed, and how.
    #[cfg(feature = "deflate")]
    pub compression: super::Compressing,
}

impl From<&Config> for Rules {
    fn from(config: &Config) -> Rules {
        let Config { client, deadlines, limits, .. } = config;
        Rules {
            resolve: client.resolve,
            connect: client.connect,
            secure: client.secure,
            upgrade: client.upgrade,
            backoff: Backoff { delay: client.delay, delay_max: client.delay_max },
            stable: client.stable,
            breaker: breaker::Rules { window: client.window, broken_for: client.broken_for },
            rhythm: Rhythm::from(config),
            read_idle: deadlines.read_idle,
            message: deadlines.message,
            write_stall: deadlines.write_stall,
            close_send: deadlines.close_send,
            close_ack: deadlines.close_ack,
            head: HeadLimits { head_bytes: limits.head_bytes, headers: limits.headers },
            frames: Limits { message_bytes: limits.message_bytes, fragments: limits.fragments },
            pings_per_second: limits.pings_per_second.into(),
            outbox_bytes: limits.outbox_bytes,
            #[cfg(feature = "deflate")]
            compression: config.into(),
        }
    }
}

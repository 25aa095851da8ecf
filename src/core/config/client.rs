//! The times of a client that let both ends agree when a connection is dead, and when to reconnect.

use std::time::Duration;

use super::Config;

/// The times that a client must use, from [`Config::client_advice`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ClientAdvice {
    /// Nothing received for this long on a WebSocket: the server is gone. `None`: the server sends
    /// no pings, so its silence means nothing.
    pub read_timeout: Option<Duration>,
    /// Nothing received for this long on an event stream: the server is gone.
    pub events_read_timeout: Duration,
    /// The client must itself send something at least this often. `None`: answers to the server's
    /// pings are enough.
    pub send_every: Option<Duration>,
    /// A client that was cut off reconnects after a random time up to this; a client that was told
    /// `retry=MS`, after MS milliseconds.
    pub reconnect_within: Duration,
}

impl Config {
    /// Derives the times of a client from the heartbeat and the drain.
    pub fn client_advice(&self) -> ClientAdvice {
        let beat = &self.heartbeat;
        let patience = beat.pong.saturating_mul(beat.max_missed);
        // The server pings a silent peer, so a client that sends nothing hears from the server at
        // least once in an interval. It waits as long as the server would: a full interval and
        // every pong.
        let longest = beat.interval.map(|fixed| match (beat.adaptive, self.deadlines.read_idle) {
            (false, _) => fixed,
            (true, None) => beat.max,
            (true, Some(idle)) => beat.max.min(idle.saturating_sub(patience)).max(fixed),
        });
        ClientAdvice {
            read_timeout: longest.map(|interval| interval.saturating_add(patience)),
            // In a slow network two comments may be late or lost before the third is missed.
            events_read_timeout: beat.comment.saturating_mul(3),
            send_every: match beat.interval {
                Some(_) => None,
                None => self.deadlines.read_idle.map(|idle| idle / 2),
            },
            reconnect_within: self.deadlines.drain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_client_waits_as_long_as_the_server() {
        let config = Config::default();
        let expected = ClientAdvice {
            read_timeout: Some(seconds(60)),
            events_read_timeout: seconds(45),
            send_every: None,
            reconnect_within: seconds(30),
        };
        assert_eq!(config.client_advice(), expected);
    }

    #[test]
    fn a_client_of_an_adaptive_server_waits_for_the_longest_interval() {
        let mut config = Config::default();
        config.heartbeat.adaptive = true;
        for (read_idle, timeout) in
            [(Some(60), 60), (Some(100), 100), (Some(900), 330), (None, 330)]
        {
            config.deadlines.read_idle = read_idle.map(seconds);
            assert_eq!(config.client_advice().read_timeout, Some(seconds(timeout)));
        }
    }

    #[test]
    fn without_pings_the_client_must_speak_up() {
        let mut config = Config::default();
        config.heartbeat.interval = None;
        let advice = config.client_advice();
        assert_eq!(advice.read_timeout, None);
        assert_eq!(advice.send_every, Some(seconds(30)));
    }
}

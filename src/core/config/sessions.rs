//! What [`Config`](super::Config) says of sessions that outlast connections.

use std::time::Duration;

use super::Config;
use super::units::show_duration;

/// How long sessions are kept, and how often they are saved: the same in every store.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Sessions {
    /// How often an open session is saved if it has changed, and its claim is renewed. Default
    /// 10 s. A claim that is not renewed for three times as long has lapsed.
    pub save: Duration,
    /// How long a session is kept after it was saved or renewed last. Default 30 min, at least
    /// three times `save`.
    pub ttl: Duration,
    /// The longest session, frozen, in bytes. Default 64 KiB.
    pub bytes: usize,
}

impl Default for Sessions {
    fn default() -> Sessions {
        Sessions {
            save: Duration::from_secs(10),
            ttl: Duration::from_secs(30 * 60),
            bytes: 64 << 10,
        }
    }
}

impl Sessions {
    /// Returns how long a claim holds without being renewed.
    pub(crate) fn lease(&self) -> Duration {
        self.save * RENEWALS
    }
}

impl Config {
    /// A session that is gone before its claim has lapsed would be held by nobody.
    pub(super) fn sessions_contradiction(&self) -> Option<String> {
        let sessions = &self.sessions;
        let lease = sessions.save.checked_mul(RENEWALS);
        lease.is_none_or(|lease| sessions.ttl < lease).then(|| {
            format!(
                "sessions.ttl = {}: must be at least three times sessions.save = {}, or open \
                 sessions are gone before they are saved",
                show_duration(sessions.ttl),
                show_duration(sessions.save)
            )
        })
    }
}

/// A claim outlasts so many periods of `sessions.save`.
const RENEWALS: u32 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_outlasts_its_claim() {
        let faults = |pairs: &[(&str, &str)]| {
            let mut config = Config::default();
            pairs.iter().for_each(|(name, text)| config.set(name, text).unwrap());
            config.check().faults
        };
        assert_eq!(faults(&[("sessions.save", "10m")]), Vec::<String>::new());
        let broken = faults(&[("sessions.save", "10m"), ("sessions.ttl", "29m")]);
        assert!(broken[0].starts_with("sessions.ttl = 29m: must be"), "{broken:?}");
    }
}

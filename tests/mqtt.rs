//! Clients of MQTT brokers: sessions against a model of a broker, what hostile brokers send, and
//! real brokers.

mod common;

#[path = "mqtt/broker.rs"]
mod broker;
#[path = "mqtt/hostile.rs"]
mod hostile;
// It opens WebSockets, too.
#[allow(dead_code)]
#[path = "client/rig.rs"]
mod rig;
#[path = "mqtt/sessions.rs"]
mod sessions;

/// Returns the seeds of programs: `SEED=` alone, or as many as `ROUNDS=` says.
fn seeds(rounds: u64) -> std::ops::Range<u64> {
    let from_env = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    match from_env("SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..from_env("ROUNDS").unwrap_or(rounds),
    }
}

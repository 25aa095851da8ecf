//! What both threads do when they have connected: they look whether the log is the one they knew,
//! and begin a new epoch where it may have lost something. And the claim of the server's name.

use std::thread;
use std::time::{Duration, Instant as StdInstant};

use log::{info, warn};

use super::Shared;
use crate::core::cluster::{BEGIN_EPOCH, CLAIM, Findings, LOOK, Verdict};
use crate::core::ground::random::Random;
use crate::core::wire::resp::Value;
use crate::system::random_seed;
use crate::system::redis::{Link, LinkError};

/// Looks at the log, and begins a new epoch if need be. Returns what was found then: an epoch is
/// there. A verdict that leaves events out is for the reader.
pub(super) fn look(
    shared: &Shared,
    link: &mut Link,
    is_stuck: bool,
) -> Result<(Findings, Verdict), LinkError> {
    for _ in 0..LOOKS_MAX {
        let seen = shared.seen();
        let found = find(shared, link)?;
        let (before, reason) = match found.judge(seen.as_ref(), is_stuck) {
            Verdict::Begin { before, reason } => (before, reason),
            verdict => return Ok((found, verdict)),
        };
        let number = match before.parse::<u16>() {
            Ok(before) => before.wrapping_add(1),
            Err(_) => other_than(seen.map(|seen| seen.epoch)),
        };
        let last_ms = seen.map_or(0, |seen| seen.id.ms);
        let parts = [&*number.to_string(), &found.replication_id, &last_ms.to_string()];
        let [number, replication_id, last_ms] = parts.map(str::as_bytes);
        let answer = link.ask([
            b"EVAL".as_slice(),
            BEGIN_EPOCH.as_bytes(),
            b"2",
            shared.keys.epoch.as_bytes(),
            shared.keys.log.as_bytes(),
            before.as_bytes(),
            number,
            replication_id,
            last_ms,
            reason.label().as_bytes(),
        ])?;
        if let Some([Value::Number(1), ..]) = answer.list() {
            warn!("cluster begins a new epoch reason={}: every position is a gap", reason.label());
        }
    }
    Err(LinkError::Broken("the log changes all the time".into()))
}

/// Draws the number of an epoch.
fn other_than(before: Option<u16>) -> u16 {
    let drawn = random_seed() as u16;
    if before == Some(drawn) { drawn.wrapping_add(1) } else { drawn }
}

/// Asks all at one moment.
fn find(shared: &Shared, link: &mut Link) -> Result<Findings, LinkError> {
    let parts = [LOOK, "2", &shared.keys.epoch, &shared.keys.log].map(str::as_bytes);
    let answer = link.ask([b"EVAL".as_slice()].into_iter().chain(parts))?;
    Findings::read(&answer).map_err(LinkError::Broken)
}

/// What became of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// The name is this process's.
    Granted,
    /// Another process has it.
    Taken,
    /// Redis was not reached.
    Unknown,
}

/// Claims the server's name, for a while. Returns for how long another process has it still.
pub(super) fn claim(shared: &Shared, link: &mut Link) -> Result<Option<Duration>, LinkError> {
    let span = CLAIMED_FOR.as_millis().to_string();
    let parts = [CLAIM, "1", &shared.claim, &shared.process, &span].map(str::as_bytes);
    let answer = link.ask([b"EVAL".as_slice()].into_iter().chain(parts))?;
    match answer.list() {
        Some([Value::Number(1)]) => Ok(None),
        Some([Value::Number(0), Value::Number(left)]) => {
            Ok(Some(Duration::from_millis(u64::try_from(*left).unwrap_or(0))))
        }
        _ => Err(LinkError::Broken("an answer that the script does not give".into())),
    }
}

/// Claims the name before the server begins. A process that has died has its claim for a while: it
/// is waited for until it runs out, or is seen to be renewed.
pub(super) fn claim_at_start(shared: &Shared) -> Claim {
    let began = StdInstant::now();
    let (mut least, mut is_told) = (CLAIMED_FOR, false);
    while began.elapsed() < CLAIMED_FOR + CLAIM_EVERY {
        let left = match Link::connect(&shared.url, shared.limits)
            .and_then(|mut link| claim(shared, &mut link))
        {
            Ok(None) => return Claim::Granted,
            Ok(Some(left)) => left,
            Err(fault) => {
                warn!("cluster away: {}: it is tried on", fault.sentence());
                return Claim::Unknown;
            }
        };
        if left > least {
            return Claim::Taken;
        }
        if !std::mem::replace(&mut is_told, true) {
            let node = &shared.node;
            info!("cluster.node = {node} is claimed: waiting whether that server still runs");
        }
        least = left;
        thread::sleep(Duration::from_millis(500));
    }
    Claim::Taken
}

/// How long to wait before the next try.
#[derive(Debug)]
pub(in crate::threads) struct Backoff {
    random: Random,
    failures: u32,
}

impl Backoff {
    pub fn new() -> Backoff {
        Backoff { random: Random::new(random_seed()), failures: 0 }
    }

    /// A connection holds.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Returns the wait: uniform from 0 to 100 ms, twice as much with each failure, to 400 ms. What
    /// sentinels take to choose another master is added to.
    pub fn next(&mut self) -> Duration {
        let most_ms = 100_u64 << self.failures.min(2);
        self.failures = self.failures.saturating_add(1);
        Duration::from_millis(self.random.between(0, most_ms))
    }
}

/// For how long a claim holds, and how often it is renewed.
pub(super) const CLAIMED_FOR: Duration = Duration::from_secs(15);
pub(super) const CLAIM_EVERY: Duration = Duration::from_secs(4);

/// How long an answer may take.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How often the log is looked at while others change it.
const LOOKS_MAX: usize = 8;

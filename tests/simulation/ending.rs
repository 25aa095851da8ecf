//! The second half of a run: what must happen once the faults have stopped.

use crate::peer::Kind;
use crate::world::World;

impl World {
    /// Gives a time in which everything must come to its end: the sum of all deadlines.
    pub fn patience_ms(&self) -> u64 {
        let config = &self.plan.config;
        let deadlines = &config.deadlines;
        let sum = deadlines.handshake * 2
            + deadlines.body
            + deadlines.keep_alive * 4
            + deadlines.read_idle.unwrap_or_default()
            + config.heartbeat.interval.unwrap_or_default()
            + config.heartbeat.pong * config.heartbeat.max_missed
            + deadlines.message
            + deadlines.write_stall * 3
            + deadlines.close_send * 2
            + deadlines.close_ack * 2
            + deadlines.drain
            + config.heartbeat.max;
        sum.as_millis() as u64 + 10_000
    }

    /// Gives a time after which a log that has not answered never will.
    pub fn give_up_ms(&self) -> u64 {
        self.plan.config.deadlines.handshake.as_millis() as u64 + 1000
    }

    /// Gives how old bytes that wait for a peer may be at the most.
    pub fn oldest_ms(&self) -> u64 {
        3 * self.plan.config.deadlines.write_stall.as_millis() as u64
    }

    /// From now on each honest peer that is open is to get one more echo.
    pub fn expect_exchanges(&mut self) {
        for peer in &mut self.peers {
            if let Kind::Honest(honest) = &mut peer.kind {
                honest.expects = honest.echoes + 1;
            }
        }
    }

    fn unserved_peers(&self) -> impl Iterator<Item = usize> {
        let waits = |index: &usize| {
            let peer = &self.peers[*index];
            let is_alive = peer.seen.ended.is_none() && peer.seen.close_at.is_none();
            let is_over = peer.was_rejected || self.drain_at.is_some();
            match &peer.kind {
                Kind::Honest(honest) if is_alive && !is_over && !honest.closes() => {
                    let closed = peer.id.and_then(|id| self.application.records.get(&id));
                    let closed = closed.is_some_and(|record| record.closed_with.is_some());
                    !closed && honest.echoes < honest.expects
                }
                _ => false,
            }
        };
        (0..self.peers.len()).filter(waits)
    }

    /// Says whether all of them have.
    pub fn has_exchanged(&self) -> bool {
        self.unserved_peers().next().is_none()
    }

    pub fn unserved(&self) -> String {
        format!("{:?}", self.unserved_peers().collect::<Vec<_>>())
    }

    /// The honest close, and wait for nothing else.
    pub fn say_goodbye(&mut self) {
        for peer in &mut self.peers {
            match &mut peer.kind {
                Kind::Honest(honest) => honest.wants_close = true,
                Kind::Scripted(scripted) => scripted.wants_close = scripted.script.stays,
            }
        }
    }

    pub fn survivors(&self) -> String {
        let alive = self
            .peers
            .iter()
            .enumerate()
            .filter(|(_, peer)| peer.seen.ended.is_none() && peer.id.is_some());
        alive.map(|(index, peer)| format!("{index} {}, ", peer.name())).collect()
    }
}

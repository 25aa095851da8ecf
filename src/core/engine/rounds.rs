//! What is to be done to every connection: a few in each turn, so that no turn takes time by the
//! number of connections.
//!
//! A round goes through the table of connections. A connection that the round has not reached is
//! brought up to date before anything is decided about it: nothing is judged by half a change.

use crate::core::admission::credentials::Credentials;
use crate::core::config::Revoke;
use crate::core::connection::Connection;
use crate::core::connection::effect::Effect;
use crate::core::engine::Engine;
use crate::core::ground::time::Instant;

/// A change that not every connection has followed yet.
#[derive(Debug)]
pub(super) struct Round {
    /// The time of the turn that goes on with the round.
    now: Instant,
    /// The next slot.
    next: usize,
    change: Change,
}

/// What every connection is to follow, beside the rules that deadlines are derived from.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// What was let in by before the change, if the change concerns it.
    pub credentials: Option<Credentials>,
    pub beats: Beats,
}

/// What becomes of heartbeats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Beats {
    #[default]
    Stay,
    /// Heartbeats follow other rules, and judge by nothing that was before.
    Reload,
    /// Heartbeats begin anew: no peer could answer for some time.
    Spread,
}

impl Beats {
    /// Returns what becomes of them after a change of these keys.
    pub fn after<'a>(keys: impl IntoIterator<Item = &'a str>) -> Beats {
        let concerns = |key: &str| key.starts_with("heartbeat.") || key == "deadlines.read_idle";
        if keys.into_iter().any(concerns) { Beats::Reload } else { Beats::Stay }
    }
}

impl Engine {
    /// Begins to have every connection follow a change. A round that is under way is finished
    /// first, in this turn: changes are rare.
    pub(super) fn begin_round(&mut self, now: Instant, change: Change) {
        self.finish_round(now);
        debug_assert!(self.schedule.round.is_none(), "a change is followed by all before the next");
        self.schedule.round_parity = !self.schedule.round_parity;
        self.schedule.round = Some(Round { now, next: 0, change });
    }

    /// Finishes the round that is under way, if one is.
    pub(super) fn finish_round(&mut self, now: Instant) {
        let mut all = usize::MAX;
        self.round_on(now, &mut all);
    }

    /// Goes on with a round, as many connections as may act in this turn.
    pub(super) fn round_on(&mut self, now: Instant, acts_left: &mut usize) {
        while *acts_left > 0
            && let Some(round) = &mut self.schedule.round
        {
            *acts_left -= 1;
            round.now = now;
            let key = round.next;
            round.next += 1;
            self.catch_up(key);
            if key >= self.connections.capacity() {
                self.schedule.round = None;
            }
        }
    }

    /// Ends connections whose tokens a reload has taken away, as many as may act in this turn.
    pub(super) fn end_revoked(&mut self, now: Instant, acts_left: &mut usize) {
        while *acts_left > 0
            && let Some(id) = self.schedule.revoked.pop()
        {
            *acts_left -= 1;
            let effect = self.get(id).map_or(Effect::None, Connection::end_by_auth);
            self.act_on(now, id, effect);
        }
    }

    /// Has a connection follow the change of the round, if it has not yet.
    pub(super) fn catch_up(&mut self, key: usize) {
        let Some(Round { now, change, .. }) = &self.schedule.round else { return };
        let Some(connection) = self.connections.get_mut(key) else { return };
        if std::mem::replace(&mut connection.flags.round_parity, self.schedule.round_parity)
            == self.schedule.round_parity
        {
            return;
        }
        let (now, beats) = (*now, change.beats);
        if let Some(before) = &change.credentials {
            let credentials = &self.settings.credentials;
            let had_pass = connection.has_pass();
            connection.follow_credentials(before, credentials);
            let is_revoked = had_pass && !connection.has_pass() && credentials.are_asked();
            if is_revoked && self.settings.config.admission.revoke == Revoke::Close {
                self.schedule.revoked.push(connection.id);
            }
        }
        #[cfg(any(feature = "jwt", feature = "client"))]
        if let Some(grant) = connection.grant_mut() {
            grant.follow(now, self.reports.date.unix_ms);
        }
        connection.skip_pause(now);
        let rhythm = &self.settings.spans(connection).heartbeat;
        let random = &mut self.random;
        match beats {
            Beats::Stay => {}
            Beats::Reload => connection.restart_heartbeat(now, |beat| beat.reload(rhythm, random)),
            Beats::Spread => connection.restart_heartbeat(now, |beat| beat.spread(random)),
        }
        connection.flags.relink = true;
        self.rearm(now, key);
        #[cfg(feature = "presence")]
        self.follow_presence(now, key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::admission::rights::Right;
    use crate::core::admission::tokens::Tokens;
    use crate::core::config::Config;
    use crate::core::connection::Leaving;
    use crate::core::contract::route::Face;
    use crate::core::engine::Setup;
    use crate::core::ground::id::ConnectionId;

    const NOW: Instant = Instant::from_millis(1000);

    fn engine(connections: usize) -> (Engine, Vec<ConnectionId>) {
        let setup = Setup {
            config: Config::default(),
            routes: Vec::new(),
            machine_name: String::new(),
            memory_auto: u64::MAX,
            seed: 1,
            unix_ms: 1,
        };
        let mut engine = Engine::new(setup);
        let accept = |_| engine.accept(NOW, Face::Public, None).unwrap();
        let ids = (0..connections).map(accept).collect();
        (engine, ids)
    }

    fn following(engine: &Engine) -> usize {
        let follows = |connection: &&crate::core::connection::Connection| {
            connection.flags.round_parity == engine.schedule.round_parity
        };
        engine.connections.iter().map(|(_, connection)| connection).filter(follows).count()
    }

    #[test]
    fn a_round_takes_as_many_connections_as_the_budget_allows() {
        let (mut engine, ids) = engine(1000);
        for round in 0..3 {
            engine.begin_round(NOW, Change::default());
            assert_eq!(following(&engine), 0, "{round}");
            engine.round_on(NOW, &mut 100);
            assert_eq!(following(&engine), 100);
            assert!(engine.has_work_left());
            // A connection about which something is to be decided does not wait for its turn.
            engine.catch_up(ids[999].key());
            engine.accept(NOW, Face::Admin, None).unwrap();
            assert_eq!(following(&engine), 102);
            let mut turns = 1;
            while engine.has_work_left() {
                engine.round_on(NOW, &mut 100);
                engine.arm_touched(NOW);
                turns += 1;
            }
            assert_eq!(following(&engine), engine.len());
            assert!((10..=25).contains(&turns), "{turns}");
        }
    }

    #[test]
    fn another_change_finds_everybody_up_to_date() {
        let (mut engine, _) = engine(300);
        engine.begin_round(NOW, Change::default());
        engine.round_on(NOW, &mut 100);
        engine.begin_round(NOW, Change::default());
        assert_eq!(following(&engine), 0, "and none is one round ahead");
        engine.finish_round(NOW);
        assert_eq!(following(&engine), 300);
    }

    #[test]
    fn a_token_is_judged_by_what_it_may_now_before_its_connection_had_its_turn() {
        let (mut engine, ids) = engine(300);
        let tokens = |text| Some(Tokens::parse(text).unwrap()).into();
        engine.set_credentials(NOW, tokens("first publish=a\nsecond publish=b\n"));
        engine.finish_round(NOW);
        for (nth, id) in ids.iter().enumerate() {
            let token = ["first", "second"][nth % 2];
            let token = engine.settings.credentials.tokens.as_ref().unwrap().find(token);
            engine.get_mut(*id).unwrap().token = token;
        }
        engine.set_credentials(NOW, tokens("third publish=c\nsecond publish=d\n"));
        engine.round_on(NOW, &mut 10);
        let last = &ids[298..];
        let may = |engine: &mut Engine, id, topic| engine.may(id, Right::Publish, topic);
        for topic in ["a", "b", "c", "d"] {
            assert!(!may(&mut engine, last[0], topic), "its token is gone");
            assert_eq!(may(&mut engine, last[1], topic), topic == "d");
        }
        assert!(following(&engine) < 20);
    }

    // When the loop had been held up, all connections were drained in one turn.
    #[test]
    fn of_those_whose_turn_to_go_has_come_as_many_go_as_the_budget_allows() {
        let (mut engine, _) = engine(1000);
        engine.begin_drain(NOW);
        let later = NOW + std::time::Duration::from_secs(20);
        let draining = |engine: &Engine| {
            engine
                .connections
                .iter()
                .filter(|(_, connection)| connection.flags.leaving == Leaving::Draining)
                .count()
        };
        for turns in 1..=10 {
            let mut budget = 100;
            engine.drain_on(later, &mut budget);
            assert_eq!((budget, draining(&engine)), (0, 100 * turns));
            assert!(turns == 10 || engine.poll_timeout().is_some_and(|at| at <= later));
        }
    }
}

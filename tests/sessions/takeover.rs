//! A session that is open on another server: the older connection is told, hands over what it has,
//! and ends; the newer one has all of it at once.

use std::sync::Arc;
use std::time::Duration;

use heartwheel::{
    Claim, Claimed, MemorySessions, Save, Saved, SessionId, SessionStore, StoreError,
};

use super::nodes::{open, start};
use super::tally::Told;
use crate::common::timing::{Span, ms, percentile, rounds};

/// A store that tells nothing: each message is lost.
pub struct Deaf<S>(pub Arc<S>);

impl<S: SessionStore> SessionStore for Deaf<S> {
    fn claim(&self, id: &SessionId, claim: &Claim) -> Result<Claimed, StoreError> {
        self.0.claim(id, claim)
    }

    fn save(&self, id: &SessionId, save: &Save<'_>) -> Result<Saved, StoreError> {
        self.0.save(id, save)
    }

    fn is_immediate(&self) -> bool {
        self.0.is_immediate()
    }
}

// FAULTS 266.
#[test]
fn a_session_that_is_open_on_another_server_of_the_process_is_handed_over() {
    let store = Arc::new(MemorySessions::default());
    takes_over_between("memory", [store.clone(), store]);
}

/// A client connects to one server after the other and leaves each connection open. It has all that
/// it has said, at once; where the store tells nothing, after a second, and what was not saved is
/// lost. Prints how long that takes: `ROUNDS=500` for a figure.
pub fn takes_over_between<S: SessionStore>(what: &str, stores: [Arc<S>; 2]) {
    let deaf = stores.clone().map(|store| Arc::new(Deaf(store)));
    let told = take_over(stores, "a", rounds(20), true);
    let untold = take_over(deaf, "b", 3, false);
    for (how, mut took) in [("told", told), ("not told", untold)] {
        let [p50, p99] = [50, 99].map(|percent| percentile(&mut took, percent));
        println!("takeover by {what}, {how}: n={} p50={p50:.1?} p99={p99:.1?}", took.len());
    }
}

/// Returns how long each takeover took.
fn take_over<S: SessionStore>(
    stores: [Arc<S>; 2],
    key: &str,
    count: usize,
    is_told: bool,
) -> Vec<Duration> {
    let told = Told::default();
    let nodes = stores.each_ref().map(|store| start(&[], store, &told));
    let (mut old, _) = open(nodes[0].address, key);
    let mut took = Vec::new();
    for round in 1..=count {
        old.text(&round.to_string());
        let said = old.message();
        let span = Span::begin();
        let (new, hello) = open(nodes[round % 2].address, key);
        took.push(span.elapsed());
        if is_told && span.stalled() < ms(300) {
            assert_eq!(hello, format!("back {said}"), "takeover {round}");
            old.expect_close(4409);
        } else if !is_told {
            assert!(hello == "new" && span.elapsed() > ms(900), "by force: {hello} for {said}");
        }
        old = new;
    }
    took
}

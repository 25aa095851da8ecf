//! Verdicts of `authorize` that come late.

use heartwheel::Accept;
use heartwheel::core::contract::event::{Command, Done, Job, Outcome, Task};
use heartwheel::http::Refusal;

use crate::common::engine::TestEngine;
use crate::common::http::upgrade_request;

fn give(server: &mut TestEngine, job: Job, verdict: Result<Accept, Refusal>) {
    let Job { id, route, task: Task::Authorize(request), .. } = job else { panic!("another job") };
    let outcome = Outcome::Verdict(request, verdict);
    server.command(Command::Done(Done { id, route, outcome }));
    server.settle();
}

/// The verdict on a peer that has gone finds another in its slot, which waits for one, too.
#[test]
fn a_late_verdict_never_meets_another_peer() {
    let mut server = TestEngine::new(&[]);
    let refuse = || Err(Refusal::new(403, "not you"));
    for verdict in [Ok(Accept::default()), refuse()] {
        let first = server.connect("192.0.2.7:1").unwrap();
        server.send(first, upgrade_request("/asked", ""));
        server.settle();
        server.reset(first);
        let second = server.connect("192.0.2.8:1").unwrap();
        assert_eq!(first.as_u64() & 0xff_ffff, second.as_u64() & 0xff_ffff, "the same slot");
        server.send(second, upgrade_request("/asked", ""));
        server.settle();
        assert_eq!(server.world.undecided.len(), 2);
        let late = server.world.undecided.remove(0);
        give(&mut server, late, verdict);
        assert!(server.received(second).is_empty(), "its own verdict is still to come");
        assert_eq!(server.engine.stats().upgraded, 0);
        let own = server.world.undecided.remove(0);
        give(&mut server, own, refuse());
        assert!(server.received(second).starts_with(b"HTTP/1.1 403 "));
        server.reset(second);
    }
}

/// The deadline was faster: the peer has its answer, and gets no second one.
#[test]
fn a_verdict_after_the_deadline_is_dropped() {
    let mut server = TestEngine::new(&[("deadlines.handshake", "2s")]);
    let id = server.connect("192.0.2.7:1").unwrap();
    server.send(id, upgrade_request("/asked", ""));
    server.run_for(2020);
    assert!(server.received(id).starts_with(b"HTTP/1.1 503 "));
    let late = server.world.undecided.remove(0);
    give(&mut server, late, Ok(Accept::default()));
    assert!(server.received(id).is_empty());
    assert_eq!(server.engine.stats().upgraded, 0);
}

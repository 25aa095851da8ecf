//! What a server may send: each status and code, and what no server should send.

use std::time::Duration;

use heartwheel::Message;
use heartwheel::core::client::{State, Told, Why};

use super::common::rng::Rng;
use super::rig::{Rig, close_frame, frame, rules, setup, stopped_within};

fn opened(settings: &[(&str, &str)]) -> Rig {
    let mut rig = upgrading(settings);
    rig.open();
    assert_eq!(rig.dialler.state(), State::Open);
    rig.told.clear();
    rig
}

fn upgrading(settings: &[(&str, &str)]) -> Rig {
    let mut setup = setup(&["ws://10.0.0.1/"], rules(settings));
    setup.renews = true;
    let mut rig = Rig::new(setup, 1, 1000);
    rig.act(|dialler, means| dialler.timeout(means));
    rig.act(|dialler, means| dialler.connected(means, 0));
    rig.write_all();
    assert_eq!(rig.dialler.state(), State::Upgrading);
    rig
}

/// Returns why the last try or connection ended, and how long the client waits after it.
fn end(rig: &Rig) -> (Why, Option<Duration>) {
    let ends = rig.told.iter().rev().find_map(|told| match told {
        Told::State { why: Some(why), wait, .. } => Some((why.clone(), *wait)),
        _ => None,
    });
    ends.expect("it has ended")
}

#[test]
fn each_status_is_followed_by_what_the_guide_says() {
    for status in 200..=599 {
        let mut rig = upgrading(&[]);
        let head = format!("HTTP/1.1 {status} X\r\nRetry-After: 70\r\nContent-Length: 9\r\n\r\n");
        rig.receive(head.as_bytes());
        let (why, wait) = end(&rig);
        let after = Some(Duration::from_secs(70));
        assert_eq!(why, Why::Status { status, retry_after: after });
        let is_stop = matches!(status, 400 | 403 | 404 | 405 | 426);
        let expected = if is_stop { State::Stopped } else { State::Waiting };
        assert_eq!(rig.dialler.state(), expected, "{status}");
        assert_eq!(rig.renewals, u32::from(status == 401), "{status}");
        assert_eq!(wait, after.filter(|_| !is_stop), "{status}: longer than the backoff");
        assert!(!rig.is_kept);
    }
}

#[test]
fn each_close_code_is_followed_by_what_the_guide_says() {
    for code in 1000..5000 {
        let mut rig = opened(&[]);
        rig.receive(&close_frame(code, "retry=45000"));
        // RFC 6455, 7.4: these are none, or none that is sent.
        let is_code = !matches!(code, 1004..=1006 | 1015..3000);
        let until = rig.now_ms + 60_000;
        rig.write_all();
        while rig.dialler.state() == State::Closing {
            assert!(rig.now_ms < until);
            rig.pass_to(rig.dialler.poll_timeout(rig.now()).unwrap().as_millis());
        }
        let (why, wait) = end(&rig);
        match (&why, is_code) {
            (Why::Closed { code: told, .. }, true) => assert_eq!(*told, code),
            (Why::Violation(_), false) => assert_eq!(why.code(), 1002),
            _ => panic!("{code}: {why:?}"),
        }
        let is_stop = !is_code
            || matches!(code, 1002 | 1003 | 1007 | 1008 | 1009 | 1010 | 4409 | 4500..=4999);
        let expected = if is_stop { State::Stopped } else { State::Waiting };
        assert_eq!(rig.dialler.state(), expected, "{code}");
        assert_eq!(rig.renewals, u32::from(code == 3000), "{code}");
        assert_eq!(wait, (!is_stop).then_some(Duration::from_secs(45)), "{code}");
    }
}

#[test]
fn goaway_is_the_least_wait_and_counts_for_one_end() {
    let mut rig = opened(&[]);
    rig.dialler.note_goaway(Duration::from_secs(50));
    rig.receive(&close_frame(1001, "retry=20"));
    rig.act(|dialler, means| dialler.lost(means, None));
    assert_eq!(end(&rig).1, Some(Duration::from_secs(50)));
    rig.open();
    rig.receive(&close_frame(1001, ""));
    rig.act(|dialler, means| dialler.lost(means, None));
    assert!(end(&rig).1.unwrap() <= Duration::from_secs(2));
}

/// No server may send a client away for weeks: not by a status, a reason or a message.
#[test]
fn a_wait_that_a_server_asks_for_is_bounded() {
    let day = Some(Duration::from_secs(24 * 60 * 60));
    let mut rig = upgrading(&[]);
    rig.receive(b"HTTP/1.1 503 X\r\nRetry-After: 4294967295\r\n\r\n");
    assert_eq!(end(&rig).1, day);
    let mut rig = opened(&[]);
    rig.receive(&close_frame(1001, "retry=4294967295"));
    rig.act(|dialler, means| dialler.lost(means, None));
    assert_eq!(end(&rig).1, day);
    let mut rig = opened(&[]);
    rig.dialler.note_goaway(Duration::from_millis(u32::MAX.into()));
    rig.act(|dialler, means| dialler.lost(means, None));
    assert_eq!(end(&rig).1, day);
}

#[test]
fn however_its_bytes_are_cut_a_server_says_the_same() {
    let said = |pieces: &dyn Fn(&[u8]) -> Vec<Vec<u8>>| {
        let mut rig = upgrading(&[]);
        let mut bytes = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n".to_vec();
        bytes.extend_from_slice(rig.answer().unwrap().as_bytes());
        bytes.extend(frame(1, "grüß".as_bytes()));
        bytes.extend(frame(9, b"hear"));
        bytes.extend([0x02, 2, 1, 2]);
        bytes.extend(frame(10, b""));
        bytes.extend(frame(0, &[3; 300]));
        bytes.extend(close_frame(4000, "retry=1"));
        bytes.extend(frame(1, b"too late"));
        for piece in pieces(&bytes) {
            rig.receive(&piece);
        }
        (rig.told, bytes.len())
    };
    let (whole, length) = said(&|bytes| vec![bytes.to_vec()]);
    let messages = whole.iter().filter(|told| matches!(told, Told::Message(_))).count();
    assert_eq!(messages, 2);
    for cut in 0..=length {
        let (told, _) = said(&|bytes| vec![bytes[..cut].to_vec(), bytes[cut..].to_vec()]);
        assert_eq!(told, whole, "cut at {cut}");
    }
    let (told, _) = said(&|bytes| bytes.iter().map(|byte| vec![*byte]).collect());
    assert_eq!(told, whole);
}

#[test]
fn an_answer_without_an_end_ends_at_its_limit_or_its_deadline() {
    let mut rig = upgrading(&[("limits.head_bytes", "8k")]);
    rig.receive(b"HTTP/1.1 200 OK\r\n");
    let mut sent = 0;
    while rig.dialler.state() == State::Upgrading {
        rig.receive(b"X-Header: abcdefghijklmnopqrstuvwxyz\r\n");
        sent += 38;
        assert!(sent <= 10_000, "the head is not bounded");
    }
    assert!(matches!(end(&rig).0, Why::Answer(_)));
    let mut rig = upgrading(&[]);
    rig.receive(&b"HTTP/1.1 102 Processing\r\n\r\n".repeat(9));
    assert!(matches!(end(&rig).0, Why::Answer(_)));
    // One byte a second: the deadline is for the whole answer.
    let mut rig = upgrading(&[]);
    let began = rig.now_ms;
    for byte in b"HTTP/1.1 200 OK" {
        rig.receive(&[*byte]);
        if rig.dialler.state() != State::Upgrading {
            break;
        }
        let due = rig.dialler.poll_timeout(rig.now()).unwrap().as_millis();
        rig.pass_to(due.min(rig.now_ms + 1000));
    }
    assert_eq!(end(&rig).0, Why::TimedOut(State::Upgrading));
    assert_eq!(rig.now_ms, began + 5001);
}

#[test]
fn a_page_in_the_place_of_an_answer_is_a_status() {
    let mut rig = upgrading(&[]);
    let page = "<html>Please log in</html>".repeat(100_000);
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", page.len());
    rig.receive(head.as_bytes());
    rig.receive(page.as_bytes());
    assert_eq!(end(&rig).0, Why::Status { status: 200, retry_after: None });
    assert_eq!((rig.dialler.state(), rig.is_kept), (State::Waiting, false));
    let mut rig = upgrading(&[]);
    rig.receive(b"<html>");
    rig.receive(page.as_bytes());
    assert!(matches!(end(&rig).0, Why::Answer(_)));
}

#[test]
fn frames_that_break_the_protocol_stop_the_client_in_time() {
    let masked = [0x81, 0x81, 1, 2, 3, 4, 5];
    let giant = [&[0x82, 127][..], &(u64::MAX >> 1).to_be_bytes()].concat();
    let huge = [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat();
    let cases: [(&str, Vec<u8>, u16); 9] = [
        ("masked", masked.to_vec(), 1002),
        ("longer than the limit", giant, 1009),
        ("longer than can be", huge, 1002),
        ("RSV1", vec![0xc1, 0], 1002),
        ("an opcode that is none", vec![0x83, 0], 1002),
        ("a long ping", frame(9, &[0; 126]), 1002),
        ("a ping in pieces", vec![0x09, 0], 1002),
        ("no UTF-8", frame(1, &[0xff]), 1007),
        ("a continuation of nothing", vec![0x80, 0], 1002),
    ];
    for (name, bytes, code) in cases {
        let mut rig = opened(&[]);
        let limit = stopped_within(&rules(&[])).as_millis() as u64;
        let began = rig.now_ms;
        rig.receive(&bytes);
        assert_eq!(rig.dialler.state(), State::Closing, "{name}");
        // It reads nothing, and goes on sending.
        rig.receive(&bytes);
        rig.pass_to(began + limit);
        let (why, _) = end(&rig);
        assert!(matches!(why, Why::Violation(_)) && why.code() == code, "{name}: {why:?}");
        assert_eq!((rig.dialler.state(), rig.is_kept), (State::Stopped, false), "{name}");
    }
}

#[test]
fn floods_do_not_pile_up_in_a_client_that_is_not_read_from() {
    let mut rig = opened(&[]);
    for _ in 0..100 {
        rig.receive(&frame(9, &[7; 125]).repeat(100));
        rig.receive(&frame(10, &[7; 125]).repeat(100));
        let waiting = rig.dialler.outbox_bytes();
        assert!(waiting <= 12 * 131, "{waiting} bytes wait after pings of one moment");
    }
    // A server that pings and does not read is one that stalls.
    while rig.dialler.state() == State::Open {
        rig.receive(&frame(9, &[7; 125]).repeat(100));
        let waiting = rig.dialler.outbox_bytes();
        assert!(waiting <= 64 << 10, "{waiting} bytes wait");
        let due = rig.dialler.poll_timeout(rig.now()).unwrap().as_millis();
        rig.pass_to(due.min(rig.now_ms + 1000));
    }
    assert_eq!(end(&rig).0, Why::WriteStall);
}

/// A reader that is told is asked for more only when it has taken what came.
#[test]
fn while_much_waits_to_be_told_no_more_is_read() {
    let mut rig = opened(&[]);
    let mut bytes = frame(2, &[1; 1000]);
    let mut count = 0;
    rig.act(|dialler, means| {
        while dialler.wants_read() {
            dialler.receive(means, &mut bytes.clone());
            count += 1;
        }
    });
    assert!((200..=270).contains(&count), "{count} messages of 1000 bytes");
    assert!(rig.dialler.wants_read());
    let told = rig.told.iter().filter(|told| matches!(told, Told::Message(_))).count();
    assert_eq!(told, count);
    bytes.clear();
    rig.receive(&bytes);
}

/// Bytes without sense, in each state: no panic, and an end within the deadlines of that state.
#[test]
fn garbage_ends_a_client_or_is_ignored() {
    for seed in 0..2000 {
        let mut rng = Rng::new(seed);
        let mut rig = if rng.chance(50) { opened(&[]) } else { upgrading(&[]) };
        for _ in 0..rng.below(8) {
            let length = 1 + rng.below(64) as usize;
            let mut bytes: Vec<u8> = (0..length).map(|_| rng.next_u64() as u8).collect();
            if rng.chance(50) {
                bytes.splice(0..0, frame(rng.below(16) as u8, &[]));
                bytes[1] = rng.below(128) as u8;
            }
            rig.receive(&bytes);
            if rng.chance(30) {
                let _ = rig.act(|dialler, means| dialler.send(means, Message::text("x")));
                rig.write(rng.below(9) as usize);
            }
        }
        rig.act(|dialler, means| dialler.stop(means, 1000, ""));
        rig.pass_to(rig.now_ms + stopped_within(&rules(&[])).as_millis() as u64);
        assert_eq!(rig.dialler.state(), State::Stopped, "SEED={seed}");
    }
}

/// A server that takes a connection and drops it at once is no success: the waits grow as if it
/// had refused. In ten minutes that makes about 45 tries: waits of at most 1, 2, 4, 8, 16, 30, 30..
/// seconds, half of it on average. With a reset of the count at 101 it would be 1200.
#[test]
fn who_drops_at_once_is_tried_no_more_often_than_who_refuses() {
    let mut tries = 0;
    for seed in 0..100 {
        let mut rig = Rig::new(setup(&["ws://10.0.0.1/"], rules(&[])), seed, 0);
        while rig.now_ms < 600_000 {
            rig.open();
            rig.receive(&close_frame(1000, ""));
            rig.act(|dialler, means| dialler.lost(means, None));
            assert_eq!(rig.dialler.state(), State::Waiting);
            tries += 1;
        }
    }
    assert!((4100..4900).contains(&tries), "{tries} tries of 100 clients");
}

/// A server that fails in each try gets five, and then one a period: 300 s, 600 s, and so on.
#[test]
fn who_fails_for_an_hour_gets_five_tries_and_then_one_a_period() {
    let mut rig = Rig::new(setup(&["ws://10.0.0.1/"], rules(&[])), 1, 0);
    let mut tries = Vec::new();
    while rig.now_ms < 3_600_000 {
        if rig.dialler.state() == State::Upgrading {
            tries.push(rig.now_ms / 1000);
            rig.receive(b"HTTP/1.1 503 Service Unavailable\r\n\r\n");
            continue;
        }
        let at = rig.dialler.poll_timeout(rig.now()).unwrap().as_millis();
        rig.now_ms = at.max(rig.now_ms);
        rig.act(|dialler, means| dialler.timeout(means));
        rig.act(|dialler, means| dialler.connected(means, 0));
        rig.write_all();
    }
    assert_eq!(tries.len(), 8, "{tries:?}");
    let spans: Vec<u64> = tries[4..].windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert_eq!(spans, [300, 600, 1200]);
    assert_eq!(rig.told.iter().filter(|told| **told == Told::Alarm).count(), 1);
}

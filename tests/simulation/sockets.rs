//! Peers that upgrade and do not behave.

use crate::plan::pick;
use crate::script::{Act, Draw, frame, upgrade_request};
use crate::settings::{FRAGMENTS_MAX, WEBSOCKETS};

pub const SCRIPTS: [Draw; 16] = [
    |script, rng| {
        let mut bytes = frame(rng, 2, true, &[7; 100]);
        bytes.truncate(1 + rng.below(100) as usize);
        script.is("half a frame", &["message", "heartbeat", "read_idle"]).upgrade(rng).send(bytes);
        script.pongs = false;
    },
    |script, rng| {
        let bytes = frame(rng, 1, true, &[b'x'; 2000]);
        script.is("dripped message", &["message"]).upgrade(rng);
        script.acts.push(Act::Drip { bytes, piece: 1, every_ms: 200 });
        script.pongs = false;
    },
    |script, rng| {
        script.is("never pongs", &["heartbeat", "read_idle"]).upgrade(rng);
        script.pongs = false;
    },
    |script, rng| {
        script.is("never reads", &["write_stall", "heartbeat", "read_idle"]);
        script.send(upgrade_request(pick(rng, &WEBSOCKETS))).wait(1000);
        for _ in 0..20 {
            let bytes = script.message(rng, 3000);
            script.send(bytes);
        }
        script.reads = false;
        script.pongs = false;
    },
    |script, rng| {
        script.is("sends after close", &["peer"]).upgrade(rng);
        let mut bytes = script.message(rng, 20);
        bytes.extend(frame(rng, 8, true, &1000u16.to_be_bytes()));
        bytes.extend(frame(rng, 1, true, b"too late"));
        script.send(bytes).send(frame(rng, 2, true, b"later still"));
    },
    |script, rng| {
        script.is("FIN without close", &["eof"]).upgrade(rng);
        let bytes = script.message(rng, 20);
        script.send(bytes).acts.push(Act::Fin);
    },
    |script, rng| {
        script.is("close without FIN", &["close_ack"]).upgrade(rng);
        let payload: &[u8] = if rng.chance(50) { b"" } else { &[0x0f, 0xa1, b'x'] };
        script.send(frame(rng, 8, true, payload)).hangs_up = false;
    },
    |script, rng| {
        script.is("reset", &["reset"]);
        script.send(upgrade_request(pick(rng, &WEBSOCKETS)));
        let bytes = script.message(rng, 50);
        script.wait(rng.below(100)).send(bytes).wait(rng.below(300)).acts.push(Act::Reset);
    },
    |script, rng| {
        script.is("pipelined behind the upgrade", &["peer"]);
        let mut bytes = upgrade_request(pick(rng, &WEBSOCKETS));
        for _ in 0..rng.below(5) {
            bytes.extend(script.message(rng, 30));
            bytes.extend(frame(rng, 9, true, b"early"));
        }
        bytes.extend(frame(rng, 8, true, &1000u16.to_be_bytes()));
        script.send(bytes);
    },
    |script, rng| {
        script.is("nonsense behind the upgrade", &["protocol"]);
        let mut bytes = upgrade_request(pick(rng, &WEBSOCKETS));
        bytes.extend(b"\xff\xff\xff\xff");
        script.send(bytes);
    },
    |script, rng| {
        script.is("giant claim", &["too_big"]).upgrade(rng);
        script.send([&[0x82, 0xff][..], &(1u64 << 40).to_be_bytes(), &[1; 10]].concat());
    },
    |script, rng| {
        script.is("ping flood", &["rate"]).upgrade(rng);
        let flood: Vec<u8> = (0..100).flat_map(|_| frame(rng, 9, true, b"flood")).collect();
        script.send(flood);
    },
    |script, rng| {
        script.is("no mask", &["protocol"]).upgrade(rng);
        let bytes = [script.message(rng, 9), vec![0x81, 1, b'x']].concat();
        script.send(bytes);
    },
    |script, rng| {
        script.is("no UTF-8", &["utf8"]).upgrade(rng);
        let bytes = [script.message(rng, 9), frame(rng, 1, true, b"\xc3\x28")].concat();
        script.send(bytes);
    },
    |script, rng| {
        script.is("too many fragments", &["fragments"]).upgrade(rng);
        let mut bytes = frame(rng, 1, false, b"x");
        for _ in 0..FRAGMENTS_MAX + 3 {
            bytes.extend(frame(rng, 0, false, b""));
        }
        script.send(bytes);
    },
    |script, rng| {
        script.is("close while blocked", &["peer"]).upgrade(rng);
        for _ in 0..5 {
            let bytes = [frame(rng, 9, true, b"a"), script.message(rng, 200)].concat();
            script.send(bytes).wait(rng.below(40)).send(frame(rng, 9, true, b"b"));
        }
        script.send(frame(rng, 8, true, &3999u16.to_be_bytes()));
    },
];

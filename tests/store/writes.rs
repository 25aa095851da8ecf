//! What the ring writes and reads, counted, against what it is given.

use heartwheel::core::store::{Found, PAGE_BYTES, Pages, Ring};
use heartwheel::core::topics::Kept;
use heartwheel::topics::EventId;

use super::disk::Disk;

/// Appends events of 200 bytes, with a commit after so many. Gives the bytes written for each byte
/// of payload.
fn ratio(events: u64, each_commit: u64) -> f64 {
    let mut disk = Disk::new(256, PAGE_BYTES);
    let mut ring = Ring::begin(&Found::default(), PAGE_BYTES, 256, id(0));
    ring.commit(&mut disk).unwrap();
    disk.writes = 0;
    for nth in 1..=events {
        let topic = format!("plant-7.devices.{}", nth % 8).parse().unwrap();
        let event = Kept { id: id(nth), topic, payload: "x".repeat(200).into() };
        assert!(ring.append(&mut disk, event).unwrap());
        if nth % each_commit == 0 {
            ring.commit(&mut disk).unwrap();
        }
    }
    ring.commit(&mut disk).unwrap();
    disk.writes as f64 * PAGE_BYTES as f64 / (events * 200) as f64
}

fn id(nth: u64) -> EventId {
    EventId::new(1_800_000_000_000 + 10 * nth, 7)
}

#[test]
fn ten_events_a_commit_are_written_about_twice_and_full_pages_about_once() {
    let (few, many) = (ratio(10_000, 10), ratio(10_000, 1000));
    println!("10 events a commit: {few:.3}; 1000: {many:.3}");
    assert!(few <= 2.2, "{few}");
    assert!(many <= 1.15, "{many}");
}

#[test]
fn a_mebibyte_is_read_twice_and_no_more() {
    let mut disk = Disk::new(256, PAGE_BYTES);
    let mut ring = Ring::begin(&Found::default(), PAGE_BYTES, 256, id(0));
    for nth in 1..=20_000 {
        let event =
            Kept { id: id(nth), topic: "a".parse().unwrap(), payload: "x".repeat(200).into() };
        ring.append(&mut disk, event).unwrap();
    }
    ring.close(&mut disk, id(30_000)).unwrap();
    let began = std::time::Instant::now();
    let found = Found::read(&mut disk, PAGE_BYTES, usize::MAX);
    println!("{} events in {:?}", found.past.events.len(), began.elapsed());
    assert!(found.past.events.len() > 4500, "{}", found.past.events.len());
    assert!(!found.past.has_loss);
    assert_eq!(found.past.events.back().unwrap().id, id(20_000));
    assert!(disk.reads <= 2 * disk.count(), "{}", disk.reads);
    // In little memory the newest of them are taken, and the rest is a gap.
    let past = Found::read(&mut disk, PAGE_BYTES, 100_000).past;
    assert!((200..500).contains(&past.events.len()), "{}", past.events.len());
    assert_eq!(past.floor.ms() + 10, past.events[0].id.ms());
    assert_eq!(past.events.back().unwrap().id, id(20_000));
}

#[test]
fn an_event_too_large_for_the_ring_is_told_as_lost() {
    let mut disk = Disk::new(16, PAGE_BYTES);
    let mut ring = Ring::begin(&Found::default(), PAGE_BYTES, 16, id(0));
    let mut append = |nth, len: usize| {
        let event =
            Kept { id: id(nth), topic: "a".parse().unwrap(), payload: "x".repeat(len).into() };
        ring.append(&mut disk, event).unwrap()
    };
    assert!(append(1, 15_000), "a quarter of 64 KiB, and more than three pages");
    assert!(!append(2, 17_000));
    assert!(append(3, 10));
    ring.close(&mut disk, id(4)).unwrap();
    let past = Found::read(&mut disk, PAGE_BYTES, usize::MAX).past;
    let ids: Vec<_> = past.events.iter().map(|event| event.id).collect();
    assert_eq!((ids, past.floor), (vec![id(1), id(3)], id(2)));
}

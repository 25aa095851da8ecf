//! The bodies of the fuzz targets in `bodies/` over their seeds, over seeds with random changes,
//! and over random bytes. The same bodies run with coverage guidance from `fuzz/`.
//!
//! `ROUNDS` says how many inputs each target gets besides its seeds (a few thousand, by what one
//! costs), `SEED` where to begin; a failure prints the seed of its input, which `ROUNDS=1 SEED=...`
//! runs again.

mod bodies;

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

use bodies::rng::Rng;

#[cfg(feature = "toml")]
#[test]
fn configuration_reads_back_what_it_prints() {
    fuzz("config", bodies::config::run, 2000);
}

#[test]
fn messages_in_cbor_are_read_whole_or_answered() {
    fuzz("cbor", bodies::cbor::run, 20_000);
}

#[test]
fn decoder_agrees_with_tungstenite_on_any_bytes() {
    fuzz("decoder", bodies::decoder::run, 3000);
}

#[test]
fn engine_keeps_its_invariants_whatever_happens() {
    fuzz("engine", bodies::engine::run, 1000);
}

#[test]
fn messages_of_ws_are_read_as_another_json_reader_reads_them() {
    fuzz("hub", bodies::hub::run, 10_000);
}

#[cfg(feature = "deflate")]
#[test]
fn messages_are_inflated_as_another_library_does_however_they_are_cut() {
    fuzz("inflate", bodies::inflate::run, 5000);
}

#[cfg(feature = "jwt")]
#[test]
fn tokens_are_believed_that_were_signed_and_say_what_another_reader_reads() {
    fuzz("jwt", bodies::jwt::run, 10_000);
}

#[test]
fn event_streams_give_back_what_was_encoded() {
    fuzz("events", bodies::events::run, 5000);
}

#[cfg(feature = "client")]
#[test]
fn event_streams_are_read_as_the_standard_says_however_they_are_cut() {
    fuzz("reader", bodies::reader::run, 5000);
}

#[test]
fn proxy_headers_are_read_or_refused_however_they_are_cut() {
    fuzz("proxy", bodies::proxy::run, 20_000);
}

#[cfg(feature = "tls")]
#[test]
fn records_come_out_as_they_were_sealed_however_they_are_cut() {
    fuzz("record", bodies::record::run, 2000);
}

#[cfg(feature = "cluster")]
#[test]
fn answers_of_redis_are_read_or_refused_however_they_are_cut() {
    fuzz("resp", bodies::resp::run, 10_000);
}

#[cfg(feature = "cluster")]
#[test]
fn a_follower_tells_what_is_missing_whatever_the_stream_has() {
    fuzz("follower", bodies::follower::run, 10_000);
}

#[test]
fn requests_are_read_or_refused_however_they_are_cut() {
    fuzz("head", bodies::head::run, 2000);
}

#[test]
fn responses_are_read_or_refused_however_they_are_cut() {
    fuzz("response", bodies::response::run, 5000);
}

#[cfg(feature = "client")]
#[test]
fn clients_of_topics_tell_the_same_of_both_forms() {
    fuzz("topics", bodies::topics::run, 20_000);
}

/// Runs a body over the seeds of its target, then over inputs made of them.
fn fuzz(target: &str, body: fn(&[u8]), rounds: u64) {
    let seeds = seeds(target);
    for (name, seed) in &seeds {
        assert!(catch_unwind(|| body(seed)).is_ok(), "seeds/{target}/{name}");
    }
    let first = number("SEED").unwrap_or(1);
    for seed in first..first + number("ROUNDS").unwrap_or(rounds) {
        let input = input(&mut Rng::new(seed), &seeds);
        assert!(catch_unwind(|| body(&input)).is_ok(), "SEED={seed} {}", input.escape_ascii());
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// Reads the seeds of a target, in the order of their names.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bodies/seeds").join(target);
    let entries = fs::read_dir(folder).expect("a folder of seeds").map(|entry| entry.unwrap());
    let mut seeds: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap()))
        .collect();
    seeds.sort();
    assert!(!seeds.is_empty());
    seeds
}

/// Makes an input: random bytes, or a seed with a few changes.
fn input(rng: &mut Rng, seeds: &[(String, Vec<u8>)]) -> Vec<u8> {
    if rng.chance(20) {
        return (0..rng.below(500)).map(|_| rng.next_u64() as u8).collect();
    }
    let below = |rng: &mut Rng, n: usize| rng.below(n as u64) as usize;
    let mut input = seeds[below(rng, seeds.len())].1.clone();
    for _ in 0..1 + rng.below(8) {
        let (from, to) = (below(rng, input.len() + 1), below(rng, input.len() + 1));
        let range = from.min(to)..from.max(to).min(from.min(to) + 40);
        match rng.below(6) {
            0 => drop(input.drain(range)),
            1 => input.insert(from, rng.next_u64() as u8),
            2 => drop(input.splice(from..from, input[range].to_vec())),
            3 => {
                let other = &seeds[below(rng, seeds.len())].1;
                input.truncate(from);
                input.extend(&other[below(rng, other.len())..]);
            }
            _ if from < input.len() && rng.chance(50) => input[from] ^= 1 << rng.below(8),
            _ if from < input.len() => input[from] = [0, 1, 0x7f, 0xff, b'\n'][below(rng, 5)],
            _ => {}
        }
    }
    input
}

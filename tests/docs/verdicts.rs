//! What follows an end is the same for all clients: the browser's has it as data, the library's as
//! code, and the page about the protocol in words.

use tinyjson::JsonValue;

// From the source, since the feature `client` is none of the defaults.
#[path = "../../src/core/client/verdict.rs"]
mod verdict;

use verdict::{Verdict, of_close, of_status};

const SCRIPT: &str = include_str!("../../src/app/heartwheel.js");
const PAGE: &str = include_str!("../../src/guide/protocol.md");

/// Gives the numbers of a list in the script; a pair stands for all between its two.
fn list(name: &str) -> Vec<u16> {
    let (_, rest) = SCRIPT.split_once(&format!("\n  const {name} = ")).expect("it is data");
    let (json, _) = rest.split_once(";\n").expect("it ends");
    let one = |value: &JsonValue| *value.get::<f64>().expect("a number") as u16;
    let json: JsonValue = json.parse().expect("it is JSON");
    let all: &Vec<JsonValue> = json.get().expect("a list");
    let range = |value: &JsonValue| match value.get::<Vec<JsonValue>>() {
        Some(pair) => one(&pair[0])..=one(&pair[1]),
        None => one(value)..=one(value),
    };
    all.iter().flat_map(range).collect()
}

#[test]
fn the_browser_and_the_library_do_the_same_after_an_end() {
    let (stop, renew) = (list("STOP"), list("RENEW"));
    assert!(stop.len() > 500 && !renew.is_empty());
    let of_browser = |code: u16| match (stop.contains(&code), renew.contains(&code)) {
        (true, false) => Verdict::Stop,
        (false, true) => Verdict::Renew,
        (false, false) => Verdict::Retry,
        (true, true) => panic!("{code} stands in both lists"),
    };
    for status in 100..=599 {
        assert_eq!(of_status(status), of_browser(status), "{status}");
    }
    for code in 1000..=4999 {
        assert_eq!(of_close(code), of_browser(code), "{code}");
    }
}

/// The page names each: `405 or 426`, `1002, 1003`, `4500 to 4999`.
#[test]
fn the_page_names_what_ends_for_good() {
    let (_, rest) = PAGE.split_once("It gives up (state `closed`)").expect("it says so");
    let (words, _) = rest.split_once("4500 to 4999.").expect("this is the last");
    let is_digit = |c: char| c.is_ascii_digit();
    let named = words.split(|c| !is_digit(c)).filter_map(|word| word.parse().ok());
    let mut named: Vec<u16> = named.chain(4500..=4999).collect();
    named.sort_unstable();
    let mut listed = [list("STOP"), list("RENEW")].concat();
    listed.sort_unstable();
    assert_eq!(named, listed);
}

#[test]
fn the_script_bears_the_version_of_the_crate() {
    let version = format!("const VERSION = \"js-{}\";", env!("CARGO_PKG_VERSION"));
    assert!(SCRIPT.contains(&version), "{version}");
}

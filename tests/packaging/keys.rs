//! The table of keys in the guide: what the program knows of a key is made from its own table, what
//! else is to be known is written by hand, in the last column.

use std::collections::BTreeMap;
use std::fs;

use heartwheel::config::{Config, Key};

use super::{assert_text, fault_of, keys_of_the_default_program, path};

const PAGE: &str = "src/guide/configuration.md";
const HEAD: &str = "| key | default | must be | means | what to know |\n|---|---|---|---|---|\n";

#[test]
fn the_guide_has_every_key_as_the_program_reads_it() {
    let page = fs::read_to_string(path(PAGE)).expect("it is there");
    let (before, rest) = page.split_once(HEAD).expect("the page has the table");
    let (table, after) = rest.split_once("\n\n").expect("text follows the table");
    let notes: BTreeMap<&str, &str> = table.lines().filter_map(note_of).collect();
    let known = |name: &&&str| keys_of_the_default_program().any(|key| key.name == **name);
    assert_eq!(notes.keys().find(|name| !known(name)), None, "no key has this name");
    let rows: Vec<String> = keys_of_the_default_program().map(|key| row(key, &notes)).collect();
    assert_text(PAGE, &format!("{before}{HEAD}{}\n\n{after}", rows.join("\n")));
}

/// Gives the name of a row's key, and what its last column says.
fn note_of(row: &str) -> Option<(&str, &str)> {
    let name = row.split('`').nth(1)?;
    let (_, note) = row.strip_suffix('|')?.rsplit_once('|')?;
    Some((name, note.trim()))
}

fn row(key: &Key, notes: &BTreeMap<&str, &str>) -> String {
    // What a value must be is said where it is not.
    let error = fault_of(key.name);
    let (_, rule) = error.split_once(": must be ").expect("it names the rule");
    let rule = rule.replace(" (in ms, s, m, h or d)", "").replace(" (in bytes, k, m or g)", "");
    let mark = match () {
        () if key.takes_restart() => " *(restart)*",
        () if key.is_for_routes() => " *(route)*",
        () => "",
    };
    let (name, default) = (key.name, key.value(&Config::default()));
    let note = notes.get(name).unwrap_or(&"");
    let (rule, meaning) = (escaped(&rule), escaped(key.meaning));
    let default = if default.is_empty() { "empty".into() } else { format!("`{default}`") };
    let row = format!("| `{name}` | {default} | {rule} | {meaning}{mark} | {note} |");
    row.replace("|  |", "| |")
}

/// Writes what would be a link or stress in Markdown as plain text.
fn escaped(text: &str) -> String {
    ["[", "]", "*", "_"]
        .iter()
        .fold(text.to_owned(), |text, mark| text.replace(mark, &format!("\\{mark}")))
}

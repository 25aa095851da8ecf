//! The table of figures against what is told: `/metrics`, `$stats` and the operator's page.

use std::collections::BTreeMap;
use std::path::Path;

use heartwheel::core::observe::figures::{FIGURES, Figure};

use super::{admin, scrape, start};

const PAGE: &str = "src/guide/operating.md";

#[test]
fn every_figure_is_told_once_in_the_order_of_the_table() {
    let server = start(&[]);
    let text = scrape(admin(&server));
    let mut names: Vec<&str> = FIGURES.iter().map(|figure| figure.name).collect();
    assert_eq!(text.families.len(), names.len());
    for name in &names {
        assert!(text.families.contains_key(*name), "{name}");
    }
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a name stands twice");
}

/// Members that share an object are neighbours, or the object would be written twice.
#[test]
fn members_of_stats_have_names_of_their_own() {
    let members: Vec<&str> =
        FIGURES.iter().filter_map(|figure| Some(figure.member?.name())).collect();
    let mut seen: Vec<&str> = Vec::new();
    for name in &members {
        let object = name.split_once('.').map_or(*name, |(object, _)| object);
        assert!(!seen.contains(&object) || seen.last() == Some(&object), "{name}");
        seen.push(object);
    }
    let mut sorted = members.clone();
    sorted.sort_unstable();
    sorted.dedup();
    assert_eq!(sorted.len(), members.len(), "a member stands twice");
}

/// The first columns are written from the table (`BLESS=1`), the last one by hand.
#[test]
fn the_operators_page_says_what_the_table_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(PAGE);
    let page = std::fs::read_to_string(&path).expect("it is there");
    let (before, rest) = page.split_once(HEAD).expect("the page has the table");
    let (table, after) = rest.split_once("\n\n").expect("text follows the table");
    let advice: BTreeMap<&str, &str> = table.lines().filter_map(advice_of).collect();
    // The page is of the default features; what more there is stands elsewhere.
    let is_default = |figure: &&Figure| !ELSEWHERE.contains(&figure.name);
    let figures = FIGURES.iter().filter(is_default);
    let rows: Vec<String> = figures.map(|figure| row(figure, &advice)).collect();
    let wanted = format!("{before}{HEAD}{}\n\n{after}", rows.join("\n"));
    if std::env::var_os("BLESS").is_some() {
        return std::fs::write(&path, wanted).expect("it can be written");
    }
    assert_eq!(page, wanted, "BLESS=1 cargo test --test operator figures writes {PAGE}");
}

/// Gives the name of a row's figure, and what its last column says.
fn advice_of(row: &str) -> Option<(&str, &str)> {
    let (_, rest) = row.split_once('`')?;
    let name = rest.split(['`', '{']).next()?;
    let (_, advice) = row.strip_suffix('|')?.rsplit_once('|')?;
    Some((name, advice.trim()))
}

fn row(figure: &Figure, advice: &BTreeMap<&str, &str>) -> String {
    let labels = match figure.labels() {
        [] => String::new(),
        labels => format!("{{{}}}", labels.join(",")),
    };
    let member = figure.member.map_or(String::new(), |member| format!("`{}`", member.name()));
    let advice = advice.get(figure.name).unwrap_or(&"");
    let row = format!("| `{}{labels}` | {} | {member} | {advice} |", figure.name, figure.help);
    row.replace("  ", " ")
}

const ELSEWHERE: [&str; 6] = [
    "heartwheel_presence_members",
    "heartwheel_presence_changes_total",
    "heartwheel_presence_refused_total",
    "heartwheel_token_renewals_total",
    "heartwheel_compressions_total",
    "heartwheel_compressed_bytes_total",
];

const HEAD: &str =
    "| metric | says | in `$stats` | if it is not as it should be |\n|---|---|---|---|\n";

//! The dashboard and the alerts under `examples/monitoring`: they can be read, and what they name
//! is there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tinyjson::JsonValue;

use super::metrics::{pythons, run, tell_loudly};
use super::{admin, scrape, start};

fn example(name: &str) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/monitoring");
    fs::read_to_string(folder.join(name)).expect("it is there")
}

/// Gives what looks like the name of a metric.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("heartwheel_") || word.starts_with("process_")).collect()
}

#[test]
fn every_metric_that_is_named_exists() {
    let server = start(&[]);
    let figures = scrape(admin(&server));
    for file in ["dashboard.json", "alerts.yml"] {
        let text = example(file);
        let names = names(&text);
        println!("{file} names {} metrics", names.len());
        assert!(names.len() >= 10, "{names:?}");
        // Nodes of a cluster are asked for theirs by tests/cluster.
        for name in names.into_iter().filter(|name| !name.starts_with("heartwheel_cluster_")) {
            let is_there = figures.has_sample(name) || figures.families.contains_key(name);
            assert!(is_there, "{file}: there is no {name}");
        }
    }
}

#[test]
fn the_dashboard_is_json_with_panels_that_ask_something() {
    let dashboard: JsonValue = example("dashboard.json").parse().expect("it is JSON");
    let panels: &Vec<JsonValue> = dashboard["panels"].get().expect("it has panels");
    assert!(panels.len() >= 10);
    for panel in panels {
        let title: &String = panel["title"].get().expect("a panel has a title");
        let is_row = panel["type"].get::<String>().is_some_and(|kind| kind == "row");
        if !is_row {
            let targets: &Vec<JsonValue> = panel["targets"].get().expect("a panel asks");
            for target in targets {
                let question: &String = target["expr"].get().expect("a question");
                assert!(
                    question.contains("heartwheel_") || question.contains("process_"),
                    "{title}"
                );
            }
        }
    }
}

/// `promtool` where it is installed judges every expression; the YAML alone is read by Python.
#[test]
fn the_alerts_are_rules() {
    let text = example("alerts.yml");
    for alert in ["p95", "p99"].into_iter().chain(["> 0.8", "> 0.05", "> 0.01"]) {
        assert!(text.contains(alert), "{alert}");
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/monitoring/alerts.yml");
    let path = path.to_str().expect("it is text");
    let mut read = false;
    if let Some((success, said)) = run(Command::new("promtool").args(["check", "rules", path]), "")
    {
        assert!(success, "promtool: {said}");
        read = true;
    }
    let script = "import sys, yaml\n\
        groups = yaml.safe_load(open(sys.argv[1]))['groups']\n\
        for rule in [rule for group in groups for rule in group['rules']]:\n\
        \x20 assert rule['alert'] and rule['expr'] and rule['for'], rule\n\
        \x20 assert rule['labels']['severity'] in ('page', 'ticket'), rule\n\
        \x20 assert rule['annotations']['summary'] and rule['annotations']['what_to_do'], rule\n\
        \x20 print(rule['alert'])\n";
    for python in pythons() {
        let is_there = run(Command::new(&python).args(["-c", "import yaml"]), "");
        if is_there.is_some_and(|(success, _)| success) {
            let (success, said) =
                run(Command::new(&python).args(["-c", script, path]), "").expect("it is there");
            assert!(success && said.lines().count() >= 8, "{said}");
            read = true;
            break;
        }
    }
    if !read {
        tell_loudly("THE ALERTS WERE NOT READ: neither promtool nor Python's yaml is here");
    }
}

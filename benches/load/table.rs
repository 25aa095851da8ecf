//! Tables for a terminal.

use super::figure::{Better, Figure, number};
use super::options::Mode;
use super::record::{Group, Record};

/// Gives a table for each mode that was measured, and what must be known of its rows.
pub fn text(record: &Record) -> String {
    let mut text = format!("{}\n", describe(record));
    let groups = record.groups();
    for mode in Mode::EACH {
        let groups: Vec<&Group> = groups.iter().filter(|group| group.mode == mode).collect();
        if groups.is_empty() {
            continue;
        }
        let (heads, rows) = match mode {
            Mode::Matrix => matrix(record, &groups),
            mode => table(record, mode, &groups),
        };
        text += &format!("\n{}: {}\n", mode.name(), about(mode));
        text += &aligned(&heads, &rows);
        text += &directions(mode, &groups);
        for (note, whose) in notes(&groups) {
            text += &format!("! {note} ({whose})\n");
        }
    }
    text
}

/// Says of which columns lower, or higher, is better.
fn directions(mode: Mode, groups: &[&Group]) -> String {
    let has = |name: &str| groups.iter().any(|group| group.value(name).is_some());
    let line = |better: Better| {
        let figures = columns(mode).iter().filter_map(|name| Figure::named(name));
        let figures = figures.filter(|figure| figure.better == better && has(figure.name));
        let titles: Vec<&str> = figures.map(|figure| figure.title).collect();
        let is_any = !titles.is_empty();
        is_any.then(|| format!("{}: {}\n", better.words(), titles.join(", ")))
    };
    [Better::Lower, Better::Higher].into_iter().filter_map(line).collect()
}

/// Gives what must be known of some rows, each note once, with the rows it is about.
pub fn notes(groups: &[&Group]) -> Vec<(String, String)> {
    let mut notes: Vec<(String, Vec<String>)> = Vec::new();
    for group in groups {
        for note in group.notes() {
            let row = format!("{} {}", group.load, group.server);
            match notes.iter_mut().find(|(other, _)| *other == note) {
                Some((_, rows)) => rows.push(row),
                None => notes.push((note, vec![row])),
            }
        }
    }
    let whose = |rows: Vec<String>| match rows.len() == groups.len() {
        true => "all rows".to_owned(),
        false => rows.join(", "),
    };
    notes.into_iter().map(|(note, rows)| (note, whose(rows))).collect()
}

/// Gives the heads of a table and its rows: the median of the rounds, and for the first figure the
/// spread behind it.
pub fn table(record: &Record, mode: Mode, groups: &[&Group]) -> (Vec<String>, Vec<Vec<String>>) {
    let has = |name: &str| groups.iter().any(|group| group.value(name).is_some());
    let columns: Vec<&Figure> = columns(mode)
        .iter()
        .filter(|name| has(name))
        .map(|name| Figure::named(name).expect("columns are figures"))
        .collect();
    let has_ratios = groups.iter().any(|group| record.ratio(group).is_some());
    let mut heads = vec!["load".to_owned(), "server".to_owned()];
    for figure in &columns {
        heads.push(figure.title.to_owned());
        if figure.name == "cpu_us" && has_ratios {
            heads.push(format!("x {}", record.baseline().unwrap_or_default()));
        }
    }
    let mut last = "";
    let mut rows = Vec::new();
    for group in groups {
        let load = if group.load == last { "" } else { group.load };
        last = group.load;
        let mut row = vec![load.to_owned(), group.server.to_owned()];
        for figure in &columns {
            row.push(cell(group, figure));
            if figure.name == "cpu_us" && has_ratios {
                row.push(match record.ratio(group) {
                    Some(ratio) => spread(ratio.median, ratio.least, ratio.most, 2),
                    None if record.baseline() == Some(group.server) => "1".to_owned(),
                    None => "-".to_owned(),
                });
            }
        }
        rows.push(row);
    }
    (heads, rows)
}

/// Gives the heads and the rows of the matrix: a row for each load, a column for each server, the
/// first in microseconds and the others in multiples of it, with the least and the most of the
/// rounds.
fn matrix(record: &Record, groups: &[&Group]) -> (Vec<String>, Vec<Vec<String>>) {
    let baseline = record.baseline();
    let mut heads = vec!["load".to_owned()];
    let mut rows: Vec<Vec<String>> = Vec::new();
    for group in groups {
        if rows.last().is_none_or(|row| row[0] != group.load) {
            rows.push(vec![group.load.to_owned()]);
        }
        let is_first = rows.len() == 1;
        let cpu = group.spread("cpu_us");
        let cell = match (record.ratio(group), cpu) {
            (Some(ratio), _) => format!("x {}", spread(ratio.median, ratio.least, ratio.most, 2)),
            (None, Some(cpu)) if baseline == Some(group.server) => {
                format!("{} us", spread(cpu.median, cpu.least, cpu.most, 2))
            }
            _ => "-".to_owned(),
        };
        let row = rows.last_mut().expect("it was put there");
        row.push(cell);
        if is_first {
            heads.push(group.server.to_owned());
        }
    }
    (heads, rows)
}

/// Says what a mode's figures are.
pub fn about(mode: Mode) -> &'static str {
    match mode {
        Mode::Echo => {
            "each connection keeps messages under way; 64x125x1 is 64 connections x 125 bytes x a \
             depth of 1, the messages under way on each"
        }
        Mode::Matrix => {
            "CPU time of the server for each echo, in multiples of that of bare bytes; a server \
             with workers runs on all cores, the others on one"
        }
        Mode::Rate => "messages by the clock; latency from when they should have been sent",
        Mode::Idle => "what connections cost that do nothing",
        Mode::Fanout => "one publishes, all receive; latency until the last one has it",
        Mode::Churn => "connect, upgrade, close; latency from connect to the answer",
        Mode::Deadlines => "how much later than its time a deadline was seen to act",
        Mode::Blocking => "latency of the others while some handlers block",
        Mode::All => "",
    }
}

/// Says in a line what machine it was.
pub fn describe(record: &Record) -> String {
    let machine = &record.machine;
    let cores = record.cores.map_or("not pinned".to_owned(), |(server, generator)| {
        format!("server on core {server}, generator on core {generator}")
    });
    format!(
        "{} cores ({}), {} MiB, Linux {}, load average at start {}; {cores}",
        machine.cores, machine.cpu, machine.memory_mib, machine.kernel, machine.load_average
    )
}

fn cell(group: &Group, figure: &Figure) -> String {
    let Some(value) = group.value(figure.name) else { return "-".to_owned() };
    match group.spread(figure.name) {
        Some(all) if figure.name == "cpu_us" && group.runs.len() > 1 => {
            spread(value, all.least, all.most, figure.digits)
        }
        _ => figure.text(value),
    }
}

fn spread(median: f64, least: f64, most: f64, digits: usize) -> String {
    if least == most {
        return number(median, digits);
    }
    format!("{} ({}-{})", number(median, digits), number(least, digits), number(most, digits))
}

fn columns(mode: Mode) -> &'static [&'static str] {
    match mode {
        Mode::Matrix => &["cpu_us"],
        Mode::Echo => &[
            "cpu_us",
            "rate",
            "mib",
            "p50",
            "p99",
            "p999",
            "max",
            "server_cpu",
            "generator_cpu",
            "switches",
            "preempted",
            "others",
            "errors",
        ],
        Mode::Rate => &[
            "cpu_us",
            "rate",
            "p50",
            "p90",
            "p99",
            "p999",
            "max",
            "server_cpu",
            "generator_cpu",
            "switches",
            "behind",
            "others",
            "errors",
        ],
        Mode::Idle => &[
            "count",
            "start_us",
            "start_kib",
            "start_anon_kib",
            "idle_bytes",
            "used_bytes",
            "full_kib",
            "rest_kib",
            "opens",
            "pings",
            "ping_peak",
            "wakes",
            "held_cpu_ms",
            "cpu_us",
            "others",
            "errors",
        ],
        Mode::Fanout => &[
            "cpu_us",
            "rate",
            "p50",
            "p99",
            "max",
            "pair",
            "server_cpu",
            "generator_cpu",
            "others",
            "errors",
        ],
        Mode::Churn => &[
            "cpu_us",
            "rate",
            "p50",
            "p99",
            "max",
            "server_cpu",
            "generator_cpu",
            "switches",
            "others",
            "errors",
        ],
        Mode::Deadlines => {
            &["count", "min", "p50", "p99", "max", "early", "turn_us", "others", "errors"]
        }
        Mode::Blocking => &[
            "p50", "p90", "p99", "p999", "max", "rate", "cpu_us", "switches", "behind", "others",
            "errors",
        ],
        Mode::All => &[],
    }
}

/// Text is on the left of its column, numbers are on the right.
fn aligned(heads: &[String], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| &row[column]).chain([&heads[column]]);
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heads.len()).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(heads).chain(rows.iter().map(Vec::as_slice)) {
        let mut line = String::new();
        for (index, (cell, width)) in row.iter().zip(&widths).enumerate() {
            match index {
                0 | 1 => line += &format!("{cell:<width$}  "),
                _ => line += &format!("{cell:>width$}  "),
            }
        }
        text += line.trim_end();
        text.push('\n');
    }
    text
}

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_on_the_right() {
        let line = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [line(["a", "bcd", "1"]), line(["", "e", "1,000"])];
        let text = aligned(&line(["load", "server", "n"]), &rows);
        assert_eq!(text, "load  server      n\na     bcd         1\n      e       1,000\n");
    }
}

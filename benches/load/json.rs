//! Everything that was measured, as JSON.

use std::fmt::Write;

use super::options::Mode;
use super::record::{Record, Run};
use super::stats::{curve, quantile};

/// Gives one object: the machine, the servers, each run with all figures by name, and for each
/// server and load the medians.
pub fn text(record: &Record) -> String {
    let machine = &record.machine;
    let mut text = String::from("{\n");
    let _ = writeln!(text, "\"heartwheel\": {},", string(env!("CARGO_PKG_VERSION")));
    let _ = writeln!(text, "\"command\": {},", string(&record.command));
    let _ = writeln!(text, "\"began_unix\": {},", record.began);
    let _ = writeln!(
        text,
        "\"machine\": {{\"cpu\": {}, \"cores\": {}, \"memory_mib\": {}, \"kernel\": {}, \
         \"load_average\": {}, \"descriptors\": {}}},",
        string(&machine.cpu),
        machine.cores,
        machine.memory_mib,
        string(&machine.kernel),
        string(&machine.load_average),
        machine.descriptors_max
    );
    let servers = record.servers.iter();
    let servers = servers.map(|(name, about)| format!("{}: {}", string(name), string(about)));
    let _ = writeln!(text, "\"servers\": {{{}}},", servers.collect::<Vec<_>>().join(", "));
    let _ = writeln!(text, "\"medians\": [\n{}\n],", medians(record).join(",\n"));
    let runs: Vec<String> = record.runs.iter().map(run).collect();
    let _ = writeln!(text, "\"runs\": [\n{}\n]\n}}", runs.join(",\n"));
    text
}

fn medians(record: &Record) -> Vec<String> {
    let row = |group: &super::record::Group| {
        let mut row = head(group.mode, group.load, group.server);
        for (figure, _) in group.runs[0].figures() {
            if let Some(value) = group.value(figure.name) {
                let _ = write!(row, ", {}: {}", string(figure.name), number(value));
            }
        }
        if let Some(ratio) = record.ratio(group) {
            let values = [ratio.median, ratio.least, ratio.most].map(number);
            let _ = write!(row, ", \"cpu_ratio\": [{}]", values.join(", "));
        }
        row + "}"
    };
    record.groups().iter().map(row).collect()
}

fn run(run: &Run) -> String {
    let mut text = head(run.mode, &run.load, &run.server);
    let _ = write!(text, ", \"round\": {}", run.round);
    for (figure, value) in run.figures() {
        let _ = write!(text, ", {}: {}", string(figure.name), number(value));
    }
    let errors = &run.errors;
    let _ = write!(
        text,
        ", \"refused\": {}, \"lost\": {}, \"wrong\": {}, \"unanswered\": {}",
        errors.refused, errors.lost, errors.wrong, errors.unanswered
    );
    let notes = run.notes.iter().chain(&errors.first).map(|note| string(note));
    let _ = write!(text, ", \"notes\": [{}]", notes.collect::<Vec<_>>().join(", "));
    if let Some(latency) = &run.latency {
        let points = curve(latency).into_iter();
        let points = points.map(|(at, us)| format!("[{:.6}, {us}]", quantile(at)));
        let _ = write!(text, ", \"percentiles_us\": [{}]", points.collect::<Vec<_>>().join(", "));
    }
    if !run.over_time.is_empty() {
        let counts = run.over_time.iter().map(u64::to_string);
        let _ = write!(text, ", \"over_time\": [{}]", counts.collect::<Vec<_>>().join(", "));
    }
    text + "}"
}

fn head(mode: Mode, load: &str, server: &str) -> String {
    let (mode, load, server) = (string(mode.name()), string(load), string(server));
    format!("{{\"mode\": {mode}, \"load\": {load}, \"server\": {server}")
}

/// JSON has no word for what is no number.
fn number(value: f64) -> String {
    if value.is_finite() { format!("{value}") } else { "null".to_owned() }
}

fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted + "\""
}

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use tinyjson::JsonValue;

    use super::*;

    #[test]
    fn any_text_reads_back() {
        for text in ["", "a\"b\\c", "line\nbreak\u{1}", "größer"] {
            let read: JsonValue = string(text).parse().unwrap();
            assert_eq!(read, JsonValue::String(text.to_owned()));
        }
    }
}

//! The names of what is measured: the same in tables, in JSON and in `--fail-if`.

/// Something that is measured.
#[derive(Debug, PartialEq)]
pub struct Figure {
    pub name: &'static str,
    /// As the head of a column.
    pub title: &'static str,
    pub unit: Unit,
    pub better: Better,
    /// Digits behind the point.
    pub digits: usize,
    /// What it is, for a reader who has not read the code.
    pub meaning: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Count,
    Microseconds,
    Percent,
}

/// Which of two values is the better one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Better {
    Lower,
    Higher,
    /// It says what was measured, or how, and not how well.
    Neither,
}

impl Better {
    /// Says so in words; nothing where neither is better.
    pub fn words(self) -> &'static str {
        match self {
            Better::Lower => "lower is better",
            Better::Higher => "higher is better",
            Better::Neither => "",
        }
    }
}

impl Figure {
    pub fn named(name: &str) -> Option<&'static Figure> {
        FIGURES.iter().find(|figure| figure.name == name)
    }

    /// Writes a value with as many digits as it deserves.
    pub fn text(&self, value: f64) -> String {
        number(value, self.digits)
    }
}

/// Writes a number with thousands set apart.
pub fn number(value: f64, digits: usize) -> String {
    let text = format!("{:.digits$}", value.abs());
    let (whole, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    let mut grouped = String::new();
    for (index, digit) in whole.chars().enumerate() {
        if index > 0 && (whole.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    let is_negative = value < 0.0 && text.chars().any(|c| ('1'..='9').contains(&c));
    format!("{}{grouped}{rest}", if is_negative { "-" } else { "" })
}

const fn figure(
    name: &'static str,
    title: &'static str,
    unit: Unit,
    better: Better,
    digits: usize,
    meaning: &'static str,
) -> Figure {
    Figure { name, title, unit, better, digits, meaning }
}

use Better::{Higher, Lower, Neither};

pub const FIGURES: &[Figure] = &[
    figure("rate", "per s", Unit::Count, Higher, 0, "messages, deliveries or connections a second"),
    figure("mib", "MiB/s", Unit::Count, Higher, 1, "payload in one direction"),
    figure("p50", "p50 us", Unit::Microseconds, Lower, 0, "half took at most this long"),
    figure("p90", "p90 us", Unit::Microseconds, Lower, 0, "nine in ten took at most this long"),
    figure("p99", "p99 us", Unit::Microseconds, Lower, 0, "99 in a hundred took at most this long"),
    figure(
        "p999",
        "p99.9 us",
        Unit::Microseconds,
        Lower,
        0,
        "999 in a thousand took at most this long",
    ),
    figure("max", "max us", Unit::Microseconds, Lower, 0, "the longest"),
    figure("mean", "mean us", Unit::Microseconds, Lower, 0, "on average"),
    figure(
        "min",
        "min us",
        Unit::Microseconds,
        Neither,
        0,
        "the shortest, by the best estimate: see early",
    ),
    figure("count", "count", Unit::Count, Neither, 0, "how many were measured"),
    figure("cpu_us", "cpu us", Unit::Microseconds, Lower, 2, "CPU time of the server for each"),
    figure("server_cpu", "server %", Unit::Percent, Lower, 1, "CPU of the server, of one core"),
    figure("generator_cpu", "generator %", Unit::Percent, Neither, 1, "CPU of ours, of one core"),
    figure("others", "others %", Unit::Percent, Neither, 1, "CPU of neither, of all cores"),
    figure(
        "stolen",
        "stolen %",
        Unit::Percent,
        Neither,
        1,
        "taken by the hypervisor, of all cores",
    ),
    figure(
        "switches",
        "switches",
        Unit::Count,
        Lower,
        3,
        "waits of the server's threads, for each",
    ),
    figure("preempted", "preempted", Unit::Count, Lower, 3, "times they made room, for each"),
    figure(
        "behind",
        "behind us",
        Unit::Microseconds,
        Neither,
        0,
        "p99 of how late the generator sent",
    ),
    figure("start_us", "start us", Unit::Microseconds, Lower, 0, "exec to the first answer"),
    figure("start_kib", "start KiB", Unit::Count, Lower, 0, "resident before the first connection"),
    figure("start_anon_kib", "(anon)", Unit::Count, Lower, 0, "of that, no file's"),
    figure("opens", "opens/s", Unit::Count, Higher, 0, "connections opened a second"),
    figure(
        "idle_bytes",
        "B/idle",
        Unit::Count,
        Lower,
        0,
        "anonymous memory of each idle connection",
    ),
    figure("used_bytes", "B/used", Unit::Count, Lower, 0, "the same after a message each way"),
    figure("full_kib", "full KiB", Unit::Count, Lower, 0, "resident with all connections"),
    figure("rest_kib", "rest KiB", Unit::Count, Lower, 0, "resident when they are gone"),
    figure("pings", "pings", Unit::Count, Neither, 0, "pings that came in the window"),
    figure(
        "ping_peak",
        "peak",
        Unit::Count,
        Lower,
        2,
        "most pings in a thirtieth of it, over the mean",
    ),
    figure("wakes", "wakes/s", Unit::Count, Lower, 2, "waits of all the server's threads a second"),
    figure("held_cpu_ms", "cpu ms", Unit::Count, Lower, 2, "CPU time of the server in the window"),
    figure("readers", "readers", Unit::Count, Neither, 0, "connections that receive"),
    figure("pair", "pair x", Unit::Count, Lower, 2, "CPU of two messages at once over that of one"),
    figure("early", "early", Unit::Count, Lower, 0, "deadlines that acted before their time"),
    figure(
        "turn_us",
        "turn us",
        Unit::Microseconds,
        Lower,
        0,
        "the server's longest turn, at most",
    ),
    figure(
        "errors",
        "errors",
        Unit::Count,
        Lower,
        0,
        "refused, lost, wrong, unanswered; in all rounds",
    ),
];

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn thousands_are_set_apart() {
        for (value, digits, text) in [
            (0.0, 0, "0"),
            (999.4, 0, "999"),
            (1000.0, 0, "1,000"),
            (1_234_567.891, 2, "1,234,567.89"),
            (-1234.5, 1, "-1,234.5"),
            (-0.2, 0, "0"),
        ] {
            assert_eq!(number(value, digits), text);
        }
    }

    #[test]
    fn no_two_figures_have_one_name() {
        for (index, figure) in FIGURES.iter().enumerate() {
            assert_eq!(Figure::named(figure.name), Some(&FIGURES[index]));
        }
    }
}

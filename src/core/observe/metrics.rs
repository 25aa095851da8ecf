//! The Prometheus text format (version 0.0.4): writes families of samples.
//!
//! A small writer of our own: the counters are plain numbers that the loop owns, so nothing is
//! registered, shared or locked, and machines without 64-bit atomics are served too. `figures` has
//! the content, this module the form.

use std::fmt::{Display, Write};

use crate::core::ground::decimal::Decimal;
use crate::core::observe::stats::Histogram;

/// The content type of the text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A text that is written family by family.
///
/// ```
/// use heartwheel::core::observe::metrics::Exposition;
///
/// let mut out = Exposition::default();
/// out.counter("jobs_total", "Jobs done.").labelled(&[("kind", "a\"b")], 7);
/// let text = out.end();
/// let lines: Vec<&str> = text.lines().collect();
/// assert_eq!(lines[0], "# HELP jobs_total Jobs done.");
/// assert_eq!(lines[1], "# TYPE jobs_total counter");
/// assert_eq!(lines[2], r#"jobs_total{kind="a\"b"} 7"#);
/// ```
#[derive(Clone, Debug, Default)]
pub struct Exposition(String);

/// A family of samples: one name, one type, one sentence.
#[derive(Debug)]
pub struct Family<'a> {
    out: &'a mut String,
    name: &'a str,
}

/// The unit in which a histogram was counted. It is written in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Milliseconds.
    Milliseconds,
    /// Microseconds.
    Microseconds,
}

impl Exposition {
    /// Begins a family of numbers that only grow. Its name ends in `_total`.
    pub fn counter<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.begin(name, "counter", help)
    }

    /// Begins a family of numbers that go up and down.
    pub fn gauge<'a>(&'a mut self, name: &'a str, help: &str) -> Family<'a> {
        self.begin(name, "gauge", help)
    }

    /// Writes a histogram in seconds. Its name ends in `_seconds`.
    pub fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram, unit: Unit) {
        let family = self.begin(name, "histogram", help);
        let seconds = |value: u64| match unit {
            Unit::Milliseconds => Decimal::new(value, 3),
            Unit::Microseconds => Decimal::new(value, 6),
        };
        let longest = match unit {
            Unit::Milliseconds => LONGEST_BOUND * 1_000,
            Unit::Microseconds => LONGEST_BOUND * 1_000_000,
        };
        let mut count = 0;
        for (bound, bucket) in Histogram::BOUNDS.iter().zip(histogram.buckets()) {
            count += bucket;
            if *bound <= longest {
                let bound = seconds(*bound);
                line(family.out, format_args!("{name}_bucket{{le=\"{bound}\"}} {count}"));
            }
        }
        let count = histogram.count();
        line(family.out, format_args!("{name}_bucket{{le=\"+Inf\"}} {count}"));
        line(family.out, format_args!("{name}_sum {}", seconds(histogram.sum())));
        line(family.out, format_args!("{name}_count {count}"));
    }

    /// Writes a histogram, counted in milliseconds, for each value of one label.
    pub fn histograms_by(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        histograms: [(&str, &Histogram); 2],
    ) {
        let out = self.begin(name, "histogram", help).out;
        for (value, histogram) in histograms {
            let mut count = 0;
            for (bound, bucket) in Histogram::BOUNDS.iter().zip(histogram.buckets()) {
                count += bucket;
                if *bound <= LONGEST_BOUND * 1_000 {
                    let bound = Decimal::new(*bound, 3);
                    // One call: a later Rust than the one promised keeps arguments for a second.
                    line(
                        out,
                        format_args!("{name}_bucket{{{label}=\"{value}\",le=\"{bound}\"}} {count}"),
                    );
                }
            }
            let (count, sum) = (histogram.count(), Decimal::new(histogram.sum(), 3));
            line(out, format_args!("{name}_bucket{{{label}=\"{value}\",le=\"+Inf\"}} {count}"));
            line(out, format_args!("{name}_sum{{{label}=\"{value}\"}} {sum}"));
            line(out, format_args!("{name}_count{{{label}=\"{value}\"}} {count}"));
        }
    }

    /// Returns the text.
    pub fn end(self) -> String {
        self.0
    }

    fn begin<'a>(&'a mut self, name: &'a str, kind: &str, help: &str) -> Family<'a> {
        let out = &mut self.0;
        let help = help.replace('\\', "\\\\").replace('\n', "\\n");
        line(out, format_args!("# HELP {name} {help}"));
        line(out, format_args!("# TYPE {name} {kind}"));
        Family { out, name }
    }
}

impl Family<'_> {
    /// Writes the one sample of the family.
    pub fn value(self, value: impl Display) {
        line(self.out, format_args!("{} {value}", self.name));
    }

    /// Writes a sample with labels, whose values may be any text.
    pub fn labelled(&mut self, labels: &[(&str, &str)], value: impl Display) -> &mut Self {
        self.out.push_str(self.name);
        for (index, (name, text)) in labels.iter().enumerate() {
            self.out.push(if index == 0 { '{' } else { ',' });
            self.out.push_str(name);
            self.out.push_str("=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.out.push_str("\\\\"),
                    '"' => self.out.push_str("\\\""),
                    '\n' => self.out.push_str("\\n"),
                    other => self.out.push(other),
                }
            }
            self.out.push('"');
        }
        line(self.out, format_args!("}} {value}"));
        self
    }

    /// Writes a sample for each value of one label.
    pub fn by<'l>(&mut self, label: &str, samples: impl IntoIterator<Item = (&'l str, u64)>) {
        for (value, count) in samples {
            self.labelled(&[(label, value)], count);
        }
    }
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(out, "{text}").expect("a String takes all that is written");
}

/// In seconds: nothing measured here takes longer in any sense that matters.
const LONGEST_BOUND: u64 = 100;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_a_line_is_escaped() {
        let mut out = Exposition::default();
        out.gauge("g", "one\\two\nthree \"four\"")
            .labelled(&[("a", "x\\y\"z\n"), ("b", "{ä}")], 1.5);
        let text = "# HELP g one\\\\two\\nthree \"four\"\n# TYPE g gauge\n\
                    g{a=\"x\\\\y\\\"z\\n\",b=\"{ä}\"} 1.5\n";
        assert_eq!(out.end(), text);
    }

    #[test]
    fn a_histogram_adds_up_and_counts_seconds() {
        let mut values = Histogram::default();
        [1, 2, 3, 800, 801, u64::MAX >> 1].into_iter().for_each(|value| values.record(value));
        let mut out = Exposition::default();
        out.histogram("h_seconds", "H.", &values, Unit::Milliseconds);
        let text = out.end();
        for line in [
            "# TYPE h_seconds histogram",
            "h_seconds_bucket{le=\"0.001\"} 1",
            "h_seconds_bucket{le=\"0.002\"} 2",
            "h_seconds_bucket{le=\"0.004\"} 3",
            "h_seconds_bucket{le=\"0.8\"} 4",
            "h_seconds_bucket{le=\"2\"} 5",
            "h_seconds_bucket{le=\"80\"} 5",
            "h_seconds_bucket{le=\"+Inf\"} 6",
            "h_seconds_count 6",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}: {text}");
        }
        assert!(!text.contains("le=\"200\""), "{text}");
        let mut out = Exposition::default();
        out.histogram("h_seconds", "H.", &values, Unit::Microseconds);
        let text = out.end();
        assert!(text.contains("h_seconds_bucket{le=\"0.000001\"} 1\n"), "{text}");
        assert!(text.contains("h_seconds_bucket{le=\"0.0008\"} 4\n"), "{text}");
    }
}

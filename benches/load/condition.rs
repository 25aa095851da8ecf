//! `--fail-if 'p99>800ms'`: what must not be.

use std::fmt;
use std::str::FromStr;

use super::figure::{Figure, Unit};

/// A figure and a bound that it is compared with.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    pub figure: &'static Figure,
    comparison: Comparison,
    /// In the figure's unit.
    bound: f64,
    text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    More,
    MoreOrEqual,
}

impl Condition {
    /// Says whether a value, in the figure's unit, is what must not be.
    pub fn is_met(&self, value: f64) -> bool {
        match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::LessOrEqual => value <= self.bound,
            Comparison::More => value > self.bound,
            Comparison::MoreOrEqual => value >= self.bound,
        }
    }
}

/// `NAME`, one of `<`, `<=`, `>`, `>=`, and a number with or without a unit: `ns`, `us`, `ms`, `s`
/// for times, `k` and `m` for thousands and millions.
impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Condition, String> {
        let wrong = |what: &str| format!("{text}: {what}, as in p99>800ms");
        let at = text.find(['<', '>']).ok_or_else(|| wrong("a comparison is missing"))?;
        let (name, rest) = text.split_at(at);
        let (comparison, rest) = match (rest.starts_with('<'), rest[1..].strip_prefix('=')) {
            (true, None) => (Comparison::Less, &rest[1..]),
            (true, Some(rest)) => (Comparison::LessOrEqual, rest),
            (false, None) => (Comparison::More, &rest[1..]),
            (false, Some(rest)) => (Comparison::MoreOrEqual, rest),
        };
        let figure = Figure::named(name.trim()).ok_or_else(|| wrong("there is no such figure"))?;
        let rest = rest.trim();
        let end = rest.find(|c: char| c.is_ascii_alphabetic() || c == '%').unwrap_or(rest.len());
        let (number, unit) = rest.split_at(end);
        let number: f64 = number.trim().parse().map_err(|_| wrong("a number is missing"))?;
        let factor = match (figure.unit, unit) {
            (_, "") | (Unit::Microseconds, "us") | (Unit::Percent, "%") => 1.0,
            (Unit::Microseconds, "ns") => 1e-3,
            (Unit::Microseconds, "ms") | (Unit::Count, "k") => 1e3,
            (Unit::Microseconds, "s") | (Unit::Count, "m") => 1e6,
            _ => return Err(wrong(&format!("{unit} is no unit of {}", figure.name))),
        };
        let text = text.to_owned();
        Ok(Condition { figure, comparison, bound: number * factor, text })
    }
}

impl fmt::Display for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_compared_in_the_figures_unit() {
        for (text, met, unmet) in [
            ("p99>800ms", 800_001.0, 800_000.0),
            ("p50 >= 1.5 ms", 1500.0, 1499.0),
            ("max<20ns", 0.019, 0.02),
            ("mean>2", 2.1, 2.0),
            ("p999>1s", 1_000_001.0, 1e6),
            ("rate<=10k", 10_000.0, 10_001.0),
            ("errors>0", 1.0, 0.0),
            ("generator_cpu>95%", 96.0, 95.0),
        ] {
            let condition: Condition = text.parse().unwrap();
            assert!(condition.is_met(met) && !condition.is_met(unmet), "{text}");
            assert_eq!(condition.to_string(), text);
        }
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for text in ["", "p99", "p99>", "p99>x", "p98>1ms", ">1", "p99=1ms", "rate>1ms", "p99>1kg"]
        {
            assert!(text.parse::<Condition>().is_err(), "{text}");
        }
    }
}

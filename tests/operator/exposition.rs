//! A strict reader of the Prometheus text format, by the text of its definition: what a lenient one
//! passes over fails here.

use std::collections::BTreeMap;

/// Families and samples, each at most once.
#[derive(Debug, Default)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
}

#[derive(Debug, Default)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// By the name of the sample and its labels, sorted.
    pub samples: BTreeMap<(String, Labels), f64>,
}

type Labels = Vec<(String, String)>;

impl Exposition {
    #[track_caller]
    pub fn read(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut all = Exposition::default();
        let mut name = String::new();
        for line in text.lines() {
            assert!(!line.is_empty() && !line.contains('\r'), "{line:?}");
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (own, help) = rest.split_once(' ').expect("a help has a text");
                let family = Family { help: help.into(), ..Family::default() };
                assert!(all.families.insert(own.into(), family).is_none(), "{own} comes twice");
                name = own.into();
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (own, kind) = rest.split_once(' ').expect("a type has a text");
                assert_eq!(own, name, "a type follows its help");
                let family = all.families.get_mut(own).expect("a help came before");
                assert!(family.kind.is_empty() && family.samples.is_empty());
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{kind}");
                assert_eq!(kind == "counter", own.ends_with("_total"), "{own} is a {kind}");
                family.kind = kind.into();
            } else {
                let (own, labels, value) = sample(line);
                let family = all.families.get_mut(&name).expect("a family came before");
                let suffix = own.strip_prefix(&*name).unwrap_or_else(|| panic!("{own} in {name}"));
                let suffixes: &[&str] = match &*family.kind {
                    "histogram" => &["_bucket", "_sum", "_count"],
                    _ => &[""],
                };
                assert!(suffixes.contains(&suffix), "{own} in {name}");
                let is_new = family.samples.insert((own, labels), value).is_none();
                assert!(is_new, "{line} comes twice");
            }
        }
        all.families.iter().for_each(|(name, family)| family.check(name));
        all
    }

    /// Gives the value of a sample.
    #[track_caller]
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let mut labels: Labels =
            labels.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        labels.sort();
        let family =
            self.families.get(name).or_else(|| self.families.get(name.rsplit_once('_')?.0));
        let family = family.unwrap_or_else(|| panic!("there is no {name}"));
        let value = family.samples.get(&(name.into(), labels.clone()));
        *value.unwrap_or_else(|| panic!("there is no {name} {labels:?}: {family:?}"))
    }

    /// Gives the sum over all labels.
    #[track_caller]
    pub fn sum(&self, name: &str) -> f64 {
        let family = self.families.get(name).unwrap_or_else(|| panic!("there is no {name}"));
        family.samples.values().sum()
    }

    /// Says whether this is the name of a sample that is here.
    pub fn has_sample(&self, name: &str) -> bool {
        self.families.values().any(|family| family.samples.keys().any(|(own, _)| own == name))
    }
}

impl Family {
    #[track_caller]
    fn check(&self, name: &str) {
        assert!(!self.kind.is_empty() && !self.samples.is_empty(), "{name} is empty");
        assert!(!self.help.is_empty() && !self.help.contains("\\ "), "{name}: {}", self.help);
        if self.kind == "counter" {
            assert!(self.samples.values().all(|value| *value >= 0.0), "{name} is negative");
        }
        if self.kind != "histogram" {
            return;
        }
        let count = self.samples[&(format!("{name}_count"), Vec::new())];
        let sum = self.samples[&(format!("{name}_sum"), Vec::new())];
        assert!(sum >= 0.0 && (count > 0.0 || sum == 0.0), "{name}: {sum} of {count}");
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for ((own, labels), value) in &self.samples {
            if own.ends_with("_bucket") {
                let [(le, bound)] = &labels[..] else { panic!("{name} {labels:?}") };
                assert_eq!(le, "le");
                let infinite = bound == "+Inf";
                let bound = if infinite { f64::INFINITY } else { bound.parse().expect("a bound") };
                buckets.push((bound, *value));
            }
        }
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
        assert!(buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1), "{name}: {buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{name}");
    }
}

/// Takes a line apart: `name{label="value",...} number`.
#[track_caller]
fn sample(line: &str) -> (String, Labels, f64) {
    let is_name = |name: &str| {
        name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let end = line.find(['{', ' ']).expect("a value follows");
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").expect("a label has a value");
            assert!(is_name(label), "{line}");
            let mut value = String::new();
            let mut characters = after.char_indices();
            let end = loop {
                match characters.next().expect("a value ends") {
                    (at, '"') => break at,
                    (_, '\\') => value.push(match characters.next().expect("an escape").1 {
                        'n' => '\n',
                        escaped @ ('\\' | '"') => escaped,
                        other => panic!("\\{other} in {line}"),
                    }),
                    (_, other) => value.push(other),
                }
            };
            labels.push((label.into(), value));
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').expect("labels end");
    }
    labels.sort();
    assert!(labels.windows(2).all(|two| two[0].0 != two[1].0), "{line}");
    let number = rest.strip_prefix(' ').expect("one blank before the value");
    (name.into(), labels, number.parse().unwrap_or_else(|_| panic!("{line}")))
}

#[test]
#[should_panic(expected = "comes twice")]
fn the_reader_refuses_a_sample_that_comes_twice() {
    Exposition::read("# HELP a_total A.\n# TYPE a_total counter\na_total 1\na_total 2\n");
}

#[test]
#[should_panic(expected = "h_seconds")]
fn the_reader_refuses_a_histogram_that_does_not_add_up() {
    let buckets = "h_seconds_bucket{le=\"1\"} 2\nh_seconds_bucket{le=\"+Inf\"} 1\n";
    let head = "# HELP h_seconds H.\n# TYPE h_seconds histogram\n";
    Exposition::read(&format!("{head}{buckets}h_seconds_sum 1\nh_seconds_count 1\n"));
}

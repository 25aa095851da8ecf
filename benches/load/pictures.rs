//! Which pictures there are of each mode.

use super::chart::{Bar, Curve, Range, bars, card, columns, curves, escape, legend, ranges};
use super::figure::{Figure, number};
use super::options::Mode;
use super::record::{Group, Record};
use super::stats::curve;

/// Gives the pictures of a mode, as rows of cards.
pub fn pictures(record: &Record, mode: Mode, groups: &[&Group]) -> String {
    let pictures = Pictures { record, groups };
    match mode {
        Mode::Deadlines => pictures.lateness(),
        Mode::Idle => pictures.idle(),
        Mode::Fanout => pictures.of_loads(&[
            ("cpu_us", "CPU µs per delivery"),
            ("rate", "deliveries a second"),
            ("pair", "CPU of two messages at once / of one"),
        ]),
        Mode::Churn => pictures
            .of_loads(&[("cpu_us", "CPU µs per connection"), ("rate", "connections a second")]),
        Mode::Rate => pictures.of_loads(&[("cpu_us", "CPU µs per message")]),
        Mode::Blocking => {
            pictures.of_loads(&[("p50", "p50 of the others, µs"), ("p99", "p99 of the others, µs")])
        }
        _ => pictures.of_loads(&[("cpu_us", "CPU µs per message"), ("rate", "messages a second")]),
    }
}

struct Pictures<'a> {
    record: &'a Record,
    groups: &'a [&'a Group<'a>],
}

impl Pictures<'_> {
    /// Bars of some figures for each load, then curves.
    fn of_loads(&self, figures: &[(&str, &str)]) -> String {
        let mut loads: Vec<&str> = Vec::new();
        for group in self.groups {
            if !loads.contains(&group.load) {
                loads.push(group.load);
            }
        }
        let of = |load: &str| -> Vec<&Group> {
            self.groups.iter().copied().filter(|group| group.load == load).collect()
        };
        const CURVES: &str = "latency by percentile";
        if let [load] = loads[..] {
            let cards = figures.iter().map(|(figure, about)| self.bars(&of(load), figure, about));
            let cards = cards.chain([self.curves(&of(load), CURVES)]);
            return row("", load, &cards.collect::<String>());
        }
        let mut text = String::new();
        for (figure, about) in figures {
            let cards = loads.iter().map(|load| self.bars(&of(load), figure, load));
            text += &row("narrow", about, &cards.collect::<String>());
        }
        let cards = loads.iter().map(|load| self.curves(&of(load), load));
        text + &row("", CURVES, &cards.collect::<String>())
    }

    fn idle(&self) -> String {
        let memory = [
            ("idle_bytes", "bytes of each, before traffic"),
            ("used_bytes", "after a message each way"),
        ];
        let first = self.groups.first().map_or("", |group| group.load);
        let same: Vec<&Group> =
            self.groups.iter().copied().filter(|group| group.load == first).collect();
        let cards = memory.map(|(figure, about)| self.bars(&same, figure, about)).concat();
        let wakes: Vec<Bar> = self.groups.iter().filter_map(|group| self.wakes(group)).collect();
        let title = "waits of the server's threads a second";
        let cards = cards + &card(title, &about("wakes", self.groups), &bars(&wakes), "");
        let mut text = row("narrow", first, &cards);
        let spread = self.groups.iter().filter(|group| !group.runs[0].over_time.is_empty());
        let spread = spread.map(|group| {
            let picture = columns(&group.runs[0].over_time, self.colour(group.server, 0));
            let about = format!("{} {}", escape(group.load), mark(&[group]));
            card(group.server, &about, &picture, "")
        });
        text += &row("", "pings in each thirtieth of the time", &spread.collect::<String>());
        text
    }

    fn wakes(&self, group: &Group) -> Option<Bar> {
        let value = group.value("wakes")?;
        let (_, what) = group.load.split_once(", ")?;
        Some(Bar {
            label: format!("{}, {what}", group.server),
            colour: self.colour(group.server, 0),
            value,
            spread: (value, value),
            text: number(value, 1),
        })
    }

    fn bars(&self, groups: &[&Group], name: &str, title: &str) -> String {
        let figure = Figure::named(name).expect("it is a figure");
        let bar = |(index, group): (usize, &&Group)| {
            let (value, spread) = (group.value(name)?, group.spread(name)?);
            let ratio = self.record.ratio(group).filter(|_| name == "cpu_us");
            let ratio = ratio.map(|ratio| format!(" ({} x)", number(ratio.median, 2)));
            Some(Bar {
                label: group.server.to_owned(),
                colour: self.colour(group.server, index),
                value,
                spread: (spread.least, spread.most),
                text: figure.text(value) + &ratio.unwrap_or_default(),
            })
        };
        let shown: Vec<Bar> = groups.iter().enumerate().filter_map(bar).collect();
        if shown.is_empty() {
            return String::new();
        }
        card(title, &about(name, groups), &bars(&shown), "")
    }

    fn curves(&self, groups: &[&Group], title: &str) -> String {
        let of = |(index, group): (usize, &&Group)| {
            let points = curve(&group.latency()?);
            let colour = self.colour(group.server, index);
            (!points.is_empty()).then(|| Curve { label: group.server.to_owned(), colour, points })
        };
        let shown: Vec<Curve> = groups.iter().enumerate().filter_map(of).collect();
        if shown.is_empty() {
            return String::new();
        }
        let legend = legend(shown.iter().map(|curve| (curve.label.as_str(), curve.colour)));
        card(title, &about("p50", groups), &curves(&shown), &legend)
    }

    /// One picture for each state of the server; the promise is a tick.
    fn lateness(&self) -> String {
        let states = ["alone", "beside echoes"].into_iter().enumerate();
        let cards = states.map(|(index, state)| {
            let is_in = |group: &&&Group| {
                !group.server.ends_with("says") && group.load.ends_with(&format!(", {state}"))
            };
            let groups: Vec<&Group> = self.groups.iter().filter(is_in).copied().collect();
            let range = |group: &&Group| {
                let ms = |name| group.value(name).map(|us| us / 1000.0);
                Some(Range {
                    label: group.load.split(' ').next()?.to_owned(),
                    colour: if group.server == "itself" { 2 } else { 3 * index },
                    middle: ms("p50")?,
                    high: ms("p99")?,
                    most: ms("max")?,
                })
            };
            let rows: Vec<Range> = groups.iter().filter_map(range).collect();
            if rows.is_empty() {
                String::new()
            } else {
                card(state, &about("p99", &groups), &ranges(&rows, TICK_MS), "")
            }
        });
        let text = "ms behind its time, lower is better: \
                    dot p50, bar to p99, stroke max; the dashed line is one tick";
        row("", text, &cards.collect::<String>())
    }

    /// A server has one colour on the whole page; what is no server, the one of its place.
    fn colour(&self, server: &str, index: usize) -> usize {
        let place = self.record.servers.iter().position(|(name, _)| name == server);
        place.unwrap_or(if index < 2 { index } else { index + 1 })
    }
}

/// Says which values are the better ones, and whether the machine was disturbed: as HTML.
fn about(name: &str, groups: &[&Group]) -> String {
    let better = Figure::named(name).map_or("", |figure| figure.better.words());
    format!("{better} {}", mark(groups))
}

/// Marks what was measured while other programs had more of the machine than they may.
fn mark(groups: &[&Group]) -> &'static str {
    if groups.iter().any(|group| group.is_disturbed()) { DISTURBED } else { "" }
}

/// The mark, of a tile and of a picture.
pub const DISTURBED: &str = "<em title='other programs had more than a tenth of the cores'>\
                             disturbed</em>";

fn row(class: &str, title: &str, cards: &str) -> String {
    if cards.is_empty() {
        return String::new();
    }
    format!("<h3>{title}</h3>\n<div class='cards {class}'>\n{cards}</div>\n")
}

/// The default of the setting `tick`.
pub const TICK_MS: f64 = 50.0;

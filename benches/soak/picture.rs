//! Memory and latency over time, where people would rather look.

use std::fmt::Write;

use crate::run::{Record, Second};

/// Gives two lines of bars for a terminal: one bar for each second.
pub fn text(record: &Record) -> String {
    let mut text = String::from("\none bar a second; ^ marks those with abuse\n");
    for (name, unit, value) in SERIES {
        let values: Vec<u64> = record.seconds.iter().map(value).collect();
        let (least, most) = bounds(&values);
        let bar = |value: &u64| {
            let height = (value - least) * (BARS.len() as u64 - 1) / (most - least).max(1);
            BARS[height as usize]
        };
        let bars: String = values.iter().map(bar).collect();
        let _ = writeln!(text, "{name:>11}  {bars}  {least} to {most} {unit}");
    }
    let mark = |second: &Second| if second.with_abuse { '^' } else { ' ' };
    let marks: String = record.seconds.iter().map(mark).collect();
    let _ = write!(text, "{:>11}  {marks}", "abuse");
    text
}

/// Gives a page that stands alone: the same as curves.
pub fn html(record: &Record) -> String {
    let mut page = String::from(HEAD);
    let end = record.seconds.last().map_or(1.0, |second| second.at + 1.0);
    let x = |at: f64| 10.0 + at / end * 980.0;
    for (name, unit, value) in SERIES {
        let values: Vec<u64> = record.seconds.iter().map(value).collect();
        let (least, most) = bounds(&values);
        let y = |value: u64| 140.0 - (value - least) as f64 / (most - least).max(1) as f64 * 120.0;
        let _ =
            write!(page, "<h2>{name}: {least} to {most} {unit}</h2><svg viewBox='0 0 1000 150'>");
        for second in record.seconds.iter().filter(|second| second.with_abuse) {
            let (from, width) = (x(second.at), 980.0 / end);
            let _ = write!(page, "<rect x='{from:.1}' width='{width:.1}' height='150'/>");
        }
        page.push_str("<polyline points='");
        for (second, value) in record.seconds.iter().zip(values) {
            let _ = write!(page, "{:.1},{:.1} ", x(second.at), y(value));
        }
        page.push_str("'/></svg>\n");
    }
    page
}

fn bounds(values: &[u64]) -> (u64, u64) {
    (values.iter().copied().min().unwrap_or(0), values.iter().copied().max().unwrap_or(0))
}

/// A name, a unit, and where to find it.
type Series = (&'static str, &'static str, fn(&Second) -> u64);

const SERIES: [Series; 4] = [
    ("memory", "KiB", |second| second.memory_kib),
    ("p99", "us", |second| second.p99_us),
    ("p50", "us", |second| second.p50_us),
    ("connections", "open", |second| second.connections as u64),
];

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

const HEAD: &str = "<!doctype html><meta charset='utf-8'><title>soak</title><style>\
    body{font:14px sans-serif;max-width:1000px;margin:2em auto}h2{font-size:1em}\
    svg{width:100%;background:#f6f6f6}rect{fill:#fadbd8}\
    polyline{fill:none;stroke:#1a5276;stroke-width:1.5}</style>\
    <h1>heartwheel, soaked</h1><p>Seconds with abusive clients are shaded.</p>\n";

//! Pictures as SVG that stands in a page: bars, curves of percentiles, ranges, columns.
//!
//! Each fits a phone and scales from there. Colours are classes of the page, `c0` to `c9`,
//! so that they suit light and dark.

use std::fmt::Write;

use super::figure::number;
use super::stats::axis;

/// A bar with its label.
pub struct Bar {
    pub label: String,
    pub colour: usize,
    pub value: f64,
    /// The least and the most of several rounds.
    pub spread: (f64, f64),
    /// The value as it is written.
    pub text: String,
}

/// A curve over places of the axis of percentiles.
pub struct Curve {
    pub label: String,
    pub colour: usize,
    /// Places, and microseconds.
    pub points: Vec<(f64, f64)>,
}

/// A row of a picture of ranges, in milliseconds.
pub struct Range {
    pub label: String,
    pub colour: usize,
    pub middle: f64,
    pub high: f64,
    pub most: f64,
}

/// Gives a card with a picture in it; `about` is HTML.
pub fn card(title: &str, about: &str, picture: &str, legend: &str) -> String {
    format!(
        "<figure><figcaption><b>{}</b> {about}</figcaption>{picture}{legend}</figure>\n",
        escape(title)
    )
}

/// Bars from a common beginning, each under its label; a whisker is the spread.
pub fn bars(bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.spread.1.max(bar.value)).fold(0.0, f64::max);
    let x = |value: f64| (BARS_WIDTH - 4.0) * value / if most > 0.0 { most } else { 1.0 };
    let mut svg = open("bars", BARS_WIDTH, BAR_HEIGHT * bars.len() as f64);
    for (index, bar) in bars.iter().enumerate() {
        let y = BAR_HEIGHT * index as f64;
        let (label, text) = (escape(&bar.label), escape(&bar.text));
        let _ = write!(
            svg,
            "<text x='0' y='{:.0}'>{label}</text>\
             <text class='end' x='{BARS_WIDTH}' y='{:.0}'>{text}</text>\
             <rect class='c{}' x='0' y='{:.0}' width='{:.1}' height='9' rx='2'/>",
            y + 12.0,
            y + 12.0,
            colour(bar.colour),
            y + 17.0,
            x(bar.value).max(1.0)
        );
        if bar.spread.0 < bar.spread.1 {
            let (from, to, y) = (x(bar.spread.0), x(bar.spread.1), y + 21.5);
            let _ = write!(
                svg,
                "<path class='whisker' d='M{from:.1} {y:.1}H{to:.1}M{from:.1} {:.1}v6M{to:.1} \
                 {:.1}v6'/>",
                y - 3.0,
                y - 3.0
            );
        }
    }
    svg + "</svg>"
}

/// Latencies over percentiles, both as logarithms: each further nine is as far as the last.
pub fn curves(curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let places = points().map(|(place, _)| *place).fold(1.0, f64::max);
    let least = points().map(|(_, us)| *us).fold(f64::INFINITY, f64::min).clamp(1.0, 1e7);
    let most = points().map(|(_, us)| *us).fold(least * 1.01, f64::max);
    let (bottom, top) = (least.log10().floor(), most.log10().ceil());
    let x = |place: f64| LEFT + (WIDTH - LEFT - 4.0) * place / places;
    let y = |us: f64| {
        let part = (us.max(1.0).log10() - bottom) / (top - bottom).max(1.0);
        PLOT_TOP + PLOT_HEIGHT * (1.0 - part)
    };
    let mut svg = open("plot", WIDTH, PLOT_TOP + PLOT_HEIGHT + 18.0);
    for decade in bottom as i32..=top as i32 {
        let us = 10f64.powi(decade);
        grid_line(&mut svg, y(us), &time(us));
    }
    for (quantile, name) in [(0.5, "50%"), (0.9, "90"), (0.99, "99"), (0.999, "99.9")]
        .into_iter()
        .chain([(0.9999, "99.99"), (0.999_99, "99.999"), (0.999_999, "99.9999")])
        .filter(|(quantile, _)| axis(*quantile) <= places + 0.01)
    {
        let (at, foot) = (x(axis(quantile)), PLOT_TOP + PLOT_HEIGHT);
        let _ = write!(
            svg,
            "<path class='grid' d='M{at:.1} {PLOT_TOP}V{foot}'/><text class='mid' x='{at:.1}' \
             y='{:.0}'>{name}</text>",
            foot + 14.0
        );
    }
    for curve in curves {
        let points = curve.points.iter();
        let points = points.map(|(place, us)| format!("{:.1},{:.1}", x(*place), y(*us)));
        let points = points.collect::<Vec<_>>().join(" ");
        let _ = write!(svg, "<polyline class='c{}' points='{points}'/>", colour(curve.colour));
    }
    svg + "</svg>"
}

/// Ranges on one axis of milliseconds: a dot at the middle, a bar to the 99th percentile, a stroke
/// at the most; and a line where the promise is.
pub fn ranges(rows: &[Range], promise: f64) -> String {
    let most = rows.iter().map(|row| row.most).fold(promise * 1.2, f64::max);
    let x = |ms: f64| RANGE_LEFT + (WIDTH - RANGE_LEFT - 8.0) * ms.max(0.0) / most;
    let height = RANGE_HEIGHT * rows.len() as f64;
    let mut svg = open("plot", WIDTH, height + 20.0);
    let step = nice_step(most / 4.0);
    let mut mark = 0.0;
    while mark <= most {
        let at = x(mark);
        let _ = write!(
            svg,
            "<path class='grid' d='M{at:.1} 0V{height:.0}'/><text class='mid' x='{at:.1}' \
             y='{:.0}'>{}</text>",
            height + 15.0,
            number(mark, 0)
        );
        mark += step;
    }
    let at = x(promise);
    let _ = write!(svg, "<path class='promise' d='M{at:.1} 0V{height:.0}'/>");
    for (index, row) in rows.iter().enumerate() {
        let y = RANGE_HEIGHT * index as f64 + RANGE_HEIGHT / 2.0;
        let (middle, high, end) = (x(row.middle), x(row.high), x(row.most));
        let colour = colour(row.colour);
        let _ = write!(
            svg,
            "<text x='0' y='{:.1}'>{}</text><path class='range c{colour}' d='M{middle:.1} {y:.1}\
             H{high:.1}'/><circle class='c{colour}' cx='{middle:.1}' cy='{y:.1}' r='3.5'/>\
             <path class='most c{colour}' d='M{end:.1} {:.1}v8'/>",
            y + 4.0,
            escape(&row.label),
            y - 4.0
        );
    }
    svg + "</svg>"
}

/// Counts over time, one column each.
pub fn columns(counts: &[u64], colour_index: usize) -> String {
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let width = (WIDTH - LEFT) / counts.len().max(1) as f64;
    let mut svg = open("plot", WIDTH, PLOT_TOP + COLUMN_HEIGHT + 4.0);
    grid_line(&mut svg, PLOT_TOP, &number(most as f64, 0));
    grid_line(&mut svg, PLOT_TOP + COLUMN_HEIGHT, "0");
    for (index, count) in counts.iter().enumerate() {
        let height = COLUMN_HEIGHT * *count as f64 / most as f64;
        let _ = write!(
            svg,
            "<rect class='c{}' x='{:.1}' y='{:.1}' width='{:.1}' height='{height:.1}'/>",
            colour(colour_index),
            LEFT + width * index as f64 + 0.5,
            PLOT_TOP + COLUMN_HEIGHT - height,
            width - 1.0
        );
    }
    svg + "</svg>"
}

/// Names for colours, below a picture.
pub fn legend<'a>(entries: impl Iterator<Item = (&'a str, usize)>) -> String {
    let entry = |(name, index): (&str, usize)| {
        format!("<span><i class='c{}'></i>{}</span>", colour(index), escape(name))
    };
    format!("<p class='legend'>{}</p>", entries.map(entry).collect::<String>())
}

/// Writes microseconds in the unit that makes them short.
pub fn time(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", number(us / 1e6, 0)),
        us if us >= 1e3 => format!("{} ms", number(us / 1e3, 0)),
        us => format!("{} µs", number(us, 0)),
    }
}

pub fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\'', "&#39;")
}

fn open(class: &str, width: f64, height: f64) -> String {
    format!("<svg class='{class}' viewBox='0 0 {width} {height:.0}' role='img'>")
}

fn grid_line(svg: &mut String, y: f64, label: &str) {
    let _ = write!(
        svg,
        "<path class='grid' d='M{LEFT} {y:.1}H{WIDTH}'/><text class='end' x='{:.0}' y='{:.1}'>\
         {label}</text>",
        LEFT - 5.0,
        y + 4.0
    );
}

/// Gives 1, 2 or 5 times a power of ten, at least as large.
fn nice_step(least: f64) -> f64 {
    let power = 10f64.powf(least.max(1e-9).log10().floor());
    let factors = [1.0, 2.0, 5.0, 10.0];
    let factor = factors.into_iter().find(|factor| factor * power >= least * 0.999);
    factor.unwrap_or(10.0) * power
}

fn colour(index: usize) -> usize {
    index % COLOURS
}

const COLOURS: usize = 10;
const WIDTH: f64 = 360.0;
const BARS_WIDTH: f64 = 240.0;
const BAR_HEIGHT: f64 = 34.0;
const LEFT: f64 = 48.0;
const PLOT_TOP: f64 = 10.0;
const PLOT_HEIGHT: f64 = 190.0;
const COLUMN_HEIGHT: f64 = 90.0;
const RANGE_LEFT: f64 = 82.0;
const RANGE_HEIGHT: f64 = 19.0;

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::*;

    #[test]
    fn steps_are_1_2_or_5() {
        for (least, step) in [(0.7, 1.0), (1.0, 1.0), (1.3, 2.0), (3.0, 5.0), (60.0, 100.0)] {
            assert!((nice_step(least) - step).abs() < 1e-9, "{least}");
        }
    }

    #[test]
    fn nothing_that_is_no_number_is_drawn() {
        let bar = Bar {
            label: "<a>".to_owned(),
            colour: 12,
            value: 0.0,
            spread: (0.0, 0.0),
            text: "0".to_owned(),
        };
        let range = Range { label: "b".to_owned(), colour: 0, middle: 0.0, high: 0.0, most: 0.0 };
        let curve = Curve { label: "c".to_owned(), colour: 1, points: Vec::new() };
        let flat = Curve { label: "d".to_owned(), colour: 1, points: vec![(0.0, 10.0)] };
        for svg in [
            bars(&[bar]),
            bars(&[]),
            ranges(&[range], 50.0),
            curves(&[curve]),
            curves(&[flat]),
            columns(&[], 0),
            columns(&[0, 0], 0),
        ] {
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
            assert!(!svg.contains("<a>"));
        }
    }
}

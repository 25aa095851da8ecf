//! A page that stands alone: what was measured as pictures and tables, and how.

use std::fmt::Write;
use std::time::{Duration, UNIX_EPOCH};

use super::chart::{escape, time};
use super::figure::{Better, FIGURES, Figure, number};
use super::options::Mode;
use super::pictures::{DISTURBED, TICK_MS, pictures};
use super::record::{BASELINE, Group, Record};
use super::table::{about, describe, notes, table};

/// Gives the page.
pub fn html(record: &Record) -> String {
    let groups = record.groups();
    let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(record.began));
    let mut page = format!(
        "<!doctype html><html lang='en'><meta charset='utf-8'>\
         <meta name='viewport' content='width=device-width'><title>heartwheel under load</title>\
         <style>{}</style>\n<h1>heartwheel under load</h1>\n<p class='muted'>{}. {}</p>\n",
        include_str!("page.css"),
        escape(&describe(record)),
        date
    );
    page += &tiles(record, &groups);
    for mode in Mode::EACH {
        let groups: Vec<&Group> = groups.iter().filter(|group| group.mode == mode).collect();
        if !groups.is_empty() {
            page += &section(record, mode, &groups);
        }
    }
    page + &method(record)
}

/// A figure that most readers come for.
struct Tile {
    value: String,
    text: String,
    better: Better,
    is_disturbed: bool,
}

impl Tile {
    fn new(value: String, text: impl Into<String>, groups: &[&Group]) -> Tile {
        let is_disturbed = groups.iter().any(|group| group.is_disturbed());
        Tile { value, text: text.into(), better: Better::Lower, is_disturbed }
    }

    fn html(&self) -> String {
        let mark = if self.is_disturbed { DISTURBED } else { "" };
        format!(
            "<div><b>{}</b><span>{}; {}</span>{mark}</div>",
            escape(&self.value),
            escape(&self.text),
            self.better.words()
        )
    }
}

/// The figures that most readers come for.
fn tiles(record: &Record, groups: &[Group]) -> String {
    let find = |mode: Mode, load: &str, name: &str| {
        let is_it = |group: &&Group| {
            (group.mode, group.server) == (mode, "heartwheel") && group.load.contains(load)
        };
        groups.iter().find(is_it).and_then(|group| Some((group, group.value(name)?)))
    };
    let mut tiles = Vec::new();
    if let Some((group, cpu)) = find(Mode::Echo, "", "cpu_us") {
        let load = in_words(group.load);
        let text = format!("CPU per echo, {load}");
        tiles.push(Tile::new(format!("{} µs", number(cpu, 1)), text, &[group]));
        if let Some(ratio) = record.ratio(group) {
            let text = format!("of that, in multiples of bare bytes ({BASELINE})");
            tiles.push(Tile::new(format!("{} ×", number(ratio.median, 2)), text, &[group]));
        }
    }
    if let Some((group, bytes)) = find(Mode::Idle, "", "idle_bytes") {
        let count = number(group.value("count").unwrap_or(0.0), 0);
        let text = format!("memory per idle connection, of {count}");
        tiles.push(Tile::new(format!("{} B", number(bytes, 0)), text, &[group]));
    }
    if let Some((group, wakes)) = find(Mode::Idle, "no pings", "wakes") {
        tiles.push(Tile::new(number(wakes, 1), "wake-ups a second, no ping due", &[group]));
    }
    tiles.extend(lateness_tile(groups));
    let errors: u64 = record.runs.iter().map(|run| run.errors.total()).sum();
    let text = format!("errors in {} runs", record.runs.len());
    tiles.push(Tile::new(errors.to_string(), text, &[]));
    format!("<div class='tiles'>{}</div>\n", tiles.iter().map(Tile::html).collect::<String>())
}

/// The latest of all deadlines, whatever the server did beside them.
fn lateness_tile(groups: &[Group]) -> Option<Tile> {
    let is_kind = |group: &&Group| group.mode == Mode::Deadlines && group.server == "heartwheel";
    let kinds: Vec<&Group> = groups.iter().filter(is_kind).collect();
    let us = kinds.iter().filter_map(|group| group.value("p99")).reduce(f64::max)?;
    let text = format!(
        "a deadline is late at most (p99, worst kind, alone and beside echoes; a tick is \
         {TICK_MS} ms)"
    );
    Some(Tile::new(time(us), text, &kinds))
}

/// Writes out `64x125x1`.
fn in_words(load: &str) -> String {
    match load.split('x').collect::<Vec<_>>()[..] {
        [connections, size, depth] => {
            format!("{connections} connections, {size} bytes, {depth} under way on each ({load})")
        }
        _ => load.to_owned(),
    }
}

fn section(record: &Record, mode: Mode, groups: &[&Group]) -> String {
    let mut text = format!("<h2>{}</h2>\n<p>{}.</p>\n", mode.name(), escape(about(mode)));
    text += &pictures(record, mode, groups);
    let (heads, rows) = table(record, mode, groups);
    let cells = |tag: &str, cells: &[String]| {
        let cell = |cell: &String| format!("<{tag}>{}</{tag}>", escape(cell));
        cells.iter().map(cell).collect::<String>()
    };
    let _ = writeln!(text, "<div class='scroll'><table><tr>{}</tr>", cells("th", &heads));
    for row in &rows {
        let class = if row[0].is_empty() { "" } else { " class='first'" };
        let _ = writeln!(text, "<tr{class}>{}</tr>", cells("td", row));
    }
    text += "</table></div>\n";
    let notes = notes(groups);
    if !notes.is_empty() {
        let note = |(note, whose): &(String, String)| {
            format!("<li>{} <span class='muted'>({})</span></li>", escape(note), escape(whose))
        };
        let _ =
            writeln!(text, "<ul class='notes'>{}</ul>", notes.iter().map(note).collect::<String>());
    }
    text
}

/// How it was measured, and what it does not say.
fn method(record: &Record) -> String {
    let mut text = String::from("<h2>how</h2>\n");
    for paragraph in METHOD {
        let _ = writeln!(text, "<p>{paragraph}</p>");
    }
    let _ = writeln!(text, "<p><code>{}</code></p>\n<dl>", escape(&record.command));
    for (name, description) in &record.servers {
        let _ = writeln!(text, "<dt>{}</dt><dd>{}</dd>", escape(name), escape(description));
    }
    let _ = writeln!(text, "<dt>heartwheel's version</dt><dd>{}</dd>", env!("CARGO_PKG_VERSION"));
    let machine = &record.machine;
    let _ = writeln!(text, "<dt>descriptors, at most</dt><dd>{}</dd>", machine.descriptors_max);
    text += "</dl>\n<h2>what the columns are</h2>\n<dl>\n";
    let is_used =
        |figure: &&Figure| record.runs.iter().any(|run| run.figure(figure.name).is_some());
    for figure in FIGURES.iter().filter(is_used) {
        let _ = writeln!(
            text,
            "<dt>{} <code>{}</code></dt><dd>{}{}</dd>",
            escape(figure.title),
            figure.name,
            escape(figure.meaning),
            match figure.better.words() {
                "" => String::new(),
                words => format!("; {words}"),
            }
        );
    }
    text + "</dl>\n"
}

const METHOD: [&str; 5] = [
    "Servers run one at a time, each started anew for every run, and take turns, every other time \
     in reverse; a value is the median of the rounds, a whisker their least and most.",
    "The generator is one thread on an edge-triggered poller. Messages are encoded before anything \
     is measured, all with one mask; what goes to one connection at a time goes in one write. \
     Answers are understood by their headers and counted by their bytes, and with \
     <code>--verify</code> compared byte by byte. Whatever is refused, lost, wrong or unanswered \
     is counted as an error.",
    "CPU time is the scheduler's count of nanoseconds over all threads of the server, kernel time \
     included, at both edges of the window, after a warm-up. By the clock, a latency runs from \
     when a message should have been sent, so that a server that stands still is charged for what \
     it kept from being sent.",
    "What it does not say: a loopback has no loss and no distance, and part of the work of \
     receiving is done by whoever sends. Messages a second depend on what else the machine does \
     (see <code>others</code>); CPU for each does so less. Compare ratios within one run, not \
     figures of two machines or two days. Latencies of the closed loop are those of a queue of the \
     given depth, not of a service in use.",
    "Kernel memory of a socket is in no column. The peer <code>raw</code> speaks no protocol at \
     all: it is what an echo of bare bytes costs, most of it in the kernel.",
];

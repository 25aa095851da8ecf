//! Figures in words, and whether the promises were kept.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use crate::options::Options;
use crate::run::{Edge, Phase, Record};

/// Prints what was measured.
pub fn print(record: &Record) {
    println!(
        "\nphase    p50 us  p99 us  max us  echoes  conn/s  cpu %: loop workers log  blind p99"
    );
    for phase in &record.phases {
        let seconds = phase.lasted.as_secs_f64();
        let cpu = phase.cpu.map(|used| 100.0 * used.as_secs_f64() / seconds);
        println!(
            "{}  {:>6}  {:>6}  {:>6}  {:>6}  {:>6.0}        {:>4.1} {:>7.1} {:>3.1}  {:>9} {:>6}",
            if phase.with_abuse { "abuse" } else { "calm " },
            phase.latency.value_at_quantile(0.5),
            phase.latency.value_at_quantile(0.99),
            phase.latency.max(),
            phase.latency.len(),
            phase.connections as f64 / seconds,
            cpu[0],
            cpu[1],
            cpu[2],
            phase.blind.value_at_quantile(0.99),
            phase.blind.max(),
        );
    }
    print_ends(record);
    let worst = record.phases.iter().map(|phase| phase.turn_max_us).max().unwrap_or(0);
    println!("\nturns: mean {} us, worst {worst} us", record.figures.turn_mean_us);
    println!("log lines: {}", record.log_lines);
    println!(
        "memory without abusive clients, in KiB: in use, resident (anonymous) after connections"
    );
    for edge in &record.edges {
        let live_kib = edge.live_bytes as f64 / 1024.0;
        let Edge { rss_kib, anonymous_kib, connections, .. } = edge;
        println!("  {live_kib:>8.1} {rss_kib:>6} ({anonymous_kib:>6}) {connections:>8}");
    }
}

fn print_ends(record: &Record) {
    let mut kinds: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for ((kind, outcome), count) in &record.tally.ends {
        kinds.entry(*kind).or_default().push(format!("{outcome:?} {count}"));
    }
    println!("\nhow clients saw their connections end");
    for (kind, ends) in kinds {
        println!("  {:<14} {}", kind.name(), ends.join(", "));
    }
    let closed = record.figures.closed.iter().filter(|(_, count)| **count > 0);
    let closed: Vec<_> = closed.map(|(reason, count)| format!("{reason} {count}")).collect();
    println!("how the server counted them\n  {}", closed.join(", "));
}

/// Prints a verdict for each promise, and says whether all were kept.
pub fn judge(record: &Record, options: &Options) -> bool {
    let mut verdicts = Vec::new();
    if !options.is_steady {
        let mut ratios = ratios(&record.phases);
        let median = median(&mut ratios);
        let listed: Vec<_> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
        let text = format!("p99 with abuse / without: median {median:.2} of {}", listed.join(" "));
        verdicts.push((median <= RATIO_MAX, format!("{text}, at most {RATIO_MAX}")));
    }
    let slope = slope(record);
    let live_at = |edge: Option<&Edge>| edge.map_or(0, |edge| edge.live_bytes as i64);
    let grown = (live_at(record.edges.last()) - live_at(record.edges.first())) / 1024;
    let peak = record.seconds.iter().map(|second| second.connections).max().unwrap_or(0);
    let once = GRAIN_KIB + (peak * PLACE_BYTES / 1024) as i64;
    verdicts.push((
        slope < SLOPE_MAX_KIB || grown <= once,
        format!(
            "memory in use: slope {slope:.2} KiB for 10,000 connections, less than \
             {SLOPE_MAX_KIB}; or grown {grown} KiB in all, at most {once} for {peak} connections \
             at once"
        ),
    ));
    let (start, end) = record.descriptors;
    verdicts.push((start == end, format!("descriptors: {start} at the start, {end} at the end")));
    let tally = &record.tally;
    let is_whole = tally.harmed() == 0 && tally.garbled == 0 && tally.lost == 0;
    verdicts.push((
        is_whole,
        format!(
            "honest clients: {} of {} messages echoed, {} lost, {} garbled, {} connections harmed",
            tally.echoed,
            tally.sent,
            tally.lost,
            tally.garbled,
            tally.harmed()
        ),
    ));
    verdicts.push((
        record.outlived == 0,
        format!(
            "abusive clients: {} outlived their deadlines; left alone, the last was ended after \
             {:.1} s",
            record.outlived,
            record.cleared_after.as_secs_f64()
        ),
    ));
    let figures = &record.figures;
    let open = figures.accepted - figures.closed_total();
    verdicts.push((
        // It is the one that asks.
        open == 1,
        format!(
            "books: {} accepted, {} ended, {open} open",
            figures.accepted,
            figures.closed_total()
        ),
    ));
    println!();
    for (is_kept, text) in &verdicts {
        println!("{} {text}", if *is_kept { "kept  " } else { "BROKEN" });
    }
    verdicts.iter().all(|(is_kept, _)| *is_kept)
}

/// Gives the ratio of each round.
fn ratios(phases: &[Phase]) -> Vec<f64> {
    let p99 = |histogram: &Histogram<u64>| histogram.value_at_quantile(0.99).max(1) as f64;
    let rounds = phases.chunks_exact(2);
    rounds.map(|round| p99(&round[1].latency) / p99(&round[0].latency)).collect()
}

/// Gives the median of the slopes between any two edges (Theil and Sen), in KiB for 10,000
/// connections.
fn slope(record: &Record) -> f64 {
    let mut slopes = Vec::new();
    for (index, from) in record.edges.iter().enumerate() {
        for to in &record.edges[index + 1..] {
            let connections = to.connections.saturating_sub(from.connections);
            if connections > 0 {
                let grown = (to.live_bytes as f64 - from.live_bytes as f64) / 1024.0;
                slopes.push(grown * 10_000.0 / connections as f64);
            }
        }
    }
    median(&mut slopes)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => 0.0,
        count => (values[(count - 1) / 2] + values[count / 2]) / 2.0,
    }
}

const RATIO_MAX: f64 = 2.0;
const SLOPE_MAX_KIB: f64 = 1.0;
/// Logs, queues and caches fill up once: that says nothing about a slope in a short run.
const GRAIN_KIB: i64 = 64;
/// The tables of connections and deadlines keep the places of the most that were open at once, and
/// double when they are full; and a little for queues.
const PLACE_BYTES: usize = 2 * heartwheel::config::IDLE_CONNECTION_BYTES + 32;

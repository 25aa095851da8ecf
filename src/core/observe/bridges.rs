//! What is counted of bridges.

use crate::core::ground::json::Object;
use crate::core::observe::metrics::Exposition;
use crate::core::topics::{ReaderKey, Topics};

/// The figures of one bridge.
#[derive(Clone, Debug)]
pub struct BridgeFigures {
    /// Its name.
    pub name: String,
    /// What it reads by.
    pub reader: ReaderKey,
    /// The far side has greeted.
    pub is_connected: bool,
    /// Events and gaps that the far side has acknowledged.
    pub sent: u64,
    /// Events that came from there and were published here.
    pub received: u64,
    /// Gaps that were told, on either side, and events that could not be sent on.
    pub gaps: u64,
    /// Connections that were lost.
    pub reconnects: u64,
}

type Figure = fn(&BridgeFigures, &Topics) -> u64;

/// Writes the figures of all bridges.
pub fn write(bridges: &[BridgeFigures], topics: &Topics, out: &mut Exposition) {
    let gauges: [(&str, &str, Figure); 2] = [
        (
            "heartwheel_bridge_connected",
            "Whether the bridge has a connection to its far side.",
            |bridge, _| bridge.is_connected.into(),
        ),
        (
            "heartwheel_bridge_lag_events",
            "Events that the far side has not acknowledged, as far as they are retained.",
            |bridge, topics| topics.reader_lag(bridge.reader),
        ),
    ];
    let counters: [(&str, &str, Figure); 4] = [
        (
            "heartwheel_bridge_sent_total",
            "Events and gaps that the far side has acknowledged.",
            |bridge, _| bridge.sent,
        ),
        (
            "heartwheel_bridge_received_total",
            "Events of the far side that were published here.",
            |bridge, _| bridge.received,
        ),
        (
            "heartwheel_bridge_gaps_total",
            "Gaps that the bridge has told, and events that it could not send on.",
            |bridge, _| bridge.gaps,
        ),
        (
            "heartwheel_bridge_reconnects_total",
            "Connections to the far side that were lost.",
            |bridge, _| bridge.reconnects,
        ),
    ];
    for (name, help, figure) in gauges {
        let samples = bridges.iter().map(|bridge| (&*bridge.name, figure(bridge, topics)));
        out.gauge(name, help).by("bridge", samples);
    }
    for (name, help, figure) in counters {
        let samples = bridges.iter().map(|bridge| (&*bridge.name, figure(bridge, topics)));
        out.counter(name, help).by("bridge", samples);
    }
}

/// Returns the member of `$stats`: an object with a member for each bridge.
pub fn object(bridges: &[BridgeFigures], topics: &Topics) -> String {
    let mut object = Object::new();
    for bridge in bridges {
        let inner = Object::new()
            .raw("connected", if bridge.is_connected { "true" } else { "false" })
            .number("lag", topics.reader_lag(bridge.reader))
            .number("gaps", bridge.gaps);
        object = object.raw(&bridge.name, &inner.end());
    }
    object.end()
}

//! What the operator's listener answers: figures that a real parser reads and that balance at any
//! time, the table of connections, and what ends connections by hand.

mod support;

#[path = "operator/access.rs"]
mod access;
#[cfg(feature = "program")]
#[path = "operator/cost.rs"]
mod cost;
#[path = "operator/ending.rs"]
mod ending;
#[path = "operator/exposition.rs"]
mod exposition;
#[path = "operator/figures.rs"]
mod figures;
#[path = "operator/metrics.rs"]
mod metrics;
#[path = "operator/monitoring.rs"]
mod monitoring;
#[path = "operator/table.rs"]
mod table;

use std::net::SocketAddr;

use heartwheel::{Server, app};
use support::server::Running;
use support::topics::{Reply, dechunk, fetch, request};

use exposition::Exposition;

/// Starts a server with the program's routes and an operator's listener.
fn start(pairs: &[(&str, &str)]) -> Running {
    let pairs = [&[("admin_listen", "127.0.0.1:0")], pairs].concat();
    Running::start(&pairs, app::routes(Server::builder()))
}

fn admin(server: &Running) -> SocketAddr {
    server.admin.expect("there is an operator's listener")
}

/// Reads the figures, strictly.
#[track_caller]
fn scrape(admin: SocketAddr) -> Exposition {
    Exposition::read(fetch(admin, "/metrics").text())
}

fn post(admin: SocketAddr, target: &str) -> Reply {
    request(admin, &format!("POST {target}"), "", b"")
}

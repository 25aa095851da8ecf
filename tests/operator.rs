//! What the operator's listener answers: figures that a real parser reads and that balance at any
//! time, the table of connections, and what ends connections by hand.

mod common;

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
#[path = "operator/pages.rs"]
mod pages;
#[path = "operator/table.rs"]
mod table;

use std::net::SocketAddr;

use common::http::Answer;
use common::server::TestServer;
use common::topics::{dechunk, fetch, request};
use heartwheel::{Server, app};

use exposition::Exposition;

/// Starts a server with the program's routes and an operator's listener.
fn start(pairs: &[(&str, &str)]) -> TestServer {
    let pairs = [&[("admin_listen", "127.0.0.1:0")], pairs].concat();
    TestServer::serve(&pairs, app::routes(Server::builder()))
}

fn admin(server: &TestServer) -> SocketAddr {
    server.admin.expect("there is an operator's listener")
}

/// Reads the figures, strictly.
#[track_caller]
fn scrape(admin: SocketAddr) -> Exposition {
    Exposition::read(fetch(admin, "/metrics").text())
}

fn post(admin: SocketAddr, target: &str) -> Answer {
    request(admin, &format!("POST {target}"), "", b"")
}

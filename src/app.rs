//! What the program serves.

use crate::event::Event;
use crate::handle::Peer;
use crate::http::{Request, Response};
use crate::server::{Builder, Route};

/// Adds the program's routes: `/`, `/echo`, `/healthz` and `/readyz`.
pub fn routes(builder: Builder) -> Builder {
    builder.health().websocket("/echo", echo).route(Route::get("/", version).inline())
}

/// Sends every message back.
pub fn echo(peer: &Peer, event: Event) {
    if let Event::Message(message) = event {
        peer.send(message);
    }
}

fn version(_: &Request) -> Response {
    Response::new(200).text(concat!("heartwheel ", env!("CARGO_PKG_VERSION"), "\n"))
}

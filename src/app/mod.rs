//! What the program serves.

use tungstenite::Bytes;

use crate::core::contract::event::Event;
use crate::core::wire::http::{Request, Response};
use crate::server::{Builder, Route};
use crate::threads::peer::Peer;

/// Adds the program's routes: the status page, the browser client, topics, `/ws`, `/events`,
/// `/echo`, `/healthz` and `/readyz`. Where the configuration names a folder, its files are served
/// at `/`, and the status page moves to `/status`. The operator's listener gets the operator's
/// routes and a page of links to them.
pub fn routes(builder: Builder) -> Builder {
    let (builder, status) = with_files(builder);
    builder
        .health()
        .operator()
        .topics("/topics/{topic}")
        .hub("/ws")
        .events("/events")
        .websocket("/echo", echo)
        .route(Route::get(status, status_page).inline().open())
        .route(Route::get("/heartwheel.js", client).inline().open())
        .route(Route::get("/", operators_page).inline().admin())
}

/// Adds the folder's files, if there is a folder. Returns where the status page is, too.
#[cfg(feature = "streams")]
fn with_files(builder: Builder) -> (Builder, &'static str) {
    match builder.folder() {
        Some(folder) => (builder.route(Route::files("/", folder).open()), "/status"),
        None => (builder, "/"),
    }
}

#[cfg(not(feature = "streams"))]
fn with_files(builder: Builder) -> (Builder, &'static str) {
    (builder, "/")
}

/// Sends every message back.
pub fn echo(peer: &Peer, event: Event) {
    if let Event::Message(message) = event {
        peer.send(message);
    }
}

fn status_page(_: &Request) -> Response {
    let page = page("text/html; charset=utf-8", status_text());
    let policy = page.header("Content-Security-Policy", CONTENT_SECURITY_POLICY);
    let policy = policy.and_then(|page| page.header("Referrer-Policy", "no-referrer"));
    policy.expect("these are good header lines")
}

#[cfg(not(feature = "bridge"))]
fn status_text() -> &'static str {
    include_str!("status.html")
}

/// Returns the status page with a line for each bridge, of which `$stats` tells.
#[cfg(feature = "bridge")]
fn status_text() -> String {
    const LAST: &str = "  $(\"more\").replaceChildren(";
    const BRIDGES: &str = "  for (const [name, b] of Object.entries(s.bridges ?? {}))
    more[`bridge ${name}`] = `${b.connected ? \"connected\" : \"not connected\"}, \
        lag ${count(b.lag)}, gaps ${count(b.gaps)}`;\n";
    let text = include_str!("status.html");
    debug_assert_eq!(text.matches(LAST).count(), 1, "the lines go in front of it");
    text.replace(LAST, &format!("{BRIDGES}{LAST}"))
}

/// Returns the operator's page, which shows the address that the browser used.
fn operators_page(request: &Request) -> Response {
    let host = escape(request.host().unwrap_or("HOST"));
    let text = include_str!("operator.html").replace("{host}", &host);
    let page = page("text/html; charset=utf-8", text);
    let policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
        frame-ancestors 'none'";
    page.header("Content-Security-Policy", policy).expect("it is a good header line")
}

fn client(_: &Request) -> Response {
    #[cfg(feature = "cbor")]
    let script = concat!(include_str!("heartwheel.js"), include_str!("cbor.js"));
    #[cfg(not(feature = "cbor"))]
    let script = include_str!("heartwheel.js");
    page("text/javascript; charset=utf-8", script)
}

/// Escapes what a peer sent, to be text in a page.
fn escape(text: &str) -> String {
    text.chars().fold(String::new(), |escaped, character| match character {
        '&' | '<' | '>' | '"' | '\'' => format!("{escaped}&#{};", u32::from(character)),
        _ => escaped + character.encode_utf8(&mut [0; 4]),
    })
}

fn page(content_type: &'static str, text: impl Into<Bytes>) -> Response {
    let response = Response::new(200).bytes(content_type, text);
    response.header("Cache-Control", "no-cache").expect("it is a good header line")
}

/// The page runs its own script and connects to its own server, nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

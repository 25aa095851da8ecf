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
    with_nodes(builder)
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

/// Adds the script that shows the operator the nodes of a cluster.
#[cfg(feature = "cluster")]
fn with_nodes(builder: Builder) -> Builder {
    let script = |_: &_| page("text/javascript; charset=utf-8", include_str!("nodes.js"));
    builder.route(Route::get("/nodes.js", script).inline().admin())
}

#[cfg(not(feature = "cluster"))]
fn with_nodes(builder: Builder) -> Builder {
    builder
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

#[cfg(not(any(feature = "bridge", feature = "cluster", feature = "presence")))]
fn status_text() -> &'static str {
    include_str!("status.html")
}

/// Returns the status page with what the features of this build tell: lines for what `$stats` has
/// of bridges, the cluster and members, and who is on the topics that the page shows.
#[cfg(any(feature = "bridge", feature = "cluster", feature = "presence"))]
fn status_text() -> String {
    let lines: &[&str] = &[
        #[cfg(feature = "cluster")]
        "  if (s.cluster) more.cluster = `${s.cluster.connected ? \"\" : \"Redis is away, \"}\
        ${count(s.cluster.nodes)} nodes, lag ${ms(s.cluster.lag_ms)}, \
        gaps ${count(s.cluster.gaps)}`;\n",
        #[cfg(feature = "presence")]
        "  if (s.presence_members) more[\"members of topics\"] = count(s.presence_members);\n",
        #[cfg(feature = "bridge")]
        "  for (const [name, b] of Object.entries(s.bridges ?? {}))
    more[`bridge ${name}`] = `${b.connected ? \"connected\" : \"not connected\"}, \
        lag ${count(b.lag)}, gaps ${count(b.gaps)}`;\n",
    ];
    let text = include_str!("status.html");
    let text = before(text, "  $(\"more\").replaceChildren(", &lines.concat());
    #[cfg(feature = "presence")]
    let text = before(&text, "</script>\n</body>", include_str!("people.js"));
    text
}

/// Returns the operator's page, which shows the address that the browser used.
fn operators_page(request: &Request) -> Response {
    let host = escape(request.host().unwrap_or("HOST"));
    let text = include_str!("operator.html").replace("{host}", &host);
    #[cfg(feature = "cluster")]
    let text = show_nodes(&text);
    let page = page("text/html; charset=utf-8", text);
    page.header("Content-Security-Policy", OPERATORS_POLICY).expect("it is a good header line")
}

/// Adds the nodes of a cluster to the operator's page.
#[cfg(feature = "cluster")]
fn show_nodes(text: &str) -> String {
    const LINK: &str = "      <dt><a href=\"/nodes\">/nodes</a></dt>\
        <dd>the nodes of the cluster</dd>\n";
    let text = before(text, "</style>", include_str!("nodes.css"));
    let text = before(&text, "      <dt><a href=\"/config\">", LINK);
    let act = "  <section class=\"card\">\n    <h2>Act";
    let text = before(&text, act, include_str!("nodes.html"));
    before(&text, "</body>", "<script src=\"/nodes.js\"></script>\n")
}

/// Puts a part into a page, in front of a place that it has once.
#[cfg(any(feature = "bridge", feature = "cluster", feature = "presence"))]
fn before(page: &str, place: &str, part: &str) -> String {
    debug_assert_eq!(page.matches(place).count(), 1, "{place}");
    page.replace(place, &format!("{part}{place}"))
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

/// The page runs no script and connects to nothing.
#[cfg(not(feature = "cluster"))]
const OPERATORS_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; \
    frame-ancestors 'none'";

/// The page runs the script of its own server that shows the nodes, and asks its own server.
#[cfg(feature = "cluster")]
const OPERATORS_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'unsafe-inline'; \
    img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
    frame-ancestors 'none'; require-trusted-types-for 'script'";

/// The page runs its own script and connects to its own server, nothing else.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self' 'unsafe-inline'; \
    style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; \
    form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'";

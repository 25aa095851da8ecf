//! Pages for people, in the order in which most want to read them. Nothing here is code.
//!
//! | page | for whom |
//! |---|---|
//! | [`start`] | you write your first program with the library: a route, a handler, a topic, and a test that waits for nothing |
//! | [`embedding`] | your program has a main loop of its own, in Rust or in C |
//! | [`configuration`] | you choose limits and deadlines, give out tokens, or set rates |
//! | [`answers`] | you serve files, or your handlers answer over time: streams, event streams of your own |
//! | [`protocol`] | you write a client: the paths of the program, the JSON messages of `/ws`, event streams |
#![cfg_attr(
    feature = "client",
    doc = "| [`client`] | your program connects to a server, and must stay connected |"
)]
#![cfg_attr(
    not(feature = "client"),
    doc = "| `client` | your program connects to a server, and must stay connected |"
)]
//! | [`operating`] | you run a server: figures, ends of connections, signals, packages |
//! | [`proxies`] | nginx, HAProxy, Varnish or Caddy stand in front of it |
//! | [`tls`] | the server itself speaks TLS, or clients show certificates |
//! | [`store`] | events must outlast a restart, or a power cut |
//! | [`cluster`] | topics are shared by several servers |
//! | [`sessions`] | what a handler knows of a client must outlast the connection |
//! | [`bridges`] | topics go on to another server, or come from there |
//! | [`small_machines`] | every kilobyte counts |
//! | [`performance`] | you want to know what it costs, and how to measure that again |
//! | [`promises`] | you want to know what is promised, and which test shows it |
//! | [`architecture`] | you change the code, or ask why it is as it is |

#![expect(clippy::test_attr_in_doctest, reason = "examples/start.rs runs the newcomer's test")]

macro_rules! page {
    ($name:ident, $file:literal) => {
        pub mod $name {
            #![doc = include_str!($file)]
        }
    };
}

page!(start, "start.md");
page!(embedding, "embedding.md");
page!(configuration, "configuration.md");
#[cfg(feature = "streams")]
page!(answers, "answers.md");
page!(protocol, "protocol.md");
#[cfg(feature = "client")]
page!(client, "client.md");
page!(operating, "operating.md");
page!(proxies, "proxies.md");
page!(tls, "tls.md");
page!(store, "store.md");
page!(cluster, "cluster.md");
page!(sessions, "sessions.md");
page!(bridges, "bridges.md");
page!(small_machines, "small_machines.md");
page!(performance, "performance.md");
page!(promises, "promises.md");
page!(architecture, "architecture.md");

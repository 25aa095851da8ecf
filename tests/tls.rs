//! TLS: the record layer against rustls's own, and servers that speak it over real sockets.
#![cfg(feature = "tls")]

mod common;

mod tls {
    pub mod anyone;
    pub mod c;
    pub mod client;
    pub mod crowd;
    pub mod differential;
    pub mod hostile;
    pub mod identity;
    #[cfg(feature = "program")]
    pub mod program;
    pub mod serving;
    pub mod stacks;
}

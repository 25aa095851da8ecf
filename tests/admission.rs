//! Who gets a slot and who gets an answer: the engine with invented addresses, and tokens over real
//! sockets.

mod common;

#[path = "admission/addresses.rs"]
mod addresses;
#[path = "admission/identity.rs"]
mod identity;
#[cfg(feature = "client")]
#[path = "admission/lapses.rs"]
mod lapses;
#[cfg(all(feature = "client", feature = "jwt"))]
#[allow(dead_code)]
#[path = "jwt/maker.rs"]
mod maker;
#[cfg(feature = "client")]
#[path = "admission/real.rs"]
mod real;
#[cfg(feature = "client")]
#[path = "admission/service.rs"]
mod service;
#[cfg(feature = "program")]
#[path = "admission/token_file.rs"]
mod token_file;
#[path = "admission/tokens.rs"]
mod tokens;
#[path = "admission/verdicts.rs"]
mod verdicts;

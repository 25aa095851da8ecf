//! Who gets a slot and who gets an answer: the engine with invented addresses, and tokens over real
//! sockets.

mod support;

#[path = "admission/addresses.rs"]
mod addresses;

//! Tokens that expire: which of them are believed, and what becomes of their connections.

mod common;

#[cfg(feature = "client")]
#[path = "jwt/clients.rs"]
mod clients;
#[path = "jwt/expiry.rs"]
mod expiry;
#[path = "jwt/keys.rs"]
mod keys;
#[path = "jwt/maker.rs"]
mod maker;
#[path = "jwt/others.rs"]
mod others;
#[path = "jwt/renewal.rs"]
mod renewal;
#[path = "jwt/revocation.rs"]
mod revocation;
#[path = "jwt/verify.rs"]
mod verify;

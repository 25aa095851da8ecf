//! Values that all other modules use: time and the wheel, ids, reasons, chance, JSON, numbers and
//! bytes in text.

pub(crate) mod base64;
pub mod bucket;
pub mod cohort;
pub mod crc;
pub mod decimal;
pub mod id;
pub mod identity;
pub mod json;
pub mod random;
pub mod reason;
pub(crate) mod sha256;
pub mod subprotocol;
pub mod time;
pub mod trace;
pub mod wheel;

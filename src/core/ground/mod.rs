//! Values that all other modules use: time and the wheel, ids, reasons, chance, JSON.

pub mod bucket;
pub mod id;
pub mod json;
pub mod random;
pub mod reason;
pub mod time;
pub mod wheel;

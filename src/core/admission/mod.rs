//! Who may do what, and how often.

pub mod rates;
pub mod rights;
pub mod tokens;

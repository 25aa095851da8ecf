//! Who may do what, and how often.

pub mod cohort;
pub mod rates;
pub mod rights;
pub mod tokens;

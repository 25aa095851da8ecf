//! Who may do what, and how often.

pub mod cohort;
pub mod credentials;
#[cfg(feature = "jwt")]
pub(crate) mod grant;
#[cfg(feature = "jwt")]
pub mod jwt;
pub mod rates;
pub mod rights;
pub mod tokens;

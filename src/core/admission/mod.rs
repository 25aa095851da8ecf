//! Who may do what, and how often.

pub mod cohort;
pub mod credentials;
#[cfg(any(feature = "jwt", feature = "client"))]
pub(crate) mod grant;
#[cfg(feature = "jwt")]
pub mod jwt;
#[cfg(any(feature = "presence", feature = "store"))]
pub mod patterns;
#[cfg(feature = "client")]
pub(crate) mod question;
pub mod rates;
pub mod rights;
pub mod tokens;

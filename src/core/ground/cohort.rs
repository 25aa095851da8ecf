//! The two shares of the clients that are compared with each other.

/// A share of the clients: [`Canary`](crate::config::Canary) says which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cohort {
    /// Those of `canary.percent`, with which something new is tried.
    Canary,
    /// All others, and those of which nothing is known to tell them by.
    Stable,
}

impl Cohort {
    /// Returns its label in metrics and in rows of `/connections`.
    pub const fn label(self) -> &'static str {
        match self {
            Cohort::Canary => "canary",
            Cohort::Stable => "stable",
        }
    }
}

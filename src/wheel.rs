//! Hashed timing wheel over slab keys.

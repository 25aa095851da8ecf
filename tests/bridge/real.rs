//! Processes over TCP.

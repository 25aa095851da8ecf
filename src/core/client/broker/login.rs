//! As whom, and how, a broker is spoken to.

use std::time::Duration;

pub use crate::core::config::MqttVersion as Version;

/// What a client of a broker is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// By which the broker knows the session again.
    pub client_id: String,
    /// The user, if the broker asks for one.
    pub user: Option<String>,
    /// The password, if the broker asks for one.
    pub password: Option<Vec<u8>>,
    /// Which version of MQTT is spoken.
    pub version: Version,
    /// 0 or 1: of what is published, and at most of what comes.
    pub qos: u8,
    /// How many publications may wait for the broker's acknowledgement, and how many that have
    /// come for ours.
    pub window: u16,
    /// How long a publication may wait for its acknowledgement.
    pub ack: Duration,
    /// After so long without a packet a PINGREQ is sent.
    pub keep_alive: Duration,
    /// What is subscribed to.
    pub filters: Vec<String>,
    /// The longest packet that is taken.
    pub packet_max: u32,
    /// The name of this machine, which goes with what is published: what comes back with it is an
    /// echo.
    pub node: String,
}

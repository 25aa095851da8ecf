//! How many connections the descriptor limit of this process has room for.

use log::warn;
use rustix::process::{Resource, getrlimit};

use crate::core::config::Config;

/// Lowers a default `limits.connections` until it fits. A value that the user set is not changed.
///
/// # Errors
///
/// The fault, if the user set more than there is room for.
pub(crate) fn fit(config: &mut Config) -> Result<(), String> {
    let limit = getrlimit(Resource::Nofile).current;
    let Some(room) = limit.map(|limit| limit.saturating_sub(RESERVED)) else {
        return Ok(());
    };
    let wanted = config.limits.connections;
    if wanted as u64 <= room {
        return Ok(());
    }
    let is_default = wanted == Config::default().limits.connections;
    if config.is_set("limits.connections") || !is_default {
        return Err(format!(
            "limits.connections = {wanted}: the descriptor limit leaves room for {room} \
             ({RESERVED} are kept in reserve)"
        ));
    }
    let room = usize::try_from(room).unwrap_or(usize::MAX).max(1);
    warn!(
        "limits.connections lowered from={wanted} to={room}: the descriptor limit leaves no more"
    );
    config.limits.connections = room;
    Ok(())
}

/// Descriptors for listeners, the poller, logs, refused connections and the host program.
const RESERVED: u64 = 48;

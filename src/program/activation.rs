//! Listeners that a service manager has bound: `LISTEN_FDS` of sd_listen_fds(3).

use std::env;

use listenfd::ListenFd;

use crate::server::Builder;

/// Serves on the listeners that were passed on, if there are any, instead of the configured ones.
/// The name `admin` (`FileDescriptorName=` of a socket unit) marks the operator's.
///
/// # Errors
///
/// The fault, if a descriptor is not a listening stream socket.
pub(super) fn adopt(mut builder: Builder) -> Result<Builder, String> {
    // Read first: taking the listeners removes these variables from the environment.
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut passed = ListenFd::from_env();
    for index in 0..passed.len() {
        let fault = |error| format!("LISTEN_FDS: descriptor {}: {error}", 3 + index);
        let is_admin = names.get(index) == Some(&"admin");
        #[cfg(feature = "tls")]
        let is_tls = names.get(index) == Some(&"tls");
        builder = match passed.take_tcp_listener(index) {
            #[cfg(feature = "tls")]
            Ok(Some(listener)) if is_tls => builder.adopt_tls(listener),
            Ok(Some(listener)) if is_admin => builder.adopt_admin(listener),
            Ok(Some(listener)) => builder.adopt(listener),
            Ok(None) => builder,
            Err(_) => match passed.take_unix_listener(index).map_err(fault)? {
                #[cfg(feature = "tls")]
                Some(listener) if is_tls => builder.adopt_tls(listener),
                Some(listener) if is_admin => builder.adopt_admin(listener),
                Some(listener) => builder.adopt(listener),
                None => builder,
            },
        };
    }
    Ok(builder)
}

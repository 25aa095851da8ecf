//! Listeners that a service manager has bound: `LISTEN_FDS` of sd_listen_fds(3).

use std::env;

use listenfd::ListenFd;

#[cfg(not(feature = "tls"))]
use crate::core::config::NO_TLS;
use crate::io::bind::Adopted;
use crate::server::Builder;

/// Serves on the listeners that were passed on, if there are any, instead of the configured ones.
/// The name `admin` (`FileDescriptorName=` of a socket unit) marks the operator's; `proxy`, `tls`
/// and `proxy+tls` say what is spoken there.
///
/// # Errors
///
/// The fault, if a descriptor is not a listening stream socket, or this build has no TLS and a name
/// asks for it.
pub(super) fn adopt(mut builder: Builder) -> Result<Builder, String> {
    // Read first: taking the listeners removes these variables from the environment.
    let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').collect();
    let mut passed = ListenFd::from_env();
    for index in 0..passed.len() {
        let fault = |error| format!("LISTEN_FDS: descriptor {}: {error}", 3 + index);
        let listener: Option<Adopted> = match passed.take_tcp_listener(index) {
            Ok(listener) => listener.map(Adopted::from),
            Err(_) => passed.take_unix_listener(index).map_err(fault)?.map(Adopted::from),
        };
        let Some(listener) = listener else { continue };
        builder = match names.get(index) {
            Some(&"admin") => builder.adopt_admin(listener),
            Some(&"proxy") => builder.adopt_proxy(listener),
            #[cfg(feature = "tls")]
            Some(&"tls") => builder.adopt_tls(listener),
            #[cfg(feature = "tls")]
            Some(&"proxy+tls") => builder.adopt_proxy_tls(listener),
            #[cfg(not(feature = "tls"))]
            Some(name @ (&"tls" | &"proxy+tls")) => {
                return Err(format!("LISTEN_FDNAMES: {name}: {NO_TLS}"));
            }
            _ => builder.adopt(listener),
        };
    }
    Ok(builder)
}

//! Files of TLS that change while the program serves: looked at once a minute, by a thread that
//! there is only where a certificate is named.

use std::sync::{Arc, Mutex};
use std::time::Duration;
use std::{io, thread};

use log::{error, info};

use super::signals::Load;
use crate::core::config::Config;
use crate::system::tls::file_times;
use crate::threads::handle::Handle;

/// Starts the thread. Returns what reads the configuration from now on: the thread follows it, so
/// that it watches the files that a reload names.
pub(super) fn watch(config: &Config, handle: Handle, load: Box<Load>) -> io::Result<Box<Load>> {
    if config.tls.certificate.is_none() && config.tls.sni.is_none() {
        return Ok(load);
    }
    let named = Arc::new(Mutex::new(config.clone()));
    let followed = named.clone();
    let look = move || {
        let config = || followed.lock().expect("nobody panics with it").clone();
        let mut seen = file_times(&config());
        loop {
            thread::park_timeout(INTERVAL);
            let config = config();
            let times = file_times(&config);
            if times == seen {
                continue;
            }
            match handle.reload_tls(&config) {
                Ok(()) => info!("reloaded the files of tls, of which one has changed"),
                Err(faults) => {
                    faults.iter().for_each(|fault| error!("reload refused: {fault}"));
                }
            }
            // A file at fault is told once, and tried again when it has changed again.
            seen = times;
        }
    };
    thread::Builder::new().name("heartwheel-tls".into()).stack_size(STACK_BYTES).spawn(look)?;
    Ok(Box::new(move || {
        let loaded = load()?;
        *named.lock().expect("nobody panics with it") = loaded.config.clone();
        Ok(loaded)
    }))
}

const INTERVAL: Duration = Duration::from_secs(60);
/// Certificates are read on it.
const STACK_BYTES: usize = 256 << 10;

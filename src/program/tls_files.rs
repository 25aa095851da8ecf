//! Files of TLS that change while the program serves: looked at once a minute, by a thread that
//! there is only where a certificate is named.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};
use std::{io, thread};

use log::{error, info};

use super::signals::Load;
use crate::core::config::Config;
use crate::system::spawn::spawn;
use crate::system::tls::file_times;
use crate::threads::handle::Handle;

/// Starts the thread. Returns what reads the configuration from now on: the thread follows it, so
/// that it watches the files that a reload names.
pub(super) fn watch(config: &Config, handle: Handle, load: Box<Load>) -> io::Result<Box<Load>> {
    if config.tls.certificate.is_none() && config.tls.sni.is_none() {
        return Ok(load);
    }
    let named = Arc::new(Mutex::new(config.clone()));
    let mut watch = Watch::new(named.clone());
    let look = move || {
        loop {
            thread::park_timeout(INTERVAL);
            watch.look(|config| handle.reload_tls(config));
        }
    };
    spawn("heartwheel-tls".into(), Some(STACK_BYTES), Box::new(look))?;
    Ok(Box::new(move || {
        let loaded = load()?;
        *named.lock().expect("nobody panics with it") = loaded.config.clone();
        Ok(loaded)
    }))
}

/// The files that the configuration in use names, and when they were changed last.
struct Watch {
    named: Arc<Mutex<Config>>,
    seen: Vec<Option<SystemTime>>,
}

impl Watch {
    fn new(named: Arc<Mutex<Config>>) -> Watch {
        let seen = file_times(&named.lock().expect("nobody panics with it"));
        Watch { named, seen }
    }

    /// Reloads if one of the files has changed. A file at fault is told once, and tried again when
    /// it has changed again.
    fn look(&mut self, reload: impl FnOnce(&Config) -> Result<(), Vec<String>>) {
        let config = self.named.lock().expect("nobody panics with it").clone();
        let times = file_times(&config);
        if times == self.seen {
            return;
        }
        self.seen = times;
        match reload(&config) {
            Ok(()) => info!("reloaded the files of tls, of which one has changed"),
            Err(faults) => faults.iter().for_each(|fault| error!("reload refused: {fault}")),
        }
    }
}

const INTERVAL: Duration = Duration::from_secs(60);
/// Certificates are read on it.
const STACK_BYTES: usize = 256 << 10;

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::path::Path;

    use super::*;

    /// Puts a file in the place of another, changed so many seconds after 1970.
    fn put(path: &Path, seconds: u64) {
        let next = path.with_extension("next");
        let file = File::create(&next).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
        fs::rename(next, path).unwrap();
    }

    /// Each look stands for a minute. A reload comes with the next look behind a change, once,
    /// whether it succeeds or not; a folder of names is watched with its files, and the files that
    /// a reload of the configuration names in the place of others.
    #[test]
    fn a_file_that_has_changed_is_loaded_with_the_next_look_and_once() {
        let folder = std::env::temp_dir().join(format!("heartwheel-watch-{}", std::process::id()));
        let [chain, key, names] = ["chain", "key", "names"].map(|name| folder.join(name));
        fs::create_dir_all(&names).unwrap();
        put(&chain, 1000);
        put(&key, 1000);
        let mut config = Config::default();
        config.tls.certificate = Some(chain.clone());
        config.tls.key = Some(key.clone());
        let named = Arc::new(Mutex::new(config));
        let mut watch = Watch::new(named.clone());
        let mut reloads = |answer: Result<(), Vec<String>>| {
            let mut count = 0;
            for _ in 0..3 {
                watch.look(|_| {
                    count += 1;
                    answer.clone()
                });
            }
            count
        };
        let fault = || Err(vec!["tls.key: does not fit".into()]);
        assert_eq!(reloads(Ok(())), 0, "nothing has changed");
        // A client of ACME was seen between its two renames.
        put(&chain, 2000);
        assert_eq!(reloads(fault()), 1);
        put(&key, 2000);
        assert_eq!(reloads(Ok(())), 1);
        // An older file is another file, too.
        put(&key, 1500);
        assert_eq!(reloads(Ok(())), 1);
        fs::remove_file(&key).unwrap();
        assert_eq!(reloads(fault()), 1);
        named.lock().unwrap().tls.sni = Some(names.clone());
        assert_eq!(reloads(Ok(())), 1, "others are named");
        put(&names.join("example.org.crt"), 1000);
        assert_eq!(reloads(Ok(())), 1);
        put(&names.join("example.org.crt"), 3000);
        assert_eq!(reloads(Ok(())), 1);
        fs::remove_dir_all(folder).unwrap();
    }
}

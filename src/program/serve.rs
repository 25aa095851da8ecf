//! `heartwheel serve`: the server between its first log line and its exit status.

use std::process::ExitCode;
use std::time::Instant;

use log::{error, info, warn};
use rustix::process::{Resource, getrlimit, setrlimit};

use super::at_rest::Rest;
use super::load::Loaded;
use super::notify::Notify;
use super::signals::{self, Load, Watcher};
#[cfg(feature = "tls")]
use super::tls_files;
use super::{REFUSED, activation, at_rest, complain, log_queue, watch};
use crate::core::config::Config;
use crate::server::{Builder, Ended, Error, Server};

/// Serves until SIGTERM or SIGINT. `load` reads the configuration again.
pub(super) fn serve(
    config: Config,
    load: impl Fn() -> Result<Loaded, Vec<String>> + Send + 'static,
    routes: impl FnOnce(Builder) -> Builder,
) -> ExitCode {
    let ended = begin(config, Box::new(load), routes).and_then(|server| {
        let mut rest = Rest::default();
        // What it took to begin is free.
        at_rest::give_back();
        server.run_with(|stats| rest.look(Instant::now, stats, at_rest::give_back))
    });
    let status = match ended {
        Ok(Ended::Drained) => {
            info!("exit status=0");
            ExitCode::SUCCESS
        }
        Ok(Ended::ShutDown) => {
            warn!("exit status=1: told to end at once");
            ExitCode::FAILURE
        }
        Err(fault @ Error::Config { .. }) => {
            complain(fault);
            ExitCode::from(REFUSED)
        }
        Err(fault) => {
            error!("exit status=1: {fault}");
            ExitCode::FAILURE
        }
    };
    log::logger().flush();
    status
}

/// Builds the server, and starts what the program has beside it. What is built takes tens of
/// kilobytes of stack on its way to the heap: the loop uses these pages afterwards.
#[inline(never)]
fn begin(
    config: Config,
    load: Box<Load>,
    routes: impl FnOnce(Builder) -> Builder,
) -> Result<Server, Error> {
    let log_lines_dropped = log_queue::install(config.log);
    // Deadlines act up to a tick late.
    let drain = config.deadlines.drain + config.tick;
    raise_descriptor_limit();
    #[cfg(feature = "tls")]
    let config_of_tls = config.clone();
    let (workers, watched) = (config.workers, config.watch.clone());
    let notify = Notify::from_environment();
    let builder = Server::builder().config(config).log_lines_dropped(log_lines_dropped);
    let builder = activation::adopt(builder).map_err(|text| Error::Config { text })?;
    let signals = signals::keep();
    let server = routes(builder).build()?;
    let handle = server.handle();
    notify.feed_watchdog(handle.clone(), workers)?;
    watch::start(watched, handle.clone())?;
    #[cfg(feature = "tls")]
    let load = tls_files::watch(&config_of_tls, handle.clone(), load)?;
    Watcher { handle, notify: notify.clone(), load, drain }.start(signals?)?;
    notify.ready();
    Ok(server)
}

/// Each connection takes a descriptor: raises the limit of the process to the maximum allowed.
fn raise_descriptor_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            warn!("the descriptor limit could not be raised: {error}");
        }
    }
}

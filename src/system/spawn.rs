//! Starting threads.

use std::io;
use std::thread::{Builder, JoinHandle};

/// Starts a thread, with a stack of so many bytes or the usual one.
///
/// It takes a box: starting one is some code, which otherwise each kind of closure would have for
/// itself.
///
/// # Errors
///
/// If the system has none.
pub(crate) fn spawn(
    name: String,
    stack_bytes: Option<usize>,
    run: Box<dyn FnOnce() + Send>,
) -> io::Result<JoinHandle<()>> {
    let builder = Builder::new().name(name);
    match stack_bytes {
        Some(bytes) => builder.stack_size(bytes),
        None => builder,
    }
    .spawn(run)
}

//! How late this machine is by itself. A thread that does nothing but sleep sees when the machine,
//! which others share, lets everybody wait; a deadline is not blamed for that.

use std::sync::{Mutex, Once, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Gives by how much the machine let a sleeper oversleep at the worst, in the last ten seconds.
pub fn worst() -> Duration {
    watch();
    let stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
    let is_recent = |(at, _): &&(Instant, Duration)| at.elapsed() < KEPT_FOR;
    stalls.iter().filter(is_recent).map(|(_, late)| *late).max().unwrap_or_default()
}

/// Begins to watch. To be called before what is measured.
pub fn watch() {
    BEGUN.call_once(|| {
        thread::spawn(|| {
            loop {
                let began = Instant::now();
                thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP);
                if late > NAP {
                    let mut stalls = STALLS.lock().unwrap_or_else(PoisonError::into_inner);
                    stalls.retain(|(at, _)| at.elapsed() < KEPT_FOR);
                    stalls.push((Instant::now(), late));
                }
            }
        });
    });
}

static BEGUN: Once = Once::new();
static STALLS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());
const NAP: Duration = Duration::from_millis(10);
const KEPT_FOR: Duration = Duration::from_secs(10);

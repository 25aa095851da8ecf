//! How late this machine is by itself. A thread that does nothing but sleep sees when the machine,
//! which others share, lets everybody wait; a deadline is not blamed for that.

use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::timing::lock;

/// Gives by how much the machine let a sleeper oversleep at the worst, in the last ten seconds.
pub fn worst() -> Duration {
    watch();
    let stalls = lock(&STALLS);
    let recent = stalls.iter().filter(|(at, _)| at.elapsed() < RECENT);
    recent.map(|(_, late)| *late).max().unwrap_or_default()
}

/// Gives for how long nobody could run since `began`: a shared machine may stand still for a second
/// or two, and no server can act then.
pub fn stalled_since(began: Instant) -> Duration {
    // The thread that watches woke from the same stall, and may not have noted it yet.
    thread::sleep(2 * NAP);
    let stalls = lock(&STALLS);
    let since = stalls.iter().filter(|(at, late)| *at >= began && *late >= STALL_MIN);
    since.map(|(_, late)| *late).sum()
}

/// Begins to watch, once for all tests of a process. To be called before what is measured.
pub fn watch() {
    static WATCHING: OnceLock<()> = OnceLock::new();
    WATCHING.get_or_init(|| {
        let (sender, watches) = mpsc::channel();
        thread::spawn(move || {
            let _ = sender.send(());
            loop {
                let began = Instant::now();
                thread::sleep(NAP);
                let late = began.elapsed().saturating_sub(NAP);
                if late >= STALL_MIN {
                    println!("the machine stood still for {late:?}");
                }
                if late > LATE_MIN {
                    let mut stalls = lock(&STALLS);
                    stalls.retain(|(at, late)| *late >= STALL_MIN || at.elapsed() < RECENT);
                    stalls.push((Instant::now(), late));
                }
            }
        });
        // From here on it misses nothing.
        watches.recv().expect("the watching thread runs");
    });
}

/// When the thread woke too late, and by how much.
static STALLS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());
const NAP: Duration = Duration::from_millis(5);
/// A nap that is longer by less is not noted.
const LATE_MIN: Duration = Duration::from_millis(10);
/// A stall that is shorter is allowed for already: `timing::EPS` is for a busy machine.
const STALL_MIN: Duration = Duration::from_millis(100);
const RECENT: Duration = Duration::from_secs(10);

//! A thread that has nothing to do with any server and notices when the machine lets nobody run: a
//! shared machine may stand still for half a second, and no server can act then.

use std::sync::{Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::server::lock;

/// When it woke too late, and by how much.
static STALLS: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());

/// Begins to watch, once for all tests of a process.
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
                    lock(&STALLS).push((Instant::now(), late));
                }
            }
        });
        // From here on it misses nothing.
        watches.recv().expect("the witness runs");
    });
}

/// Gives for how long nobody could run since `began`.
pub fn stalled_since(began: Instant) -> Duration {
    lock(&STALLS).iter().filter(|(at, _)| *at >= began).map(|(_, late)| *late).sum()
}

const NAP: Duration = Duration::from_millis(5);
/// What is shorter is what the machine's being busy means, and allowed for already.
const STALL_MIN: Duration = Duration::from_millis(100);

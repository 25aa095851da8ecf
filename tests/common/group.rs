//! The program in a control group of its own, which bounds the memory of all that it does.

use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::{fs, process};

use super::program::Program;

/// A control group, which goes with the value.
pub struct Group {
    folder: PathBuf,
    peak: &'static str,
}

impl Group {
    /// Makes one of the second version, or of the first; none if that is not allowed here.
    pub fn new(limit_bytes: u64) -> Option<Group> {
        let versions = [
            ("/sys/fs/cgroup", "memory.max", "memory.peak"),
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
        ];
        versions.into_iter().find_map(|(root, limit, peak)| {
            let nth = GROUPS.fetch_add(1, Ordering::Relaxed);
            let name = format!("heartwheel-{}-{nth}", process::id());
            let folder = PathBuf::from(root).join(name);
            fs::create_dir(&folder).ok()?;
            let group = Group { folder, peak };
            // Only where there is a controller of memory are there such files.
            let is_limited = [limit, peak].iter().all(|file| group.folder.join(file).exists())
                && fs::write(group.folder.join(limit), limit_bytes.to_string()).is_ok();
            is_limited.then_some(group)
        })
    }

    /// Starts the program in it.
    pub fn start(&self, settings: &[(&str, &str)]) -> Program {
        start_behind(&format!("echo $$ > {}/cgroup.procs", self.folder.display()), settings)
    }

    /// Gives the most memory that was ever in use, in bytes, the kernel's part included.
    pub fn peak(&self) -> u64 {
        let text = fs::read_to_string(self.folder.join(self.peak)).expect("the kernel counts");
        text.trim().parse().expect("it is a number")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Who was in it is gone, or it stays.
        let _ = fs::remove_dir(&self.folder);
    }
}

/// Starts the program behind a shell's command, which limits what comes after it.
pub fn start_behind(limit: &str, settings: &[(&str, &str)]) -> Program {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{limit} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_heartwheel")]);
    Program::start_as(shell, &[], settings)
}

/// How many control groups were made: each test has its own.
static GROUPS: AtomicUsize = AtomicUsize::new(0);

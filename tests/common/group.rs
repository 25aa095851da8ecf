//! The program in a control group of its own, which bounds the memory of all that it does.

// Each test takes what it needs.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::Command;
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
            let folder = PathBuf::from(root).join(format!("heartwheel-{}", process::id()));
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
        let enter = format!("echo $$ > {}/cgroup.procs", self.folder.display());
        let mut shell = Command::new("/bin/sh");
        let run = format!("{enter} && exec \"$0\" \"$@\"");
        shell.args(["-c", &run, env!("CARGO_BIN_EXE_heartwheel")]);
        Program::start_as(shell, &[], settings)
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

//! Files of tests.

use std::fs;
use std::path::PathBuf;
use std::process;

/// A file that is gone at the end of the test, and that no other run of it shares.
pub struct TempFile(PathBuf);

impl TempFile {
    pub fn new(name: &str, text: &str) -> TempFile {
        let name = format!("{}-{name}", process::id());
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::write(&path, text).expect("the target directory is writable");
        TempFile(path)
    }

    pub fn path(&self) -> &str {
        self.0.to_str().expect("the target directory is text")
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

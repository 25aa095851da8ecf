//! Libraries in C that are loaded in front of the program's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Compiles one by the linker driver that every build of the tests needs, too. `source` is its path
/// in the crate.
pub fn compile(source: &str) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(source);
    let name = source.with_extension("so");
    let name = name.file_name().expect("it is a file");
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let own = path.with_extension(std::process::id().to_string());
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-Wextra", "-Werror", "-o"]);
    let status = cc.arg(&own).arg(source).arg("-ldl").status().expect("cc can be run");
    assert!(status.success(), "{status}");
    // Another run of the tests may have it loaded just now.
    fs::rename(&own, &path).expect("the folder is ours");
    path
}

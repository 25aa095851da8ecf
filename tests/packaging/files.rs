//! The scripts of the project, whoever runs them.

use std::fs;
use std::path::PathBuf;

use super::{assert_passes, path};

/// Gives every file that a shell reads: by its first line, or by its name.
fn scripts() -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = [".ci", "benches", "examples", "tests"].map(path).to_vec();
    folders.retain(|folder| folder.exists());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            // What others have built or installed is theirs.
            if path.ends_with("target") || path.ends_with("node_modules") || path.is_symlink() {
                continue;
            }
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read(&path).expect("it can be read");
            let first = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
            let first = String::from_utf8_lossy(first).into_owned();
            if first.starts_with("#!") && (first.contains("bash") || first.contains("/sh")) {
                found.push(path);
            }
        }
    }
    assert!(found.contains(&path("tests/autobahn/run")), "{found:?}");
    found
}

#[test]
fn shellcheck_finds_no_fault_in_any_script() {
    for script in scripts() {
        let script = script.display().to_string();
        // Its first line names what OpenWrt's shell reads before it.
        let shell: &[&str] = if script.ends_with(".init") { &["-s", "sh"] } else { &[] };
        assert_passes("shellcheck", &[shell, &[&script]].concat());
    }
}

//! What a package installs: the manual page, the completions and the guide's table of keys come
//! from the program's own tables, and those who read the files, shells and service managers among
//! them, take them as they are.
//!
//! `BLESS=1 cargo test --test packaging` writes what comes from the tables.
#![cfg(feature = "program")]

mod common;

#[path = "packaging/completions.rs"]
mod completions;
#[path = "packaging/files.rs"]
mod files;
#[path = "packaging/keys.rs"]
mod keys;
#[path = "packaging/manual.rs"]
mod manual;
#[path = "packaging/services.rs"]
mod services;
#[path = "packaging/shells.rs"]
mod shells;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use heartwheel::config::{Config, KEYS, Key};
use heartwheel::program::{
    CLIENT_COMMANDS, CLIENT_FLAGS, COMMANDS, CommandWord, FLAGS, Flag, STORE_FLAGS,
};

/// Gives what is said of a value that a key does not take.
fn fault_of(key: &str) -> String {
    let mut config = Config::default();
    // A text may be empty, and has no control characters.
    let fault = config.set(key, "").and_then(|()| config.set(key, "\u{7}"));
    fault.expect_err("nothing is no value").to_string()
}

/// Gives the keys of the program as it is packaged; those of TLS and of clients stand in the pages
/// of these.
fn keys_of_the_default_program() -> impl Iterator<Item = &'static Key> {
    let is_of_feature = |key: &Key| {
        matches!(key.section(), "tls" | "client" | "compression" | "store" | "cluster" | "sessions")
            || key.name == "limits.handshaking"
            || key.name.starts_with("admission.jwt")
            || key.name.starts_with("admission.request")
            || key.name.starts_with("topics.presence")
    };
    KEYS.iter().filter(move |key| !is_of_feature(key))
}

/// Gives the commands of the program, those of builds with the feature `client` behind the others.
fn all_commands() -> impl Iterator<Item = &'static CommandWord> {
    COMMANDS.iter().chain(CLIENT_COMMANDS)
}

/// Gives the options of the program, likewise.
fn all_flags() -> impl Iterator<Item = &'static Flag> {
    FLAGS.iter().chain(STORE_FLAGS).chain(CLIENT_FLAGS)
}

/// Gives the path of a file in the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Asserts that a file has this text, or with `BLESS` gives it this text.
#[track_caller]
fn assert_text(name: &str, text: &str) {
    if env::var_os("BLESS").is_some() {
        fs::write(path(name), text).expect("it can be written");
    }
    let found = fs::read_to_string(path(name)).unwrap_or_default();
    assert!(
        found == text,
        "{name} is not what the tables say: BLESS=1 cargo test --test packaging"
    );
}

/// Runs a tool; one that is not installed is said to be so.
fn run(tool: &str, arguments: &[&str]) -> Option<Output> {
    let output = Command::new(tool).args(arguments).output();
    output.inspect_err(|_| println!("NOT CHECKED: {tool} is not installed")).ok()
}

/// Asserts that a tool finds no fault.
#[track_caller]
fn assert_passes(tool: &str, arguments: &[&str]) {
    let Some(output) = run(tool, arguments) else { return };
    let said =
        [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said[1].is_empty(), "{tool}: {}{}", said[0], said[1]);
}

/// A folder that is gone at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = env::temp_dir().join(format!("heartwheel-{name}-{}", std::process::id()));
        fs::create_dir_all(&path).expect("there is room for a folder");
        Folder(path)
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

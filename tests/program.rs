//! The program as its users run it: what it prints where, and its exit status.
#![cfg(feature = "program")]

use std::env;
use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

#[path = "common/temp_file.rs"]
mod temp_file;

use temp_file::TempFile;

/// What one run left behind.
struct Run {
    status: i32,
    stdout: String,
    stderr: Vec<String>,
}

fn run(arguments: &[&str]) -> Run {
    run_with(arguments, &[])
}

fn run_with(arguments: &[&str], environment: &[(&str, &str)]) -> Run {
    let Output { status, stdout, stderr } = Command::new(env!("CARGO_BIN_EXE_heartwheel"))
        .args(arguments)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the program was built");
    let stderr = String::from_utf8(stderr).expect("stderr is text");
    Run {
        status: status.code().expect("the program was not killed"),
        stdout: String::from_utf8(stdout).expect("stdout is text"),
        stderr: stderr.lines().map(String::from).collect(),
    }
}

#[test]
fn help_and_version_go_to_stdout() {
    let help = run(&["--help"]);
    assert_eq!((help.status, help.stderr.len()), (0, 0));
    for word in [
        "serve",
        "check",
        "print-config",
        "--config",
        "--set",
        "--listen",
        "--admin-listen",
        "--log",
    ] {
        assert!(help.stdout.contains(word), "{word}");
    }
    let version = run(&["--version"]);
    assert_eq!((version.status, version.stderr.len()), (0, 0));
    assert_eq!(version.stdout, concat!("heartwheel ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn check_of_the_defaults_prints_a_table() {
    let check = run(&["check"]);
    assert_eq!((check.status, check.stderr.len()), (0, 0));
    for words in [
        "deadlines.handshake",
        "in all",
        "\nMemory to plan with: ",
        "read timeout          1m",
        "0 to 30s at random",
    ] {
        assert!(check.stdout.contains(words), "{words}\n{}", check.stdout);
    }
    assert!(!check.stdout.contains("Warnings"));
}

#[test]
fn check_names_warnings_on_stdout_and_succeeds() {
    let arguments = ["check", "--set", "heartbeat.max_missed=4"];
    let check = run_with(&arguments, &[("HEARTWHEEL_PORT", "80")]);
    assert_eq!((check.status, check.stderr.len()), (0, 0));
    let (_, warnings) = check.stdout.split_once("\nWarnings\n").expect("there are warnings");
    assert_eq!(warnings.lines().count(), 3, "{warnings}");
}

#[test]
fn a_contradiction_is_one_line_and_status_2_for_every_command() {
    for command in ["check", "print-config", "serve"] {
        let refused = run(&[command, "--set", "deadlines.read_idle=10s", "--set=heartbeat.min=6m"]);
        assert_eq!(refused.status, 2, "{command}");
        let faults: Vec<_> =
            refused.stderr.iter().filter(|line| !line.contains(": warning: ")).collect();
        assert_eq!(faults.len(), 2, "{faults:?}");
        assert!(faults[0].starts_with("heartwheel: deadlines.read_idle = 10s: must be longer"));
        assert!(faults[1].starts_with("heartwheel: heartbeat.min = 6m: must not be longer"));
        assert_eq!(refused.stdout.is_empty(), command != "check");
    }
}

#[test]
fn each_bad_value_is_one_line_and_status_2() {
    let file = TempFile::new("bad.toml", "workers = 2.5\n[deadlines]\nhandshake = '0s'\n");
    for command in ["check", "print-config", "serve"] {
        let arguments = [command, "-c", file.path(), "--set", "ticks=1", "--log", "a\nb"];
        let refused = run_with(&arguments, &[("HEARTWHEEL_LIMITS_HEADERS", "many")]);
        assert_eq!((refused.status, refused.stdout.as_str()), (2, ""));
        let words =
            ["workers = 2.5", "handshake = 0s", "headers = many", "ticks = 1", "log = a\\nb"];
        assert_eq!(refused.stderr.len(), words.len(), "{:?}", refused.stderr);
        for (line, words) in refused.stderr.iter().zip(words) {
            assert!(line.contains(words), "{line}");
        }
    }
}

/// FAULTS 165.
#[test]
fn few_descriptors_lower_the_default_and_refuse_what_was_asked_for() {
    let serve = |setting: &str| {
        let program = env!("CARGO_BIN_EXE_heartwheel");
        let line =
            format!("ulimit -n 200 && exec '{program}' serve --listen 127.0.0.1:0 {setting}");
        let mut shell = Command::new("sh");
        let shell = shell.args(["-c", &line]).env_clear().env("HEARTWHEEL_ADMIN_LISTEN", "off");
        shell.stderr(Stdio::piped()).spawn().expect("there is a shell")
    };
    let mut lowered = serve("");
    let mut lines = BufReader::new(lowered.stderr.take().expect("it is piped")).lines();
    let line = lines.find_map(|line| line.ok().filter(|line| line.contains("lowered")));
    lowered.kill().and_then(|()| lowered.wait()).expect("it runs");
    let line = line.expect("it says so");
    assert!(line.contains("limits.connections lowered from=10000 to=152: "), "{line}");
    let refused = serve("--set limits.connections=153").wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&refused.stderr);
    assert_eq!(refused.status.code(), Some(2), "{said}");
    assert!(
        said.contains("limits.connections = 153: ") && said.contains(" room for 152 "),
        "{said}"
    );
}

#[test]
fn a_bad_command_line_is_one_line_and_status_2() {
    for arguments in [["launch"], ["--port=80"], ["--set=tick"], ["--config=/nowhere/at/all"]] {
        let refused = run(&arguments);
        assert_eq!((refused.status, refused.stdout.as_str()), (2, ""), "{arguments:?}");
        assert_eq!(refused.stderr.len(), 1, "{:?}", refused.stderr);
    }
}

#[cfg(not(feature = "client"))]
#[test]
fn commands_of_the_other_end_name_the_feature_that_is_not_there() {
    for command in ["subscribe", "publish"] {
        let refused = run(&[command, "ws://127.0.0.1:8765", "a"]);
        let line = format!("heartwheel: {command}: this build has no client: feature `client`");
        assert_eq!((refused.status, refused.stderr), (2, vec![line]));
    }
    assert!(!run(&["--help"]).stdout.contains("subscribe"));
}

/// FAULTS 166.
#[test]
fn what_print_config_prints_reads_back_to_the_same() {
    let arguments = ["print-config", "--listen", "unix:/run/h.sock", "--workers", "0"];
    let environment = [("HEARTWHEEL_DEADLINES_PRESET", "strict"), ("HEARTWHEEL_TICK", "60000us")];
    assert_eq!(run_with(&arguments, &environment).status, 2, "microseconds are no unit");
    let first = run_with(&arguments, &environment[..1]);
    assert_eq!((first.status, first.stderr.len()), (0, 0));
    assert!(first.stdout.contains("close_send = \"2s\"\n"));
    let file = TempFile::new("printed.toml", &first.stdout);
    let second = run(&["print-config", "--config", file.path()]);
    assert_eq!((second.status, second.stdout), (0, first.stdout));
}

#[test]
fn the_operators_address_has_an_option_of_its_own() {
    for (arguments, line) in [
        (&["--admin-listen", "off"][..], "admin_listen = \"off\"\n"),
        (
            &["--admin-listen", "127.0.0.1:1", "--admin-listen=unix:/run/a.sock"],
            "admin_listen = [\"127.0.0.1:1\", \"unix:/run/a.sock\"]\n",
        ),
    ] {
        let printed = run(&[&["print-config"], arguments].concat());
        assert!(printed.stdout.contains(line), "{}", printed.stdout);
    }
    let refused = run(&["--admin-listen", "nonsense"]);
    assert_eq!(refused.status, 2);
    assert!(refused.stderr[0].contains("admin_listen = nonsense: must be"), "{:?}", refused.stderr);
}

#[test]
fn warnings_keep_stdout_clean() {
    let printed = run_with(&["print-config"], &[("HEARTWHEEL_SERVICE_HOST", "::1")]);
    assert_eq!(printed.status, 0);
    assert!(printed.stdout.starts_with("listen = "));
    assert_eq!(printed.stderr.len(), 1);
    assert!(printed.stderr[0].starts_with("heartwheel: warning: HEARTWHEEL_SERVICE_HOST"));
}

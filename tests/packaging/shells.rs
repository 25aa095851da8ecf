//! The completions in the shells they are for.

use std::io::Write;
use std::process::{Command, Stdio};

use super::{assert_passes, path, run};

/// What is typed before the tabulator, and what stands there after it.
const CASES: &[(&str, &str)] = &[
    ("heartwheel pri", "heartwheel print-config"),
    ("heartwheel sub", "heartwheel subscribe"),
    ("heartwheel publish --tim", "heartwheel publish --timeout"),
    ("heartwheel publish ws://a b --tim", "heartwheel publish ws://a b --timeout"),
    ("heartwheel subscribe --ca=Cargo.to", "heartwheel subscribe --ca=Cargo.toml"),
    ("heartwheel check --con", "heartwheel check --config"),
    ("heartwheel check --log de", "heartwheel check --log debug"),
    ("heartwheel --log=de", "heartwheel --log=debug"),
    ("heartwheel --set heartbeat.max_", "heartwheel --set heartbeat.max_missed"),
    ("heartwheel --set=limits.rate_", "heartwheel --set=limits.rate_action"),
    ("heartwheel --set overflow.policy=lat", "heartwheel --set overflow.policy=latest"),
    ("heartwheel --set=deadlines.preset=str", "heartwheel --set=deadlines.preset=strict"),
    ("heartwheel -c Cargo.to", "heartwheel -c Cargo.toml"),
    ("heartwheel --config=Cargo.to", "heartwheel --config=Cargo.toml"),
];

fn folder() -> String {
    path("examples/service").display().to_string()
}

/// Asserts that a shell, which is told `settings` first, completes each case. `script` has it
/// believe that somebody types.
#[track_caller]
fn assert_completes(shell: &str, settings: &str) {
    let name = shell.split(' ').next().expect("it has a name");
    if run(name, &["--version"]).is_none() {
        return;
    }
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", shell, "/dev/null"]).env("TERM", "dumb");
    terminal.stdin(Stdio::piped()).stdout(Stdio::piped()).current_dir(path(""));
    let Ok(mut terminal) = terminal.spawn() else {
        println!("NOT CHECKED: script is not installed");
        return;
    };
    let mut keyboard = terminal.stdin.take().expect("it is piped");
    writeln!(keyboard, "{settings}").expect("it reads");
    for (typed, _) in CASES {
        // After the tabulator, to the beginning of the line, which becomes an argument.
        writeln!(keyboard, "{typed}\t\u{1}echo @").expect("it reads");
    }
    writeln!(keyboard, "exit").expect("it reads");
    let output = terminal.wait_with_output().expect("it ends");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let lines: Vec<_> = said.lines().filter_map(|line| line.trim().strip_prefix('@')).collect();
    assert_eq!(lines.len(), CASES.len(), "{said}");
    for (line, (typed, expected)) in lines.iter().zip(CASES) {
        assert_eq!(line.trim_end_matches('='), *expected, "{typed}");
    }
}

#[test]
fn bash_completes() {
    let file = format!("{}/heartwheel.bash", folder());
    assert_passes("shellcheck", &[&file]);
    assert_completes("bash --norc --noprofile -i", &format!("PS1=; . '{file}'"));
}

#[test]
fn zsh_completes() {
    let settings = format!(
        "PS1=; unsetopt prompt_sp prompt_cr; fpath=('{}' $fpath); autoload -U compinit; \
         compinit -u -D",
        folder()
    );
    assert_completes("zsh -f -i", &settings);
}

#[test]
fn fish_completes() {
    for (typed, expected) in CASES {
        let script = format!("source '{}/heartwheel.fish'; complete -C '{typed}'", folder());
        let Some(output) = run("fish", &["--no-config", "-c", &script]) else { return };
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        // Each line is a word and what it means.
        let words = said.lines().filter_map(|line| line.split('\t').next());
        let mut words = words.map(|word| word.trim_end_matches('='));
        let expected = expected.rsplit(' ').next().expect("it has a last word");
        assert!(words.any(|word| word == expected), "{typed}: {said}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

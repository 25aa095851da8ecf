//! The manual page: prose, with parts from the program's tables between "begin" and "end".

use std::fmt::Write;
use std::fs;

use heartwheel::config::Config;
use heartwheel::program::{
    CLIENT_COMMANDS, CLIENT_FLAGS, COMMANDS, CommandWord, FLAGS, Flag, STORE_FLAGS,
};

use super::{assert_passes, assert_text, fault_of, keys_of_the_default_program, path, run};

const PAGE: &str = "examples/service/heartwheel.1";

#[test]
fn the_manual_page_says_what_the_program_does() {
    let mut page = fs::read_to_string(path(PAGE)).expect("it is there");
    let parts = [
        ("synopsis", synopsis()),
        ("commands", commands(COMMANDS)),
        ("options", options(FLAGS)),
        ("store-options", options(STORE_FLAGS)),
        ("client-commands", commands(CLIENT_COMMANDS)),
        ("client-options", options(CLIENT_FLAGS)),
        ("keys", keys()),
    ];
    for (name, text) in parts {
        let begin = format!(".\\\" begin {name}\n");
        let (before, rest) = page.split_once(&begin).expect("the part is marked");
        let (_, after) = rest.split_once(".\\\" end\n").expect("its end is marked");
        page = format!("{before}{begin}{text}.\\\" end\n{after}");
    }
    assert_text(PAGE, &page);
    let version = concat!("\"heartwheel ", env!("CARGO_PKG_VERSION"), "\"");
    assert!(page.contains(version), "the page is of another version");
}

#[test]
fn manual_readers_find_no_fault() {
    let page = path(PAGE).display().to_string();
    assert_passes("mandoc", &["-T", "lint", "-W", "warning", &page]);
    assert_passes("man", &["--local-file", "--warnings", "--pager=cat", &page]);
    if let Some(shown) = run("mandoc", &["-T", "ascii", &page]) {
        // A bold letter is printed over itself.
        let mut plain = String::new();
        for letter in String::from_utf8_lossy(&shown.stdout).chars() {
            if letter == '\u{8}' {
                plain.pop();
            } else {
                plain.push(letter);
            }
        }
        for words in [
            "print-config",
            "--set KEY=VALUE",
            "deadlines.handshake (5s)",
            "SIGUSR2",
            "--token-file FILE",
        ] {
            assert!(plain.contains(words), "{words}: {plain}");
        }
    }
}

fn synopsis() -> String {
    let commands: Vec<_> = COMMANDS.iter().map(|command| bold(command.name)).collect();
    let mut text = format!("{}\n[{}]\n", bold("heartwheel"), commands.join(" | "));
    for flag in FLAGS.iter().filter(|flag| flag.value.is_some()) {
        let _ = writeln!(text, "[{}]", spelled(flag));
    }
    for command in CLIENT_COMMANDS {
        let _ = writeln!(text, ".br\n{}\n{}", bold("heartwheel"), called(command));
        text += "[\\fIOPTIONS\\fR]\n";
    }
    text
}

fn commands(all: &[CommandWord]) -> String {
    all.iter().map(|command| entry(&called(command), command.meaning)).collect()
}

fn options(all: &[Flag]) -> String {
    all.iter().map(|flag| entry(&spelled(flag), flag.meaning)).collect()
}

/// Gives a command with what stands behind it.
fn called(command: &CommandWord) -> String {
    match command.arguments {
        "" => bold(command.name),
        arguments => format!("{} \\fI{}\\fR", bold(command.name), escaped(arguments)),
    }
}

fn keys() -> String {
    let defaults = Config::default();
    keys_of_the_default_program().fold(String::new(), |text, key| {
        let head = format!("{} ({})", bold(key.name), escaped(&key.value(&defaults)));
        // What a value must be is said where it is not.
        let error = fault_of(key.name);
        let (_, rule) = error.split_once(": must ").expect("it names the rule");
        text + &entry(&head, &format!("{}. Must {rule}", key.meaning))
    })
}

fn entry(head: &str, meaning: &str) -> String {
    let mut letters = escaped(meaning).chars().collect::<Vec<_>>();
    letters[0] = letters[0].to_ascii_uppercase();
    // Each sentence has a line, as roff wants it.
    let sentences = letters.iter().collect::<String>().replace(". ", ".\n");
    format!(".TP\n{head}\n{sentences}.\n")
}

fn spelled(flag: &Flag) -> String {
    let short = flag.short.map(|letter| format!("{}, ", bold(&format!("-{letter}"))));
    let value = flag.value.map(|value| format!(" \\fI{}\\fR", escaped(value)));
    let long = bold(&format!("--{}", flag.long));
    format!("{}{long}{}", short.unwrap_or_default(), value.unwrap_or_default())
}

fn bold(text: &str) -> String {
    format!("\\fB{}\\fR", escaped(text))
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\e").replace('-', "\\-")
}

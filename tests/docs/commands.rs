//! Commands name what there is: tests, benchmarks, examples, features, options, scripts, files.

use std::fs;
use std::path::PathBuf;

use super::{pages, path, read};

#[test]
fn every_command_names_what_there_is() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for page in pages() {
        let blocks = page.blocks();
        let shell = blocks.iter().filter(|(language, _)| *language == "sh");
        let joined: String = shell.map(|(_, block)| block.replace("\\\n", " ")).collect();
        for line in joined.lines().map(String::from).chain(page.inline()) {
            for command in commands(&line) {
                if let Err(fault) = check(&command) {
                    faults.push(format!("{}: {}: {fault}", page.path, command.join(" ")));
                }
                count += usize::from(is_command(&command));
            }
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert!(count > 60, "{count}");
}

/// Takes a line apart: commands, and each of them into words.
fn commands(line: &str) -> Vec<Vec<String>> {
    let line = line.split(" # ").next().expect("it has a beginning");
    let line = line.split("  #").next().expect("it has a beginning");
    let words = line.split_whitespace().map(|word| word.trim_matches(['\'', '"', ',']).to_owned());
    let words: Vec<String> = words.collect();
    let is_border = |word: &String| ["&&", "|", ";", "&", "#"].contains(&word.as_str());
    words.split(is_border).map(<[String]>::to_vec).filter(|words| !words.is_empty()).collect()
}

/// A command, and no other piece of code.
fn is_command(words: &[String]) -> bool {
    let first = words.iter().find(|word| !is_setting(word));
    first.is_some_and(|word| {
        ["cargo", "make", "heartwheel"].contains(&word.as_str()) || is_ours(word)
    })
}

fn check(words: &[String]) -> Result<(), String> {
    for word in words.iter().filter(|word| is_ours(word)) {
        let file = word.trim_end_matches('/');
        if !path(file).exists() {
            return Err(format!("there is no {file}"));
        }
    }
    let at = words.iter().take_while(|word| is_setting(word)).count();
    let (settings, words) = words.split_at(at);
    let Some((program, rest)) = words.split_first() else { return Ok(()) };
    match program.as_str() {
        "cargo" => {
            check_settings(settings, &["tests", "src", "benches"])?;
            check_cargo(rest)
        }
        "make" => check_make(rest),
        "heartwheel" => check_program(rest),
        script if is_ours(script) && path(script).is_file() => {
            let text = read(script);
            let known = |setting: &&String| text.contains(&format!("${{{}", name_of(setting)));
            match settings.iter().find(|setting| !known(setting)) {
                Some(setting) => Err(format!("{script} knows no {setting}")),
                None => Ok(()),
            }
        }
        _ => Ok(()),
    }
}

/// Says whether a word is a variable that is set for one command.
fn is_setting(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_')
    })
}

fn name_of(setting: &str) -> &str {
    setting.split('=').next().expect("it has a name")
}

/// Says whether a word is a path in the repository, and no pattern of paths.
fn is_ours(word: &str) -> bool {
    let folders = [".ci/", "benches/", "examples/", "src/", "tests/"];
    folders.iter().any(|folder| word.starts_with(folder))
        && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte))
        // What running something leaves behind.
        && !["/corpus", "/target"].iter().any(|made| word.contains(made))
}

/// A word that stands for one of many: `MODE`.
fn is_placeholder(word: &str) -> bool {
    word.bytes().all(|byte| byte.is_ascii_uppercase() || b"_.".contains(&byte))
}

fn check_settings(settings: &[String], folders: &[&str]) -> Result<(), String> {
    for name in settings.iter().map(|setting| name_of(setting)) {
        let is_cargos = name.starts_with("CARGO_") || name.starts_with("RUST");
        let quoted = format!("\"{name}\"");
        let is_known = folders.iter().any(|folder| {
            files(folder)
                .iter()
                .any(|file| fs::read_to_string(file).is_ok_and(|text| text.contains(&quoted)))
        });
        if !is_cargos && !is_known {
            return Err(format!("nobody reads {name}"));
        }
    }
    Ok(())
}

/// What a command of cargo is about.
#[derive(Default)]
struct Asked {
    tests: Vec<String>,
    benches: Vec<String>,
    filters: Vec<String>,
}

fn check_cargo(words: &[String]) -> Result<(), String> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let toolchain = words.iter().take_while(|word| word.starts_with('+')).count();
    let Some((command, rest)) = words[toolchain..].split_first() else { return Ok(()) };
    let (own, behind) = match rest.iter().position(|word| *word == "--") {
        Some(at) => (&rest[..at], &rest[at + 1..]),
        None => (rest, &rest[rest.len()..]),
    };
    match *command {
        // About other packages.
        "add" | "new" | "install" | "tree" | "deny" => return Ok(()),
        "fuzz" => return check_fuzz(own),
        "run" | "build" | "test" | "bench" | "doc" | "fmt" | "clippy" | "check" | "cinstall" => {}
        _ => return Err(format!("there is no cargo {command}")),
    }
    let asked = check_options(own)?;
    if ["test", "bench"].contains(command) {
        for filter in &asked.filters {
            check_filter(filter, &asked.tests)?;
        }
    }
    if let [bench] = asked.benches.as_slice() {
        check_benchmark(bench, behind)?;
    }
    Ok(())
}

fn check_options(words: &[&str]) -> Result<Asked, String> {
    let manifest = read("Cargo.toml");
    let mut asked = Asked::default();
    let mut words = words.iter();
    while let Some(word) = words.next() {
        // The head of a table ends where its rows go on.
        let mut value = || words.next().copied().unwrap_or("NAME");
        let must = |is_there: bool, what: &str| match is_there || is_placeholder(what) {
            true => Ok(()),
            false => Err(format!("there is no {what}")),
        };
        match *word {
            "--test" => {
                let test = value();
                must(path(&format!("tests/{test}.rs")).exists(), test)?;
                asked.tests.push(test.to_owned());
            }
            "--bench" => {
                let bench = value();
                let is_there = ["", "/main"]
                    .iter()
                    .any(|end| path(&format!("benches/{bench}{end}.rs")).exists());
                must(is_there, bench)?;
                asked.benches.push(bench.to_owned());
            }
            "--example" => {
                let example = value();
                must(path(&format!("examples/{example}.rs")).exists(), example)?;
            }
            "--features" => {
                for feature in value().split(',') {
                    must(manifest.contains(&format!("\n{feature} = [")), feature)?;
                }
            }
            "--profile" => {
                let profile = value();
                must(manifest.contains(&format!("\n[profile.{profile}]")), profile)?;
            }
            "--package" | "-p" => {
                let package = value();
                must(["heartwheel", "heartwheel-capi"].contains(&package), package)?;
            }
            "--target" | "--prefix" | "-Z" => drop(value()),
            "-D"
            | "warnings"
            | "--release"
            | "--locked"
            | "--lib"
            | "--doc"
            | "--all-targets"
            | "--no-default-features"
            | "--all-features"
            | "--no-deps"
            | "--open"
            | "--check"
            | "--no-run"
            | "--no-fail-fast" => {}
            option if option.starts_with("-Z") => {}
            option if option.starts_with('-') => return Err(format!("what is {option}?")),
            filter => asked.filters.push(filter.to_owned()),
        }
    }
    Ok(asked)
}

/// A filter names a test, or a module of tests.
fn check_filter(filter: &str, tests: &[String]) -> Result<(), String> {
    if is_placeholder(filter) {
        return Ok(());
    }
    let folders = match tests {
        [] => vec!["tests".to_owned(), "src".to_owned()],
        tests => tests.iter().map(|test| format!("tests/{test}")).collect(),
    };
    let mut sources: Vec<PathBuf> = folders.iter().flat_map(|folder| files(folder)).collect();
    sources.extend(tests.iter().map(|test| path(&format!("tests/{test}.rs"))));
    let is_named = sources.iter().filter_map(|file| fs::read_to_string(file).ok()).any(|text| {
        let mut lines = text.lines().map(str::trim_start);
        lines.any(|line| {
            let name = line.strip_prefix("fn ").or(line.strip_prefix("mod "));
            let name = name.map(|rest| rest.split(['(', ';', ' ', '<']).next().unwrap_or(rest));
            // Tests that a macro makes are named in its call.
            let name = name.or(line.strip_suffix("! {")).or(line.split(" => ").next());
            name.is_some_and(|name| name.contains(filter))
        })
    });
    match is_named {
        true => Ok(()),
        false => Err(format!("no test is named {filter}")),
    }
}

/// Modes and options of a benchmark stand in its source as words.
fn check_benchmark(bench: &str, words: &[&str]) -> Result<(), String> {
    let mut sources = files(&format!("benches/{bench}"));
    sources.push(path(&format!("benches/{bench}.rs")));
    let text: String = sources.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    for word in words {
        let option = word.split('=').next().expect("it has a beginning");
        let is_plain = option.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let name = option.trim_start_matches('-');
        // Values are the benchmark's own matter, but modes and options are words.
        let is_option = option.starts_with("--");
        let is_mode = words.first() == Some(word) && is_plain;
        let is_known = [format!("\"{name}\""), format!("--{name}")]
            .iter()
            .any(|spelled| text.contains(spelled));
        if (is_option || is_mode) && !name.is_empty() && !is_known {
            return Err(format!("benches/{bench} knows no {word}"));
        }
    }
    Ok(())
}

fn check_fuzz(words: &[&str]) -> Result<(), String> {
    let folder = words.iter().position(|word| *word == "--fuzz-dir");
    let Some(at) = folder else { return Ok(()) };
    let (folder, target) = (words.get(at + 1), words.get(at + 2));
    let (Some(folder), Some(target)) = (folder, target) else {
        return Err("it names no target".to_owned());
    };
    let manifest = read(&format!("{folder}/Cargo.toml"));
    match manifest.contains(&format!("name = \"{target}\"")) || is_placeholder(target) {
        true => Ok(()),
        false => Err(format!("there is no target {target}")),
    }
}

fn check_make(words: &[String]) -> Result<(), String> {
    let [option, folder, targets @ ..] = words else { return Ok(()) };
    if option != "-C" {
        return Ok(());
    }
    let makefile = read(&format!("{folder}/Makefile"));
    let is_known = |word: &str| match word.split_once('=') {
        Some((name, _)) => makefile.contains(&format!("\n{name} ?=")),
        None => makefile.contains(&format!("\n{word}:")),
    };
    match targets.iter().find(|target| !is_known(target)) {
        Some(target) => Err(format!("{folder}/Makefile knows no {target}")),
        None => Ok(()),
    }
}

/// The program's own command line, by the tables that it goes by.
#[cfg(feature = "program")]
fn check_program(words: &[String]) -> Result<(), String> {
    use heartwheel::program::{CLIENT_COMMANDS, CLIENT_FLAGS, COMMANDS, FLAGS, STORE_FLAGS};
    let options = FLAGS.iter().chain(STORE_FLAGS).chain(CLIENT_FLAGS);
    let commands = COMMANDS.iter().chain(CLIENT_COMMANDS);
    for word in words {
        let is_known = match word.strip_prefix("--") {
            Some(option) => options.clone().any(|flag| flag.long == option),
            None => {
                Some(word) != words.first()
                    || word.starts_with(['-', '['])
                    || commands.clone().any(|command| command.name == word)
            }
        };
        if !is_known {
            return Err(format!("the program knows no {word}"));
        }
    }
    Ok(())
}

#[cfg(not(feature = "program"))]
fn check_program(_: &[String]) -> Result<(), String> {
    Ok(())
}

/// Gives the sources in a folder, and in those within it.
fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![path(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                let is_made = path.ends_with("target") || path.ends_with("node_modules");
                folders.extend(Some(path).filter(|_| !is_made));
            } else if path.extension().is_some_and(|end| end == "rs" || end == "c") {
                found.push(path);
            }
        }
    }
    found
}

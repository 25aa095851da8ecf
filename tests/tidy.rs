//! What no compiler checks: line lengths, the length of functions, what the pure part may name, and
//! that the code map names every module.

use std::fs;
use std::path::{Path, PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder is there") {
            let path = entry.expect("it can be read").path();
            if path.is_dir() {
                // What a fuzz build leaves is nobody's text.
                folders.extend(Some(path).filter(|path| !path.ends_with("target")));
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("it is text");
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty());
    found
}

/// The part of a file before its unit tests.
fn code(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn no_line_is_longer_than_100_columns() {
    for folder in ["src", "tests", "examples", "benches"] {
        for (path, text) in sources(folder) {
            for (number, line) in text.lines().enumerate() {
                // A row of a table in the docs is one line.
                let is_table = line.trim_start().starts_with("//! |");
                let columns = line.chars().count();
                assert!(columns <= 100 || is_table, "{}:{}: {columns}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn no_function_is_longer_than_70_lines() {
    for (path, text) in sources("src") {
        let lines: Vec<&str> = text.lines().collect();
        let mut begun: Option<(usize, usize)> = None;
        for (number, line) in lines.iter().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let words: Vec<&str> = line.split_whitespace().collect();
            let is_head = words.contains(&"fn") && !line.trim_start().starts_with("//");
            match begun {
                None if is_head && !line.trim_end().ends_with(';') => {
                    begun = Some((number, indent))
                }
                Some((start, depth)) if indent == depth && line.trim_start().starts_with('}') => {
                    let length = number - start + 1;
                    assert!(length <= 70, "{}:{}: {length} lines", path.display(), start + 1);
                    begun = None;
                }
                _ => {}
            }
        }
    }
}

#[test]
fn the_pure_part_knows_no_socket_thread_channel_or_clock() {
    const FORBIDDEN: &[&str] = &[
        "mio::",
        "socket2",
        "std::thread",
        "crossbeam",
        "std::sync",
        "std::time::Instant",
        "Instant::now",
        "SystemTime::now",
        "std::fs",
        "TcpStream",
        "crate::app",
        "crate::ffi",
        "crate::io",
        "crate::program",
        "crate::server",
        "crate::system",
        "crate::threads",
    ];
    for (path, text) in sources("src/core") {
        // A text that is shared is no way from one thread to another.
        let code = code(&text).replace("std::sync::Arc;", "");
        for word in FORBIDDEN {
            assert!(!code.contains(word), "{} names {word}", path.display());
        }
    }
}

/// The folders, from the top down: see src/lib.rs.
#[test]
fn folders_name_none_above_them() {
    const FOLDERS: &[&str] =
        &["program", "ffi", "client", "server", "io", "threads", "system", "core"];
    for (height, folder) in FOLDERS.iter().enumerate() {
        for (path, text) in sources(&format!("src/{folder}")) {
            for above in &FOLDERS[..height] {
                let uses = format!("crate::{above}");
                assert!(!code(&text).contains(&uses), "{} names {uses}", path.display());
            }
        }
    }
}

/// The floors of the core, from the top down: see src/core/mod.rs.
#[test]
fn modules_of_the_core_name_none_above_them() {
    const FLOORS: &[&str] = &[
        "engine",
        "client",
        "cluster",
        "transport",
        "connection",
        "outbox",
        "contract",
        "observe",
        "config",
        "bridge",
        "admission",
        "store",
        "topics",
        "wire",
        "ground",
    ];
    for (path, text) in sources("src/core") {
        let name = path.iter().skip_while(|name| *name != "core").nth(1).expect("it is in core");
        let name = Path::new(name).file_stem().expect("it has a name").to_string_lossy();
        let above = FLOORS.iter().take_while(|floor| ***floor != *name);
        for floor in above.filter(|_| name != "mod") {
            let uses = format!("crate::core::{floor}");
            let mut lines = code(&text).lines().filter(|line| !line.trim_start().starts_with("//"));
            assert!(!lines.any(|line| line.contains(&uses)), "{} names {uses}", path.display());
        }
    }
}

#[test]
fn the_core_names_no_64_bit_atomic() {
    for (path, text) in sources("src") {
        for word in ["AtomicU64", "AtomicI64"] {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn the_code_map_names_every_module() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let lib = fs::read_to_string(root.join("lib.rs")).expect("it is there");
    let (docs, code) = lib.split_once("#![deny").expect("the docs come first");
    for line in code.lines() {
        let Some(module) = line.strip_prefix("pub mod ").or(line.strip_prefix("mod ")) else {
            continue;
        };
        let name = format!("`{}`", module.trim_end_matches(';'));
        assert!(docs.contains(&name), "the code map does not name {name}");
    }
}

/// The table of faults names tests by their functions, which others rename.
#[test]
fn the_table_of_faults_names_tests_that_exist() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/README.md");
    let readme = fs::read_to_string(readme).expect("it is text");
    let (_, table) = readme.split_once("## Faults by number").expect("it has the table");
    let all: Vec<_> = sources("src").into_iter().chain(sources("tests")).collect();
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")) {
        let tests = row.split('|').nth(2).expect("it has three columns");
        for name in tests.split('`').skip(1).step_by(2) {
            let head = format!("fn {name}(");
            assert!(all.iter().any(|(_, text)| text.contains(&head)), "{name}");
            count += 1;
        }
    }
    assert!(count > 150, "{count}");
}

/// The table of kinds names tests of Rust, and those of the browser by what they print.
#[test]
fn the_table_of_kinds_names_tests_that_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| fs::read_to_string(path).expect("it is text");
    let readme = read(root.join("tests/README.md"));
    let (_, rest) = readme.split_once("## Faults by kind").expect("it has the table");
    let (table, _) = rest.split_once("\n## ").expect("another section follows");
    let all: String = ["src", "tests", "benches"]
        .map(sources)
        .concat()
        .into_iter()
        .map(|(_, text)| text)
        .collect();
    let names = ["client.mjs", "foreign.mjs", "page.mjs", "snippets.mjs"];
    let browser = names.map(|name| read(root.join("tests/browser").join(name))).concat();
    let proxies = read(root.join("tests/proxies/check.py"));
    let mut count = 0;
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let tests = row.split('|').nth(3).expect("it has three columns");
        for name in tests.split('`').skip(1).step_by(2) {
            let is_there = if name.contains('/') {
                root.join(name).exists()
            } else if let Some((_, said)) = name.split_once(": ") {
                browser.contains(said)
            } else {
                all.contains(&format!("fn {name}(")) || proxies.contains(&format!("(\"{name}\","))
            };
            assert!(is_there || name == "hub", "{name}");
            count += 1;
        }
    }
    assert!(count > 100, "{count}");
}

/// Numbers of faults are cited in comments (`FAULTS 17, 23`) and in the table of tests/README.md:
/// each stands in the list, once.
#[test]
fn each_fault_that_is_cited_stands_in_the_list() {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let read = |name: &str| fs::read_to_string(tests.join(name)).expect("it is text");
    let list = read("FAULTS.md");
    let listed: Vec<&str> = list
        .lines()
        .filter_map(|line| line.strip_prefix("- **")?.split_once("** ").map(|(number, _)| number))
        .collect();
    assert!(listed.len() > 150, "{}", listed.len());
    for (index, number) in listed.iter().enumerate() {
        assert!(!listed[..index].contains(number), "{number} stands twice");
    }
    let mut cited: Vec<(String, String)> = Vec::new();
    for (path, text) in ["src", "tests", "benches", "examples"].iter().flat_map(|f| sources(f)) {
        for part in text.split("FAULTS ").skip(1) {
            let numbers = fault_numbers(part);
            cited.extend(numbers.map(|number| (path.display().to_string(), number)));
        }
    }
    let readme = read("README.md");
    let (_, table) = readme.split_once("## Faults by number").expect("it has the table");
    for row in table.lines().filter(|line| line.starts_with("| ")).skip(1) {
        let column = row.split('|').nth(1).expect("it has a first column");
        let column = column.split_once('(').map_or(column, |(numbers, _)| numbers).trim();
        let (first, last) = column.split_once(" to ").unwrap_or((column, column));
        let ends = [first, last].map(str::parse::<u32>);
        match ends {
            [Ok(first), Ok(last)] => {
                let known = (first..=last).any(|number| listed.contains(&&*number.to_string()));
                assert!(known, "tests/README.md: {column}");
            }
            _ => cited.extend(
                fault_numbers(column).map(|number| ("tests/README.md".to_string(), number)),
            ),
        }
    }
    for (place, number) in &cited {
        assert!(listed.contains(&&**number), "{place} cites FAULTS {number}");
    }
    assert!(cited.len() > 150, "{}", cited.len());
}

/// Gives the numbers at the front of a text: `84b, 84c and 17. More text 5`.
fn fault_numbers(text: &str) -> impl Iterator<Item = String> {
    let is_number = |word: &str| {
        let digits = word.strip_suffix(['b', 'c']).unwrap_or(word);
        !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
    };
    let mut is_over = false;
    text.split_whitespace()
        .map_while(move |word| {
            let number = word.trim_end_matches([',', '.', ':', ';', ')', '`']);
            let goes_on = !is_over && (is_number(number) || word == "and" || word == "to");
            is_over = word.ends_with(['.', ':', ';']);
            goes_on.then(|| number.to_string())
        })
        .filter(move |word| is_number(word))
        .collect::<Vec<_>>()
        .into_iter()
}

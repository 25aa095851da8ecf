//! What people read holds: links lead somewhere, commands name what there is, what is printed
//! compiles.
//!
//! Links between items of the API are rustdoc's matter, and the examples in Rust those of the doc
//! tests; JavaScript is run by tests/browser.

#[path = "docs/commands.rs"]
mod commands;
#[path = "docs/links.rs"]
mod links;
#[path = "docs/printed.rs"]
mod printed;
#[path = "docs/verdicts.rs"]
mod verdicts;

use std::fs;
use std::path::{Path, PathBuf};

/// The folder of the guide's pages.
const GUIDE: &str = "src/guide";

/// A text that people read.
struct Page {
    /// Its path in the repository.
    path: String,
    text: String,
}

/// Gives every text that people read.
fn pages() -> Vec<Page> {
    let mut paths: Vec<String> = [
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "benches/README.md",
        "tests/README.md",
        "tests/FAULTS.md",
    ]
    .map(String::from)
    .to_vec();
    for entry in fs::read_dir(path(GUIDE)).expect("the guide is there") {
        let name = entry.expect("it can be read").file_name();
        let name = name.to_str().expect("its name is text");
        if name.ends_with(".md") {
            paths.push(format!("{GUIDE}/{name}"));
        }
    }
    paths.into_iter().map(|path| Page { text: read(&path), path }).collect()
}

/// Gives the path of a file in the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[track_caller]
fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

impl Page {
    /// Gives the blocks of code in a language: the language, and what stands between the fences.
    fn blocks(&self) -> Vec<(&str, String)> {
        let mut blocks: Vec<(&str, String)> = Vec::new();
        let mut is_inside = false;
        for line in self.text.lines() {
            if let Some(language) = line.trim_start().strip_prefix("```") {
                is_inside = !is_inside;
                if is_inside {
                    blocks.push((language, String::new()));
                }
            } else if is_inside {
                let (_, block) = blocks.last_mut().expect("one has begun");
                *block += line;
                block.push('\n');
            }
        }
        assert!(!is_inside, "{}: a block has no end", self.path);
        blocks
    }

    /// Gives the text without its blocks of code.
    fn prose(&self) -> String {
        let mut is_inside = false;
        let outside = self.text.lines().filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            is_inside ^= is_fence;
            !is_inside && !is_fence
        });
        outside.fold(String::new(), |text, line| text + line + "\n")
    }

    /// Gives the pieces of code within the prose: what stands between backticks, be it over two
    /// lines.
    fn inline(&self) -> Vec<String> {
        let prose = self.prose();
        let paragraphs = prose.split("\n\n");
        paragraphs
            .flat_map(|part| part.split('`').skip(1).step_by(2))
            .map(|code| code.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect()
    }
}

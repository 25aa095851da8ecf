//! What is printed is what there is: the guide's program is an example, C compiles, TOML is read.

use std::env;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use super::{pages, path, read};

/// The newcomer's program stands whole on its page; as an example it is built, and its test runs.
#[test]
fn the_newcomers_program_is_the_example() {
    const EXAMPLE: &str = "examples/start.rs";
    let pages = pages();
    let page = pages.iter().find(|page| page.path == "src/guide/start.md").expect("it is there");
    let blocks = page.blocks().into_iter().filter(|(language, _)| language.starts_with("rust"));
    let program = blocks.map(|(_, block)| block).collect::<Vec<_>>().join("\n");
    if env::var_os("BLESS").is_some() {
        fs::write(path(EXAMPLE), &program).expect("it can be written");
    }
    assert!(program == read(EXAMPLE), "BLESS=1 cargo test --test docs writes {EXAMPLE}");
}

#[test]
fn what_is_printed_of_c_compiles() {
    let mut count = 0;
    for page in pages() {
        for (_, block) in page.blocks().into_iter().filter(|(language, _)| *language == "c") {
            // A piece of a program stands in a function that gets what the piece uses.
            let is_whole = block.contains("#include");
            let program = match is_whole {
                true => block,
                false => format!("{BEFORE}{block}}}\n"),
            };
            compile(&page.path, &program);
            count += 1;
        }
    }
    assert!(count >= 2, "{count}");
}

const BEFORE: &str = "#include <poll.h>\n#include \"heartwheel.h\"\nvoid serve(heartwheel *server, \
    int uart, void (*service_uart)(void), heartwheel_event event)\n{\n";

fn compile(page: &str, program: &str) {
    let warnings = ["-std=c99", "-D_POSIX_C_SOURCE=200809L", "-Wall", "-Wextra", "-pedantic"];
    let compiler = Command::new("cc")
        .args(warnings)
        .args(["-Werror", "-fsyntax-only", "-x", "c", "-I"])
        .arg(path("src/ffi"))
        .arg("-")
        .stdin(Stdio::piped())
        .spawn();
    let Ok(mut compiler) = compiler else {
        println!("NOT CHECKED: there is no compiler for C");
        return;
    };
    let mut stdin = compiler.stdin.take().expect("it is piped");
    stdin.write_all(program.as_bytes()).expect("it reads");
    drop(stdin);
    assert!(compiler.wait().expect("it ends").success(), "{page}:\n{program}");
}

#[cfg(feature = "toml")]
#[test]
fn what_is_printed_of_toml_is_read() {
    let mut count = 0;
    for page in pages() {
        for (_, block) in page.blocks().into_iter().filter(|(language, _)| *language == "toml") {
            match heartwheel::Config::from_toml(&block) {
                Ok(_) => count += 1,
                // A build with all features reads it.
                Err(fault) if fault.to_string().contains(": feature `") => {}
                Err(fault) => panic!("{fault}"),
            }
        }
    }
    assert!(count > 0);
}

//! What `--help` prints: the documentation of `main.rs`, its tables aligned.

/// Gives the text.
pub fn text() -> String {
    let docs = include_str!("main.rs").lines().map_while(|line| line.strip_prefix("//!"));
    let docs: Vec<&str> = docs.map(|line| line.strip_prefix(' ').unwrap_or(line)).collect();
    // How the code is parted is for its readers.
    let shown = docs.iter().take_while(|line| !line.starts_with("Modules: "));
    let lines: Vec<String> = shown.map(|line| line.replace('`', "")).collect();
    let mut text = String::new();
    for part in lines.chunk_by(|one, other| is_row(one) == is_row(other)) {
        if is_row(&part[0]) {
            text += &aligned(part);
        } else {
            part.iter().for_each(|line| text += &format!("{line}\n"));
        }
    }
    text
}

fn is_row(line: &str) -> bool {
    line.starts_with('|')
}

/// Writes the rows of a table, its columns but for the last one as wide as they must be.
fn aligned(rows: &[String]) -> String {
    let is_rule = |row: &&String| row.starts_with("|---");
    let cells = |row: &String| -> Vec<String> {
        row.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    let rows: Vec<Vec<String>> = rows.iter().filter(|row| !is_rule(row)).map(cells).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let line = |row: &Vec<String>| {
        let cells = row.iter().enumerate();
        let cells = cells.map(|(column, cell)| format!("{cell:<width$}  ", width = width(column)));
        format!("  {}\n", cells.collect::<String>().trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
#[allow(dead_code, unused_imports)] // A benchmark is a test that runs none of them.
mod tests {
    use super::super::options::{Mode, Options};
    use super::*;

    #[test]
    fn the_help_names_every_mode_and_no_option_that_there_is_not() {
        let text = text();
        for mode in Mode::EACH {
            assert!(text.contains(&format!("\n  {} ", mode.name())), "{text}");
        }
        assert!(text.contains("64x125x1 is 64 connections x messages of 125 bytes"), "{text}");
        assert!(!text.contains("|--") && !text.contains("Modules"), "{text}");
        let options: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("  --")?.split([' ', ',']).next())
            .filter(|name| *name != "help")
            .collect();
        assert!(options.len() > 15, "{options:?}");
        for name in options {
            let words = ["echo".into(), format!("--{name}").into()];
            let error = Options::parse(words).err().map(|error| error.to_string());
            let is_known = !error.as_ref().is_some_and(|error| error.contains("invalid option"));
            assert!(is_known, "--{name}: {error:?}");
        }
    }
}

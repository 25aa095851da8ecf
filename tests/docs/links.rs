//! Links lead to files that exist, and to headings that stand there.

use std::path::Path;

use super::{GUIDE, Page, pages, path, read};

#[test]
fn every_link_leads_somewhere() {
    let mut count = 0;
    for page in pages() {
        for target in targets(&page) {
            if let Err(fault) = follow(&page, &target) {
                panic!("{}: {target}: {fault}", page.path);
            }
            count += 1;
        }
    }
    assert!(count > 60, "{count}");
}

/// Gives what the links of a page lead to.
fn targets(page: &Page) -> Vec<String> {
    let prose = page.prose();
    // Code within the prose has no links, but the name of a link may be code.
    let parts = prose.split("](").skip(1);
    parts.filter_map(|part| Some(part.split_once(')')?.0.to_owned())).collect()
}

fn follow(page: &Page, target: &str) -> Result<(), &'static str> {
    let (to, heading) = match target.split_once('#') {
        Some((to, heading)) => (to, Some(heading)),
        None => (target, None),
    };
    if to.starts_with("https://") {
        return Ok(());
    }
    let is_guide = page.path.starts_with(GUIDE);
    let file = if let Some(item) = to.strip_prefix("crate") {
        assert!(is_guide, "{}: only pages of the guide link to items", page.path);
        match item.strip_prefix("::guide::") {
            Some(name) => format!("{GUIDE}/{name}.md"),
            None if item.is_empty() => "src/lib.rs".to_owned(),
            // An item: rustdoc knows whether it is there.
            None if heading.is_none() => return Ok(()),
            None => return Err("headings of items are not looked at"),
        }
    } else if to.is_empty() {
        page.path.clone()
    } else if is_guide {
        return Err("rustdoc shows this page elsewhere: link to an item, or name the file");
    } else {
        let folder = Path::new(&page.path).parent().expect("it stands in a folder");
        folder.join(to).to_str().expect("it is text").to_owned()
    };
    if !path(&file).exists() {
        return Err("there is no such file");
    }
    match heading {
        Some(heading) if !headings(&file).iter().any(|found| found == heading) => {
            Err("there is no such heading")
        }
        _ => Ok(()),
    }
}

/// Gives the anchors of a file's headings, as GitHub and rustdoc make them.
fn headings(file: &str) -> Vec<String> {
    let text = read(file).replace("//! ", "");
    let page = Page { path: file.to_owned(), text };
    let prose = page.prose();
    let titles = prose.lines().filter_map(|line| {
        let title = line.trim_start_matches('#');
        (title.len() < line.len() && title.starts_with(' ')).then(|| title.trim())
    });
    let anchor = |title: &str| {
        let kept = title.chars().filter(|c| c.is_alphanumeric() || "-_ ".contains(*c));
        kept.collect::<String>().to_lowercase().replace(' ', "-")
    };
    titles.map(anchor).collect()
}

/// Links to items say what rustdoc calls the page: the module is there, and its file.
#[test]
fn the_guide_has_a_module_for_each_page() {
    let modules = read("src/guide/mod.rs");
    for page in pages().iter().filter(|page| page.path.starts_with(GUIDE)) {
        let name = page.path.strip_prefix("src/guide/").and_then(|name| name.strip_suffix(".md"));
        let name = name.expect("it is a page of the guide");
        assert!(modules.contains(&format!("page!({name}, \"{name}.md\");")), "{name}");
        assert!(modules.contains(&format!("| [`{name}`] |")), "{name} is not introduced");
        assert!(read("README.md").contains(&format!("]({})", page.path)), "{name}: README.md");
    }
}

/// The README says what it is, how to begin, and where to read on.
#[test]
fn the_readme_stays_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 150, "{lines} lines");
}

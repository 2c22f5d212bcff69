//! Each link of each page of the tree leads to a file that is there, and to a heading that is there; each page of the English book
//! has its Chinese one, or is named as one that has none.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};

use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Folders that hold pages, besides the root.
const FOLDERS: [&str; 6] = ["config", "contrib", "docs", "examples", "fuzz", "deploy"];
/// Pages of the English book without a Chinese one of their own: for people who work on the code, who read its comments as well.
const ENGLISH_ONLY: [&str; 7] = [
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "SECURITY.md",
    "contrib/redis/README.md",
    "docs/loadtest.md",
    "fuzz/README.md",
];

/// What a page has: its headings' names, and where its links lead.
#[derive(Default)]
struct Page {
    anchors: BTreeSet<String>,
    links: Vec<String>,
}

fn pages() -> BTreeMap<PathBuf, Page> {
    let mut files = Vec::new();
    in_folder(Path::new(""), false, &mut files);
    FOLDERS.iter().for_each(|folder| in_folder(Path::new(folder), true, &mut files));
    files
        .into_iter()
        .map(|file| (file.clone(), read(&std::fs::read_to_string(Path::new(ROOT).join(file)).unwrap())))
        .collect()
}

fn in_folder(folder: &Path, with_folders: bool, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(Path::new(ROOT).join(folder)).unwrap().map(Result::unwrap) {
        let path = folder.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() && with_folders {
            in_folder(&path, true, files);
        } else if path.extension().is_some_and(|end| end == "md") {
            files.push(path);
        }
    }
}

fn read(text: &str) -> Page {
    let (mut page, mut heading) = (Page::default(), None::<String>);
    for event in Parser::new_ext(text, Options::ENABLE_TABLES) {
        match event {
            Event::Start(Tag::Heading { .. }) => heading = Some(String::new()),
            Event::End(TagEnd::Heading(_)) => page.add_anchor(&heading.take().unwrap_or_default()),
            Event::Text(words) | Event::Code(words) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&words);
                }
            }
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                page.links.push(dest_url.to_string())
            }
            _ => {}
        }
    }
    page
}

impl Page {
    /// The name of a heading as GitHub and mdBook make it; a second one of that name has a number.
    fn add_anchor(&mut self, heading: &str) {
        let kept =
            heading.to_lowercase().chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).collect::<String>();
        let name = kept.replace(' ', "-");
        let free = (0..).map(|number| if number == 0 { name.clone() } else { format!("{name}-{number}") });
        let free = free.into_iter().find(|name| !self.anchors.contains(name)).expect("numbers do not end");
        self.anchors.insert(free);
    }
}

/// The path without `.` and `..`.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(plain.pop()),
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

#[test]
fn links_lead_somewhere() {
    let pages = pages();
    let (mut wrong, mut looked_at) = (Vec::new(), 0);
    for (file, page) in &pages {
        for link in page.links.iter().filter(|link| !link.contains("://") && !link.starts_with("mailto:")) {
            looked_at += 1;
            let (to, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if to.is_empty() { file.clone() } else { plain(&file.parent().unwrap().join(to)) };
            if !Path::new(ROOT).join(&target).exists() {
                wrong.push(format!("{}: ({link}) leads to no file", file.display()));
            } else if !anchor.is_empty() && !pages.get(&target).is_some_and(|page| page.anchors.contains(anchor)) {
                wrong.push(format!("{}: ({link}) leads to no heading of {}", file.display(), target.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(looked_at > 50, "{looked_at} links");
}

/// Where the Chinese page of an English one stands.
fn chinese(page: &Path) -> PathBuf {
    let name = page.file_name().unwrap().to_str().unwrap();
    match name {
        "PERF.md" => "docs/zh-CN/performance.md".into(),
        "RELIABILITY.md" => "docs/zh-CN/reliability.md".into(),
        _ if page.starts_with("docs") => Path::new("docs/zh-CN").join(name),
        _ => page.with_file_name(name.replace(".md", ".zh-CN.md")),
    }
}

#[test]
fn the_book_is_there_in_both_languages() {
    let pages = pages();
    let book = |summary: &str| -> BTreeSet<PathBuf> {
        let links = &pages[Path::new(summary)].links;
        links.iter().map(|link| plain(&Path::new(summary).parent().unwrap().join(link))).collect()
    };
    let english = book("docs/SUMMARY.md");
    let translated = english.iter().filter(|page| !ENGLISH_ONLY.iter().any(|only| Path::new(only) == *page));
    let wanted: BTreeSet<_> = translated.map(|page| chinese(page)).collect();
    assert_eq!(book("docs/zh-CN/SUMMARY.md"), wanted, "docs/zh-CN/SUMMARY.md has a page for each of docs/SUMMARY.md");
    for page in pages.keys().filter(|page| page.starts_with("docs") && !page.ends_with("SUMMARY.md")) {
        assert!(english.contains(page) || wanted.contains(page), "{} is in no SUMMARY.md", page.display());
    }
}

#[test]
fn a_page_is_read_as_github_reads_it() {
    let page = read("# A `b`, c!\n\n[x](y.md#z)\n\n## 中文 标题\n\n```\n[no](link)\n```\n\n# A b c\n");
    assert_eq!(page.links, ["y.md#z"]);
    assert_eq!(page.anchors.iter().map(String::as_str).collect::<Vec<_>>(), ["a-b-c", "a-b-c-1", "中文-标题"]);
}

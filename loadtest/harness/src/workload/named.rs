//! The named workloads, which are in the program, and workload files of one's own.
//!
//! Promises that a name that is not known is answered with those that are, the most similar first.

use std::fs;
use std::path::Path;

use super::Workload;
use crate::error::{Error, Result};

macro_rules! named {
    ($($name:literal),*) => { [$(($name, include_str!(concat!("../../workloads/", $name, ".toml")))),*] };
}

/// Name and text of each, in the order that they are listed in.
const NAMED: [(&str, &str); 12] = named!(
    "mixed",
    "one-to-one",
    "group-100",
    "group-1000",
    "huge-group",
    "hot-huge-group",
    "beside-huge",
    "priority",
    "hot-session",
    "reconnect-storm",
    "offline-20",
    "cold"
);

impl Workload {
    /// Reads a workload's text.
    ///
    /// # Errors
    /// When it is not understood.
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        read(name, text).map_err(|cause| Error::of(&format!("workload {name}"), cause))
    }

    /// The names of the workloads that are in the program.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.iter().map(|(name, _)| *name)
    }

    /// The workload of this name, or of this `.toml` file. It is not checked yet: overrides may come.
    ///
    /// # Errors
    /// When there is none, or the file is not understood.
    pub fn find(name: &str) -> Result<Self> {
        if let Some((_, text)) = NAMED.iter().find(|(known, _)| *known == name) {
            return Self::parse(name, text);
        }
        if !is_path(name) {
            return Err(Error::new(format!(
                "there is no workload `{name}`; there are {} (or give a .toml file)",
                nearest_first(name).join(", ")
            )));
        }
        let text = fs::read_to_string(name);
        let text = text.map_err(|cause| Error::of(&format!("cannot read the workload file {name}"), cause))?;
        let stem = Path::new(name).file_stem().unwrap_or_default().to_string_lossy();
        read(&stem, &text).map_err(|cause| Error::of(&format!("the workload file {name} is not understood"), cause))
    }
}

fn is_path(name: &str) -> bool {
    name.ends_with(".toml") || name.contains('/')
}

fn read(name: &str, text: &str) -> std::result::Result<Workload, toml::de::Error> {
    let mut workload: Workload = toml::from_str(text)?;
    if workload.name.is_empty() {
        name.clone_into(&mut workload.name);
    }
    Ok(workload)
}

fn nearest_first(name: &str) -> Vec<&'static str> {
    let mut names: Vec<_> = Workload::names().collect();
    // The first letters of a name stand for it, whatever follows.
    names.sort_by_key(|known| (name.is_empty() || !known.starts_with(name), distance(name, known)));
    names
}

/// How many letters must be put in, taken out or changed to make one word the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = at + 1;
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(row[column] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use task_engine::model::priority::Priority;

    #[test]
    fn every_named_workload_is_read_and_can_be_run() {
        for name in Workload::names() {
            let workload = Workload::find(name).expect(name);
            assert_eq!(workload.name, name);
            assert_eq!(workload.check(), Ok(()), "{name}");
            assert!(!workload.about.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_events_of_priority_are_one_of_a_hundred_urgent_and_ninety_bulk() {
        let workload = Workload::find("priority").expect("it is there");
        let mut parts = [0; Priority::COUNT];
        for group in &workload.sessions {
            let messages = group.classes.len() as u32;
            assert_eq!(group.share % messages, 0, "its share goes evenly over its classes");
            group.classes.iter().for_each(|class| parts[*class as usize] += group.share / messages);
        }
        assert_eq!(parts, [1, 6, 90, 3], "urgent, normal, bulk, fleeting");
        let words = Workload::parse("it", &include_str!("../../workloads/priority.toml").replace("bulk\"", "bulky\""));
        assert!(
            words.expect_err("bulky").to_string().contains("`bulky` is no class: urgent, normal, bulk or fleeting")
        );
    }

    #[test]
    fn an_unknown_name_is_answered_with_the_nearest_first() {
        for (given, nearest) in [("group100", "group-100"), ("huge", "huge-group"), ("mixd", "mixed")] {
            let words = Workload::find(given).expect_err(given).to_string();
            assert!(words.contains(&format!("`{given}`; there are {nearest},")), "{words}");
            assert!(Workload::names().all(|name| words.contains(name)), "{words}");
        }
    }

    #[test]
    fn a_file_of_ones_own_is_read_and_a_wrong_one_says_where() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("mine.toml");
        let text = include_str!("../../workloads/one-to-one.toml");
        fs::write(&file, text).expect("written");
        let workload = Workload::find(&file.to_string_lossy()).expect("it is a workload");
        assert_eq!((workload.name.as_str(), workload.users), ("mine", 10_000));
        fs::write(&file, text.replace("users", "usres")).expect("written");
        let words = Workload::find(&file.to_string_lossy()).expect_err("usres").to_string();
        assert!(words.contains("mine.toml") && words.contains("usres"), "{words}");
        let words = Workload::find("/nowhere/it.toml").expect_err("no file").to_string();
        assert!(words.contains("cannot read the workload file /nowhere/it.toml"), "{words}");
    }
}

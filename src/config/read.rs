//! Collects what was written, from the file, the environment and the flags, key by key; each value is checked by its
//! kind where it stands, also one that something else wins over.
//!
//! Promises that what may be part of a value (a password without quotes, a line that is indented wrongly) is not told: a key
//! is named only when it is one, or nearly.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use super::field::Blank;
use super::keys::{self, Goes, KEYS, SECTIONS};
use super::nearest;
use super::sections::Config;
use super::value::Value;
use super::yaml::{self, Body, Mark, Node};
use super::{Flags, Place, Remark};

/// What was found so far.
#[derive(Default)]
pub(super) struct Reading {
    /// The value that holds for a key, by its place in the table. Nothing: the default.
    pub(super) values: Vec<(usize, Value, Place)>,
    pub mistakes: Vec<Remark>,
    pub notes: Vec<Remark>,
}

/// The text of a file of at most so many bytes.
pub(super) fn file(path: &Path, bytes_max: usize) -> Result<String, String> {
    let opened = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "file not found; check the path".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied; check the permissions of the file".to_owned(),
        _ => format!("cannot be opened: {error}"),
    })?;
    let mut bytes = Vec::new();
    let limit = bytes_max as u64 + 1;
    opened.take(limit).read_to_end(&mut bytes).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > bytes_max {
        return Err(format!("is larger than {bytes_max} bytes; is it the right file?"));
    }
    String::from_utf8(bytes).map_err(|_| "is not UTF-8 text".to_owned())
}

impl Reading {
    pub fn take_file(&mut self, text: &str) {
        let (root, troubles) = yaml::parse(text);
        for trouble in troubles {
            let what = match trouble.key {
                Some(name) if keys::is_known(&name) => format!("`{name}` {}", trouble.what),
                Some(_) => format!("a key {}", trouble.what),
                None => trouble.what,
            };
            self.mistake(at(trouble.mark), "", what);
        }
        match &root.body {
            Body::Map(entries) => entries.iter().for_each(|(key, value)| self.take_top(key, value)),
            Body::Null => {}
            _ => self.mistake(
                at(root.mark),
                "",
                "the file must consist of keys with their values, such as `log:`".into(),
            ),
        }
        self.mistakes.sort_by_key(|remark| match remark.place {
            Place::File(line, column) => (line, column),
            _ => (0, 0),
        });
    }

    /// A key at the top of the file: a section, or one of the few that stand alone.
    fn take_top(&mut self, key: &Node, value: &Node) {
        let Body::Scalar(name) = &key.body else { return };
        if keys::find("", name).is_some() {
            return self.take_key("", key, value);
        }
        if !SECTIONS.iter().any(|(section, _)| section == name && !name.is_empty()) {
            return self.unknown("", name, key.mark);
        }
        match &value.body {
            Body::Map(entries) => entries.iter().for_each(|(key, value)| self.take_group_or_key(name, key, value)),
            Body::Null => {}
            _ => self.mistake(at(value.mark), name, "is a section; its keys go below it, indented".into()),
        }
    }

    /// A key of a section, or a name under which several stand together.
    fn take_group_or_key(&mut self, section: &str, key: &Node, value: &Node) {
        let Body::Scalar(name) = &key.body else { return };
        let inner: Vec<_> = keys::group(section, name).collect();
        match &value.body {
            _ if inner.is_empty() => self.take_key(section, key, value),
            Body::Map(entries) => {
                for (key, value) in entries {
                    let Body::Scalar(of) = &key.body else { continue };
                    let body = Body::Scalar(format!("{name}.{of}"));
                    self.take_key(section, &Node { body, ..key.clone() }, value);
                }
            }
            Body::Null => {}
            _ => {
                let what = format!("has keys below it, indented: {}", inner.join(", "));
                self.mistake(at(value.mark), &format!("{section}.{name}"), what);
            }
        }
    }

    fn take_key(&mut self, section: &str, key: &Node, value: &Node) {
        let Body::Scalar(name) = &key.body else { return };
        let Some(found) = keys::find(section, name) else { return self.unknown(section, name, key.mark) };
        let kind = KEYS[found].kind;
        let text = match &value.body {
            Body::Null => return,
            Body::Scalar(text) => text.clone(),
            Body::List(items) if kind.takes_list() => {
                let texts = items.iter().map(|item| match &item.body {
                    Body::Scalar(text) => Some(text.as_str()),
                    _ => None,
                });
                match texts.collect::<Option<Vec<_>>>() {
                    Some(texts) => texts.join(","),
                    None => return self.mistake(at(value.mark), &KEYS[found].full(), "must be a list of texts".into()),
                }
            }
            Body::List(_) => {
                return self.mistake(at(value.mark), &KEYS[found].full(), "takes one value, not a list".into());
            }
            Body::Map(_) if !KEYS[found].is_used() => String::new(),
            Body::Map(entries) if kind.takes_rules() => match rules(entries) {
                Ok(text) => text,
                Err((mark, what)) => return self.mistake(at(mark), &KEYS[found].full(), what.into()),
            },
            Body::Map(_) => {
                return self.mistake(
                    at(value.mark),
                    &KEYS[found].full(),
                    "takes one value, without keys below it".into(),
                );
            }
        };
        let is_alias = value.is_alias
            || match &value.body {
                Body::List(items) => items.iter().any(|item| item.is_alias),
                Body::Map(entries) => entries.iter().any(|(key, value)| key.is_alias || value.is_alias),
                _ => false,
            };
        let before = self.mistakes.len();
        self.take(found, name, &text, at(value.mark));
        // It may be written at a secret.
        for mistake in self.mistakes[before..].iter_mut().filter(|_| is_alias) {
            mistake.what = "what this alias stands for cannot be used here; write the value out".into();
        }
    }

    fn unknown(&mut self, section: &str, name: &str, mark: Mark) {
        let nearest = nearest::key(section, name);
        let whole = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
        let (key, what) = if name == "<<" {
            (whole, "merge keys are not supported; write the keys out")
        } else if nearest.as_ref().is_some_and(|nearest| nearest::is_nearly(name, nearest)) {
            (whole, "unknown key")
        } else {
            let what =
                "unknown key (not shown, it may be part of a value); a value with a colon or a comma needs quotes";
            (section.to_owned(), what)
        };
        self.mistakes.push(Remark { place: at(mark), key, what: what.to_owned(), nearest });
    }

    pub fn take_flags(&mut self, flags: &Flags) {
        for (flag, section, name, text) in
            [("--cores", "engine", "cores", &flags.cores), ("--admin", "admin", "listen", &flags.admin)]
        {
            if let (Some(text), Some(found)) = (text, keys::find(section, name)) {
                if text.trim().is_empty() {
                    self.mistake(Place::Flag(flag), &KEYS[found].full(), "is empty".into());
                }
                self.take(found, name, text, Place::Flag(flag));
            }
        }
    }

    /// Checks a value and lets it win over what an earlier source said; inside one source, a key's own name wins over
    /// its other spellings.
    pub(super) fn take(&mut self, found: usize, spelling: &str, text: &str, place: Place) {
        let key = &KEYS[found];
        if !key.is_used() {
            return self.note(place, &key.full(), format!("has no effect here: {}", key.doc));
        }
        let value = match key.kind.read(text) {
            Ok(Some(value)) => value,
            Ok(None) => return,
            Err(what) => return self.mistake(place, &key.full(), what),
        };
        let Some(earlier) = self.values.iter().position(|(index, ..)| *index == found) else {
            return self.values.push((found, value, place));
        };
        let same_source = std::mem::discriminant(&self.values[earlier].2) == std::mem::discriminant(&place);
        let (_, held, held_place) = &mut self.values[earlier];
        let is_alias = spelling != key.name;
        if same_source && *held != value {
            let lost = if is_alias { place.clone() } else { held_place.clone() };
            let others = key.aliases.join(", ");
            let what = format!("is written under two names; {} is used, not {others}", key.name);
            self.notes.push(Remark { place: lost, key: key.full(), what, nearest: None });
        }
        if !(same_source && is_alias) {
            (*held, *held_place) = (value, place);
        }
    }

    pub fn mistake(&mut self, place: Place, key: &str, what: String) {
        self.mistakes.push(Remark { place, key: key.to_owned(), what, nearest: None });
    }

    pub fn note(&mut self, place: Place, key: &str, what: String) {
        self.notes.push(Remark { place, key: key.to_owned(), what, nearest: None });
    }

    /// What holds for a key: what was written, or the default; nothing when both are empty.
    ///
    /// # Panics
    /// When the table has no such key or a default its kind does not take: the tests read every key.
    pub fn value(&self, section: &str, name: &str) -> Option<Value> {
        self.value_at(keys::find(section, name).expect("the key is in the table"))
    }

    /// Where the value of a key was written.
    pub fn place(&self, section: &str, name: &str) -> Place {
        let found = keys::find(section, name).expect("the key is in the table");
        self.values.iter().find(|(index, ..)| *index == found).map_or(Place::Default, |(_, _, place)| place.clone())
    }

    /// All keys that were written, and where.
    pub fn written(&self) -> Vec<(String, Place)> {
        self.values.iter().map(|(found, _, place)| (KEYS[*found].full(), place.clone())).collect()
    }

    /// Whether the key was written, with a value that is not the one for "the default".
    pub fn is_written(&self, section: &str, name: &str) -> bool {
        self.place(section, name) != Place::Default
    }

    /// Fills each field that one key alone decides.
    pub fn fill(&self) -> Config {
        let mut config = Config::blank();
        for (at, key) in KEYS.iter().enumerate() {
            if let Goes::Field(field) = key.goes
                && let Some(value) = self.value_at(at)
            {
                field(&mut config).set(value);
            }
        }
        config
    }

    fn value_at(&self, found: usize) -> Option<Value> {
        if let Some((_, value, _)) = self.values.iter().find(|(index, ..)| *index == found) {
            return Some(value.clone());
        }
        KEYS[found].kind.read(KEYS[found].default).expect("the default is right")
    }
}

/// Rules that stand below a key, as they would stand in one line.
fn rules(entries: &[(Node, Node)]) -> Result<String, (Mark, &'static str)> {
    let mut all = Vec::with_capacity(entries.len());
    for (key, value) in entries {
        let class = match &value.body {
            Body::Scalar(class) => class.as_str(),
            Body::Null => "",
            _ => return Err((value.mark, "has a rule with more than a class")),
        };
        // One that is no name is told with the file's form.
        let Body::Scalar(name) = &key.body else { continue };
        if name.contains(',') || class.contains([',', '=']) {
            return Err((key.mark, "has a rule with a comma in it: no type has one"));
        }
        all.push(format!("{name}={class}"));
    }
    Ok(all.join(","))
}

fn at(mark: Mark) -> Place {
    Place::File(mark.line, mark.column)
}

//! The configuration as YAML: what holds ([`show`]), and the commented file of all defaults ([`sample`]); and the table of
//! keys as a page to read ([`reference`]).
//!
//! Promises that what is shown can be read again and means the same, but for the secrets, which are `***`.

use std::fmt::Write;

use super::keys::{self, Goes, KEYS, Key, Reload, SECTIONS};
use super::kinds::Kind;
use super::secret_files::secret_of;
use super::sections::Config;

/// Every key that is used, with what holds for it.
pub fn show(config: &Config) -> String {
    let (mut text, mut config) = (String::new(), config.clone());
    for (section, _) in SECTIONS {
        let keys = KEYS.iter().filter(|key| key.section == *section && key.is_used());
        let mut place = Place::open(&mut text, section);
        for key in keys {
            let (indent, name) = place.of(&mut text, key.name);
            line(&mut text, &format!("{indent}{name}: {}", scalar(key.kind, &value(&mut config, key))));
        }
    }
    text
}

/// The text of `config/task.yaml`.
pub fn sample() -> String {
    let mut text = String::from(SAMPLE_HEAD);
    for (section, about) in SECTIONS {
        line(&mut text, "");
        line(&mut text, &format!("# {about}"));
        let mut place = Place::open(&mut text, section);
        for key in KEYS.iter().filter(|key| key.section == *section) {
            let (indent, name) = place.of(&mut text, key.name);
            let (doc, spelled) = (key.doc, spelled(key));
            if key.is_used() {
                line(&mut text, &format!("{indent}# {doc}{spelled}"));
                line(&mut text, &format!("{indent}{name}: {}", scalar(key.kind, key.default)));
            } else {
                line(&mut text, &format!("{indent}# {name}:   accepted, without effect: {doc}.{spelled}"));
            }
        }
    }
    text
}

/// The text of `config/REFERENCE.md`: each key with what may be written, its default and when a change takes effect.
pub fn reference() -> String {
    let mut text = String::from(REFERENCE_HEAD);
    for (section, about) in SECTIONS {
        let title = if section.is_empty() { "At the top of the file" } else { section };
        line(&mut text, &format!("\n## {title}\n\n{about}\n"));
        line(&mut text, "| key | what may be written | default | a change takes effect | what it does |");
        line(&mut text, "|---|---|---|---|---|");
        for key in KEYS.iter().filter(|key| key.section == *section && key.is_used()) {
            line(&mut text, &row(key));
        }
        let noted: Vec<_> = KEYS.iter().filter(|key| key.section == *section && !key.is_used()).collect();
        if !noted.is_empty() {
            line(&mut text, "\nAccepted, without effect:\n");
        }
        for key in noted {
            line(&mut text, &format!("- `{}`: {}.{}", key.full(), key.doc, spelled(key)));
        }
    }
    text
}

fn row(key: &Key) -> String {
    let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
    let reload = match key.reload {
        Reload::Restart => "at the next start",
        Reload::Running => "while the engine runs",
    };
    let secret = if key.is_secret() { " Its secret is shown as `***`." } else { "" };
    let cells = [format!("`{}`", key.full()), key.kind.allowed(), default, reload.to_owned()];
    format!("| {} | {}{}{secret} |", cells.join(" | "), key.doc.replace('<', "&lt;").replace('|', "\\|"), spelled(key))
}

fn spelled(key: &Key) -> String {
    match key.aliases {
        [] => String::new(),
        others => format!(" Also spelled {}.", others.join(", ")),
    }
}

const REFERENCE_HEAD: &str = "\
# The keys of the configuration

Every key is optional. A key left empty means its default. The environment variable of a key,
`RESONANCE_<SECTION>_<KEY>` in capitals (`mysql.password`: `RESONANCE_MYSQL_PASSWORD`), wins over the file. The flags
`--cores` and `--admin` win over both. `task-engine check-config FILE` shows the values in use, or each mistake.

This page is written from the table in src/config/keys.rs, together with config/task.yaml.
";

const SAMPLE_HEAD: &str = "\
# Every key of task-engine, with its default. All are optional: an empty file, or none, means this one.
#
# A time has a unit: 500ms, 30s, 1h. A key left empty means its default. Each key has an environment variable,
# RESONANCE_<SECTION>_<KEY> in capitals (mysql.password: RESONANCE_MYSQL_PASSWORD), which wins over the file; the
# flags --cores and --admin win over both. `task-engine check-config FILE` shows what holds, or what is wrong.
#
# This file follows from the table in src/config/keys.rs; `UPDATE_SAMPLE=1 cargo test --test config` writes it.
";

/// Where lines are written: in a section, and in a group of its keys.
struct Place {
    indent: &'static str,
    group: &'static str,
}

impl Place {
    fn open(text: &mut String, section: &str) -> Self {
        if section.is_empty() {
            return Self { indent: "", group: "" };
        }
        line(text, &format!("{section}:"));
        Self { indent: "  ", group: "" }
    }

    /// The indentation and the name of a key, after the line of the group that it begins.
    fn of(&mut self, text: &mut String, key: &'static str) -> (String, &'static str) {
        let (group, name) = key.split_once('.').unwrap_or(("", key));
        if group != self.group && !group.is_empty() {
            line(text, &format!("{}{group}:", self.indent));
        }
        self.group = group;
        (if group.is_empty() { self.indent.to_owned() } else { format!("{}  ", self.indent) }, name)
    }
}

fn line(text: &mut String, line: &str) {
    writeln!(text, "{line}").expect("a String takes everything");
}

/// A value as YAML; quoted where it could be read as something else.
fn scalar(kind: Kind, value: &str) -> String {
    let is_text = matches!(
        kind,
        Kind::Text
            | Kind::Secret
            | Kind::SecretFile
            | Kind::Word
            | Kind::Prefix
            | Kind::Subject
            | Kind::Name
            | Kind::Host
    );
    let is_safe = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    let is_number_like = value.starts_with(|c: char| c.is_ascii_digit() || c == '-' || c == '.');
    let is_word_like = ["null", "true", "false", "yes", "no", "on", "off"].contains(&value.to_lowercase().as_str());
    let plain = if is_text {
        value.chars().all(is_safe) && !is_word_like && (!is_number_like || matches!(kind, Kind::Host))
    } else {
        !value.starts_with([':', '*', '[']) && value.chars().all(|c| is_safe(c) || ":,".contains(c))
    };
    if plain && !value.is_empty() {
        return value.to_owned();
    }
    serde_json::to_string(value).expect("a text is JSON")
}

/// What holds for a key, as one would write it. A secret that stands in a file has no value of its own.
fn value(config: &mut Config, key: &Key) -> String {
    let place = keys::find(key.section, key.name);
    let file = KEYS.iter().enumerate().find(|(found, _)| place.is_some() && secret_of(*found) == place);
    if file.is_some_and(|(_, file)| !value(config, file).is_empty()) {
        return String::new();
    }
    match key.goes {
        Goes::Nowhere => String::new(),
        Goes::Field(field) => field(config).show(),
        Goes::Joined(shown) => shown(config),
    }
}

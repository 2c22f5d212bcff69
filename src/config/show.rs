//! The configuration as YAML: what holds ([`show`]), and the commented file of all defaults ([`sample`]); and the table of
//! keys as a page to read ([`reference`]), both in English and in Chinese.
//!
//! Promises that what is shown can be read again and means the same, but for the secrets, which are `***`.

use std::fmt::Write;

use super::chinese;
use super::keys::{self, Goes, KEYS, Key, Reload, SECTIONS};
use super::kinds::Kind;
use super::secret_files::secret_of;
use super::sections::Config;

/// Every key that is used, with what holds for it.
pub fn show(config: &Config) -> String {
    show_with(config, &|_| None)
}

/// The same with a comment behind the keys, named in full, that have one; one line each.
pub fn show_with(config: &Config, comment: &dyn Fn(&str) -> Option<String>) -> String {
    let (mut text, mut held) = (String::new(), config.clone());
    for (section, _) in SECTIONS.iter().filter(|(section, _)| is_shown(section, config)) {
        let keys = KEYS.iter().filter(|key| key.section == *section && key.is_used());
        let mut place = Place::open(&mut text, section);
        for key in keys {
            let (indent, name) = place.of(&mut text, key.name);
            let comment = comment(&key.full()).map_or(String::new(), |comment| format!("  # {comment}"));
            line(&mut text, &format!("{indent}{name}: {}{comment}", scalar(key.kind, &value(&mut held, key))));
        }
    }
    text
}

/// The same keys in full, each with what holds for it as it would be written.
pub fn held(config: &Config) -> Vec<(String, String)> {
    let mut held = config.clone();
    let shown = KEYS.iter().filter(|key| key.is_used() && is_shown(key.section, config));
    shown.map(|key| (key.full(), value(&mut held, key))).collect()
}

/// The language of a file that is written from the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `config/task.yaml`, `config/REFERENCE.md`.
    English,
    /// `config/task.zh-CN.yaml`, `config/REFERENCE.zh-CN.md`.
    Chinese,
}

impl Language {
    fn about(self, section: &'static str, english: &'static str) -> &'static str {
        if self == Self::English { english } else { chinese::about(section) }
    }

    fn doc(self, key: &Key) -> &'static str {
        if self == Self::English { key.doc } else { chinese::doc(key) }
    }

    /// This text or that, by the language.
    fn of<'a>(self, english: &'a str, chinese: &'a str) -> &'a str {
        if self == Self::English { english } else { chinese }
    }
}

/// Whether what holds for a section's keys is in the section: of two databases one holds members, and what Resonance writes of
/// its consumers is in other sections.
fn is_shown(section: &str, config: &Config) -> bool {
    match section {
        "service" | "push_consumer" | "storage_consumer" | "stream_consumer" | "jetstream" | "observability" => false,
        "mysql" | "postgres" => section == config.database.section(),
        _ => true,
    }
}

/// The text of `config/task.yaml`.
pub fn sample(language: Language) -> String {
    let (mut text, defaults) = (language.of(SAMPLE_HEAD, SAMPLE_HEAD_CHINESE).to_owned(), Config::default());
    for (section, about) in SECTIONS {
        line(&mut text, "");
        line(&mut text, &format!("# {}", language.about(section, about)));
        // A section that says something by being there is not there.
        let mark = if is_shown(section, &defaults) { "" } else { "# " };
        section_of_sample(section, language).lines().for_each(|of| line(&mut text, &format!("{mark}{of}")));
    }
    text
}

fn section_of_sample(section: &'static str, language: Language) -> String {
    let mut text = String::new();
    let noted = language.of("accepted, without effect: ", "兼容旧配置，不起作用：");
    let end = language.of(".", "。");
    let mut place = Place::open(&mut text, section);
    for key in KEYS.iter().filter(|key| key.section == section) {
        let (indent, name) = place.of(&mut text, key.name);
        let (doc, spelled) = (language.doc(key), spelled(key, language));
        if key.is_used() {
            line(&mut text, &format!("{indent}# {doc}{spelled}"));
            line(&mut text, &format!("{indent}{name}: {}", scalar(key.kind, key.default)));
        } else {
            line(&mut text, &format!("{indent}# {name}:   {noted}{doc}{end}{spelled}"));
        }
    }
    text
}

/// The text of `config/REFERENCE.md`: each key with what may be written, its default and when a change takes effect.
pub fn reference(language: Language) -> String {
    let mut text = language.of(REFERENCE_HEAD, REFERENCE_HEAD_CHINESE).to_owned();
    for (section, about) in SECTIONS {
        let top = language.of("At the top of the file", "文件顶层");
        let title = if section.is_empty() { top } else { section };
        line(&mut text, &format!("\n## {title}\n\n{}\n", escaped(language.about(section, about))));
        line(&mut text, language.of(REFERENCE_COLUMNS, REFERENCE_COLUMNS_CHINESE));
        line(&mut text, "|---|---|---|---|---|");
        for key in KEYS.iter().filter(|key| key.section == *section && key.is_used()) {
            line(&mut text, &row(key, language));
        }
        let noted: Vec<_> = KEYS.iter().filter(|key| key.section == *section && !key.is_used()).collect();
        if !noted.is_empty() {
            line(&mut text, language.of("\nAccepted, without effect:\n", "\n兼容旧配置，不起作用：\n"));
        }
        for key in noted {
            let (colon, end) = (language.of(": ", "："), language.of(".", "。"));
            line(&mut text, &format!("- `{}`{colon}{}{end}{}", key.full(), language.doc(key), spelled(key, language)));
        }
    }
    text
}

fn row(key: &Key, language: Language) -> String {
    let default = if key.default.is_empty() { String::new() } else { format!("`{}`", key.default) };
    let english = match key.reload {
        Reload::Restart => "at the next start",
        Reload::Running => "at a reload (SIGHUP)",
        Reload::Parts => "user and times at a reload (SIGHUP), the place at the next start",
    };
    let reload = language.of(english, chinese::reload(key.reload));
    let allowed = if language == Language::English { key.kind.allowed() } else { chinese::allowed(key.kind) };
    let hidden = language.of(" Its secret is shown as `***`.", "回显时密码显示为 `***`。");
    let secret = if key.is_secret() { hidden } else { "" };
    let cells = [format!("`{}`", key.full()), allowed, default, reload.to_owned()];
    format!("| {} | {}{}{secret} |", cells.join(" | "), escaped(language.doc(key)), spelled(key, language))
}

/// A text as Markdown shows it in a table.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('|', "\\|")
}

fn spelled(key: &Key, language: Language) -> String {
    match (key.aliases, language) {
        ([], _) => String::new(),
        (others, Language::English) => format!(" Also spelled {}.", others.join(", ")),
        (others, Language::Chinese) => format!("也可写作 {}。", others.join("、")),
    }
}

const REFERENCE_COLUMNS: &str = "| key | what may be written | default | a change takes effect | what it does |";
const REFERENCE_COLUMNS_CHINESE: &str = "| 键 | 取值 | 默认值 | 生效时机 | 说明 |";

const REFERENCE_HEAD_CHINESE: &str = "\
# 配置项参考

所有键都可以不写；键写了但值留空，等于用默认值。每个键都有对应的环境变量 `RESONANCE_<节>_<键>`，全大写（`mysql.password` 即
`RESONANCE_MYSQL_PASSWORD`），优先于文件；命令行 `--cores`、`--admin` 优先于两者。`task-engine check-config FILE` 打印实际生效的值，
有错则一次列全。

本页与 config/task.zh-CN.yaml 都由 src/config/keys.rs 和 src/config/chinese.rs 里的表生成，不要手改。英文版见 [REFERENCE.md](REFERENCE.md)。
";

const SAMPLE_HEAD_CHINESE: &str = "\
# task-engine 的全部配置项及默认值。都可以不写：空文件、甚至没有文件，效果与本文件相同。
#
# 时长要带单位：500ms、30s、1h。键写了但值留空，等于用默认值。每个键都有环境变量 RESONANCE_<节>_<键>，全大写
# （mysql.password 即 RESONANCE_MYSQL_PASSWORD），优先于文件；命令行 --cores、--admin 优先于两者。
# `task-engine check-config FILE` 打印实际生效的值，有错则一次列全。
#
# 本文件由 src/config/keys.rs 和 src/config/chinese.rs 里的表生成：`UPDATE_SAMPLE=1 cargo test --test config`。
";

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

//! What may be written of the classes of events: header and rules.
//!
//! Promises that no message shows a rule that was not understood.

use std::cmp::Reverse;
use std::fmt::Display;

use super::field::{Blank, Field, wrong};
use super::plain::{count, word};
use super::value::Value;
use crate::model::limits::ENGINE_HEADERS;
use crate::model::priority::{Priority, PriorityRules};
use crate::model::publication::PUBLISHED_HEADER;
use crate::model::redact;

/// The words for the classes.
pub(super) const CLASSES: &[&str] =
    &[Priority::Urgent.label(), Priority::Normal.label(), Priority::Bulk.label(), Priority::Fleeting.label()];
/// The longest name of a header.
const HEADER_BYTES_MAX: usize = 128;
/// Headers that say something else to the engine.
const OTHER_HEADERS: [&str; 3] = [PUBLISHED_HEADER, "traceparent", "tracestate"];
/// The most members that a rule may name.
const MEMBERS_MAX: u64 = 10_000_000;

impl Blank for PriorityRules {
    fn blank() -> Self {
        Self::default()
    }
}

impl Field for Priority {
    fn set(&mut self, value: Value) {
        *self = match value {
            Value::Text(class) => Self::of_word(class.as_bytes()).expect("the table's words are the classes"),
            other => wrong(&other),
        };
    }

    fn show(&self) -> String {
        self.label().to_owned()
    }
}

impl Field for Vec<(String, Priority)> {
    fn set(&mut self, value: Value) {
        *self = match value {
            Value::TypeClasses(rules) => rules,
            other => wrong(&other),
        };
    }

    fn show(&self) -> String {
        shown(self)
    }
}

impl Field for Vec<(u32, Priority)> {
    fn set(&mut self, value: Value) {
        *self = match value {
            Value::SizeClasses(rules) => rules,
            other => wrong(&other),
        };
    }

    fn show(&self) -> String {
        shown(self)
    }
}

fn shown(rules: &[(impl Display, Priority)]) -> String {
    rules.iter().map(|(of, class)| format!("{of}={}", class.label())).collect::<Vec<_>>().join(",")
}

/// The name of a header: of those that servers, or the engine, act on it is none.
pub(super) fn header(text: &str) -> Result<String, String> {
    let name = word(text)?;
    if !name.bytes().all(|byte| byte.is_ascii_graphic() && byte != b':') {
        return Err(format!("{} is no name of a header; write one such as Resonance-Priority", redact::value(&name)));
    }
    if name.len() > HEADER_BYTES_MAX {
        return Err(format!("the name of a header has {HEADER_BYTES_MAX} bytes at the most, this one {}", name.len()));
    }
    let begins = |with: &str| name.get(..with.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(with));
    let is_read_otherwise = OTHER_HEADERS.iter().any(|other| name.eq_ignore_ascii_case(other));
    if is_read_otherwise || begins("Nats-") || begins(ENGINE_HEADERS) {
        return Err(format!(
            "{} is a header that NATS or the engine acts on; take a name of your own, such as Resonance-Priority",
            redact::value(&name)
        ));
    }
    Ok(name)
}

/// Rules by type.
pub(super) fn by_type(text: &str) -> Result<Vec<(String, Priority)>, String> {
    let is_one = |name: &str| !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c == ';');
    rules(text, "type=class, as call=urgent", "a type without blanks and ;", |name| {
        is_one(name).then(|| name.to_owned())
    })
}

/// Rules by the number of members, the largest one first.
pub(super) fn by_members(text: &str) -> Result<Vec<(u32, Priority)>, String> {
    let what = "a whole number of members up to 10000000";
    let mut all = rules(text, "members=class, as 500=bulk", what, |members| {
        count(members, 0, MEMBERS_MAX).ok().map(|members| members as u32)
    })?;
    all.sort_by_key(|(members, _)| Reverse(*members));
    Ok(all)
}

/// Rules, separated by commas. What is wrong is not shown: with a wrong indentation it is another key, which may be a secret.
fn rules<T: PartialEq>(
    text: &str,
    form: &str,
    what: &str,
    read: impl Fn(&str) -> Option<T>,
) -> Result<Vec<(T, Priority)>, String> {
    let mut all: Vec<(T, Priority)> = Vec::new();
    for rule in text.split(',').map(str::trim).filter(|rule| !rule.is_empty()) {
        let place = all.len() + 1;
        let (of, class) = rule.rsplit_once('=').unwrap_or((rule, ""));
        let (of, class) = (of.trim(), class.trim());
        let Some(class) = Priority::of_word(class.as_bytes()) else {
            let is = if class.is_empty() { "has no class" } else { "has a class that is none" };
            let classes = CLASSES.join(", ");
            return Err(format!(
                "rule {place} {is}; the classes are {classes}, the form is {form}, with commas between"
            ));
        };
        let Some(of) = read(of) else {
            let is_for = if of.is_empty() { "is for nothing" } else { "is not for what it should be" };
            return Err(format!("rule {place} {is_for}; write {what} before the class, and commas between rules"));
        };
        if let Some(other) = all.iter().position(|(other, _)| *other == of) {
            return Err(format!("rules {} and {place} are for the same; leave one out", other + 1));
        }
        all.push((of, class));
    }
    Ok(all)
}

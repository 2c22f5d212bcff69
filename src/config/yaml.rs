//! YAML into a tree in which each node knows its line and column.
//!
//! Promises to report every mistake of form it can still see (keys written twice among them) and to end on any input:
//! size, depth and the number of nodes, aliases followed, are bounded. Promises that no message repeats what stands where a
//! value may stand: it may be a password without quotes. Refuses merge keys, tags of its own and more than one document.

use std::collections::HashMap;

use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, TScalarStyle};

/// The largest file that is read, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;
const DEPTH_MAX: usize = 16;
const NODES_MAX: usize = 20_000;

/// A place in the file, both counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The line.
    pub line: usize,
    /// The character in that line.
    pub column: usize,
}

/// A node of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// Where it begins.
    pub mark: Mark,
    /// What it is.
    pub body: Body,
    /// It is written elsewhere, with another key; an alias stands here.
    pub is_alias: bool,
}

/// What a node is.
#[derive(Clone, Debug)]
pub enum Body {
    /// Nothing, `~` or `null`.
    Null,
    /// One value, as text.
    Scalar(String),
    /// A list.
    List(Vec<Node>),
    /// Keys and their values, in the order they are written; a key that is written twice is here twice.
    Map(Vec<(Node, Node)>),
}

/// A mistake of form.
#[derive(Debug)]
pub struct Trouble {
    /// Where.
    pub mark: Mark,
    /// What, in words.
    pub what: String,
    /// The key it is about; only for one that the configuration knows may it be told.
    pub key: Option<String>,
}

impl Trouble {
    fn new(mark: Mark, what: String) -> Self {
        Self { mark, what, key: None }
    }
}

/// The root of a text, and what is wrong with its form. An empty text is an empty map.
pub fn parse(text: &str) -> (Node, Vec<Trouble>) {
    let mut tree = Tree::default();
    let mut parser = Parser::new(text.strip_prefix('\u{feff}').unwrap_or(text).chars());
    loop {
        match parser.next_token() {
            Ok((Event::StreamEnd, _)) => break,
            Ok((event, marker)) => {
                if let Err(what) = tree.take(event, place(marker)) {
                    tree.troubles.push(Trouble::new(place(marker), what));
                    break;
                }
            }
            Err(error) => {
                tree.troubles.push(Trouble::new(place(*error.marker()), refused(error.info())));
                break;
            }
        }
    }
    tree.finish()
}

/// What the parser does not take. Its words are fixed, but for one character; those of a value without quotes say so.
fn refused(info: &str) -> String {
    let begins = if info.starts_with("unexpected character") {
        "%, @ or `"
    } else if info.contains("anchor") {
        "& or *"
    } else if info.contains("tag") || info.contains("handle") {
        "!"
    } else if info.contains("tab") {
        return "not valid YAML: there is a tab where blanks must stand; indent with blanks".to_owned();
    } else if info.contains("indent") || info.contains("did not find expected key") {
        return "not valid YAML: this line, or one above it, is not indented as the keys beside it".to_owned();
    } else if info.contains("mapping values are not allowed") {
        return "not valid YAML: a key stands where none can: it is indented too far, or a value before it needs quotes".to_owned();
    } else {
        return format!("not valid YAML: {info}");
    };
    needs_quotes(begins)
}

fn needs_quotes(begins: &str) -> String {
    format!("not valid YAML: a value that begins with {begins} needs quotes")
}

fn place(marker: Marker) -> Mark {
    Mark { line: marker.line().max(1), column: marker.col() + 1 }
}

#[derive(Default)]
struct Tree {
    open: Vec<Open>,
    root: Option<Node>,
    anchors: HashMap<usize, (Node, usize)>,
    troubles: Vec<Trouble>,
    nodes: usize,
}

/// A list or map whose end has not come.
struct Open {
    mark: Mark,
    anchor: usize,
    key: Option<Node>,
    inside: Body,
    nodes_before: usize,
}

impl Tree {
    /// Takes the next event; an error ends the reading.
    fn take(&mut self, event: Event, mark: Mark) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > NODES_MAX {
            return Err(format!("more than {NODES_MAX} values, aliases followed"));
        }
        match event {
            Event::DocumentStart if self.root.is_some() => return Err("a second document; one is read".into()),
            Event::Scalar(text, style, anchor, tag) => {
                let as_text = self.is_text(tag, mark);
                let plain = matches!(style, TScalarStyle::Plain) && !as_text;
                if anchor != 0 && plain && text.is_empty() {
                    self.troubles.push(Trouble::new(self.place_of_value(mark), needs_quotes("&")));
                }
                let null = plain && matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL");
                let body = if null { Body::Null } else { Body::Scalar(text) };
                self.put(Node { mark, body, is_alias: false }, anchor, 1);
            }
            Event::SequenceStart(anchor, tag) => self.begin(mark, anchor, tag, Body::List(Vec::new()))?,
            Event::MappingStart(anchor, tag) => self.begin(mark, anchor, tag, Body::Map(Vec::new()))?,
            Event::SequenceEnd | Event::MappingEnd => self.end(),
            Event::Alias(anchor) => match self.anchors.get(&anchor).cloned() {
                Some((node, size)) => {
                    self.nodes += size;
                    if self.nodes > NODES_MAX {
                        return Err(format!("more than {NODES_MAX} values, aliases followed"));
                    }
                    self.put(Node { mark, is_alias: true, ..node }, 0, size);
                }
                None => return Err("an alias inside what it names".into()),
            },
            _ => {}
        }
        Ok(())
    }

    /// Whether a tag asks for text; tags of its own are a trouble.
    fn is_text(&mut self, tag: Option<Tag>, mark: Mark) -> bool {
        let Some(tag) = tag else { return false };
        let whole = format!("{}{}", tag.handle, tag.suffix);
        match whole.strip_prefix("tag:yaml.org,2002:").or_else(|| whole.strip_prefix("!!")) {
            Some("str") => true,
            Some("bool" | "float" | "int" | "map" | "null" | "seq") => false,
            _ => {
                self.troubles.push(Trouble::new(self.place_of_value(mark), needs_quotes("!")));
                true
            }
        }
    }

    /// Where the value is that comes next: at its key. The parser's own mark is behind a tag or an anchor, which may be on
    /// another line.
    fn place_of_value(&self, mark: Mark) -> Mark {
        self.open.last().and_then(|open| open.key.as_ref()).map_or(mark, |key| key.mark)
    }

    fn begin(&mut self, mark: Mark, anchor: usize, tag: Option<Tag>, inside: Body) -> Result<(), String> {
        self.is_text(tag, mark);
        if self.open.len() >= DEPTH_MAX {
            return Err(format!("more than {DEPTH_MAX} levels deep"));
        }
        self.open.push(Open { mark, anchor, key: None, inside, nodes_before: self.nodes });
        Ok(())
    }

    fn end(&mut self) {
        if let Some(open) = self.open.pop() {
            let size = self.nodes - open.nodes_before + 1;
            self.put(Node { mark: open.mark, body: open.inside, is_alias: false }, open.anchor, size);
        }
    }

    fn put(&mut self, node: Node, anchor: usize, size: usize) {
        if anchor != 0 {
            self.anchors.insert(anchor, (node.clone(), size));
        }
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match &mut open.inside {
            Body::List(items) => items.push(node),
            Body::Map(entries) => match open.key.take() {
                Some(key) => entries.push((key, node)),
                None => open.key = Some(node),
            },
            Body::Null | Body::Scalar(_) => unreachable!("only lists and maps are opened"),
        }
    }

    /// Closes what a mistake left open, so that the mistakes before it are reported as well.
    fn finish(mut self) -> (Node, Vec<Trouble>) {
        while !self.open.is_empty() {
            self.end();
        }
        let empty = Node { mark: Mark { line: 1, column: 1 }, body: Body::Map(Vec::new()), is_alias: false };
        let root = self.root.unwrap_or(empty);
        check_keys(&root, &mut self.troubles);
        (root, self.troubles)
    }
}

/// Keys that are no names, and keys that are written twice.
fn check_keys(node: &Node, troubles: &mut Vec<Trouble>) {
    match &node.body {
        Body::List(items) => items.iter().for_each(|item| check_keys(item, troubles)),
        Body::Map(entries) => {
            let mut seen: HashMap<&str, Mark> = HashMap::new();
            for (key, value) in entries {
                check_keys(value, troubles);
                let Body::Scalar(name) = &key.body else {
                    troubles.push(Trouble::new(key.mark, "a key must be a name".into()));
                    continue;
                };
                if let Some(first) = seen.insert(name, key.mark) {
                    let what = format!("is written twice here; first on line {}", first.line);
                    troubles.push(Trouble { mark: key.mark, what, key: Some(name.clone()) });
                }
            }
        }
        Body::Null | Body::Scalar(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use crate::config;

    #[test]
    fn fuzzed_yaml() {
        crate::fuzz::run("yaml", 1_500, |bytes| {
            let text = String::from_utf8_lossy(bytes);
            let breaks = |c: &char| matches!(c, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
            let lines = text.chars().filter(breaks).count() as u64 + 2;
            let (_, troubles) = super::parse(&text);
            assert!(troubles.iter().all(|trouble| trouble.mark.line as u64 <= lines), "{troubles:?}");
            match config::parse("fuzzed.yaml", &text, [], &config::Flags::default()) {
                Err(mistakes) => assert!(!mistakes.all.is_empty() && !mistakes.to_string().is_empty()),
                Ok(checked) => {
                    assert!(troubles.is_empty(), "a text with a fault of form was taken: {troubles:?}");
                    let shown = config::show(&checked.config);
                    let (_, troubles) = super::parse(&shown);
                    assert!(troubles.is_empty(), "what is shown is YAML: {troubles:?}\n{shown}");
                }
            }
        });
    }
}

//! One source file as the promises look at it: its paths to other modules, its functions, its uses of `unsafe`.

use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, TokenStream, TokenTree};

/// A file of the repository.
#[derive(Debug, Default)]
pub struct Source {
    /// Its path from the root of the repository.
    pub path: String,
    /// Its module, from the crate's root; empty for the root itself, and for what is in no `src` folder.
    pub module: Vec<String>,
    /// Its number of lines.
    pub lines: usize,
    /// What it names by `crate::`, `self::` or `super::`.
    pub uses: Vec<Use>,
    /// The line of each `unsafe`.
    pub unsafe_lines: Vec<usize>,
    /// Its functions, also those in macros and in other functions.
    pub functions: Vec<Function>,
}

/// A path to another place of the crate, from the crate's root.
#[derive(Debug)]
pub struct Use {
    pub line: usize,
    pub to: Vec<String>,
    /// It stands in a module of tests.
    pub is_test: bool,
    /// It stands in the file's own module, not in one inside it; so a `pub use` of it can be a re-export.
    pub is_public: bool,
}

/// A function with a body.
#[derive(Debug)]
pub struct Function {
    pub name: String,
    pub line: usize,
    /// From `fn` to the closing brace.
    pub lines: usize,
}

/// All sources below these folders of the repository, by path.
pub fn read(folders: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    folders.iter().for_each(|folder| collect(&root.join(folder), &mut files));
    files.sort();
    assert!(files.len() > 10, "no sources in {folders:?} of {}", root.display());
    let parse_file = |file: &PathBuf| {
        let text = std::fs::read_to_string(file).expect("a source");
        let path = file.strip_prefix(root).expect("below the root").to_str().expect("UTF-8");
        parse(path, &text)
    };
    files.iter().map(parse_file).collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display())) {
        let path = entry.expect("an entry").path();
        match path.is_dir() {
            true => collect(&path, files),
            false if path.extension().is_some_and(|ending| ending == "rs") => files.push(path),
            false => {}
        }
    }
}

/// Reads one text.
pub fn parse(path: &str, text: &str) -> Source {
    let tokens: TokenStream = text.parse().unwrap_or_else(|why| panic!("{path} is not Rust: {why}"));
    let module = module_of(path);
    let mut source =
        Source { path: path.to_owned(), lines: text.lines().count(), module: module.clone(), ..Source::default() };
    let is_test = path.trim_end_matches(".rs").ends_with("tests");
    walk(&mut source, &list(tokens), &module, is_test);
    source
}

fn module_of(path: &str) -> Vec<String> {
    let inside = path.strip_prefix("src/").or_else(|| path.split_once("/src/").map(|(_, inside)| inside));
    let Some(path) = inside.and_then(|path| path.strip_suffix(".rs")) else { return Vec::new() };
    let mut module = path.split('/').map(str::to_owned).collect::<Vec<_>>();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    module
}

fn list(tokens: TokenStream) -> Vec<TokenTree> {
    tokens.into_iter().collect()
}

fn word(token: Option<&TokenTree>) -> Option<String> {
    match token {
        Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
        _ => None,
    }
}

fn line(token: &TokenTree) -> usize {
    token.span().start().line
}

fn walk(source: &mut Source, tokens: &[TokenTree], module: &[String], is_test: bool) {
    let mut at = 0;
    while at < tokens.len() {
        let token = &tokens[at];
        match (word(Some(token)).as_deref(), token) {
            (Some("unsafe"), _) => source.unsafe_lines.push(line(token)),
            (Some("fn"), _) => source.functions.extend(function(&tokens[at..])),
            (Some("mod"), _) => {
                if let (Some(name), Some(TokenTree::Group(body))) = (word(tokens.get(at + 1)), tokens.get(at + 2)) {
                    let inner = [module, &[name]].concat();
                    walk(source, &list(body.stream()), &inner, is_test || is_for_tests(&tokens[..at]));
                    at += 2;
                }
            }
            // `pub use child::Name` is `self::child::Name`.
            (Some(_), _) if is_path(tokens, at + 1) && (is_start(token) || is_after_pub_use(&tokens[..at])) => {
                let is_public = module == source.module && is_after_pub_use(&tokens[..at]);
                let (mut found, end) = (Vec::new(), path_from(tokens, at, module));
                at = branches(tokens, end.0, end.1, &mut found) - 1;
                let found = found.into_iter().map(|(line, to)| Use { line, to, is_test, is_public });
                source.uses.extend(found);
            }
            (_, TokenTree::Group(group)) => walk(source, &list(group.stream()), module, is_test),
            _ => {}
        }
        at += 1;
    }
}

/// The words that say where a path starts.
fn is_start(token: &TokenTree) -> bool {
    matches!(word(Some(token)).as_deref(), Some("crate" | "self" | "super"))
}

/// Whether `::` stands here.
fn is_path(tokens: &[TokenTree], at: usize) -> bool {
    let colon = |at: usize| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == ':');
    colon(at) && colon(at + 1) && matches!(&tokens[at], TokenTree::Punct(punct) if punct.spacing() == Spacing::Joint)
}

/// `#[cfg(test)]` or `#[cfg(all(test, ...))]` stands before, and perhaps `pub`.
fn is_for_tests(before: &[TokenTree]) -> bool {
    let attributes = before.iter().rev().take_while(|token| {
        matches!(token, TokenTree::Group(_) | TokenTree::Punct(_)) || word(Some(token)).as_deref() == Some("pub")
    });
    let is_bracket =
        |token: &&TokenTree| matches!(token, TokenTree::Group(group) if group.delimiter() == Delimiter::Bracket);
    let texts = attributes.filter(is_bracket).map(ToString::to_string);
    texts.filter(|text| text.contains("cfg")).any(|text| text.contains("test"))
}

fn is_after_pub_use(before: &[TokenTree]) -> bool {
    let words = before.iter().rev().take(2).map(|token| word(Some(token))).collect::<Vec<_>>();
    words.first().is_some_and(|word| word.as_deref() == Some("use"))
        && words.get(1).is_some_and(|word| word.as_deref() == Some("pub"))
}

/// Where `crate`, `self` or `super::super` lead, and what follows them.
fn path_from(tokens: &[TokenTree], mut at: usize, module: &[String]) -> (usize, Vec<String>) {
    let mut base = module.to_vec();
    if word(tokens.get(at)).as_deref() == Some("crate") {
        base.clear();
    }
    while let Some("crate" | "self" | "super") = word(tokens.get(at)).as_deref() {
        if word(tokens.get(at)).as_deref() == Some("super") {
            base.pop();
        }
        at += 1;
        if !is_path(tokens, at) {
            break;
        }
        at += 2;
    }
    (at, base)
}

/// The ends of a path that may branch in braces; gives where it ends.
fn branches(tokens: &[TokenTree], mut at: usize, mut to: Vec<String>, found: &mut Vec<(usize, Vec<String>)>) -> usize {
    let start = tokens.get(at.min(tokens.len() - 1)).map_or(0, line);
    loop {
        match tokens.get(at) {
            Some(TokenTree::Ident(ident)) if ident != "self" => to.push(ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                let inner = list(group.stream());
                let comma = |token: &TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ',');
                for branch in inner.split(comma).filter(|branch| !branch.is_empty()) {
                    branches(branch, 0, to.clone(), found);
                }
                return at + 1;
            }
            _ => {}
        }
        at += 1;
        if !is_path(tokens, at) {
            break;
        }
        at += 2;
    }
    found.push((start, to));
    at
}

fn function(tokens: &[TokenTree]) -> Option<Function> {
    let name = word(tokens.get(1))?;
    let is_semicolon = |token: &&TokenTree| matches!(token, TokenTree::Punct(punct) if punct.as_char() == ';');
    let body = tokens.iter().take_while(|token| !is_semicolon(token)).find_map(|token| match token {
        TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => Some(group),
        _ => None,
    })?;
    let first = line(&tokens[0]);
    Some(Function { name, line: first, lines: body.span_close().end().line + 1 - first })
}

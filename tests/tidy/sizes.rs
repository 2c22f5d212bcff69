//! Files and functions are short; those that are not are named, and only get shorter.

use crate::source::{parse, read};

const FILE_LINES_MAX: usize = 450;
const FUNCTION_LINES_MAX: usize = 70;

/// Longer files, and their lines.
const FILES: [(&str, usize); 0] = [];
/// Longer functions: file, name, lines.
const FUNCTIONS: [(&str, &str, usize); 0] = [];

const FOLDERS: [&str; 5] = ["src", "tests", "benches", "loadtest", "testkit"];

#[test]
fn files_are_short() {
    let (sources, mut wrong) = (read(&FOLDERS), Vec::new());
    for source in &sources {
        let known = FILES.iter().find(|(file, _)| *file == source.path).map(|(_, lines)| *lines);
        if source.lines > known.unwrap_or(FILE_LINES_MAX) {
            let (path, lines) = (&source.path, source.lines);
            wrong.push(format!(
                "{path}:{lines}: {lines} lines, at most {}: split it by responsibility",
                known.unwrap_or(FILE_LINES_MAX)
            ));
        }
    }
    for (file, _) in FILES {
        if !sources.iter().any(|source| source.path == file && source.lines > FILE_LINES_MAX) {
            wrong.push(format!("{file} is short: take it out of FILES of tests/tidy/sizes.rs"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn functions_are_short() {
    let (sources, mut wrong) = (read(&FOLDERS), Vec::new());
    let mut met = [false; FUNCTIONS.len()];
    for source in &sources {
        for function in source.functions.iter().filter(|function| function.lines > FUNCTION_LINES_MAX) {
            let known = FUNCTIONS.iter().position(|(file, name, _)| *file == source.path && *name == function.name);
            known.into_iter().for_each(|at| met[at] = true);
            let most = known.map_or(FUNCTION_LINES_MAX, |at| FUNCTIONS[at].2);
            if function.lines > most {
                let (path, line) = (&source.path, function.line);
                wrong.push(format!(
                    "{path}:{line}: fn {} has {} lines, at most {most}: take a step out of it",
                    function.name, function.lines
                ));
            }
        }
    }
    for ((file, name, _), _) in FUNCTIONS.iter().zip(met).filter(|(_, is_met)| !is_met) {
        wrong.push(format!("fn {name} of {file} is short: take it out of FUNCTIONS of tests/tidy/sizes.rs"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn lines_of_a_function_are_counted_with_its_braces() {
    let text = "trait T {\n    fn none(&self);\n}\nfn two() {\n    \"}\";\n}\nconst F: fn() = two;\n";
    let functions = parse("src/x.rs", text).functions;
    assert_eq!(
        functions.iter().map(|function| (function.name.as_str(), function.line, function.lines)).collect::<Vec<_>>(),
        [("two", 4, 3)]
    );
}

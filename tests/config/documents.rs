//! Promise: the pages for people, English and Chinese, name each command; what they say of keys follows from the table (`sample.rs`).

use std::path::Path;

use clap::CommandFactory;
use task_engine::cli::Cli;

/// The first page of each language, and those behind it.
const PAGES: [(&str, [&str; 3]); 2] = [
    ("README.md", ["docs/instances.md", "docs/dead-letters.md", "docs/jetstream.md"]),
    ("README.zh-CN.md", ["docs/zh-CN/instances.md", "docs/zh-CN/dead-letters.md", "docs/zh-CN/jetstream.md"]),
];

fn read(page: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page))
        .unwrap_or_else(|error| panic!("{page}: {error}"))
}

#[test]
fn each_command_is_named_in_both_languages() {
    let mut cli = Cli::command();
    cli.build();
    let commands = || cli.get_subcommands().filter(|command| command.get_name() != "help");
    assert!(commands().count() > 5);
    for (first, behind) in PAGES {
        let page = read(first);
        let all = behind.map(read).concat() + &page;
        for command in commands() {
            let name = command.get_name();
            assert!(page.contains(&format!("task-engine {name}")), "{first} does not say `task-engine {name}`");
            for inner in command.get_subcommands().filter(|inner| inner.get_name() != "help") {
                let both = format!("{name} {}", inner.get_name());
                assert!(all.contains(&both), "{first} and the pages behind it do not say `{both}`");
            }
        }
    }
}

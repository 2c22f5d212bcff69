//! Promise: whatever is wrong with the form of the configuration, no message repeats a secret, however it is written: start
//! and `check-config` say where it is and what to do.

use std::process::Command;

/// Every part of a secret, so that half of one is found as well.
const SECRETS: [&str; 3] = ["hunter2", "geheim-mysql", "s3cr3t"];

/// What `check-config` and the start say of this text, with their exit codes.
fn said(text: &str) -> Vec<(Option<i32>, String)> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("task.yaml");
    std::fs::write(&file, text).expect("a file");
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_task-engine"));
        let output = command.args(arguments).arg(&file).current_dir(folder.path()).output().expect("it starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), said)
    };
    vec![run(&["check-config"]), run(&["--config"]), run(&["dlq", "list", "--config"])]
}

/// Texts with a secret in a wrong place, and what is said of each.
const WRONG: &[(&str, &str)] = &[
    // Tags.
    ("mysql:\n  password: !hunter2\n", ":2:3: not valid YAML: a value that begins with ! needs quotes"),
    ("mysql:\n  password: !hunter2 geheim-mysql\n", "not valid YAML: a value that begins with ! needs quotes"),
    ("mysql:\n  password: !!hunter2\n", "not valid YAML: a value that begins with ! needs quotes"),
    ("mysql:\n  password: !<hunter2> x\n", "not valid YAML: a value that begins with ! needs quotes"),
    ("mysql:\n  password: !hunter2!geheim-mysql\n", "not valid YAML: a value that begins with ! needs quotes"),
    ("mysql:\n  password: !hunter2 [s3cr3t]\n", "not valid YAML: a value that begins with ! needs quotes"),
    ("mysql:\n  password: !hunter2%zz\n", "not valid YAML: a value that begins with ! needs quotes"),
    ("mysql: {password: !hunter2}\n", "not valid YAML: a value that begins with ! needs quotes"),
    ("!hunter2 x\n", "not valid YAML: a value that begins with ! needs quotes"),
    // Anchors, aliases, what YAML keeps for itself.
    ("mysql:\n  password: &hunter2\n", ":2:3: not valid YAML: a value that begins with & needs quotes"),
    ("mysql:\n  password: *hunter2\n", "not valid YAML: a value that begins with & or * needs quotes"),
    ("mysql:\n  password: &hunter2 *geheim-mysql\n", ":2:3: not valid YAML: a value that begins with & needs quotes"),
    ("mysql:\n  password: *\n", "not valid YAML: a value that begins with & or * needs quotes"),
    ("mysql:\n  password: @hunter2\n", "not valid YAML: a value that begins with %, @ or ` needs quotes"),
    ("mysql:\n  password: `hunter2`\n", "not valid YAML: a value that begins with %, @ or ` needs quotes"),
    ("mysql:\n  password: %hunter2\n", "not valid YAML: a value that begins with %, @ or ` needs quotes"),
    ("mysql:\n  password: &p hunter2\nlog:\n  level: *p\n", "4:10: log.level: what this alias stands for"),
    (
        "mysql:\n  password: &p hunter2\nlog:\n  filter: [h2=info, *p]\nengine:\n  cores: *p\n",
        "engine.cores: what this",
    ),
    ("mysql:\n  password: &p hunter2\nredis:\n  *p : x\n", "redis: unknown key"),
    // Types.
    ("mysql:\n  password: [hunter2]\n", "mysql.password: takes one value, not a list"),
    ("mysql:\n  password: {hunter2: s3cr3t}\n", "mysql.password: takes one value, without keys below it"),
    ("mysql:\n  password: {hunter2: 1, hunter2: 2}\n", "a key is written twice here; first on line 2"),
    ("mysql:\n  password: {{ hunter2 }}\n", "a key must be a name"),
    ("mysql: hunter2\n", "mysql: is a section"),
    ("mysql: [hunter2]\n", "mysql: is a section"),
    ("hunter2\n", "the file must consist of keys with their values"),
    ("- hunter2\n", "the file must consist of keys with their values"),
    ("nats:\n  url: {hunter2: s3cr3t}\n", "nats.url: takes one value, without keys below it"),
    // Twice.
    ("mysql:\n  password: hunter2\n  password: geheim-mysql\n", "`password` is written twice here; first on line 2"),
    // Keys that are none: values in the wrong place.
    ("mysql:\n  password:\n  hunter2: s3cr3t\n", "3:3: mysql: unknown key"),
    ("mysql:\n  password: |\n  hunter2: s3cr3t\n", "mysql: unknown key"),
    ("mysql: {host: a, password: ab,hunter2}\n", "mysql: unknown key"),
    ("mysql: {host: a, password:hunter2}\n", "did you mean `mysql.password`?"),
    ("mysql: {host: a, password=hunter2}\n", "did you mean `mysql.password`?"),
    ("mysql:\n  password:hunter2: x\n", "did you mean `mysql.password`?"),
    ("mysql:\n  password: x\nhunter2:\n", "3:1: unknown key"),
    ("hunter2: s3cr3t\n", "1:1: unknown key"),
    ("mysql:\n  'hunter2': s3cr3t\n", "mysql: unknown key"),
    ("mysql:\n  ? hunter2\n  : s3cr3t\n", "mysql: unknown key"),
    // The parser's own words.
    ("mysql:\n  password: x\n  hunter2\n", "not valid YAML"),
    ("mysql:\n  password: hunter2: s3cr3t\n", "not valid YAML"),
    ("mysql:\n  password: \"hunter2\n", "not valid YAML"),
    ("mysql:\n  password: 'hunter2\nlog:\n", "not valid YAML"),
    ("mysql:\n  password: \"hunter2\\q\"\n", "not valid YAML"),
    ("mysql:\n  password: \"hunter2\" s3cr3t\n", "not valid YAML"),
    ("mysql:\n  password: [hunter2\n", "not valid YAML"),
    ("mysql:\n  password: {hunter2\n", "not valid YAML"),
    ("mysql:\n  password: x\n hunter2: s3cr3t\n", "not valid YAML"),
    ("mysql:\n\tpassword: hunter2\n", "not valid YAML"),
    ("mysql:\n  password: >hunter2\n", "not valid YAML"),
    ("mysql:\n  password: |9hunter2\n", "not valid YAML"),
    ("%hunter2 s3cr3t\n", "not valid YAML"),
    ("%YAML hunter2\n---\nlog:\n", "not valid YAML"),
    ("%TAG !hunter2 s3cr3t\n---\nlog:\n", "not valid YAML"),
    ("mysql:\n  password: x\n---\nhunter2: s3cr3t\n", "a second document"),
    // Values that a wrong indentation joined, and addresses at the wrong key.
    ("mysql:\n  port: 3306\n    password hunter2\n", "mysql.port: \"3306 ...\" is not a whole number"),
    ("mysql:\n  host: db\n    password hunter2\n", "mysql.host: a host cannot contain blanks"),
    ("log:\n  level: info\n    hunter2\n", "log.level: \"info ...\" is not one of"),
    ("log:\n  filter: h2=debug\n    hunter2\n", "log.filter: \"h2=debug ...\" is not a"),
    ("redis:\n  db: redis://:hunter2@h:1\n", "redis.db: \"redis://***@h:1\" is not a whole number"),
    ("redis:\n  read_timeout: -u:hunter2@h\n", "redis.read_timeout: ***@h is below zero"),
    ("mysql:\n  host: im:hunter2@db\n", "mysql.host: "),
    ("nats:\n  url: wss://u:hunter2@h:4222\n", "nats.url: the scheme must be nats:// or tls://"),
    ("admin:\n  listen: root:hunter2@h:1\n", "admin.listen: \"***@h:1\" is not address:port"),
    (
        "priority:\n  types:\n    call: urgent\n    password: hunter2\n",
        "priority.types: rule 2 has a class that is none",
    ),
    ("priority:\n  types: call=urgent\n    password hunter2\n", "priority.types: rule 1 has a class that is none"),
    ("priority:\n  members_above: {s3cr3t: bulk}\n", "priority.members_above: rule 1 is not for what it should be"),
    ("consumer:\n  topic: nats://u:hunter2@h/*\n", "consumer.topic: \"nats://***@h/*\" contains a wildcard"),
];

#[test]
fn a_secret_without_quotes_is_a_mistake_that_does_not_show_it() {
    let mut wrong = Vec::new();
    for (text, what) in WRONG {
        for (code, said) in said(text) {
            if code != Some(2) || SECRETS.iter().any(|secret| said.contains(secret)) || !said.contains(what) {
                wrong.push(format!("{text:?}: not {what:?} but {code:?}: {said}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_secret_that_is_quoted_or_a_block_is_taken_and_not_shown() {
    for text in [
        "mysql:\n  password: '!hunter2'\n",
        "mysql:\n  password: \"&hunter2: s3cr3t\"\n",
        "mysql:\n  password: |-\n    hunter2\n    s3cr3t\n",
        "mysql:\n  password: >-\n    !hunter2 # s3cr3t\n",
        "mysql:\n  password: !!str hunter2\n",
        "mysql:\n  password: &p hunter2\nredis:\n  password: *p\n",
    ] {
        let (code, said) = &said_by_check(text);
        assert_eq!(*code, Some(0), "{text:?}: {said}");
        assert!(said.contains("password: \"***\"") && !SECRETS.iter().any(|secret| said.contains(secret)), "{said}");
    }
}

fn said_by_check(text: &str) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("task.yaml");
    std::fs::write(&file, text).expect("a file");
    let output =
        Command::new(env!("CARGO_BIN_EXE_task-engine")).arg("check-config").arg(&file).output().expect("it starts");
    (
        output.status.code(),
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr),
    )
}

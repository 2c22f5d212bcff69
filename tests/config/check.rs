//! Promise: `task-engine check-config FILE` shows what holds and ends with 0, or each mistake on its line and ends
//! with 2; so does a run with a wrong configuration, before anything is opened.

use std::path::Path;
use std::process::{Command, Output};

use harness::servers::Authority;
use task_engine::config::{self, Flags};

fn engine(args: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_task-engine"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RESONANCE_") {
            command.env_remove(name);
        }
    }
    command.args(args).envs(environment.iter().copied()).output().expect("the binary starts")
}

fn texts(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&output.stdout), text(&output.stderr))
}

const GO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/go-service.yaml");

#[test]
fn a_right_file_is_shown_masked_and_can_be_read_again() {
    let output = engine(&["check-config", GO], &[("RESONANCE_REDIS_DB", "7")]);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(!out.contains("s3cret") && !err.contains("s3cret"), "{out}{err}");
    assert!(out.contains("  db: 7  # RESONANCE_REDIS_DB\n"), "the environment counts: {out}");
    assert!(err.contains("go-service.yaml:87:17: consumer.worker_count: has no effect here"), "{err}");
    let again = config::parse("again", &out, [], &Flags::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    let without_comments = out.lines().map(|line| line.split("  # ").next().unwrap().to_owned() + "\n");
    assert_eq!(config::show(&again.config), without_comments.collect::<String>());
}

#[test]
fn what_a_queue_does_not_promise_to_several_instances_is_said_with_what_to_use_instead() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("task.yaml");
    let checked = |consumer: &str| {
        std::fs::write(&file, format!("consumer:\n  mode: jetstream\n  stream: S\n{consumer}")).unwrap();
        let output = engine(&["check-config", file.to_str().unwrap()], &[]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        texts(&output).1
    };
    let said = checked("  assignment: queue\n");
    for words in
        ["with several instances the order", "pushed again", "partitioned and ownership etcd", "partitioner on"]
    {
        assert!(said.contains(words), "{words}: {said}");
    }
    let together = "  assignment: partitioned\n  ownership: etcd\n  partitioner: on\n";
    let said = checked(together);
    assert!(!said.contains("with several instances") && said.contains("publishers publish on"), "{said}");
}

#[test]
fn a_subject_of_urgent_events_beside_owners_or_the_partitioner_is_refused_with_what_to_do_instead() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("task.yaml");
    for key in ["ownership: etcd", "partitioner: on"] {
        let text = format!(
            "consumer:\n  mode: jetstream\n  stream: S\n  assignment: partitioned\n  urgent_topic: calls\n  {key}\n"
        );
        std::fs::write(&file, text).unwrap();
        let file = file.to_str().unwrap();
        for args in [&["check-config", file][..], &["--config", file][..]] {
            let output = engine(args, &[]);
            let (out, err) = texts(&output);
            let mistake = format!(
                "{file}:5:17: consumer.urgent_topic: is not read with consumer.ownership etcd or consumer.partitioner on"
            );
            assert_eq!((output.status.code(), out), (Some(2), String::new()), "{args:?}: {err}");
            assert!(err.contains(&mistake) && err.contains("priority.header or priority.types"), "{args:?}: {err}");
        }
    }
}

#[test]
fn each_mistake_is_one_line_and_the_code_is_2() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("bad.yaml");
    std::fs::write(&file, "mysql:\n  hots: a\n  port: x\n").unwrap();
    let file = file.to_str().unwrap();
    let expected = format!(
        "{file}:2:3: mysql.hots: unknown key; did you mean `mysql.host`?\n\
         {file}:3:9: mysql.port: \"x\" is not a whole number; write one from 1 to 65535\n"
    );
    for args in [&["check-config", file][..], &["--config", file][..]] {
        let output = engine(args, &[]);
        assert_eq!((output.status.code(), texts(&output)), (Some(2), (String::new(), expected.clone())), "{args:?}");
    }
}

#[test]
fn files_of_keys_and_certificates_are_looked_at() {
    let authority = Authority::new().unwrap();
    let (one, other) = (authority.certificate(&["a"]).unwrap(), authority.certificate(&["a"]).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("task.yaml");
    let checked = |section: &str, ca: &Path, cert: &Path, key: &Path| {
        let (ca, cert, key) = (ca.display(), cert.display(), key.display());
        std::fs::write(&file, format!("{section}:\n  tls: {{ca: {ca}, cert: {cert}, key: {key}}}\n")).unwrap();
        let output = engine(&["check-config", file.to_str().unwrap()], &[]);
        // Without its notes.
        let said = texts(&output).1.lines().filter(|line| !line.starts_with("note: ")).collect::<Vec<_>>().join("\n");
        (output.status.code(), said)
    };
    let none = Path::new("/no/such/file");
    let expired = authority.expired(&["a"]).unwrap();
    for section in ["nats", "redis", "etcd", "gateway", "mysql"] {
        assert_eq!(checked(section, &authority.ca(), &one.cert, &one.key), (Some(0), String::new()));
        for ((code, said), key, what) in [
            (
                checked(section, none, &one.cert, &one.key),
                "ca: /no/such/file",
                "cannot be read (no such file or directory)",
            ),
            (checked(section, &authority.ca(), none, &one.key), "cert: /no/such/file", "cannot be read"),
            (checked(section, &authority.ca(), &one.cert, none), "key: /no/such/file", "cannot be read"),
            (checked(section, &one.key, &one.cert, &one.key), "ca: ", "there is no certificate in it"),
            (checked(section, &authority.ca(), &one.cert, &other.key), "key: ", "it is not the key of the certificate"),
            (
                checked(section, &authority.ca(), &expired.cert, &expired.key),
                "cert: ",
                "our certificate has expired (2021-01-01T",
            ),
        ] {
            assert!(
                code == Some(2) && said.starts_with(&format!("{section}.tls.{key}")) && said.contains(what),
                "{said}"
            );
        }
    }
}

#[test]
fn a_missing_file_or_flag_is_told_in_words() {
    let output = engine(&["check-config", "/nonexistent/task.yaml"], &[]);
    let expected = "/nonexistent/task.yaml: file not found; check the path\n";
    assert_eq!((output.status.code(), texts(&output).1.as_str()), (Some(2), expected));
    let output = engine(&["--cores", "none"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.starts_with("flag --cores: engine.cores: "), "{output:?}");
    let output = engine(&["--core", "2"], &[]);
    assert_eq!(output.status.code(), Some(2));
    assert!(texts(&output).1.contains("--cores"), "{output:?}");
}

#[test]
fn help_says_purpose_examples_environment_and_exit_codes() {
    let output = engine(&["--help"], &[]);
    let (out, _) = texts(&output);
    assert_eq!(output.status.code(), Some(0));
    for words in ["push engine", "Examples:", "check-config", "RESONANCE_MYSQL_PASSWORD", "Exit codes:", "--cores <N>"]
    {
        assert!(out.contains(words), "{words}: {out}");
    }
    let (out, _) = texts(&engine(&["dlq", "--help"], &[]));
    for words in ["A dead letter is", "Examples:", "replay", "Exit codes:", "--config <FILE>", "--file <FILE>"] {
        assert!(out.contains(words), "{words}: {out}");
    }
    let output = engine(&["--version"], &[]);
    assert_eq!(texts(&output).0, format!("task-engine {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn where_each_value_was_written_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("task.yaml");
    std::fs::write(&file, "mysql:\n  dsn: u:geheim@tcp(db:3307)/resonance\nredis:\n  addr: r:1\n").unwrap();
    let name = file.to_str().unwrap();
    let variables = [("RESONANCE_REDIS_DB", "7"), ("RESONANCE_REDIS_PASSWORD", "geheim")];
    let output = engine(&["check-config", name], &variables);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    for line in [
        format!("  addr: r:1  # {name}:4:9\n"),
        "  db: 7  # RESONANCE_REDIS_DB\n".to_owned(),
        "  host: db  # other keys\n".to_owned(),
        "  port: 3307  # other keys\n".to_owned(),
        "  read_timeout: 3s\n".to_owned(),
    ] {
        assert!(out.contains(&line), "{line}: {out}");
    }
    assert!(!out.contains("geheim") && !err.contains("geheim"), "{out}{err}");
    let again = config::parse("again", &out, [], &Flags::default()).unwrap_or_else(|mistakes| panic!("{mistakes}"));
    assert_eq!((again.config.redis.db, again.config.mysql.at.port), (7, 3307), "comments change nothing");

    let output = engine(&["check-config", "--json", name], &variables);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(answer["right"] == true && !answer.to_string().contains("geheim") && output.stderr.is_empty(), "{answer}");
    let of = |key: &str| {
        let all = answer["keys"].as_array().unwrap();
        let found = all.iter().find(|found| found["key"] == key).unwrap_or_else(|| panic!("no {key}"));
        [&found["value"], &found["from"], &found["at"]].map(|value| value.as_str().unwrap_or("-").to_owned())
    };
    assert_eq!(of("redis.addr"), ["r:1".to_owned(), "file".to_owned(), format!("{name}:4:9")]);
    assert_eq!(of("redis.db"), ["7", "environment", "RESONANCE_REDIS_DB"]);
    assert_eq!(of("redis.password"), ["***", "environment", "RESONANCE_REDIS_PASSWORD"]);
    assert_eq!(of("mysql.host"), ["db", "other keys", "-"]);
    assert_eq!(of("nats.url")[1..], ["default", "-"]);
}

#[test]
fn without_a_file_the_environment_is_all() {
    let output = engine(&["check-config"], &[("RESONANCE_REDIS_ADDR", "r:9")]);
    let (out, err) = texts(&output);
    assert_eq!(output.status.code(), Some(0), "{err}");
    assert!(out.contains("  addr: r:9  # RESONANCE_REDIS_ADDR\n"), "{out}");
    let output = engine(&["check-config", "--json"], &[("RESONANCE_REDIS_ADR", "r:9"), ("RESONANCE_REDIS_DB", "x")]);
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let [slip, number] = &answer["mistakes"].as_array().unwrap()[..] else { panic!("{answer}") };
    assert_eq!((output.status.code(), &answer["right"]), (Some(2), &false.into()));
    assert_eq!(
        (&slip["at"]["variable"], &slip["nearest"]),
        (&"RESONANCE_REDIS_ADR".into(), &"RESONANCE_REDIS_ADDR".into())
    );
    assert!(number["key"] == "redis.db" && number["what"].as_str().unwrap().contains("whole number"), "{number}");
}

#[test]
fn what_people_write_wrongly_is_said_in_words() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("task.yaml");
    let said = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = engine(&["check-config", file.to_str().unwrap()], &[]);
        assert_eq!(output.status.code(), Some(2), "{text}: {output:?}");
        texts(&output).1
    };
    for (text, words) in [
        ("redis:\n\taddr: a:1\n", ":2:2: not valid YAML: there is a tab where blanks must stand; indent with blanks"),
        ("redis:\n  addr: a:1\n db: 1\n", "not valid YAML: this line, or one above it, is not indented as"),
        ("redis:\n  addr: a:1\n    db: 1\n", "not valid YAML: a key stands where none can: it is indented too far"),
        ("redis:\n  addr: a:1,b:1\n", ":2:9: redis.addr: names several servers, and one is taken"),
        (
            "mysql:\n  dsn: u:p@tcp(h:3306)/db?parseTime=true&loc=Asia/Shanghai\n",
            "mysql.dsn: has a / behind its ?; write %2F there, as in loc=Asia%2FShanghai",
        ),
        (
            "nats:\n  creds: /run/nats.creds\n",
            "unknown key (not shown, it may be part of a value); a value with a colon or a comma needs quotes; did you mean `nats.creds_file`?",
        ),
    ] {
        let said = said(text);
        assert!(said.contains(words), "{text}: {said}");
    }
    let said = said("flavour: 3\n");
    assert!(said.contains("unknown key") && !said.contains("did you mean"), "no guess: {said}");
    std::fs::write(&file, "mysql:\n  dsn: u:p@tcp(h:3306)/db?loc=Asia%2FShanghai\n").unwrap();
    assert_eq!(engine(&["check-config", file.to_str().unwrap()], &[]).status.code(), Some(0));
}

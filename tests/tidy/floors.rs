//! A module uses only modules of lower floors.

use crate::source::{Source, parse, read};

/// The floors, as in ARCHITECTURE.md. Modules of one floor do not use each other, but for [`BESIDE`].
const FLOORS: [(&str, u8); 13] = [
    // What runs a parser on foreign bytes; only in tests, and it uses nothing of the engine.
    ("fuzz", 0),
    ("model", 1),
    ("config", 1),
    ("telemetry", 2),
    ("push", 3),
    ("ownership", 3),
    ("partitioner", 3),
    ("ports", 4),
    ("edge", 5),
    ("admin", 5),
    ("shard", 6),
    ("engine", 7),
    ("cli", 8),
];

/// Who may use a module of its own floor.
const BESIDE: [(&str, &str); 1] = [("config", "model")];

fn floor(module: &str) -> Option<u8> {
    FLOORS.iter().find(|(name, _)| *name == module).map(|(_, floor)| *floor)
}

/// What breaks a floor in one file: the line, the module that is used, and what to do.
fn broken(source: &Source) -> Vec<(usize, String)> {
    let Some(own) = source.module.first() else { return Vec::new() };
    let mut broken = Vec::new();
    let Some(own_floor) = floor(own) else {
        return vec![(1, format!("src/{own} has no floor: name it in FLOORS of tests/tidy/floors.rs"))];
    };
    for used in &source.uses {
        let Some(target) = used.to.first().filter(|target| *target != own) else { continue };
        let why = match floor(target) {
            None => format!("crate::{target} is on no floor: name the module that it is defined in"),
            Some(floor) if floor < own_floor => continue,
            Some(_) if BESIDE.contains(&(own.as_str(), target.as_str())) => continue,
            Some(floor) => format!(
                "{own} (floor {own_floor}) uses {} of floor {floor}: move what is used down, or hand it in from above",
                used.to.join("::")
            ),
        };
        broken.push((used.line, why));
    }
    broken
}

#[test]
fn a_module_uses_only_lower_floors() {
    let mut wrong = Vec::new();
    for source in read(&["src"]) {
        wrong.extend(broken(&source).into_iter().map(|(line, why)| format!("{}:{line}: {why}", source.path)));
    }
    assert!(wrong.is_empty(), "{} broken floors:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_use_that_goes_up_is_found() {
    let found =
        |path: &str, text: &str| broken(&parse(path, text)).into_iter().map(|(line, _)| line).collect::<Vec<_>>();
    assert_eq!(
        found("src/push/ledger.rs", "use crate::model::ids::Nanos;\n\nuse crate::{model, shard::mesh::Mesh};"),
        [3]
    );
    assert_eq!(found("src/model/ids.rs", "fn f() {\n    crate::config::show(super::names::Name);\n}"), [2]);
    assert_eq!(found("src/edge/nats/link.rs", "use super::super::super::engine::Engine;"), [1]);
    assert_eq!(found("src/edge/nats.rs", "#[cfg(test)]\nmod tests {\n    use crate::admin::Admin;\n}"), [3]);
    assert_eq!(found("src/edge/nats.rs", "m!({ $crate::cli::run() });"), [1]);
    assert_eq!(
        found(
            "src/config/keys.rs",
            "// use crate::cli::run;\nuse crate::model::ids; // crate::cli\nconst S: &str = \"crate::cli::x\";"
        ),
        []
    );
    assert_eq!(found("src/push/ledger.rs", "use crate::push::inbox;\nuse super::Push;\npub(crate) fn f() {}"), []);
}

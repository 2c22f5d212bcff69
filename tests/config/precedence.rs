//! Promise: the environment wins over the file, flags win over both; every key has its variable.

use std::ffi::OsString;

use task_engine::config::keys::KEYS;
use task_engine::config::{self, Checked, Config, Flags, Mistakes};

fn load(text: &str, environment: &[(&str, &str)], flags: &Flags) -> Result<Checked, Mistakes> {
    let environment = environment.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    config::parse("f", text, environment, flags)
}

#[test]
fn the_later_source_wins() {
    let file = "engine:\n  cores: 1\nadmin:\n  listen: 127.0.0.1:1\nmysql:\n  password: file\n  host: file\n";
    let environment =
        [("RESONANCE_ENGINE_CORES", "2"), ("RESONANCE_MYSQL_PASSWORD", "env"), ("RESONANCE_ADMIN_LISTEN", ":2")];
    let flags = Flags { cores: Some("3".into()), admin: None };
    let config = load(file, &environment, &flags).unwrap().config;
    assert_eq!((config.engine.cores, config.admin.listen.port()), (3, 2));
    assert_eq!((config.mysql.password.reveal(), config.mysql.at.host.as_str()), ("env", "file"));
}

#[test]
fn an_alias_in_the_environment_wins_over_the_name_in_the_file() {
    let config = load("nats:\n  reconnect_delay: 1s\n", &[("RESONANCE_NATS_RECONNECT_WAIT", "9s")], &Flags::default());
    assert_eq!(config.unwrap().config.nats.reconnect_delay.as_secs(), 9);
}

#[test]
fn lists_and_the_key_at_the_top_have_variables_and_empty_ones_set_nothing() {
    let environment = [
        ("RESONANCE_ETCD_ENDPOINTS", "a:1, b"),
        ("RESONANCE_GATEWAY_SERVICE_NAME", "gw"),
        ("RESONANCE_MYSQL_HOST", ""),
        ("PATH", "/bin"),
    ];
    let checked = load("", &environment, &Flags::default()).unwrap();
    let ends: Vec<_> = checked.config.etcd.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(ends, ["a:1", "b:2379"]);
    assert_eq!((checked.config.gateway_service_name.as_str(), checked.notes.len()), ("gw", 0));
    assert_eq!(checked.config.mysql, Config::default().mysql);
}

#[test]
fn every_key_has_a_variable_of_its_own_that_is_known() {
    let names: Vec<_> = KEYS.iter().flat_map(|key| key.variables()).collect();
    for name in &names {
        assert_eq!(names.iter().filter(|other| *other == name).count(), 1, "{name}");
        let taken = match load("", &[(name, "\u{1}")], &Flags::default()) {
            Ok(_) => true,
            Err(mistakes) => {
                let said = mistakes.to_string();
                said.starts_with(&format!("environment {name}: ")) && !said.contains("unknown variable")
            }
        };
        assert!(taken, "{name}");
    }
}

#[test]
fn mistakes_name_the_variable_or_the_flag() {
    let flags = Flags { cores: Some("many".into()), admin: Some(String::new()) };
    let mistakes = load("", &[("RESONANCE_REDIS_DB", "x")], &flags).unwrap_err().to_string();
    let expected = "environment RESONANCE_REDIS_DB: redis.db: \"x\" is not a whole number; write one from 0 to 65535\n\
                    flag --cores: engine.cores: \"many\" is not a whole number; write one from 1 to 1024, or `all`\n\
                    flag --admin: admin.listen: is empty";
    assert_eq!(mistakes, expected);
}

#[test]
fn an_unknown_variable_is_a_mistake_with_the_nearest() {
    let wrong = |name: &str| load("", &[(name, "HIDDEN")], &Flags::default()).unwrap_err().to_string();
    assert_eq!(
        wrong("RESONANCE_MYSQL_PASWORD"),
        "environment RESONANCE_MYSQL_PASWORD: unknown variable; correct its name, or unset it; did you mean `RESONANCE_MYSQL_PASSWORD`?"
    );
    assert_eq!(
        wrong("TASK_ENGINE_MYSQL_PASSWORD"),
        "environment TASK_ENGINE_MYSQL_PASSWORD: unknown variable: those of keys begin with RESONANCE_; did you mean `RESONANCE_MYSQL_PASSWORD`?"
    );
    assert_eq!(wrong("RESONANCE_"), "environment RESONANCE_: unknown variable; correct its name, or unset it");
}

#[test]
fn what_kubernetes_says_of_services_is_no_mistake() {
    let environment = [
        ("TASK_ENGINE_SERVICE_HOST", "10.0.0.1"),
        ("TASK_ENGINE_PORT", "tcp://10.0.0.1:9100"),
        ("RESONANCE_MYSQL_PORT", "tcp://10.0.0.2:3306"),
        ("RESONANCE_MYSQL_PORT_3306_TCP_ADDR", "10.0.0.2"),
    ];
    let checked = load("", &environment, &Flags::default()).unwrap();
    assert_eq!((checked.config.mysql.at.port, checked.notes), (3306, Vec::new()));
}

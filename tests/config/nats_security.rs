//! Promise: TLS and logins of NATS mean what NATS clients mean by them, in the file and in the environment, and are shown again
//! without a secret.

use std::ffi::OsString;
use std::path::Path;

use task_engine::config::{self, Config, Flags, NatsAuth};

fn load(text: &str, environment: &[(&str, &str)]) -> Config {
    let environment = environment.iter().map(|&(name, value)| (OsString::from(name), OsString::from(value)));
    config::parse("f.yaml", text, environment, &Flags::default())
        .unwrap_or_else(|wrong| panic!("{text}: {wrong}"))
        .config
}

#[test]
fn one_server_over_tls_makes_it_all() {
    for (url, tls) in [
        ("nats://a", false),
        ("a:1,b:2", false),
        ("tls://a", true),
        ("nats://a,tls://b:1", true),
        ("tls://u:p@a,b", true),
        ("[tls://a, 'nats://[::1]']", true),
    ] {
        let nats = load(&format!("nats:\n  url: {url}\n"), &[]).nats;
        assert!(nats.servers.iter().all(|server| server.tls == tls) && nats.wants_tls() == tls, "{url}: {nats:?}");
    }
    let nats = load("nats:\n  url: nats://a,tls://b:1\n", &[]).nats;
    assert_eq!(nats.url_masked, "tls://a:4222,tls://b:1");
}

#[test]
fn any_key_of_tls_demands_it() {
    for keys in ["mode: required", "ca: /ca.pem", "cert: /c, key: /k", "server_name: n", "handshake_first: true"] {
        let nats = load(&format!("nats:\n  url: nats://a\n  tls: {{{keys}}}\n"), &[]).nats;
        assert!(nats.wants_tls() && !nats.servers[0].tls, "{keys}");
    }
    assert!(!load("nats:\n  tls:\n    ca: ''\n    handshake_first: false\n", &[]).nats.wants_tls());
    assert!(!load("nats:\n  tls:\n", &[]).nats.wants_tls());
}

#[test]
fn one_endpoint_of_etcd_over_tls_makes_it_all_and_any_key_demands_it() {
    for (endpoints, wanted, shown) in [
        ("a", false, "a:2379"),
        ("http://a:1, b", false, "a:1,b:2379"),
        ("https://a", true, "https://a:2379"),
        ("[a, 'https://[::1]:1']", true, "\"https://a:2379,https://[::1]:1\""),
    ] {
        let config = load(&format!("etcd:\n  endpoints: {endpoints}\n"), &[]);
        assert_eq!(config.etcd.wants_tls(), wanted, "{endpoints}");
        let shown_again = config::show(&config);
        assert!(shown_again.contains(&format!("  endpoints: {shown}\n")), "{shown_again}");
        assert_eq!(load(&shown_again, &[]), config);
    }
    for keys in ["mode: required", "ca: /ca.pem", "cert: /c, key: /k", "server_name: n"] {
        let config = load(&format!("etcd:\n  tls: {{{keys}}}\nredis:\n  tls: {{{keys}}}\n"), &[]);
        assert!(config.etcd.wants_tls() && config.redis.tls.is_written(), "{keys}");
    }
    let config = load("etcd:\n  tls: {mode: auto}\nredis:\n  tls: {ca: ''}\n", &[]);
    assert!(!config.etcd.wants_tls() && !config.redis.tls.is_written());
}

#[test]
fn a_dsn_demands_tls_as_for_gos_driver_and_never_without_proof() {
    for (params, wanted) in [("", false), ("?tls=true", true), ("?tls=false", false), ("?tls=preferred", false)] {
        let config = load(&format!("mysql:\n  dsn: u:p@tcp(db)/im{params}\n"), &[]);
        assert_eq!(config.mysql.tls.is_written(), wanted, "{params}");
    }
    for (value, what) in [("skip-verify", "a server must prove itself"), ("custom", "the files in mysql.tls")] {
        let text = format!("mysql:\n  dsn: u:p@tcp(db)/im?tls={value}\n");
        let wrong = config::parse("f", &text, [], &Flags::default()).unwrap_err().to_string();
        assert!(wrong.starts_with("f:2:8: mysql.dsn: tls: ") && wrong.contains(what), "{wrong}");
    }
}

#[test]
fn the_environment_names_each_key_of_a_group() {
    let text = "nats:\n  tls:\n    ca: /of/the/file\n    server_name: of.the.file\n";
    let nats =
        load(text, &[("RESONANCE_NATS_TLS_CA", "/of/the/environment"), ("RESONANCE_NATS_CREDS_FILE", "/x.creds")]).nats;
    assert_eq!(
        (nats.tls.ca.as_path(), nats.tls.server_name.as_str()),
        (Path::new("/of/the/environment"), "of.the.file")
    );
    assert_eq!(nats.auth, NatsAuth::CredsFile("/x.creds".into()));
    let nats = load("", &[("RESONANCE_NATS_NKEY_SEED", "SUAX")]).nats;
    assert!(matches!(&nats.auth, NatsAuth::NkeySeed(seed) if seed.reveal() == "SUAX"), "{nats:?}");
}

#[test]
fn what_holds_is_shown_and_read_again() {
    for text in [
        "nats:\n  url: tls://a\n  creds_file: /etc/x.creds\n  tls:\n    ca: /etc/ca.pem\n    handshake_first: true\n",
        "nats:\n  nkey_seed_file: /etc/x.nk\n  tls: {cert: /c.pem, key: /k.pem, server_name: 10.0.0.1}\n",
    ] {
        let config = load(text, &[]);
        let shown = config::show(&config);
        assert_eq!(load(&shown, &[]), config, "{shown}");
    }
    let shown = config::show(&load("nats:\n  nkey_seed: SUAHIDDEN\n", &[]));
    assert!(shown.contains("nkey_seed: \"***\"") && !shown.contains("HIDDEN"), "{shown}");
}

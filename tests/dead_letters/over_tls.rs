//! Promise: dead letters, the commands that work on them and `setup` go over TLS as events do.

use std::path::Path;
use std::process::Command;

use harness::servers::{Authority, Nats, NatsOptions};

use crate::dlq_support::{NatsVersion, World, event, letter, origin, run};

#[test]
fn letters_and_commands_go_over_tls() {
    for version in [NatsVersion::Installed, NatsVersion::Current] {
        over_tls(version);
    }
}

fn over_tls(version: NatsVersion) {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(&["127.0.0.1"]).expect("a certificate");
    // The test's own client stays plain; the engine, which asks for TLS, does not.
    let server = authority.nats_block(&files, "") + "allow_non_tls: true\n";
    let keys = format!("  tls:\n    ca: {}\n", authority.ca().display());
    let world = World::with(version, true, "jetstream", server, &keys);
    let folder = tempfile::tempdir().expect("a folder");
    let config = world.file().with_file_name("task.yaml").display().to_string();
    let said = run(&["setup", "--config", &config], folder.path());
    assert_eq!(said.code, 0, "{said:?}");
    let mut writer = world.writer();
    writer.ping().expect("the stream is there");
    let letters =
        [(letter("lookup_failed", event(1), None), origin(4)), (letter("no_members", event(2), None), origin(5))];
    assert_eq!(writer.write(&letters), [Ok(()), Ok(())]);
    assert_eq!((world.messages("EVENTS_DLQ"), world.ids(&[]).len()), (2, 2));
    // The server comes back with a certificate of another CA: said, and nothing is written.
    let other = Authority::new().expect("a CA");
    let theirs = other.certificate(&["127.0.0.1"]).expect("a certificate");
    std::fs::copy(theirs.cert, &files.cert).and_then(|_| std::fs::copy(theirs.key, &files.key)).expect("copied");
    world.nats.restart().expect("it comes back");
    let said = world.dlq(&["list"]);
    assert!(said.code == 1 && said.err.contains("signed by no CA that is trusted here; set nats.tls.ca"), "{said:?}");
    let why = format!("{:?}", writer.write(&letters[..1]));
    assert!(why.contains("signed by no CA that is trusted here"), "{why}");
}

#[test]
fn the_systems_cas_are_trusted_where_none_is_named() {
    let authority = Authority::new().expect("a CA");
    let files = authority.certificate(&["127.0.0.1"]).expect("a certificate");
    let config = authority.nats_block(&files, "");
    let options = NatsOptions { config, jetstream: true, version: NatsVersion::Current, ..NatsOptions::default() };
    let server = Nats::start(&options).expect("a server");
    let folder = tempfile::tempdir().expect("a folder");
    let set_up = |nats: &str, system: &Path| {
        let path = folder.path().join("task.yaml");
        std::fs::write(&path, format!("nats:\n{nats}consumer:\n  mode: jetstream\n")).expect("written");
        let mut command = Command::new(env!("CARGO_BIN_EXE_task-engine"));
        command.env("SSL_CERT_FILE", system).env_remove("SSL_CERT_DIR").args(["setup", "--config"]).arg(&path);
        let output = command.output().expect("it starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let other = Authority::new().expect("a CA");
    // Asked for, or demanded by the server alone.
    for scheme in ["tls", "nats"] {
        let url = format!("  url: {scheme}://{}\n", server.addr());
        assert_eq!(set_up(&url, &authority.ca()), (Some(0), String::new()));
        let (code, said) = set_up(&url, &other.ca());
        assert!(code == Some(1) && said.contains("signed by no CA that is trusted here; set nats.tls.ca"), "{said}");
    }
    let (code, said) = set_up("  tls: {ca: /no/such/ca.pem}\n", &authority.ca());
    assert!(code == Some(2) && said.contains("nats.tls.ca: /no/such/ca.pem: cannot be read"), "{said}");
}

//! Promise: the admin port speaks TLS, and nothing else, where it has a certificate; with a CA it answers clients of that CA only; a
//! renewed certificate counts for the next client and cuts off none; and silent clients keep nobody from an answer.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use harness::servers::{Authority, CertificateFiles};
use task_engine::config::{AdminConfig, Config, ServerTlsConfig, TlsConfig};
use task_engine::edge::tls::blocking::BlockingStream;
use task_engine::edge::tls::{client, server_name, words};
use task_engine::engine::adapters::{admin_tls_of, check_tls};
use testkit::tls::{self, none};

use crate::port;

const PATIENCE: Duration = Duration::from_secs(10);

fn config(files: &CertificateFiles, ca: &Path) -> Config {
    let CertificateFiles { cert, key } = files.clone();
    let tls = ServerTlsConfig { cert, key, ca: ca.to_owned() };
    Config { admin: AdminConfig { tls, ..AdminConfig::default() }, ..Config::default() }
}

fn start(config: &Config) -> SocketAddr {
    check_tls(config).unwrap_or_else(|why| panic!("{why}"));
    port::start(admin_tls_of(config)).0
}

fn trusting(authority: &Authority, files: Option<&CertificateFiles>) -> TlsConfig {
    let tls = TlsConfig { ca: authority.ca(), server_name: "admin.example".into(), ..none() };
    match files.cloned() {
        Some(CertificateFiles { cert, key }) => TlsConfig { cert, key, ..tls },
        None => tls,
    }
}

/// A connection that has made its handshake.
fn connect(address: SocketAddr, tls: &TlsConfig) -> Result<BlockingStream, String> {
    let tcp = TcpStream::connect(address).expect("it listens");
    let (config, name) = (client(tls, "test", &[]).expect("files"), server_name(tls, "").expect("a name"));
    let secured = BlockingStream::plain(tcp).secured(config, name, Instant::now() + PATIENCE);
    secured.map_err(|error| words(&error, "test"))
}

/// What is answered to one request.
fn ask(stream: &mut BlockingStream) -> Result<String, String> {
    let until = Instant::now() + PATIENCE;
    stream.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n", until).map_err(|error| words(&error, "test"))?;
    let mut answer = Vec::new();
    let mut piece = [0; 1024];
    while !answer.ends_with(b"ok\n") {
        match stream.read(&mut piece, until).map_err(|error| words(&error, "test"))? {
            0 => return Err("it was closed".to_owned()),
            read => answer.extend_from_slice(&piece[..read]),
        }
    }
    Ok(String::from_utf8(answer).expect("text"))
}

fn files(authority: &Authority) -> CertificateFiles {
    authority.certificate(&["admin.example"]).expect("a certificate")
}

#[test]
fn pages_are_answered_over_tls_and_a_plain_request_is_not() {
    let authority = tls::authority();
    let address = start(&config(&files(&authority), Path::new("")));
    let mut stream = connect(address, &trusting(&authority, None)).expect("a handshake");
    for _ in 0..3 {
        assert!(ask(&mut stream).expect("an answer").starts_with("HTTP/1.1 200"), "over one connection");
    }
    let other = tls::authority();
    let why = connect(address, &trusting(&other, None)).err().expect("another CA");
    assert!(why.contains("signed by no CA"), "{why}");
    let plain = harness::pages::request(address, "GET", "/livez", "", Duration::from_secs(3));
    assert!(plain.is_none(), "it speaks TLS only");
}

#[test]
fn with_a_ca_only_its_clients_are_answered() {
    let [authority, other] = [(); 2].map(|()| tls::authority());
    let address = start(&config(&files(&authority), &authority.ca()));
    let asked = |files: Option<&CertificateFiles>| {
        connect(address, &trusting(&authority, files)).and_then(|mut stream| ask(&mut stream))
    };
    assert!(asked(Some(&files(&authority))).expect("an answer").starts_with("HTTP/1.1 200"));
    let why = asked(None).expect_err("no certificate");
    assert!(why.contains("wants a certificate of ours"), "{why}");
    let why = asked(Some(&files(&other))).expect_err("of another CA");
    assert!(why.contains("does not take our certificate"), "{why}");
}

#[test]
fn a_renewed_certificate_counts_for_the_next_client_and_cuts_off_none() {
    let [old, new] = [(); 2].map(|()| tls::authority());
    let of_old = files(&old);
    let address = start(&config(&of_old, Path::new("")));
    let mut stream = connect(address, &trusting(&old, None)).expect("a handshake");
    ask(&mut stream).expect("an answer");
    let of_new = files(&new);
    fs::copy(of_new.cert, &of_old.cert).and_then(|_| fs::copy(of_new.key, &of_old.key)).expect("renewed");
    let mut renewed = connect(address, &trusting(&new, None)).expect("the new one");
    ask(&mut renewed).expect("an answer");
    ask(&mut stream).expect("it goes on");
}

#[test]
fn clients_that_never_shake_hands_keep_nobody_from_an_answer() {
    let authority = tls::authority();
    let address = start(&config(&files(&authority), Path::new("")));
    let _silent: Vec<_> = (0..320).map(|_| TcpStream::connect(address).expect("it listens")).collect();
    let began = Instant::now();
    let mut stream = connect(address, &trusting(&authority, None)).expect("a handshake");
    ask(&mut stream).expect("an answer");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn probe_asks_over_tls_and_knows_its_own_engine_by_the_certificate() {
    let authority = tls::authority();
    let mine = files(&authority);
    // With a CA: the probe shows the port's own certificate.
    for ca in [Path::new(""), &authority.ca()] {
        let address = start(&config(&mine, ca));
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("task.yaml");
        let probe = |files: &CertificateFiles| {
            let (cert, key) = (files.cert.display(), files.key.display());
            let text = format!("admin:\n  listen: {address}\n  tls: {{cert: {cert}, key: {key}}}\n");
            fs::write(&file, text).expect("written");
            let mut command = Command::new(env!("CARGO_BIN_EXE_task-engine"));
            command.args(["probe", "--ready", "--config"]).arg(&file).env_clear().output().expect("it runs")
        };
        let said = probe(&mine);
        assert_eq!((said.status.code(), &*String::from_utf8_lossy(&said.stdout)), (Some(0), "[+] shards ok\nready\n"));
        let said = probe(&files(&authority));
        let words = String::from_utf8_lossy(&said.stderr).into_owned();
        assert!(said.status.code() == Some(1) && words.contains("another certificate than the file"), "{words}");
    }
}

#[test]
fn what_is_wrong_with_its_files_is_told_with_the_key() {
    let authority = tls::authority();
    let (one, other) = (files(&authority), files(&authority));
    let expired = authority.expired(&["admin.example"]).expect("a certificate");
    let mixed = CertificateFiles { key: other.key, ..one.clone() };
    let missing = CertificateFiles { key: "/no/such/key".into(), ..one.clone() };
    for (files, ca, what) in [
        (&expired, authority.ca(), "admin.tls.cert: "),
        (&mixed, authority.ca(), "it is not the key of the certificate in admin.tls.cert"),
        (&missing, authority.ca(), "admin.tls.key: /no/such/key: cannot be read"),
        (&one, "/no/such/ca".into(), "admin.tls.ca: /no/such/ca: cannot be read"),
    ] {
        let why = check_tls(&config(files, &ca)).expect_err(what);
        assert!(why.contains(what), "{why}");
    }
}

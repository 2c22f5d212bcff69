//! Addresses, secrets and waits, without a server. What needs one is in tests/intake/.

use std::net::TcpListener;

use super::keeper::backoff;
use super::server::{Credentials, parse_list};
use super::*;

#[test]
fn a_list_of_servers_is_read_with_its_userinfo() {
    let fallback = Credentials::of("fallback", "pw", "");
    let list = "nats://u%40x:p%3Aw@one:1, two,tls://tok@[::1]:3/,nats://4.4.4.4:4";
    let servers = parse_list(list, &fallback).expect("valid");
    let shown: Vec<_> = servers.iter().map(|server| (server.url(), server.credentials.clone())).collect();
    let user = |name: &str, password: &str| Credentials::User { name: name.into(), password: password.into() };
    assert_eq!(
        shown.iter().map(|(url, _)| url.as_str()).collect::<Vec<_>>(),
        ["nats://one:1", "nats://two:4222", "tls://[::1]:3", "nats://4.4.4.4:4"]
    );
    assert!(shown[0].1 == user("u@x", "p:w") && shown[1].1 == fallback);
    assert!(shown[2].1 == Credentials::Token("tok".into()));
}

#[test]
fn a_bad_server_is_refused_without_its_secret() {
    for list in ["", " , ", "http://s3cret@x", "nats://u:s3cret@x:99999", "u:s3cret@:1", "u:s3cret@[::1", "u:s3cret%@x"]
    {
        let error = NatsSource::new(NatsSettings { url: list.into(), ..NatsSettings::default() }).expect_err(list);
        assert!(error.to_string().starts_with("nats.url") && !error.to_string().contains("s3cret"), "{error}");
    }
}

#[test]
fn what_a_server_repeats_shows_no_secret() {
    let said = "-ERR 'Unknown Protocol CONNECT {\"pass\":\"pa55w0rd-of-ours\",\"auth_token\":\"pa55w0rd-o'";
    for credentials in [Credentials::of("u", "pa55w0rd-of-ours", ""), Credentials::of("", "", "pa55w0rd-of-ours")] {
        assert!(!credentials.mask(said).contains("pa55"), "{}", credentials.mask(said));
    }
    assert_eq!(Credentials::of("", "", "").mask(said), said);
}

#[test]
fn debug_shows_no_secret() {
    let settings = NatsSettings {
        url: "nats://u:s3cret@h:1".into(),
        username: "u".into(),
        password: "s3cret".into(),
        token: "s3cret".into(),
        ..NatsSettings::default()
    };
    let shown = format!("{settings:?} {:?}", NatsSource::new(settings.clone()).expect("valid"));
    assert!(!shown.contains("s3cret"), "{shown}");
}

#[test]
fn a_server_that_says_nothing_is_found_out_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("an address").to_string();
    let servers = parse_list(&address, &Credentials::None).expect("valid");
    let why = servers[0].probe(Duration::from_millis(50)).expect_err("silent");
    assert!(why.contains(&address) && why.contains("does not answer"), "{why}");
    drop(silent);
    let why = servers[0].probe(Duration::from_millis(50)).expect_err("gone");
    assert!(why.contains(&address) && why.contains("refused") && why.contains("nats.url"), "{why}");
}

#[test]
fn waits_grow_to_their_bound() {
    let wait = Duration::from_millis(200);
    assert!(backoff(wait, 0) < wait);
    for tries in 1..100 {
        let waited = backoff(wait, tries);
        assert!(waited >= wait / 2 && waited <= Duration::from_secs(1), "{tries}: {waited:?}");
    }
    assert!(backoff(wait, 50) >= Duration::from_millis(500));
    assert!(backoff(Duration::from_secs(60), 50) >= Duration::from_secs(30), "a longer wait is kept");
}

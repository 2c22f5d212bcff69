//! Addresses, secrets and waits, without a server. What needs one is in tests/intake/.

use super::opening::backoff;
use super::server::mask;
use super::*;
use crate::config::{NatsAuth, Secret};

fn user(password: &Secret) -> NatsAuth {
    NatsAuth::User { username: "u".to_owned(), password: password.clone() }
}

#[test]
fn what_a_server_repeats_shows_no_secret() {
    let said = "-ERR 'Unknown Protocol CONNECT {\"pass\":\"pa55w0rd-of-ours\",\"auth_token\":\"pa55w0rd-o'";
    let secret = Secret::new("pa55w0rd-of-ours");
    for auth in [user(&secret), NatsAuth::Token(secret.clone()), NatsAuth::NkeySeed(secret.clone())] {
        assert!(!mask(&auth, said).contains("pa55"), "{}", mask(&auth, said));
    }
    assert_eq!(mask(&NatsAuth::None, said), said);
}

#[test]
fn debug_shows_no_secret() {
    let secret = Secret::new("s3cret");
    for auth in [user(&secret), NatsAuth::Token(secret.clone()), NatsAuth::NkeySeed(secret.clone())] {
        let nats = NatsConfig { auth, ..NatsConfig::default() };
        let shown =
            format!("{:?}", NatsSource::new(nats, ConsumerConfig::default(), Resolver::start().expect("threads")));
        assert!(shown.contains("127.0.0.1") && !shown.contains("s3cret"), "{shown}");
    }
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

//! Promise: an etcd that speaks TLS only, and wants a certificate of ours, is followed and owned in as any other; what is wrong is
//! told with what to check, and tried until it is mended.

use std::fs;

use task_engine::config::{EtcdConfig, Secret, TlsConfig};
use task_engine::edge::etcd::ownership::once;
use testkit::mysql_etcd::{Etcd, eventually};
use testkit::tls::{authority, both_sides, certificate, none, ours};

use crate::registry::{Followed, PREFIX, settings, value};

fn over(etcd: &Etcd, tls: TlsConfig) -> EtcdConfig {
    EtcdConfig { tls, ..settings(&[&etcd.tls_endpoint()]) }
}

#[test]
fn gateways_are_followed_over_tls_and_again_after_etcd_was_away() {
    let (authority, theirs, mine) = both_sides();
    let mut etcd = Etcd::over_tls(&authority, &theirs);
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    let settings = over(&etcd, ours(&authority, &mine));
    let mut followed = Followed::start(settings.clone());
    assert_eq!(followed.next(), "g1@1001");
    eventually("ready", || followed.waiting().is_none());
    etcd.put(&format!("{PREFIX}i2"), &value("g2", 1002));
    assert_eq!(followed.next(), "g2@1002");
    etcd.kill();
    eventually("told", || followed.waiting().is_some());
    etcd.start_again();
    eventually("ready again", || followed.waiting().is_none());
    etcd.put(&format!("{PREFIX}i3"), &value("g3", 1003));
    assert_eq!(followed.next(), "g3@1003");
    // With https:// and the system's CAs instead, of which none has signed.
    let of_the_system = EtcdConfig { https: true, tls: none(), ..settings };
    let why = once::look(&of_the_system, "/x/").expect_err("not ours");
    assert!(why.contains("etcd.tls.ca"), "{why}");
}

#[test]
fn a_login_is_made_over_tls() {
    let (authority, theirs, mine) = both_sides();
    let etcd = Etcd::over_tls(&authority, &theirs);
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    etcd.want_login("sesame");
    let (username, password) = ("root".to_owned(), Secret::new("sesame"));
    let settings = EtcdConfig { username, password, ..over(&etcd, ours(&authority, &mine)) };
    let mut followed = Followed::start(settings.clone());
    assert_eq!(followed.next(), "g1@1001");
    // Partition ownership and its commands go the same way.
    once::look(&settings, "/resonance/task-engine/S/d/").unwrap_or_else(|why| panic!("{why}"));
    let wrong = EtcdConfig { password: Secret::new("geheim"), ..settings };
    let why = once::look(&wrong, "/x/").expect_err("another password");
    assert!(why.contains("etcd.password") && !why.contains("geheim"), "{why}");
}

#[test]
fn what_is_wrong_is_told_with_the_key_and_what_to_do() {
    let [authority, other] = [(); 2].map(|()| authority());
    let mine = certificate(&authority, &["task-engine"]);
    let of_other = certificate(&other, &["task-engine"]);
    let good = certificate(&authority, &["localhost"]);
    let expired = authority.expired(&["localhost"]).expect("a certificate");
    let tls = ours(&authority, &mine);
    let said = |etcd: &Etcd, tls: &TlsConfig, part: &str| {
        let settings = over(etcd, tls.clone());
        let followed = Followed::start(settings.clone());
        eventually(part, || followed.waiting().is_some_and(|why| why.contains(part)));
        let why = followed.waiting().expect("it waits");
        assert!(why.contains(&etcd.tls_endpoint()), "{why}");
        let why = once::look(&settings, "/x/").expect_err(part);
        assert!(why.contains(part) && why.contains(&etcd.tls_endpoint()), "{why}");
    };
    let etcd = Etcd::over_tls(&authority, &good);
    for (tls, part) in [
        (TlsConfig { ca: other.ca(), ..tls.clone() }, "signed by no CA that is trusted here; set etcd.tls.ca"),
        (TlsConfig { ca: authority.ca(), ..none() }, "etcd.tls.cert"),
        (
            TlsConfig { cert: of_other.cert, key: of_other.key, ..tls.clone() },
            "check etcd.tls.cert: is it signed by a CA",
        ),
        (TlsConfig { server_name: "etcd.example".into(), ..tls.clone() }, "is not for etcd.example, it is for"),
        (TlsConfig { ca: "/no/such/ca.pem".into(), ..tls.clone() }, "etcd.tls.ca: /no/such/ca.pem: cannot be read"),
    ] {
        said(&etcd, &tls, part);
    }
    said(&Etcd::over_tls(&authority, &expired), &tls, "the server's certificate has expired (2021-01-01");
}

#[test]
fn it_goes_on_once_what_was_wrong_is_mended() {
    let [authority, other] = [(); 2].map(|()| authority());
    let theirs = certificate(&authority, &["localhost"]);
    let mine = certificate(&authority, &["task-engine"]);
    let etcd = Etcd::over_tls(&authority, &theirs);
    etcd.put(&format!("{PREFIX}i1"), &value("g1", 1001));
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    fs::copy(other.ca(), &ca).expect("copied");
    let mut followed = Followed::start(over(&etcd, TlsConfig { ca: ca.clone(), ..ours(&authority, &mine) }));
    eventually("told", || followed.waiting().is_some_and(|why| why.contains("signed by no CA")));
    fs::copy(authority.ca(), &ca).expect("copied");
    assert_eq!(followed.next(), "g1@1001");
}

//! Promise: members come, and rows go, over TLS to a MySQL that wants a certificate of ours; what is wrong is told with the key and what
//! to do, and tried until it is mended; nothing is left on this machine of the way there.

use std::fs;
use std::time::Duration;

use mysql::prelude::Queryable;
use task_engine::config::{HostPort, MysqlConfig, Secret, TlsConfig};
use task_engine::edge::mysql::{MysqlInbox, MysqlMembers};
use task_engine::ports::{Inbox, LookupError, Members};
use testkit::mysql_etcd::{Maria, eventually};
use testkit::tls::{authority, both_sides, certificate, none, ours};

fn settings(server: &Maria, tls: TlsConfig) -> MysqlConfig {
    MysqlConfig {
        at: HostPort { host: "localhost".into(), port: server.port },
        username: "engine".into(),
        password: Secret::new("sesame"),
        database: "resonance".into(),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(10),
        conn_max_lifetime: Duration::from_secs(600),
        tls,
        ..MysqlConfig::default()
    }
}

fn lookup(settings: MysqlConfig) -> Result<Vec<String>, String> {
    match MysqlMembers::new(settings).open().members(&["s".into()]) {
        Ok(lists) => Ok(lists[0].iter().map(str::to_owned).collect()),
        Err(LookupError::NotReached(why) | LookupError::Unavailable(why)) => Err(why),
        Err(other) => panic!("{other:?}"),
    }
}

/// What ways of this process over TLS have left in the folders where they may be.
fn left_over() -> Vec<String> {
    let ours = format!("task-engine-{}-", std::process::id());
    let folders = [std::env::temp_dir(), "/dev/shm".into()];
    let all = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten();
    all.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).filter(|name| name.starts_with(&ours)).collect()
}

#[test]
fn members_and_rows_go_over_tls() {
    let (authority, theirs, mine) = both_sides();
    let mut server = Maria::over_tls(&authority, &theirs);
    let names: Vec<String> = (0..5_000).map(|number| format!("user-{number:04}")).collect();
    server.add(&names.iter().map(|name| ("s", name.as_str())).collect::<Vec<_>>());
    let tls = ours(&authority, &mine);
    let members = MysqlMembers::new(settings(&server, tls.clone()));
    let mut reader = members.open();
    let list = reader.members(&["s".into()]).expect("an answer").remove(0);
    assert_eq!(list.iter().collect::<Vec<_>>(), names);
    let of_engine = "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'engine'";
    assert_eq!(server.root("").query_first::<u64, _>(of_engine).expect("a count"), Some(1));
    assert_eq!(left_over(), Vec::<String>::new());
    // It comes back, and so does the reader.
    server.kill();
    server.start_again();
    eventually("an answer", || reader.members(&["s".into()]).is_ok_and(|lists| lists[0].len() == 5_000));
    // The client's end ends the session.
    drop(reader);
    eventually("no session", || server.root("").query_first::<u64, _>(of_engine).expect("a count") == Some(0));
    // Large rows both ways, over the writer's connection.
    let mut root = server.root("resonance");
    for statement in [
        "CREATE TABLE t_inbox (id BIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY, owner_username VARCHAR(64) NOT NULL, \
         session_id VARCHAR(64) NOT NULL, msg_id BIGINT NOT NULL, seq_id BIGINT NOT NULL, is_read TINYINT NOT NULL DEFAULT 0, \
         created_at DATETIME(3) NOT NULL DEFAULT CURRENT_TIMESTAMP(3), \
         UNIQUE KEY uk (owner_username, session_id, seq_id))",
        "GRANT SELECT, INSERT, UPDATE ON resonance.t_inbox TO engine@'%'",
    ] {
        root.query_drop(statement).expect(statement);
    }
    let inbox = MysqlInbox::new(settings(&server, tls));
    let rows = testkit::inbox::rows("s", 7, 1, &names);
    let stored = inbox.open().store(std::slice::from_ref(&rows));
    assert!(stored.iter().all(Result::is_ok), "{stored:?}");
    assert_eq!(root.query_first::<u64, _>("SELECT COUNT(*) FROM t_inbox").expect("a count"), Some(5_000));
}

#[test]
fn what_is_wrong_is_told_with_the_key_and_what_to_do() {
    let [authority, other] = [(); 2].map(|()| authority());
    let mine = certificate(&authority, &["task-engine"]);
    let of_other = certificate(&other, &["task-engine"]);
    let good = certificate(&authority, &["localhost"]);
    let tls = ours(&authority, &mine);
    let server = Maria::over_tls(&authority, &good);
    let place = format!("MySQL at localhost:{}", server.port);
    for (tls, part) in [
        (TlsConfig { ca: other.ca(), ..tls.clone() }, "signed by no CA that is trusted here; set mysql.tls.ca"),
        (TlsConfig { server_name: "db.example".into(), ..tls.clone() }, "is not for db.example, it is for"),
        (TlsConfig { cert: of_other.cert, key: of_other.key, ..tls.clone() }, "mysql.tls.cert"),
        (TlsConfig { ca: "/no/such/ca.pem".into(), ..tls.clone() }, "mysql.tls.ca: /no/such/ca.pem: cannot be read"),
        // The server takes clients without one; this user must have one.
        (TlsConfig { ca: authority.ca(), ..none() }, "mysql.tls.cert"),
        (none(), "Access denied"),
    ] {
        let why = lookup(settings(&server, tls)).expect_err(part);
        assert!(why.contains(part) && why.contains(&place) && !why.contains("sesame"), "{part}: {why}");
    }
    for statement in ["SET GLOBAL require_secure_transport = ON", "ALTER USER engine@'%' REQUIRE NONE"] {
        server.root("").query_drop(statement).expect(statement);
    }
    let why = lookup(settings(&server, none())).expect_err("in plain");
    assert!(why.contains("and mysql.tls (with mysql.tls.cert) if the user may log in over TLS only"), "{why}");
    assert_eq!(lookup(settings(&server, tls.clone())).expect("an answer"), Vec::<String>::new());
    let expired = authority.expired(&["localhost"]).expect("a certificate");
    let why = lookup(settings(&Maria::over_tls(&authority, &expired), tls.clone())).expect_err("expired");
    assert!(why.contains("the server's certificate has expired (2021-01-01"), "{why}");
    let plain = Maria::start();
    let why = lookup(settings(&plain, tls)).expect_err("it speaks none");
    assert!(why.contains("the server offers none; turn it on there"), "{why}");
    assert_eq!(left_over(), Vec::<String>::new());
}

#[test]
fn it_goes_on_once_what_was_wrong_is_mended() {
    let [authority, other] = [(); 2].map(|()| authority());
    let theirs = certificate(&authority, &["localhost"]);
    let mine = certificate(&authority, &["task-engine"]);
    let server = Maria::over_tls(&authority, &theirs);
    server.add(&[("s", "ann")]);
    let folder = tempfile::tempdir().expect("a folder");
    let ca = folder.path().join("ca.pem");
    fs::copy(other.ca(), &ca).expect("copied");
    let members = MysqlMembers::new(settings(&server, TlsConfig { ca: ca.clone(), ..ours(&authority, &mine) }));
    let mut reader = members.open();
    assert!(reader.members(&["s".into()]).is_err());
    fs::copy(authority.ca(), &ca).expect("copied");
    let lists = reader.members(&["s".into()]).expect("an answer");
    assert_eq!(lists[0].iter().collect::<Vec<_>>(), ["ann"]);
}

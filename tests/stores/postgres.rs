//! Promise: what PostgreSQL alone can have is named in words with what to do: a standby, a server without connections left, a
//! schema of another make, a key that is missing, a statement that takes too long; and a connection over TLS proves both sides.

use std::time::{Duration, Instant};

use task_engine::config::{PostgresConfig, TlsConfig};
use task_engine::edge::postgres::{PostgresInbox, PostgresMembers};
use task_engine::ports::{Inbox, LookupError, Members};
use testkit::databases::{Database, Kind, Login};
use testkit::tls::{authority, both_sides, certificate, none, ours};
use testkit::wait::eventually;

use crate::inbox_support::rows;
use harness::servers::Postgres;

fn words(error: LookupError) -> String {
    match error {
        LookupError::NotReached(why) | LookupError::Unavailable(why) => why,
        other @ LookupError::Rejected(_) => panic!("not unavailable: {other:?}"),
    }
}

fn first_answer(server: &Database, login: &Login) -> Result<(), LookupError> {
    server.writer(login).store(&[rows("s", 1, 1, ["ann"])]).remove(0).map(drop)
}

#[test]
fn what_keeps_rows_from_being_stored_is_named() {
    let server = Database::start(Kind::Postgres);
    let mut root = server.root();
    let login = Login::quick();
    for (breaks, mends, part) in [
        (
            "ALTER ROLE resonance SET default_transaction_read_only = on",
            "ALTER ROLE resonance RESET default_transaction_read_only",
            "postgres.host must lead to the primary",
        ),
        (
            "ALTER ROLE resonance CONNECTION LIMIT 0",
            "ALTER ROLE resonance CONNECTION LIMIT -1",
            "check max_connections",
        ),
        (
            "DROP INDEX uniq_owner_sess_seq",
            "CREATE UNIQUE INDEX uniq_owner_sess_seq ON t_inbox (owner_username, session_id, seq_id)",
            "its unique key (owner_username, session_id, seq_id)",
        ),
        (
            "ALTER TABLE t_inbox RENAME COLUMN seq_id TO seq",
            "ALTER TABLE t_inbox RENAME COLUMN seq TO seq_id",
            "check that postgres.database holds t_inbox(owner_username",
        ),
        (
            "ALTER TABLE t_inbox ALTER COLUMN created_at TYPE boolean USING NULL",
            "ALTER TABLE t_inbox ALTER COLUMN created_at TYPE timestamptz USING NULL",
            "check that postgres.database holds t_inbox(owner_username",
        ),
        (
            "ALTER TABLE t_inbox ADD COLUMN more int NOT NULL",
            "ALTER TABLE t_inbox DROP COLUMN more",
            "check that postgres.database holds t_inbox(owner_username",
        ),
        ("ALTER SCHEMA public RENAME TO other", "ALTER SCHEMA other RENAME TO public", "in the user's search_path"),
    ] {
        root.run(&["DELETE FROM t_inbox", breaks]);
        let why = words(first_answer(&server, &login).expect_err(breaks));
        assert!(why.contains(part) && why.contains("PostgreSQL at 127.0.0.1:"), "{breaks}: {why}");
        // The probe says so before there is a row; that one needs a value is seen when it gets none.
        if !breaks.contains("ADD COLUMN") {
            let why = words(server.writer(&login).ping().expect_err(breaks));
            assert!(why.contains(part), "{breaks}: the probe says {why}");
        }
        root.run(&[mends]);
        assert_eq!(first_answer(&server, &login), Ok(()), "{mends}");
    }
}

/// A server that follows another one gives members, and takes rows once it has been promoted.
#[test]
fn a_standby_gives_members_and_takes_rows_once_it_is_the_primary() {
    let first = Postgres::start().expect("PostgreSQL");
    let follower = first.standby().expect("a standby");
    let (primary, server) = (Database::Postgres(first), Database::Postgres(follower));
    primary.add([("s", "ann")]);
    let login = Login::quick();
    let mut reader = server.members(&login).open();
    eventually("what the primary has written is read", || {
        let lists = reader.members(&["s".into()]).expect("a standby answers");
        lists[0].iter().collect::<Vec<_>>() == ["ann"]
    });
    let mut writer = server.writer(&login);
    for why in [writer.ping(), writer.store(&[rows("s", 1, 1, ["ann"])]).remove(0).map(drop)] {
        let why = words(why.expect_err("it takes no rows"));
        assert!(why.contains("is it a standby") && why.contains("25006"), "{why}");
    }
    primary.kill();
    let Database::Postgres(follower) = &server else { unreachable!("it is one") };
    follower.promote().expect("it is the primary now");
    eventually("rows are taken", || writer.store(&[rows("s", 1, 1, ["ann"])])[0].is_ok());
    assert_eq!(server.stored().len(), 1);
}

/// The same of one whose sessions may only read.
#[test]
fn one_that_only_reads_gives_members_and_takes_rows_once_it_writes() {
    let server = Database::start(Kind::Postgres);
    server.add([("s", "ann")]);
    let mut root = server.root();
    root.run(&["ALTER SYSTEM SET default_transaction_read_only = on", "SELECT pg_reload_conf()"]);
    let login = Login::quick();
    let mut writer = server.writer(&login);
    let mut why = String::new();
    eventually("the setting counts", || match writer.ping() {
        Ok(()) => false,
        Err(error) => {
            why = words(error);
            true
        }
    });
    assert!(why.contains("is it a standby") && why.contains("25006"), "{why}");
    let lists = server.members(&login).open().members(&["s".into()]).expect("a standby answers");
    assert_eq!(lists[0].iter().collect::<Vec<_>>(), ["ann"]);
    let write = "SET default_transaction_read_only = off";
    root.run(&[write, "ALTER SYSTEM RESET default_transaction_read_only", "SELECT pg_reload_conf()"]);
    eventually("rows are taken", || writer.store(&[rows("s", 1, 1, ["ann"])])[0].is_ok());
}

/// The server ends it, on a connection that is used on; and a session is never asked for again with those that are quick.
#[test]
fn a_lookup_that_takes_too_long_is_ended_by_the_server() {
    let server = Database::start(Kind::Postgres);
    server.add([("small", "ann"), ("huge", "bob")]);
    server.run(&[
        "ALTER TABLE t_session_member RENAME TO theirs",
        "CREATE FUNCTION slow(id text) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$ BEGIN \
         IF id = 'huge' THEN PERFORM pg_sleep(600); END IF; RETURN true; END $$",
        "CREATE VIEW t_session_member AS SELECT session_id, username FROM theirs WHERE slow(session_id)",
        "GRANT SELECT ON t_session_member TO resonance",
    ]);
    let login = Login { timeout: Duration::from_secs(2), ..Login::default() };
    let members = server.members(&login);
    let mut reader = members.open();
    let started = Instant::now();
    let why = words(reader.members(&["huge".into()]).expect_err("it is slow"));
    assert!(why.contains("57014") && why.contains("three quarters of postgres.timeout"), "{why}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let at_work = "SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'resonance' AND state = 'active'";
    // It is said to be at work until it has told its error.
    eventually("nothing of ours goes on", || server.root().number(at_work) == 0);
    let sessions = "SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'resonance'";
    assert_eq!(server.root().number(sessions), 1, "the connection is kept");
    server.run(&["DROP VIEW t_session_member", "ALTER TABLE theirs RENAME TO t_session_member"]);
    assert_eq!(reader.members(&["huge".into(), "small".into()]).expect("an answer").len(), 2);
}

/// No text of PostgreSQL's holds a zero byte: who asks for one is answered, and the others are.
#[test]
fn a_zero_byte_harms_nobody_else() {
    let server = Database::start(Kind::Postgres);
    server.add([("s", "ann")]);
    let login = Login::quick();
    let lists = server.members(&login).open().members(&["a\0b".into(), "s".into()]).expect("an answer");
    assert_eq!(lists.iter().map(|list| list.len()).collect::<Vec<_>>(), [0, 1]);
    let answers = server.writer(&login).store(&[rows("s", 1, 1, ["ann"]), rows("s", 2, 2, ["b\0b"])]);
    assert!(answers[0].is_ok() && matches!(answers[1], Err(LookupError::Rejected(_))), "{answers:?}");
}

/// Rows that were promised survive a crash also where the server commits lazily.
#[test]
fn rows_are_durable_where_the_server_is_lazy() {
    let server = Database::start(Kind::Postgres);
    server.run(&["ALTER ROLE resonance SET synchronous_commit = off"]);
    let mut writer = server.writer(&Login::quick());
    writer.store(&[rows("s", 1, 1, ["ann"])]).remove(0).expect("stored");
    let of_ours = "SELECT COUNT(*) FROM pg_stat_activity WHERE usename = 'resonance'";
    assert_eq!(server.root().number(of_ours), 1);
    server.kill();
    server.start_again();
    assert_eq!(server.stored().len(), 1);
}

fn over_tls(server: &Postgres, tls: TlsConfig) -> PostgresConfig {
    PostgresConfig {
        at: task_engine::config::HostPort { host: "localhost".into(), port: server.port() },
        username: Postgres::USER.into(),
        password: task_engine::config::Secret::new(Postgres::PASSWORD),
        tls,
        ..PostgresConfig::default()
    }
}

#[test]
fn members_and_rows_go_over_tls_and_what_is_wrong_is_told_with_its_key() {
    let (authority, theirs, mine) = both_sides();
    let server = Postgres::over_tls(&authority, &theirs).expect("PostgreSQL");
    let tls = ours(&authority, &mine);
    let settings = over_tls(&server, tls.clone());
    let lists = PostgresMembers::new(settings.clone()).open().members(&["s".into()]);
    assert_eq!(lists.map(|lists| lists.len()), Ok(1));
    let users: Vec<String> = (0..5_000).map(|number| format!("user-{number:04}")).collect();
    let stored = PostgresInbox::new(settings).open().store(&[rows("s", 7, 1, &users)]);
    assert!(stored[0].is_ok(), "{stored:?}");

    let other = self::authority();
    let of_other = certificate(&other, &["task-engine"]);
    for (tls, part) in [
        (TlsConfig { ca: other.ca(), ..tls.clone() }, "signed by no CA that is trusted here; set postgres.tls.ca"),
        (TlsConfig { server_name: "db.example".into(), ..tls.clone() }, "is not for db.example, it is for"),
        (TlsConfig { cert: of_other.cert, key: of_other.key, ..tls.clone() }, "postgres.tls.cert"),
        (TlsConfig { ca: authority.ca(), ..none() }, "postgres.tls.cert"),
        (none(), "and postgres.tls (with postgres.tls.cert)"),
    ] {
        let answer = PostgresMembers::new(over_tls(&server, tls)).open().members(&["s".into()]);
        let why = words(answer.expect_err(part));
        assert!(
            why.contains(part) && why.contains("PostgreSQL at localhost:") && !why.contains("hunter"),
            "{part}: {why}"
        );
    }
    let plain = Postgres::start().expect("PostgreSQL");
    let answer = PostgresMembers::new(over_tls(&plain, tls)).open().members(&["s".into()]);
    let why = words(answer.expect_err("it speaks none"));
    assert!(why.contains("the server offers none; turn it on there"), "{why}");
}

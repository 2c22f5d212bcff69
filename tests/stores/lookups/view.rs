//! `t_session_member` as a view over a table, through a function that misbehaves as it is told.

use harness::gateways::{Gateway, Protocols};
use mysql::prelude::Queryable;

use testkit::engine::World;

/// What the function does.
#[derive(Clone, Copy, Debug)]
pub enum Mode {
    /// Nothing: all is well.
    Well,
    /// Ends each query with this error number.
    Fails(u16),
    /// The same, with SQLSTATE 45000.
    FailsAs45000(u16),
    /// Ends each query that reads a session named so (LIKE) with 1105.
    FailsFor(&'static str),
    /// Sleeps 30 s in each query that reads a session named so (LIKE).
    SlowFor(&'static str),
}

const FUNCTION: &str = "CREATE FUNCTION f_may(s VARCHAR(64)) RETURNS INT READS SQL DATA BEGIN \
     DECLARE k INT; DECLARE c INT; DECLARE p VARCHAR(64); \
     SELECT kind, code, pattern INTO k, c, p FROM t_mode; \
     IF k = 1 THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = c, MESSAGE_TEXT = 'as told'; END IF; \
     IF k = 2 THEN SIGNAL SQLSTATE '45000' SET MYSQL_ERRNO = c, MESSAGE_TEXT = 'as told'; END IF; \
     IF k = 3 AND s LIKE p THEN SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = 1105, MESSAGE_TEXT = 'as told'; END IF; \
     IF k = 4 AND s LIKE p THEN DO SLEEP(30); END IF; \
     RETURN 1; END";

/// A configuration with which each event asks for its members, and a session that fails soon ends.
pub const ASKS_EACH_TIME: &str = "members:\n  cache_ttl: 0s\nconsumer:\n  max_retry: 1\n  retry_interval: 100ms\n";

/// A world with the view, where anna is at a gateway and in each of these sessions.
pub fn world_of<S: AsRef<str>>(sessions: impl IntoIterator<Item = S>) -> (World, Gateway) {
    let world = World::start();
    let gateway = world.gateway("gw-1", Protocols::STREAM);
    world.route("anna", "gw-1");
    install(&world);
    sessions.into_iter().for_each(|session| members(&world, session.as_ref(), &["anna"]));
    (world, gateway)
}

/// Puts the view in the table's place.
fn install(world: &World) {
    let mut maria = world.maria.connect().expect("MariaDB answers");
    for statement in [
        "RENAME TABLE t_session_member TO t_rows",
        "CREATE TABLE t_mode (kind INT NOT NULL, code INT NOT NULL, pattern VARCHAR(64) COLLATE utf8mb4_unicode_ci NOT NULL)",
        "INSERT INTO t_mode VALUES (0, 0, '')",
        FUNCTION,
        "CREATE VIEW t_session_member AS SELECT session_id, username FROM t_rows WHERE f_may(session_id) = 1",
    ] {
        maria.query_drop(statement).unwrap_or_else(|why| panic!("{statement}: {why}"));
    }
}

/// Tells the function what to do.
pub fn set(world: &World, mode: Mode) {
    let (kind, code, pattern) = match mode {
        Mode::Well => (0, 0, ""),
        Mode::Fails(code) => (1, code, ""),
        Mode::FailsAs45000(code) => (2, code, ""),
        Mode::FailsFor(pattern) => (3, 0, pattern),
        Mode::SlowFor(pattern) => (4, 0, pattern),
    };
    let mut maria = world.maria.connect().expect("MariaDB answers");
    maria.exec_drop("UPDATE t_mode SET kind = ?, code = ?, pattern = ?", (kind, code, pattern)).expect("told");
}

/// Writes a session's members behind the view.
fn members(world: &World, session: &str, users: &[&str]) {
    let rows = users.iter().map(|user| (session, *user));
    let statement = "INSERT INTO t_rows (session_id, username) VALUES (?, ?)";
    world.maria.connect().expect("MariaDB answers").exec_batch(statement, rows).expect("rows");
}

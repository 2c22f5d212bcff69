//! A real MariaDB as the inbox reaches it, and rows for it.

use std::time::Duration;

use harness::servers::Maria;
use mysql::{Conn, OptsBuilder};
use task_engine::config::{HostPort, MysqlConfig, Secret};
use task_engine::ports::InboxRows;

pub fn settings(server: &Maria) -> MysqlConfig {
    MysqlConfig {
        at: HostPort { host: "127.0.0.1".into(), port: server.port() },
        username: Maria::USER.into(),
        password: Secret::new(Maria::PASSWORD),
        database: Maria::DATABASE.into(),
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(20),
        conn_max_lifetime: Duration::from_secs(600),
        ..MysqlConfig::default()
    }
}

/// A connection that may do everything.
pub fn root(server: &Maria) -> Conn {
    let root = OptsBuilder::new().ip_or_hostname(Some("127.0.0.1")).tcp_port(server.port()).user(Some("root"));
    Conn::new(root.prefer_socket(false).db_name(Some(Maria::DATABASE))).expect("root may connect")
}

pub fn rows<S: AsRef<str>>(session: &str, msg_id: i64, seq_id: i64, users: impl IntoIterator<Item = S>) -> InboxRows {
    InboxRows { session: session.into(), msg_id, seq_id, users: users.into_iter().collect() }
}

//! What the database has of a message and a user: who is in the session, the user's rows, the kept content. Names are compared byte for byte,
//! whatever the collation.

use mysql::from_row;
use tokio_postgres::types::Type;

use super::{LATEST, WhyArgs};
use crate::config::{Config, Database, InboxStore, MysqlConfig, PostgresConfig};
use crate::edge::postgres::once::{Asked, cell};
use crate::edge::{mysql as maria, postgres};

/// What is known, or why it is not.
pub type Known<T> = Result<T, String>;

/// A row of the inbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowSeen {
    /// The message.
    pub msg: i64,
    /// Its sequence in the session.
    pub seq: i64,
    /// Whether the user has read it.
    pub is_read: bool,
}

/// What is found, or why it is not known.
pub(super) struct Tables {
    /// Whether the user is in the session.
    pub is_member: Known<bool>,
    /// How many are.
    pub members: Known<u64>,
    /// The user's rows of the session, or of the message, the latest first.
    pub rows: Known<Vec<RowSeen>>,
    /// Who sent the message, by its kept content.
    pub content: Known<Option<String>>,
}

impl Tables {
    fn unknown(why: String) -> Self {
        Self { is_member: Err(why.clone()), members: Err(why.clone()), rows: Err(why.clone()), content: Err(why) }
    }
}

/// Asks the one that is configured.
pub(super) fn look(config: &Config, args: &WhyArgs) -> Tables {
    let has_inbox = config.inbox.store != InboxStore::Off;
    match config.database {
        Database::Mysql => of_mysql(&config.mysql, has_inbox, args),
        Database::Postgres => of_postgres(&config.postgres, has_inbox, args),
    }
}

fn of_mysql(settings: &MysqlConfig, has_inbox: bool, args: &WhyArgs) -> Tables {
    let mut once = match maria::once::Once::open(settings) {
        Ok(once) => once,
        Err(refusal) => return Tables::unknown(refusal.words),
    };
    let mut rows =
        |statement: &str, values: Vec<mysql::Value>| once.rows(statement, values).map_err(|refusal| refusal.words);
    let (session, user) = (mysql::Value::from(&args.session), mysql::Value::from(&args.user));
    let count = |rows: Vec<mysql::Row>| rows.into_iter().next().map_or(0, from_row::<u64>);
    let members = "SELECT COUNT(*) FROM t_session_member WHERE session_id = ? AND BINARY session_id = BINARY ?";
    let all = rows(members, vec![session.clone(), session.clone()]).map(count);
    let both = vec![session.clone(), user.clone(), session.clone(), user.clone()];
    let of_user = " AND BINARY session_id = BINARY ? AND BINARY username = BINARY ?";
    let is_member =
        rows(&format!("SELECT COUNT(*) FROM t_session_member WHERE session_id = ? AND username = ?{of_user}"), both);
    let inbox = match has_inbox {
        false => Ok(Vec::new()),
        true => {
            let of_msg = if args.msg.is_some() { " AND msg_id = ?" } else { "" };
            let statement = format!(
                "SELECT msg_id, seq_id, is_read <> 0 FROM t_inbox WHERE owner_username = ? AND session_id = ?{of_msg} \
                 ORDER BY seq_id DESC LIMIT {LATEST}"
            );
            let values = [user, session.clone()].into_iter().chain(args.msg.map(mysql::Value::from)).collect();
            rows(&statement, values)
        }
    };
    let of = |row: mysql::Row| {
        let (msg, seq, is_read): (i64, i64, i64) = from_row(row);
        RowSeen { msg, seq, is_read: is_read != 0 }
    };
    let content = match args.msg {
        None => Ok(None),
        Some(msg) => {
            let statement = "SELECT sender_username FROM t_message_content WHERE msg_id = ? AND session_id = ? LIMIT 1";
            rows(statement, vec![msg.into(), session]).map(|rows| rows.into_iter().next().map(from_row::<String>))
        }
    };
    Tables {
        is_member: is_member.map(|rows| count(rows) > 0),
        members: all,
        rows: inbox.map(|rows| rows.into_iter().map(of).collect()),
        content,
    }
}

/// A name may be compared without case there, too: `COLLATE "C"` compares bytes.
fn of_postgres(settings: &PostgresConfig, has_inbox: bool, args: &WhyArgs) -> Tables {
    let mut once = match postgres::once::Once::open(settings) {
        Ok(once) => once,
        Err(refusal) => return Tables::unknown(refusal.words),
    };
    let mut rows = |statement: &str, asked: &[Asked<'_>]| once.rows(statement, asked).map_err(|refusal| refusal.words);
    let session: Asked<'_> = (Type::TEXT, &args.session);
    let user: Asked<'_> = (Type::TEXT, &args.user);
    let count = |rows: Vec<tokio_postgres::Row>| rows.first().and_then(|row| cell::<i64>(row, 0)).unwrap_or_default();
    let of_session = "session_id = $1 AND session_id::text COLLATE \"C\" = $1";
    let members =
        rows(&format!("SELECT COUNT(*) FROM t_session_member WHERE {of_session}"), std::slice::from_ref(&session));
    let of_user = "username = $2 AND username::text COLLATE \"C\" = $2";
    let is_member = rows(
        &format!("SELECT COUNT(*) FROM t_session_member WHERE {of_session} AND {of_user}"),
        &[session.clone(), user.clone()],
    );
    let mut of = |of_msg: &str, more: &[Asked<'_>]| {
        let statement = format!(
            "SELECT msg_id::bigint, seq_id::bigint, COALESCE(is_read, 0)::int <> 0 FROM t_inbox \
             WHERE owner_username = $2 AND {of_session}{of_msg} ORDER BY seq_id DESC LIMIT {LATEST}"
        );
        rows(&statement, &[&[session.clone(), user.clone()], more].concat())
    };
    let inbox = match (has_inbox, &args.msg) {
        (false, _) => Ok(Vec::new()),
        (true, None) => of("", &[]),
        (true, Some(msg)) => of(" AND msg_id = $3", &[(Type::INT8, msg)]),
    };
    let row =
        |row: &tokio_postgres::Row| Some(RowSeen { msg: cell(row, 0)?, seq: cell(row, 1)?, is_read: cell(row, 2)? });
    let content = match &args.msg {
        None => Ok(None),
        Some(msg) => {
            let statement =
                "SELECT sender_username::text FROM t_message_content WHERE session_id = $1 AND msg_id = $2 LIMIT 1";
            rows(statement, &[session, (Type::INT8, msg)]).map(|rows| rows.first().and_then(|row| cell(row, 0)))
        }
    };
    Tables {
        is_member: is_member.map(|rows| count(rows) > 0),
        members: members.map(|rows| count(rows).unsigned_abs()),
        rows: inbox.map(|rows| rows.iter().filter_map(row).collect()),
        content,
    }
}

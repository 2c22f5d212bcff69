//! Whether MySQL can be used as it is, for `task-engine doctor`.
//!
//! Promises to change nothing: tables are described and read, and what would write is the engine's own probe, which selects no row.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use mysql::from_row;

use super::inbox::probe;
use super::once::{Cause, Once, Refusal};
use crate::config::{Config, Database, InboxStore};
use crate::edge::postgres::{PostgresInbox, PostgresMembers};
use crate::edge::reach::{Way, compare_clocks, reach};
use crate::model::finding::{Check, Findings};
use crate::model::limits::{INBOX_THREADS, MEMBER_SUSPECT_THREADS, MEMBER_THREADS};
use crate::ports::{Inbox, Members};

const WAY: Way = Way { name: Check::MysqlName, tcp: Check::MysqlTcp, key: "mysql.host and mysql.port" };
/// What a name takes at the most, in characters.
const NAME_CHARS: u64 = 64;

/// A table as the engine needs it.
struct Table {
    name: &'static str,
    columns: &'static [&'static str],
    /// Columns of names.
    names: &'static [&'static str],
    /// What an index has to begin with, in any order.
    key: &'static [&'static str],
    /// Whether its rows are kept apart by it.
    is_unique: bool,
    /// What comes of it when there is no such key.
    without_key: &'static str,
}

const MEMBERS: Table = Table {
    name: "t_session_member",
    columns: &["session_id", "username"],
    names: &["session_id", "username"],
    key: &["session_id", "username"],
    is_unique: true,
    without_key: "each lookup reads the whole table, and a member may be there twice",
};
const INBOX: Table = Table {
    name: "t_inbox",
    columns: &["id", "owner_username", "session_id", "msg_id", "seq_id", "is_read", "created_at"],
    names: &["owner_username", "session_id"],
    key: &["owner_username", "session_id", "seq_id"],
    is_unique: true,
    without_key: "a message that is stored again has two rows",
};
const CONTENT: Table = Table {
    name: "t_message_content",
    columns: &["msg_id", "session_id", "seq_id"],
    names: &["session_id"],
    key: &["msg_id"],
    is_unique: false,
    without_key: "each look for a content reads the whole table",
};

/// Looks at it.
pub fn look(config: &Config, found: &mut Findings<'_>) {
    if config.database == Database::Postgres {
        return look_at_postgres(config, found);
    }
    let settings = &config.mysql;
    if reach(WAY, &settings.at, settings.connect_timeout, found).is_none() {
        return;
    }
    found.begin(Check::MysqlLogin);
    let mut once = match Once::open(settings) {
        Ok(once) => once,
        Err(refusal) => {
            let check = match refusal.cause {
                Cause::Name => Check::MysqlName,
                Cause::Tcp => Check::MysqlTcp,
                Cause::Tls => Check::MysqlTls,
                Cause::Database => Check::MysqlDatabase,
                _ => Check::MysqlLogin,
            };
            return found.fail_in_words(check, &refusal.words);
        }
    };
    let is_tls = settings.tls.is_written();
    found.ok(Check::MysqlTls, if is_tls { "TLS is spoken" } else { "plain, as mysql.tls is not set" });
    found.ok(Check::MysqlLogin, format!("user {} is let in", settings.username));
    found.ok(Check::MysqlDatabase, format!("database {}", settings.database));
    if let Err(refusal) = look_over(&mut once, config, found) {
        fail_of(&refusal, Check::MysqlLogin, found);
    }
}

/// PostgreSQL in its stead: what the engine's own probes say of it.
fn look_at_postgres(config: &Config, found: &mut Findings<'_>) {
    found.begin(Check::MysqlTables);
    let members = PostgresMembers::new(config.postgres.clone()).open().ping();
    let rows = || match config.inbox.store {
        InboxStore::Off => Ok(()),
        _ => PostgresInbox::new(config.postgres.clone()).open().ping(),
    };
    match members.and_then(|()| rows()) {
        Ok(()) => found.ok(Check::MysqlTables, "in PostgreSQL: members are read, and rows would be taken"),
        Err(error) => found.fail_in_words(Check::MysqlTables, &error.to_string()),
    }
}

/// A query failed: under the check that its cause is of.
fn fail_of(refusal: &Refusal, other: Check, found: &mut Findings<'_>) {
    let check = match refusal.cause {
        Cause::Table => Check::MysqlTables,
        Cause::Column => Check::MysqlColumns,
        Cause::Grant | Cause::Database => Check::MysqlGrants,
        Cause::ReadOnly => Check::MysqlReadOnly,
        _ => other,
    };
    found.fail_in_words(check, &refusal.words);
}

fn look_over(once: &mut Once, config: &Config, found: &mut Findings<'_>) -> Result<(), Refusal> {
    let has_inbox = config.inbox.store != InboxStore::Off;
    let mut tables = vec![&MEMBERS];
    tables.extend(has_inbox.then_some(&INBOX));
    tables.extend((has_inbox && config.inbox.rows_up_to > 0).then_some(&CONTENT));
    found.begin(Check::MysqlTables);
    let mut is_whole = true;
    for table in &tables {
        let reads = format!("SELECT 1 FROM {} LIMIT 0", table.name);
        if let Err(refusal) = once.rows(&reads, ()) {
            is_whole = false;
            fail_of(&refusal, Check::MysqlTables, found);
        }
    }
    if is_whole {
        found.ok(Check::MysqlTables, listed(&tables, |table| table.name));
        found.begin(Check::MysqlColumns);
        is_whole = columns(once, &tables, found)?;
    }
    if is_whole {
        found.begin(Check::MysqlUniqueKey);
        keys(once, &tables, found)?;
        found.begin(Check::MysqlGrants);
        writes(once, has_inbox, found)?;
    }
    found.begin(Check::MysqlConnections);
    connections(once, has_inbox, found)?;
    found.begin(Check::MysqlClock);
    let asked = Instant::now();
    let now = once.rows("SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)", ())?;
    if let Some(micros) = now.into_iter().next().map(from_row::<u64>) {
        let theirs = SystemTime::UNIX_EPOCH + Duration::from_micros(micros);
        compare_clocks(Check::MysqlClock, theirs, asked.elapsed(), found);
    }
    Ok(())
}

fn listed<T>(all: &[T], name: impl Fn(&T) -> &str) -> String {
    all.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// A column as the server describes it: its name, how many characters it takes, their set, and whether it must be given a value.
type Column = (String, Option<u64>, Option<String>, bool);

const DESCRIBE: &str = "SELECT column_name, character_maximum_length, character_set_name, \
     is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%' AND extra NOT LIKE '%GENERATED%' \
     FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";

/// Whether all tables have their columns; what they take is a warning.
fn columns(once: &mut Once, tables: &[&Table], found: &mut Findings<'_>) -> Result<bool, Refusal> {
    let (mut missing, mut short, mut sets) = (Vec::new(), Vec::new(), BTreeSet::new());
    for table in tables {
        let columns: Vec<Column> = once.rows(DESCRIBE, (table.name,))?.into_iter().map(from_row).collect();
        let find = |name: &str| columns.iter().find(|column| column.0.eq_ignore_ascii_case(name));
        let place = |name: &str| format!("{}.{name}", table.name);
        missing.extend(table.columns.iter().filter(|name| find(name).is_none()).map(|name| place(name)));
        let is_written = table.name == INBOX.name;
        let needs = columns.iter().filter(|column| is_written && column.3 && !table.columns.contains(&&*column.0));
        missing.extend(
            needs.map(|column| format!("{} (has no default, and nothing is written into it)", place(&column.0))),
        );
        for (name, chars, set, _) in table.names.iter().filter_map(|name| find(name)) {
            if chars.is_some_and(|chars| chars < NAME_CHARS) {
                short.push(place(name));
            }
            if let Some(set) = set.as_ref().filter(|set| *set != "utf8mb4") {
                sets.insert(format!("{} is {set}", place(name)));
            }
        }
    }
    let create = "make the tables as Resonance's schema has them";
    if !missing.is_empty() {
        found.fail(Check::MysqlColumns, format!("not as they are read and written: {}", missing.join(", ")), create);
        return Ok(false);
    }
    match short.is_empty() {
        true => found.ok(Check::MysqlColumns, "as they are read and written"),
        false => {
            let what = format!("takes fewer than {NAME_CHARS} characters, which names may have: {}", short.join(", "));
            found.warn(Check::MysqlColumns, what, create);
        }
    }
    let sets: Vec<String> = sets.into_iter().collect();
    match sets.is_empty() {
        true => found.ok(Check::MysqlCollation, "names are utf8mb4"),
        false => found.warn(
            Check::MysqlCollation,
            format!("not every name can be kept or found: {}", sets.join(", ")),
            "ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4",
        ),
    }
    Ok(true)
}

const INDEXES: &str = "SELECT index_name, non_unique, LOWER(column_name) FROM information_schema.statistics \
     WHERE table_schema = DATABASE() AND table_name = ? ORDER BY index_name, seq_in_index";

fn keys(once: &mut Once, tables: &[&Table], found: &mut Findings<'_>) -> Result<(), Refusal> {
    let mut missing = Vec::new();
    for table in tables {
        let mut indexes: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
        for row in once.rows(INDEXES, (table.name,))? {
            let (index, non_unique, column): (String, u64, Option<String>) = from_row(row);
            let index = indexes.entry(index).or_insert((non_unique == 0, Vec::new()));
            index.1.extend(column);
        }
        let begins = |columns: &[String]| {
            let first: BTreeSet<&str> = columns.iter().take(table.key.len()).map(String::as_str).collect();
            first == table.key.iter().copied().collect()
        };
        let fits = |(unique, columns): &(bool, Vec<String>)| match table.is_unique {
            true => *unique && columns.len() == table.key.len() && begins(columns),
            false => begins(columns),
        };
        if !indexes.values().any(fits) {
            let kind = if table.is_unique { "unique key" } else { "index" };
            missing.push(format!("{} has no {kind} ({}): {}", table.name, table.key.join(", "), table.without_key));
        }
    }
    match missing.is_empty() {
        true => found.ok(Check::MysqlUniqueKey, "rows are found and kept apart"),
        false => {
            found.fail(Check::MysqlUniqueKey, missing.join("; "), "ALTER TABLE ... ADD UNIQUE KEY with these columns")
        }
    }
    Ok(())
}

/// Whether rows would be taken.
fn writes(once: &mut Once, has_inbox: bool, found: &mut Findings<'_>) -> Result<(), Refusal> {
    if !has_inbox {
        found.ok(Check::MysqlGrants, "members can be read");
        found.ok(Check::MysqlReadOnly, "nothing is written: inbox.store is off");
        return Ok(());
    }
    let written = once.run(probe);
    let is_read_only = matches!(&written, Err(refusal) if refusal.cause == Cause::ReadOnly);
    let read_only =
        "let mysql.host be the server that takes writes, or SET GLOBAL read_only = 0: rows of the inbox are not stored";
    match written {
        Err(refusal) if !is_read_only => {
            fail_of(&refusal, Check::MysqlGrants, found);
            return Ok(());
        }
        // A server that checks rights first lets us get here with them.
        _ => found.ok(Check::MysqlGrants, "members can be read, rows of the inbox read and written"),
    }
    let says = once.rows("SELECT @@global.read_only", ())?;
    let is_set = says.into_iter().next().map(from_row::<u64>).is_some_and(|set| set != 0);
    match (is_read_only, is_set) {
        (true, _) => found.fail(Check::MysqlReadOnly, "the server is read-only", read_only),
        // A statement that selects no row may pass.
        (false, true) => {
            found.fail(Check::MysqlReadOnly, "the server says that it is read-only (@@read_only)", read_only)
        }
        (false, false) => found.ok(Check::MysqlReadOnly, "the server takes rows"),
    }
    Ok(())
}

fn connections(once: &mut Once, has_inbox: bool, found: &mut Findings<'_>) -> Result<(), Refusal> {
    let opened = MEMBER_THREADS + MEMBER_SUSPECT_THREADS + if has_inbox { INBOX_THREADS + 1 } else { 0 };
    let says = once.rows("SELECT @@global.max_connections, @@max_user_connections", ())?;
    let (of_all, of_user): (u64, u64) = says.into_iter().next().map_or((0, 0), from_row);
    let most = if of_user == 0 { of_all } else { of_all.min(of_user) };
    match most {
        most if most >= opened as u64 => {
            found.ok(Check::MysqlConnections, format!("{most} are taken, an engine opens {opened}"))
        }
        most => found.warn(
            Check::MysqlConnections,
            format!("{most} are taken, an engine opens {opened}"),
            "raise max_connections, or the user's MAX_USER_CONNECTIONS",
        ),
    }
    Ok(())
}

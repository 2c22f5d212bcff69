//! Whether a database can be used as it is, for `task-engine doctor`: what is looked at, in which order, and what that means. Each adapter
//! asks its own server.
//!
//! Promises to change nothing: tables are described and read, and what would write is the engine's own probe, which stores no row. Where
//! one look fails, those that need it are not made.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime};

use super::asked::Refusal;
use super::fault::Cause;
use crate::config::{Config, HostPort, InboxStore};
use crate::edge::reach::{Way, compare_clocks, reach};
use crate::model::finding::{Check, Findings};
use crate::model::limits::{INBOX_THREADS, MEMBER_SUSPECT_THREADS, MEMBER_THREADS};

/// What a name takes at the most, in characters.
const NAME_CHARS: u64 = 64;

/// A table as the engine needs it.
#[derive(Clone, Copy)]
pub struct Table {
    /// What it is called.
    pub name: &'static str,
    /// What is read and written.
    pub columns: &'static [&'static str],
    /// Columns of names.
    pub names: &'static [&'static str],
    /// What an index has to begin with, in any order.
    pub key: &'static [&'static str],
    /// Whether its rows are kept apart by it.
    pub is_unique: bool,
    /// What comes of it when there is no such key.
    pub without_key: &'static str,
}

const MEMBERS: Table = Table {
    name: "t_session_member",
    columns: &["session_id", "username"],
    names: &["session_id", "username"],
    key: &["session_id", "username"],
    is_unique: true,
    without_key: "each lookup reads the whole table, and a member may be there twice",
};
/// What messages for users who could not be reached are kept in.
pub const INBOX: Table = Table {
    name: "t_inbox",
    columns: &["owner_username", "session_id", "msg_id", "seq_id", "is_read", "created_at"],
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

/// The checks of one kind of server.
pub struct Checks {
    /// Its name and its port.
    pub way: Way,
    /// TLS with it.
    pub tls: Check,
    /// It lets us in.
    pub login: Check,
    /// The database is there.
    pub database: Check,
    /// The tables are there.
    pub tables: Check,
    /// They have their columns.
    pub columns: Check,
    /// And their keys.
    pub unique_key: Check,
    /// Names are kept whole.
    pub names: Check,
    /// The user's rights.
    pub grants: Check,
    /// The server takes rows.
    pub read_only: Check,
    /// And connections.
    pub connections: Check,
    /// Its clock.
    pub clock: Check,
}

/// Where it is, and who we are to it.
pub struct Settings<'a> {
    /// Its section of the configuration.
    pub section: &'static str,
    /// Its address.
    pub at: &'a HostPort,
    /// How long a connect may take.
    pub connect_timeout: Duration,
    /// Who logs in.
    pub username: &'a str,
    /// The database.
    pub database: &'a str,
    /// Whether TLS is spoken.
    pub is_tls: bool,
}

/// A column as the server describes it.
pub struct Column {
    /// Its name.
    pub name: String,
    /// How many characters it takes; none: as many as one likes.
    pub chars: Option<u64>,
    /// Whether a row must give it a value.
    pub needs_value: bool,
}

/// A column of an index, in the index' order.
pub struct Indexed {
    /// The index.
    pub index: String,
    /// Whether it keeps rows apart.
    pub is_unique: bool,
    /// The column; none for an expression.
    pub column: Option<String>,
}

/// A server that is logged in to, and asked.
pub trait Server {
    /// What its checks are called.
    const CHECKS: Checks;
    /// The inbox as it is written there.
    const INBOX: Table;
    /// How it is made to take writes.
    const TAKES_WRITES: &'static str;
    /// How it is made to take more connections.
    const MORE_CONNECTIONS: &'static str;

    /// Nothing of a table.
    fn read(&mut self, table: &str) -> Result<(), Refusal>;
    /// A table's columns, in their order.
    fn columns(&mut self, table: &str) -> Result<Vec<Column>, Refusal>;
    /// Which of these names cannot all be kept; what is wrong with them, and what to do.
    fn names_cut(&mut self, table: &Table, names: &[&'static str]) -> Result<BTreeSet<String>, Refusal>;
    /// What is said about names that are kept, and what to do about those that are not.
    fn of_names(&self) -> [&'static str; 2];
    /// A table's indexes, sorted.
    fn indexes(&mut self, table: &str) -> Result<Vec<Indexed>, Refusal>;
    /// The engine's own probe of a write.
    fn probe(&mut self) -> Result<(), Refusal>;
    /// What else it says of writes: that it takes none, or a right that is missing.
    fn writes(&mut self) -> Result<Writes, Refusal>;
    /// How many connections it takes of us.
    fn connections(&mut self) -> Result<u64, Refusal>;
    /// Microseconds since 1970, by its clock.
    fn micros(&mut self) -> Result<u64, Refusal>;
}

/// What a server says of writes that pass its checks of a statement.
pub enum Writes {
    /// It takes them.
    Taken,
    /// It says that it is read-only.
    ReadOnly(&'static str),
    /// A right is missing.
    NoRight(String),
}

/// Looks at it: connects, logs in with `open`, and asks.
pub fn look<S: Server>(
    settings: &Settings<'_>,
    open: impl FnOnce() -> Result<S, Refusal>,
    config: &Config,
    found: &mut Findings<'_>,
) {
    let checks = S::CHECKS;
    if reach(checks.way, settings.at, settings.connect_timeout, found).is_none() {
        return;
    }
    found.begin(checks.login);
    let mut server = match open() {
        Ok(server) => server,
        Err(refusal) => {
            let check = match refusal.cause {
                Cause::Name => checks.way.name,
                Cause::Tcp => checks.way.tcp,
                Cause::Tls => checks.tls,
                Cause::Database | Cause::Grant => checks.database,
                Cause::Connections => checks.connections,
                _ => checks.login,
            };
            return found.fail_in_words(check, &refusal.words);
        }
    };
    match settings.is_tls {
        true => found.ok(checks.tls, "TLS is spoken"),
        false => found.ok(checks.tls, format!("plain, as {}.tls is not set", settings.section)),
    }
    found.ok(checks.login, format!("user {} is let in", settings.username));
    found.ok(checks.database, format!("database {}", settings.database));
    if let Err(refusal) = look_over(&mut server, config, found) {
        fail_of(&refusal, &checks, checks.login, found);
    }
}

/// A query failed: under the check that its cause is of.
fn fail_of(refusal: &Refusal, checks: &Checks, other: Check, found: &mut Findings<'_>) {
    let check = match refusal.cause {
        Cause::Table => checks.tables,
        Cause::Column => checks.columns,
        Cause::Key => checks.unique_key,
        Cause::Grant | Cause::Database => checks.grants,
        Cause::ReadOnly => checks.read_only,
        _ => other,
    };
    found.fail_in_words(check, &refusal.words);
}

fn look_over<S: Server>(server: &mut S, config: &Config, found: &mut Findings<'_>) -> Result<(), Refusal> {
    let checks = S::CHECKS;
    let has_inbox = config.inbox.store != InboxStore::Off;
    let mut tables = vec![MEMBERS];
    tables.extend(has_inbox.then_some(S::INBOX));
    tables.extend((has_inbox && config.inbox.rows_up_to > 0).then_some(CONTENT));
    found.begin(checks.tables);
    let mut is_whole = true;
    for table in &tables {
        if let Err(refusal) = server.read(table.name) {
            is_whole = false;
            fail_of(&refusal, &checks, checks.tables, found);
        }
    }
    if is_whole {
        let names: Vec<&str> = tables.iter().map(|table| table.name).collect();
        found.ok(checks.tables, names.join(", "));
        found.begin(checks.columns);
        is_whole = columns(server, &tables, found)?;
    }
    if is_whole {
        names(server, &tables, found)?;
        found.begin(checks.unique_key);
        keys(server, &tables, found)?;
        found.begin(checks.grants);
        writes(server, has_inbox, found)?;
    }
    found.begin(checks.connections);
    connections(server, has_inbox, found)?;
    found.begin(checks.clock);
    let asked = Instant::now();
    let theirs = SystemTime::UNIX_EPOCH + Duration::from_micros(server.micros()?);
    compare_clocks(checks.clock, theirs, asked.elapsed(), found);
    Ok(())
}

/// Whether all tables have their columns; what they take is a warning.
fn columns<S: Server>(server: &mut S, tables: &[Table], found: &mut Findings<'_>) -> Result<bool, Refusal> {
    let (mut missing, mut short) = (Vec::new(), Vec::new());
    for table in tables {
        let columns = server.columns(table.name)?;
        let find = |name: &str| columns.iter().find(|column| column.name.eq_ignore_ascii_case(name));
        let place = |name: &str| format!("{}.{name}", table.name);
        missing.extend(table.columns.iter().filter(|name| find(name).is_none()).map(|name| place(name)));
        let is_written = table.name == INBOX.name;
        let needs = columns.iter().filter(|column| is_written && column.needs_value);
        let needs = needs.filter(|column| !table.columns.contains(&&*column.name));
        missing.extend(
            needs.map(|column| format!("{} (has no default, and nothing is written into it)", place(&column.name))),
        );
        let names = table.names.iter().filter_map(|name| find(name));
        short.extend(
            names
                .filter(|column| column.chars.is_some_and(|chars| chars < NAME_CHARS))
                .map(|column| place(&column.name)),
        );
    }
    let (check, create) = (S::CHECKS.columns, "make the tables as Resonance's schema has them");
    if !missing.is_empty() {
        found.fail(check, format!("not as they are read and written: {}", missing.join(", ")), create);
        return Ok(false);
    }
    match short.is_empty() {
        true => found.ok(check, "as they are read and written"),
        false => {
            let what = format!("takes fewer than {NAME_CHARS} characters, which names may have: {}", short.join(", "));
            found.warn(check, what, create);
        }
    }
    Ok(true)
}

/// Whether all names are kept as they are written.
fn names<S: Server>(server: &mut S, tables: &[Table], found: &mut Findings<'_>) -> Result<(), Refusal> {
    let mut cut = BTreeSet::new();
    for table in tables {
        cut.extend(server.names_cut(table, table.names)?);
    }
    let cut: Vec<String> = cut.into_iter().collect();
    let [kept, advice] = server.of_names();
    match cut.is_empty() {
        true => found.ok(S::CHECKS.names, kept),
        false => {
            found.warn(S::CHECKS.names, format!("not every name can be kept or found: {}", cut.join(", ")), advice)
        }
    }
    Ok(())
}

fn keys<S: Server>(server: &mut S, tables: &[Table], found: &mut Findings<'_>) -> Result<(), Refusal> {
    let mut missing = Vec::new();
    for table in tables {
        let mut indexes: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
        for Indexed { index, is_unique, column } in server.indexes(table.name)? {
            let index = indexes.entry(index).or_insert((is_unique, Vec::new()));
            // An expression is no column of ours.
            index.1.push(column.unwrap_or_default());
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
    let check = S::CHECKS.unique_key;
    match missing.is_empty() {
        true => found.ok(check, "rows are found and kept apart"),
        false => found.fail(check, missing.join("; "), "CREATE UNIQUE INDEX ... with these columns"),
    }
    Ok(())
}

/// Whether rows would be taken.
fn writes<S: Server>(server: &mut S, has_inbox: bool, found: &mut Findings<'_>) -> Result<(), Refusal> {
    let Checks { grants, read_only, .. } = S::CHECKS;
    if !has_inbox {
        found.ok(grants, "members can be read");
        found.ok(read_only, "nothing is written: inbox.store is off");
        return Ok(());
    }
    let probed = server.probe();
    let is_read_only = matches!(&probed, Err(refusal) if refusal.cause == Cause::ReadOnly);
    match probed {
        // Was said of the keys.
        Err(refusal) if refusal.cause == Cause::Key => return Ok(()),
        Err(refusal) if !is_read_only => {
            fail_of(&refusal, &S::CHECKS, grants, found);
            return Ok(());
        }
        _ => {}
    }
    let says = server.writes()?;
    // A server that checks rights first lets us get here with them.
    match &says {
        Writes::NoRight(what) => found.fail(grants, what.clone(), "grant it to the engine's user"),
        _ => found.ok(grants, "members can be read, rows of the inbox read and written"),
    }
    match (is_read_only, says) {
        (true, _) => found.fail(read_only, "the server is read-only", S::TAKES_WRITES),
        // A statement that stores no row may pass.
        (false, Writes::ReadOnly(how)) => found.fail(read_only, how, S::TAKES_WRITES),
        (false, _) => found.ok(read_only, "the server takes rows"),
    }
    Ok(())
}

fn connections<S: Server>(server: &mut S, has_inbox: bool, found: &mut Findings<'_>) -> Result<(), Refusal> {
    let opened = MEMBER_THREADS + MEMBER_SUSPECT_THREADS + if has_inbox { INBOX_THREADS + 1 } else { 0 };
    let most = server.connections()?;
    let what = format!("{most} are taken, an engine opens {opened}");
    match most >= opened as u64 {
        true => found.ok(S::CHECKS.connections, what),
        false => found.warn(S::CHECKS.connections, what, S::MORE_CONNECTIONS),
    }
    Ok(())
}

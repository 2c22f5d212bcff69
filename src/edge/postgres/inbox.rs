//! The built-in inbox: `t_inbox` in PostgreSQL, one connection a writer thread.
//!
//! Promises that what is answered with `Ok` is committed and durable, that a row which is there already is good, and that a user
//! whose row is not there byte for byte (owner, session, message) is told as a conflict: another message holds the place, or the
//! column gives back another name. A batch is one statement, which is its own transaction: one round trip and one commit when
//! all of its rows are new. The server says how many are; when that is not all of them, or a name ends in what a column may cut, they
//! are read back.
//!
//! Refuses to tell a lost connection in mid-commit from a failed one: such a batch is answered as unavailable and is
//! stored again, which changes nothing when it was committed. Refuses to read back all that the server counts as new: a BEFORE
//! INSERT trigger that rewrites owners is not seen.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_postgres::types::{ToSql, Type};

use super::conn::{Conn, Raw};
use super::contents;
use super::link::{PostgresLink, limits, live_for_writes};
use crate::config::{Current, PostgresConfig};
use crate::edge::sql::fault::{Fault, Place};
use crate::edge::sql::inbox::row::{Row, may_be_cut};
use crate::edge::sql::inbox::suspects::Suspects;
use crate::edge::sql::inbox::{Batches, InboxServer, RowStore, SqlInbox, Times};
use crate::edge::sql::live::Live;
use crate::ports::{ContentReader, InboxWriter, LookupError};

/// What an operator has to look at when the table is not as expected.
const SCHEMA: &str = "check that postgres.database holds t_inbox(owner_username, session_id, msg_id, seq_id, is_read, created_at) \
                      in the user's search_path with its unique key (owner_username, session_id, seq_id), and the user may SELECT \
                      and INSERT it (and has USAGE of its sequence)";
const INSERT: &str = "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read, created_at) \
                      SELECT owner, session, msg, seq, 0, now() \
                      FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[]) AS asked (owner, session, msg, seq) \
                      ON CONFLICT (owner_username, session_id, seq_id) DO NOTHING";
/// What is in the places that were asked for.
const COMPARE: &str = "SELECT asked.at, held.owner_username, held.session_id, held.msg_id \
                       FROM unnest($1::text[], $2::text[], $3::bigint[]) WITH ORDINALITY AS asked (owner, session, seq, at) \
                       JOIN t_inbox AS held ON held.owner_username = asked.owner AND held.session_id = asked.session \
                       AND held.seq_id = asked.seq";
/// As near to a write as it gets without one: shows a server that is read-only, rights that are missing, a key that is,
/// a column of another type.
pub(super) const PROBE_WRITE: &str = "INSERT INTO t_inbox (owner_username, session_id, msg_id, seq_id, is_read, created_at) \
                           SELECT owner_username::text, session_id::text, msg_id::bigint, seq_id::bigint, 0, now() FROM t_inbox \
                           WHERE false ON CONFLICT (owner_username, session_id, seq_id) DO NOTHING";
/// How often rows are stored again that were neither new nor there, since whoever had their place went away meanwhile.
const ROUNDS_MAX: usize = 4;
/// The shortest wait for a lock that can be asked for.
const CAREFUL_LOCK: std::time::Duration = std::time::Duration::from_millis(1);

/// Where messages for users who could not be reached are remembered, in PostgreSQL.
pub type PostgresInbox = SqlInbox<Current<PostgresConfig>>;

impl InboxServer for Current<PostgresConfig> {
    fn writer(&self, suspects: Arc<Suspects>) -> Box<dyn InboxWriter> {
        Box::new(Batches(Writer { live: live_for_writes(self, SCHEMA), suspects }))
    }

    fn contents(&self) -> Box<dyn ContentReader> {
        Box::new(contents::reader(self))
    }
}

struct Writer {
    live: Live<PostgresLink>,
    suspects: Arc<Suspects>,
}

impl Writer {
    fn times(&self) -> Times {
        Times::of(self.live.place().timeout)
    }
}

impl RowStore for Writer {
    const LOCKS_IN: &str = "pg_locks and pg_stat_activity";

    fn transaction<'a>(
        &mut self,
        rows: &[Row<'a>],
        is_careful: bool,
        was_connected: &mut bool,
    ) -> Result<Vec<Row<'a>>, Fault> {
        let times = self.times();
        self.live.attempt(|conn, _| {
            *was_connected = true;
            match is_careful {
                true => careful(conn, &times, |conn| insert_all(conn, rows)),
                false => insert_all(conn, rows),
            }
        })
    }

    fn probe(&mut self) -> Result<(), LookupError> {
        self.live
            .attempt(|conn, _| conn.execute(PROBE_WRITE, &[], &[]))
            .map(drop)
            .map_err(|fault| self.in_words(fault, None))
    }

    fn place(&self) -> &Place {
        self.live.place()
    }

    fn explain(&self, fault: Fault) -> LookupError {
        self.live.explain(fault)
    }

    fn suspects(&self) -> &Suspects {
        &self.suspects
    }

    fn search_limit(&self) -> std::time::Duration {
        self.times().search
    }
}

/// Runs `work` in a session that gives up at once, and leaves it patient.
fn careful<T>(conn: &mut Conn, times: &Times, work: impl FnOnce(&mut Conn) -> Result<T, Fault>) -> Result<T, Fault> {
    conn.run(&limits(times.careful_statement, CAREFUL_LOCK))?;
    let done = work(conn);
    if matches!(done, Ok(_) | Err(Fault::Server(_))) {
        conn.run(&limits(times.statement, times.lock))?;
    }
    done
}

/// Stores rows; those that are not there byte for byte.
fn insert_all<'a>(conn: &mut Conn, rows: &[Row<'a>]) -> Result<Vec<Row<'a>>, Fault> {
    let mut left = rows.to_vec();
    // In the order of the unique key: its pages are touched once, and two writers lock in the same order. Among equals
    // the one asked first comes first, so that it gets the place.
    left.sort_by(|a, b| a.key().cmp(&b.key()));
    let mut conflicts = HashSet::new();
    for _ in 0..ROUNDS_MAX {
        let new = insert(conn, &left)?;
        if new == left.len() as u64 && !left.iter().any(|row| may_be_cut(row.user) || may_be_cut(&row.of.session)) {
            left.clear();
            break;
        }
        let (gone, held) = compare(conn, left)?;
        conflicts.extend(held.iter().map(|row| (row.ask, row.user)));
        left = gone;
        if left.is_empty() {
            break;
        }
    }
    // The table gives these back as something else.
    conflicts.extend(left.iter().map(|row| (row.ask, row.user)));
    // As they were asked.
    Ok(rows.iter().filter(|row| conflicts.contains(&(row.ask, row.user))).copied().collect())
}

/// How many of them are new.
fn insert(conn: &mut Conn, rows: &[Row<'_>]) -> Result<u64, Fault> {
    let owners: Vec<&str> = rows.iter().map(|row| row.user).collect();
    let sessions: Vec<&str> = rows.iter().map(|row| &*row.of.session).collect();
    let messages: Vec<i64> = rows.iter().map(|row| row.of.msg_id).collect();
    let numbers: Vec<i64> = rows.iter().map(|row| row.of.seq_id).collect();
    let values: [&(dyn ToSql + Sync); 4] = [&owners, &sessions, &messages, &numbers];
    conn.execute(INSERT, &[Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::INT8_ARRAY, Type::INT8_ARRAY], &values)
}

/// Of these the ones in whose place nothing is, and those in whose place something else is.
fn compare<'a>(conn: &mut Conn, rows: Vec<Row<'a>>) -> Result<(Vec<Row<'a>>, Vec<Row<'a>>), Fault> {
    let owners: Vec<&str> = rows.iter().map(|row| row.user).collect();
    let sessions: Vec<&str> = rows.iter().map(|row| &*row.of.session).collect();
    let numbers: Vec<i64> = rows.iter().map(|row| row.of.seq_id).collect();
    let values: [&(dyn ToSql + Sync); 3] = [&owners, &sessions, &numbers];
    let found = conn.query(COMPARE, &[Type::TEXT_ARRAY, Type::TEXT_ARRAY, Type::INT8_ARRAY], &values)?;
    // In each place: whether what is there is what was asked for.
    let mut places: Vec<Option<bool>> = vec![None; rows.len()];
    for row in &found {
        let asked =
            row.try_get::<_, i64>(0).ok().and_then(|at| rows.get((at as usize).wrapping_sub(1)).map(|row| (at, row)));
        let (Some((at, asked)), Ok(Raw(owner)), Ok(Raw(session)), Ok(msg_id)) =
            (asked, row.try_get(1), row.try_get(2), row.try_get::<_, i64>(3))
        else {
            continue;
        };
        let is_it =
            owner == asked.user.as_bytes() && session == asked.of.session.as_bytes() && msg_id == asked.of.msg_id;
        places[at as usize - 1] = Some(is_it);
    }
    let of = |wanted: Option<bool>| rows.iter().zip(&places).filter(move |(_, is)| **is == wanted).map(|(row, _)| *row);
    Ok((of(None).collect(), of(Some(false)).collect()))
}

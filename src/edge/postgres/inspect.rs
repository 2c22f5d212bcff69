//! What PostgreSQL says to the look of `task-engine doctor`; the look itself is in [`sql::inspect`](crate::edge::sql::inspect).
//!
//! Tables are those that the user's search_path leads to, as they are for the engine.

use std::collections::BTreeSet;

use tokio_postgres::Row;
use tokio_postgres::types::Type;

use super::once::{Once, cell};
use crate::config::Config;
use crate::edge::reach::Way;
use crate::edge::sql::asked::Refusal;
use crate::edge::sql::inspect::{self, Checks, Column, INBOX, Indexed, Server, Settings, Table, Writes};
use crate::model::finding::{Check, Findings};

/// Looks at it.
pub fn look(config: &Config, found: &mut Findings<'_>) {
    let postgres = &config.postgres;
    let settings = Settings {
        section: config.database.section(),
        at: &postgres.at,
        connect_timeout: postgres.connect_timeout,
        username: &postgres.username,
        database: &postgres.database,
        is_tls: postgres.tls.is_written(),
    };
    inspect::look(&settings, || Once::open(postgres), config, found);
}

/// A length is kept with the four bytes before a text.
const DESCRIBE: &str = "SELECT attname::text, \
     CASE WHEN atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND atttypmod > 4 THEN (atttypmod - 4)::bigint END, \
     attnotnull AND NOT atthasdef AND attidentity = '' \
     FROM pg_attribute WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped ORDER BY attnum";
/// A partial index keeps no row apart, and one that is not valid, or looks only at the commit, none either.
const INDEXES: &str = "SELECT i.indexrelid::text, i.indisunique, a.attname::text FROM pg_index AS i \
     CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, at) \
     LEFT JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum > 0 \
     WHERE i.indrelid = to_regclass($1) AND i.indpred IS NULL AND i.indisvalid AND i.indimmediate AND k.at <= i.indnkeyatts \
     ORDER BY i.indexrelid, k.at";
const ENCODING: &str = "SELECT pg_encoding_to_char(encoding)::text FROM pg_database WHERE datname = current_database()";
/// Whether it follows another, and which sequence of the inbox the user may not use, if any.
const WRITES: &str = "SELECT pg_is_in_recovery(), (SELECT name FROM (SELECT pg_get_serial_sequence('t_inbox', attname) AS name \
     FROM pg_attribute WHERE attrelid = to_regclass('t_inbox') AND attnum > 0 AND NOT attisdropped AND atthasdef) AS filled \
     WHERE name IS NOT NULL AND NOT has_sequence_privilege(name, 'USAGE') LIMIT 1)";
/// The least of what the server, the database and the user take; -1 is no limit.
const CONNECTIONS: &str = "SELECT LEAST(current_setting('max_connections')::bigint \
     - current_setting('superuser_reserved_connections')::bigint, \
     (SELECT NULLIF(datconnlimit, -1) FROM pg_database WHERE datname = current_database()), \
     (SELECT NULLIF(rolconnlimit, -1) FROM pg_roles WHERE rolname = current_user))";
const NOW: &str = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

impl Server for Once {
    const CHECKS: Checks = Checks {
        way: Way { name: Check::PostgresName, tcp: Check::PostgresTcp, key: "postgres.host and postgres.port" },
        tls: Check::PostgresTls,
        login: Check::PostgresLogin,
        database: Check::PostgresDatabase,
        tables: Check::PostgresTables,
        columns: Check::PostgresColumns,
        unique_key: Check::PostgresUniqueKey,
        names: Check::PostgresEncoding,
        grants: Check::PostgresGrants,
        read_only: Check::PostgresReadOnly,
        connections: Check::PostgresConnections,
        clock: Check::PostgresClock,
    };
    const INBOX: Table = INBOX;
    const TAKES_WRITES: &'static str = "let postgres.host be the primary, or set default_transaction_read_only to off: rows of the inbox \
         are not stored";
    const MORE_CONNECTIONS: &'static str =
        "raise max_connections, or the CONNECTION LIMIT of the user or of the database";

    fn read(&mut self, table: &str) -> Result<(), Refusal> {
        self.rows(&format!("SELECT 1 FROM {table} LIMIT 0"), &[]).map(drop)
    }

    fn columns(&mut self, table: &str) -> Result<Vec<Column>, Refusal> {
        let rows = self.rows(DESCRIBE, &[(Type::TEXT, &table)])?;
        let column = |row: &Row| {
            Some(Column {
                name: cell(row, 0)?,
                chars: cell::<Option<i64>>(row, 1)?.map(i64::unsigned_abs),
                needs_value: cell(row, 2)?,
            })
        };
        Ok(rows.iter().filter_map(column).collect())
    }

    /// An encoding is the database's.
    fn names_cut(&mut self, _: &Table, _: &[&'static str]) -> Result<BTreeSet<String>, Refusal> {
        let encoding: Option<String> = self.rows(ENCODING, &[])?.first().and_then(|row| cell(row, 0));
        let other = encoding.filter(|encoding| encoding != "UTF8");
        Ok(other.map(|encoding| format!("the database is {encoding}")).into_iter().collect())
    }

    fn of_names(&self) -> [&'static str; 2] {
        ["names are UTF8", "CREATE DATABASE ... ENCODING 'UTF8' TEMPLATE template0, and move the tables there"]
    }

    fn indexes(&mut self, table: &str) -> Result<Vec<Indexed>, Refusal> {
        let rows = self.rows(INDEXES, &[(Type::TEXT, &table)])?;
        let of = |row: &Row| Some(Indexed { index: cell(row, 0)?, is_unique: cell(row, 1)?, column: cell(row, 2)? });
        Ok(rows.iter().filter_map(of).collect())
    }

    fn probe(&mut self) -> Result<(), Refusal> {
        Self::probe(self)
    }

    fn writes(&mut self) -> Result<Writes, Refusal> {
        let rows = self.rows(WRITES, &[])?;
        let says = rows.first().and_then(|row| Some((cell::<bool>(row, 0)?, cell::<Option<String>>(row, 1)?)));
        Ok(match says {
            Some((_, Some(sequence))) => Writes::NoRight(format!(
                "the sequence {sequence}, by which t_inbox is numbered, is not the user's to use"
            )),
            Some((true, None)) => Writes::ReadOnly("the server is a standby (pg_is_in_recovery)"),
            _ => Writes::Taken,
        })
    }

    fn connections(&mut self) -> Result<u64, Refusal> {
        let most: Option<i64> = self.rows(CONNECTIONS, &[])?.first().and_then(|row| cell(row, 0));
        Ok(most.unwrap_or_default().max(0) as u64)
    }

    fn micros(&mut self) -> Result<u64, Refusal> {
        let micros: Option<i64> = self.rows(NOW, &[])?.first().and_then(|row| cell(row, 0));
        Ok(micros.unwrap_or_default().max(0) as u64)
    }
}

//! What MySQL says to the look of `task-engine doctor`; the look itself is in [`sql::inspect`](crate::edge::sql::inspect).

use std::collections::BTreeSet;

use mysql::from_row;

use super::inbox::probe;
use super::once::Once;
use crate::config::Config;
use crate::edge::reach::Way;
use crate::edge::sql::asked::Refusal;
use crate::edge::sql::inspect::{self, Checks, Column, INBOX, Indexed, Server, Settings, Table, Writes};
use crate::model::finding::{Check, Findings};

/// Looks at it.
pub fn look(config: &Config, found: &mut Findings<'_>) {
    let mysql = &config.mysql;
    let settings = Settings {
        section: config.database.section(),
        at: &mysql.at,
        connect_timeout: mysql.connect_timeout,
        username: &mysql.username,
        database: &mysql.database,
        is_tls: mysql.tls.is_written(),
    };
    inspect::look(&settings, || Once::open(mysql), config, found);
}

const DESCRIBE: &str = "SELECT column_name, character_maximum_length, \
     is_nullable = 'NO' AND column_default IS NULL AND extra NOT LIKE '%auto_increment%' AND extra NOT LIKE '%GENERATED%' \
     FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? ORDER BY ordinal_position";
const SETS: &str = "SELECT LOWER(column_name), character_set_name FROM information_schema.columns \
     WHERE table_schema = DATABASE() AND table_name = ? AND character_set_name <> 'utf8mb4' ORDER BY ordinal_position";
const INDEXES: &str = "SELECT index_name, non_unique, LOWER(column_name) FROM information_schema.statistics \
     WHERE table_schema = DATABASE() AND table_name = ? ORDER BY index_name, seq_in_index";
const CONNECTIONS: &str = "SELECT @@global.max_connections, @@max_user_connections";
const NOW: &str = "SELECT CAST(UNIX_TIMESTAMP(NOW(6)) * 1000000 AS UNSIGNED)";

impl Server for Once {
    const CHECKS: Checks = Checks {
        way: Way { name: Check::MysqlName, tcp: Check::MysqlTcp, key: "mysql.host and mysql.port" },
        tls: Check::MysqlTls,
        login: Check::MysqlLogin,
        database: Check::MysqlDatabase,
        tables: Check::MysqlTables,
        columns: Check::MysqlColumns,
        unique_key: Check::MysqlUniqueKey,
        names: Check::MysqlCollation,
        grants: Check::MysqlGrants,
        read_only: Check::MysqlReadOnly,
        connections: Check::MysqlConnections,
        clock: Check::MysqlClock,
    };
    const INBOX: Table = Table {
        columns: &["id", "owner_username", "session_id", "msg_id", "seq_id", "is_read", "created_at"],
        ..INBOX
    };
    const TAKES_WRITES: &'static str =
        "let mysql.host be the server that takes writes, or SET GLOBAL read_only = 0: rows of the inbox are not stored";
    const MORE_CONNECTIONS: &'static str = "raise max_connections, or the user's MAX_USER_CONNECTIONS";

    fn read(&mut self, table: &str) -> Result<(), Refusal> {
        self.rows(&format!("SELECT 1 FROM {table} LIMIT 0"), ()).map(drop)
    }

    fn columns(&mut self, table: &str) -> Result<Vec<Column>, Refusal> {
        let column = |(name, chars, needs_value)| Column { name, chars, needs_value };
        Ok(self.rows(DESCRIBE, (table,))?.into_iter().map(from_row).map(column).collect())
    }

    fn names_cut(&mut self, table: &Table, names: &[&'static str]) -> Result<BTreeSet<String>, Refusal> {
        let sets = self.rows(SETS, (table.name,))?.into_iter().map(from_row::<(String, String)>);
        let of_names = sets.filter(|(column, _)| names.contains(&&**column));
        Ok(of_names.map(|(column, set)| format!("{}.{column} is {set}", table.name)).collect())
    }

    fn of_names(&self) -> [&'static str; 2] {
        ["names are utf8mb4", "ALTER TABLE ... CONVERT TO CHARACTER SET utf8mb4"]
    }

    fn indexes(&mut self, table: &str) -> Result<Vec<Indexed>, Refusal> {
        let of = |(index, non_unique, column): (String, u64, Option<String>)| Indexed {
            index,
            is_unique: non_unique == 0,
            column,
        };
        Ok(self.rows(INDEXES, (table,))?.into_iter().map(from_row).map(of).collect())
    }

    fn probe(&mut self) -> Result<(), Refusal> {
        self.run(probe)
    }

    fn writes(&mut self) -> Result<Writes, Refusal> {
        let says = self.rows("SELECT @@global.read_only", ())?;
        Ok(match says.into_iter().next().map(from_row::<u64>) {
            Some(1..) => Writes::ReadOnly("the server says that it is read-only (@@read_only)"),
            _ => Writes::Taken,
        })
    }

    fn connections(&mut self) -> Result<u64, Refusal> {
        let says = self.rows(CONNECTIONS, ())?;
        let (of_all, of_user): (u64, u64) = says.into_iter().next().map_or((0, 0), from_row);
        Ok(if of_user == 0 { of_all } else { of_all.min(of_user) })
    }

    fn micros(&mut self) -> Result<u64, Refusal> {
        Ok(self.rows(NOW, ())?.into_iter().next().map_or(0, from_row))
    }
}

//! When the answer to an INSERT proves that its rows are new and are what was asked for, so that they need not be read back.
//!
//! The number of affected rows alone proves nothing: a row that is there counts as 0, as 2 when a trigger changes it, as 1 when a
//! proxy logged in with CLIENT_FOUND_ROWS. Of several rows the server counts the duplicates apart. Of one row it says nothing
//! more, so each connection is asked once how it counts ([`Trust`]).
//!
//! New rows are doubted when the server warns, and when a name ends in something that a column may cut without an error (blanks, of
//! whatever kind) or that it may take for its padding (zero bytes). And a few of the first rows of each connection are read back
//! in any case: a table that renames all owners (a trigger, a column of fixed bytes) is found, one that renames some is not.

use mysql::Conn;
use mysql::prelude::Queryable;

use super::values::values;
use crate::edge::sql::fault::Fault;
use crate::edge::sql::inbox::row::{Row, may_be_cut};

/// New rows that are read back on each connection.
const SAMPLE: usize = 4;
/// Changes nothing, and counts as 1 only where rows are counted that were found.
const COUNT_FOUND: &str = "UPDATE t_inbox SET is_read = is_read WHERE owner_username = ? AND session_id = ? AND msg_id = ? \
                           AND seq_id = ?";
/// Warnings that are not about rows: of the binary log, of syntax that is to go.
const OF_NO_ROW: [u32; 3] = [1592, 1287, 1681];

/// What the server answered to an INSERT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Told {
    /// Rows, as the server counts them.
    pub affected: u64,
    /// How many there are.
    pub warnings: u16,
    /// Of an INSERT of several rows: how many it took, and how many of them were there already.
    pub duplicates: Option<(u64, u64)>,
}

impl Told {
    /// Whether all of so many rows are new. `is_exact`: a single row that is there never counts as 1.
    pub(super) fn proves_new(&self, rows: usize, is_exact: bool) -> bool {
        let rows = rows as u64;
        self.affected == rows && if rows == 1 { is_exact } else { self.duplicates == Some((rows, 0)) }
    }
}

/// The first two numbers of `Records: 3  Duplicates: 0  Warnings: 0`, in whatever language.
pub(super) fn duplicates(info: &str) -> Option<(u64, u64)> {
    let mut numbers = info.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty()).map(str::parse);
    match (numbers.next(), numbers.next(), numbers.next(), numbers.next()) {
        (Some(Ok(records)), Some(Ok(duplicates)), Some(Ok(_)), None) => Some((records, duplicates)),
        _ => None,
    }
}

/// Whether none of the latest statement's warnings is about a row: some servers warn at each INSERT.
pub(super) fn says_nothing_of_rows(conn: &mut Conn, warnings: u16) -> Result<bool, Fault> {
    if warnings == 0 {
        return Ok(true);
    }
    let shown: Vec<(String, u32, String)> = conn.query("SHOW WARNINGS")?;
    Ok(are_of_no_row(shown.iter().map(|(_, code, _)| *code), warnings))
}

fn are_of_no_row(mut shown: impl ExactSizeIterator<Item = u32>, warnings: u16) -> bool {
    shown.len() == usize::from(warnings) && shown.all(|code| OF_NO_ROW.contains(&code))
}

/// What is known of one connection: how it counts, and whether its table gives names back.
#[derive(Debug, Default)]
pub(super) struct Trust {
    connection: u64,
    /// A sample was there.
    is_known: bool,
    counts_found: bool,
    /// A new row was not there, though its name has nothing that a column may cut.
    renames: bool,
}

impl Trust {
    /// What is asked next is asked over this connection.
    pub(super) fn over(&mut self, connection: u64) {
        if self.connection != connection {
            *self = Self { connection, ..Self::default() };
        }
    }

    /// Whether a single row that counts as 1 is a new one.
    pub(super) fn is_exact(&self) -> bool {
        self.is_known && !self.counts_found
    }

    /// Which of some new rows are read back: because of themselves, or as a sample.
    pub(super) fn doubt<'a>(&self, new: &[Row<'a>], doubted: &mut Vec<Row<'a>>, sample: &mut Vec<Row<'a>>) {
        let mut plain = if self.renames { usize::MAX } else { SAMPLE.saturating_sub(sample.len()) };
        if self.is_known && !self.renames {
            plain = 0;
        }
        for row in new {
            if may_be_cut(row.user) || may_be_cut(&row.of.session) {
                doubted.push(*row);
            } else if plain > 0 {
                plain -= 1;
                sample.push(*row);
            }
        }
    }

    /// Draws the conclusions from what was read back; a row that is there shows how rows are counted.
    pub(super) fn learn(
        &mut self,
        conn: &mut Conn,
        rows: &[Row<'_>],
        not_there: &[Row<'_>],
        changed: &[Row<'_>],
    ) -> Result<(), Fault> {
        self.renames |= !changed.is_empty();
        if self.is_known || !not_there.is_empty() || !changed.is_empty() {
            return Ok(());
        }
        let Some(first) = rows.first() else { return Ok(()) };
        // Whoever may not do it is not known to count otherwise.
        self.counts_found = match conn.exec_iter(COUNT_FOUND, values(first).to_vec()).map(|done| done.affected_rows()) {
            Ok(affected) => affected > 0,
            Err(error) => match Fault::from(error) {
                fault @ Fault::Server(_) if !fault.is_lock_conflict() => true,
                fault => return Err(fault),
            },
        };
        self.is_known = true;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::InboxRows;

    #[test]
    fn several_rows_are_new_when_as_many_were_affected_and_none_is_a_duplicate() {
        let told = |affected, info: &str| Told { affected, warnings: 0, duplicates: duplicates(info) };
        for (affected, info, is_new) in [
            (3, "Records: 3  Duplicates: 0  Warnings: 0", true),
            (3, "Datens\u{e4}tze: 3  Duplikate: 0  Warnungen: 0", true),
            // One new, one changed, one not.
            (3, "Records: 3  Duplicates: 1  Warnings: 0", false),
            // Two new, one found.
            (3, "Records: 3  Duplicates: 1  Warnings: 1", false),
            (2, "Records: 3  Duplicates: 0  Warnings: 0", false),
            (3, "Records: 2  Duplicates: 0  Warnings: 0", false),
            (3, "", false),
            (3, "Records: 3  Duplicates: 0", false),
            (3, "Records: 99999999999999999999999  Duplicates: 0  Warnings: 0", false),
        ] {
            assert_eq!(told(affected, info).proves_new(3, true), is_new, "{affected} {info:?}");
        }
        for (affected, is_exact, is_new) in [(1, true, true), (1, false, false), (0, true, false), (2, true, false)] {
            assert_eq!(told(affected, "").proves_new(1, is_exact), is_new, "{affected} {is_exact}");
        }
    }

    #[test]
    fn warnings_that_are_not_all_known_may_be_about_rows() {
        assert!(are_of_no_row([1592, 1592].into_iter(), 2));
        assert!(!are_of_no_row([1592, 1265].into_iter(), 2));
        assert!(!are_of_no_row([1592].into_iter(), 2), "one is not shown");
    }

    #[test]
    fn a_sample_of_each_connection_and_all_that_may_be_cut_is_read_back() {
        let users = ["a", "b ", "c", "d\t", "e", "f\u{a0}", "g", "h\0", "i", "j\u{3000}", "k"].into_iter().collect();
        let of = InboxRows { session: "s".into(), msg_id: 1, seq_id: 1, users };
        let rows: Vec<Row<'_>> = of.users.iter().map(|user| Row { ask: 0, of: &of, user }).collect();
        let mut trust = Trust::default();
        let counts = |trust: &Trust| {
            let (mut doubted, mut sample) = (Vec::new(), Vec::new());
            trust.doubt(&rows, &mut doubted, &mut sample);
            trust.doubt(&rows, &mut doubted, &mut sample);
            (doubted.len(), sample.len())
        };
        trust.over(1);
        assert_eq!(counts(&trust), (10, SAMPLE));
        assert!(!trust.is_exact());
        trust.is_known = true;
        assert_eq!(counts(&trust), (10, 0));
        assert!(trust.is_exact());
        trust.renames = true;
        assert_eq!(counts(&trust), (10, 12));
        trust.over(2);
        assert_eq!((counts(&trust), trust.is_exact()), ((10, SAMPLE), false), "another connection");
    }
}

//! Secrets that stand in files of their own: `mysql.password_file` says where the value of `mysql.password` is.
//!
//! Promises that a file which cannot be read, or is empty, is a mistake that names key and file, and that of two keys for one
//! secret the later source's holds, as everywhere. Refuses both in one source. A line end at the file's end is no part of the secret.

use std::path::Path;

use super::Place;
use super::keys::{self, KEYS};
use super::kinds::Kind;
use super::read::{self, Reading};
use super::value::Value;

/// More than any secret has.
const SECRET_BYTES_MAX: usize = 64 * 1024;
/// What the name of such a key ends in.
const ENDING: &str = "_file";

/// The place in the table of the key whose value stands in the file that this key names.
pub(super) fn secret_of(found: usize) -> Option<usize> {
    let key = &KEYS[found];
    matches!(key.kind, Kind::SecretFile).then(|| keys::find(key.section, key.name.strip_suffix(ENDING)?)).flatten()
}

impl Reading {
    /// Reads the files that keys name, and gives what stands in them to the keys that it is for.
    pub(super) fn take_secret_files(&mut self) {
        for found in 0..KEYS.len() {
            if let Some(secret) = secret_of(found)
                && let Some((path, place)) = self.path_of(found, secret)
            {
                self.take_secret(found, secret, &path, place);
            }
        }
    }

    /// The file that holds, and where it is named; nothing when the secret itself holds.
    fn path_of(&mut self, found: usize, secret: usize) -> Option<(String, Place)> {
        let at = self.values.iter().position(|(index, ..)| *index == found)?;
        let (_, Value::Text(path), place) = self.values[at].clone() else { return None };
        let Some((.., other)) = self.values.iter().find(|(index, ..)| *index == secret) else {
            return Some((path, place));
        };
        let (rank, rank_of_other) = (rank(&place), rank(other));
        let key = KEYS[secret].full();
        if rank == rank_of_other {
            self.mistake(place, &KEYS[found].full(), format!("contradicts {key}: write one of them"));
            return None;
        }
        if rank < rank_of_other {
            self.values.remove(at);
            self.note(place, &KEYS[found].full(), format!("is ignored: {key} is set"));
            return None;
        }
        self.values.retain(|(index, ..)| *index != secret);
        Some((path, place))
    }

    fn take_secret(&mut self, found: usize, secret: usize, path: &str, place: Place) {
        let read = read::file(Path::new(path), SECRET_BYTES_MAX).and_then(|text| {
            let text = text.strip_suffix('\n').map_or(&*text, |line| line.strip_suffix('\r').unwrap_or(line));
            if text.is_empty() { Err("is empty".to_owned()) } else { KEYS[secret].kind.read(text) }
        });
        match read {
            Ok(Some(value)) => self.values.push((secret, value, place)),
            Ok(None) => {}
            Err(what) => self.mistake(place, &KEYS[found].full(), format!("{path}: {what}")),
        }
    }
}

/// Of two sources the one with the higher rank wins.
fn rank(place: &Place) -> u8 {
    match place {
        Place::Default => 0,
        Place::File(..) => 1,
        Place::Variable(_) => 2,
        Place::Flag(_) => 3,
    }
}

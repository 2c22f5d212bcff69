//! Promise: with core NATS and no JetStream, dead letters are in a local file, each line on the disk before it is
//! answered for, and one that has no room costs no other; a line torn by a crash costs that line only; the same commands work on it; the file has a bound,
//! and one that cannot be written is said at the start and holds nothing for longer than a few seconds.

use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use crate::dlq_support::{NatsVersion, TOPIC, World, event, eventually, letter, origin};
use task_engine::config::{Config, DeadLettersConfig};
use task_engine::edge::dead_letters::file::{FileError, LetterFile};
use task_engine::edge::dead_letters::letter::StoredLetter;
use task_engine::engine::adapters::dead_letter_store_of;
use task_engine::model::limits::{LETTER_FILE_BYTES_MAX, LETTER_FILE_PATIENCE};
use task_engine::ports::{LookupError, Origin};

#[test]
fn dead_letters_fall_back_to_a_file() {
    let world = World::start(NatsVersion::Installed, false, "core");
    let mut writer = world.writer();
    writer.ping().expect("the file will do");
    assert_eq!(world.dlq(&["list"]).code, 0, "no file, no letters");
    let letters = [
        (letter("undecodable", b"\xff\n".to_vec(), None), Origin::default()),
        (letter("lookup_failed", event(1), None), origin(4)),
    ];
    for _ in 0..2 {
        assert_eq!(writer.write(&letters), [Ok(()), Ok(())]);
    }
    assert_eq!(std::fs::metadata(world.file()).expect("a file").permissions().mode() & 0o777, 0o600);

    // A crash tore the last line; the next letter begins its own.
    let mut file = std::fs::OpenOptions::new().append(true).open(world.file()).expect("a file");
    file.write_all(br#"{"key":"torn","rea"#).expect("half a letter");
    drop(file);
    assert_eq!(writer.write(&[(letter("inbox_conflict", event(2), Some("bob")), Origin::default())]), [Ok(())]);

    let ids = world.ids(&[]);
    assert_eq!(ids.len(), 3, "each letter once: {ids:?}");
    let list = world.dlq(&["list"]);
    assert!(list.err.contains("1 line(s) are not letters"), "{list:?}");
    let shown = &world.dlq_json(&["show", &ids[1]])[0];
    assert_eq!((&shown["sequence"], &shown["event"]["content"]), (&4.into(), &"message 1".into()));

    replay_needs_a_listener_and_is_done_once(&world, &ids);
    assert_eq!(world.dlq(&["drop", &ids[0]]).out, "1 letter dropped\n");
    assert_eq!(world.ids(&[]), [ids[2].clone()]);
    assert_eq!(world.dlq(&["drop", "--yes"]).code, 0);
    assert!(world.ids(&[]).is_empty());
    let missing = world.dlq(&["list", "--file", "/nonexistent/letters"]);
    assert!(missing.code == 1 && missing.err.contains("no such file"), "{missing:?}");
    // The writer finds the file that the command put in the place of its own.
    assert_eq!(writer.write(&letters), [Ok(()), Ok(())]);
    assert_eq!(world.ids(&[]).len(), 2);
}

fn replay_needs_a_listener_and_is_done_once(world: &World, ids: &[String]) {
    let nobody = world.dlq(&["replay", &ids[1]]);
    assert!(nobody.code == 1 && nobody.err.contains("no subscriber on"), "{nobody:?}");
    assert_eq!(world.ids(&[]).len(), 3, "it stays");
    let client = world.client();
    let subscription = client.subscribe(TOPIC).expect("a subscription");
    client.flush().expect("the server knows it");
    for _ in 0..2 {
        world.dlq(&["replay", "--reason", "lookup_failed"]);
    }
    let message = subscription.next_timeout(crate::dlq_support::PATIENCE).expect("the event");
    assert_eq!(message.data, event(1));
    client.flush().expect("all is here");
    assert!(subscription.try_next().is_none(), "once");
    assert_eq!(world.ids(&[]), [ids[0].clone(), ids[2].clone()]);
}

/// Who writes to the stream or the file of letters says where they came from: what would be another line of NATS is not sent.
#[test]
fn a_letter_that_cannot_be_published_costs_no_other() {
    let world = World::start(NatsVersion::Installed, false, "core");
    let mut writer = world.writer();
    let hostile = |subject: &str| Origin { subject: subject.to_owned(), ..Origin::default() };
    let letters = [
        (letter("lookup_failed", event(1), None), hostile("x\r\nPUB forged 6\r\nforged")),
        (letter("lookup_failed", event(2), None), hostile("two words")),
        (letter("lookup_failed", event(3), None), origin(4)),
    ];
    assert_eq!(writer.write(&letters), [Ok(()), Ok(()), Ok(())]);
    let client = world.client();
    let [forged, engine] = ["*", TOPIC].map(|subject| client.subscribe(subject).expect("a subscription"));
    client.flush().expect("the server knows it");
    let ids = world.ids(&[]);
    let replayed = world.dlq(&["replay"]);
    let said = [&replayed.out[..], &replayed.err].concat();
    assert!(replayed.code == 1 && said.contains("contains a blank or a line end"), "{replayed:?}");
    assert_eq!(world.ids(&[]), ids[..2], "they stay, and the third is replayed");
    client.flush().expect("all is here");
    assert_eq!((forged.try_iter().count(), engine.try_iter().count()), (0, 1));
}

#[test]
fn a_file_that_cannot_be_written_refuses_after_a_while_and_heals() {
    let world = World::start(NatsVersion::default(), false, "core");
    let folder = world.file().with_file_name("gone");
    let config = world.config();
    let path = folder.join("letters.jsonl");
    let dead_letters = DeadLettersConfig { path: path.clone() };
    let mut writer = dead_letter_store_of(&Config { dead_letters, ..config }).open();
    assert!(matches!(writer.ping(), Err(LookupError::Rejected(why)) if why.contains("dead_letters.path")));
    let letters = [(letter("undecodable", b"\xff".to_vec(), None), Origin::default())];
    let began = Instant::now();
    assert!(matches!(&writer.write(&letters)[..], [Err(LookupError::Unavailable(_))]), "it may heal");
    eventually("it refuses", || match &writer.write(&letters)[..] {
        [Err(LookupError::Rejected(why))] => why.contains("dead_letters.path"),
        _ => false,
    });
    assert!(began.elapsed() >= LETTER_FILE_PATIENCE);
    std::fs::create_dir(&folder).expect("a folder");
    assert_eq!(writer.ping(), Ok(()));
    assert!(path.exists(), "made when it is the one that will be used");
    assert_eq!(writer.write(&letters), [Ok(())]);
}

#[test]
fn a_full_file_refuses_whole_letters() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = LetterFile::new(&folder.path().join("letters.jsonl"), 4096);
    let kept = |number: u8| StoredLetter::of(&letter("undecodable", vec![number; 600], None), &Origin::default(), 1);
    let mut taken = 0;
    let error = loop {
        match file.append(&[kept(taken), kept(taken + 1)]) {
            Ok(()) => taken += 2,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, FileError::Full(why) if why.contains("task-engine dlq list")), "{error}");
    let mut read = Vec::new();
    let notes = file.read(|letter| read.push(letter)).expect("it is read");
    assert_eq!((read.len(), notes.broken_lines), (usize::from(taken), 0));
    assert!(taken >= 2 && std::fs::metadata(file.path()).expect("a file").len() <= 4096);
    let keys = read.iter().map(|letter| letter.key.clone()).collect();
    assert_eq!(file.remove(&keys), Ok(u64::from(taken)));
    assert_eq!(file.append(&[kept(1)]), Ok(()), "there is room again");
    let unwritable = LetterFile::new(&folder.path().join("no/such/folder/letters"), 4096);
    assert!(matches!(unwritable.append(&[kept(1)]), Err(FileError::Failed(why)) if why.contains("dead_letters.path")));
}

#[test]
fn a_letter_that_the_file_has_no_room_for_costs_no_other() {
    let world = World::start(NatsVersion::default(), false, "core");
    // All but full: zeroes are a line that is no letter.
    let full = std::fs::File::create(world.file()).expect("a file");
    full.set_len(LETTER_FILE_BYTES_MAX - 20_000).expect("a file with a hole");
    let of = |payload: Vec<u8>| (letter("undecodable", payload, None), Origin::default());
    let letters =
        [of(b"\xffone".to_vec()), of(vec![0xff; 100_000]), of(b"\xfftwo".to_vec()), of(b"\xffthree".to_vec())];
    let answers = world.writer().write(&letters);
    assert!(
        matches!(&answers[1], Err(LookupError::Rejected(why)) if why.contains("would be over 256 MiB")),
        "{answers:?}"
    );
    assert_eq!([&answers[0], &answers[2], &answers[3]], [&Ok(()); 3]);
    let mut tail = std::fs::File::open(world.file()).expect("a file");
    tail.seek(SeekFrom::Start(LETTER_FILE_BYTES_MAX - 20_000)).expect("its end");
    let mut lines = String::new();
    tail.read_to_string(&mut lines).expect("what was added");
    let kept: Vec<StoredLetter> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(kept.iter().map(|kept| &kept.payload[1..]).collect::<Vec<_>>(), [&b"one"[..], b"two", b"three"]);
}

#[test]
fn a_replay_that_has_failed_already_leaves_its_new_letter() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = LetterFile::new(&folder.path().join("letters.jsonl"), 1 << 20);
    let kept = |at| StoredLetter::of(&letter("undecodable", vec![0xff], None), &Origin::default(), at);
    // With core NATS nothing tells the replay from what was replayed: the same key, a later time.
    file.append(&[kept(1), kept(2)]).expect("written");
    let replayed = std::collections::HashMap::from([(kept(2).key, 2)]);
    file.append(&[kept(3)]).expect("written");
    assert_eq!(file.remove_up_to(&replayed), Ok(2));
    let mut left = Vec::new();
    file.read(|letter| left.push(letter)).expect("it is read");
    assert_eq!(left, [kept(3)]);
}

#[test]
fn a_crash_at_any_byte_costs_only_the_letter_that_was_being_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = LetterFile::new(&folder.path().join("letters.jsonl"), 1 << 20);
    let kept =
        |number: u8| StoredLetter::of(&letter("undecodable", vec![number; 3], Some("\u{e9}")), &Origin::default(), 1);
    file.append(&[kept(0)]).expect("written");
    let first = std::fs::metadata(file.path()).expect("a file").len() as usize;
    file.append(&[kept(1)]).expect("written");
    let whole = std::fs::read(file.path()).expect("a file");
    for cut in 0..whole.len() {
        std::fs::write(file.path(), &whole[..cut]).expect("torn");
        file.append(&[kept(2)]).expect("written");
        let (mut read, expected) = (Vec::new(), [kept(0), kept(1), kept(2)]);
        let notes = file.read(|letter| read.push(letter)).expect("it is read");
        // All but its line end is a whole letter.
        let is_there = [cut + 1 >= first, cut + 1 >= whole.len(), true];
        let expected: Vec<_> = expected.iter().zip(is_there).filter(|(_, is)| *is).map(|(letter, _)| letter).collect();
        assert_eq!(read.iter().collect::<Vec<_>>(), expected, "cut at {cut}");
        let is_torn = !matches!(cut, 0) && cut != first && cut + 1 != first && cut + 1 != whole.len();
        assert_eq!(notes.broken_lines, u64::from(is_torn), "cut at {cut}");
        let keys = std::iter::once(kept(2).key).collect();
        assert_eq!(file.remove(&keys), Ok(1), "cut at {cut}");
    }
}

//! Letters that are written to the file together, each with its own answer.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use bytes::Bytes;
use rustix::process::{Resource, Rlimit, setrlimit};

use super::*;

/// Tells the test that it is the process whose files may not grow.
const CHILD: &str = "TEST_OF_FILES_THAT_MAY_NOT_GROW";
const SELF: &str = "edge::dead_letters::append_tests::a_letter_that_the_disk_has_no_room_for_costs_no_other";

fn kept(name: u8, bytes: usize) -> StoredLetter {
    let payload = Bytes::from(vec![name; bytes]);
    let letter = DeadLetter { reason: "undecodable", detail: String::new(), payload, recipient: None, tries: 1 };
    StoredLetter::of(&letter, &Origin::default(), 1)
}

fn writer(folder: &std::path::Path, bytes_max: u64, needs_stream: bool) -> Writer {
    let path = folder.join("letters.jsonl");
    let mut config = crate::config::Config::default();
    config.dead_letters.path = path.clone();
    config.consumer.mode = if needs_stream { ConsumerMode::JetStream } else { ConsumerMode::Core };
    Writer {
        stream: LetterStream::of("EVENTS"),
        file: LetterFile::new(&path, bytes_max),
        wire: None,
        file_failed_since: None,
        failed_since: HashMap::new(),
        unconfirmed: HashSet::new(),
        nats: config.nats.clone().into(),
        settings: DeadLetterSettings::from(&config),
    }
}

fn names(writer: &Writer) -> Vec<u8> {
    let mut names = Vec::new();
    let notes = writer.file.read(|letter| names.push(letter.payload[0])).expect("it is read");
    assert_eq!(notes.broken_lines, 0);
    names
}

#[test]
fn a_letter_that_the_file_has_no_room_for_costs_no_other() {
    for (large, count) in [(0, 1), (0, 7), (3, 7), (6, 7), (100, 256)] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut writer = writer(folder.path(), 200_000, false);
        let size = |at| if at == large { 200_000 } else { 100 };
        let letters = (0..count).map(|at| kept(at as u8, size(at))).collect::<Vec<_>>();
        let answers = writer.append(&letters);
        assert_eq!(answers.len(), letters.len());
        for (at, answer) in answers.iter().enumerate() {
            match answer {
                Err(LookupError::Rejected(why)) if at == large => {
                    assert!(why.contains("task-engine dlq list"), "{why}")
                }
                answer => assert_eq!((answer, at == large), (&Ok(()), false), "{at} of {count}"),
            }
        }
        let others = (0..count).filter(|at| *at != large).map(|at| at as u8).collect::<Vec<_>>();
        assert_eq!(if count > 1 { names(&writer) } else { Vec::new() }, others, "in their order");
    }
}

#[test]
fn with_a_stream_only_what_does_not_fit_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = writer(folder.path(), 5_000, true);
    let answers = writer.append(&[kept(0, 100), kept(1, 5_000), kept(2, 100)]);
    assert!(matches!(&answers[..], [Ok(()), Err(LookupError::Unavailable(_)), Ok(())]), "{answers:?}");
    assert_eq!((names(&writer), writer.failed_since.len()), (vec![0, 2], 0));
    assert!(writer.append(&[]).is_empty());
}

/// A file that may not grow is what a full disk is: a write that is broken off with an error. As that holds for all of a
/// process, the test runs itself as another one.
#[test]
fn a_letter_that_the_disk_has_no_room_for_costs_no_other() {
    if std::env::var_os(CHILD).is_some() {
        return on_a_small_disk();
    }
    let myself = std::env::current_exe().expect("this binary");
    // An ignored signal stays ignored after exec, so the child's write gets an error and not SIGXFSZ.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(myself)
        .args(["--exact", SELF, "--nocapture"])
        .env(CHILD, "1")
        .output()
        .expect("it starts");
    let said = String::from_utf8_lossy(&child.stdout).into_owned() + &String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && said.contains("1 passed"), "{:?}: {said}", child.status.signal());
}

fn on_a_small_disk() {
    let limit = Rlimit { current: Some(64 << 10), maximum: Some(64 << 10) };
    setrlimit(Resource::Fsize, limit).expect("a process may lower its own limit");
    let folder = tempfile::tempdir().expect("a folder");
    let mut writer = writer(folder.path(), 1 << 20, false);
    let began = Instant::now();
    let mut rounds = 0;
    loop {
        let answers = writer.append(&[kept(1, 50), kept(2, 100_000), kept(3, 50)]);
        rounds += 1;
        assert_eq!((&answers[0], &answers[2]), (&Ok(()), &Ok(())), "the small ones are kept");
        match &answers[1] {
            Err(LookupError::Unavailable(why) | LookupError::NotReached(why)) => {
                assert!(why.contains("check dead_letters.path and the disk"), "{why}")
            }
            Err(LookupError::Rejected(_)) => break,
            Ok(()) => panic!("there is no room"),
        }
        assert!(began.elapsed() < LETTER_FILE_PATIENCE * 4, "it waits although others are kept");
        std::thread::park_timeout(LETTER_FILE_PATIENCE / 10);
    }
    assert!(began.elapsed() >= LETTER_FILE_PATIENCE, "a disk may have room again");
    assert_eq!((names(&writer).len(), writer.failed_since.len()), (2 * rounds, 0));
}

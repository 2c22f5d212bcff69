//! Feeds a parser of foreign bytes with damaged copies of real ones, a fixed number of times, on the stable compiler.
//!
//! Each parser has a test `fuzzed_<name>` beside it, which asserts a promise of what was read, and a folder of real bytes,
//! fuzz/corpus/<name>. proptest makes the damage and shrinks what fails. The inputs are the same on each run; `FUZZ_SEED`
//! makes others, `FUZZ_TIMES` more of them. `FUZZ_INPUT` names one file, which is then the only input.
//!
//! Why not libFuzzer or AFL: they want a nightly compiler or instrumentation of all crates, and bolero without one of them
//! makes random bytes only and never changes the corpus.

use std::env;
use std::fmt::Debug;
use std::fs;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// Changes of one input.
const EDITS_MAX: usize = 6;
/// An input grows no longer than this.
const INPUT_BYTES_MAX: usize = 128 * 1024;

/// One change.
#[derive(Clone, Debug)]
enum Edit {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, Vec<u8>),
    Remove(Index, usize),
    CutOff(Index),
    /// A piece of this input or of another one of the corpus is put here.
    Splice(Index, Index, Index, usize),
}

/// Tries the corpus as it is, then `executions` damaged inputs. `check` panics when a promise does not hold.
///
/// # Panics
/// With the command that replays it, when `check` does.
pub fn run(name: &str, executions: u32, check: impl Fn(&[u8])) {
    if let Some(file) = env::var_os("FUZZ_INPUT") {
        return check(&fs::read(file).expect("the file of FUZZ_INPUT"));
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus = corpus(&root.join("fuzz/corpus").join(name));
    let seed = number("FUZZ_SEED", 1);
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: executions.saturating_mul(number("FUZZ_TIMES", 1) as u32),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    for input in &corpus {
        check(input);
    }
    let inputs = (any::<Index>(), prop::collection::vec(edits(), 0..=EDITS_MAX));
    let result = runner.run(&inputs, |(of, edits)| {
        check(&damaged(&corpus, of, &edits));
        Ok::<_, TestCaseError>(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, (of, edits))) => replayable(name, &damaged(&corpus, of, &edits), &why),
        Err(TestError::Abort(why)) => panic!("{name}: given up: {why}"),
    }
}

fn replayable(name: &str, input: &[u8], why: &dyn Debug) -> ! {
    let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(input);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/fuzz");
    let file = folder.join(format!("{name}-{hash:016x}"));
    fs::create_dir_all(&folder).and_then(|()| fs::write(&file, input)).expect("the input that fails is kept");
    panic!(
        "{name}: {why:?}\nreplay it with:\n  FUZZ_INPUT={} cargo test --locked -p task-engine --lib fuzzed_{name}\n\
         when it is mended, put that file into fuzz/corpus/{name}",
        file.display()
    );
}

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().expect("a number"))
}

/// The files of a folder in the order of their names, so that a seed means the same everywhere.
fn corpus(folder: &Path) -> Vec<Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap_or_else(|why| panic!("{}: {why}", folder.display()));
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    let corpus: Vec<_> = files.iter().map(|file| fs::read(file).expect("a file")).collect();
    assert!(!corpus.is_empty(), "{} is empty", folder.display());
    corpus
}

fn edits() -> impl Strategy<Value = Edit> {
    // The ends of ranges, of varints, of lines and of texts.
    let byte = prop_oneof![prop::sample::select(b"\0\x01\x7f\x80\xff\r\n\"{}[],:.-019$*\\ \t".to_vec()), any::<u8>()];
    let at = any::<Index>;
    prop_oneof![
        3 => (at(), 0..8_u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        4 => (at(), byte.clone()).prop_map(|(at, byte)| Edit::Set(at, byte)),
        3 => (at(), prop::collection::vec(byte, 1..12)).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        2 => (at(), 1..64_usize).prop_map(|(at, length)| Edit::Remove(at, length)),
        1 => at().prop_map(Edit::CutOff),
        3 => (at(), at(), at(), 1..512_usize).prop_map(|(to, of, from, length)| Edit::Splice(to, of, from, length)),
    ]
}

fn damaged(corpus: &[Vec<u8>], of: Index, edits: &[Edit]) -> Vec<u8> {
    let mut input = of.get(corpus).clone();
    for edit in edits {
        let place = |at: &Index, bytes: &[u8]| at.index(bytes.len() + 1);
        match edit {
            Edit::Flip(..) | Edit::Set(..) if input.is_empty() => {}
            Edit::Flip(at, bit) => *at.get_mut(&mut input) ^= 1 << bit,
            Edit::Set(at, byte) => *at.get_mut(&mut input) = *byte,
            Edit::Insert(at, bytes) => {
                let at = place(at, &input);
                input.splice(at..at, bytes.iter().copied());
            }
            Edit::Remove(at, length) => {
                let at = place(at, &input);
                input.drain(at..(at + length).min(input.len()));
            }
            Edit::CutOff(at) => input.truncate(place(at, &input)),
            Edit::Splice(to, of, from, length) => {
                let other = of.get(corpus);
                let from = place(from, other);
                let piece = other[from..(from + length).min(other.len())].to_vec();
                let to = place(to, &input);
                input.splice(to..to, piece);
            }
        }
        input.truncate(INPUT_BYTES_MAX);
    }
    input
}

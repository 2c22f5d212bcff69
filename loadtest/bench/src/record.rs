//! `loadtest record`: keeps a campaign, which is a folder of documents that runs left outside of the tree, as one line per trial
//! in `summary.jsonl` and one page.
//!
//! Promises that a campaign is kept whole or not at all, and that no line says another commit than its document. Refuses a
//! build whose source had changes: nobody could build it again.

mod line;
mod page;

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

pub use self::line::Line;
use harness::error::{Error, Result};

use crate::machine::DIRTY;

const SUMMARY: &str = "summary.jsonl";

/// What may be chosen.
#[derive(Clone, Debug, clap::Args)]
pub struct RecordArgs {
    /// The folder of a campaign's documents, whose name is the campaign's: `target/loadtest-runs/2026-11-28-0123456789ab`.
    pub from: PathBuf,
    /// Where summary.jsonl and the campaign's page stand.
    #[arg(long, default_value = "loadtest/runs")]
    pub into: PathBuf,
    /// Also keeps trials of a build whose source had changes; their lines say so.
    #[arg(long)]
    pub allow_dirty: bool,
}

/// Keeps it.
///
/// # Errors
/// When a document cannot be read, a build was dirty, the campaign is already kept, or nothing can be written.
pub fn run(args: &RecordArgs) -> Result<bool> {
    let campaign = args.from.file_name().and_then(|name| name.to_str());
    let campaign = campaign.ok_or_else(|| Error::new("the folder of a campaign needs a name"))?;
    let lines = read(&args.from, campaign)?;
    let dirty: Vec<_> =
        lines.iter().filter(|line| line.commit.ends_with(DIRTY)).map(|line| line.name.as_str()).collect();
    if !dirty.is_empty() && !args.allow_dirty {
        return Err(Error::new(format!(
            "the source had changes in {} trials (the first: {}): commit first, or give --allow-dirty",
            dirty.len(),
            dirty[0]
        )));
    }
    keep(&args.into, campaign, &lines)?;
    println!("kept {} trials of {campaign} in {}", lines.len(), args.into.display());
    Ok(true)
}

/// All trials of the folder's documents, by the names of these.
fn read(folder: &Path, campaign: &str) -> Result<Vec<Line>> {
    let failed = |cause| Error::of(&format!("cannot read {}", folder.display()), cause);
    let mut documents = Vec::new();
    for entry in fs::read_dir(folder).map_err(failed)? {
        documents.push(entry.map_err(failed)?.path());
    }
    documents.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    documents.sort();
    let mut lines = Vec::new();
    for path in &documents {
        let doing = format!("cannot read the document {}", path.display());
        let text = fs::read(path).map_err(|cause| Error::of(&doing, cause))?;
        let name = path.file_stem().unwrap_or_default().to_string_lossy();
        lines.extend(line::of_document(&text, campaign, &name).map_err(|cause| Error::of(&doing, cause))?);
    }
    if lines.is_empty() {
        return Err(Error::new(format!("{} holds no document of a run", folder.display())));
    }
    Ok(lines)
}

fn keep(into: &Path, campaign: &str, lines: &[Line]) -> Result<()> {
    let failed = |cause: std::io::Error| Error::of(&format!("cannot write into {}", into.display()), cause);
    fs::create_dir_all(into).map_err(failed)?;
    let page = into.join(format!("{campaign}.md"));
    if page.exists() {
        return Err(Error::new(format!("{campaign} is already kept in {}", page.display())));
    }
    let mut text = String::new();
    for line in lines {
        text += &serde_json::to_string(line).map_err(|cause| Error::of("cannot write a line as JSON", cause))?;
        text.push('\n');
    }
    let mut summary = OpenOptions::new().create(true).append(true).open(into.join(SUMMARY)).map_err(failed)?;
    summary.write_all(text.as_bytes()).map_err(failed)?;
    fs::write(&page, page::of(campaign, lines)).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(commit: &str) -> String {
        let result = serde_json::to_value(line::tests::result(commit)).expect("a document");
        serde_json::to_string(&result).expect("JSON")
    }

    fn args(folder: &Path, allow_dirty: bool) -> RecordArgs {
        RecordArgs { from: folder.join("day-1"), into: folder.join("runs"), allow_dirty }
    }

    #[test]
    fn a_campaign_of_a_dirty_build_is_refused_unless_told() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("day-1")).expect("a folder");
        fs::write(folder.path().join("day-1/a.json"), document("0123-dirty")).expect("a document");
        let refused = run(&args(folder.path(), false)).expect_err("dirty").to_string();
        assert!(refused.contains("--allow-dirty"), "{refused}");
        assert!(!folder.path().join("runs").exists(), "a refused campaign leaves nothing");
        run(&args(folder.path(), true)).expect("told");
        let summary = fs::read_to_string(folder.path().join("runs/summary.jsonl")).expect("the summary");
        assert!(summary.contains("0123-dirty"), "{summary}");
    }

    #[test]
    fn a_campaign_is_one_line_a_trial_and_one_page_and_is_kept_once() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::create_dir(folder.path().join("day-1")).expect("a folder");
        for name in ["a", "b"] {
            fs::write(folder.path().join(format!("day-1/{name}.json")), document("0123")).expect("a document");
        }
        run(&args(folder.path(), false)).expect("kept");
        let summary = fs::read_to_string(folder.path().join("runs/summary.jsonl")).expect("the summary");
        let lines: Vec<Line> = summary.lines().map(|line| serde_json::from_str(line).expect("a line")).collect();
        assert_eq!(lines.iter().map(|line| line.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let page = fs::read_to_string(folder.path().join("runs/day-1.md")).expect("the page");
        assert!(page.contains("| a | 1 |") && page.contains("| b | 1 |"), "{page}");
        assert!(run(&args(folder.path(), false)).is_err(), "twice");
    }

    #[test]
    fn what_the_repository_keeps_can_be_read_and_no_build_was_dirty() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../runs").join(SUMMARY);
        let summary = fs::read_to_string(&kept).expect("the summary");
        for line in summary.lines() {
            let line: Line = serde_json::from_str(line).expect("a line of this schema");
            assert!(!line.commit.ends_with(DIRTY), "{line:?}");
        }
    }
}

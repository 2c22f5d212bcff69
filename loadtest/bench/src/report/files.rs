//! The files of a run and of a comparison.
//!
//! Promises that the folder is made, that an old file of the same name is replaced, and standard formats: `.hgrm` is the
//! percentile distribution that HdrHistogram's plotter reads, `.hlog` its V2 interval log. Refuses a name that is a path.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::error::{Error, Result};
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::Serialize;

use super::compared::{self, Comparison};
use super::{Compared, html};
use crate::result::{Histograms, RunResult, SCHEMA};

const NANOS_A_MS: f64 = 1e6;
/// What HdrHistogram's own tools use.
const TICKS_A_HALF: u32 = 5;

/// Makes the folder and sees that a file can be made in it.
pub fn prepare(dir: &Path, stem: &str) -> Result<()> {
    let folder = Folder::make(dir, stem)?;
    let path = folder.write("part", &[])?;
    fs::remove_file(&path).map_err(|cause| Error::of(&format!("cannot remove {}", path.display()), cause))
}

/// Writes those of a run.
pub fn run(dir: &Path, stem: &str, result: &RunResult, histograms: &Histograms) -> Result<Vec<PathBuf>> {
    let folder = Folder::make(dir, stem)?;
    // The document comes first: should another fail, it is there.
    Ok(vec![
        folder.write("json", &json(result)?)?,
        folder.write("hgrm", hgrm(&histograms.all).as_bytes())?,
        folder.write("hlog", &hlog(result, histograms)?)?,
        folder.write("html", html::run(result, histograms)?.as_bytes())?,
    ])
}

/// Writes those of a comparison.
pub fn compared(dir: &Path, name: &str, compared: &[Compared]) -> Result<Vec<PathBuf>> {
    let folder = Folder::make(dir, name)?;
    let document = Comparison { schema: SCHEMA, rows: compared::rows(compared), engines: compared.to_vec() };
    Ok(vec![folder.write("json", &json(&document)?)?, folder.write("html", html::compared(&document)?.as_bytes())?])
}

struct Folder<'a> {
    dir: &'a Path,
    stem: &'a str,
}

impl<'a> Folder<'a> {
    fn make(dir: &'a Path, stem: &'a str) -> Result<Self> {
        let is_plain = !stem.is_empty() && !stem.starts_with('.') && !stem.contains(['/', '\\', '\0']);
        if !is_plain {
            return Err(Error::new(format!(
                "{stem:?} cannot name files: give a plain name, and the folder with --out"
            )));
        }
        let doing = format!("cannot make the folder {} (another can be given with --out)", dir.display());
        fs::create_dir_all(dir).map_err(|cause| Error::of(&doing, cause))?;
        Ok(Self { dir, stem })
    }

    fn write(&self, extension: &str, bytes: &[u8]) -> Result<PathBuf> {
        let path = self.dir.join(format!("{}.{extension}", self.stem));
        let doing = format!("cannot write {} (another folder can be given with --out)", path.display());
        fs::write(&path, bytes).map_err(|cause| Error::of(&doing, cause))?;
        Ok(path)
    }
}

fn json(document: &impl Serialize) -> Result<Vec<u8>> {
    let bytes = serde_json::to_vec_pretty(document);
    let mut bytes = bytes.map_err(|cause| Error::of("cannot write the run as JSON", cause))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// As `outputPercentileDistribution` of the Java class writes it; six digits are whole nanoseconds.
fn hgrm(all: &Histogram<u64>) -> String {
    let mut text = format!("{:>12} {:>14} {:>10} {:>14}\n\n", "Value", "Percentile", "TotalCount", "1/(1-Percentile)");
    let mut sum = 0;
    for value in all.iter_quantiles(TICKS_A_HALF) {
        sum += value.count_since_last_iteration();
        let (ms, quantile) = (value.value_iterated_to() as f64 / NANOS_A_MS, value.quantile_iterated_to());
        text += &format!("{ms:12.6} {quantile:14.12} {sum:10}");
        // The last line has none: it would be infinite.
        if quantile < 1.0 {
            text += &format!(" {:14.2}", 1.0 / (1.0 - quantile));
        }
        text.push('\n');
    }
    let (mean, deviation) = (all.mean() / NANOS_A_MS, all.stdev() / NANOS_A_MS);
    let (max, count) = (all.max() as f64 / NANOS_A_MS, all.len());
    let sub_buckets = (2 * 10u64.pow(all.sigfig().into())).next_power_of_two();
    text += &format!("#[Mean    = {mean:12.6}, StdDeviation   = {deviation:12.6}]\n");
    text += &format!("#[Max     = {max:12.6}, Total count    = {count:12}]\n");
    text += &format!("#[Buckets = {:12}, SubBuckets     = {sub_buckets:12}]\n", all.buckets());
    text
}

fn hlog(result: &RunResult, histograms: &Histograms) -> Result<Vec<u8>> {
    let failed = |cause: &dyn std::fmt::Display| Error::of("cannot write the histogram log", cause);
    let mut bytes = Vec::new();
    let mut serializer = V2DeflateSerializer::new();
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]");
    builder.add_comment("Values are nanoseconds, each interval's maximum is milliseconds.");
    builder.add_comment("Intervals count from the end of the warm-up; StartTime is when the run began.");
    builder.with_max_value_divisor(NANOS_A_MS);
    if let Ok(started) = humantime::parse_rfc3339(&result.started) {
        // A reader without BaseTime takes small numbers for days in 1970.
        builder.with_start_time(started).with_base_time(started);
    }
    let mut log = builder.begin_log_with(&mut bytes, &mut serializer).map_err(|cause| failed(&cause))?;
    log.write_comment("\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\"")
        .map_err(|cause| failed(&cause))?;
    for (end, length, histogram) in &histograms.seconds {
        let written = log.write_histogram(histogram, seconds(end - length), seconds(*length), None);
        written.map_err(|cause| failed(&cause))?;
    }
    Ok(bytes)
}

/// Clocks may be a little off at the first interval; no interval begins before 0.
fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number).unwrap_or_default()
}

//! Whole runs of the `loadtest` program, on real and on embedded servers, and what a run leaves. One promise a module.

mod engine_support;
mod run_support;

mod bare_program_pushes;
mod classes_are_told_apart;
mod cold_visits_each_session_once;
mod groups_are_told_apart;
mod reference_engine_pushes;
mod reports;
mod run_says_what_is_wrong;

/// A run that is measured stands alone: what other tests do meanwhile delays its pushes past its measured time. It holds
/// this to write, and each other test with servers of its own to read.
static MEASURED: std::sync::RwLock<()> = std::sync::RwLock::new(());

//! What an engine costs: CPU time and memory as the kernel counts them, and heap allocations.
//!
//! Promises that of a process shared with gateways and publisher only the engine's threads are counted. Refuses to
//! count allocations of another process.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use harness::error::{Error, Result};

/// Threads of the harness by their names in the kernel; all others of this process are the embedded engine's.
const HARNESS_THREADS: [&str; 5] = ["loadtest", "gateways", "publisher", "mover", "servers"];

/// CPU time used, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    /// In the program.
    pub user: f64,
    /// In the kernel for it.
    pub system: f64,
}

impl Cpu {
    /// Both.
    pub fn total(self) -> f64 {
        self.user + self.system
    }

    /// With another process's.
    pub fn plus(self, other: Self) -> Self {
        Self { user: self.user + other.user, system: self.system + other.system }
    }

    /// What was used since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// CPU time of a process, all its threads, also ended ones.
///
/// # Errors
/// When it is gone.
pub fn process_cpu(pid: u32) -> Result<Cpu> {
    cpu_of(&PathBuf::from(format!("/proc/{pid}/stat")))
}

/// CPU time of this process's threads that are not the harness's own. Only threads that still run are counted: the
/// process's own sum keeps what ended publishers used.
///
/// # Errors
/// When /proc is not there.
pub fn embedded_cpu() -> Result<Cpu> {
    let mut all = Cpu::default();
    for thread in engine_threads()? {
        // One that ended meanwhile has no file.
        let own = cpu_of(&thread.join("stat")).unwrap_or_default();
        all = Cpu { user: all.user + own.user, system: all.system + own.system };
    }
    Ok(all)
}

fn engine_threads() -> Result<Vec<PathBuf>> {
    Ok(threads()?.into_iter().filter(|thread| !is_harness(thread)).collect())
}

fn threads() -> Result<Vec<PathBuf>> {
    let failed = |cause| Error::of("cannot read /proc/self/task", cause);
    fs::read_dir("/proc/self/task").map_err(failed)?.map(|entry| Ok(entry.map_err(failed)?.path())).collect()
}

fn is_harness(thread: &Path) -> bool {
    let name = fs::read_to_string(thread.join("comm")).unwrap_or_default();
    HARNESS_THREADS.contains(&name.trim_end())
}

fn cpu_of(stat: &Path) -> Result<Cpu> {
    let text = fs::read_to_string(stat).map_err(|cause| Error::of("the process is gone", cause))?;
    // The name in parentheses may hold spaces; utime and stime are the 12th and 13th field after it.
    let ticks = |at| text.rsplit(')').next()?.split_whitespace().nth(at)?.parse::<u64>().ok();
    let second = rustix::param::clock_ticks_per_second() as f64;
    let seconds = |at| ticks(at).map(|ticks| ticks as f64 / second);
    match (seconds(11), seconds(12)) {
        (Some(user), Some(system)) => Ok(Cpu { user, system }),
        _ => Err(Error::of("not understood", stat.display())),
    }
}

/// The most memory that a process held so far, in MiB.
///
/// # Errors
/// When it is gone.
pub fn peak_rss_mib(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"));
    let text = text.map_err(|cause| Error::of("the process is gone", cause))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| Error::new("the kernel tells no VmHWM"))
}

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// Counts from now on; without it the allocator only looks at one flag.
pub fn count_allocations() {
    COUNTING.store(true, Ordering::Relaxed);
}

/// Heap allocations of the embedded engine's threads since [`count_allocations`]; none when nothing counts.
pub fn allocations() -> Option<u64> {
    Some(ALLOCATIONS.load(Ordering::Relaxed)).filter(|count| *count > 0)
}

/// An allocator that counts what other threads than the harness's own allocate.
pub struct Counting<A>(pub A);

/// Allocations of a thread that are looked at before its name is: by then it has one.
const UNNAMED: u32 = 16;
const ENGINE: u32 = u32::MAX;
const HARNESS: u32 = u32::MAX - 1;

thread_local! {
    /// Allocations so far up to [`UNNAMED`], then whose thread it is.
    static WHOSE: Cell<u32> = const { Cell::new(0) };
}

fn count() {
    if !COUNTING.load(Ordering::Relaxed) {
        return;
    }
    // A thread that is ending has no such cell any longer, and allocates hardly anything.
    let whose = WHOSE.try_with(|whose| {
        let known = match whose.get() {
            ENGINE => return ENGINE,
            HARNESS => return HARNESS,
            UNNAMED.. => own_name(),
            early => early + 1,
        };
        whose.set(known);
        known
    });
    if whose == Ok(ENGINE) {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
    }
}

/// Asks the kernel, which allocates nothing.
#[allow(unsafe_code, reason = "called by the allocator: rustix's name() allocates")]
fn own_name() -> u32 {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME writes at most 16 bytes, the last of them 0.
    let told = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    let length = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let is_harness = told == 0 && HARNESS_THREADS.iter().any(|harness| harness.as_bytes() == &name[..length]);
    if is_harness { HARNESS } else { ENGINE }
}

// SAFETY: hands everything to the allocator inside, unchanged.
#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { self.0.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        count();
        // SAFETY: as the caller promises.
        unsafe { self.0.realloc(block, layout, bytes) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_of_the_harness_is_not_the_engines() {
        // By name and not by what they use: other tests of this process use CPU as well.
        let counted = || -> Vec<String> {
            let threads = engine_threads().expect("/proc is there");
            threads.iter().filter_map(|thread| fs::read_to_string(thread.join("comm")).ok()).collect()
        };
        let is_counted = |name: &str| counted().iter().any(|counted| counted.trim_end() == name);
        let on_thread = |name: &str| {
            std::thread::scope(|scope| {
                let thread = std::thread::Builder::new().name(name.to_owned());
                thread.spawn_scoped(scope, || is_counted(name)).expect("a thread").join().expect("it ends")
            })
        };
        for harness in HARNESS_THREADS {
            assert!(!on_thread(harness), "{harness}");
        }
        assert!(on_thread("shard-of-cost"), "an engine's thread counts while it runs");
        assert!(embedded_cpu().expect("/proc is there").total() >= 0.0);
    }

    #[test]
    fn memory_of_this_process_is_told() {
        assert!(peak_rss_mib(std::process::id()).expect("we run") > 1.0);
    }
}

//! Whether this machine lets a shard have its io_uring executor; asked before anything is opened.
//!
//! Promises that what would end a shard's executor later, without a word (glommio panics, or its thread just ends), is
//! found here and said with what to change; and that the soft memlock limit is raised as far as the hard one allows when
//! that is needed. Refuses to raise the hard limit, which somebody set.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::model::limits::SHARD_MEMLOCK_BYTES_MIN;

/// The list of CPUs that glommio reads.
const CPUS: &str = "/sys/devices/system/cpu/online";

/// Why no shard can run here.
#[derive(Debug)]
pub enum UringError {
    /// Less memory may be locked than an executor asks for, and the hard limit is as low.
    Memlock {
        /// The hard limit.
        hard_bytes: u64,
    },
    /// The kernel or a filter before it refuses a system call of io_uring.
    Refused(&'static str, io::Error),
    /// Which CPUs there are cannot be read.
    NoCpus(io::Error),
}

impl fmt::Display for UringError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memlock { hard_bytes } => {
                let (is, needed) = (hard_bytes >> 10, SHARD_MEMLOCK_BYTES_MIN >> 10);
                write!(
                    f,
                    "io_uring: this process may lock {is} KiB of memory (RLIMIT_MEMLOCK) and {needed} KiB are needed: \
                     raise it with `ulimit -l {needed}` in a shell, LimitMEMLOCK=8M in the systemd unit, \
                     or `docker run --ulimit memlock=8388608:8388608`"
                )
            }
            Self::Refused(call, error) => match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) => write!(
                    f,
                    "{call} is refused ({error}): the container's seccomp profile or the sysctl kernel.io_uring_disabled \
                     forbids io_uring; allow io_uring_setup, io_uring_enter and io_uring_register in the profile \
                     (`docker run --security-opt seccomp=FILE`, Kubernetes seccompProfile), and set \
                     kernel.io_uring_disabled to 0"
                ),
                Some(libc::ENOSYS) => write!(
                    f,
                    "{call} is not there ({error}): the kernel has no io_uring (Linux 5.8 or newer is needed; `uname -r`), \
                     or the container's seccomp profile hides it: allow io_uring_setup, io_uring_enter and \
                     io_uring_register in the profile"
                ),
                Some(libc::ENOMEM) => write!(
                    f,
                    "{call} found no memory to lock ({error}): raise RLIMIT_MEMLOCK (`ulimit -l`, LimitMEMLOCK=, \
                     `docker run --ulimit memlock=`) or the container's memory limit"
                ),
                _ => write!(f, "{call} failed ({error}); Linux 5.8 or newer with io_uring is needed"),
            },
            Self::NoCpus(error) => write!(
                f,
                "{CPUS} cannot be read ({error}): shards are pinned to the CPUs that it lists; mount sysfs, read-only is \
                 enough (`mount -t sysfs -o ro sysfs /sys` in a chroot)"
            ),
        }
    }
}

impl std::error::Error for UringError {}

/// Makes room for the shards' executors, and tries out what they need.
///
/// # Errors
/// See [`UringError`].
pub(crate) fn check() -> Result<(), UringError> {
    look_at_cpus(CPUS)?;
    make_room_to_lock()?;
    try_out()
}

fn look_at_cpus(list: &str) -> Result<(), UringError> {
    std::fs::read(list).map(drop).map_err(UringError::NoCpus)
}

fn make_room_to_lock() -> Result<(), UringError> {
    let Rlimit { current, maximum } = getrlimit(Resource::Memlock);
    // No number is no limit.
    if current.is_none_or(|bytes| bytes >= SHARD_MEMLOCK_BYTES_MIN) {
        return Ok(());
    }
    let hard_bytes = maximum.unwrap_or(u64::MAX);
    let is_raised = hard_bytes >= SHARD_MEMLOCK_BYTES_MIN
        && setrlimit(Resource::Memlock, Rlimit { current: maximum, maximum }).is_ok();
    if is_raised { Ok(()) } else { Err(UringError::Memlock { hard_bytes }) }
}

/// A ring of the smallest size, looked at and entered once.
#[allow(unsafe_code, reason = "io_uring's three system calls have no safe form")]
fn try_out() -> Result<(), UringError> {
    // `struct io_uring_params` has 120 bytes, and zeroes ask for nothing special.
    let mut params = [0_u64; 15];
    // SAFETY: the kernel reads and fills the params, which are as large as it takes them to be.
    let ring = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, params.as_mut_ptr()) };
    if ring < 0 {
        return Err(UringError::Refused("io_uring_setup", io::Error::last_os_error()));
    }
    // SAFETY: a descriptor that was opened just now and that nobody else has.
    let ring = unsafe { OwnedFd::from_raw_fd(ring as i32) };
    // `struct io_uring_probe` with room for all 256 operations.
    let mut probe = [0_u64; 2 + 256];
    const IORING_REGISTER_PROBE: libc::c_int = 8;
    // SAFETY: the kernel fills at most as many operations as it is told there is room for.
    let looked = unsafe {
        libc::syscall(libc::SYS_io_uring_register, ring.as_raw_fd(), IORING_REGISTER_PROBE, probe.as_mut_ptr(), 256)
    };
    if looked < 0 {
        return Err(UringError::Refused("io_uring_register", io::Error::last_os_error()));
    }
    // SAFETY: submits nothing and waits for nothing.
    let entered =
        unsafe { libc::syscall(libc::SYS_io_uring_enter, ring.as_raw_fd(), 0, 0, 0, std::ptr::null::<u8>(), 0) };
    if entered < 0 {
        return Err(UringError::Refused("io_uring_enter", io::Error::last_os_error()));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_without_sysfs_is_told_as_one() {
        look_at_cpus(CPUS).expect("this machine has one");
        let missing = look_at_cpus("/sys/devices/system/cpu/nowhere").expect_err("there is no such file").to_string();
        assert!(missing.contains("No such file") && missing.contains("mount sysfs"), "{missing}");
    }
}

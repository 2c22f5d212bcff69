//! What the operating system says of this process: CPU seconds, resident memory.
//!
//! Promises numbers at the moment of asking. A number that cannot be read is absent, never zero.

/// The process at one instant.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ProcessNumbers {
    /// CPU seconds spent in user mode, all threads, ended ones too.
    pub cpu_user_seconds: f64,
    /// CPU seconds spent in the kernel for this process.
    pub cpu_system_seconds: f64,
    /// Bytes of memory that are resident.
    pub resident_bytes: Option<u64>,
}

/// Asks the operating system. `getrusage` rather than `/proc/self/stat`: microseconds instead of 10 ms ticks.
#[allow(unsafe_code, reason = "no crate of ours wraps getrusage")]
pub fn read() -> ProcessNumbers {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: the pointer is to a whole `rusage`, zeroed, which is a valid value of it.
    let usage = unsafe {
        libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr());
        usage.assume_init()
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    ProcessNumbers {
        cpu_user_seconds: seconds(usage.ru_utime),
        cpu_system_seconds: seconds(usage.ru_stime),
        resident_bytes: std::fs::read_to_string("/proc/self/status").ok().and_then(|text| resident_bytes(&text)),
    }
}

fn resident_bytes(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_memory_and_uses_cpu() {
        let before = read();
        let mut sum = 0_u64;
        let after = loop {
            sum = std::hint::black_box((0..100_000).fold(sum, |sum, number| sum.wrapping_mul(31) + number));
            let after = read();
            if after.cpu_user_seconds + after.cpu_system_seconds > before.cpu_user_seconds + before.cpu_system_seconds {
                break after;
            }
        };
        assert!(after.cpu_user_seconds >= before.cpu_user_seconds);
        assert!(after.resident_bytes.unwrap() > 1 << 20);
        assert_eq!(resident_bytes("Name:\tx\nVmRSS:\t  12 kB\n"), Some(12 * 1024));
        assert_eq!(resident_bytes("Name:\tx\n"), None);
    }
}

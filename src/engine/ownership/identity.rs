//! What tells this process, and this machine's run, apart from others.

use crate::edge::random::random;

/// The kernel's random id of this boot of the machine; empty when it does not tell one.
pub(super) fn kernel_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// Another one in each process: 128 random bits as hex.
pub fn random_boot() -> String {
    format!("{:016x}{:016x}", random(), random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_ids_of_one_process_differ_and_the_kernels_stays() {
        assert_ne!(random_boot(), random_boot());
        assert_eq!(random_boot().len(), 32);
        assert_eq!(kernel_boot(), kernel_boot());
        assert!(!kernel_boot().is_empty());
    }
}

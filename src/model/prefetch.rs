//! Asks the processor for cache lines that are needed soon. A hint: no result depends on it.

/// Cache lines of the machines that servers are made of.
const LINE_BYTES: usize = 64;

/// Asks for the first line of what is there, and goes on. Where the language has no word for it, nothing happens.
#[inline(always)]
pub fn prefetch<T>(at: *const T) {
    ask::<false>(at.cast());
}

/// The same for what will be written: a line that another core had is taken from it now, and not when it is written.
#[inline(always)]
pub fn prefetch_to_write<T>(at: *const T) {
    ask::<true>(at.cast());
}

#[inline(always)]
#[allow(unsafe_code, reason = "the processor's prefetch instruction has no safe form")]
fn ask<const TO_WRITE: bool>(at: *const i8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it reads nothing that can be seen, and any address is allowed.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_ET0, _MM_HINT_T0, _mm_prefetch};
        if TO_WRITE { _mm_prefetch::<_MM_HINT_ET0>(at) } else { _mm_prefetch::<_MM_HINT_T0>(at) }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}

/// Asks for all lines of a value.
#[inline(always)]
pub fn prefetch_all<T>(value: &T) {
    ask_lines::<false>(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// The same for what will be written.
#[inline(always)]
pub fn prefetch_to_write_all<T>(value: &T) {
    ask_lines::<true>(std::ptr::from_ref(value).cast(), size_of::<T>());
}

/// Asks for all lines of so many bytes from `start` on, which need not be at the start of a line.
#[inline(always)]
pub fn prefetch_lines(start: *const u8, bytes: usize) {
    ask_lines::<false>(start.cast(), bytes);
}

#[inline(always)]
fn ask_lines<const TO_WRITE: bool>(start: *const i8, bytes: usize) {
    for at in (0..bytes).step_by(LINE_BYTES) {
        ask::<TO_WRITE>(start.wrapping_add(at));
    }
    ask::<TO_WRITE>(start.wrapping_add(bytes.saturating_sub(1)));
}

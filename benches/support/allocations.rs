//! The release binary's allocator with a count in front.
//!
//! Promises counts for each thread of its own: what other threads allocate is not mixed in, and counting costs two
//! additions in memory. Bytes are those asked for; what the allocator rounds up is not in them.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

thread_local! {
    // Const and without a destructor, so that it can be used inside an allocator.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<i64> = const { Cell::new(0) };
}

/// How often this thread has allocated, reallocations included.
pub fn of_this_thread() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Bytes that this thread has allocated, less those that it has freed.
pub fn bytes_of_this_thread() -> i64 {
    BYTES.with(Cell::get)
}

struct Counting;

fn count(bytes: usize) {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
    add(bytes as i64);
}

fn add(bytes: i64) {
    BYTES.with(|all| all.set(all.get() + bytes));
}

// SAFETY: each call is mimalloc's, with what the caller promised.
#[allow(unsafe_code, reason = "an allocator is an unsafe trait")]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        add(-(layout.size() as i64));
        // SAFETY: as promised by the caller.
        unsafe { MiMalloc.dealloc(at, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as promised by the caller.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        add(-(layout.size() as i64));
        // SAFETY: as promised by the caller.
        unsafe { MiMalloc.realloc(at, layout, size) }
    }
}

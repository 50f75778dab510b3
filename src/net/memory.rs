//! Gives freed memory back to the system. The allocator by itself keeps what lies below anything still in use.

/// Returns all whole free pages, from the middle of the heap as well. Takes about a millisecond after a burst, so it is not for every day.
#[cfg(target_env = "gnu")]
pub(super) fn give_back() {
    // SAFETY: malloc_trim has no preconditions; it takes the allocator's own locks and touches free memory only.
    #[expect(unsafe_code, reason = "no crate wraps it")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Other allocators than glibc's are left to their own judgement.
#[cfg(not(target_env = "gnu"))]
pub(super) fn give_back() {}

/// So much at a time, and more, is taken from the system and given back to it.
#[cfg(target_env = "gnu")]
const LARGE: i32 = 128 * 1024;

/// Has freed memory of compressors and of large answers go back to the system at once. By itself glibc raises that limit, to 32 MiB,
/// when such memory is freed, and then keeps up to twice as much at the end of each thread's heap, where `give_back` does not reach.
/// To be called before there are threads.
#[cfg(target_env = "gnu")]
pub fn keep_little() {
    // SAFETY: mallopt sets a number of the allocator.
    #[expect(unsafe_code, reason = "no crate wraps it")]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Other allocators than glibc's are left to their own judgement.
#[cfg(not(target_env = "gnu"))]
pub fn keep_little() {}

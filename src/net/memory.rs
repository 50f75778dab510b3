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

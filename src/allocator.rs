//! Tells the system's allocator to give memory back: documents come and go in sizes in which glibc
//! would keep what it has. On other systems nothing is done.

/// Larger blocks are mapped one by one, and so given back as soon as they are free. Left to itself,
/// glibc raises this to 32 MiB as such blocks are freed, and then keeps them.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MAPPED_BYTES_MIN: i32 = 1024 * 1024;
/// Free memory at the end of the heap is given back from this size on.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const TRIMMED_BYTES_MIN: i32 = 4 * 1024 * 1024;

/// Sets the allocator up. Called once, at the start of the program.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the allocator is told by a C function alone")]
pub fn set_up() {
    // SAFETY: mallopt(3) takes two numbers; it may be called at any time.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED_BYTES_MIN);
        libc::mallopt(libc::M_TRIM_THRESHOLD, TRIMMED_BYTES_MIN);
    }
}

/// Gives the system back what is free in the midst of the heap. It walks through the heap, so it
/// blocks for a while.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the allocator is told by a C function alone")]
pub fn give_back() {
    // SAFETY: malloc_trim(3) takes a number, and may be called from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn set_up() {}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn give_back() {}

//! Memory that was freed goes back to the kernel.
//!
//! glibc has an arena for each thread and keeps each at the largest that it ever was: a query that once loaded much leaves
//! its megabytes behind on whatever thread it ran, and a server that runs long grows though it holds no more than before.

/// Gives back whole pages that nobody uses; takes milliseconds.
pub fn give_back() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        extern "C" {
            fn malloc_trim(pad: usize) -> i32;
        }
        // SAFETY: the allocator takes its own locks, and touches free memory only.
        unsafe { malloc_trim(0) };
    }
}

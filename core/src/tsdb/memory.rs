//! Memory that was freed goes back to the kernel, soon and by itself.
//!
//! glibc maps large arrays each by itself and unmaps them when they are freed; but it learns from each that is freed, and
//! from then on takes arrays of up to 32 MiB from its arenas and keeps 64 MiB at the end of each. A server has an arena for
//! each thread that scrapes, evaluates rules or answers queries, and each kept tens of megabytes of which less than one
//! was used. This holds for numpy's arrays too, whose allocator it is as well.
//! So the thresholds are set here, when a storage is opened, and then stay. What lies scattered in an arena's middle is
//! given back now and then.

/// From how many bytes an array is mapped by itself, and how many free ones an arena keeps at its end. Columns
/// of a thousand series are well below it, so that what is taken often costs no page faults.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const THRESHOLD_BYTES: i32 = 256 << 10;

/// Makes the allocator of this process one that keeps little; does nothing where there is no glibc.
pub fn keep_little() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        // As <malloc.h> has them.
        const M_TRIM_THRESHOLD: i32 = -1;
        const M_MMAP_THRESHOLD: i32 = -3;
        extern "C" {
            fn mallopt(parameter: i32, value: i32) -> i32;
        }
        // SAFETY: the allocator takes its own locks; what was allocated before stays valid.
        unsafe {
            mallopt(M_MMAP_THRESHOLD, THRESHOLD_BYTES);
            mallopt(M_TRIM_THRESHOLD, THRESHOLD_BYTES);
        }
    }
}

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

/// From how many bytes on larger pages are asked for: each costs one fault in place of 512.
const LARGE_BYTES: usize = 4 << 20;

/// Room for so many items more, on large pages where that is worth it and the kernel has them.
pub fn reserve<T>(items: &mut Vec<T>, more: usize) {
    if items.try_reserve_exact(more).is_err() {
        // So much at once is not to be had; it may be less in the end, and grows as it is needed.
        return;
    }
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        const PAGE_BYTES: usize = 4096;
        const MADV_HUGEPAGE: i32 = 14;
        extern "C" {
            fn madvise(address: *mut std::ffi::c_void, length: usize, advice: i32) -> i32;
        }
        let bytes = items.capacity() * size_of::<T>();
        let start = items.as_mut_ptr() as usize;
        let (first, end) = (start.next_multiple_of(PAGE_BYTES), (start + bytes) / PAGE_BYTES * PAGE_BYTES);
        if bytes >= LARGE_BYTES && end > first {
            // SAFETY: the pages lie within the array's own memory, and advice changes nothing that is in them.
            unsafe { madvise(first as *mut std::ffi::c_void, end - first, MADV_HUGEPAGE) };
        }
    }
}

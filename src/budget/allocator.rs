//! The allocator of the system, held to the budget.
//!
//! glibc gives threads arenas of their own, up to eight for each core, and an arena keeps what was freed in it. Chunks of
//! bodies are taken by one thread and freed by another, so with many mirrors each arena kept its own megabytes: a push to nine
//! mirrors with `--memory 256MiB` had 382 MiB resident with sixteen arenas, and 279 MiB with two.

#![allow(unsafe_code)]

/// Arenas of all threads together: enough that threads seldom wait for each other.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const ARENAS: libc::c_int = 4;

/// Has the allocator keep few arenas. Called before threads are started; `MALLOC_ARENA_MAX` in the environment wins.
pub(crate) fn limit_arenas() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    if std::env::var_os("MALLOC_ARENA_MAX").is_none() {
        // SAFETY: mallopt sets a figure of the allocator under the allocator's own lock, and touches no memory of ours.
        let set = unsafe { libc::mallopt(libc::M_ARENA_MAX, ARENAS) };
        if set == 0 {
            tracing::debug!("the allocator does not take a limit of arenas");
        }
    }
}

//! Drops values on another thread where the drop may wait for a disk: closing a file of gigabytes, punching a range out of one.

/// Drops a value on a thread that may block, where there is one.
pub(super) fn drop_in_background<T: Send + 'static>(gone: T) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(gone))),
        Err(_) => drop(gone),
    }
}

//! What ends may wait for a disk: a file of gigabytes that is closed, a range that is punched out of one.

/// Drops something on a thread that may wait, where there is one.
pub(super) fn drop_elsewhere<T: Send + 'static>(gone: T) {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => drop(runtime.spawn_blocking(move || drop(gone))),
        Err(_) => drop(gone),
    }
}

//! Locks of threads, and the one place that names them.
//!
//! A thread that panics while it holds a lock leaves behind what every other early return would: nothing here is left half
//! done under one. So there is no poisoning, and nobody asks for it (`clippy.toml` bans the locks of `std`).

pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard, RwLock};

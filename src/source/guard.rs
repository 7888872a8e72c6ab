//! Turns the loss of mapped pages from a deadly signal into a flag.
//!
//! When a mapped file shrinks, or its disk fails, touching a page that is gone raises SIGBUS, which ends a process. Here
//! live mappings stand in a fixed table of atomics; a handler, installed with the first mapping, finds the address in
//! it, sets that mapping's flag and puts a page of zeros there, so that the reader goes on and its owner sees the flag.
//! An address that is not ours gets the default action: the crash that it deserves.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// How many mappings can be watched at once; further files are read by positioned reads.
const SLOTS: usize = 1024;

struct WatchSlot {
    taken: AtomicBool,
    /// The first address, 0 while nothing is watched here.
    start: AtomicUsize,
    /// Past the last page.
    end: AtomicUsize,
    poisoned: AtomicBool,
}

static TABLE: [WatchSlot; SLOTS] = [const {
    WatchSlot {
        taken: AtomicBool::new(false),
        start: AtomicUsize::new(0),
        end: AtomicUsize::new(0),
        poisoned: AtomicBool::new(false),
    }
}; SLOTS];

static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4096);

/// A mapping that is watched until this is dropped, which must happen before it is unmapped.
#[derive(Debug)]
pub(super) struct Watch {
    slot: usize,
}

impl Watch {
    /// Whether a page of the mapping was lost: what was read from it may be zeros instead.
    pub(super) fn poisoned(&self) -> bool {
        TABLE[self.slot].poisoned.load(Ordering::SeqCst)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        let slot = &TABLE[self.slot];
        slot.start.store(0, Ordering::SeqCst);
        slot.taken.store(false, Ordering::SeqCst);
    }
}

/// Watches the mapping of `len` bytes at `start`.
pub(super) fn watch(start: usize, len: usize) -> io::Result<Watch> {
    install()?;
    let free = |slot: &WatchSlot| {
        slot.taken.compare_exchange(false, true, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    };
    let index = TABLE.iter().position(free).ok_or_else(|| io::Error::other("too many mapped files"))?;
    let slot = &TABLE[index];
    slot.poisoned.store(false, Ordering::SeqCst);
    slot.end.store(start + len.next_multiple_of(PAGE_BYTES.load(Ordering::Relaxed)), Ordering::SeqCst);
    // Last: from here on the handler looks at the slot.
    slot.start.store(start, Ordering::SeqCst);
    Ok(Watch { slot: index })
}

fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let installed = INSTALLED.get_or_init(|| {
        // SAFETY: sysconf has no preconditions.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE_BYTES.store(usize::try_from(page).unwrap_or(4096), Ordering::Relaxed);
        // SAFETY: an all-zero sigaction is a valid value (no handler, empty mask); the handler has the signature that
        // SA_SIGINFO asks for, is async-signal-safe, and both pointers live through the call.
        let code = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction =
                on_sigbus as extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) as usize;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaction(libc::SIGBUS, &raw const action, ptr::null_mut())
        };
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error().raw_os_error().unwrap_or(0)) }
    });
    installed.map_err(io::Error::from_raw_os_error)
}

/// Runs inside a signal: atomics and system calls only, and `errno` is left as it was.
extern "C" fn on_sigbus(_signal: libc::c_int, info: *mut libc::siginfo_t, _context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo to an SA_SIGINFO handler; SIGBUS carries an address.
    let address = unsafe { (*info).si_addr() } as usize;
    for slot in &TABLE {
        let start = slot.start.load(Ordering::SeqCst);
        if start == 0 || address < start || address >= slot.end.load(Ordering::SeqCst) {
            continue;
        }
        // The flag first: whoever sees the zeros sees the flag too.
        slot.poisoned.store(true, Ordering::SeqCst);
        let page = PAGE_BYTES.load(Ordering::Relaxed);
        // SAFETY: the page lies inside a mapping that is live, because the faulting thread is reading it through a
        // reference that keeps it mapped; it is read-only, so replacing it by zeros loses nothing of ours. mmap is a
        // plain system call; errno is this thread's own and is put back.
        unsafe {
            let errno = *libc::__errno_location();
            let flags = libc::MAP_FIXED | libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let at = (address & !(page - 1)) as *mut libc::c_void;
            let mapped = libc::mmap(at, page, libc::PROT_READ, flags, -1, 0);
            *libc::__errno_location() = errno;
            if mapped != libc::MAP_FAILED {
                return;
            }
        }
        break;
    }
    // SAFETY: signal is async-signal-safe; with the default action back, the instruction faults again and ends us.
    unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
}

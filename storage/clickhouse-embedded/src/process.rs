//! The tie between this child process and its parent.
#![expect(unsafe_code, reason = "prctl and getppid have no safe form in libc")]

use std::io;

/// Makes the kernel end this process when its parent's thread that started it
/// ends. Call it first thing in the child; `parent` is the parent's process id
/// as the parent knows it, so that a parent that died before this call is seen.
///
/// # Errors
/// When the parent is gone already, or the kernel refuses.
pub fn die_with_parent(parent: u32) -> io::Result<()> {
    // SAFETY: plain integers; PR_SET_PDEATHSIG concerns this process alone.
    let set = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGTERM, 0, 0, 0) };
    if set != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: no argument, cannot fail.
    let now = unsafe { libc::getppid() };
    if u32::try_from(now).ok() != Some(parent) {
        return Err(io::Error::other("the parent process has ended; start the engine through `fanal`"));
    }
    Ok(())
}

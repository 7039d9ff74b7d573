//! A child that does not outlive us, where the kernel can see to it.

use std::process::Command;

use rustix::process::Signal;

/// Has the kernel send `signal` to the child when the thread that starts it is gone, whatever ended that. Linux only;
/// elsewhere nothing happens, and who finds the child later has to end it.
#[cfg(target_os = "linux")]
pub(super) fn to_this_thread(command: &mut Command, signal: Signal) {
    use std::os::unix::process::CommandExt as _;

    let owner = rustix::process::getpid();
    let tie = move || {
        rustix::process::set_parent_process_death_signal(Some(signal))?;
        // An owner that died before that line sends no signal any more.
        match rustix::process::getppid() {
            Some(parent) if parent == owner => Ok(()),
            _ => Err(rustix::io::Errno::SRCH.into()),
        }
    };
    #[expect(unsafe_code, reason = "only code between fork and exec can tie a child")]
    // SAFETY: two bare system calls and no allocation, which is what may be done between fork and exec.
    unsafe {
        command.pre_exec(tie);
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn to_this_thread(_: &mut Command, _: Signal) {}

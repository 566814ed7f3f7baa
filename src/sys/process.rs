//! Processes: how children end, signals to them, and what this process is itself.

use super::process_state::is_zombie;
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::stat::Mode;
use nix::unistd::{ForkResult, Pid};
use std::io;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It exited with this code.
    Code(i32),
    /// A signal killed it.
    Signal {
        /// Its number.
        number: i32,
        /// It left a core dump.
        core: bool,
    },
}

/// A child that has ended and was not reaped yet: its pid, and therefore its process group, cannot be reused.
#[allow(unsafe_code)]
pub fn ended_child() -> io::Result<Option<i32>> {
    let mut info = std::mem::MaybeUninit::<libc::siginfo_t>::zeroed();
    let options = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT;
    loop {
        // SAFETY: the pointer is to a live local that waitid fills.
        let result = unsafe { libc::waitid(libc::P_ALL, 0, info.as_mut_ptr(), options) };
        match Errno::result(result) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::ECHILD) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    // SAFETY: zeroed is a valid siginfo_t, and waitid writes only valid fields.
    let info = unsafe { info.assume_init() };
    // SAFETY: the field is valid for the siginfo of waitid, and zero when no child has ended.
    let pid = unsafe { info.si_pid() };
    Ok((pid != 0).then_some(pid))
}

/// Waits for child `pid` and says how it ended.
#[allow(unsafe_code)]
pub fn reap(pid: i32) -> io::Result<End> {
    let mut status: libc::c_int = 0;
    loop {
        // SAFETY: the pointer is to a live local that waitpid fills.
        let result = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        match Errno::result(result) {
            Ok(_) => break,
            Err(Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    if libc::WIFSIGNALED(status) {
        return Ok(End::Signal {
            number: libc::WTERMSIG(status),
            core: libc::WCOREDUMP(status),
        });
    }
    Ok(End::Code(libc::WEXITSTATUS(status)))
}

/// Clears the parent-death signal: this process notices the end of its parent by itself and has something left to do.
pub fn outlive_parent() -> io::Result<()> {
    Ok(nix::sys::prctl::set_pdeathsig(None)?)
}

/// The pid of our parent: another one once the one that started us has ended.
#[must_use]
pub fn parent() -> i32 {
    nix::unistd::getppid().as_raw()
}

/// Lets the end of our parent arrive as SIGCHLD.
pub fn hear_of_parents_end() -> io::Result<()> {
    Ok(prctl::set_pdeathsig(nix::sys::signal::Signal::SIGCHLD)?)
}

/// Lets a process wait its turn when it is woken, instead of taking the processor from who woke it (SCHED_BATCH). What
/// it starts is scheduled as usual. One that has another policy than the usual one, given by whoever started us, or is
/// gone, is left alone.
#[allow(unsafe_code)]
pub fn wait_when_woken(pid: i32) {
    let parameter = libc::sched_param { sched_priority: 0 };
    // SAFETY: the call touches no memory.
    if unsafe { libc::sched_getscheduler(pid) } == libc::SCHED_OTHER {
        // SAFETY: the pointer is to a live local, which is only read.
        unsafe { libc::sched_setscheduler(pid, libc::SCHED_BATCH | libc::SCHED_RESET_ON_FORK, &raw const parameter) };
    }
}

/// Sends a signal to one process. A process that is gone is no error.
pub fn signal(pid: i32, number: i32) -> io::Result<()> {
    send(pid, number)
}

/// Sends a signal to a process group. A group that is gone is no error.
pub fn signal_group(group: i32, number: i32) -> io::Result<()> {
    // A group below 2 would address our own group, or every process there is.
    if group < 2 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    send(-group, number)
}

#[allow(unsafe_code)]
fn send(target: i32, number: i32) -> io::Result<()> {
    if target == 0 || target == -1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill touches no memory of ours.
    let result = unsafe { libc::kill(target, number) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Whether a process of this pid lives, ours or not. One that has ended and only waits to be reaped does not.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    pid > 0 && nix::sys::signal::kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH) && !is_zombie(pid)
}

/// Whether a process group has members, zombies included.
#[must_use]
pub fn is_group_alive(group: i32) -> bool {
    group > 1 && nix::sys::signal::killpg(Pid::from_raw(group), None) != Err(Errno::ESRCH)
}

/// Makes orphaned descendants our children, so that none is left behind unreaped.
pub fn become_subreaper() -> io::Result<()> {
    Ok(prctl::set_child_subreaper(true)?)
}

/// Closes this process to others of its user: they cannot trace it, nor reach its descriptors and its environment
/// through /proc. What it executes is open again.
pub fn close_to_others() -> io::Result<()> {
    Ok(prctl::set_dumpable(false)?)
}

/// Ends this process without running anything of ours any more.
#[allow(unsafe_code)]
pub(super) fn end_at_once(code: i32) -> ! {
    // SAFETY: _exit runs no destructors and no handlers; that is its purpose in a forked child.
    unsafe { libc::_exit(code) }
}

/// Detaches from the terminal and the parent: the calling process ends, its grandchild returns from here in a session
/// of its own that it does not lead. Call while no thread and no other child exists.
#[allow(unsafe_code)]
pub fn detach() -> io::Result<()> {
    for is_first in [true, false] {
        // SAFETY: no other thread exists (the caller's duty), so the child may go on with everything.
        match unsafe { nix::unistd::fork() }? {
            ForkResult::Parent { .. } => end_at_once(0),
            ForkResult::Child if is_first => {
                nix::unistd::setsid()?;
            }
            ForkResult::Child => {}
        }
    }
    Ok(())
}

/// The effective user of this process.
#[must_use]
pub fn own_user() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The effective group of this process.
#[must_use]
pub fn own_group() -> u32 {
    nix::unistd::getegid().as_raw()
}

/// The name of a system call in which a process may be found stuck.
#[must_use]
pub fn system_call_name(number: i64) -> Option<&'static str> {
    let known: &[(libc::c_long, &'static str)] = &[
        (libc::SYS_read, "read"),
        (libc::SYS_write, "write"),
        (libc::SYS_readv, "readv"),
        (libc::SYS_writev, "writev"),
        (libc::SYS_pread64, "pread64"),
        (libc::SYS_pwrite64, "pwrite64"),
        (libc::SYS_openat, "openat"),
        (libc::SYS_futex, "futex"),
        (libc::SYS_nanosleep, "nanosleep"),
        (libc::SYS_clock_nanosleep, "clock_nanosleep"),
        (libc::SYS_pselect6, "pselect6"),
        (libc::SYS_ppoll, "ppoll"),
        (libc::SYS_epoll_pwait, "epoll_pwait"),
        (libc::SYS_connect, "connect"),
        (libc::SYS_accept, "accept"),
        (libc::SYS_accept4, "accept4"),
        (libc::SYS_recvfrom, "recvfrom"),
        (libc::SYS_recvmsg, "recvmsg"),
        (libc::SYS_sendto, "sendto"),
        (libc::SYS_sendmsg, "sendmsg"),
        (libc::SYS_wait4, "wait4"),
        (libc::SYS_waitid, "waitid"),
        (libc::SYS_flock, "flock"),
        (libc::SYS_fcntl, "fcntl"),
        (libc::SYS_fsync, "fsync"),
        (libc::SYS_fdatasync, "fdatasync"),
        (libc::SYS_rt_sigsuspend, "rt_sigsuspend"),
        (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_poll, "poll"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_select, "select"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_epoll_wait, "epoll_wait"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_open, "open"),
        #[cfg(target_arch = "x86_64")]
        (libc::SYS_pause, "pause"),
    ];
    let found = known.iter().find(|(known, _)| *known == number)?;
    Some(found.1)
}

/// Sets the file mode mask; returns the one before.
pub fn set_umask(mask: u32) -> u32 {
    nix::sys::stat::umask(Mode::from_bits_truncate(mask)).bits()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::launch::{Launch, launch};
    use std::fs::File;
    use std::os::fd::AsFd;

    #[test]
    fn an_ended_child_is_seen_before_it_is_reaped() {
        use nix::sys::wait::{Id, WaitPidFlag, waitid};
        let null = File::open("/dev/null").unwrap();
        let pid = launch(&Launch {
            program: "true".into(),
            args: vec!["true".into()],
            env: Vec::new(),
            directory: "/".into(),
            descriptors: vec![(0, null.as_fd()), (1, null.as_fd()), (2, null.as_fd())],
            no_new_privileges: true,
            many_descriptors: true,
            ..Launch::default()
        })
        .unwrap();
        waitid(Id::Pid(Pid::from_raw(pid)), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT).unwrap();
        // Other tests have children too; this one is ended and unreaped, so there is at least one to see.
        assert!(ended_child().unwrap().is_some());
        assert!(is_zombie(pid) && !is_alive(pid) && is_group_alive(pid));
        assert_eq!(reap(pid).unwrap(), End::Code(0));
        assert!(!is_group_alive(pid) && !is_zombie(pid));
    }

    #[test]
    fn dangerous_targets_are_refused() {
        assert!(signal_group(1, 0).is_err());
        assert!(signal_group(0, 0).is_err());
        assert!(signal(0, 0).is_err());
        assert!(signal(-1, 0).is_err());
    }
}

//! The child's life between fork(2) and execve(2).
//!
//! Everything here is async-signal-safe and allocates nothing: another thread of the parent may have held any lock.

use super::{Launch, Prepared, Stage, stage_number};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// Becomes the program, or reports why not and ends.
pub(super) fn run_child(launch: &Launch<'_>, ready: &mut Prepared, parent: Pid, report: &OwnedFd) -> ! {
    let (stage, error) = match prepare_and_execute(launch, ready, parent) {
        Ok(never) => match never {},
        Err(failure) => failure,
    };
    let code = (error as i32).to_ne_bytes();
    let [a, b, c, d] = code;
    let _ = nix::unistd::write(report, &[stage_number(stage), a, b, c, d]);
    crate::sys::process::end_at_once(127)
}

fn prepare_and_execute(
    launch: &Launch<'_>,
    ready: &mut Prepared,
    parent: Pid,
) -> Result<std::convert::Infallible, (Stage, Errno)> {
    let at = |stage: Stage| move |error: Errno| (stage, error);
    reset_signals().map_err(at(Stage::Setup))?;
    if launch.own_session {
        nix::unistd::setsid().map_err(at(Stage::Setup))?;
    } else if !ready.is_successor {
        nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0)).map_err(at(Stage::Setup))?;
    }
    if let Some(entrance) = launch.group {
        // As who we are: the user that it becomes could not.
        nix::unistd::write(entrance, b"0").map_err(at(Stage::Group))?;
    }
    ready.note_own_pid();
    place_descriptors(&ready.descriptors).map_err(at(Stage::Setup))?;
    if let Some(mask) = launch.umask {
        nix::sys::stat::umask(Mode::from_bits_truncate(mask));
    }
    if launch.many_descriptors {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(at(Stage::Setup))?;
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).map_err(at(Stage::Setup))?;
    }
    if let Some(nice) = launch.nice {
        set_nice(nice).map_err(at(Stage::Setup))?;
    }
    if let Some(root) = &ready.root {
        nix::unistd::chroot(root.as_c_str()).map_err(at(Stage::Root))?;
        // Else the working directory would be a way out.
        nix::unistd::chdir(c"/").map_err(at(Stage::Root))?;
    }
    if let Some(identity) = launch.identity {
        identity.assume().map_err(at(Stage::Identity))?;
    }
    if launch.no_new_privileges {
        prctl::set_no_new_privs().map_err(at(Stage::Setup))?;
    }
    // A change of user clears the parent-death signal, so it comes after; and a parent that died before it was set
    // sends nothing, hence the second look.
    if !ready.is_successor {
        prctl::set_pdeathsig(Signal::SIGKILL).map_err(at(Stage::Setup))?;
        if nix::unistd::getppid() != parent {
            crate::sys::process::end_at_once(127);
        }
    }
    nix::unistd::chdir(ready.directory.as_c_str()).map_err(at(Stage::Directory))?;
    Err((Stage::Execute, execute(ready)))
}

#[allow(unsafe_code)]
fn set_nice(nice: i32) -> nix::Result<()> {
    // SAFETY: changes the priority of this process, which 0 stands for.
    Errno::result(unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) }).map(drop)
}

/// Default dispositions and an empty mask: ignored and blocked signals would survive the exec.
#[allow(unsafe_code)]
fn reset_signals() -> nix::Result<()> {
    // All zeros: SIG_DFL, no flags, an empty mask. The system call itself, since the C library refuses to touch the two
    // signals it keeps for itself, which some launchers leave ignored.
    let default = [0_u64; 8];
    let mask_size: libc::size_t = 8;
    for number in 1..=64 {
        let old = std::ptr::null_mut::<libc::c_void>();
        // SAFETY: `default` is larger than the kernel's structure, which all zeros are valid for; KILL and STOP fail
        // harmlessly.
        unsafe { libc::syscall(libc::SYS_rt_sigaction, number, default.as_ptr(), old, mask_size) };
    }
    SigSet::empty().thread_set_mask()
}

#[allow(unsafe_code)]
fn place_descriptors(descriptors: &[(RawFd, OwnedFd)]) -> nix::Result<()> {
    let mut highest = 2;
    for (number, source) in descriptors {
        // SAFETY: sources have numbers above all targets, so no target replaces one that is still needed; the numbers
        // below belong to nobody in this child, which is about to become another program.
        let result = unsafe { libc::dup2(source.as_raw_fd(), *number) };
        Errno::result(result)?;
        highest = highest.max(*number);
    }
    // Nothing between the given descriptors, and nothing we ourselves inherited, may leak. What is above
    // is marked only, since the report must still be written.
    for number in 0..=highest {
        if !descriptors.iter().any(|(given, _)| *given == number) {
            // SAFETY: closes a number that this child was not given; closing an unused number fails harmlessly.
            unsafe { libc::close(number) };
        }
    }
    let first = libc::c_long::from(highest + 1);
    let last = libc::c_long::from(u32::MAX);
    let mark = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: sets a flag on descriptors of this child only. Kernels before 5.11 refuse; ours all have the flag anyway.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, mark) };
    Ok(())
}

/// Tries the candidates in order; returns why the last sensible one failed.
#[allow(unsafe_code)]
fn execute(ready: &Prepared) -> Errno {
    let mut failure = Errno::ENOENT;
    for candidate in &ready.candidates {
        let candidate: &CStr = candidate;
        // SAFETY: the arrays end in NULL and point to C strings that `ready` owns.
        unsafe { libc::execve(candidate.as_ptr(), ready.args.array.as_ptr(), ready.env.array.as_ptr()) };
        match Errno::last() {
            Errno::ENOENT | Errno::ENOTDIR => {}
            Errno::EACCES => failure = Errno::EACCES,
            other => return other,
        }
    }
    failure
}

//! Starting scripts fast: a child that shares our memory until it executes, as posix_spawn(3) has it, with what that
//! call cannot do: resource limits and a parent-death signal.
//!
//! Never here: which script, which variables, what becomes of it.

use super::process::end_at_once;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit};
use std::cell::Cell;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicI32;

/// Bytes of the child's stack until it executes. It calls a dozen functions of the C library, none of them deep.
const STACK: usize = 64 * 1024;

/// Texts for execve(2), each ended by NUL, in one piece of memory that is used again.
#[derive(Clone, Debug, Default)]
pub struct Texts {
    bytes: Vec<u8>,
    starts: Vec<usize>,
    pointers: Vec<*const libc::c_char>,
}

impl Texts {
    /// Forgets all texts and keeps their memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.starts.clear();
        self.pointers.clear();
    }

    /// Adds a text made of these parts. One with NUL in it, which would end there, is left out.
    pub fn push(&mut self, parts: &[&[u8]]) {
        if parts.iter().any(|part| part.contains(&0)) {
            return;
        }
        self.starts.push(self.bytes.len());
        parts.iter().for_each(|part| self.bytes.extend_from_slice(part));
        self.bytes.push(0);
    }

    /// The array that execve(2) wants. It is valid until the next change.
    fn array(&mut self) -> *const *const libc::c_char {
        let bytes = &self.bytes;
        let texts = self.starts.iter().filter_map(|start| bytes.get(*start..));
        self.pointers.clear();
        self.pointers
            .extend(texts.map(|text| text.as_ptr().cast::<libc::c_char>()));
        self.pointers.push(ptr::null());
        self.pointers.as_ptr()
    }
}

/// One limit of setrlimit(2).
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    resource: libc::c_int,
    value: libc::rlimit,
}

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Seconds of processor time. The hard limit lies 2 s above the soft one, so that SIGXCPU comes before SIGKILL.
    Cpu,
    /// Bytes of address space.
    Memory,
    /// Open files.
    Files,
    /// Processes of the user.
    Processes,
    /// Bytes of a file that is written.
    FileSize,
    /// Bytes of a core file.
    Core,
}

impl Limit {
    /// A limit at `value`, or at the hard limit of this process if that is lower.
    pub fn new(what: Limited, value: u64) -> io::Result<Self> {
        let resource = match what {
            Limited::Cpu => Resource::RLIMIT_CPU,
            Limited::Memory => Resource::RLIMIT_AS,
            Limited::Files => Resource::RLIMIT_NOFILE,
            Limited::Processes => Resource::RLIMIT_NPROC,
            Limited::FileSize => Resource::RLIMIT_FSIZE,
            Limited::Core => Resource::RLIMIT_CORE,
        };
        let (_, hard) = getrlimit(resource)?;
        let beyond = if what == Limited::Cpu { 2 } else { 0 };
        let value = libc::rlimit {
            rlim_cur: value.min(hard),
            rlim_max: value.saturating_add(beyond).min(hard),
        };
        let resource = resource as libc::c_int;
        Ok(Self { resource, value })
    }

    /// The limit of open files as this process has it now.
    pub fn files() -> io::Result<Self> {
        let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let value = libc::rlimit {
            rlim_cur: soft,
            rlim_max: hard,
        };
        let resource = Resource::RLIMIT_NOFILE as libc::c_int;
        Ok(Self { resource, value })
    }
}

/// Everything a script starts with.
#[derive(Debug)]
pub struct Script<'a> {
    /// The file to execute.
    pub program: &'a CString,
    /// Its arguments, the zeroth included.
    pub args: &'a mut Texts,
    /// Its complete environment, `NAME=VALUE`.
    pub env: &'a mut Texts,
    /// Its working directory.
    pub directory: &'a CString,
    /// What its descriptors 0, 1 and 2 refer to. All others of this process are close-on-exec.
    pub standard: [BorrowedFd<'a>; 3],
    /// Its limits.
    pub limits: &'a [Limit],
}

/// The step at which a start failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// clone(2).
    Clone,
    /// Process group, descriptors, limits.
    Setup,
    /// Entering the working directory.
    Directory,
    /// execve(2).
    Execute,
}

/// True if execve(2) has followed interpreters, or links, from one to the next until it gave up.
#[must_use]
pub fn is_endless(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Starts scripts, one at a time, all in process groups of their own. The thread that it is used in stands still until
/// the script is being executed, and must live as long as the process: when it ends, its scripts are killed.
#[derive(Debug)]
pub struct Starter {
    stack: Vec<u8>,
    parent: libc::pid_t,
    newest: Arc<AtomicI32>,
}

/// What the child reads and writes in our memory.
struct Order {
    program: *const libc::c_char,
    args: *const *const libc::c_char,
    env: *const *const libc::c_char,
    directory: *const libc::c_char,
    standard: [RawFd; 3],
    limits: *const Limit,
    limit_count: usize,
    parent: libc::pid_t,
    failure: Cell<Option<(Step, i32)>>,
}

impl Starter {
    /// A starter for one thread of this process. All signals must be blocked in all of them.
    ///
    /// `newest` becomes the pid of each script before the script runs, for threads that may hear of its end before
    /// [`start`](Self::start) returns.
    #[must_use]
    pub fn new(newest: Arc<AtomicI32>) -> Self {
        Self {
            stack: vec![0; STACK],
            parent: nix::unistd::getpid().as_raw(),
            newest,
        }
    }

    /// Starts a script with an empty signal mask, default dispositions and SIGKILL as its parent-death signal. Returns
    /// its pid once the program is being executed, or why it is not; then no process is left.
    #[allow(unsafe_code)]
    pub fn start(&mut self, script: &mut Script<'_>) -> Result<i32, (Step, io::Error)> {
        let order = Order {
            program: script.program.as_ptr(),
            args: script.args.array(),
            env: script.env.array(),
            directory: script.directory.as_ptr(),
            standard: script.standard.map(|fd| fd.as_raw_fd()),
            limits: script.limits.as_ptr(),
            limit_count: script.limits.len(),
            parent: self.parent,
            failure: Cell::new(None),
        };
        // It grows downwards, from an address that the processor wants aligned.
        let spare = self.stack.as_ptr().addr() % 16;
        let top = self.stack.as_mut_ptr().wrapping_add(STACK - 16 - spare);
        let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PARENT_SETTID | libc::SIGCHLD;
        let argument = (&raw const order).cast_mut().cast();
        let newest = self.newest.as_ptr();
        // SAFETY: the child has a stack of its own, alive until this call returns, which is when the child has executed
        // or ended (CLONE_VFORK). Until then it shares our memory, and errno with this thread, which stands still; it
        // runs `child` only, which allocates nothing, takes no lock, reads nothing that other threads write and does
        // not return. The kernel writes the pid to memory that lives as long as we do, and that is an atomic's.
        let pid = unsafe { libc::clone(child, top.cast(), flags, argument, newest) };
        if pid < 0 {
            return Err((Step::Clone, io::Error::last_os_error()));
        }
        match order.failure.get() {
            None => Ok(pid),
            Some((step, code)) => {
                let _ = super::process::reap(pid);
                Err((step, io::Error::from_raw_os_error(code)))
            }
        }
    }
}

/// The child's life until execve(2).
#[allow(unsafe_code)]
extern "C" fn child(argument: *mut libc::c_void) -> libc::c_int {
    // SAFETY: `start` passes its order, which lives until this child has executed or ended.
    let order = unsafe { &*argument.cast::<Order>() };
    let step = prepare_and_execute(order);
    order.failure.set(Some((step, Errno::last_raw())));
    end_at_once(127)
}

/// Does everything in order and returns the step that failed; errno says why.
#[allow(unsafe_code)]
fn prepare_and_execute(order: &Order) -> Step {
    // Rust's runtime ignores SIGPIPE, which would survive the exec, and scripts are to end when nobody reads.
    // SAFETY: sets a disposition of this child only: without CLONE_SIGHAND it has its own.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: the call touches no memory.
    if unsafe { libc::setpgid(0, 0) } < 0 {
        return Step::Setup;
    }
    // SAFETY: with this operation the call touches no memory.
    if unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } < 0 {
        return Step::Setup;
    }
    // A parent that died before sends nothing.
    // SAFETY: the call touches no memory.
    if unsafe { libc::getppid() } != order.parent {
        end_at_once(127);
    }
    for (number, source) in (0..).zip(order.standard) {
        // SAFETY: the child's table of descriptors is its own (no CLONE_FILES); sources lie above 2, as our own 0 to 2
        // are open.
        if unsafe { libc::dup2(source, number) } < 0 {
            return Step::Setup;
        }
    }
    // Everything we open has the flag already; what we ourselves were given by mistake may not.
    let (first, last): (libc::c_long, libc::c_long) = (3, libc::c_long::from(u32::MAX));
    let mark = libc::c_long::from(libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: sets a flag on descriptors of this child only. Kernels before 5.11 refuse, which changes nothing.
    unsafe { libc::syscall(libc::SYS_close_range, first, last, mark) };
    for place in 0..order.limit_count {
        // SAFETY: `place` is below the count of limits that the pointer leads to.
        let limit = unsafe { order.limits.add(place) };
        // SAFETY: as above, and they live as long as the order.
        let limit = unsafe { &*limit };
        // SAFETY: the pointer is to a live structure, which is only read. Resources are numbers that the C library gave.
        if unsafe { libc::setrlimit(limit.resource as _, &raw const limit.value) } < 0 {
            return Step::Setup;
        }
    }
    // SAFETY: a C string that lives as long as the order.
    if unsafe { libc::chdir(order.directory) } < 0 {
        return Step::Directory;
    }
    let mut mask = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to a local that the call fills.
    unsafe { libc::sigemptyset(mask.as_mut_ptr()) };
    // SAFETY: the set was made empty above; the mask is this child's own.
    if unsafe { libc::sigprocmask(libc::SIG_SETMASK, mask.as_ptr(), ptr::null_mut()) } < 0 {
        return Step::Setup;
    }
    // SAFETY: the arrays end in NULL and point to C strings; all live as long as the order.
    unsafe { libc::execve(order.program, order.args, order.env) };
    Step::Execute
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::process::{End, reap};
    use std::fs::File;
    use std::io::Read;
    use std::os::fd::AsFd;

    fn run(program: &str, text: &str, directory: &str, limits: &[Limit]) -> (Result<End, (Step, Option<i32>)>, String) {
        let null = File::open("/dev/null").unwrap();
        let (read, write) = crate::sys::fd::pipe().unwrap();
        let (mut args, mut env) = (Texts::default(), Texts::default());
        for word in ["sh", "-c", text] {
            args.push(&[word.as_bytes()]);
        }
        env.push(&[b"PATH=", b"/usr/bin:/bin"]);
        env.push(&[b"A=", b"b c"]);
        env.push(&[b"BAD=\0"]);
        let started = Starter::new(Arc::default()).start(&mut Script {
            program: &CString::new(program).unwrap(),
            args: &mut args,
            env: &mut env,
            directory: &CString::new(directory).unwrap(),
            standard: [null.as_fd(), write.as_fd(), write.as_fd()],
            limits,
        });
        drop(write);
        let mut printed = String::new();
        File::from(read).read_to_string(&mut printed).unwrap();
        let end = started
            .map(|pid| reap(pid).unwrap())
            .map_err(|(step, error)| (step, error.raw_os_error()));
        (end, printed)
    }

    #[test]
    fn a_script_has_what_it_was_given_and_nothing_else() {
        let script = "env | grep -v -e ^PWD -e ^_ -e ^SHLVL | sort; pwd; ls /proc/self/fd | tr '\\n' ' '; \
                      grep SigBlk /proc/self/status; set -- $(cat /proc/self/stat); [ $5 = $$ ] && echo own group; \
                      kill -PIPE $$";
        let (end, text) = run("/bin/sh", script, "/usr", &[]);
        // SIGPIPE is not ignored.
        let expected = End::Signal {
            number: libc::SIGPIPE,
            core: false,
        };
        assert_eq!(end, Ok(expected));
        // The last number is the directory that `ls` itself has open.
        let expected = "A=b c\nPATH=/usr/bin:/bin\n/usr\n0 1 2 3 SigBlk:\t0000000000000000\nown group\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn failures_name_their_step_and_leave_no_process() {
        let case = |program: &str, directory: &str| run(program, "", directory, &[]).0;
        assert_eq!(case("/no/such", "/"), Err((Step::Execute, Some(libc::ENOENT))));
        assert_eq!(case("/etc/passwd", "/"), Err((Step::Execute, Some(libc::EACCES))));
        assert_eq!(case("/bin/sh", "/no/such"), Err((Step::Directory, Some(libc::ENOENT))));
    }

    #[test]
    fn limits_bind_the_script_and_not_us() {
        let limits = [
            Limit::new(Limited::Files, 17).unwrap(),
            Limit::new(Limited::Core, 0).unwrap(),
            Limit::new(Limited::Cpu, 60).unwrap(),
        ];
        let (end, text) = run("/bin/sh", "ulimit -n; ulimit -c; ulimit -t", "/", &limits);
        assert_eq!((end, text.as_str()), (Ok(End::Code(0)), "17\n0\n60\n"));
        assert!(getrlimit(Resource::RLIMIT_NOFILE).unwrap().0 > 17);
    }
}

//! How CGI scripts are run: settings of a pool, and the text in which the arbiter hands them to the runner.
//!
//! Never here: running anything.

use super::resolve::Resolver;
use super::{Pool, Program, WorkerProtocol};
use std::fmt::Write;
use std::path::PathBuf;

/// Requests at once that one runner takes: as many as a worker may say it has slots.
const SCRIPTS_LIMIT: u32 = 2046;

/// The variable that a runner finds its order in.
pub const RUNNER_VARIABLE: &str = "RGUNICORN_RUNNER";

/// What becomes of processes that a script leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strays {
    /// They are killed when the script has exited.
    #[default]
    Kill,
    /// They live on until the runner ends.
    Keep,
}

/// What becomes of a request whose client has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnAbort {
    /// It is ended if it cannot have changed anything: GET, HEAD, OPTIONS.
    #[default]
    Auto,
    /// It runs on; its answer is thrown away.
    Ignore,
    /// The pipe that it writes to is closed.
    Close,
    /// It is sent SIGTERM, then SIGKILL.
    Term,
}

/// Limits of every script, see setrlimit(2); `None` = as the runner itself has it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptLimits {
    /// Seconds of processor time.
    pub cpu: Option<u64>,
    /// Bytes of address space.
    pub memory: Option<u64>,
    /// Open files.
    pub files: Option<u64>,
    /// Processes of its user.
    pub processes: Option<u64>,
    /// Bytes of a file it writes.
    pub file_size: Option<u64>,
    /// Bytes of a core dump.
    pub core: Option<u64>,
}

/// How a pool's CGI scripts are run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scripts {
    /// What becomes of processes that a script leaves behind.
    pub strays: Strays,
    /// What becomes of a request whose client has left.
    pub on_abort: OnAbort,
    /// Scripts get Authorization and Proxy-Authorization.
    pub pass_auth: bool,
    /// Scripts must belong to the pool's user or to root, and not be writable by others.
    pub check_owner: bool,
    /// Limits of every script.
    pub limits: ScriptLimits,
}

impl Pool {
    /// True if its requests carry Authorization and Proxy-Authorization: to scripts only if that is wished, since
    /// everybody on the machine may see a process's environment who may see the process (RFC 3875 §9.2).
    #[must_use]
    pub fn passes_auth(&self) -> bool {
        self.protocol != WorkerProtocol::Cgi || self.scripts.pass_auth
    }

    /// Processes that run even with nothing to do, runners included.
    #[must_use]
    pub fn least_processes(&self) -> usize {
        match self.program {
            Program::Connect(_) => 0,
            _ if self.protocol == WorkerProtocol::Cgi => usize::from(self.workers_min > 0),
            Program::Exec(_) | Program::Wsgi(_) | Program::Scripts => {
                usize::try_from(self.workers_min).unwrap_or(usize::MAX)
            }
        }
    }

    /// Requests at once that its runner takes.
    #[must_use]
    pub fn script_slots(&self) -> u32 {
        self.workers.clamp(1, SCRIPTS_LIMIT)
    }
}

/// What a runner is told when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunnerOrder {
    /// Scripts at once.
    pub slots: u32,
    /// How they are run.
    pub scripts: Scripts,
    /// The program that answers every request, with its arguments; empty = what each request's SCRIPT_FILENAME names.
    pub exec: Vec<String>,
    /// Where a program with arguments runs.
    pub chdir: PathBuf,
}

impl RunnerOrder {
    /// What the runner of `pool` is told.
    #[must_use]
    pub fn of(pool: &Pool) -> Self {
        let exec = match &pool.program {
            Program::Exec(words) => words.clone(),
            Program::Connect(_) | Program::Wsgi(_) | Program::Scripts => Vec::new(),
        };
        Self {
            slots: pool.script_slots(),
            scripts: Scripts {
                check_owner: pool.rights.check_owner,
                ..pool.scripts
            },
            exec,
            chdir: pool.chdir.clone(),
        }
    }

    /// The order as text: `name value` and a line end, line ends in values doubled as `\n`.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let mut put = |name: &str, value: &str| {
            let value = value.replace('\\', "\\\\").replace('\n', "\\n");
            // Writing to a string does not fail.
            let _ = writeln!(text, "{name} {value}");
        };
        put("slots", &self.slots.to_string());
        put(
            "strays",
            if self.scripts.strays == Strays::Keep {
                "keep"
            } else {
                "kill"
            },
        );
        let on_abort = match self.scripts.on_abort {
            OnAbort::Auto => "auto",
            OnAbort::Ignore => "ignore",
            OnAbort::Close => "close",
            OnAbort::Term => "term",
        };
        put("on_abort", on_abort);
        put("pass_auth", if self.scripts.pass_auth { "yes" } else { "no" });
        put("check_owner", if self.scripts.check_owner { "yes" } else { "no" });
        for (name, limit) in self.scripts.limits.named() {
            if let Some(limit) = limit {
                put(name, &limit.to_string());
            }
        }
        put("chdir", &self.chdir.display().to_string());
        for word in &self.exec {
            put("exec", word);
        }
        text
    }

    /// Reads what [`Self::encode`] has written; `None` for anything else.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut order = Self::default();
        for line in text.split_terminator('\n') {
            let (name, value) = line.split_once(' ')?;
            let value = unescape(value);
            match name {
                "slots" => order.slots = value.parse().ok().filter(|slots| (1..=SCRIPTS_LIMIT).contains(slots))?,
                "strays" => order.scripts.strays = strays(&value)?,
                "on_abort" => order.scripts.on_abort = on_abort(&value)?,
                "pass_auth" => order.scripts.pass_auth = value == "yes",
                "check_owner" => order.scripts.check_owner = value == "yes",
                "chdir" => order.chdir = value.into(),
                "exec" => order.exec.push(value),
                limit => *order.scripts.limits.by_name(limit)? = Some(value.parse().ok()?),
            }
        }
        (order.slots > 0).then_some(order)
    }
}

impl ScriptLimits {
    fn named(&self) -> [(&'static str, Option<u64>); 6] {
        [
            ("cpu", self.cpu),
            ("memory", self.memory),
            ("files", self.files),
            ("processes", self.processes),
            ("file_size", self.file_size),
            ("core", self.core),
        ]
    }

    fn by_name(&mut self, name: &str) -> Option<&mut Option<u64>> {
        Some(match name {
            "cpu" => &mut self.cpu,
            "memory" => &mut self.memory,
            "files" => &mut self.files,
            "processes" => &mut self.processes,
            "file_size" => &mut self.file_size,
            "core" => &mut self.core,
            _ => return None,
        })
    }
}

fn unescape(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => plain.push(if letters.next() == Some('n') { '\n' } else { '\\' }),
            letter => plain.push(letter),
        }
    }
    plain
}

fn strays(word: &str) -> Option<Strays> {
    match word {
        "kill" => Some(Strays::Kill),
        "keep" => Some(Strays::Keep),
        _ => None,
    }
}

fn on_abort(word: &str) -> Option<OnAbort> {
    match word {
        "auto" => Some(OnAbort::Auto),
        "ignore" => Some(OnAbort::Ignore),
        "close" => Some(OnAbort::Close),
        "term" => Some(OnAbort::Term),
        _ => None,
    }
}

impl Resolver<'_> {
    /// How CGI scripts are run.
    pub(super) fn scripts(&self) -> Scripts {
        let values = &*self.values;
        let limit = |name: &str| Some(values.number(name)).filter(|limit| *limit > 0);
        // Rounded up: no time at all would kill every script.
        let cpu = values.duration("rlimit_cpu");
        let seconds = cpu.as_secs() + u64::from(cpu.subsec_nanos() > 0);
        Scripts {
            strays: strays(values.text("strays")).unwrap_or_default(),
            on_abort: on_abort(values.text("on_abort")).unwrap_or_default(),
            pass_auth: values.flag("pass_auth"),
            check_owner: values.flag("check_owner"),
            limits: ScriptLimits {
                cpu: Some(seconds).filter(|seconds| *seconds > 0),
                memory: limit("rlimit_as"),
                files: limit("rlimit_nofile"),
                processes: limit("rlimit_nproc"),
                file_size: limit("rlimit_fsize"),
                core: Some(values.number("rlimit_core")),
            },
        }
    }

    /// Reports what plain CGI cannot do. The program is there: `exec`, or the scripts of a site.
    pub(super) fn check_cgi(&mut self, program: &Program) {
        let needs = "CGI scripts are started by rgunicorn itself";
        match program {
            Program::Connect(_) => self.refuse(
                "protocol",
                0,
                "must be fastcgi with `connect`",
                "servers are reached over FastCGI only",
            ),
            Program::Wsgi(_) => self.refuse("protocol", 0, "needs `exec`", "WSGI apps have their own workers"),
            Program::Exec(_) | Program::Scripts => {}
        }
        if self.values.flag("pipe_stdio") {
            self.refuse("pipe_stdio", 0, "contradicts protocol cgi", "leave one of them out");
        }
        if self.values.flag("stream_request") {
            let advice = format!("{needs}, and get requests that are whole");
            self.refuse("stream_request", 0, "contradicts protocol cgi", &advice);
        }
        if self.values.number("workers") > u64::from(SCRIPTS_LIMIT) {
            let why = format!("must be at most {SCRIPTS_LIMIT} with protocol cgi");
            self.refuse("workers", 0, &why, "it is the number of scripts that run at once");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn orders() -> impl Strategy<Value = RunnerOrder> {
        let limits = proptest::collection::vec(proptest::option::of(any::<u64>()), 6);
        let exec = proptest::collection::vec("[^\0]{0,12}", 0..3);
        (
            1..=SCRIPTS_LIMIT,
            any::<(bool, bool)>(),
            0..4_usize,
            limits,
            exec,
            "[^\0]{0,12}",
        )
            .prop_map(|(slots, (keep, pass_auth), choice, limits, exec, chdir)| {
                let mut order = RunnerOrder {
                    slots,
                    exec,
                    chdir: chdir.into(),
                    ..RunnerOrder::default()
                };
                let choices = [OnAbort::Auto, OnAbort::Ignore, OnAbort::Close, OnAbort::Term];
                order.scripts.on_abort = choices[choice];
                order.scripts.strays = if keep { Strays::Keep } else { Strays::Kill };
                order.scripts.pass_auth = pass_auth;
                let names = order.scripts.limits.named().map(|(name, _)| name);
                for (name, limit) in names.into_iter().zip(limits) {
                    *order.scripts.limits.by_name(name).unwrap() = limit;
                }
                order
            })
    }

    proptest! {
        #[test]
        fn a_runner_reads_what_it_was_told(order in orders()) {
            prop_assert_eq!(RunnerOrder::decode(&order.encode()), Some(order));
        }
    }

    #[test]
    fn nonsense_is_no_order() {
        for text in [
            "",
            "slots 0\n",
            "slots 1\nx 2\n",
            "slots 1\ncpu x\n",
            "slots",
            "slots 1\nstrays y\n",
        ] {
            assert_eq!(RunnerOrder::decode(text), None, "{text:?}");
        }
    }
}

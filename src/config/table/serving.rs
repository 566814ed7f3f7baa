//! What is served, by whom, and with which rights.

use super::*;

/// The rows.
#[rustfmt::skip] // One property per line reads like a table; rustfmt would break short rows differently from long ones.
pub(super) const SETTINGS: &[Setting] = &[
    // ---- Configuration
    row(Section::Config, "config", path("a file, or python:MODULE"), r#""""#)
        .flags(&["--config", "-c"])
        .differs("a file named *.toml is read as TOML; `python:MODULE` is imported again by a reload")
        .because("with a WSGI app, gunicorn.conf.py is read if there is one, as by Gunicorn")
        .doc("File with settings, in TOML or in Python",
             "A name that ends in .toml is TOML; its keys are the names of these settings.\n\
              Everything else is a configuration file of Gunicorn, and `python:MODULE` is one that is imported.\n\
              Without it, `gunicorn.conf.py` in the directory of the start is read for a WSGI app.\n\
              The command line wins over GUNICORN_CMD_ARGS, that over the file, the file over other variables.\n\
              A list given on the command line replaces the file's list.\n\
              The file is read again on reload; if it is wrong then, the old configuration keeps serving."),

    // ---- Listening
    row(Section::Sockets, "bind", list("HOST, HOST:PORT, :PORT, [V6]:PORT, unix:PATH or fd://N"), r#"["127.0.0.1:8000"]"#)
        .flags(&["--bind", "-b"])
        .variable("PORT", "0.0.0.0:{}")
        .same()
        .doc("Address to listen on; may be repeated",
             "Without a port, 8000 is used; `:PORT` listens on all IPv4 addresses.\n\
              Port 0 lets the system choose; the log says which.\n\
              A host name is resolved once, to its first IPv4 address if it has one."),
    row(Section::Sockets, "backlog", number("connections", 0, 2_147_483_647), "2048")
        .flags(&["--backlog"])
        .same()
        .doc("Connections the kernel keeps waiting for us",
             "The kernel caps it at net.core.somaxconn."),
    row(Section::Sockets, "reuse_port", Kind::Flag, "false")
        .flags(&["--reuse-port"])
        .differs("sets the option on the arbiter's own listeners")
        .doc("Set SO_REUSEPORT on TCP listeners",
             "Several rgunicorn processes can then listen on the same address."),

    // ---- The app
    row(Section::App, "wsgi_app", text("MODULE, MODULE:NAME or MODULE:FACTORY()"), r#""""#)
        .same()
        .doc("WSGI app to serve",
             "On the command line it is the first plain word.\n\
              Without a name, `application` is taken; a call may have literal arguments."),
    row(Section::App, "python", path("an interpreter"), r#""""#)
        .flags(&["--python"])
        .because("the interpreter of the active virtual environment is the one that has the app's packages")
        .doc("Python interpreter for WSGI apps and for gunicorn.conf.py",
             "The default is $VIRTUAL_ENV/bin/python, else python3 beside rgunicorn itself, else python3 on PATH.\n\
              CPython 3.8 or newer."),
    row(Section::App, "worker_class", text("sync, gthread or gevent"), r#""sync""#)
        .flags(&["--worker-class", "-k"])
        .differs("sync, gthread and gevent, by all their names; no others")
        .doc("How a worker serves a WSGI app",
             "`sync` takes one request at a time; with more than one of `threads` it is `gthread`.\n\
              `gthread` has `threads` threads, `gevent` has `worker_connections` greenlets."),
    row(Section::App, "pythonpath", comma_list("directories"), "[]")
        .flags(&["--pythonpath"])
        .same()
        .doc("Directories put in front of Python's import path", ""),
    row(Section::App, "preload_app", Kind::Flag, "false")
        .flags(&["--preload"])
        .differs("a reload (HUP) imports the app again")
        .doc("Import the WSGI app once and fork workers from there",
             "Workers then share its memory."),
    row(Section::App, "reload", Kind::Flag, "false")
        .flags(&["--reload"])
        .differs("at the start it waits for any app that cannot be imported, not only for syntax errors")
        .doc("Replace workers when source files change",
             "For development, with a WSGI app."),
    row(Section::App, "reload_engine", Kind::Choice(&["auto", "poll", "inotify"]), r#""auto""#)
        .flags(&["--reload-engine"])
        .differs("inotify needs no package")
        .doc("How changes of source files are noticed", ""),
    row(Section::App, "reload_extra_files", list("paths, or patterns such as conf/*.yaml"), "[]")
        .flags(&["--reload-extra-file"])
        .same()
        .doc("Other file that `reload` watches; may be repeated", ""),
    row(Section::App, "exec", Kind::Command, "[]")
        .flags(&["--exec"])
        .because("there is no program that everybody has")
        .doc("Program to run as worker",
             "On the command line its arguments follow as plain words; those that start with `-` go after `--`.\n\
              In the file a text is the program alone, and a list is the program with its arguments.\n\
              No shell is involved: write `[\"sh\", \"-c\", \"...\"]` for one.\n\
              A name without a slash is looked up on the worker's PATH.\n\
              A relative path starts from `chdir`, because the program is started there.\n\
              Without an app, `root`, `connect`, or sites and pools of a file, it must be set."),
    row(Section::App, "protocol", Kind::Choice(&["auto", "fastcgi", "pipe", "cgi"]), r#""auto""#)
        .flags(&["--protocol"])
        .differs("says how workers are spoken to; clients always speak HTTP")
        .because("whoever writes a program need not know the words for what it speaks")
        .doc("How workers are spoken to",
             "`auto` offers the program both a FastCGI socket on descriptor 0 and the pipe channel on descriptor 3, and sees which it uses.\n\
              A program that prints a CGI response and exits instead is a CGI script, started for each request from then on.\n\
              Programs named `php-cgi` or `*.fcgi` are taken for FastCGI at once, and with `cgi` nothing is tried out."),
    row(Section::App, "pipe_stdio", Kind::Flag, "false")
        .flags(&["--pipe-stdio"])
        .because("programs print to standard output by accident, and that would break the channel")
        .doc("Speak the pipe protocol on standard input and output",
             "For languages that cannot use descriptor 3.\n\
              It implies `protocol = \"pipe\"`."),
    row(Section::App, "connect", list("unix:PATH or tcp:HOST:PORT"), "[]")
        .flags(&["--connect"])
        .because("there is no server that everybody has")
        .doc("Existing FastCGI server to use; may be repeated",
             "Nothing is started then; `workers` is the number of connections to each server.\n\
              A host name is resolved once."),
    row(Section::App, "param", list("NAME=VALUE"), "[]")
        .flags(&["--param"])
        .because("the request says what programs need, but for php-cgi")
        .doc("Request variable to add, NAME=VALUE; may be repeated",
             "It is added to the variables of every request and overrides one of the same name.\n\
              FastCGI apps that look for a script need `SCRIPT_FILENAME` and perhaps `DOCUMENT_ROOT`."),
    row(Section::App, "chdir", path("a directory"), r#""""#)
        .flags(&["--chdir"])
        .same()
        .doc("Working directory of workers",
             "The default is the directory the program was started in."),
    row(Section::App, "raw_env", list("NAME=VALUE"), "[]")
        .flags(&["--env", "-e"])
        .same()
        .doc("Environment variable of workers, NAME=VALUE; may be repeated", ""),
    row(Section::App, "clear_env", Kind::Flag, "false")
        .flags(&["--clear-env"])
        .because("an app started by hand expects the environment it was started in")
        .doc("Start workers with an empty environment",
             "Only `pass_env` and `raw_env` are then in it.\n\
              Scripts usually want PATH among `pass_env`.\n\
              Pools of a table, and those that `root` makes, start with a clear one unless it is set."),
    row(Section::App, "pass_env", comma_list("names of variables"), "[]")
        .flags(&["--pass-env"])
        .because("a cleared environment is meant to be empty")
        .doc("Variables that pass `clear_env`",
             "For pools of a table, and those that `root` makes, it is PATH unless it is set."),
    row(Section::App, "stream_request", Kind::Flag, "false")
        .flags(&["--stream-request"])
        .because("a client that sends slowly would hold a worker")
        .doc("Hand requests over before their body is whole",
             "For apps that read the body as it arrives.\n\
              Slow uploads then hold a worker, and a broken upload reaches the app.\n\
              A FastCGI worker would take part of a body for all of it: when the rest will never come, it is killed and replaced.\n\
              Chunked bodies reach FastCGI workers when they are whole, since these want to know the length."),

    // ---- Sites
    row(Section::Sites, "root", path("a directory"), r#""""#)
        .flags(&["--root"])
        .because("there is no directory that everybody has")
        .doc("Directory whose files are served",
             "Alone it serves a site as it lies on disk: files, PHP with the php-cgi on PATH, and scripts with one of `script_suffixes` or under /cgi-bin/.\n\
              With php-cgi in `exec`, or with `connect`, `.php` files are run there and other files are sent.\n\
              With any other app, files that exist are sent, and everything else goes to the app.\n\
              Hidden files, backups and sources of scripts are never sent."),
    row(Section::Sites, "index", comma_list("file names"), r#"["index.php", "index.html", "index.htm", "index.cgi"]"#)
        .flags(&["--index"])
        .because("sites have one of these; what makes pages goes before what was once a page")
        .doc("Files that stand for their directory; the first that exists counts", ""),
    row(Section::Sites, "fallback", text("a path below `root`, or the word app"), r#""""#)
        .flags(&["--fallback"])
        .because("only its author knows whether a site has a front controller")
        .doc("What answers for paths that name no file",
             "A path such as `/index.php` is a front controller; the request's own path is in REQUEST_URI.\n\
              `app` gives them to the app, which is the default for apps other than php-cgi and those of `connect`.\n\
              Otherwise they get 404."),
    row(Section::Sites, "symlinks", Kind::Choice(&["inside", "owner", "follow"]), r#""owner""#)
        .flags(&["--symlinks"])
        .because("a link to somebody else's files is how one tenant reads another's")
        .doc("Which symbolic links below `root` are followed",
             "`inside`: those that stay in it.\n\
              `owner`: also links out of it that belong to the owner of what they lead to.\n\
              `follow`: all."),
    row(Section::Sites, "script_suffixes", comma_list("endings of names"), r#"[".cgi", ".pl", ".py", ".rb", ".sh"]"#)
        .flags(&["--script-suffixes"])
        .because("these are the usual endings of CGI scripts")
        .doc("Endings of files that are run as CGI scripts",
             "It counts where `root` alone is served; there, `.php` files and all in /cgi-bin/ are run too."),
    row(Section::Sites, "types", Kind::Map { of: "ending = content type" }, "{}")
        .because("the usual ones are known, and what is not known is for its author to say")
        .doc("Content types of files, beside the usual ones",
             "`{ wasm = \"application/wasm\", \"*\" = \"text/plain\" }`: by what follows the last dot of a name; `*` is for files of no known type.\n\
              Sites add their own to these."),
    row(Section::Sites, "served_suffixes", comma_list("endings of names"), "[]")
        .flags(&["--served-suffixes"])
        .because("the source of a script may hold passwords")
        .doc("Endings of scripts that are sent as they are",
             "For downloads such as `install.sh`: files with these endings are sent although sources of scripts are not.\n\
              An ending that the site runs cannot be among them."),
    row(Section::Sites, "precompressed", Kind::Flag, "true")
        .flags(&["--no-precompressed"])
        .because("who puts style.css.br beside style.css wants it sent")
        .doc("Send compressed siblings of files",
             "`a.css.br`, `a.css.zst` and `a.css.gz` in the place of `a.css`, to clients that accept them."),
    row(Section::Sites, "sendfile_roots", list("directories"), "[]")
        .flags(&["--sendfile-root"])
        .because("an app that repeats a name given by its client would send any file")
        .doc("Where files lie that apps may name by X-Sendfile",
             "The server sends a file in the place of a response with this field, if it lies below one of these directories.\n\
              Without any, the field passes through, to a proxy that knows it."),
    row(Section::Sites, "accel_roots", Kind::Map { of: "start of a path = directory" }, "{}")
        .because("only its author knows which paths an app names")
        .doc("What apps may name by X-Accel-Redirect",
             "`{ \"/protected/\" = \"/srv/private\" }`: the server sends the file /srv/private/a/b in the place of a response that names /protected/a/b, as nginx does with `internal` and `alias`.\n\
              Without any, the field passes through, to a proxy that knows it."),
    row(Section::Sites, "include", list("paths, or patterns such as conf.d/*.toml"), "[]")
        .because("one file is enough for one site")
        .doc("More files, with [pool.NAME] and [[site]] tables only",
             "Relative ones start from the directory of the file that names them.\n\
              A file with a mistake is reported and left out as a whole; the others are served."),

    // ---- CGI scripts
    row(Section::Scripts, "strays", Kind::Choice(&["kill", "keep"]), r#""kill""#)
        .flags(&["--strays"])
        .because("what a script forgets would otherwise pile up until the machine is full")
        .doc("What becomes of processes that a CGI script leaves running",
             "`kill` ends its process group, and what it started in other groups, when it exits; `keep` lets them live until the pool ends.\n\
              The log names them either way.\n\
              The client waits for them in neither case."),
    row(Section::Scripts, "on_abort", Kind::Choice(&["auto", "ignore", "close", "term"]), r#""auto""#)
        .flags(&["--on-abort"])
        .because("a page nobody waits for is not worth its time, and a change must not be broken off half way")
        .doc("What becomes of a request whose client has left",
             "`auto` ends GET, HEAD and OPTIONS, and lets other methods run on; what they still send is thrown away; a WSGI app is ended at its next piece of the body, as by Gunicorn.\n\
              `ignore` lets all run on, `close` closes the pipe that a CGI script writes to, `term` sends it SIGTERM and 2 s later SIGKILL.\n\
              For FastCGI and pipe workers, `close` and `term` both do at once what `auto` does for GET: close the connection, or send ABORT; after `term`, a FastCGI worker that goes on for 2 s more is replaced."),
    row(Section::Scripts, "pass_auth", Kind::Flag, "false")
        .flags(&["--pass-auth"])
        .because("RFC 3875 §9.2: other processes of its user can read a script's environment, passwords in it too")
        .doc("Give CGI scripts the Authorization header",
             "As HTTP_AUTHORIZATION, and Proxy-Authorization likewise.\n\
              Workers of other protocols always get them."),
    row(Section::Scripts, "rlimit_cpu", Kind::Duration { zero: "as inherited" }, r#""0s""#)
        .flags(&["--rlimit-cpu"])
        .because("`timeout` ends what hangs; this one ends what spins")
        .doc("Processor time of a CGI script",
             "It gets SIGXCPU then, and SIGKILL 2 s later.\n\
              Counted in whole seconds."),
    row(Section::Scripts, "rlimit_as", Kind::Size { zero: "as inherited" }, "0")
        .flags(&["--rlimit-as"])
        .because("some languages reserve far more addresses than memory")
        .doc("Address space of each process of a CGI script", ""),
    row(Section::Scripts, "rlimit_nofile", number("files, 0 = as inherited", 0, 1_000_000), "0")
        .flags(&["--rlimit-nofile"])
        .because("whoever started us has chosen one")
        .doc("Open files of each process of a CGI script", ""),
    row(Section::Scripts, "rlimit_nproc", number("processes, 0 = as inherited", 0, 1_000_000), "0")
        .flags(&["--rlimit-nproc"])
        .because("the kernel counts all processes of the user, so that only one who runs nothing else can be limited well")
        .doc("Processes of the user of CGI scripts",
             "It does not bind root."),
    row(Section::Scripts, "rlimit_fsize", Kind::Size { zero: "as inherited" }, "0")
        .flags(&["--rlimit-fsize"])
        .because("whoever started us has chosen one")
        .doc("Largest file that a CGI script may write", ""),
    row(Section::Scripts, "rlimit_core", Kind::Size { zero: "none" }, "0")
        .flags(&["--rlimit-core"])
        .because("core files would lie beside the scripts, for everybody to download")
        .doc("Largest core file of a CGI script", ""),

    // ---- Workers
    row(Section::Workers, "workers", number("processes", 0, 4096), "1")
        .flags(&["--workers", "-w"])
        .variable("WEB_CONCURRENCY", "{}")
        .same()
        .doc("Worker processes",
             "With `connect`: connections to each server.\n\
              In a file also a table, `{ min = 0, max = 8, idle = \"60s\" }`: `min` is `min_workers`, `max` is this, `idle` is `idle_timeout`."),
    row(Section::Workers, "min_workers", number("processes", 0, 4096), "4096")
        .flags(&["--min-workers"])
        .because("as many as `workers`: all run all the time")
        .doc("Workers that run even with nothing to do",
             "More are started up to `workers` while requests wait; 0 means that the first request starts one.\n\
              More than `workers` means as many as that."),
    row(Section::Workers, "idle_timeout", Kind::Duration { zero: "never" }, r#""60s""#)
        .flags(&["--idle-timeout"])
        .because("people read a page for about as long, and then ask for the next")
        .doc("Idle time after which a worker beyond `min_workers` stops", ""),
    row(Section::Workers, "max_workers", number("processes, 0 = no limit", 0, 1_000_000), "0")
        .flags(&["--max-workers"])
        .because("what a machine can bear is not known here")
        .doc("Worker processes of all pools together",
             "Pools whose size follows their requests grow no further then.\n\
              A worker of another such pool that is idle is stopped for a pool that needs one; while there is none, requests wait, up to `queue_timeout`.\n\
              Pools of one size and `min` count, and must fit.\n\
              Replacements run beside the workers they replace for a moment, and so do all workers after a reload."),
    row(Section::Workers, "threads", number("requests at once, 0 = 1", 0, 2046), "1")
        .flags(&["--threads"])
        .differs("an app that says how many when it is ready overrides it")
        .doc("Requests each worker is given at once",
             "More than 1 is only for workers that can take them: several FastCGI connections, or pipe requests by id."),
    row(Section::Workers, "worker_connections", number("greenlets", 0, 1_000_000), "1000")
        .flags(&["--worker-connections"])
        .differs("requests at once per worker of class gevent, at least 1 and at most 2046; other classes ignore it, the front holds idle connections")
        .doc("Requests at once per worker of class gevent", ""),
    row(Section::Workers, "max_requests", number("requests, 0 = no end", 0, 1_000_000_000_000), "0")
        .flags(&["--max-requests"])
        .differs("the worker goes on until its replacement is ready, one after the other, so that it answers more under load")
        .doc("Requests after which a worker is replaced",
             "Its replacement is ready before it retires."),
    row(Section::Workers, "max_requests_jitter", number("requests", 0, 1_000_000_000_000), "0")
        .flags(&["--max-requests-jitter"])
        .same()
        .doc("Random extra requests, so that workers do not retire together", ""),
    row(Section::Workers, "max_lifetime", OFF, "0")
        .flags(&["--max-lifetime"])
        .because("an app that leaks nothing can run for ever")
        .doc("Age at which a worker is replaced",
             "Its replacement is ready before it retires."),
    row(Section::Workers, "max_memory", Kind::Size { zero: "no end" }, "0")
        .flags(&["--max-memory"])
        .because("only its author knows what an app needs")
        .doc("Resident memory at which a worker is replaced",
             "It finishes what it does first; `memory_max` is the limit that ends it at once.\n\
              Of a pool of scripts the worker is what starts them: for each of those there is `rlimit_as`."),
    row(Section::Workers, "renew", Kind::Choice(&["changed", "all"]), r#""changed""#)
        .flags(&["--renew"])
        .because("one tenant's edit must not restart another's app, and PHP files and scripts are read anew at each request")
        .doc("Which workers a reload replaces, where pools have names",
             "`changed`: those of pools whose settings have changed; the others go on with what they have in hand.\n\
              `all`: those of every pool, or of the pool in whose table it stands, so that an app's new code is loaded.\n\
              The one app of the command line or of gunicorn.conf.py is always reloaded with all its workers."),
    row(Section::Workers, "max_queue", number("requests", 0, 1_000_000), "2048")
        .flags(&["--max-queue"])
        .because("as many as Gunicorn lets wait in the kernel (`backlog`), and few enough to be served before clients leave")
        .doc("Requests that may wait for a worker",
             "One more is answered 503 with Retry-After."),
    row(Section::Workers, "pull", Kind::Flag, "true")
        .flags(&["--no-pull"])
        .because("it is faster, and only workers that ask for it are concerned")
        .doc("Let workers that can do so take requests themselves",
             "It saves a wake-up per request.\n\
              With `--no-pull` the front assigns every request."),
    row(Section::Workers, "lookahead", number("requests", 0, 1024), "64")
        .flags(&["--lookahead"])
        .because("a worker finds its next request at once, while the front turns; 0 gains nothing over assigning")
        .doc("Requests kept ready for pulling workers beyond their slots",
             "More raises throughput of very short requests; 0 gains nothing over assigning."),
    row(Section::Workers, "stop_signal", Kind::Choice(&["TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "WINCH"]), r#""TERM""#)
        .flags(&["--stop-signal"])
        .because("it ends every program that does not handle it")
        .doc("Signal that asks a worker to stop after its current work",
             "Some programs stop gently only on another one, Apache's helpers on USR1 for example."),

    // ---- Rights and limits of workers
    row(Section::Rights, "groups", comma_list("names or numbers"), "[]")
        .because("the fewer groups, the fewer files")
        .doc("Supplementary groups of workers",
             "Setting them needs root.\n\
              With `initgroups` they are added to those of the user."),
    row(Section::Rights, "nice", text("-20 to 19; empty = unchanged"), r#""""#)
        .because("workers are as important as what starts them")
        .doc("Scheduling priority of workers",
             "More is nicer to others; below 0 needs root."),
    row(Section::Rights, "chroot", path("a directory; empty = none"), r#""""#)
        .because("few programs find what they need in such a directory")
        .doc("Root directory of workers",
             "It needs root, and a program of its own in `exec`, not plain CGI.\n\
              `exec` and `chdir` are then paths within it; `chdir` is `/` unless it is set."),
    row(Section::Rights, "no_new_privileges", Kind::Flag, "false")
        .because("some apps send mail with a program that is setgid")
        .doc("Let workers not gain rights by setuid programs", ""),
    row(Section::Rights, "check_owner", Kind::Flag, "false")
        .because("one person's own files need no such check")
        .doc("Run scripts only if they are safe from other users",
             "They must belong to the pool's user or to root, and others must not be able to write to them.\n\
              It is on by default where a pool or site names a `user`."),
    row(Section::Rights, "memory_max", Kind::Size { zero: "no limit" }, "0")
        .because("limits depend on the machine")
        .doc("Memory of all workers of a pool together, by cgroup",
             "What goes beyond it is ended by the kernel.\n\
              These three limits need cgroup v2 with its controllers delegated to us, for example by `Delegate=yes` of systemd; where they are not, nothing starts, and an included file that sets one is left out."),
    row(Section::Rights, "cpu_max", text("a percentage of one CPU, such as 150%; empty = no limit"), r#""""#)
        .because("limits depend on the machine")
        .doc("CPU time of all workers of a pool together, by cgroup",
             "What goes beyond it waits.\n\
              It needs what `memory_max` needs."),
    row(Section::Rights, "pids_max", number("processes and threads, 0 = no limit", 0, 4_194_304), "0")
        .because("limits depend on the machine")
        .doc("Processes and threads of a pool together, by cgroup",
             "One more cannot be made, which programs report in words of their own.\n\
              It needs what `memory_max` needs."),
];

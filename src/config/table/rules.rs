//! Deadlines, the rules of HTTP, logs, and the process itself.

use super::*;

/// The rows.
#[rustfmt::skip] // One property per line reads like a table; rustfmt would break short rows differently from long ones.
pub(super) const SETTINGS: &[Setting] = &[
    // ---- Deadlines
    row(Section::Deadlines, "timeout", OFF, r#""30s""#)
        .flags(&["--timeout", "-t"])
        .differs("limits the silence of the app about one request, whatever the worker; the client gets 504")
        .doc("Time for the app to go on with its answer to a request",
             "It counts the silence of the app: each part of its response starts it over, and it stands still while the client is the slower one.\n\
              The client then gets 504, or a cut connection if it has a part of the response; the log says what the worker was doing, and the worker is replaced.\n\
              A WSGI app's worker is also replaced if it is still busy that long after it has answered, in `close()` or a hook: counted in whole seconds, at least two."),
    row(Section::Deadlines, "total_timeout", OFF, "0")
        .flags(&["--total-timeout"])
        .because("event streams and large downloads go on for as long as they like")
        .doc("Time for the app to end its answer to a request",
             "It counts everything from the moment when a worker has the request: also what the app has sent meanwhile, and what a slow client has held up.\n\
              What follows is the same as after `timeout`."),
    row(Section::Deadlines, "graceful_timeout", Kind::Duration { zero: "at once" }, r#""30s""#)
        .flags(&["--graceful-timeout"])
        .same()
        .doc("Time to finish requests on stop and on reload", ""),
    row(Section::Deadlines, "keepalive", Kind::Duration { zero: "no keep-alive" }, r#""5s""#)
        .flags(&["--keep-alive"])
        .differs("with every worker class; 2 s with a WSGI app as there, 5 s without one")
        .because("it outlasts the pause between a page and what it links; Gunicorn's 2 s protect its workers")
        .doc("Idle time of a client connection between requests", ""),
    row(Section::Deadlines, "boot_timeout", OFF, r#""60s""#)
        .flags(&["--boot-timeout"])
        .because("large apps import for half a minute")
        .doc("Time for a worker to become ready", ""),
    row(Section::Deadlines, "header_timeout", OFF, r#""10s""#)
        .flags(&["--header-timeout"])
        .because("a head is one or two packets; slower than this is a fault or an attack")
        .doc("Time for a request head to arrive",
             "The client then gets 408."),
    row(Section::Deadlines, "body_timeout", OFF, r#""30s""#)
        .flags(&["--body-timeout"])
        .because("between two reads only, so that slow lines pass and silent ones do not")
        .doc("Time between two reads of a request body",
             "The client then gets 408."),
    row(Section::Deadlines, "queue_timeout", OFF, r#""30s""#)
        .flags(&["--queue-timeout"])
        .because("people have left by then; a longer queue only delays those who wait")
        .doc("Time a request may wait for a worker",
             "The client then gets 503 with Retry-After."),
    row(Section::Deadlines, "send_timeout", OFF, r#""60s""#)
        .flags(&["--send-timeout"])
        .because("a client that takes nothing for a minute has gone")
        .doc("Time between two writes to a client that does not read",
             "The connection is then closed."),

    // ---- HTTP limits and rules
    row(Section::Http, "limit_request_line", UNLIMITED, "4094")
        .flags(&["--limit-request-line"])
        .differs("values above 8190 are honoured; a longer line gets 414")
        .doc("Longest request line, without its line end", ""),
    row(Section::Http, "limit_request_fields", number("fields, 0 = 32768", 0, 32_768), "100")
        .flags(&["--limit-request-fields"])
        .same()
        .doc("Most header fields of a request",
             "More get 431."),
    row(Section::Http, "limit_request_field_size", UNLIMITED, "8190")
        .flags(&["--limit-request-field-size", "--limit-request-field_size"])
        .differs("0 is unlimited, as Gunicorn's manual says but its code does not do")
        .doc("Longest header field: name, value and line end",
             "A longer one gets 431.\n\
              Unlimited lets one client take any amount of memory."),
    row(Section::Http, "limit_request_body", UNLIMITED, r#""1g""#)
        .flags(&["--limit-request-body"])
        .because("a body must fit on the disk of a small machine; little of it is in memory")
        .doc("Largest request body",
             "A larger one gets 413.\n\
              Bodies wait in `tmp_upload_dir`, so this is also what one client can take there."),
    row(Section::Http, "max_connections", number("connections, 0 = unlimited", 0, 1_000_000), "0")
        .flags(&["--max-connections"])
        .because("the limit of open files is one already")
        .doc("Most open client connections",
             "Unlimited means as many as the limit of open files allows."),
    row(Section::Http, "max_connections_per_address", number("connections, 0 = unlimited", 0, 1_000_000), "0")
        .flags(&["--max-connections-per-address"])
        .because("many people come from one address, through one proxy or office")
        .doc("Most open connections from one client address",
             "Leave it off behind a proxy, which is one address."),
    row(Section::Http, "permit_obsolete_folding", Kind::Flag, "false")
        .flags(&["--permit-obsolete-folding"])
        .same()
        .doc("Accept header fields folded over several lines",
             "They are joined with one blank."),
    row(Section::Http, "strip_header_spaces", Kind::Flag, "false")
        .flags(&["--strip-header-spaces"])
        .same()
        .doc("Accept blanks between a field name and its colon",
             "Dangerous behind a proxy that reads such fields differently."),
    row(Section::Http, "permit_unconventional_http_method", Kind::Flag, "false")
        .flags(&["--permit-unconventional-http-method"])
        .same()
        .doc("Accept any token as method",
             "Otherwise 3 to 20 characters, no lower case, no `#`."),
    row(Section::Http, "permit_unconventional_http_version", Kind::Flag, "false")
        .flags(&["--permit-unconventional-http-version"])
        .same()
        .doc("Accept HTTP versions other than 1.0 and 1.1", ""),
    row(Section::Http, "casefold_http_method", Kind::Flag, "false")
        .flags(&["--casefold-http-method"])
        .same()
        .doc("Turn methods into upper case", ""),
    row(Section::Http, "server_header", text("the value; empty = no field"), r#""rgunicorn""#)
        .flags(&["--server-header"])
        .because("it tells who answered and no version, which would help attackers")
        .doc("Value of the Server field of responses", ""),

    row(Section::Http, "sendfile", Kind::Flag, "true")
        .flags(&["--no-sendfile"])
        .differs("true in a file turns it on")
        .variable("SENDFILE", "{} in y, yes, 1, true")
        .doc("Send files of WSGI apps with sendfile(2)", ""),
    row(Section::Http, "script_name", text("a path; empty = SCRIPT_NAME of the workers' environment"), r#""""#)
        .flags(&["--script-name"])
        .because("an app is at the root of its host unless told otherwise")
        .doc("Path that a WSGI app is mounted at", ""),

    // ---- Trusted peers
    row(Section::Trust, "forwarded_allow_ips", comma_list("addresses, networks (10.0.0.0/8) or *"), r#"["127.0.0.1", "::1"]"#)
        .flags(&["--forwarded-allow-ips"])
        .variable("FORWARDED_ALLOW_IPS", "{}")
        .differs("IPv4 peers of an IPv6 listener match IPv4 entries")
        .doc("Peers whose forwarding fields are believed",
             "Peers on unix sockets always are.\n\
              `*` believes everybody: only where nobody but the proxy can connect."),
    row(Section::Trust, "secure_scheme_headers", Kind::Map { of: "field name = value that means https" },
        r#"{ "X-FORWARDED-PROTOCOL" = "ssl", "X-FORWARDED-PROTO" = "https", "X-FORWARDED-SSL" = "on" }"#)
        .differs("field names in any case")
        .doc("Fields of trusted peers that say the client used https",
             "Two that contradict each other get 400."),
    row(Section::Trust, "forwarder_headers", comma_list("field names, or *"), r#"["SCRIPT_NAME", "PATH_INFO"]"#)
        .flags(&["--forwarder-headers"])
        .same()
        .doc("Fields with `_` in their name accepted from trusted peers",
             "SCRIPT_NAME names the place the app is mounted at: it becomes the variable, and PATH_INFO is the rest of the path.\n\
              A path that does not lie below it gets 500."),
    row(Section::Trust, "header_map", Kind::Choice(&["drop", "refuse", "dangerous"]), r#""drop""#)
        .flags(&["--header-map"])
        .same()
        .doc("What happens to other fields with `_` in their name",
             "`refuse` answers 400; `dangerous` lets them through, where `A_B` and `A-B` are one variable."),

    row(Section::Trust, "proxy_protocol", Kind::Choice(&["off", "v1", "v2", "auto"]), r#""off""#)
        .flags(&["--proxy-protocol"])
        .bare("auto")
        .same()
        .doc("PROXY protocol header at the start of connections",
             "`auto` takes both versions; the option without a word is `auto`."),
    row(Section::Trust, "proxy_allow_ips", comma_list("addresses, networks (10.0.0.0/8) or *"), r#"["127.0.0.1", "::1"]"#)
        .flags(&["--proxy-allow-from"])
        .differs("IPv4 peers of an IPv6 listener match IPv4 entries")
        .doc("Peers that may send a PROXY protocol header", ""),

    // ---- Buffers
    row(Section::Buffers, "body_buffer", Kind::Size { zero: "files only" }, r#""64k""#)
        .flags(&["--body-buffer"])
        .because("most forms fit; 10,000 waiting requests take 625 MiB at most")
        .doc("Request body kept in memory before it goes to a file", ""),
    row(Section::Buffers, "response_buffer", Kind::Size { zero: "" }, r#""256k""#)
        .flags(&["--response-buffer"])
        .because("most pages fit, so that no file is made for them")
        .doc("Response kept in memory for a client that reads slowly",
             "At least 4k."),
    row(Section::Buffers, "response_spool", Kind::Size { zero: "no file" }, r#""1g""#)
        .flags(&["--response-spool"])
        .because("a download may be large, and a worker is worth more than space on a disk")
        .doc("Response kept in a file beyond that",
             "Then the worker waits for the client."),
    row(Section::Buffers, "tmp_upload_dir", path("a directory"), r#""/tmp""#)
        .flags(&["--tmp-upload-dir"])
        .variable("TMPDIR", "{}")
        .differs("used for bodies; Gunicorn reads it nowhere")
        .because("every system has it and everybody may write there")
        .doc("Directory for request and response bodies",
             "Its files have no name and vanish with the request.\n\
              A default that cannot be written to gives way to /tmp, /var/tmp or /dev/shm."),

    // ---- Logging
    row(Section::Logging, "errorlog", path("a file, or - for standard error"), r#""-""#)
        .flags(&["--error-logfile", "--log-file"])
        .same()
        .doc("Error log file", ""),
    row(Section::Logging, "loglevel", Kind::Choice(&["debug", "info", "warning", "error", "critical"]), r#""info""#)
        .flags(&["--log-level"])
        .differs("an unknown word means info, as in Gunicorn, and the log says so")
        .doc("Least severity that is logged", ""),
    row(Section::Logging, "accesslog", path("a file, - for standard output, empty = off"), r#""""#)
        .flags(&["--access-logfile"])
        .same()
        .doc("Access log file", ""),
    row(Section::Logging, "access_log_format", text("a %-format"),
        r#""%(h)s %(l)s %(u)s %(t)s \"%(r)s\" %(s)s %(b)s \"%(f)s\" \"%(a)s\"""#)
        .flags(&["--access-logformat"])
        .differs("control characters are escaped; a broken format is an error at start")
        .doc("Format of access log lines",
             "h client, l `-`, u user, t time, r request line, m method, U path, q query, H protocol, s status, B and b bytes sent, f referer, a user agent.\n\
              T, M, D, L: time taken in seconds, milliseconds, microseconds, and seconds with fraction.\n\
              p worker's pid, {name}i request field, {name}o response field, {name}e request variable."),
    row(Section::Logging, "access_log_json", Kind::Flag, "false")
        .flags(&["--access-log-json"])
        .because("tools that read Gunicorn's log read the other form")
        .doc("Write access log lines as JSON objects",
             "`access_log_format` is then unused."),

    row(Section::Logging, "access_by_app", Kind::Flag, "false")
        .because("only a logger of the app's own makes it necessary")
        .doc("Let workers in Python write the access log",
             "It is on when `logger_class` or one of `logconfig` and `logconfig_json` is set."),
    row(Section::Logging, "logger_class", text("MODULE.CLASS; empty = ours"), r#""""#)
        .flags(&["--logger-class"])
        .same()
        .doc("Class of the logger in Python", ""),
    row(Section::Logging, "logconfig", path("a file; empty = none"), r#""""#)
        .flags(&["--log-config"])
        .same()
        .doc("Logging configuration in Python's INI form", ""),
    row(Section::Logging, "logconfig_json", path("a file; empty = none"), r#""""#)
        .flags(&["--log-config-json"])
        .same()
        .doc("Logging configuration in JSON", ""),
    row(Section::Logging, "capture_output", Kind::Flag, "false")
        .flags(&["--capture-output"])
        .same()
        .doc("Send standard output of workers to the error log", ""),
    row(Section::Logging, "syslog", Kind::Flag, "false")
        .flags(&["--log-syslog"])
        .same()
        .doc("Send logs to syslog too", ""),
    row(Section::Logging, "syslog_addr", text("udp://HOST:PORT, tcp://HOST:PORT or unix://PATH"), r#""udp://localhost:514""#)
        .flags(&["--log-syslog-to"])
        .same()
        .doc("Address of the syslog daemon",
             "A path may end in `#dgram` or `#stream`."),
    row(Section::Logging, "syslog_prefix", text("a name; empty = the program's"), r#""""#)
        .flags(&["--log-syslog-prefix"])
        .same()
        .doc("Name in the tag of syslog messages", ""),
    row(Section::Logging, "syslog_facility", text("a name such as user or local0"), r#""user""#)
        .flags(&["--log-syslog-facility"])
        .same()
        .doc("Facility of syslog messages", ""),
    row(Section::Logging, "disable_redirect_access_to_syslog", Kind::Flag, "false")
        .flags(&["--disable-redirect-access-to-syslog"])
        .same()
        .doc("Keep access lines out of syslog", ""),
    row(Section::Logging, "statsd_host", text("HOST:PORT or unix://PATH; empty = off"), r#""""#)
        .flags(&["--statsd-host"])
        .differs("an error with a traceback counts as gunicorn.log.exception, whichever call of the logger wrote it")
        .doc("Address of a statsd daemon that gets metrics",
             "A host name is resolved once."),
    row(Section::Logging, "statsd_prefix", text("a prefix"), r#""""#)
        .flags(&["--statsd-prefix"])
        .same()
        .doc("Text before the names of metrics", ""),
    row(Section::Logging, "dogstatsd_tags", text("NAME:VALUE,NAME:VALUE"), r#""""#)
        .flags(&["--dogstatsd-tags"])
        .same()
        .doc("Tags of metrics, in DogStatsD's form", ""),
    row(Section::Logging, "enable_backlog_metric", Kind::Flag, "false")
        .flags(&["--enable-backlog-metric"])
        .same()
        .doc("Report how many connections wait to be accepted", ""),

    // ---- Process
    row(Section::Process, "user", text("name or number; empty = unchanged"), r#""""#)
        .flags(&["--user", "-u"])
        .differs("the front drops to it too; the group defaults to the user's own")
        .doc("User of the front and of workers",
             "Changing it needs root."),
    row(Section::Process, "group", text("name or number; empty = the user's, else unchanged"), r#""""#)
        .flags(&["--group", "-g"])
        .differs("defaults to the group of `user`")
        .doc("Group of the front and of workers", ""),
    row(Section::Process, "initgroups", Kind::Flag, "false")
        .flags(&["--initgroups"])
        .same()
        .doc("Give workers the supplementary groups of `user`", ""),
    row(Section::Process, "umask", Kind::Octal, "0o000")
        .flags(&["--umask", "-m"])
        .differs("a text is always octal")
        .doc("Permission bits that new unix sockets do not get",
             "0 lets every local user connect; 0o007 only user and group.\n\
              In a [pool.NAME] table it is that of the pool's workers, which do not have it from the top level."),
    row(Section::Process, "pidfile", path("a file; empty = none"), r#""""#)
        .flags(&["--pid", "-p", "--pidfile"])
        .same()
        .doc("File that holds the arbiter's process id", ""),
    row(Section::Process, "proc_name", text("a name; empty = the program's"), r#""""#)
        .flags(&["--name", "-n"])
        .same()
        .doc("Name shown by ps", ""),
    row(Section::Process, "runtime_dir", path("a directory"), r#""""#)
        .flags(&["--runtime-dir"])
        .variable("XDG_RUNTIME_DIR", "{}")
        .at_start()
        .because("`/run` for root and `/tmp` for others is where such files belong, and where this user may write")
        .doc("Directory in which the private one for worker sockets is made",
             "The default is /run for root, and /tmp for others without XDG_RUNTIME_DIR; where that cannot be written to, /tmp, /var/tmp or /dev/shm."),
    row(Section::Process, "control_socket", path("a socket; empty = the default"), r#""""#)
        .flags(&["--control-socket"])
        .differs("without a WSGI app there is one only if it is set")
        .doc("Unix socket for commands of gunicornc",
             "The default is gunicorn.ctl in $XDG_RUNTIME_DIR, else in ~/.gunicorn."),
    row(Section::Process, "control_socket_mode", Kind::Octal, "0o600")
        .flags(&["--control-socket-mode"])
        .same()
        .doc("Permission bits of the control socket", ""),
    row(Section::Process, "control_socket_disable", Kind::Flag, "false")
        .flags(&["--no-control-socket"])
        .same()
        .doc("Have no control socket", ""),
    row(Section::Process, "daemon", Kind::Flag, "false")
        .flags(&["--daemon", "-D"])
        .same()
        .at_start()
        .doc("Detach from the terminal and run in the background", ""),
    row(Section::Process, "enable_stdio_inheritance", Kind::Flag, "false")
        .flags(&["--enable-stdio-inheritance", "-R"])
        .same()
        .at_start()
        .doc("With `daemon`: keep standard output and error",
             "Unless they are terminals."),
];

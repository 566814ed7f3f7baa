//! Reads the sources and fails on what the compiler does not check: who imports whom, where unsafe code may stand, how
//! long a file may be, and words that mark unfinished work.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::apps::root;

/// A layer, and what its files may import of ours and of others. `base` may import nothing of ours.
struct Layer {
    /// Top-level modules of `src/` it consists of.
    modules: &'static [&'static str],
    /// Top-level modules it may import, itself always included.
    ours: &'static [&'static str],
    /// True if it may use sockets, files, processes, threads or the environment from `std`.
    io: bool,
}

const LAYERS: &[Layer] = &[
    Layer {
        modules: &["base"],
        ours: &[],
        io: false,
    },
    Layer {
        modules: &["http1", "fastcgi", "pipe", "cgi", "proxy", "files", "command"],
        ours: &["base"],
        io: false,
    },
    Layer {
        modules: &["shims"],
        ours: &[],
        io: false,
    },
    Layer {
        modules: &["control"],
        ours: &["base"],
        io: false,
    },
    Layer {
        modules: &["plan"],
        ours: &["base"],
        io: false,
    },
    Layer {
        modules: &["config", "metrics"],
        ours: &["base"],
        io: true,
    },
    Layer {
        modules: &["sys"],
        ours: &["base"],
        io: true,
    },
    Layer {
        modules: &["logging"],
        ours: &["base", "sys"],
        io: true,
    },
    Layer {
        modules: &["front", "arbiter", "runner", "commander", "doctor"],
        ours: &[
            "base", "http1", "fastcgi", "pipe", "cgi", "proxy", "files", "command", "control", "plan", "config",
            "metrics", "sys", "logging", "shims",
        ],
        io: true,
    },
    Layer {
        modules: &["cli"],
        ours: &[
            "base",
            "config",
            "logging",
            "sys",
            "front",
            "arbiter",
            "runner",
            "commander",
            "doctor",
        ],
        io: true,
    },
    Layer {
        modules: &["main", "lib"],
        ours: &["cli"],
        io: true,
    },
];

/// External crates with one home: the crate, and the modules that may name it.
const HOMES: &[(&str, &[&str])] = &[
    ("httparse", &["http1"]),
    ("httpdate", &["front", "files"]),
    ("clap", &["cli"]),
    ("shlex", &["cli"]),
    ("serde_json", &["config", "arbiter", "command", "commander"]),
    ("toml", &["config"]),
    ("strsim", &["config"]),
    // config looks up users and groups by name, and knows the numbers of signals.
    ("nix", &["sys", "config"]),
    ("libc", &["sys", "config"]),
    ("socket2", &["sys"]),
    ("mio", &["front", "arbiter", "runner"]),
];

/// What modules without input and output may not name.
const IO: &[&str] = &[
    "std::fs",
    "std::process::Command",
    "std::process::Child",
    "std::process::Stdio",
    "std::process::exit",
    "std::process::abort",
    "std::thread",
    "std::env",
    "std::os::",
    "std::net::Tcp",
    "std::net::Udp",
    "std::io::stdin",
    "std::io::stdout",
    "std::io::stderr",
];

/// Words that mark unfinished work.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX:", "HACK", "todo!(", "unimplemented!("];

/// Lines of a source file, tests included.
const LONGEST: usize = 700;

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).expect("a directory of sources").flatten() {
        let path = entry.path();
        if path.is_dir() && !path.ends_with("target") {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|kind| kind == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

fn name(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

/// The top-level module a file of `src/` belongs to.
fn module(path: &Path) -> String {
    let inside = path.strip_prefix(root().join("src")).unwrap_or(path);
    let first = inside.iter().next().unwrap_or_default().to_string_lossy();
    first.trim_end_matches(".rs").to_owned()
}

/// The code of a file without its comments and without its tests, which stand at the end.
fn code(text: &str) -> Vec<(usize, &str)> {
    let tests = text.find("\n#[cfg(test)]\nmod ").unwrap_or(text.len());
    text[..tests]
        .lines()
        .enumerate()
        .map(|(number, line)| (number + 1, line.split("//").next().unwrap_or_default()))
        .collect()
}

/// True if `line` names `path` as a path: not as the tail of a longer word.
fn names(line: &str, path: &str) -> bool {
    line.match_indices(path).any(|(place, _)| {
        let before = line[..place].chars().next_back();
        !before.is_some_and(|letter| letter.is_alphanumeric() || letter == '_' || letter == ':')
    })
}

/// The top-level modules that `use crate::{a, b}` or `crate::a` names on this line.
fn imported(line: &str) -> Vec<String> {
    let word = |text: &str| {
        text.chars()
            .take_while(|c| c.is_alphanumeric() || *c == '_')
            .collect::<String>()
    };
    let mut found = Vec::new();
    for start in ["crate::", "rgunicorn::"] {
        for (place, _) in line.match_indices(start) {
            let rest = &line[place + start.len()..];
            if let Some(list) = rest.strip_prefix('{') {
                found.extend(list.trim_end_matches("};").split(',').map(|part| word(part.trim())));
            } else {
                found.push(word(rest));
            }
        }
    }
    // Constants and types of the crate's root are no modules.
    found.retain(|name| name.starts_with(char::is_lowercase) && name != "self");
    found
}

/// What is wrong with one file of `src/`.
fn faults(module: &str, text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let Some(layer) = LAYERS.iter().find(|layer| layer.modules.contains(&module)) else {
        return vec![format!("the module {module} is in no layer of this test")];
    };
    for (number, line) in code(text) {
        for import in imported(line) {
            if import != module && !layer.ours.contains(&import.as_str()) {
                faults.push(format!("{number}: {module} may not import {import}"));
            }
        }
        for (krate, homes) in HOMES {
            if names(line, &format!("{krate}::")) && !homes.contains(&module) {
                faults.push(format!("{number}: {krate} has its home in {homes:?}, not in {module}"));
            }
        }
        for path in IO.iter().filter(|path| !layer.io && names(line, path)) {
            faults.push(format!("{number}: {module} may not use {path}"));
        }
        let unsafe_code = line.contains("unsafe ") || line.contains("allow(unsafe_code)");
        if module != "sys" && unsafe_code {
            faults.push(format!("{number}: unsafe code stands in sys only"));
        }
    }
    faults
}

#[test]
fn every_module_imports_only_what_its_layer_may() {
    let mut found = Vec::new();
    let is_test = |path: &PathBuf| path.ends_with("tests.rs");
    for path in sources(&root().join("src")).into_iter().filter(|path| !is_test(path)) {
        let text = fs::read_to_string(&path).expect("a source file");
        let faults = faults(&module(&path), &text);
        found.extend(faults.into_iter().map(|fault| format!("{}:{fault}", name(&path))));
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_forbidden_import_is_seen() {
    let cases: &[(&str, &str, usize)] = &[
        ("base", "use crate::http1::conn;", 1),
        ("http1", "use crate::base::message;", 0),
        ("http1", "use crate::{base, fastcgi};", 1),
        ("front", "    crate::arbiter::run();", 1),
        ("plan", "use std::fs::File;", 1),
        ("plan", "use std::net::SocketAddr;", 0),
        ("front", "let x = libc::getpid();", 1),
        ("front", "unsafe { x() }", 1),
        ("sys", "unsafe { x() }", 0),
        ("front", "// crate::arbiter is the other shell", 0),
        ("unheard_of", "", 1),
    ];
    for (module, line, expected) in cases {
        assert_eq!(faults(module, line).len(), *expected, "{module}: {line}");
    }
}

#[test]
fn no_file_is_too_long_or_unfinished() {
    let mut found = Vec::new();
    for path in ["src", "tests"].iter().flat_map(|dir| sources(&root().join(dir))) {
        let text = fs::read_to_string(&path).expect("a source file");
        let lines = text.lines().count();
        if lines > LONGEST {
            found.push(format!("{}: {lines} lines, more than {LONGEST}", name(&path)));
        }
        if path.ends_with("tests/it/tidy.rs") {
            continue; // It has to name the words.
        }
        for (number, line) in text.lines().enumerate() {
            for word in UNFINISHED.iter().filter(|word| names(line, word)) {
                found.push(format!("{}:{}: {word}", name(&path), number + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

//! Files of a site: written where the server of a test will find them, and asked for in any spelling.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::apps::{app, c_cgi};
use super::client::{Address, Client, Response};
use super::server::Setup;

/// Writes a file with its mode, and the directories above it.
pub(crate) fn put(path: &Path, contents: impl AsRef<[u8]>, mode: u32) {
    fs::create_dir_all(path.parent().expect("a directory above it")).expect("the directories above a file");
    fs::write(path, contents).expect("a file is written");
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("a mode");
}

/// A file as an editor leaves it.
pub(crate) fn page(setup: &Setup, name: &str, contents: impl AsRef<[u8]>) {
    put(&setup.path(name), contents, 0o644);
}

/// A script that may be executed.
pub(crate) fn script(setup: &Setup, name: &str, contents: impl AsRef<[u8]>) {
    put(&setup.path(name), contents, 0o755);
}

/// Bytes that begin as a PNG does and hold every byte.
pub(crate) fn image() -> Vec<u8> {
    let bytes = (0..=255).cycle().take(100_000);
    b"\x89PNG\r\n\x1a\n".iter().copied().chain(bytes).collect()
}

/// A PHP page that tells how it was called, and gives back what it was sent.
pub(crate) const PHP: &str = "<?php\nheader('Content-Type: text/plain');\n\
    foreach (['REQUEST_METHOD', 'SCRIPT_NAME', 'PATH_INFO', 'QUERY_STRING', 'REQUEST_URI', 'SCRIPT_FILENAME'] as $name)\n\
    \techo $name, '=', $_SERVER[$name] ?? '-', \"\\n\";\n\
    echo 'self=', $_SERVER['PHP_SELF'], \"\\n\", file_get_contents('php://input');\n";

/// A CGI script in sh that tells the same.
pub(crate) const SH: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\n\
    for name in REQUEST_METHOD SCRIPT_NAME PATH_INFO QUERY_STRING REQUEST_URI SCRIPT_FILENAME PATH_TRANSLATED; do\n\
    \teval \"printf '%s\\n' \\\"$name=\\${$name-}\\\"\"\ndone\ncat\n";

/// Fills `site` with what a folder of a legacy site has: a page, an image, PHP, and scripts in five languages.
pub(crate) fn legacy_site(setup: &Setup) {
    page(setup, "site/index.html", "<p>front page</p>\n");
    page(setup, "site/logo.png", image());
    page(setup, "site/hello.php", PHP);
    for kind in ["sh", "pl", "py", "rb"] {
        let text = fs::read(app(&format!("cgi/hello.{kind}"))).expect("a script of the tests");
        script(setup, &format!("site/hello.{kind}"), text);
    }
    fs::create_dir_all(setup.path("site/cgi-bin")).expect("a directory");
    for name in ["site/hello.cgi", "site/cgi-bin/hello"] {
        fs::copy(c_cgi(), setup.path(name)).expect("a copy of the program");
    }
}

/// One request with this Host; the target is sent byte for byte.
pub(crate) fn ask(address: &Address, method: &str, host: &str, target: impl AsRef<[u8]>) -> Response {
    let mut client = Client::connect(address);
    let rest = format!(" HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    client.send([method.as_bytes(), b" ", target.as_ref(), rest.as_bytes()].concat());
    client.response(method)
}

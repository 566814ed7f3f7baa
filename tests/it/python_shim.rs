//! The Python shim's own tests, `tests/shims/test_*.py`: they start it as the arbiter does, with a front and an arbiter
//! of their own, in Python and from its standard library alone.

use std::process::Command;

use crate::harness::apps::root;
use crate::harness::python::venv;

#[test]
fn the_tests_of_the_shim_pass() {
    // With gevent, whose workers would otherwise be left out.
    let output = Command::new(venv().join("bin/python"))
        .args(["-m", "unittest", "discover", "-s", "tests/shims", "-t", "tests/shims"])
        .current_dir(root())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .output()
        .expect("python3 runs");
    assert!(
        output.status.success(),
        "{}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

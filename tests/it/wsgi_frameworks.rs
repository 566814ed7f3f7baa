//! Django, Flask, Pyramid and Bottle as their users run them, by a real HTTP client, under each worker class, and
//! through nginx.

use std::fs;
use std::process::Command;

use crate::harness::apps::run;
use crate::harness::peers::nginx;
use crate::harness::python::{apps, python};
use crate::harness::{Address, Setup};

/// Every worker class, as words on the command line.
const CLASSES: [&[&str]; 3] = [
    &["--workers", "2"],
    &["--workers", "2", "--threads", "4"],
    &["--workers", "2", "-k", "gevent"],
];

/// Lines that the apps of these tests cause on purpose.
const ASKED_FOR: &str = "Error handling request";

fn base(address: &Address) -> String {
    match address {
        Address::Tcp(address) => format!("http://{address}"),
        Address::Unix(path) => format!("unix:{}", path.display()),
    }
}

/// Lets the client do everything that it knows about this framework.
fn check(framework: &str, address: &Address) {
    run(Command::new(python())
        .arg(apps().join("clients.py"))
        .args([framework, &base(address)]));
}

fn check_all_classes(framework: &str, app: &str) {
    for words in CLASSES {
        let server = Setup::wsgi(&[words, &[app]].concat()).start();
        check(framework, &server.address);
        server.stop();
    }
}

#[test]
fn flask() {
    check_all_classes("flask", "flask_app:app");
}

#[test]
fn bottle() {
    check_all_classes("bottle", "bottle_app");
}

#[test]
fn pyramid() {
    check_all_classes("pyramid", "pyramid_app:make()");
}

#[test]
fn flask_through_nginx() {
    let setup = Setup::wsgi(&["--workers", "2", "flask_app:app"]).on_unix_socket();
    let server = setup.start();
    let front = nginx(&server.path("http.sock"));
    check("flask", &front.address);
    drop(front);
    server.stop();
}

/// A project as `django-admin startproject` makes it, with our views, a database and an administrator.
fn django_project(setup: &Setup) {
    let dir = setup.path("");
    let django = |words: &[&str]| {
        run(Command::new(python())
            .args(words)
            .current_dir(&dir)
            .env("PYTHONPATH", apps())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env("DJANGO_SUPERUSER_PASSWORD", "let me in"));
    };
    django(&["-m", "django", "startproject", "site_of_test", "."]);
    let settings = setup.path("site_of_test/settings.py");
    let mut text = fs::read_to_string(&settings).expect("the settings that Django wrote");
    text.push_str("\nROOT_URLCONF = 'django_extra'\nALLOWED_HOSTS = ['127.0.0.1']\nDEBUG = False\n");
    fs::write(&settings, text).expect("the settings are written");
    django(&["manage.py", "migrate", "--verbosity", "0"]);
    django(&[
        "manage.py",
        "createsuperuser",
        "--noinput",
        "--username",
        "admin",
        "--email",
        "admin@example.org",
    ]);
}

#[test]
fn django() {
    for words in CLASSES {
        let setup = Setup::wsgi(&[words, &["site_of_test.wsgi"]].concat());
        django_project(&setup);
        let server = setup.allow(ASKED_FOR).start();
        check("django", &server.address);
        server.stop();
    }
}

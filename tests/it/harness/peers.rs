//! Other people's programs beside ours: nginx and haproxy in front, php-fpm and plain FastCGI servers behind, rsyslogd.
//!
//! Each runs in the foreground, unprivileged where it can, in a directory of its own, and is killed when dropped.

use std::fs;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use super::client::{Address, Client};
use super::{procs, wait_for, wait_until};

/// A peer that runs until it is dropped.
pub(crate) struct Peer {
    child: Child,
    dir: TempDir,
    name: &'static str,
    /// Where it listens.
    pub(crate) address: Address,
}

impl Peer {
    fn start(name: &'static str, mut command: Command, dir: TempDir, address: Address) -> Self {
        let log = fs::File::create(dir.path().join("output.log")).expect("a file for the output");
        let child = command
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}; scripts/test installs what the tests need"));
        Self {
            child,
            dir,
            name,
            address,
        }
    }

    /// What it printed and logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("output.log")).unwrap_or_default()
    }

    /// Its process.
    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a pid")
    }

    /// Its socket as `connect` names it.
    pub(crate) fn upstream(&self) -> String {
        match &self.address {
            Address::Unix(path) => format!("unix:{}", path.display()),
            Address::Tcp(address) => format!("tcp:{address}"),
        }
    }

    fn wait_until_it_answers(mut self) -> Self {
        wait_until(&format!("{} to listen", self.name), || {
            let ended = self.child.try_wait().expect("its status");
            assert!(ended.is_none(), "{} ended: {ended:?}\n{}", self.name, self.log());
            Client::try_connect(&self.address).is_ok()
        });
        self
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {} ---\n{}", self.name, self.log());
        }
        let family = procs::descendants(self.pid());
        procs::signal(self.pid(), Signal::SIGTERM);
        wait_for(&format!("the end of {}", self.name), || {
            self.child.try_wait().expect("its status")
        });
        for process in family.iter().filter(|process| process.is_alive()) {
            procs::signal(process.pid, Signal::SIGKILL);
        }
    }
}

fn directory() -> TempDir {
    tempfile::Builder::new()
        .prefix("rgunicorn-peer-")
        .tempdir()
        .expect("a directory for the peer")
}

/// The first of these programs that is installed.
pub(crate) fn program(names: &[&str]) -> PathBuf {
    let path = std::env::var("PATH").unwrap_or_default() + ":/usr/sbin:/usr/local/sbin";
    names
        .iter()
        .flat_map(|name| path.split(':').map(move |dir| Path::new(dir).join(name)))
        .find(|candidate| candidate.is_file())
        .unwrap_or_else(|| panic!("none of {names:?} is installed; scripts/test installs what the tests need"))
}

/// nginx passing everything to our unix socket, over a unix socket of its own.
pub(crate) fn nginx(upstream: &Path) -> Peer {
    let locations = "location / {\n\
           proxy_pass http://ours;\n\
           proxy_http_version 1.1;\n\
           proxy_set_header Connection \"\";\n\
           proxy_set_header Host $host;\n\
           proxy_request_buffering off;\n\
           proxy_buffering off;\n\
         }\n";
    nginx_with(&format!("server unix:{}; keepalive 8;", upstream.display()), locations)
}

/// The variables that Debian's `fastcgi_params` has, but for SCRIPT_NAME.
const FASTCGI_PARAMS: &str = "fastcgi_param QUERY_STRING $query_string;\n\
     fastcgi_param REQUEST_METHOD $request_method;\n\
     fastcgi_param CONTENT_TYPE $content_type;\n\
     fastcgi_param CONTENT_LENGTH $content_length;\n\
     fastcgi_param REQUEST_URI $request_uri;\n\
     fastcgi_param DOCUMENT_URI $document_uri;\n\
     fastcgi_param DOCUMENT_ROOT $document_root;\n\
     fastcgi_param SERVER_PROTOCOL $server_protocol;\n\
     fastcgi_param REQUEST_SCHEME $scheme;\n\
     fastcgi_param HTTPS $https if_not_empty;\n\
     fastcgi_param GATEWAY_INTERFACE CGI/1.1;\n\
     fastcgi_param SERVER_SOFTWARE nginx/$nginx_version;\n\
     fastcgi_param REMOTE_ADDR 192.0.2.7;\n\
     fastcgi_param REMOTE_PORT 4711;\n\
     fastcgi_param SERVER_NAME $server_name;\n\
     fastcgi_param SERVER_PORT 80;\n\
     fastcgi_param REDIRECT_STATUS 200;\n";

/// nginx passing requests by FastCGI to `upstream` (an address as `server` takes it): those for scripts to the files
/// below `root`, PATH_INFO and all, as people wrote it for fcgiwrap; all others to `root/app.php`.
pub(crate) fn nginx_fastcgi(upstream: &str, root: &Path, keep: bool) -> Peer {
    let pass = if keep {
        "fastcgi_keep_conn on; fastcgi_pass ours;"
    } else {
        "fastcgi_pass ours;"
    };
    let common = format!("root {}; {FASTCGI_PARAMS} {pass}", root.display());
    let locations = format!(
        "location / {{ {common} fastcgi_param SCRIPT_NAME /app.php; fastcgi_param SCRIPT_FILENAME $document_root/app.php; \
           fastcgi_buffering off; fastcgi_request_buffering off; fastcgi_read_timeout 300s; }}\n\
         location ~ \\.(sh|pl|py) {{ {common} fastcgi_param SCRIPT_NAME $fastcgi_script_name; \
           fastcgi_param SCRIPT_FILENAME $document_root$fastcgi_script_name; }}\n"
    );
    let keepalive = if keep { "keepalive 8;" } else { "" };
    nginx_with(&format!("server {upstream}; {keepalive}"), &locations)
}

fn nginx_with(upstream: &str, locations: &str) -> Peer {
    let dir = directory();
    let place = dir.path().display();
    let socket = dir.path().join("nginx.sock");
    // As root, nginx would change to a user that may not enter our directories.
    let user = if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let config = format!(
        "daemon off;\nmaster_process on;\nworker_processes 1;\n{user}\npid {place}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 512; }}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;\n\
           uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n\
           client_max_body_size 200m;\n\
           upstream ours {{ {upstream} }}\n\
           server {{\n\
             listen unix:{};\n\
             {locations}\
           }}\n\
         }}\n",
        socket.display()
    );
    let path = dir.path().join("nginx.conf");
    fs::write(&path, config).expect("nginx's configuration is written");
    let mut command = Command::new(program(&["nginx"]));
    command
        .arg("-e")
        .arg("stderr")
        .arg("-p")
        .arg(dir.path())
        .arg("-c")
        .arg(&path);
    Peer::start("nginx", command, dir, Address::Unix(socket)).wait_until_it_answers()
}

/// nginx serving a root as Debian's `snippets/fastcgi-php.conf` does: files, and `.php` by php-fpm. It listens on a port
/// of 127.0.0.1, and serves the host `test`.
pub(crate) fn nginx_with_php(root: &Path, fpm: &Peer) -> Peer {
    let dir = directory();
    let place = dir.path().display();
    let user = if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let config = format!(
        "daemon off;\nworker_processes 1;\n{user}\npid {place}/nginx.pid;\nerror_log stderr warn;\n\
         events {{ worker_connections 64; }}\n\
         http {{\n\
           access_log off;\n\
           client_body_temp_path {place}/body; proxy_temp_path {place}/proxy; fastcgi_temp_path {place}/fastcgi;\n\
           uwsgi_temp_path {place}/uwsgi; scgi_temp_path {place}/scgi;\n\
           server {{\n\
             listen 127.0.0.1:PORT;\n server_name test;\n root {};\n index index.php index.html;\n\
             location / {{ try_files $uri $uri/ /index.php?$query_string; }}\n\
             location ~ [^/]\\.php(/|$) {{\n\
               fastcgi_split_path_info ^(.+?\\.php)(/.*)$;\n\
               try_files $fastcgi_script_name =404;\n\
               set $path_info $fastcgi_path_info;\n\
               fastcgi_param PATH_INFO $path_info;\n\
               fastcgi_index index.php;\n\
               include /etc/nginx/fastcgi.conf;\n\
               fastcgi_pass {};\n\
             }}\n\
           }}\n\
         }}\n",
        root.display(),
        fpm.upstream()
    );
    // nginx takes over a listener that is there already, so its port is certain.
    let launcher = "import os, socket, sys\n\
        s = socket.create_server(('127.0.0.1', 0))\n\
        s.set_inheritable(True)\n\
        port = str(s.getsockname()[1])\n\
        text = open(sys.argv[1]).read().replace('PORT', port)\n\
        open(sys.argv[1], 'w').write(text)\n\
        open(sys.argv[2], 'w').write(port + '\\n')\n\
        os.environ['NGINX'] = '%d;' % s.fileno()\n\
        os.execv(sys.argv[3], sys.argv[3:])\n";
    let (path, port) = (dir.path().join("nginx.conf"), dir.path().join("port"));
    fs::write(&path, config).expect("nginx's configuration is written");
    let mut command = Command::new("python3");
    command
        .args(["-c", launcher])
        .arg(&path)
        .arg(&port)
        .arg(program(&["nginx"]));
    command
        .args(["-e", "stderr", "-p"])
        .arg(dir.path())
        .arg("-c")
        .arg(&path);
    let mut peer = Peer::start("nginx", command, dir, Address::Unix(PathBuf::new()));
    let number = wait_for("nginx's port", || {
        let text = fs::read_to_string(&port).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    });
    peer.address = Address::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], number)));
    peer.wait_until_it_answers()
}

/// php-fpm with two children on a unix socket, which have its environment.
pub(crate) fn php_fpm() -> Peer {
    php_fpm_with("clear_env = no")
}

/// php-fpm with two children on a unix socket, and more lines for its pool.
pub(crate) fn php_fpm_with(more: &str) -> Peer {
    let dir = directory();
    let socket = dir.path().join("fpm.sock");
    let config = format!(
        "[global]\nerror_log = /dev/stderr\ndaemonize = no\n[www]\nlisten = {}\npm = static\npm.max_children = 2\n\
         {more}\ncatch_workers_output = yes\nphp_admin_value[post_max_size] = 64M\n",
        socket.display()
    );
    let path = dir.path().join("fpm.conf");
    fs::write(&path, config).expect("php-fpm's configuration is written");
    let names = [
        "php-fpm",
        "php-fpm8.4",
        "php-fpm8.3",
        "php-fpm8.2",
        "php-fpm8.1",
        "php-fpm8.0",
        "php-fpm7.4",
    ];
    let mut command = Command::new(program(&names));
    command.arg("--nodaemonize").arg("--fpm-config").arg(&path);
    if nix::unistd::geteuid().is_root() {
        command.arg("--allow-to-run-as-root");
        let config = fs::read_to_string(&path).expect("just written");
        fs::write(&path, config + "user = root\ngroup = root\n").expect("php-fpm's configuration is written");
    }
    Peer::start("php-fpm", command, dir, Address::Unix(socket)).wait_until_it_answers()
}

/// A FastCGI program as an independent server: a listening unix socket on its descriptor 0.
pub(crate) fn fastcgi_server(words: &[&str]) -> Peer {
    let dir = directory();
    let socket = dir.path().join("app.sock");
    let listener = UnixListener::bind(&socket).expect("a listening socket");
    let mut command = Command::new(words.first().expect("a program"));
    command
        .args(words.iter().skip(1))
        .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)));
    Peer::start("a FastCGI server", command, dir, Address::Unix(socket))
}

/// Connections to our unix socket that say nothing; for counting.
pub(crate) fn idle_unix_connections(path: &Path, count: usize) -> Vec<UnixStream> {
    (0..count)
        .map(|_| UnixStream::connect(path).expect("a connection"))
        .collect()
}

/// haproxy in TCP mode before a server, which it tells about its clients as `options` of a server line say.
pub(crate) fn haproxy(server: &str, options: &str) -> Peer {
    let dir = directory();
    // The listener is made before haproxy is, so that its port is certain.
    let listener = "import os, socket, sys\n\
        s = socket.create_server(('127.0.0.1', 0))\n\
        s.set_inheritable(True)\n\
        open(sys.argv[1], 'w').write(str(s.getsockname()[1]) + '\\n')\n\
        os.environ['LISTENER'] = str(s.fileno())\n\
        os.execv(sys.argv[2], sys.argv[2:])\n";
    let config = format!(
        "global\n  maxconn 100\n\
         defaults\n  mode tcp\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
         frontend all\n  bind fd@\"${{LISTENER}}\"\n  default_backend ours\n\
         backend ours\n  server one {server} {options}\n"
    );
    let (path, port) = (dir.path().join("haproxy.cfg"), dir.path().join("port"));
    fs::write(&path, config).expect("haproxy's configuration is written");
    let mut command = Command::new("python3");
    command.args(["-c", listener]).arg(&port).arg(program(&["haproxy"]));
    command.arg("-db").arg("-f").arg(&path);
    let mut peer = Peer::start("haproxy", command, dir, Address::Unix(PathBuf::new()));
    let number = wait_for("haproxy's port", || {
        let text = fs::read_to_string(&port).ok()?;
        text.strip_suffix('\n')?.parse().ok()
    });
    peer.address = Address::Tcp(std::net::SocketAddr::from(([127, 0, 0, 1], number)));
    peer.wait_until_it_answers()
}

/// rsyslogd with a unix socket and a TCP port, writing to a file.
pub(crate) struct Rsyslog {
    peer: Peer,
    /// Its unix socket, as `syslog_addr` names it.
    pub(crate) unix: String,
    /// Its TCP port, as `syslog_addr` names it.
    pub(crate) tcp: String,
}

impl Rsyslog {
    pub(crate) fn start() -> Self {
        let dir = directory();
        let place = dir.path().display().to_string();
        let config = format!(
            "module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imuxsock\" Socket=\"{place}/log.sock\")\n\
             module(load=\"imtcp\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"{place}/port\")\n\
             template(name=\"plain\" type=\"string\" \
               string=\"%syslogfacility-text%.%syslogseverity-text% %syslogtag%%msg%\\n\")\n\
             action(type=\"omfile\" file=\"{place}/all.log\" template=\"plain\")\n"
        );
        let path = dir.path().join("rsyslog.conf");
        fs::write(&path, config).expect("rsyslogd's configuration is written");
        let mut command = Command::new(program(&["rsyslogd"]));
        command.arg("-n").arg("-f").arg(&path);
        command.arg("-i").arg(dir.path().join("pid"));
        let (socket, port) = (dir.path().join("log.sock"), dir.path().join("port"));
        let peer = Peer::start("rsyslogd", command, dir, Address::Unix(socket.clone()));
        wait_until("rsyslogd's socket", || socket.exists());
        let number = wait_for("rsyslogd's port", || {
            let text = fs::read_to_string(&port).ok()?;
            text.trim().parse::<u16>().ok()
        });
        Self {
            peer,
            unix: format!("unix://{}", socket.display()),
            tcp: format!("tcp://127.0.0.1:{number}"),
        }
    }

    /// The lines it has written.
    pub(crate) fn lines(&self) -> Vec<String> {
        let text = fs::read(self.peer.dir.path().join("all.log")).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().map(str::to_owned).collect()
    }
}

//! Listeners: who may connect to a Unix socket, and those that somebody else has bound.
#![cfg(feature = "program")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use heartwheel::{Error, Server};
use rustix::process::{Signal, getgid, getuid};

use common::client::Client;
use common::http::get_request;
use common::program::lab_path;
use common::server::{TestServer, config, echo};
use common::timing::{EPS, PATIENCE, ms};

/// A path for a socket, removed with the value.
struct SocketPath(PathBuf);

impl SocketPath {
    fn new(name: &str) -> SocketPath {
        let name = format!("heartwheel-{name}-{}.sock", std::process::id());
        let path = SocketPath(std::env::temp_dir().join(name));
        let _ = fs::remove_file(&path.0);
        path
    }

    fn address(&self) -> String {
        format!("unix:{}", self.0.display())
    }
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn bind(path: &SocketPath, pairs: &[(&str, &str)]) -> heartwheel::Result<Server> {
    let mut pairs = pairs.to_vec();
    let address = path.address();
    pairs.push(("listen", &address));
    Server::builder().config(config(&pairs)).websocket("/echo", echo).build()
}

fn status(mut stream: impl Read + Write, path: &str) -> String {
    stream.write_all(get_request(path, "").as_bytes()).expect("the server reads");
    let mut head = [0; 12];
    stream.read_exact(&mut head).expect("the server answers");
    String::from_utf8_lossy(&head).into_owned()
}

#[test]
fn a_unix_socket_has_the_mode_and_owner_that_are_configured() {
    let path = SocketPath::new("mode");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let server = bind(&path, &[]).expect("the path is free");
    assert_eq!(mode(&path.0), 0o600);
    drop(server);
    assert!(!path.0.exists(), "the path goes with the server");
    // Who is not root may give away nothing.
    let (user, group) = match getuid().is_root() {
        true => (65534, 65533),
        false => (getuid().as_raw(), getgid().as_raw()),
    };
    let owner = format!("{user}:{group}");
    let server = bind(&path, &[("unix.mode", "660"), ("unix.owner", &owner)]).expect("it is free");
    assert_eq!(mode(&path.0), 0o660);
    let found = fs::metadata(&path.0).unwrap();
    assert_eq!((found.uid(), found.gid()), (user, group));
    drop(server);
    let server = bind(&path, &[("unix.owner", "root:root")]);
    assert_eq!(server.is_ok(), getuid().is_root(), "names are looked up");
}

#[test]
fn an_owner_that_does_not_exist_is_an_error_and_leaves_nothing_behind() {
    let path = SocketPath::new("owner");
    let error = bind(&path, &[("unix.owner", "nobody-of-this-name")]).expect_err("nobody");
    assert!(matches!(error, Error::Bind { .. }), "{error}");
    assert!(error.to_string().contains("nobody-of-this-name is not in /etc/passwd"), "{error}");
    assert!(!path.0.exists());
}

#[test]
fn a_stale_socket_is_removed_a_live_one_refused_and_a_file_left_alone() {
    let path = SocketPath::new("stale");
    drop(UnixListener::bind(&path.0).expect("the path is free"));
    assert!(path.0.exists(), "it is left behind");
    let server = bind(&path, &[]).expect("nobody listens there");
    let error = bind(&path, &[]).expect_err("somebody does");
    assert!(error.to_string().contains("another server listens there"), "{error}");
    assert!(path.0.exists(), "the live one keeps its path");
    drop(server);
    fs::write(&path.0, "not a socket").unwrap();
    bind(&path, &[]).expect_err("a file stands there");
    assert_eq!(fs::read_to_string(&path.0).unwrap(), "not a socket");
}

/// Connects there: somebody listens.
#[track_caller]
fn assert_listened(path: &SocketPath) {
    UnixStream::connect(&path.0).expect("the second server's file stays");
}

// FAULTS 186.
#[test]
fn a_stopping_server_leaves_the_socket_of_another_alone() {
    let (path, moved) = (SocketPath::new("renamed"), SocketPath::new("moved"));
    let first = bind(&path, &[]).expect("the path is free");
    fs::rename(&path.0, &moved.0).unwrap();
    let second = bind(&path, &[]).expect("the path is free again");
    drop(first);
    assert_listened(&path);
    drop(second);
    assert!(!path.0.exists(), "it goes with its own server");
    // Removed, not renamed: the number of the inode is not given again while the first is open.
    let first = bind(&path, &[]).expect("the path is free");
    fs::remove_file(&path.0).unwrap();
    let second = bind(&path, &[]).expect("the path is free again");
    drop(first);
    assert_listened(&path);
    // At a drain the file goes with the listener.
    fs::rename(&path.0, &moved.0).unwrap();
    let mut third = bind(&path, &[]).expect("the path is free again");
    let mut second = second;
    for server in [&mut second, &mut third] {
        assert!(path.0.exists(), "the second drains, and the third's file stays");
        server.handle().drain().unwrap();
        server.turn().unwrap();
    }
    assert!(!path.0.exists(), "the third drains");
    fs::write(&path.0, "no socket").unwrap();
    drop((second, third));
    assert!(path.0.exists(), "it was not theirs");
}

#[test]
fn a_start_that_fails_removes_the_socket_that_it_made() {
    let path = SocketPath::new("failed");
    let error = bind(&path, &[("admin_listen", "unix:/nowhere/at/all.sock")]).expect_err("no path");
    assert!(error.to_string().starts_with("admin_listen = unix:/nowhere/at/all.sock: "), "{error}");
    assert!(!path.0.exists());
}

/// The key that is named is the one to change.
#[test]
fn the_key_of_an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (key, other) in [("listen", "admin_listen"), ("admin_listen", "listen")] {
        let config = config(&[(key, &address), (other, "127.0.0.1:0")]);
        let error = Server::builder().config(config).health().build().expect_err("it is taken");
        assert!(error.to_string().starts_with(&format!("{key} = {address}: ")), "{error}");
        assert!(matches!(error, Error::Bind { key: named, .. } if named == key), "{error:?}");
    }
}

#[test]
fn a_listener_that_is_adopted_is_served_instead_of_listen() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // An address that cannot be bound: it is not tried.
    let config = config(&[("listen", "127.0.0.1:1")]);
    let builder = Server::builder().config(config).websocket("/echo", echo).adopt(listener);
    let server = TestServer::of(builder.build().expect("there is a listener"));
    assert_eq!(server.address, address);
    let mut peer = Client::open(address, "/echo");
    peer.text("hello");
    assert_eq!(peer.message(), "hello");
}

/// A shell moves what it is given as stdin and stdout to where sd_listen_fds(3) says they are, and
/// becomes the program.
#[test]
fn a_service_manager_may_pass_listeners_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let path = SocketPath::new("activation");
    let admin = UnixListener::bind(&path.0).unwrap();
    let script = "exec 3<&0 4<&1 </dev/null >/dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(lab_path())
        .args(["--listen", "127.0.0.1:1", "--set", "deadlines.drain=1s"])
        .env_clear()
        .envs([("LISTEN_FDS", "2"), ("LISTEN_FDNAMES", "web:admin"), ("PATH", "/bin:/usr/bin")])
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .stdout(OwnedFd::from(admin.try_clone().unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let connect = || TcpStream::connect(address).expect("it listens");
    assert_eq!(status(connect(), "/readyz"), "HTTP/1.1 200");
    assert_eq!(status(connect(), "/"), "HTTP/1.1 200");
    let admin_stream = UnixStream::connect(&path.0).unwrap();
    assert_eq!(status(admin_stream, "/healthz"), "HTTP/1.1 200");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    common::timing::within(PATIENCE + EPS, "it ends", || child.try_wait().unwrap().is_some());
    // The manager still listens: whoever connects is served by the next instance.
    TcpStream::connect_timeout(&address, ms(500)).expect("the listener is the manager's");
    assert!(path.0.exists());
}

/// One that is named so is for proxies alone.
#[test]
fn a_service_manager_may_pass_a_listener_for_proxies_on() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = listener.local_addr().unwrap();
    let script = "exec 3<&0 </dev/null >/dev/null; export LISTEN_PID=$$; exec \"$0\" \"$@\"";
    let mut child = Command::new("sh")
        .args(["-c", script])
        .arg(lab_path())
        .args(["--admin-listen", "off", "--set", "proxy.trusted=127.0.0.1"])
        .env_clear()
        .envs([("LISTEN_FDS", "1"), ("LISTEN_FDNAMES", "proxy"), ("PATH", "/bin:/usr/bin")])
        .stdin(OwnedFd::from(listener.try_clone().unwrap()))
        .stderr(Stdio::null())
        .spawn()
        .expect("there is a shell");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(b"PROXY TCP4 192.0.2.1 192.0.2.2 1000 80\r\n").unwrap();
    assert_eq!(status(stream, "/readyz"), "HTTP/1.1 200");
    let mut stream = TcpStream::connect(address).expect("it listens");
    stream.write_all(get_request("/readyz", "").as_bytes()).unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("FIN comes");
    assert_eq!(answer, b"");
    child.kill().unwrap();
    child.wait().unwrap();
}

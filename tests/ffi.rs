//! The C interface: programs in C, built against the library and run.
//!
//! The library is built by a cargo of its own into the same folder, once; it needs nothing that
//! these tests do not. What needs a tool that is not everywhere says loudly that it was skipped.

mod common;

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use std::{env, fs};

use rustix::process::{Pid, Signal, kill_process};

use common::client::{Client, Link, Seen};
use common::frame::frame;
use common::timing::{EPS, PATIENCE, within};

/// Where the library is, built.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        // Integration tests have a folder beside the profiles' own.
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
        let features = "ffi,streams,client,cbor,presence,sessions,sqlite,cluster";
        cargo.args(["build", "--quiet", "--locked", "--features", features]);
        cargo.args(["--package", "heartwheel-capi", "--target-dir"]).arg(target);
        let profile = if cfg!(debug_assertions) { "debug" } else { "release" };
        if profile == "release" {
            cargo.arg("--release");
        }
        succeed(&mut cargo);
        target.join(profile)
    })
}

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = started(|| command.output());
    let (said, erred) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{said}\n{erred}");
    print!("{said}");
    said.into_owned()
}

fn has(tool: &str) -> bool {
    let mut command = Command::new(tool);
    command.arg("--version").stdout(Stdio::null()).stderr(Stdio::null());
    let is_there = command.status().is_ok_and(|status| status.success());
    if !is_there {
        println!("SKIPPED: there is no {tool}");
    }
    is_there
}

/// The compiler as a careful user calls it.
fn cc() -> Command {
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-I"]);
    cc.arg(root("src/ffi"));
    cc
}

/// Builds a program against the shared library.
fn build(source: &str, flags: &[String]) -> PathBuf {
    let library = library();
    let name = Path::new(source).file_stem().unwrap();
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let mut cc = cc();
    cc.arg(root(source)).arg("-o").arg(&program).arg("-L").arg(library).args(["-lheartwheel"]);
    cc.arg(format!("-Wl,-rpath,{}", library.display())).args(["-lpthread"]).args(flags);
    succeed(&mut cc);
    program
}

fn run(source: &str) {
    succeed(&mut Command::new(build(source, &[])));
}

/// Runs a program once more, and neither a bad access nor a leak may show.
fn valgrind(program: &Path) {
    if has("valgrind") {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--leak-check=full", "--error-exitcode=9"]);
        succeed(valgrind.arg(program));
    }
}

// FAULTS 147, 148, 154, 155, 159.
#[test]
fn whatever_a_host_gets_wrong_is_answered() {
    let program = build("tests/ffi/misuse.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
}

#[test]
fn a_host_is_woken_for_everything_and_by_nothing_else() {
    run("tests/ffi/behaviour.c");
}

#[test]
fn a_host_that_pulls_nothing_is_not_flooded() {
    run("tests/ffi/pressure.c");
}

// FAULTS 150, 152, 156, 157.
#[test]
fn the_process_is_the_hosts_own() {
    run("tests/ffi/process.c");
}

#[test]
fn a_host_moves_the_clock() {
    run("tests/ffi/clock.c");
}

#[test]
fn a_host_serves_what_the_program_serves() {
    run("tests/ffi/served.c");
}

#[test]
fn a_host_asks_and_tells_what_the_operator_can() {
    let program = build("tests/ffi/peers.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
}

#[test]
fn a_host_answers_requests_in_its_own_time() {
    let program = build("tests/ffi/requests.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
}

#[test]
fn a_host_lets_requests_in_as_whom_it_says() {
    let program = build("tests/ffi/upgrade.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
}

#[test]
fn a_kiosk_shows_its_folder_and_its_topics() {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kiosk-folder");
    fs::create_dir_all(&folder).unwrap();
    for (name, text) in [("index.html", "<h1>Hall"), ("style.css", "h1 {}"), (".hidden", "no")] {
        fs::write(folder.join(name), text).unwrap();
    }
    let kiosk = build("examples/c/kiosk.c", &[]);
    let host = Host::start(hosted(&kiosk).arg(&folder).arg("127.0.0.1:0"));
    let address = host.address;
    let page = get(address, "/");
    assert!(page.contains("\r\nContent-Type: text/html; charset=utf-8\r\n"), "{page}");
    assert!(page.ends_with("\r\n\r\n<h1>Hall"), "{page}");
    assert!(get(address, "/style.css").ends_with("\r\n\r\nh1 {}"));
    for path in ["/.hidden", "/../ffi", "/none"] {
        assert!(get(address, path).starts_with("HTTP/1.1 404 "), "{path}");
    }
    // What sensors publish is on the status page, and is no markup there.
    let mut sensor = Client::open(address, "/topics/hall.temperature");
    sensor.text("<b>21.5");
    assert_eq!(sensor.message(), "<b>21.5");
    let status = get(address, "/status");
    assert!(status.contains("<td>hall.temperature<td>&#60;b&#62;21.5\n"), "{status}");
    assert!(status.contains("<td>notice<td>-\n"), "{status}");
    assert!(!status.contains("<td>kiosk.time<td>-"), "{status}");
    host.end_with("/topics/notice");
}

#[test]
fn a_host_has_clients() {
    let program = build("tests/ffi/links.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
}

// FAULTS 242.
#[test]
fn a_host_knows_who_is_on_a_topic() {
    let program = build("tests/ffi/presence.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
}

/// The example hears two browsers' tabs come and go, and shows them by what they say.
#[cfg(feature = "presence")]
#[test]
fn who_is_there_is_shown_in_c() {
    use common::server::TestServer;
    use heartwheel::Server;

    let config = [("topics.presence", "room")];
    let server = TestServer::serve(&config, heartwheel::app::routes(Server::builder()));
    let mut ann = Client::open(server.address, "/topics/room?info=Ann");
    let who = build("examples/c/who.c", &[]);
    let mut who = hosted(&who);
    who.args([&format!("ws://{}", server.address), "room", "Bob"]);
    let mut child = started(|| who.stdout(Stdio::piped()).spawn());
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut heard = |text: &str| {
        let is_it = |line: std::io::Result<String>| line.unwrap() == text;
        assert!(lines.any(is_it), "{text}");
    };
    heard("= Ann");
    let mut cem = Client::open(server.address, "/topics/room?info=Cem");
    heard("+ Cem");
    ann.close(1000);
    ann.expect_close(1000);
    heard("- Ann");
    cem.close(1000);
    heard("- Cem");
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert!(child.wait().unwrap().success());
}

/// A file that is gone when the test is over, with those that SQLite has beside it.
struct Database(PathBuf);

impl Database {
    fn new(name: &str) -> Database {
        let name = format!("{name}-{}.db", std::process::id());
        let file = Database(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.remove();
        file
    }

    fn store(&self) -> String {
        format!("sqlite:{}", self.0.display())
    }

    fn remove(&self) {
        for end in ["", "-wal", "-shm"] {
            let _ = fs::remove_file(format!("{}{end}", self.0.display()));
        }
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        self.remove();
    }
}

// FAULTS 260, 262, 263, 269.
#[test]
fn a_hosts_sessions_outlast_connections() {
    let program = build("tests/ffi/sessions.c", &[]);
    let database = Database::new("ffi-sessions");
    succeed(Command::new(&program).arg(database.store()));
    if has("valgrind") {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--leak-check=full", "--error-exitcode=9"]);
        // Rust keeps 48 bytes for each thread that has waited, the process's first, too.
        valgrind.arg("--errors-for-leak-kinds=definite").arg(&program);
        succeed(valgrind.arg(database.store()));
    }
    if !has("redis-server") {
        return;
    }
    let folder = env::temp_dir().join(format!("hw-ffi-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let socket = folder.join("s").display().to_string();
    let mut redis = Command::new("redis-server");
    redis.args(["--port", "0", "--save", "", "--unixsocket", &socket]).current_dir(&folder);
    let mut redis = redis.stdout(Stdio::null()).spawn().unwrap();
    within(PATIENCE, "Redis listens", || std::os::unix::net::UnixStream::connect(&socket).is_ok());
    let mut command = Command::new(&program);
    command.args([redis.id().to_string(), format!("unix:{socket}")]);
    let output = command.output().unwrap();
    redis.kill().unwrap();
    redis.wait().unwrap();
    fs::remove_dir_all(&folder).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The example keeps its lists over its own end.
#[test]
fn lists_in_c_outlast_the_program() {
    let program = build("examples/c/list.c", &[]);
    let database = Database::new("ffi-lists");
    let start = || Host::start(hosted(&program).args(["127.0.0.1:0", &database.store()]));
    let host = start();
    let mut peer = Client::open(host.address, "/list?id=ann");
    for (thing, list) in [("bread", "bread"), ("salt", "bread\nsalt")] {
        peer.text(thing);
        assert_eq!(peer.message(), list);
    }
    // Another connection of hers has all of it, and ends the first.
    let mut other = Client::open(host.address, "/list?id=ann");
    assert_eq!(other.message(), "bread\nsalt");
    peer.expect_close(4409);
    other.text("tea");
    assert_eq!(other.message(), "bread\nsalt\ntea");
    host.end_with("/list?id=bob");
    let host = start();
    let mut peer = Client::open(host.address, "/list?id=ann");
    assert_eq!(peer.message(), "bread\nsalt\ntea");
    drop(peer);
    host.end_with("/list?id=bob");
}

#[test]
fn a_host_has_timers_for_its_peers() {
    let program = build("tests/ffi/timers.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
}

/// The example with its table, by a clock that is moved by hand: no second passes.
#[test]
fn the_gateway_keeps_its_table() {
    let program = build("tests/ffi/table.c", &[]);
    succeed(&mut Command::new(&program));
    valgrind(&program);
    let host = example(&build("examples/c/gateway.c", &[]));
    assert!(get(host.address, "/readings/boiler").starts_with("HTTP/1.1 401 "));
    let shown = get(host.address, "/readings/boiler?access_token=ada-3f9c52d1");
    assert!(shown.ends_with("{\"online\":false,\"count\":0,\"newest\":[]}\n"), "{shown}");
    host.end_with("/device?access_token=boiler-51f0c7a2");
}

/// `ROUNDS=1000000 cargo test --release --test ffi whatever_a_host_calls` goes on for longer.
#[test]
fn whatever_a_host_calls_it_is_answered() {
    let program = build("tests/ffi/fuzz.c", &[]);
    let rounds = setting("ROUNDS", 20_000).to_string();
    for seed in ["1", "2", "3"] {
        succeed(Command::new(&program).args([seed, &rounds]));
    }
    if has("valgrind") {
        let mut valgrind = Command::new("valgrind");
        valgrind.args(["--quiet", "--leak-check=full", "--error-exitcode=9"]).arg(&program);
        succeed(valgrind.args(["4", "2000"]));
    }
}

// FAULTS 158.
#[test]
fn the_header_compiles_alone() {
    let source =
        "#include \"heartwheel.h\"\n#include \"heartwheel.h\"\nint main(void) { return 0; }";
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let languages = [("cc", "c", "c99"), ("cc", "c", "c11"), ("c++", "cpp", "c++17")];
    for (compiler, extension, standard) in languages {
        if !has(compiler) {
            continue;
        }
        let file = folder.join(format!("header-{standard}.{extension}"));
        fs::write(&file, source).unwrap();
        let mut compile = Command::new(compiler);
        compile.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-fsyntax-only"]);
        compile.arg(format!("-std={standard}")).arg("-I").arg(root("src/ffi")).arg(file);
        succeed(&mut compile);
    }
}

/// The functions that the header declares.
fn declared() -> Vec<String> {
    let header = fs::read_to_string(root("src/ffi/heartwheel.h")).unwrap();
    let mut code = String::new();
    let mut rest = header.as_str();
    while let Some((before, comment)) = rest.split_once("/*") {
        code.push_str(before);
        rest = comment.split_once("*/").expect("a comment ends").1;
    }
    code.push_str(rest);
    let mut names: Vec<String> = code
        .match_indices("heartwheel_")
        .filter_map(|(at, _)| {
            let name = &code[at..];
            let end = name.find(|c: char| c != '_' && !c.is_ascii_alphanumeric())?;
            name[end..].starts_with('(').then(|| name[..end].to_owned())
        })
        .collect();
    names.sort();
    names
}

// FAULTS 158.
#[test]
fn the_library_exports_what_the_header_declares_and_nothing_else() {
    let declared = declared();
    assert!(declared.len() >= 21, "{declared:?}");
    let files = fs::read_dir(root("src/ffi")).unwrap().map(|entry| entry.unwrap().path());
    let sources = files.filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let text: String = sources.map(|path| fs::read_to_string(path).unwrap() + "\n").collect();
    let mut defined: Vec<String> = text
        .split("extern \"C\" fn ")
        .skip(1)
        .map(|rest| rest.split('(').next().unwrap().to_owned())
        .collect();
    defined.sort();
    assert_eq!(defined, declared);
    if has("nm") {
        let library = library().join("libheartwheel.so");
        let mut nm = Command::new("nm");
        let said = succeed(nm.args(["--dynamic", "--defined-only"]).arg(library));
        let name = |line: &str| line.split_whitespace().last().map(str::to_owned);
        let mut exported: Vec<String> = said.lines().filter_map(name).collect();
        exported.sort();
        assert_eq!(exported, declared);
    }
}

/// Starts what was just linked. Another test may be starting something at this moment: its child
/// holds, until it has become another program, every file that this process had open to write.
fn started<T>(mut start: impl FnMut() -> std::io::Result<T>) -> T {
    for _ in 0..1000 {
        match start() {
            Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(5));
            }
            result => return result.expect("it can be started"),
        }
    }
    panic!("the program stays busy");
}

/// A host in C that tells its port.
struct Host {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
    address: SocketAddr,
}

impl Host {
    fn start(command: &mut Command) -> Host {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = started(|| command.spawn());
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let port = line.trim().rsplit(' ').next().unwrap();
        let port = port.parse().unwrap_or_else(|_| panic!("{line:?}"));
        Host { child, lines, address: ([127, 0, 0, 1], port).into() }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// Ends it by SIGTERM, as a drain: an open client is told so, and the exit status is 0.
    fn end(self) {
        self.end_with("/echo");
    }

    fn end_with(mut self, path: &str) {
        let mut peer = Client::open(self.address, path);
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
        loop {
            match peer.see_within(PATIENCE) {
                // What the host says to all.
                Seen::Frame(0x81, _) => {}
                Seen::Frame(0x88, payload) => {
                    break assert_eq!(payload[..2], 1001_u16.to_be_bytes());
                }
                seen => panic!("{seen:?}"),
            }
        }
        drop(peer);
        let child = &mut self.child;
        within(PATIENCE, "it ends", || child.try_wait().unwrap().is_some());
        assert!(child.wait().unwrap().success());
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn example(program: &Path) -> Host {
    Host::start(hosted(program).arg("127.0.0.1:0"))
}

/// A program to start; with `VALGRIND=1` under valgrind, which fails it for a bad access or a leak.
fn hosted(program: &Path) -> Command {
    if env::var_os("VALGRIND").is_none() {
        return Command::new(program);
    }
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--quiet", "--leak-check=full", "--errors-for-leak-kinds=definite"]);
    valgrind.arg("--error-exitcode=9").arg(program);
    valgrind
}

/// Talks to an echo, with small and large messages.
fn echoes(address: SocketAddr) {
    let mut peers: Vec<Client> = (0..10).map(|_| Client::open(address, "/echo")).collect();
    for round in 0..10 {
        for (nth, peer) in peers.iter_mut().enumerate() {
            peer.text(&format!("{round} of {nth}"));
        }
        for (nth, peer) in peers.iter_mut().enumerate() {
            assert_eq!(peer.message(), format!("{round} of {nth}"));
        }
    }
    let much = "x".repeat(300_000);
    peers[0].text(&much);
    assert_eq!(peers[0].message(), much);
    peers[1].close(1000);
    peers[1].expect_close(1000);
}

/// Reads messages until one is `text`: others come, too.
#[track_caller]
fn hear(peer: &mut Client, text: &str) {
    let began = Instant::now();
    while peer.message() != text {
        assert!(began.elapsed() < PATIENCE);
    }
}

/// The example over poll sends, beside echoes, what is typed and the time to everybody.
fn tells_all(host: &mut Host) {
    let mut one = Client::open(host.address, "/echo");
    let mut two = Client::open(host.address, "/echo");
    one.text("hello");
    hear(&mut one, "hello");
    host.child.stdin.as_mut().unwrap().write_all(b"typed").unwrap();
    hear(&mut one, "typed");
    hear(&mut two, "typed");
    // The host's own timer.
    assert_eq!(one.message().len(), "12:34:56".len());
}

/// All serve the same path, and end the same way.
#[test]
fn the_examples_serve_real_clients_and_drain_at_sigterm() {
    let host = example(&build("examples/c/epoll_loop.c", &[]));
    echoes(host.address);
    host.end();
    let mut host = example(&build("examples/c/main_loop.c", &[]));
    tells_all(&mut host);
    host.end();
    for (source, package, install) in [
        ("libevent_loop", "libevent", "libevent-dev"),
        ("libuv_loop", "libuv", "libuv1-dev"),
        ("glib_loop", "glib-2.0", "libglib2.0-dev"),
        ("sd_event_loop", "libsystemd", "libsystemd-dev"),
    ] {
        let flags = Command::new("pkg-config").args(["--cflags", "--libs", package]).output();
        let Ok(Output { status, stdout, .. }) = flags else {
            println!("SKIPPED {source}: there is no pkg-config to find {package}");
            continue;
        };
        if !status.success() {
            println!("SKIPPED {source}: there is no {package} (Debian: {install})");
            continue;
        }
        let flags = String::from_utf8(stdout).unwrap();
        let flags: Vec<String> = flags.split_whitespace().map(str::to_owned).collect();
        let host = example(&build(&format!("examples/c/{source}.c"), &flags));
        echoes(host.address);
        host.end();
    }
}

/// Asks by GET and returns the whole answer.
fn get(address: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    let head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_host_in_python_serves() {
    if !has("python3") {
        return;
    }
    let mut python = Command::new("python3");
    python.arg(root("examples/python/echo.py")).arg(library().join("libheartwheel.so"));
    let host = Host::start(python.arg("127.0.0.1:0"));
    echoes(host.address);
    assert!(get(host.address, "/hello?name=you").ends_with("\r\n\r\nhello you\n"));
    assert!(get(host.address, "/hello").ends_with("\r\n\r\nhello world\n"));
    host.end();
}

#[test]
fn a_serial_line_is_on_the_web() {
    let pty = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pty");
    succeed(cc().arg(root("tests/ffi/pty.c")).arg("-o").arg(&pty));
    let mut pty = Command::new(&pty);
    let mut line = started(|| pty.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn());
    let mut from_web = BufReader::new(line.stdout.take().unwrap());
    let mut device = String::new();
    from_web.read_line(&mut device).unwrap();
    let bridge = build("examples/c/uart_bridge.c", &[]);
    let host = Host::start(hosted(&bridge).args([device.trim(), "127.0.0.1:0"]));
    assert!(get(host.address, "/topics/uart.state").ends_with("\r\n\r\nthere"));
    // From the device to all who watch; a line that is too long is no line.
    let mut watcher = Client::open(host.address, "/topics/uart");
    let mut stdin = line.stdin.take().unwrap();
    stdin.write_all(format!("21.5\r\n{}\n22.0\n", "x".repeat(300)).as_bytes()).unwrap();
    assert_eq!(watcher.message(), "21.5");
    assert_eq!(watcher.message(), "22.0");
    assert!(get(host.address, "/topics/uart").ends_with("\r\n\r\n22.0"));
    // From clients to the device, a message a line, however many there are.
    let mut sender = Client::open(host.address, "/uart");
    for number in 0..200 {
        sender.text(&format!("set {number}"));
    }
    for number in 0..200 {
        let mut said = String::new();
        from_web.read_line(&mut said).unwrap();
        assert_eq!(said, format!("set {number}\n"));
    }
    sender.text(&"x".repeat(257));
    sender.expect_close(1009);
    // The device is unplugged.
    drop(stdin);
    assert!(line.wait().unwrap().success());
    let is_gone = || get(host.address, "/topics/uart.state").ends_with("\r\n\r\ngone");
    within(PATIENCE, "the device is gone", is_gone);
    let mut sender = Client::open(host.address, "/uart");
    sender.text("nobody");
    sender.expect_close(1013);
    host.end_with("/topics/uart");
}

#[test]
fn a_program_with_the_static_library_needs_no_other() {
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("main_loop-static");
    let mut cc = cc();
    cc.arg(root("examples/c/main_loop.c")).arg("-o").arg(&program);
    cc.arg(library().join("libheartwheel.a")).args(["-lpthread", "-ldl", "-lm"]);
    succeed(&mut cc);
    let mut host = example(&program);
    tells_all(&mut host);
    host.end();
}

fn setting(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Takes a figure out of a line of them.
#[track_caller]
fn figure(line: &str, name: &str) -> u64 {
    let found = line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
    found.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("{name} in {line:?}"))
}

/// Lets every client send as fast as it is read, and read what comes, until the host has ended.
fn flood(clients: &mut [Link], is_over: &mut dyn FnMut() -> bool) {
    let message = frame(0x82, &[b'x'; 32]);
    let mut sent = vec![0; clients.len()];
    let mut buffer = vec![0; 64 * 1024];
    while !is_over() {
        for (client, sent) in clients.iter_mut().zip(&mut sent) {
            *sent += client.write(&message[*sent..]).unwrap_or(0);
            *sent %= message.len();
            loop {
                match client.read(&mut buffer) {
                    Ok(len) if len == buffer.len() => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
        }
    }
}

/// A host with a timer of its own serves clients that are idle, and that flood it: no thread, no
/// CPU time while idle, and its timer waits for a turn at the most. `CLIENTS=1000 IDLE=10000
/// FLOOD=10000 cargo test --release --test ffi flood -- --nocapture` prints what the guide says
/// (src/guide/performance.md).
#[test]
fn a_flood_delays_the_hosts_timer_by_a_turn_at_most() {
    let [clients, idle, span] =
        [("CLIENTS", 100), ("IDLE", 500), ("FLOOD", 1500)].map(|(name, ms)| setting(name, ms));
    let program = build("tests/ffi/flood.c", &[]);
    let figures = [clients, idle, span].map(|number| number.to_string());
    let mut host = Host::start(Command::new(program).args(figures));
    let open = |_| Client::open(host.address, "/echo").stream;
    let mut streams: Vec<Link> = (0..clients).map(open).collect();
    let line = host.line();
    print!("{line}");
    assert_eq!(figure(&line, "threads"), 0);
    assert!(figure(&line, "cpu_us") * 50 < figure(&line, "ms") * 1000, "idle: below 2 % of a core");
    streams.iter().for_each(|stream| stream.set_nonblocking(true).unwrap());
    let child = &mut host.child;
    flood(&mut streams, &mut || child.try_wait().unwrap().is_some());
    let line = host.line();
    print!("{line}");
    assert!(figure(&line, "messages") > clients);
    assert_eq!(figure(&line, "closed"), 0);
    let [late, turn] = ["late_p99_us", "turn_max_us"].map(|name| figure(&line, name));
    let (late, turn) = (Duration::from_micros(late), Duration::from_micros(turn));
    assert!(late <= turn + EPS, "{late:?} late, {turn:?} the longest turn");
}

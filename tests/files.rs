//! Files of a folder, on real sockets: what is answered, what is refused, and what a slow reader
//! costs.

mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use common::server::TestServer;
use common::timing::eventually;
use common::world::{World, read_all};
use heartwheel::{CloseReason, Server, app};

/// A folder of this test's own, which goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Folder {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("heartwheel-{}-{count}", std::process::id()));
        fs::create_dir_all(path.join("www")).unwrap();
        Folder(path)
    }

    /// What is served.
    fn www(&self) -> PathBuf {
        self.0.join("www")
    }

    /// Writes a file that was changed a minute ago.
    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.www().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        age(&path, 60);
        path
    }

    fn serve(&self, pairs: &[(&str, &str)]) -> TestServer {
        TestServer::serve(pairs, Server::builder().files("/", self.www()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn age(path: &Path, seconds: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

struct Got {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Got {
    #[track_caller]
    fn header(&self, name: &str) -> &str {
        common::http::header(&self.head, name).unwrap_or_else(|| panic!("{name}: {}", self.head))
    }

    fn has(&self, name: &str) -> bool {
        common::http::header(&self.head, name).is_some()
    }
}

/// Asks on a connection of its own.
#[track_caller]
fn ask(address: SocketAddr, method: &str, path: &str, lines: &str) -> Got {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a head") + 4;
    let head = String::from_utf8(all[..end].to_vec()).unwrap();
    let status = head[9..12].parse().unwrap();
    Got { status, head, body: all.split_off(end) }
}

#[track_caller]
fn get(address: SocketAddr, path: &str) -> Got {
    ask(address, "GET", path, "")
}

#[test]
fn files_are_answered_with_their_type_and_their_folders_page() {
    let folder = Folder::new();
    folder.write("index.html", "<p>here");
    folder.write("a b/ä.css", "p {}");
    folder.write("sub/index.html", "<p>below");
    folder.write("empty.txt", "");
    for workers in ["0", "2"] {
        let server = folder.serve(&[("workers", workers)]);
        let page = get(server.address, "/");
        assert_eq!((page.status, &page.body[..]), (200, &b"<p>here"[..]));
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("content-length"), "7");
        assert_eq!(page.header("vary"), "Accept-Encoding");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert!(page.has("etag") && page.has("last-modified"));
        let style = get(server.address, "/a%20b/%C3%A4.css?v=1");
        assert_eq!(style.body, b"p {}");
        assert_eq!(style.header("content-type"), "text/css; charset=utf-8");
        assert_eq!(get(server.address, "/sub/").body, b"<p>below");
        let moved = get(server.address, "/sub?x=1");
        assert_eq!((moved.status, moved.header("location")), (301, "/sub/?x=1"));
        let empty = get(server.address, "/empty.txt");
        assert_eq!((empty.status, empty.header("content-length")), (200, "0"));
        let head = ask(server.address, "HEAD", "/sub/index.html", "");
        assert_eq!((head.header("content-length"), head.body.len()), ("8", 0));
        for path in ["/a%20b/", "/none", "/sub/none", "/index.html/", "/index.html/x"] {
            assert_eq!(get(server.address, path).status, 404, "{path}");
        }
        assert_eq!(ask(server.address, "DELETE", "/", "").status, 405);
    }
}

/// Ways that have led out of other servers' folders, and to what is not for the public.
#[test]
fn no_path_leads_out_of_the_folder() {
    let folder = Folder::new();
    folder.write("index.html", "here");
    folder.write("sub/page.html", "here");
    folder.write(".htpasswd", "secret");
    folder.write(".git/config", "secret");
    fs::write(folder.0.join("secret"), "secret").unwrap();
    let www = folder.www();
    for (target, name) in [
        ("../secret", "up.txt"),
        ("../../../../../../etc/passwd", "far.txt"),
        ("/etc/passwd", "absolute.txt"),
        ("..", "parent"),
        ("/", "root"),
        ("/proc/self/cwd", "cwd"),
        ("/proc/self/environ", "environ.txt"),
        ("up.txt", "twice.txt"),
        (".htpasswd", "dot.txt"),
    ] {
        symlink(target, www.join(name)).unwrap();
    }
    fs::remove_file(www.join("dot.txt")).unwrap();
    let server = folder.serve(&[]);
    let paths = [
        "/../secret",
        "/../../etc/passwd",
        "/sub/../../secret",
        "/sub/../../../../../../../../etc/passwd",
        "/./../secret",
        "/%2e%2e/secret",
        "/%2E%2E/secret",
        "/.%2e/secret",
        "/%2e./secret",
        "/..%2fsecret",
        "/..%2Fsecret",
        "/%2e%2e%2fsecret",
        "/sub%2f..%2f..%2fsecret",
        "/..%5csecret",
        "/..\\secret",
        "/%252e%252e/secret",
        "/%252e%252e%252fsecret",
        "/..%252fsecret",
        "/%c0%ae%c0%ae/secret",
        "/%e0%80%ae%e0%80%ae/secret",
        "/..%c0%afsecret",
        "/..;/secret",
        "/..%00/secret",
        "/index.html%00.txt",
        "/sub/page.html%00",
        "/....//secret",
        "//../secret",
        "//etc/passwd",
        "///etc/passwd",
        "/%2fetc/passwd",
        "/%2Fetc%2Fpasswd",
        "/file:///etc/passwd",
        "/up.txt",
        "/far.txt",
        "/absolute.txt",
        "/parent/secret",
        "/root/etc/passwd",
        "/cwd/Cargo.toml",
        "/environ.txt",
        "/twice.txt",
        "/.htpasswd",
        "/.git/config",
        "/sub/../.htpasswd",
        "/%2ehtpasswd",
        "/parent/www/index.html",
        "/proc/self/environ",
    ];
    assert!(paths.len() >= 40);
    for path in paths {
        let got = get(server.address, path);
        assert!(matches!(got.status, 400 | 404), "{path}: {}", got.head);
        let text = String::from_utf8_lossy(&got.body);
        assert!(!text.contains("secret") && !text.contains("root:"), "{path}: {text}");
    }
    assert_eq!(get(server.address, "/index.html").status, 200, "the server is there");
}

#[test]
fn links_that_stay_inside_are_followed_and_fifos_are_not_waited_for() {
    let folder = Folder::new();
    folder.write("real.txt", "here");
    symlink("real.txt", folder.www().join("link.txt")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(folder.www().join("fifo")).status();
    assert!(made.unwrap().success());
    let socket = std::os::unix::net::UnixListener::bind(folder.www().join("socket")).unwrap();
    let server = folder.serve(&[("workers", "0")]);
    assert_eq!(get(server.address, "/fifo").status, 404);
    assert_eq!(get(server.address, "/socket").status, 404);
    assert_eq!(get(server.address, "/link.txt").body, b"here");
    drop(socket);
}

#[test]
fn conditions_are_judged_as_the_standard_says() {
    let folder = Folder::new();
    let path = folder.write("a.txt", "hello");
    let server = folder.serve(&[]);
    let first = get(server.address, "/a.txt");
    let (tag, date) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    assert!(tag.starts_with('"'), "{tag}");
    let old = "Sun, 06 Nov 1994 08:49:37 GMT";
    for (lines, status) in [
        (format!("If-None-Match: {tag}\r\n"), 304),
        (format!("If-None-Match: \"x\", W/{tag}\r\n"), 304),
        ("If-None-Match: *\r\n".into(), 304),
        ("If-None-Match: \"x\"\r\n".into(), 200),
        (format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {date}\r\n"), 200),
        (format!("If-Modified-Since: {date}\r\n"), 304),
        (format!("If-Modified-Since: {old}\r\n"), 200),
        ("If-Modified-Since: yesterday\r\n".into(), 200),
        (format!("If-Match: {tag}\r\n"), 200),
        (format!("If-Match: W/{tag}\r\n"), 412),
        ("If-Match: \"x\"\r\n".into(), 412),
        ("If-Match: *\r\n".into(), 200),
        (format!("If-Unmodified-Since: {old}\r\n"), 412),
        (format!("If-Unmodified-Since: {date}\r\n"), 200),
    ] {
        let got = ask(server.address, "GET", "/a.txt", &lines);
        assert_eq!(got.status, status, "{lines}");
        assert_eq!(got.body == b"hello", status == 200, "{lines}");
        if status == 304 {
            assert!(!got.has("content-length") && got.body.is_empty(), "{}", got.head);
            assert_eq!(got.header("etag"), tag);
        }
    }
    fs::write(&path, "world").unwrap();
    let fresh = ask(server.address, "GET", "/a.txt", &format!("If-None-Match: {tag}\r\n"));
    assert_eq!(fresh.body, b"world");
    assert!(fresh.header("etag").starts_with("W/"), "it may change again at the same time");
}

#[test]
fn one_range_is_answered_by_its_part() {
    let folder = Folder::new();
    folder.write("a.txt", "0123456789");
    let large: Vec<u8> = (0..1_000_000u32).map(|at| (at % 251) as u8).collect();
    folder.write("large.bin", &large);
    let server = folder.serve(&[]);
    let first = get(server.address, "/a.txt");
    let (tag, date) = (first.header("etag").to_owned(), first.header("last-modified").to_owned());
    for (lines, status, body) in [
        ("Range: bytes=2-4\r\n".to_owned(), 206, "234"),
        ("Range: bytes=7-\r\n".into(), 206, "789"),
        ("Range: bytes=-2\r\n".into(), 206, "89"),
        ("Range: bytes=0-0,5-6\r\n".into(), 200, "0123456789"),
        ("Range: lines=1-2\r\n".into(), 200, "0123456789"),
        (format!("Range: bytes=2-4\r\nIf-Range: {tag}\r\n"), 206, "234"),
        (format!("Range: bytes=2-4\r\nIf-Range: {date}\r\n"), 206, "234"),
        ("Range: bytes=2-4\r\nIf-Range: \"other\"\r\n".into(), 200, "0123456789"),
        (format!("Range: bytes=2-4\r\nIf-Range: W/{tag}\r\n"), 200, "0123456789"),
    ] {
        let got = ask(server.address, "GET", "/a.txt", &lines);
        assert_eq!((got.status, &got.body[..]), (status, body.as_bytes()), "{lines}");
    }
    let part = ask(server.address, "GET", "/a.txt", "Range: bytes=2-4\r\n");
    assert_eq!(part.header("content-range"), "bytes 2-4/10");
    let none = ask(server.address, "GET", "/a.txt", "Range: bytes=10-\r\n");
    assert_eq!((none.status, none.header("content-range")), (416, "bytes */10"));
    let part = ask(server.address, "GET", "/large.bin", "Range: bytes=100000-899999\r\n");
    assert_eq!(part.header("content-range"), "bytes 100000-899999/1000000");
    assert!(part.body == large[100_000..900_000]);
    assert!(get(server.address, "/large.bin").body == large);
    let head = ask(server.address, "HEAD", "/large.bin", "");
    assert_eq!((head.header("content-length"), head.body.len()), ("1000000", 0));
}

#[test]
fn what_was_compressed_before_is_sent_to_clients_that_take_it() {
    let folder = Folder::new();
    folder.write("a.js", "plain");
    folder.write("a.js.gz", "gzipped");
    folder.write("a.js.br", "brotli");
    folder.write("b.js", "plain");
    age(&folder.write("b.js.gz", "of another version"), 600);
    let server = folder.serve(&[]);
    for (path, accepted, body, coding) in [
        ("/a.js", "gzip, br", "brotli", Some("br")),
        ("/a.js", "gzip, br;q=0", "gzipped", Some("gzip")),
        ("/a.js", "GZIP;q=0.5", "gzipped", Some("gzip")),
        ("/a.js", "*", "brotli", Some("br")),
        ("/a.js", "*;q=0", "plain", None),
        ("/a.js", "identity", "plain", None),
        ("/a.js", "", "plain", None),
        ("/b.js", "gzip", "plain", None),
    ] {
        let got = ask(server.address, "GET", path, &format!("Accept-Encoding: {accepted}\r\n"));
        assert_eq!(got.body, body.as_bytes(), "{path} {accepted}");
        assert_eq!(common::http::header(&got.head, "content-encoding"), coding, "{accepted}");
        assert_eq!(got.header("content-type"), "text/javascript; charset=utf-8");
        assert_eq!(got.header("vary"), "Accept-Encoding");
    }
}

#[test]
fn a_file_that_shrinks_or_changes_while_it_is_sent_ends_the_connection() {
    for shrinks in [true, false] {
        let folder = Folder::new();
        let path = folder.write("large.bin", vec![b'x'; 40_000_000]);
        let server = folder.serve(&[]);
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut begin = [0; 100_000];
        stream.read_exact(&mut begin).unwrap();
        match shrinks {
            true => fs::File::options().write(true).open(&path).unwrap().set_len(1000).unwrap(),
            false => fs::write(&path, vec![b'y'; 40_000_000]).unwrap(),
        }
        let mut rest = Vec::new();
        assert!(stream.read_to_end(&mut rest).is_err(), "the end is a reset");
        assert!(!rest.contains(&b'y'), "no file is sent half old, half new");
        server.expect_closed(CloseReason::Cut, 1);
    }
}

/// Around what goes through a pipe, and what a pipe takes; ranges that begin within a page.
#[test]
fn a_file_of_any_length_arrives_as_it_is() {
    let folder = Folder::new();
    let pattern = |len: usize| (0..len).map(|at| (at / 251 % 256) as u8).collect::<Vec<u8>>();
    const KIB: usize = 1024;
    let lens = [1, 32 * KIB - 1, 32 * KIB, 128 * KIB - 1, 128 * KIB, 128 * KIB + 1, 700 * KIB + 7];
    lens.iter().for_each(|len| drop(folder.write(&format!("{len}"), pattern(*len))));
    for workers in ["0", "2"] {
        let server = folder.serve(&[("workers", workers)]);
        for len in lens {
            let (bytes, path) = (pattern(len), format!("/{len}"));
            for _ in 0..3 {
                assert!(get(server.address, &path).body == bytes, "{len} bytes");
            }
            for from in [1, 4095, 4097, 100_000].into_iter().filter(|from| *from < len) {
                let lines = format!("Range: bytes={from}-\r\n");
                let got = ask(server.address, "GET", &path, &lines);
                assert_eq!(got.status, 206);
                assert!(got.body == bytes[from..], "{len} bytes from {from}");
            }
        }
    }
}

#[test]
fn a_file_arrives_as_it_is_in_memory_and_over_unix_sockets() {
    let folder = Folder::new();
    let text: String = (0..100_000).map(|number| format!("{number:06}\n")).collect();
    folder.write("file", &text);
    let request = "GET /file HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    let mut world = World::new(&[], Server::builder().files("/", folder.www()));
    let mut peer = world.send(request.as_bytes());
    let mut answer = Vec::new();
    loop {
        let (more, end) = read_all(&mut peer);
        answer.extend(more);
        if end.is_none() {
            break;
        }
        world.settle();
    }
    assert!(answer.ends_with(text.as_bytes()) && answer.len() < text.len() + 1000);

    let path = folder.0.join("socket");
    let listen = format!("unix:{}", path.display());
    let _server = folder.serve(&[("listen", listen.as_str())]);
    let mut stream = UnixStream::connect(path).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.split_once("\r\n\r\n").unwrap().1 == text);
}

/// More of them than there are pipes; one in three leaves.
#[test]
fn slow_readers_get_files_whole_however_many_there_are() {
    let folder = Folder::new();
    let bytes: Vec<u8> = (0..3_000_000u32).flat_map(u32::to_be_bytes).collect();
    folder.write("large.bin", &bytes);
    let server = folder.serve(&[]);
    let connect = |_| {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
            .write_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            .unwrap();
        stream
    };
    let mut streams: Vec<TcpStream> = (0..30).map(connect).collect();
    eventually("they are in the table", || server.open() == 30);
    let mut number = 0;
    streams.retain(|_| {
        number += 1;
        number % 3 != 0
    });
    for mut stream in streams {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        assert!(all.ends_with(&bytes) && all.len() < bytes.len() + 1000);
    }
    eventually("all have ended", || server.open() == 0);
    assert_eq!(open_below(&folder.0), 0);
}

#[test]
fn slow_readers_of_a_large_file_hold_a_slice_each_and_few_descriptors() {
    let folder = Folder::new();
    let path = folder.write("large.bin", "");
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 30).unwrap();
    age(&path, 60);
    let server = folder.serve(&[("deadlines.write_stall", "1m")]);
    let mut streams: Vec<TcpStream> = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(server.address).unwrap();
        stream.write_all(b"GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        streams.push(stream);
    }
    for stream in &mut streams {
        let mut begin = [0; 1000];
        stream.read_exact(&mut begin).unwrap();
        assert!(begin.windows(16).any(|part| part == b"Content-Length: "));
    }
    eventually("they are in the table", || server.open() == 60);
    let held = open_below(&folder.0);
    // Each of the two workers may have the folder and a file open besides.
    assert!((1..=16 + 2 * 2).contains(&held), "{held} files are open");
    let mut seen = 0;
    eventually("the kernel takes no more", || {
        let mut most = 0;
        server.handle.connections(Duration::from_secs(5), |rows| {
            for row in rows.split("\"outbox_bytes\":").skip(1) {
                let digits: String = row.chars().take_while(char::is_ascii_digit).collect();
                most = most.max(digits.parse::<usize>().unwrap());
            }
        });
        seen = seen.max(most);
        most > 0
    });
    assert!(seen <= 128 * 1024, "{seen} bytes wait for one of them: a pipe takes no more");
}

/// Counts the descriptors of this process that are files of a folder.
fn open_below(folder: &Path) -> usize {
    let links = fs::read_dir("/proc/self/fd").unwrap();
    let targets = links.filter_map(|link| fs::read_link(link.unwrap().path()).ok());
    targets.filter(|target| target.starts_with(folder)).count()
}

#[test]
fn the_program_serves_a_folder_instead_of_its_page_without_a_token() {
    let folder = Folder::new();
    folder.write("index.html", "kiosk");
    let tokens = folder.0.join("tokens");
    fs::write(&tokens, "secret publish=* subscribe=*\n").unwrap();
    let www = folder.www();
    let pairs =
        [("serve.files", www.to_str().unwrap()), ("admission.tokens", tokens.to_str().unwrap())];
    let config = common::server::config(&pairs);
    let builder = app::routes(Server::builder().config(config));
    let server = TestServer::serve(&pairs, builder);
    assert_eq!(get(server.address, "/").body, b"kiosk");
    assert_eq!(get(server.address, "/none").status, 404);
    let status = get(server.address, "/status");
    assert!(String::from_utf8_lossy(&status.body).contains("<title>"));
    assert!(get(server.address, "/heartwheel.js").body.len() > 1000, "an exact path wins");
    assert_eq!(get(server.address, "/topics/a").status, 401);
    assert_eq!(get(server.address, "/ws").status, 401, "what has a path keeps it");
}

#[test]
fn a_folder_that_is_not_there_is_told_when_the_server_is_built() {
    let built = Server::builder().files("/", "/no/such/folder").listen("127.0.0.1:0");
    let error = built.expect_err("there is no such folder").to_string();
    assert!(error.contains("/no/such/folder"), "{error}");
}

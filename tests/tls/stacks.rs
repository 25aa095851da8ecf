//! Other implementations of TLS as clients: OpenSSL, curl, Python. What is not installed is passed
//! over, loudly.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use super::client::{borrowed, file, settings};
use crate::common::server::TestServer;

fn start(more: &[(&'static str, &str)]) -> TestServer {
    let more: Vec<_> = more.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    TestServer::start(&borrowed(&settings(&more)))
}

/// Runs a program, if it is there; what it is to read is given bit by bit, so that it waits for
/// answers in between.
fn run(program: &str, arguments: &[&str], input: &[&str]) -> Option<Output> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("== NOT RUN: {program}: {error}");
            return None;
        }
    };
    let mut stdin = child.stdin.take().expect("it is piped");
    for text in input {
        thread::sleep(Duration::from_millis(150));
        let _ = stdin.write_all(text.as_bytes());
        let _ = stdin.flush();
    }
    thread::sleep(Duration::from_millis(150));
    drop(stdin);
    Some(child.wait_with_output().expect("it ends"))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr].concat()).into_owned()
}

/// Runs s_client against a server.
fn s_client(server: &TestServer, more: &[&str], input: &[&str]) -> Option<String> {
    let address = server.address.to_string();
    let ca = file("ca.crt");
    let own = ["s_client", "-connect", &address, "-CAfile", &ca, "-verify_return_error"];
    let output = run("openssl", &[&own[..], &["-servername", "localhost"], more].concat(), input)?;
    Some(text(&output))
}

const GET: &str = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn openssl_speaks_with_us() {
    let server = start(&[]);
    let Some(said) = s_client(&server, &["-quiet"], &[GET]) else { return };
    assert!(said.contains("HTTP/1.1 200 ") && said.contains("hello"), "{said}");
    let said = s_client(&server, &["-alpn", "h2,http/1.1"], &[GET]).expect("it was there");
    assert!(said.contains("TLSv1.3") && said.contains("ALPN protocol: http/1.1"), "{said}");
    assert!(said.contains("Verify return code: 0 (ok)"), "{said}");
    // Key updates of both kinds between the lines of a request.
    let lines = ["GET / HTTP/1.1\r\n", "K\n", "Host: localhost\r\n", "k\n", "\r\n", "Q\n"];
    let said = s_client(&server, &[], &lines).expect("it was there");
    assert!(said.contains("KEYUPDATE") && said.contains("hello"), "{said}");
    server.stop();
}

#[test]
fn openssl_is_refused_what_it_must_not_have() {
    let server = start(&[]);
    let Some(said) = s_client(&server, &["-tls1_2"], &[]) else { return };
    assert!(said.contains("alert protocol version"), "{said}");
    let said = s_client(&server, &["-alpn", "h2"], &[]).expect("it was there");
    assert!(said.contains("no application protocol"), "{said}");
    server.stop();
    let server = start(&[("tls.ciphers", "TLS_CHACHA20_POLY1305_SHA256")]);
    let only = ["-ciphersuites", "TLS_AES_128_GCM_SHA256"];
    let said = s_client(&server, &only, &[]).expect("it was there");
    assert!(said.contains("alert handshake failure"), "{said}");
    server.stop();
}

#[test]
fn openssl_resumes_its_sessions_and_shows_its_certificate() {
    let server = start(&[("tls.client", "required"), ("tls.client_ca", &file("ca.crt"))]);
    let path = std::env::temp_dir().join(format!("heartwheel-session-{}", std::process::id()));
    let path = path.to_str().expect("it is text");
    let (certificate, key) = (file("client.crt"), file("client.key"));
    let own = ["-cert", &certificate, "-key", &key];
    let said = s_client(&server, &[&own[..], &["-sess_out", path]].concat(), &[GET]);
    let Some(said) = said else { return };
    assert!(said.contains("New, TLSv1.3"), "{said}");
    let said = s_client(&server, &[&own[..], &["-sess_in", path]].concat(), &[GET]).unwrap();
    assert!(said.contains("Reused, TLSv1.3") && said.contains("hello"), "{said}");
    let said = s_client(&server, &[], &[GET]).expect("it was there");
    assert!(said.contains("alert certificate required"), "{said}");
    let _ = std::fs::remove_file(path);
    server.stop();
}

#[test]
fn curl_speaks_with_us() {
    let server = start(&[]);
    let port = server.address.port();
    let url = format!("https://localhost:{port}/");
    let ca = file("ca.crt");
    let resolve = format!("localhost:{port}:127.0.0.1");
    let own = ["-sS", "--cacert", &ca, "--resolve", &resolve];
    let Some(output) = run("curl", &[&own[..], &[&url, &url, &url]].concat(), &[]) else { return };
    assert_eq!(text(&output), "hello\nhello\nhello\n");
    let output = run("curl", &[&own[..], &["--tls-max", "1.2", &url]].concat(), &[]).unwrap();
    assert!(!output.status.success(), "{}", text(&output));
    let plain = format!("http://localhost:{port}/");
    let output = run("curl", &[&own[..], &["-i", &plain]].concat(), &[]).expect("it was there");
    assert!(text(&output).contains("400 Bad Request"), "{}", text(&output));
    server.stop();
}

#[test]
fn python_speaks_with_us() {
    const PROGRAM: &str = r#"
import socket, ssl, sys, os, struct
port, ca = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=ca)
raw = socket.create_connection(("127.0.0.1", port))
tls = context.wrap_socket(raw, server_hostname="localhost")
assert tls.version() == "TLSv1.3", tls.version()
cipher = tls.cipher()[0]
tls.sendall(b"GET /echo HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
read = tls.makefile("rb")
assert b" 101 " in read.readline()
while read.readline() != b"\r\n":
    pass
for size in (0, 1, 125, 70000, 300000):
    data = os.urandom(size)
    length = bytes([0x80 | size]) if size < 126 else b"\xff" + struct.pack(">Q", size)
    tls.sendall(b"\x82" + length + b"\0\0\0\0" + data)
    first, short = read.read(2)
    size = {126: lambda: struct.unpack(">H", read.read(2))[0],
            127: lambda: struct.unpack(">Q", read.read(8))[0]}.get(short, lambda: short)()
    assert first == 0x82 and read.read(size) == data
tls.sendall(b"\x88\x82\0\0\0\0\x03\xe8")
assert read.read() == b"\x88\x02\x03\xe8"
try:
    tls.unwrap()
except OSError as error:
    # Both have said the last word already.
    pass
print("done", cipher)
"#;
    let server = start(&[]);
    let port = server.address.port().to_string();
    let output = run("python3", &["-c", PROGRAM, &port, &file("ca.crt")], &[]);
    let Some(output) = output else { return };
    assert!(text(&output).starts_with("done TLS_"), "{}", text(&output));
    server.stop();
}

#[test]
fn node_speaks_with_us() {
    const PROGRAM: &str = r#"
const [port, ca] = process.argv.slice(1);
const options = { host: "127.0.0.1", port, servername: "localhost",
                  ca: require("fs").readFileSync(ca) };
const socket = require("tls").connect(options, () => {
    socket.write("GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
});
socket.on("data", (data) => process.stdout.write(data));
socket.on("end", () => console.log("ended", socket.getProtocol()));
"#;
    let server = start(&[]);
    let port = server.address.port().to_string();
    let output = run("node", &["-e", PROGRAM, &port, &file("ca.crt")], &[]);
    let Some(output) = output else { return };
    let said = text(&output);
    assert!(said.contains("hello") && said.ends_with("ended TLSv1.3\n"), "{said}");
    server.stop();
}

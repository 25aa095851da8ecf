//! Other implementations of TLS as clients: OpenSSL, curl, Python. What is not installed is passed
//! over, loudly.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Duration;

use super::client::{borrowed, file, settings};
use crate::common::server::TestServer;
use crate::common::timing::Span;

fn start(more: &[(&'static str, &str)]) -> TestServer {
    let more: Vec<_> = more.iter().map(|(name, text)| (*name, (*text).to_owned())).collect();
    TestServer::start(&borrowed(&settings(&more)))
}

/// Runs a program, if it is there; what it is to read is given bit by bit, so that it waits for
/// answers in between.
pub fn run(program: &str, arguments: &[&str], input: &[&str]) -> Option<Output> {
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
        pause();
        let _ = stdin.write_all(text.as_bytes());
        let _ = stdin.flush();
    }
    pause();
    drop(stdin);
    Some(child.wait_with_output().expect("it ends"))
}

/// Gives a program time to read, of which the machine lets it have all.
fn pause() {
    loop {
        let span = Span::begin();
        thread::sleep(Duration::from_millis(300));
        if span.stalled().is_zero() {
            return;
        }
    }
}

pub fn text(output: &Output) -> String {
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

/// A CA as the guide makes it, and an answer of OCSP by openssl.
#[test]
fn openssl_is_shown_the_certificate_of_its_name_and_a_staple_until_it_is_past() {
    let folder = std::env::temp_dir().join(format!("heartwheel-staple-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let page = include_str!("../../src/guide/tls.md");
    let lines = page.split("```sh\n").find(|lines| lines.starts_with("openssl ecparam"));
    let lines = lines.and_then(|lines| lines.split("```").next()).expect("the guide has them");
    let staple = "serial=$(openssl x509 -in server.crt -noout -serial | cut -d= -f2)\n\
        printf 'V\\t361231235959Z\\t\\t%s\\tunknown\\t/CN=hub.local\\n' \"$serial\" >index\n\
        openssl ocsp -issuer ca.crt -cert server.crt -reqout request\n\
        openssl ocsp -index index -CA ca.crt -rsigner ca.crt -rkey ca.key -reqin request \
            -ndays 7 -respout server.ocsp";
    let script = format!("set -e; cd {}\n{lines}{staple}", folder.display());
    let Some(made) = run("sh", &["-c", &script], &[]) else { return };
    if !folder.join("server.ocsp").exists() {
        println!("== NOT RUN: openssl made no staple: {}", text(&made));
        return;
    }
    let path = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let own = [path("server.crt"), path("server.key"), path("server.ocsp")];
    let [certificate, key, ocsp] = &own;
    let sni = folder.join("sni");
    fs::create_dir(&sni).unwrap();
    fs::copy(file("second.crt"), sni.join("second.example.org.crt")).unwrap();
    fs::copy(file("second.key"), sni.join("second.example.org.key")).unwrap();
    let server = start(&[
        ("tls.certificate", certificate),
        ("tls.key", key),
        ("tls.ocsp", ocsp),
        ("tls.sni", sni.to_str().unwrap()),
    ]);
    let address = server.address.to_string();
    let ask = |name: &str, ca: &str| {
        let own = ["s_client", "-connect", &address, "-CAfile", ca, "-status"];
        let more = ["-servername", name, "-verify_hostname", name];
        text(&run("openssl", &[&own[..], &more].concat(), &[GET]).expect("it was there"))
    };
    let said = ask("hub.local", &path("ca.crt"));
    for part in ["OCSP Response Status: successful", "Cert Status: good", "return code: 0 (ok)"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let said = ask("second.example.org", &file("ca.crt"));
    assert!(said.contains("CN = second.example.org"), "{said}");
    assert!(said.contains("OCSP response: no response sent"), "{said}");
    assert!(said.contains("return code: 0 (ok)"), "{said}");
    server.stop();
    #[cfg(feature = "program")]
    check_judges_the_staple(&own);
    fs::remove_dir_all(folder).unwrap();
}

/// A staple is good until the second of the times of its answer.
#[cfg(feature = "program")]
fn check_judges_the_staple([certificate, key, ocsp]: &[String; 3]) {
    let check = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        command.env_clear().args(["check", "--listen", "tls:127.0.0.1:0"]);
        for (key, value) in [("certificate", certificate), ("key", key), ("ocsp", ocsp)] {
            command.args(["--set", &format!("tls.{key}={value}")]);
        }
        command.output().expect("the program was built")
    };
    assert!(check().status.success(), "{:?}", check());
    let mut der = fs::read(ocsp).unwrap();
    // GeneralizedTime: when it was made, since when it is good, until when.
    let is_time = |at: &usize| der[*at..].starts_with(&[0x18, 15, b'2', b'0']);
    let times: Vec<usize> = (0..der.len()).filter(is_time).collect();
    der[times[2] + 2..][..4].copy_from_slice(b"2001");
    fs::write(ocsp, der).unwrap();
    let output = check();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("tls.ocsp = ") && said.contains("is past"), "{said}");
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

/// JSSE: a handshake, key updates of its own (it makes one after so many bytes), a session resumed.
#[test]
fn java_speaks_with_us() {
    let server = start(&[("limits.message_bytes", "4m"), ("limits.outbox_bytes", "4m")]);
    let port = server.address.port().to_string();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/Peer.java");
    // A key is changed after 400 kB, not after 2^37 bytes.
    let limit = std::env::temp_dir().join(format!("heartwheel-java-{}", std::process::id()));
    fs::write(&limit, "jdk.tls.keyLimits=AES/GCM/NoPadding KeyUpdate 400000\n").unwrap();
    let limit = format!("-Djava.security.properties={}", limit.display());
    let heap = "-Xmx128m";
    let Some(output) = run("java", &[heap, &limit, source, &port, &file("ca.crt")], &[]) else {
        return;
    };
    assert!(text(&output).contains("done TLS_AES_128_GCM_SHA256 resumed"), "{}", text(&output));
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

/// The scripts of tlsfuzzer for TLS 1.3 that apply, each of which speaks with the server in many
/// ways, most of them wrong: `TLSFUZZER=FOLDER`, a checkout of it, with a Python that has
/// tlslite-ng (`pip install --pre tlslite-ng`). Those for suites, groups, early data and client
/// certificates that are not spoken here do not apply, nor those that send a hello of more than
/// 10 kB, and those that only tell one alert from another where rustls says the other.
#[test]
fn tlsfuzzer_speaks_with_us() {
    const SCRIPTS: [&str; 9] = [
        "conversation",
        "ccs",
        "hrr",
        "invalid-ciphers",
        "keyupdate",
        "no-unknown-groups",
        "nociphers",
        "record-padding",
        "unencrypted-alert",
    ];
    // They go on sending: the reset that follows may overtake the alert.
    const RACES: [&str; 7] = [
        "large KeyUpdate message",
        "fragmented keyupdate msg",
        "1/4 fragmented keyupdate msg, appdata between",
        "2/3 fragmented keyupdate msg, appdata between",
        "3/2 fragmented keyupdate msg, appdata between",
        "4/1 fragmented keyupdate msg, appdata between",
        "two KeyUpdates, first fragmented, second fragment under new keys together with second \
         KeyUpdate",
    ];
    let Some(folder) = std::env::var_os("TLSFUZZER") else {
        return println!("== NOT RUN: TLSFUZZER names no checkout of tlsfuzzer");
    };
    // The scripts ask for a certificate of RSA.
    let own = std::env::temp_dir().join(format!("heartwheel-rsa-{}", std::process::id()));
    let [certificate, key] = ["crt", "key"].map(|end| format!("{}.{end}", own.display()));
    let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"];
    let more = ["-addext", "basicConstraints=CA:FALSE", "-keyout", &key, "-out", &certificate];
    if run("openssl", &[&make[..], &more].concat(), &[]).is_none() {
        return;
    }
    let server = start(&[("tls.certificate", &certificate), ("tls.key", &key)]);
    let port = server.address.port().to_string();
    let host = server.address.ip().to_string();
    for script in SCRIPTS {
        let mut command = Command::new("python3");
        command.current_dir(&folder).env("PYTHONPATH", &folder);
        if let Some(path) = std::env::var_os("PYTHONPATH") {
            let paths = [folder.clone(), path];
            command.env("PYTHONPATH", std::env::join_paths(paths).expect("they are paths"));
        }
        command.args([&format!("scripts/test-tls13-{script}.py"), "-h", &host, "-p", &port]);
        command.args(RACES.iter().flat_map(|race| ["-e", race]));
        let output = command.output().expect("there is a Python");
        let said = text(&output);
        println!("{script}: {}", said.lines().find(|line| line.starts_with("PASS")).unwrap_or(""));
        let failed = said.split("FAILED:").nth(1).unwrap_or(&said);
        assert!(output.status.success(), "{script}: {failed}");
    }
    let _ = (fs::remove_file(certificate), fs::remove_file(key));
    server.stop();
}

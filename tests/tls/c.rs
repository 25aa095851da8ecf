//! A host in C: the library with the feature `tls`, an address of TLS, its keys in TOML.

use std::env;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use super::client::{FOLDER, TlsClient, config, file};
use super::stacks::{run, text};
use crate::common::frame::{TEXT, frame};

/// Builds the library into a folder of its own, and the program against it.
fn build() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("tls-capi");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.current_dir(root).args(["build", "--quiet", "--locked", "--features", "ffi,tls"]);
    cargo.args(["--package", "heartwheel-capi", "--target-dir"]).arg(&target);
    assert!(cargo.status().expect("there is a cargo").success());
    let (library, program) = (target.join("debug"), target.join("host"));
    let mut cc = Command::new("cc");
    cc.args(["-std=c99", "-Wall", "-Wextra", "-Werror", "-pedantic", "-g", "-I"]);
    cc.arg(root.join("src/ffi")).arg("-I").arg(root.join("tests/ffi"));
    cc.arg(root.join("tests/tls/host.c")).arg("-o").arg(&program);
    cc.arg(library.join("libheartwheel.a")).args(["-lpthread", "-ldl", "-lm"]);
    assert!(cc.status().expect("there is a compiler").success());
    program
}

#[test]
fn a_host_in_c_serves_over_tls() {
    if Command::new("cc").arg("--version").stdout(Stdio::null()).status().is_err() {
        return println!("== NOT RUN: there is no cc");
    }
    let mut host = Command::new(build());
    host.arg(FOLDER.trim_end_matches('/')).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut host = host.spawn().expect("it was built");
    let mut line = String::new();
    BufReader::new(host.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let port: u16 = line.trim().parse().unwrap_or_else(|_| panic!("{line:?} {:?}", host.wait()));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    for certificate in [None, Some("client")] {
        let config = Arc::new(config(certificate));
        let mut client = TlsClient::connect_with(address, &config, "localhost");
        client.upgrade("/echo");
        for len in [1, 125, 70_000] {
            let message = "x".repeat(len).into_bytes();
            client.send(frame(TEXT, &message));
            assert_eq!(client.read_frame(), (TEXT, message));
        }
    }
    let stranger = Arc::new(config(Some("stranger")));
    let said = TlsClient::connect_with(address, &stranger, "localhost").ended_by();
    assert!(said.contains("UnknownCA") || said.contains("ertificate"), "{said}");
    let (address, ca) = (address.to_string(), file("ca.crt"));
    let own = ["s_client", "-connect", &address, "-CAfile", &ca, "-servername", "localhost"];
    let request = "GET /topics/a HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if let Some(output) = run("openssl", &own, &[request]) {
        let said = text(&output);
        assert!(said.contains("return code: 0 (ok)") && said.contains("HTTP/1.1 204"), "{said}");
    }
    drop(host.stdin.take());
    assert!(host.wait().unwrap().success());
}

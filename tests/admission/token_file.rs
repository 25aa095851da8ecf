//! The file of tokens, and the program: faults are lines that bear no token, and no log line does.

use std::process::{Command, Output};
use std::time::Duration;

use crate::common::client::Client;
use crate::common::http::upgrade_request;
use crate::common::program::Program;
use crate::common::topics::request;
use crate::tokens::TokenFile;

fn run(command: &str, file: &str) -> (i32, String, String) {
    let mut program = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
    program.env_clear().args([command, "--listen", "127.0.0.1:0", "--set", "admin_listen=off"]);
    let tokens = format!("admission.tokens={file}");
    let Output { status, stdout, stderr } = program.args(["--set", &tokens]).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn each_fault_of_the_file_is_a_line_that_names_its_line_and_no_token() {
    let file = TokenFile::new("good publish=*\nsecret publish=a/b\n\nsecret! subscribe=*\n");
    for command in ["check", "serve"] {
        let (status, _, stderr) = run(command, file.path());
        assert_eq!(status, 2, "{stderr}");
        let lines: Vec<_> = stderr.lines().filter(|line| line.contains("tokens")).collect();
        assert_eq!(lines.len(), 2, "{stderr}");
        for (line, number) in lines.iter().zip([2, 4]) {
            let begin = format!("heartwheel: admission.tokens = {}: line {number}: ", file.path());
            assert!(line.starts_with(&begin), "{line}");
        }
        assert!(!stderr.contains("secret"), "{stderr}");
        let (status, _, stderr) = run(command, "/nowhere/tokens");
        assert_eq!(status, 2);
        assert!(stderr.contains("admission.tokens = /nowhere/tokens: No such file"), "{stderr}");
    }
}

#[test]
fn what_is_printed_and_logged_bears_no_token() {
    let file = TokenFile::new("s3cr3t-one publish=* subscribe=*\n");
    for command in ["check", "print-config"] {
        let (status, stdout, stderr) = run(command, file.path());
        assert_eq!(status, 0, "{stderr}");
        assert!(stdout.contains(file.path()) && !stdout.contains("s3cr3t"), "{stdout}");
    }
    let program = Program::start(&[("admission.tokens", file.path()), ("log", "trace")]);
    let address = program.address;
    let bearer = "Authorization: Bearer s3cr3t-one\r\n";
    assert_eq!(request(address, "GET /topics/a", bearer, b"").status, 204);
    assert_eq!(request(address, "GET /topics/a?access_token=s3cr3t-one", "", b"").status, 204);
    assert_eq!(request(address, "GET /topics/a?access_token=s3cr3t-two", "", b"").status, 401);
    let mut peer = Client::connect(address);
    let lines = "Sec-WebSocket-Protocol: heartwheel.bearer.s3cr3t-one\r\n";
    peer.send(upgrade_request("/topics/a", lines).as_bytes());
    assert_eq!(peer.read_answer().status, 101);
    peer.send(b"\xff\xff");
    peer.expect_close(1002);
    drop(peer);
    program.wait_logged("reason=protocol");
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(program.logged("s3cr3t"), 0);
}

//! `heartwheel verdict`, as its users run it.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Command, Output};
use std::thread;

use heartwheel::{Server, app};

use crate::common::server::TestServer;

fn verdict(address: SocketAddr, path: &str, more: &[&str]) -> Output {
    let url = format!("http://{address}{path}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
    command.args(["verdict", &url]).args(more).env_clear().output().expect("the program was built")
}

/// Gives these figures, one after the other, to those who ask for `/metrics`.
fn figures(texts: [String; 2]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for text in texts {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> =
                lines.map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            assert!(head[0].starts_with("GET /metrics "), "{head:?}");
            let len = text.len();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{text}").unwrap();
        }
    });
    address
}

fn ends(of: &[(&str, &str, u32)]) -> String {
    let line = |(cohort, reason, count): &(&str, &str, u32)| {
        format!(
            "heartwheel_connections_closed_total{{transport=\"websocket\",reason=\"{reason}\",\
             cohort=\"{cohort}\"}} {count}\n"
        )
    };
    of.iter().map(line).collect()
}

#[test]
fn its_status_is_that_of_the_canary() {
    let before = ends(&[("canary", "peer", 10), ("stable", "peer", 100)]);
    for (faults, status) in [(10, 0), (20, 1)] {
        let after = ends(&[
            ("canary", "peer", 100),
            ("canary", "heartbeat", faults),
            ("stable", "peer", 1000),
            ("stable", "protocol", 100),
        ]);
        let address = figures([before.clone(), after]);
        let said = verdict(address, "", &["--for", "1s"]);
        let (out, complaint) =
            (String::from_utf8(said.stdout).unwrap(), String::from_utf8(said.stderr).unwrap());
        assert_eq!(said.status.code(), Some(status), "{out} {complaint}");
        assert!(out.contains("ends by fault") && out.contains("10.0 %"), "{out}");
        assert_eq!(complaint.contains("more than 15% worse: ends by fault"), status == 1);
    }
}

#[test]
fn what_cannot_be_compared_is_status_2() {
    let failed = |said: Output, why: &str| {
        let complaint = String::from_utf8(said.stderr).unwrap();
        assert_eq!(said.status.code(), Some(2), "{complaint}");
        assert!(complaint.contains(why) && complaint.lines().count() == 1, "{complaint}");
    };
    let start = |pairs: &[(&str, &str)]| {
        let pairs = [&[("admin_listen", "127.0.0.1:0")], pairs].concat();
        TestServer::serve(&pairs, app::routes(Server::builder()))
    };
    let plain = start(&[]);
    let address = plain.admin.unwrap();
    failed(verdict(address, "/metrics", &["--for", "1s"]), "there are no cohorts");
    failed(verdict(address, "/none", &["--for", "1s"]), "status 404");
    let server = start(&[("canary.percent", "50")]);
    let address = server.admin.unwrap();
    failed(verdict(address, "", &["--for", "1s"]), "too little to compare");
    failed(verdict(address, "", &["--for", "0"]), "--for 0: must be");
    failed(verdict(address, "", &["--json"]), "--json: is for subscribe");
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    failed(verdict(nobody, "", &[]), "refused");
}

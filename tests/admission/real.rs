//! The service that `admission.request` names, over real sockets: one in Python, many that are
//! broken, and a crowd that comes back at once.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use heartwheel::core::observe::stats::Histogram;

use crate::common::http::{get_request, upgrade_request};
use crate::common::process::raise_descriptors;
use crate::common::server::TestServer;
use crate::common::timing::{Span, ms};

/// Serves each connection on a thread of its own, once its question is read.
fn service(serve: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let serve = serve.clone();
            thread::spawn(move || {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    match stream.read(&mut byte) {
                        Ok(1) => head.push(byte[0]),
                        _ => return,
                    }
                }
                serve(stream);
            });
        }
    });
    format!("http://{address}/check")
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    while !answer.ends_with(b"\n") || !answer.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut buffer).expect("an answer comes") {
            0 => break,
            len => answer.extend_from_slice(&buffer[..len]),
        }
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn a_service_that_lies_hangs_or_floods_lets_nobody_in() {
    const MEBIBYTE: usize = 1 << 20;
    let long = "x".repeat(MEBIBYTE);
    let flood = |head: &str| [head.as_bytes(), &vec![b'x'; 10 * MEBIBYTE]].concat();
    let answers: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", Vec::new()),
        ("half a head", b"HTTP/1.1 200 OK\r\nContent-Le".into()),
        ("half a body", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel".into()),
        ("half a chunk", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe".into()),
        ("something else", b"SSH-2.0-OpenSSH_9.7\r\n".into()),
        ("a redirect", b"HTTP/1.1 302 X\r\nLocation: /\r\nContent-Length: 0\r\n\r\n".into()),
        ("an upgrade", b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\n\r\n".into()),
        ("only 100", b"HTTP/1.1 100 Continue\r\n\r\n".into()),
        ("10 MB", flood("HTTP/1.1 200 OK\r\nContent-Length: 10485760\r\n\r\n")),
        ("10 MB until it closes", flood("HTTP/1.1 200 OK\r\n\r\n")),
        ("a long head", format!("HTTP/1.1 200 OK\r\nA: {long}\r\n\r\n").into_bytes()),
        (
            "two lengths",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nContent-Length: 1\r\n\r\nx".into(),
        ),
        ("no text", b"HTTP/1.1 204 X\r\nHeartwheel-Identity: \xff\r\n\r\n".into()),
    ];
    for (what, answer) in answers {
        let url = service(move |mut stream| {
            let _ = stream.write_all(&answer);
        });
        let server = TestServer::start(&[("admission.request", &url)]);
        let answer = ask(server.address, &get_request("/echo", ""));
        assert!(answer.starts_with("HTTP/1.1 426"), "{answer}: no route by GET");
        let answer = ask(server.address, &upgrade_request("/echo", ""));
        assert!(answer.starts_with("HTTP/1.1 503 "), "{what}: {answer}");
    }
    for (what, head) in [("silence", ""), ("silence behind a head", "HTTP/1.1 200 OK\r\n\r\n")] {
        let url = service(move |mut stream| {
            stream.write_all(head.as_bytes()).unwrap();
            let _ = stream.read(&mut [0]);
        });
        let server = TestServer::start(&[("admission.request", &url)]);
        let span = Span::begin();
        let answer = ask(server.address, &upgrade_request("/echo", ""));
        assert!(answer.starts_with("HTTP/1.1 503 "), "{what}: {answer}");
        span.took(what, ms(2000));
    }
    let server = TestServer::start(&[("admission.request", "http://127.0.0.1:1/")]);
    assert!(ask(server.address, &upgrade_request("/echo", "")).starts_with("HTTP/1.1 503 "));
}

/// One program that is killed with the value.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn the_example_in_python_decides() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/python/admission.py");
    let mut command = Command::new("python3");
    let Ok(child) =
        command.args([script, "0"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()
    else {
        eprintln!("skipped: there is no python3");
        return;
    };
    let mut child = Killed(child);
    let mut line = String::new();
    let mut lines = BufReader::new(child.0.stdout.take().unwrap());
    lines.read_line(&mut line).unwrap();
    let url = format!("http://127.0.0.1:{}/check", line.rsplit(' ').next().unwrap().trim());
    let server = TestServer::start_with(&[("admission.request", &url)], |builder| {
        let who = |request: &heartwheel::http::Request| {
            heartwheel::http::Response::new(200).text(request.identity().unwrap_or("nobody"))
        };
        builder.topics("/topics/{topic}").get("/who", who)
    });
    let token = "Authorization: Bearer 7Jp0uX2vQd\r\n";
    let get = |path: &str, lines: &str| {
        let answer =
            ask(server.address, &get_request(path, &format!("{lines}Connection: close\r\n")));
        (answer[9..12].to_owned(), answer.rsplit("\r\n").next().unwrap().to_owned())
    };
    assert_eq!(
        get("/who", ""),
        ("401".into(), "the service that decides about this refuses it\n".into())
    );
    assert_eq!(get("/who", "Authorization: Bearer x\r\n").0, "401");
    assert_eq!(get("/who", token), ("200".into(), "device-7".into()));
    assert_eq!(get("/who?access_token=kR4mNz8sWy", ""), ("200".into(), "device-8".into()));
    assert_eq!(get("/topics/all", token).0, "204");
    assert_eq!(get("/topics/commands.8", token).0, "403");
    let opened = ask(server.address, &upgrade_request("/echo", token));
    assert!(opened.starts_with("HTTP/1.1 101 "), "{opened}");
}

/// It is asked over TLS where its URL says so, and believed only by its certificate.
#[cfg(all(feature = "tls", feature = "program"))]
#[test]
fn a_service_over_tls_is_believed_if_its_certificate_is_good() {
    use std::path::Path;

    use crate::common::program::Program;

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tls/certificates");
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let service = TestServer::start(&[
        ("listen", "tls:127.0.0.1:0"),
        ("tls.certificate", &file("server.crt")),
        ("tls.key", &file("server.key")),
    ]);
    let url = format!("https://localhost:{}/", service.address.port());
    // It lets in without a right, or is not believed.
    for (authority, expected) in [("ca.crt", "403"), ("other-ca.crt", "503")] {
        let authority = folder.join(authority);
        let environment = [("SSL_CERT_FILE", authority.as_path())];
        let program = Program::start_in(&environment, &[("admission.request", &url)]);
        let answer = ask(program.address, &get_request("/topics/a", ""));
        assert_eq!(answer.split(' ').nth(1), Some(expected), "{answer} {:#?}", program.lines());
    }
}

/// Thousands come back within two seconds, and the service takes 50 ms for each question. `LONG=1`
/// has 5,000 of them, each with a token of its own; else there are fewer.
#[test]
fn a_crowd_that_comes_back_is_decided_on_in_time() {
    let is_long = std::env::var_os("LONG").is_some();
    let count = if is_long { 5000 } else { 300 };
    raise_descriptors();
    let url = service(|mut stream| {
        thread::sleep(ms(50));
        let _ = stream.write_all(b"HTTP/1.1 204 X\r\n\r\n");
    });
    for has_own_token in [true, false] {
        let pairs = [("admission.request", url.as_str()), ("deadlines.handshake", "5s")];
        let server = TestServer::start(&pairs);
        let address = server.address;
        let began = Instant::now();
        let crowd: Vec<_> = (0..50)
            .map(|thread| {
                thread::spawn(move || {
                    let ask = |n: usize| {
                        thread::sleep(ms(2000) / (count / 50) as u32);
                        let mut stream = TcpStream::connect(address).unwrap();
                        let name = if has_own_token { thread * 1000 + n } else { 0 };
                        let token = format!("Authorization: Bearer {name}\r\n");
                        stream.write_all(upgrade_request("/echo", &token).as_bytes()).unwrap();
                        stream
                    };
                    let streams: Vec<TcpStream> = (0..count / 50).map(ask).collect();
                    let status = |mut stream: TcpStream| {
                        let mut head = [0; 12];
                        stream.read_exact(&mut head).expect("each is answered");
                        (&head[9..] == b"101", began.elapsed())
                    };
                    streams.into_iter().map(status).collect::<Vec<_>>()
                })
            })
            .collect();
        let decided: Vec<_> = crowd.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        let last = decided.iter().map(|(_, at)| *at).max().unwrap();
        let admitted = decided.iter().filter(|(is_in, _)| *is_in).count();
        let stats = server.stats();
        println!(
            "{count} clients, own tokens: {has_own_token}: {admitted} let in, {} questions, the \
             last after {last:?}, 99% of turns within {} us, the longest {} us",
            stats.service.asked,
            percentile_99(&stats.turn_us),
            stats.turn_us.max(),
        );
        assert!(last < Duration::from_secs(8) + ms(1000), "{last:?}");
        assert!(has_own_token || stats.service.asked <= 2, "one question for all");
        assert!(is_long && has_own_token || admitted == count, "{admitted}");
    }
}

/// The bound of the bucket below which 99% of the values lie.
fn percentile_99(histogram: &Histogram) -> u64 {
    let mut counted = 0;
    let is_reached = |bucket: &u64| {
        counted += bucket;
        counted * 100 >= histogram.count() * 99
    };
    let index = histogram.buckets().iter().position(is_reached).unwrap_or(0);
    Histogram::BOUNDS.get(index).copied().unwrap_or(u64::MAX)
}

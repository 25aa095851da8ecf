//! `heartwheel subscribe` and `heartwheel publish`, as their users run them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use heartwheel::CloseReason;
use rustix::pipe::fcntl_getpipe_size;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::program::Program;
use crate::common::server::{TestServer, ends, own_address};
use crate::common::temp_file::TempFile;
use crate::common::timing::{PATIENCE, Span, comes_within, ms};
use crate::common::topics::{post, publish, publish_bytes, start};

/// One run of the program, which is killed with the value.
struct Run {
    child: Child,
    stdin: Option<ChildStdin>,
    /// The lines of stdout.
    lines: Option<Receiver<String>>,
    /// The lines of stderr.
    complaints: Receiver<String>,
}

impl Run {
    fn start(arguments: &[&str]) -> Run {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        command.args(arguments).env_clear();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the program was built");
        let lines = Some(lines_of(child.stdout.take().expect("it is piped")));
        let complaints = lines_of(child.stderr.take().expect("it is piped"));
        Run { stdin: child.stdin.take(), child, lines, complaints }
    }

    /// Waits for the next line of stdout.
    #[track_caller]
    fn line(&self) -> String {
        let lines = self.lines.as_ref().expect("somebody reads");
        lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no line: {:?}", self.complaints()))
    }

    /// Waits for the next line of stderr.
    #[track_caller]
    fn complaint(&self) -> String {
        self.complaints.recv_timeout(PATIENCE).expect("a line comes")
    }

    fn complaints(&self) -> Vec<String> {
        self.complaints.try_iter().collect()
    }

    fn say(&mut self, text: &str) {
        let stdin = self.stdin.as_mut().expect("it is open");
        stdin.write_all(text.as_bytes()).expect("it reads");
        stdin.flush().expect("it reads");
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it is our child");
    }

    /// Waits for its end. Gives its status, and what of stdout and stderr nobody has read.
    #[track_caller]
    fn end(mut self) -> (i32, Vec<String>, Vec<String>) {
        drop(self.stdin.take());
        let ends = comes_within(PATIENCE, || self.child.try_wait().unwrap().is_some());
        assert!(ends, "it does not end: {:?}", self.complaints());
        let status = self.child.try_wait().unwrap().and_then(|status| status.code());
        // The pipes are closed: all is there.
        let lines = self.lines.take().map(|lines| lines.iter().collect()).unwrap_or_default();
        (status.expect("it ended by itself"), lines, self.complaints.iter().collect())
    }

    /// Waits for an end without a failure, and gives what it printed.
    #[track_caller]
    fn printed(self) -> Vec<String> {
        let (status, lines, complaints) = self.end();
        assert_eq!((status, &complaints[..]), (0, &[][..]));
        lines
    }

    /// Waits for a failure, and gives what it is told with.
    #[track_caller]
    fn failed(self, status: i32) -> String {
        let (found, _, complaints) = self.end();
        assert_eq!(found, status, "{complaints:?}");
        let [complaint] = &complaints[..] else { panic!("not one line: {complaints:?}") };
        complaint.clone()
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines_of(source: impl Read + Send + 'static) -> Receiver<String> {
    let (tell, lines) = channel();
    let read = move || {
        let lines = BufReader::new(source).split(b'\n').map_while(Result::ok);
        for line in lines {
            // Nobody may want it any more.
            let _ = tell.send(String::from_utf8_lossy(&line).into_owned());
        }
    };
    thread::spawn(read);
    lines
}

fn server() -> TestServer {
    start(&[])
}

fn url(address: SocketAddr) -> String {
    format!("ws://{address}")
}

/// Publishes with the program, and gives the id.
#[track_caller]
fn publish_by_program(address: SocketAddr, topic: &str, payload: &str) -> String {
    let lines = Run::start(&["publish", &url(address), topic, payload]).printed();
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines[0].clone()
}

#[test]
fn what_one_publishes_another_prints() {
    let server = server();
    let url = url(server.address);
    let first = publish_by_program(server.address, "a", "zero");
    publish_by_program(server.address, "a", "one");
    let mut run = Run::start(&["publish", &url, "a", "-"]);
    run.say("two\n\nla");
    run.say("st");
    assert_eq!(run.printed().len(), 3, "the last line needs no end");
    let mut run = Run::start(&["publish", &url.replace("ws", "http"), "a"]);
    run.say("all of it\nis one\n");
    assert_eq!(run.printed().len(), 1);
    let run = Run::start(&["subscribe", &url, "a", "--after", &first, "--count", "5"]);
    assert_eq!(run.printed(), ["one", "two", "", "last", "all of it", "is one", ""]);
    let run = Run::start(&["--count=1", "subscribe", &url, "a", "b", "--after=0-0"]);
    assert_eq!(run.printed(), ["zero"]);
}

#[test]
fn events_are_lines_of_json() {
    let server = server();
    let address = server.address;
    let ids = [
        publish(address, "a", "a \"b\"\nc"),
        publish_bytes(address, "a", &[0, 255]),
        publish(address, "a", ""),
    ];
    let json = post(address, "a", "application/json", b"{\"n\":\n [1.50]}");
    assert_eq!(json.status, 200);
    let run =
        Run::start(&["subscribe", &url(address), "a", "a", "--after=0-0", "--count=4", "--json"]);
    let lines = run.printed();
    assert_eq!(
        lines[..3],
        [
            format!(r#"{{"topic":"a","id":"{}","data":"a \"b\"\nc"}}"#, ids[0]),
            format!(r#"{{"topic":"a","id":"{}","base64":"AP8="}}"#, ids[1]),
            format!(r#"{{"topic":"a","id":"{}","data":""}}"#, ids[2]),
        ]
    );
    assert!(lines[3].ends_with(r#""data":{"n":  [1.50]}}"#), "{}", lines[3]);
}

/// What is no UTF-8, from all sources.
#[cfg(feature = "cbor")]
#[test]
fn bytes_are_published_and_printed_as_they_are() {
    let server = server();
    let url = url(server.address);
    let word = std::os::unix::ffi::OsStringExt::from_vec(vec![b'w', 0xff]);
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
    let first = command.args(["publish", &url, "a"]).arg::<std::ffi::OsString>(word);
    let first = first.output().unwrap();
    assert!(first.status.success(), "{}", String::from_utf8_lossy(&first.stderr));
    let first = String::from_utf8(first.stdout).unwrap();
    for (arguments, bytes) in [(&[][..], &b"a\nb\xfe\n"[..]), (&["-"], b"\x80\ntext\n")] {
        let mut run = Run::start(&[&["publish", &url, "a"], arguments].concat());
        run.stdin.as_mut().unwrap().write_all(bytes).unwrap();
        run.printed();
    }
    let after = ["subscribe", &url, "a", "--after", "0-0", "--count", "4"];
    let lines = Run::start(&[&after[..], &["--json"]].concat()).printed();
    assert!(
        lines[0].contains(&format!(r#""id":"{}","base64":"d/8="}}"#, first.trim())),
        "{lines:?}"
    );
    let ends = [r#""base64":"d/8="}"#, r#""base64":"YQpi/go="}"#, r#""base64":"gA=="}"#];
    for (line, end) in lines.iter().zip(ends.into_iter().chain([r#""data":"text"}"#])) {
        assert!(line.ends_with(end), "{line}");
    }
    let printed = Command::new(env!("CARGO_BIN_EXE_heartwheel")).args(after).output().unwrap();
    assert_eq!(printed.stdout, b"w\xff\na\nb\xfe\n\n\x80\ntext\n");
}

#[test]
fn a_gap_stands_where_events_are_missing() {
    let server = start(&[("topics.retain_events", "1")]);
    let address = server.address;
    let old = publish(address, "a", "one");
    publish(address, "a", "two");
    let last = publish(address, "a", "three");
    let after = format!("--after={old}");
    let run = Run::start(&["subscribe", &url(address), "a", &after, "--count=1", "--json"]);
    assert_eq!(
        run.printed(),
        [
            format!(r#"{{"topic":"a","gap":"{last}"}}"#),
            format!(r#"{{"topic":"a","id":"{last}","data":"three"}}"#),
        ]
    );
    let run = Run::start(&["subscribe", &url(address), "a", &after, "--count=1"]);
    let (status, lines, complaints) = run.end();
    assert_eq!((status, lines), (0, vec!["three".to_owned()]));
    assert_eq!(complaints, [format!("heartwheel: a: events are missing before {last}")]);
    let run = Run::start(&["subscribe", &url(address), "b", "--after=5-5", "--json"]);
    assert_eq!(run.line(), r#"{"topic":"b","gap":null}"#);
}

#[test]
fn many_lines_come_in_their_order() {
    let server = start(&[("topics.retain_events", "3000"), ("topics.retain_bytes", "10m")]);
    let url = url(server.address);
    let subscriber = Run::start(&["subscribe", &url, "a", "--after=0-0", "--count=2001", "--json"]);
    let mut run = Run::start(&["publish", &url, "a", "-", "--timeout=off"]);
    let mut expected: Vec<String> = (0..2000).map(|number| format!("line {number}")).collect();
    // One that is longer than all that may wait for an answer.
    expected.insert(1000, "x".repeat(100 << 10));
    run.say(&expected.join("\n"));
    let ids = run.printed();
    assert_eq!(ids.len(), expected.len());
    let lines = subscriber.printed();
    for ((line, id), text) in lines.iter().zip(&ids).zip(&expected) {
        assert_eq!(*line, format!(r#"{{"topic":"a","id":"{id}","data":"{text}"}}"#));
    }
    assert_eq!(lines.len(), expected.len());
}

#[test]
fn a_server_that_comes_back_is_subscribed_to_again() {
    // An address of its own: nobody else takes the port while it is free.
    let server = Program::start(&[("listen", &own_address())]);
    let address = server.address;
    let url = url(address);
    let run = Run::start(&["subscribe", &url, "a", "--after=0-0", "--set", "client.delay=100ms"]);
    publish_by_program(address, "a", "before");
    assert_eq!(run.line(), "before");
    server.signal(Signal::KILL);
    drop(server);
    let _server = Program::start(&[("listen", &address.to_string())]);
    publish_by_program(address, "a", "behind");
    assert_eq!(run.line(), "behind");
    // It may have been tried five times meanwhile, which is told.
    let is_alarm = |complaint: &String| complaint.contains(": it is tried again");
    let complaint = std::iter::repeat_with(|| run.complaint()).find(|line| !is_alarm(line));
    // Before which one, if it was published when the client came back.
    let complaint = complaint.unwrap();
    assert!(complaint.starts_with("heartwheel: a: events are missing"), "{complaint}");
    run.signal(Signal::TERM);
    assert!(run.printed().is_empty());
}

#[test]
fn a_break_is_gone_on_from_without_a_gap() {
    let server = server();
    let run = Run::start(&["subscribe", &url(server.address), "a", "--after=0-0"]);
    for round in 0..3 {
        for number in [1, 2] {
            let text = format!("{round}-{number}");
            publish(server.address, "a", &text);
            assert_eq!(run.line(), text);
            if number == 1 {
                server.handle.shed(1.0).unwrap();
            }
        }
    }
    run.signal(Signal::TERM);
    run.printed();
    assert_eq!(server.stop().closed_by(CloseReason::Shed), 3);
}

#[test]
fn signals_end_both_in_good_order() {
    let server = server();
    let url = url(server.address);
    for signal in [Signal::TERM, Signal::INT] {
        let run = Run::start(&["subscribe", &url, "a", "--after=0-0"]);
        publish(server.address, "a", "x");
        assert_eq!(run.line(), "x");
        run.signal(signal);
        run.printed();
        let mut run = Run::start(&["publish", &url, "b", "-"]);
        run.say("x\n");
        run.line();
        run.signal(signal);
        // Its stdin stays open.
        let has_ended = comes_within(PATIENCE, || run.child.try_wait().unwrap().is_some());
        assert!(has_ended, "{:?}", run.complaints());
        assert_eq!(run.printed(), [""; 0]);
    }
    // Also where there is no connection.
    let run = Run::start(&["subscribe", "ws://127.0.0.1:1", "a", "--set", "client.delay=20ms"]);
    assert!(run.complaint().contains("refused"), "an alarm after five tries");
    run.signal(Signal::TERM);
    run.printed();
    let stats = server.stop();
    // The others are those that published over HTTP.
    assert_eq!(ends(&stats), [("peer", 4), ("done", 2)], "each has said so");
}

#[test]
fn a_reader_that_goes_ends_it_quietly() {
    let server = server();
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
    command.args(["subscribe", &url(server.address), "a", "--after=0-0"]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    publish(server.address, "a", "x");
    let ends = comes_within(PATIENCE, || child.try_wait().unwrap().is_some());
    if !ends {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(ends && output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// Runs a client whose thread waits for a stderr that nobody reads, and holds its lock. Sends it a
/// signal once, or until it has ended. Returns after how long it ended with status 1, and for how
/// long of that the machine stood still; `None` if it was told before it waited, and has ended in
/// good order.
fn end_of_a_stuck_one(url: &str, is_sent_again: bool) -> Option<(Duration, Duration)> {
    let (_unread, mut stderr) = std::io::pipe().unwrap();
    stderr.write_all(&vec![b'x'; fcntl_getpipe_size(&stderr).unwrap()]).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
    command.args(["subscribe", url, "a", "b", "--after=0-0"]).env_clear();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(stderr);
    let mut child = command.spawn().expect("the program was built");
    let stdout = lines_of(child.stdout.take().expect("it is piped"));
    assert_eq!(stdout.recv_timeout(PATIENCE).as_deref(), Ok("x"), "it is there");
    // What it tells of next is the gap in `b`.
    thread::sleep(ms(300));
    let span = Span::begin();
    let mut is_sent = false;
    let has_ended = comes_within(2 * PATIENCE, || {
        if is_sent_again || !is_sent {
            kill_process(Pid::from_child(&child), Signal::TERM).expect("it is our child");
            is_sent = true;
        }
        child.try_wait().unwrap().is_some()
    });
    let took = span.elapsed();
    if !has_ended {
        child.kill().unwrap();
    }
    let status = child.wait().unwrap().code();
    assert!(has_ended && matches!(status, Some(0 | 1)), "{status:?}");
    (status == Some(1)).then_some((took, span.stalled()))
}

#[test]
fn a_signal_ends_it_even_if_nobody_reads_stderr() {
    let server = start(&[("topics.retain_events", "1")]);
    publish(server.address, "a", "x");
    (0..2).for_each(|_| drop(publish(server.address, "b", "y")));
    let url = url(server.address);
    for is_sent_again in [false, true] {
        let mut ends = (0..10).map(|_| end_of_a_stuck_one(&url, is_sent_again));
        let (took, stalled) = ends.find_map(|end| end).expect("it was stuck once");
        println!("sent again {is_sent_again}: it ended after {took:?}");
        // For five seconds the end in good order is awaited.
        match is_sent_again {
            true => assert!(took < Duration::from_secs(4) + stalled, "{took:?}"),
            false => assert!(took >= Duration::from_secs(5), "{took:?}"),
        }
    }
}

/// What fails while the program runs is no fault of the command line.
#[test]
fn without_descriptors_the_status_is_1() {
    for command in ["subscribe ws://127.0.0.1:1 a", "publish ws://127.0.0.1:1 a x"] {
        let program = env!("CARGO_BIN_EXE_heartwheel");
        let line = format!("ulimit -n 4 && exec '{program}' {command}");
        let output = Command::new("sh").args(["-c", &line]).env_clear().output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.starts_with("heartwheel: there is no loop: "), "{stderr}");
    }
}

#[test]
fn what_cannot_be_is_told_in_one_line_with_status_1() {
    let tokens = TempFile::new("cli-tokens", "good publish=a subscribe=a\n");
    let server = start(&[("admission.tokens", tokens.path())]);
    let url = url(server.address);
    let good = TempFile::new("cli-good", "good\n");
    let bad = TempFile::new("cli-bad", "bad\n");
    let given = ["--token-file", good.path()];
    let run = Run::start(&[&["publish", &url, "a", "x"][..], &given].concat());
    assert_eq!(run.printed().len(), 1);
    for (arguments, words) in [
        (vec!["publish", &url, "a", "x", "--token", "bad"], "HTTP status 401"),
        (vec!["subscribe", &url, "a", "--token-file", bad.path()], "HTTP status 401"),
        (vec!["subscribe", &url, "a"], "HTTP status 401"),
        (vec!["subscribe", &url, "b", "--token=good"], "b: forbidden: "),
        (vec!["publish", &url, "b", "x", "--token=good"], "forbidden: "),
        (
            vec!["publish", "http://127.0.0.1:1", "a", "x", "--timeout=2s"],
            "127.0.0.1:1: not done within 2s: not reached: ",
        ),
        (
            vec!["subscribe", "127.0.0.1:1", "a", "--timeout=2s"],
            "must begin with ws://, wss://, http:// or https://",
        ),
        (
            vec!["subscribe", "ws://127.0.0.1:1", "a", "--timeout=2s"],
            "127.0.0.1:1: no connection for 2s: not reached: ",
        ),
        (vec!["subscribe", &format!("{url}/nowhere"), "a"], "HTTP status 404"),
    ] {
        let status = if words.starts_with("must") { 2 } else { 1 };
        let complaint = Run::start(&arguments).failed(status);
        assert!(complaint.contains(words), "{arguments:?}: {complaint}");
    }
    let mut run = Run::start(&["publish", &url, "a", "-", "--token=good"]);
    run.stdin.as_mut().unwrap().write_all(b"x\n\xff\n").unwrap();
    #[cfg(not(feature = "cbor"))]
    {
        let complaint = run.failed(1);
        assert!(complaint.contains("line 2 of stdin: is no UTF-8"), "{complaint}");
    }
    #[cfg(feature = "cbor")]
    assert_eq!(run.printed().len(), 2, "what is no UTF-8 is bytes");
    let mut run = Run::start(&["publish", &url, "a", "--timeout=2s", "--token=good"]);
    run.say("its end does not come");
    let stdin = run.stdin.take();
    assert!(run.failed(1).contains("not done within 2s"));
    drop(stdin);
}

#[test]
fn a_bad_command_line_of_a_client_is_one_line_and_status_2() {
    let empty = TempFile::new("cli-empty", " \n");
    const URL: &str = "ws://127.0.0.1:1";
    for (arguments, words) in [
        (vec!["subscribe"], "there is no URL"),
        (vec!["subscribe", URL], "there is no topic"),
        (vec!["publish", URL], "there is no topic"),
        (vec!["publish", URL, "a", "x", "y"], "unexpected argument \"y\""),
        (vec!["subscribe", "ftp://x", "a"], "ftp://x: must begin with ws://"),
        (vec!["subscribe", URL, "a", "b c"], "b c: no topic can have this name"),
        (vec!["publish", URL, "", "x"], "no topic can have this name"),
        (vec!["publish", URL, "$stats", "x"], "$stats: this topic is the server's own"),
        (vec!["subscribe", URL, "a", "--after=x"], "--after x: must be"),
        (vec!["subscribe", URL, "a", "--count=0"], "--count 0: must be"),
        (vec!["publish", URL, "a", "x", "--timeout=5"], "--timeout 5: must be"),
        (vec!["publish", URL, "a", "x", "--json"], "--json: is for subscribe"),
        (vec!["--token=x", "serve"], "--token: is for subscribe, publish and verdict"),
        (vec!["subscribe", URL, "a", "--token=x", "--token-file=y"], "there is --token already"),
        (vec!["subscribe", URL, "a", "--token-file=/nowhere"], "/nowhere: No such file"),
        (vec!["subscribe", URL, "a", "--token-file", empty.path()], "there is no token in it"),
        (vec!["subscribe", URL, "a", "--token=\n"], "must not contain control characters"),
        (vec!["subscribe", URL, "a", "--ca=x"], "--ca: "),
        (vec!["subscribe", URL, "a", "--set=client.delay=x"], "client.delay = x: must be"),
    ] {
        let complaint = Run::start(&arguments).failed(2);
        assert!(complaint.contains(words), "{arguments:?}: {complaint}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn over_tls_the_files_are_gone_by() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tls/certificates");
    let file = |name: &str| format!("{folder}/{name}");
    let [certificate, key, ca] = ["server.crt", "server.key", "ca.crt"].map(file);
    let server = start(&[
        ("listen", "tls:127.0.0.1:0"),
        ("tls.certificate", &certificate),
        ("tls.key", &key),
        ("tls.client", "required"),
        ("tls.client_ca", &ca),
    ]);
    let url = format!("https://localhost:{}", server.address.port());
    let [shown, its_key] = ["client.crt", "client.key"].map(file);
    let files = ["--ca", &ca, "--cert", &shown, "--key", &its_key];
    let run = Run::start(&[&["publish", &url, "a", "x"][..], &files].concat());
    assert_eq!(run.printed().len(), 1);
    let all = ["subscribe", &url, "a", "--after=0-0", "--count=1"];
    assert_eq!(Run::start(&[&all[..], &files].concat()).printed(), ["x"]);
    let other = file("other-ca.crt");
    let complaint = Run::start(&["publish", &url, "a", "x", "--ca", &other]).failed(1);
    assert!(complaint.contains("the certificate is not valid"), "{complaint}");
    for (arguments, words) in [
        (["publish", &url, "a", "x", "--ca", "/nowhere"], "/nowhere"),
        (["publish", &url, "a", "x", "--cert", &shown], "--cert: must come with --key"),
        (["publish", "ws://127.0.0.1:1", "a", "x", "--ca", &ca], "--ca: is for wss://"),
    ] {
        let complaint = Run::start(&arguments).failed(2);
        assert!(complaint.contains(words), "{complaint}");
    }
}

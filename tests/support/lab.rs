//! The lab, a server with misbehaving handlers, as a child process: for signals, stops and exit
//! statuses.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::server::{lock, own_address};
use super::{PATIENCE, eventually, ms};

/// A running lab. It is killed when this is dropped.
pub struct Lab {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Lab {
    /// Starts it on free ports; each pair is a key of the configuration and its value.
    pub fn start(pairs: &[(&str, &str)]) -> Lab {
        Lab::start_with(pairs, |_| {})
    }

    /// Starts it with more arguments, or an environment.
    pub fn start_with(pairs: &[(&str, &str)], set_up: impl FnOnce(&mut Command)) -> Lab {
        let listen = own_address();
        let mut all = vec![("listen", listen.as_str()), ("admin_listen", "127.0.0.1:0")];
        all.extend([("tick", "10ms"), ("heartbeat.interval", "off")]);
        all.extend(pairs);
        let mut command = Command::new(program());
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.env("HEARTWHEEL_LOG", "debug");
        for (key, value) in all {
            command.arg("--set").arg(format!("{key}={value}"));
        }
        set_up(&mut command);
        let mut child = command.spawn().expect("the lab was built");
        let lines = Arc::new(Mutex::new(Vec::new()));
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let kept = lines.clone();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lock(&kept).push(line);
            }
        });
        let mut lab =
            Lab { child, address: ([127, 0, 0, 1], 0).into(), admin: ([0; 4], 0).into(), lines };
        eventually("the lab listens", || lab.lines_with("listening address=").len() >= 2);
        for line in lab.lines_with("listening address=") {
            let (_, after) = line.split_once("address=").unwrap();
            let address = after.split(' ').next().unwrap().parse().unwrap();
            match after.contains("for=admin") {
                true => lab.admin = address,
                false => lab.address = address,
            }
        }
        lab
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn exit_within(&mut self, span: Duration) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                println!("the lab ended after {:?}: {status}", began.elapsed());
                return status;
            }
            assert!(
                began.elapsed() < span,
                "the lab did not end within {span:?}: {:#?}",
                self.lines()
            );
            std::thread::sleep(ms(2));
        }
    }

    pub fn lines(&self) -> Vec<String> {
        lock(&self.lines).clone()
    }

    /// Gives the log lines that contain `words`.
    pub fn lines_with(&self, words: &str) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.contains(words)).collect()
    }

    /// Waits for one log line with these words, and gives it.
    #[track_caller]
    pub fn expect_line(&self, words: &str) -> String {
        let began = Instant::now();
        while self.lines_with(words).is_empty() {
            assert!(began.elapsed() < PATIENCE, "no line {words:?}: {:#?}", self.lines());
            std::thread::sleep(ms(2));
        }
        let lines = self.lines_with(words);
        assert_eq!(lines.len(), 1, "{lines:#?}");
        lines[0].clone()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Gives the path of the lab. `cargo test --test NAME` does not build examples, so it is asked for
/// here.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let folder = Path::new(env!("CARGO_BIN_EXE_heartwheel")).parent().unwrap();
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--offline", "--example", "lab"]);
        if folder.ends_with("release") {
            build.arg("--release");
        }
        let built = build.current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(built.is_ok_and(|status| status.success()), "the lab can be built");
        folder.join("examples/lab")
    })
}

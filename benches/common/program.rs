//! A server as a child process: the program, or any other that says where it listens.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use super::process::Process;

/// A running server. It is killed with the value.
pub struct Program {
    child: Child,
    pub address: SocketAddr,
    /// The operator's listener, if it was asked for.
    pub admin: Option<SocketAddr>,
    /// When its start began.
    pub began: Instant,
    log_lines: Arc<AtomicUsize>,
}

/// Whether the program has an operator's listener.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Admin {
    On,
    Off,
}

impl Program {
    /// Starts the program on a port of its own, with these settings, `KEY=VALUE`.
    ///
    /// # Errors
    ///
    /// If it ends instead; with its last words.
    pub fn start(settings: &[String], admin: Admin) -> io::Result<Program> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heartwheel"));
        command.env_clear();
        Program::start_as(command, settings, admin)
    }

    /// Starts another program with the same options, as [`program::run`] gives them.
    ///
    /// [`program::run`]: heartwheel::program::run
    ///
    /// # Errors
    ///
    /// If it ends instead; with its last words.
    pub fn start_as(
        mut command: Command,
        settings: &[String],
        admin: Admin,
    ) -> io::Result<Program> {
        command.arg("serve");
        if !settings.iter().any(|setting| setting.starts_with("listen=")) {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let listen = match admin {
            Admin::On => "admin_listen=127.0.0.1:0",
            Admin::Off => "admin_listen=off",
        };
        for setting in std::iter::once(listen).chain(settings.iter().map(String::as_str)) {
            command.args(["--set", setting]);
        }
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stderr(Stdio::piped()).spawn()?;
        let stderr = child.stderr.take().expect("it is piped");
        let count = if admin == Admin::On { 2 } else { 1 };
        Program::await_addresses(child, stderr, "listening address=", count, began)
    }

    /// Starts a server that prints one line, `listening ADDRESS`, to its standard output.
    ///
    /// # Errors
    ///
    /// If it ends instead.
    pub fn start_other(mut command: Command) -> io::Result<Program> {
        let began = Instant::now();
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take().expect("it is piped");
        Program::await_addresses(child, stdout, "listening ", 1, began)
    }

    pub fn process(&self) -> Process {
        Process(self.child.id())
    }

    pub fn log_lines(&self) -> usize {
        self.log_lines.load(Ordering::Relaxed)
    }

    fn await_addresses(
        mut child: Child,
        output: impl Read + Send + 'static,
        mark: &str,
        count: usize,
        began: Instant,
    ) -> io::Result<Program> {
        let mut lines = BufReader::new(output).lines();
        let mut said = Vec::new();
        let mut addresses = Vec::new();
        while addresses.len() < count {
            let Some(Ok(line)) = lines.next() else {
                // It may have ended by itself.
                let _ = child.kill();
                let _ = child.wait();
                let said = said.join("; ");
                return Err(io::Error::other(format!("it told no address: {said}")));
            };
            let behind = line.split_once(mark).map(|(_, behind)| behind);
            let word = behind.and_then(|behind| behind.split_whitespace().next());
            let word = word.map(|address| address.trim_start_matches("tls:"));
            match word.and_then(|address| address.parse::<SocketAddr>().ok()) {
                Some(address) => addresses.push(address),
                None => said.push(line),
            }
        }
        let log_lines = Arc::new(AtomicUsize::new(0));
        let counted = log_lines.clone();
        // It would block, or lose its log, if nobody read it.
        thread::spawn(move || {
            for _ in lines.map_while(Result::ok) {
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        let admin = addresses.get(1).copied();
        Ok(Program { child, address: addresses[0], admin, began, log_lines })
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

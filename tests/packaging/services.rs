//! What service managers read: systemd's units, and the script for OpenWrt's procd, which is run.

use std::fs;
use std::process::{Command, Output};

use super::{Folder, assert_passes, path};
use crate::common::client::{Client, Seen};
use crate::common::server::own_address;
use crate::common::timing::eventually;

#[test]
fn systemd_takes_the_units() {
    let own = Folder::new("units");
    let units = ["heartwheel.service", "heartwheel.socket"].map(|name| {
        let text = fs::read_to_string(path("examples/service").join(name)).unwrap();
        // It is installed on no machine that tests it.
        let text = text.replace("/usr/local/bin/heartwheel", "/bin/true");
        fs::write(own.path(name), text).unwrap();
        own.path(name)
    });
    assert_passes("systemd-analyze", &["verify", &units[0], &units[1]]);
}

/// A router: the script as it is, but for the places of the program and its configuration, and a
/// procd that starts, signals and ends the real program.
struct Router(Folder);

impl Router {
    fn new(config: &str) -> Router {
        let router = Router(Folder::new("procd"));
        let script = fs::read_to_string(path("examples/service/heartwheel.init")).unwrap();
        let script = script
            .replace("/usr/bin/heartwheel", env!("CARGO_BIN_EXE_heartwheel"))
            .replace("/etc/heartwheel.toml", &router.0.path("heartwheel.toml"));
        fs::write(router.0.path("heartwheel"), script).unwrap();
        router.configure(config);
        router
    }

    fn configure(&self, text: &str) {
        fs::write(self.0.path("heartwheel.toml"), text).unwrap();
    }

    fn call(&self, action: &str) -> Output {
        let common = path("tests/packaging/rc.common");
        let mut shell = Command::new("sh");
        shell.arg(common).arg(self.0.path("heartwheel")).arg(action).env_clear();
        shell.env("PATH", "/usr/bin:/bin").env("PROCD", self.0.path(""));
        shell.output().expect("there is a shell")
    }

    #[track_caller]
    fn succeed(&self, action: &str) {
        let output = self.call(action);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.is_empty(), "{action}: {said}");
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.0.path(name)).unwrap_or_default()
    }

    fn expect_logged(&self, count: usize, words: &str) {
        eventually(words, || self.file("log").matches(words).count() == count);
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.call("stop");
    }
}

#[test]
fn procd_starts_reloads_and_stops_the_program() {
    let listen = own_address();
    let config = |limit: &str| {
        format!(
            "listen = '{listen}'\nadmin_listen = 'off'\n\
             [deadlines]\ndrain = '1s'\n[limits]\n{limit}\n"
        )
    };
    let router = Router::new(&config(""));
    router.succeed("start");
    router.expect_logged(1, "listening address=");
    let told = router.file("told");
    for words in ["respawn 3600 5 5", "limits nofile=20000 20000", "stderr 1", "term_timeout 45"] {
        assert!(told.lines().any(|line| line == words), "{words}: {told}");
    }
    let log = router.file("log");
    let (_, address) = log.split_once("address=").expect("it listens");
    let address = address.split_whitespace().next().unwrap().parse().unwrap();
    let mut peer = Client::open(address, "/echo");
    let mut assert_alive = || {
        peer.text("alive");
        assert_eq!(peer.message(), "alive");
    };
    assert_alive();

    router.configure(&config("message_bytes = '4k'"));
    router.succeed("reload");
    router.expect_logged(1, "reloaded changed=limits.message_bytes");
    // A fault changes nothing, whatever is asked for, but that it is told of.
    router.configure(&config("message_bytes = 'many'"));
    router.succeed("reload");
    router.expect_logged(1, "the configuration stays as it was");
    let refused = router.call("start");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains("limits.message_bytes = many"), "{said}");
    assert_alive();
    // What runs is not started again.
    router.configure(&config(""));
    router.succeed("start");
    assert_alive();
    assert_eq!(router.file("log").matches("listening address=").count(), 1);

    router.succeed("stop");
    router.expect_logged(1, "exit status=0");
    assert!(matches!(peer.see(), Seen::Frame(0x88, _)));
    router.succeed("start");
    router.expect_logged(2, "listening address=");
}

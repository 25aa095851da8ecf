//! Stores that several servers share: a file of SQLite, and a Redis that the test starts itself,
//! where one is installed.

use heartwheel::{Claim, Claimed, MemorySessions, Save, Saved, SessionId, SessionStore};

use crate::common::timing::{Span, ms};
use crate::conformance;

/// A session ends as long after its last save as it is told, by the store's own clock: the same in
/// every store.
fn lasts_as_long_as_it_is_told(store: &impl SessionStore) {
    let ttl = ms(600);
    let take = |id: &SessionId| {
        let (number, frozen) = conformance::take(store, id, Claim::new(ttl, ttl));
        (number, frozen.is_some())
    };
    for try_again in 0.. {
        let id = SessionId::new("/ttl", &try_again.to_string()).unwrap();
        let span = Span::begin();
        let (number, _) = take(&id);
        let save = Save::new(number, ttl, ttl);
        assert_eq!(store.save(&id, &save.with(b"kept").ending()), Ok(Saved::Taken));
        // A renewal makes it last on.
        std::thread::sleep(ms(400));
        let renewed = store.save(&id, &save);
        std::thread::sleep(ms(400));
        let still = store.save(&id, &save);
        // Where the machine has stood still, nothing is known.
        if span.elapsed() > ms(900) && try_again < 10 {
            continue;
        }
        assert_eq!((renewed, still), (Ok(Saved::Taken), Ok(Saved::Taken)), "not before its time");
        std::thread::sleep(ms(650));
        assert_eq!(store.save(&id, &save.with(b"late")), Ok(Saved::Fenced), "it is gone");
        assert!(!take(&id).1, "nothing is there");
        return;
    }
}

#[test]
fn a_session_in_memory_lasts_as_long_as_it_is_told() {
    lasts_as_long_as_it_is_told(&MemorySessions::default());
}

/// A log line of an error must show no key.
#[cfg(any(feature = "sqlite", feature = "cluster"))]
fn assert_no_secret(error: &impl std::fmt::Display) {
    assert!(!error.to_string().contains("secret"), "{error}");
}

#[cfg(feature = "sqlite")]
mod sqlite {
    use std::sync::Arc;
    use std::time::Duration;

    use heartwheel::SqliteSessions;

    use super::*;
    use crate::common::temp_file::TempFile;
    use crate::nodes::moves_between;
    use crate::takeover::takes_over_between;

    struct File(TempFile);

    impl File {
        fn new(name: &str) -> File {
            File(TempFile::new(name, ""))
        }

        fn open(&self) -> SqliteSessions {
            SqliteSessions::open(self.0.path()).expect("it is empty")
        }
    }

    impl Drop for File {
        fn drop(&mut self) {
            for end in ["-wal", "-shm"] {
                let _ = std::fs::remove_file(format!("{}{end}", self.0.path()));
            }
        }
    }

    #[test]
    fn clients_move_between_servers_that_share_a_file() {
        let file = File::new("moves.db");
        moves_between([Arc::new(file.open()), Arc::new(file.open())]);
    }

    // FAULTS 266.
    #[test]
    fn a_session_that_is_open_on_another_server_is_handed_over_by_a_file() {
        let file = File::new("takes.db");
        takes_over_between("sqlite", [Arc::new(file.open()), Arc::new(file.open())]);
    }

    #[test]
    fn a_session_in_sqlite_lasts_as_long_as_it_is_told() {
        lasts_as_long_as_it_is_told(&File::new("ttl.db").open());
    }

    #[test]
    fn sessions_are_there_when_the_file_is_opened_again() {
        let file = File::new("again.db");
        let id = SessionId::new("/a", "secret'\"; --").unwrap();
        let claim = Claim::new(Duration::from_secs(60), Duration::from_secs(60));
        let mut last = 0;
        for round in 0_u8..3 {
            let store = file.open();
            let Claimed::Taken { number, frozen } = store.claim(&id, &claim).unwrap() else {
                panic!("it was let go")
            };
            assert_eq!(frozen, round.checked_sub(1).map(|before| vec![before; 70_000]));
            assert!(number > last);
            last = number;
            let save = Save::new(number, claim.ttl, claim.lease);
            store.save(&id, &save.with(&vec![round; 70_000]).ending()).unwrap();
        }
        let none = TempFile::new("none.db", &"no database ".repeat(100));
        assert_no_secret(&SqliteSessions::open(none.path()).expect_err("it is none"));
    }
}

#[cfg(feature = "cluster")]
mod redis {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::path::PathBuf;
    use std::process::{Child, Command, Stdio};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use heartwheel::RedisSessions;

    use super::*;
    use crate::common::client::Client;
    use crate::common::http::upgrade_request;
    use crate::common::timing::{eventually, lock, within};
    use crate::nodes::{moves_between, open, start};
    use crate::takeover::takes_over_between;
    use crate::tally::Told;

    /// A Redis that keeps nothing on disk, behind a socket in a folder of its own.
    struct Redis {
        folder: PathBuf,
        process: Option<Child>,
    }

    impl Redis {
        fn start(name: &str) -> Option<Redis> {
            let name = format!("hw-{name}-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            std::fs::create_dir_all(&folder).expect("there is room");
            let mut redis = Redis { folder, process: None };
            redis.run().then_some(redis)
        }

        fn run(&mut self) -> bool {
            let socket = self.socket();
            let arguments = ["--port", "0", "--save", "", "--unixsocket", &socket];
            let process = Command::new("redis-server")
                .args(arguments)
                .current_dir(&self.folder)
                .stdout(Stdio::null())
                .spawn();
            let Ok(process) = process else {
                println!("NOT CHECKED: redis-server is not installed");
                return false;
            };
            self.process = Some(process);
            let is_there = || std::os::unix::net::UnixStream::connect(&socket).is_ok();
            eventually("Redis listens", is_there);
            true
        }

        fn kill(&mut self) {
            if let Some(mut process) = self.process.take() {
                process.kill().expect("it runs");
                process.wait().expect("it ends");
            }
        }

        fn socket(&self) -> String {
            self.folder.join("s").display().to_string()
        }

        /// Says something to Redis, and gives its answer, or the beginning of it.
        fn say(&self, line: &str) -> String {
            let mut wire = std::os::unix::net::UnixStream::connect(self.socket()).expect("it runs");
            wire.write_all(format!("{line}\r\n").as_bytes()).expect("there is room");
            let mut answer = [0; 4096];
            let count = wire.read(&mut answer).expect("it answers");
            String::from_utf8_lossy(&answer[..count]).into_owned()
        }

        fn store(&self) -> RedisSessions {
            RedisSessions::new(&format!("unix:{}", self.socket()), "test").expect("it is a URL")
        }
    }

    impl Drop for Redis {
        fn drop(&mut self) {
            self.kill();
            let _ = std::fs::remove_dir_all(&self.folder);
        }
    }

    #[test]
    fn the_store_in_redis_does_what_a_store_does() {
        let Some(redis) = Redis::start("conforms") else { return };
        crate::conformance::conforms(500, false, |_| redis.store());
    }

    #[test]
    fn a_session_in_redis_lasts_as_long_as_it_is_told() {
        let Some(redis) = Redis::start("ttl") else { return };
        lasts_as_long_as_it_is_told(&redis.store());
    }

    #[test]
    fn clients_move_between_servers_that_share_a_redis() {
        let Some(redis) = Redis::start("moves") else { return };
        moves_between([Arc::new(redis.store()), Arc::new(redis.store())]);
    }

    // FAULTS 266.
    #[test]
    fn a_session_that_is_open_on_another_server_is_handed_over_by_redis() {
        let Some(redis) = Redis::start("takes") else { return };
        takes_over_between("redis", [Arc::new(redis.store()), Arc::new(redis.store())]);
    }

    /// A connection has broken with a save on its way, which Redis follows behind a later one.
    // FAULTS 268.
    #[test]
    fn a_save_that_redis_follows_late_overwrites_nothing() {
        let Some(redis) = Redis::start("late") else { return };
        let (store, id) = (redis.store(), SessionId::new("/a", "b").unwrap());
        let claim = Claim::new(ms(60_000), ms(60_000));
        for round in 0..2 {
            let Ok(Claimed::Taken { number, frozen }) = store.claim(&id, &claim) else {
                panic!("it was let go of")
            };
            assert_eq!(frozen.is_some(), round == 1);
            let save = Save::new(number, claim.ttl, claim.lease);
            let turns = [save.in_turn(1).with(b"1"), save.in_turn(3).with(b"3").ending()];
            for save in turns.into_iter().chain([save.in_turn(2).with(b"2"), save.in_turn(3)]) {
                assert_eq!(store.save(&id, &save), Ok(Saved::Taken));
            }
        }
        let Ok(Claimed::Taken { frozen, .. }) = store.claim(&id, &claim) else {
            panic!("what came late renews no claim")
        };
        assert_eq!(frozen.as_deref(), Some(&b"3"[..]));
    }

    /// A claim by force comes behind another one: what it was to displace has gone meanwhile.
    // FAULTS 294.
    #[test]
    fn a_forced_claim_that_redis_follows_late_displaces_nobody_else() {
        let Some(redis) = Redis::start("force") else { return };
        let (store, id) = (redis.store(), SessionId::new("/a", "b").unwrap());
        let claim = Claim::new(ms(60_000), ms(60_000));
        let (first, _) = conformance::take(&store, &id, claim);
        assert_eq!(store.claim(&id, &claim), Ok(Claimed::Held { number: first }));
        let (second, _) = conformance::take(&store, &id, claim);
        let published = || {
            let stats = redis.say("INFO commandstats");
            let calls =
                stats.split("cmdstat_publish:calls=").nth(1).and_then(|s| s.split(',').next());
            calls.expect("its holder was told").parse::<u32>().expect("a number")
        };
        let before = published();
        let late = store.claim(&id, &claim.forced(first));
        assert_eq!(late, Ok(Claimed::Held { number: second }));
        assert_eq!(published(), before, "its holder is not told of what nobody wants any more");
        let save = Save::new(second, claim.ttl, claim.lease).with(b"2");
        assert_eq!(store.save(&id, &save), Ok(Saved::Taken), "it has it still");
        // Numbers are text in Redis: none is another one's beginning, and nothing is none.
        for other in [0, second / 10, second + 1, u64::MAX] {
            let held = Ok(Claimed::Held { number: second });
            assert_eq!(store.claim(&id, &claim.forced(other)), held);
        }
        let taken = store.claim(&id, &claim.forced(second));
        assert!(matches!(taken, Ok(Claimed::Taken { frozen: Some(_), .. })), "{taken:?}");
    }

    /// The connections that are told are cut, and then nobody may publish or subscribe: sessions
    /// are taken over all the same, and what was saved is there.
    // FAULTS 266.
    #[test]
    fn messages_that_are_lost_keep_nobody_from_a_session() {
        let Some(redis) = Redis::start("lost") else { return };
        let told = Told::default();
        let pairs = [("sessions.save", "1s")];
        let nodes = [0, 1].map(|_| start(&pairs, &Arc::new(redis.store()), &told));
        let (mut old, _) = open(nodes[0].address, "a");
        let subscribed = || redis.say("PUBSUB CHANNELS").starts_with("*1");
        eventually("it listens", subscribed);
        assert_eq!(redis.say("CLIENT KILL TYPE pubsub"), ":1\r\n");
        eventually("it listens again", subscribed);
        old.text("1");
        old.message();
        let (mut new, hello) = open(nodes[1].address, "a");
        assert_eq!(hello, "back 1", "it was told");
        old.expect_close(4409);
        new.text("2");
        new.message();
        assert_eq!(redis.say("ACL SETUSER default resetchannels"), "+OK\r\n");
        redis.say("CLIENT KILL TYPE pubsub");
        // It is saved within a second. What is published is refused from now on.
        std::thread::sleep(ms(1300));
        let span = Span::begin();
        let (_newest, hello) = open(nodes[0].address, "a");
        assert_eq!(hello, "back 1,2");
        span.took_between("by force", ms(900), ms(1200));
        new.expect_close(4409);
    }

    /// A Redis that answers claims, and those who listen with garbage: nothing comes of that.
    // FAULTS 267.
    #[test]
    fn what_is_no_message_of_redis_is_heard_without_harm() {
        let fake = TcpListener::bind("127.0.0.1:0").expect("there is a port");
        let url = format!("redis://{}", fake.local_addr().expect("it is bound"));
        let heard = Arc::new(AtomicUsize::new(0));
        let count = heard.clone();
        std::thread::spawn(move || {
            for stream in fake.incoming() {
                let (stream, count) = (stream.expect("it connects"), count.clone());
                std::thread::spawn(move || answer(stream, &count));
            }
        });
        let store = Arc::new(RedisSessions::new(&url, "test").expect("it is a URL"));
        let server = start(&[], &store, &Told::default());
        let (mut client, hello) = open(server.address, "b");
        assert_eq!(hello, "new");
        let all_were_tried = || heard.load(Ordering::SeqCst) > 2 * garbage().len();
        within(ms(60_000), "all were tried", all_were_tried);
        client.text("1");
        assert_eq!(client.message(), "1");
    }

    /// Gives every claim the number 1, and those who listen one answer each.
    fn answer(mut stream: TcpStream, heard: &AtomicUsize) {
        let mut asked = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut asked) {
            let answer = match String::from_utf8_lossy(&asked[..count]).contains("SUBSCRIBE") {
                true => {
                    let garbage = garbage();
                    garbage[heard.fetch_add(1, Ordering::SeqCst) % garbage.len()].clone()
                }
                false => "*3\r\n:1\r\n$1\r\n1\r\n$-1\r\n".into(),
            };
            let is_over = stream.write_all(answer.as_bytes()).is_err();
            if is_over || !answer.starts_with("*3\r\n:1") {
                return;
            }
        }
    }

    fn garbage() -> Vec<String> {
        let subscribed = "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n";
        let message = |text: &str| {
            let (head, len) = ("*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n", text.len());
            format!("{subscribed}{head}${len}\r\n{text}\r\n")
        };
        let key = "hw:{test}:session:/tally\nb";
        vec![
            "HTTP/1.1 400 Bad Request\r\n\r\n".into(),
            "*1000000000\r\n".repeat(20),
            format!("{subscribed}$999999999999\r\n{}", "x".repeat(100_000)),
            message(&format!("wanted 2 {key}")),
            message(&format!("free {key}")),
            message(&"wanted ".repeat(10_000)),
            message("\0\0\0"),
            subscribed.repeat(1000),
            String::new(),
        ]
    }

    /// The thread that is told ends with its server, at once.
    #[test]
    fn nobody_listens_when_the_server_has_ended() {
        let Some(redis) = Redis::start("ends") else { return };
        let server = start(&[], &Arc::new(redis.store()), &Told::default());
        assert!(redis.say("PUBSUB CHANNELS").starts_with("*0"), "not before the first session");
        let (client, _) = open(server.address, "a");
        let listens = || redis.say("PUBSUB CHANNELS").starts_with("*1");
        eventually("it listens", listens);
        drop(client);
        drop(server);
        let span = Span::begin();
        eventually("it listens no longer", || !listens());
        span.took_between("the end", ms(0), ms(1000));
    }

    // FAULTS 262.
    #[test]
    fn a_redis_that_is_killed_lets_nobody_in_and_one_that_is_empty_gives_no_old_claim() {
        let Some(mut redis) = Redis::start("killed") else { return };
        let told = Told::default();
        let pairs = [("sessions.save", "1s"), ("deadlines.handshake", "1s")];
        let server = start(&pairs, &Arc::new(redis.store()), &told);
        let (mut client, hello) = open(server.address, "secret");
        assert_eq!(hello, "new");
        client.text("1");
        client.message();
        redis.kill();
        let request = upgrade_request("/tally?sid=secret2", "");
        let mut other = Client::connect(server.address);
        other.send(request);
        assert_eq!(other.read_answer().status, 503);
        eventually("the handler is told", || {
            lock(&told).first().is_some_and(|told| told == "unsaved Store")
        });
        // The handlers go on: what they keep is in memory.
        client.text("2");
        assert_eq!(client.message(), "1,2");
        redis.run();
        // It has begun anew, and knows of no claim: who held one ends.
        client.expect_close(4409);
        eventually("new sessions are begun", || {
            let mut client = Client::connect(server.address);
            client.send(upgrade_request("/tally?sid=secret", ""));
            client.read_answer().status == 101
        });
    }

    #[test]
    fn urls_and_names_that_are_none_are_refused_in_words() {
        for (url, name) in [
            ("redis//a", "a"),
            ("http://:secret@a", "a"),
            ("redis://a:x", "a"),
            ("unix:/a", ""),
            ("unix:/a", "a}b"),
        ] {
            assert_no_secret(&RedisSessions::new(url, name).expect_err(url));
        }
    }
}

//! Connections whose tokens are taken away.

use std::fs;
use std::time::Duration;

use heartwheel::CloseReason;

use crate::common::temp_file::TempFile;
use crate::common::world::*;
use crate::expiry::world;
use crate::maker::*;

const ALL: &str = r#","sub":"me","publish":["*"],"subscribe":["*"]"#;

/// A reload that takes a key away leaves the connections of its tokens without rights, or ends
/// them; those of other keys, and of tokens of a file, stay.
#[test]
fn connections_of_a_key_that_is_gone_stay_or_end_as_configured() {
    let (gone, kept) = (Maker::secret(), Maker::ecdsa());
    for (revoke, is_end) in [("keep", false), ("close", true)] {
        let lines = TempFile::new("revoke-lines", "line subscribe=*\nother subscribe=*\n");
        let pairs = [("admission.revoke", revoke), ("admission.tokens", lines.path())];
        let (mut world, file) = world(&kept, "revoke", &pairs);
        let both = jwks(&[gone.jwk(""), kept.jwk("")]);
        fs::write(file.path(), both).unwrap();
        let handle = world.server.handle();
        handle.reload(world.config.clone()).unwrap();
        world.settle();
        let tokens = [gone.token_for(600.0, ALL), kept.token_for(600.0, ALL)];
        let tokens = [&tokens[0], &tokens[1], "line", "other"];
        let mut clients = tokens.map(|token| world.open(&format!("/ws?access_token={token}")));
        for client in &mut clients {
            client.say(r#"{"op":"subscribe","topic":"a"}"#);
        }
        world.pass(Duration::ZERO, &mut clients);
        // The same keys in another order, and further lines, take nothing away.
        fs::write(file.path(), jwks(&[kept.jwk(""), gone.jwk("")])).unwrap();
        fs::write(lines.path(), "a subscribe=*\nother subscribe=*\nline subscribe=*\n").unwrap();
        handle.reload(world.config.clone()).unwrap();
        world.pass(SECOND, &mut clients);
        assert!(clients.iter().all(|client| client.close.is_none()));
        fs::write(file.path(), kept.file()).unwrap();
        fs::write(lines.path(), "line subscribe=*\n").unwrap();
        handle.reload(world.config.clone()).unwrap();
        world.pass(SECOND, &mut clients);
        for (client, is_gone) in clients.iter_mut().zip([true, false, false, true]) {
            match is_gone && is_end {
                true => assert_eq!(client.code(), 3000),
                false => client.say(r#"{"op":"subscribe","topic":"b"}"#),
            }
        }
        world.pass(SECOND, &mut clients);
        if !is_end {
            for (client, is_gone) in clients.iter().zip([true, false, false, true]) {
                let last = client.messages.last().unwrap().to_string();
                assert_eq!(last.contains("forbidden"), is_gone, "{last}");
            }
            // Its time ends all the same.
            world.pass(600 * SECOND, &mut clients);
            assert_eq!((clients[0].code(), clients[1].code()), (3000, 3000));
        }
        assert_eq!(world.server.stats().closed_by(CloseReason::Auth), 2);
    }
}

/// Event streams end, plain WebSockets too; and where nothing is asked any more, nothing ends.
#[test]
fn what_is_asked_no_more_ends_nothing() {
    let maker = Maker::secret();
    let (mut world, _file) = world(&maker, "asked", &[("admission.revoke", "close")]);
    let path = format!("/topics/a?access_token={}", maker.token_for(600.0, ALL));
    let mut clients = [world.open(&path)];
    let stream = crate::common::http::get_request(&path, "Accept: text/event-stream\r\n");
    let mut stream = world.send(stream.as_bytes());
    let mut open = world.config.clone();
    open.set("admission.jwt", "off").unwrap();
    world.server.handle().reload(open).unwrap();
    world.pass(SECOND, &mut clients);
    assert_eq!(world.server.connections(), 2);
    world.server.handle().reload(world.config.clone()).unwrap();
    world.pass(SECOND, &mut clients);
    assert_eq!(world.server.connections(), 2, "they came with nothing that was taken away");
    drop(read_all(&mut stream));
}

/// The operator ends connections by who they are, or by the token that they came with, of either
/// kind; and is told how many.
#[test]
fn the_operator_ends_connections_by_identity_or_by_token() {
    let maker = Maker::secret();
    let lines = TempFile::new("kicked-lines", "line subscribe=* identity=me\nother identity=you\n");
    let (mut world, _file) = world(&maker, "kicked", &[("admission.tokens", lines.path())]);
    let token = |seconds, sub| maker.token_for(seconds, &format!(r#"{ALL},"x":"{sub}""#));
    let (one, two) = (token(600.0, "1"), token(600.0, "2"));
    let open = |world: &mut World| {
        let tokens = [&*one, &two, "line", "other"];
        tokens.map(|token| world.open(&format!("/ws?access_token={token}")))
    };
    let ask = |world: &mut World, query: &str| {
        let request = format!("DELETE /connections{query} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let mut peer = world.network.connect_admin().expect("the server listens");
        std::io::Write::write_all(&mut peer, request.as_bytes()).unwrap();
        world.settle();
        text(&read_all(&mut peer).0)
    };
    for (query, ended) in [
        ("?identity=me".to_string(), [true, true, true, false]),
        ("?identity=you".into(), [false, false, false, true]),
        ("?identity=nobody".into(), [false; 4]),
        (format!("?token={}", name_of(&one)), [true, false, false, false]),
        (format!("?token={}", name_of(&two).to_uppercase()), [false, true, false, false]),
        (format!("?token={}", name_of("line")), [false, false, true, false]),
        (format!("?token={}", name_of("nothing")), [false; 4]),
    ] {
        let mut clients = open(&mut world);
        let answer = ask(&mut world, &query);
        let count = ended.iter().filter(|is_ended| **is_ended).count();
        assert!(answer.ends_with(&format!("\r\n\r\n{{\"ended\":{count}}}")), "{query}: {answer}");
        world.pass(SECOND, &mut clients);
        for (client, is_ended) in clients.iter().zip(ended) {
            assert_eq!(client.close.is_some(), is_ended, "{query}");
            assert!(!is_ended || client.code() == 1008);
        }
        drop(clients);
        world.pass(SECOND, &mut []);
    }
    let name = name_of("line");
    for query in ["", "?token=", "?token=line", "?token=+123456789abcdef", "?x=1"]
        .map(String::from)
        .into_iter()
        .chain([format!("?token={name}0"), format!("?token={name}&identity=me")])
    {
        let answer = ask(&mut world, &query);
        assert!(answer.starts_with("HTTP/1.1 400 "), "{query}: {answer}");
    }
}

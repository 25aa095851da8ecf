//! Who a certificate says that its client is.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};

use heartwheel::http::{Request, Response};
use heartwheel::{Event, Peer};

use super::client::{TlsClient, config, file};
use super::serving::start_with;
use crate::common::frame;
use crate::common::http::upgrade_request;
use crate::common::timing::eventually;

#[test]
fn a_certificate_is_the_token_where_a_line_of_the_tokens_names_it() {
    let path = std::env::temp_dir().join(format!("heartwheel-tokens-{}", std::process::id()));
    fs::write(&path, "secret subscribe=*\ncn=device-7 publish=devices.7\n").unwrap();
    let tokens = path.to_str().unwrap();
    let ca = file("ca.crt");
    let more = [("tls.client", "optional"), ("tls.client_ca", &*ca), ("admission.tokens", tokens)];
    let server = start_with(&more, |builder| builder.topics("/topics/{topic}"));
    let status = |who: Option<&str>, topic: &str, line: &str| {
        let mut client =
            TlsClient::connect_with(server.address, &Arc::new(config(who)), "localhost");
        client.send(format!(
            "POST /topics/{topic} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
             Connection: close\r\n{line}\r\nx"
        ));
        let answer = String::from_utf8(client.read_to_end().unwrap()).unwrap();
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    assert!(status(Some("client"), "devices.7", "").starts_with('2'));
    assert_eq!(status(Some("client"), "devices.8", ""), "403");
    assert_eq!(status(Some("revoked"), "devices.7", ""), "401", "nobody has named it");
    assert_eq!(status(None, "devices.7", ""), "401");
    assert_eq!(status(None, "devices.7", "Authorization: Bearer secret\r\n"), "403");
    for said in ["cn=device-7", "device-7"] {
        let line = format!("Authorization: Bearer {said}\r\n");
        assert_eq!(status(None, "devices.7", &line), "401", "{said} is no secret");
        assert_eq!(status(None, &format!("devices.7?access_token={said}"), ""), "401", "{said}");
    }
    server.stop();
    fs::remove_file(path).unwrap();
}

/// The certificate is who asks, unless the file of tokens has another name for it; a token's own
/// name is no match for the certificate.
#[test]
fn a_certificate_names_its_connections() {
    let path = std::env::temp_dir().join(format!("heartwheel-named-{}", std::process::id()));
    let ca = file("ca.crt");
    let told = Arc::new(Mutex::new(Vec::new()));
    for (lines, token, expected) in [
        (None, None, "device-7"),
        (Some("cn=device-7\n"), None, "device-7"),
        (Some("cn=device-7 identity=\"Door 7\"\n"), None, "Door 7"),
        (Some("secret identity=other\n"), Some("secret"), "device-7"),
    ] {
        let mut more = vec![
            ("tls.client", "optional"),
            ("tls.client_ca", &*ca),
            ("admin_listen", "127.0.0.1:0"),
        ];
        if let Some(lines) = lines {
            fs::write(&path, lines).unwrap();
            more.push(("admission.tokens", path.to_str().unwrap()));
        }
        let server = start_with(&more, |builder| {
            let told = told.clone();
            let named = move |peer: &Peer, event: Event| {
                if !matches!(event, Event::Message(_)) {
                    let identity = peer.identity().map(str::to_owned);
                    told.lock().unwrap().push(identity);
                }
            };
            let asks =
                |request: &Request| Response::new(200).text(request.identity().unwrap_or("nobody"));
            builder.operator().websocket("/named", named).get("/who", asks)
        });
        let line = token.map_or_else(String::new, |t| format!("Authorization: Bearer {t}\r\n"));
        let client =
            |who| TlsClient::connect_with(server.address, &Arc::new(config(who)), "localhost");
        let mut asking = client(Some("client"));
        asking.send(format!(
            "GET /who HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{line}\r\n"
        ));
        let answer = String::from_utf8(asking.read_to_end().unwrap()).unwrap();
        drop(asking);
        assert!(answer.ends_with(&format!("\r\n\r\n{expected}")), "{lines:?} {answer}");
        let mut open = client(Some("client"));
        open.send(upgrade_request("/named", &line));
        assert!(open.read_head().starts_with("HTTP/1.1 101 "));
        assert_pong(&mut open);
        let rows = rows(server.admin.unwrap());
        assert!(rows.contains(&format!(r#""identity":"{expected}""#)), "{rows}");
        drop(open);
        server.wait_until(|seen| seen.connections == 0);
        if lines.is_none() {
            // A slot that had a name gives it to nobody else.
            let mut nobody = client(None);
            nobody.upgrade("/named");
            assert_pong(&mut nobody);
            drop(nobody);
        }
        let count = if lines.is_none() { 4 } else { 2 };
        eventually("all is told", || told.lock().unwrap().len() == count);
        server.stop();
        let told = std::mem::take(&mut *told.lock().unwrap());
        let mut names = vec![Some(expected.to_owned()); 2];
        names.resize(count, None);
        assert_eq!(told, names, "{lines:?}");
    }
    fs::remove_file(path).unwrap();
}

/// What clients with different certificates publish under the same name and number is different,
/// and hooks hear who it is.
#[test]
fn a_certificate_names_who_publishes() {
    let ca = file("ca.crt");
    let told = Arc::new(Mutex::new(Vec::new()));
    let server = start_with(&[("tls.client", "optional"), ("tls.client_ca", &ca)], |builder| {
        let told = told.clone();
        let hook = move |peer: &Peer, offer: heartwheel::Offer| {
            told.lock().unwrap().push(peer.identity().map(str::to_owned));
            Ok(Some(offer.payload))
        };
        builder.hub("/ws").route(heartwheel::Route::topics("/topics/{topic}").on_publish(hook))
    });
    let connect =
        |who| TlsClient::connect_with(server.address, &Arc::new(config(Some(who))), "localhost");
    let mut ids = Vec::new();
    for who in ["client", "revoked", "client"] {
        let mut client = connect(who);
        client.upgrade("/ws");
        client.read_frame();
        let hello = r#"{"op":"hello","client":"0123456789abcdef","version":"1"}"#;
        client.send(frame::frame(frame::TEXT, hello.as_bytes()));
        let publish = r#"{"op":"publish","topic":"a","ref":1,"data":1}"#;
        client.send(frame::frame(frame::TEXT, publish.as_bytes()));
        let answer = String::from_utf8(client.read_frame().1).unwrap();
        assert!(answer.starts_with(r#"{"op":"published","ref":1,"#), "{answer}");
        ids.push(answer);
    }
    assert!(ids[0] != ids[1] && ids[0] == ids[2], "{ids:?}");
    let mut posting = connect("client");
    posting.send(
        "POST /topics/b HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\
                  Connection: close\r\n\r\nx",
    );
    assert!(posting.read_to_end().unwrap().starts_with(b"HTTP/1.1 200 "));
    assert_eq!(*told.lock().unwrap(), [Some("device-7".to_owned())]);
    server.stop();
}

fn assert_pong(client: &mut TlsClient) {
    client.send(frame::frame(0x89, b"x"));
    assert_eq!(client.read_frame(), (0x8a, b"x".to_vec()));
}

/// Gives the operator's table of connections.
fn rows(operator: SocketAddr) -> String {
    let mut admin = TcpStream::connect(operator).unwrap();
    admin.write_all(b"GET /connections HTTP/1.0\r\n\r\n").unwrap();
    let mut rows = String::new();
    admin.read_to_string(&mut rows).unwrap();
    rows
}

//! Peers that ask over HTTP and do not upgrade, behaved or not, the operator among them.

use heartwheel::core::contract::route::Face;

use crate::common::rng::Rng;
use crate::plan::pick;
use crate::script::{Act, Draw, upgrade_request};
use crate::settings::GETS;

pub const SCRIPTS: [Draw; 10] = [
    |script, _| {
        script.is("silent connect", &["handshake"]);
    },
    |script, _| {
        let bytes = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(500)).into_bytes();
        script.is("slowloris", &["handshake"]);
        script.acts.push(Act::Drip { bytes, piece: 1, every_ms: 300 });
    },
    |script, rng| {
        script.is("kept alive", &["keep_alive"]);
        for index in 0..1 + rng.below(3) {
            let request = request(rng, "GET", index, "");
            script.answers.push(format!("{index}"));
            script.send(request).acts.push(Act::AwaitAnswers(index as usize + 1));
            script.wait(rng.below(1000));
        }
        script.hangs_up = rng.chance(50);
    },
    |script, rng| {
        script.is("pipelined requests", &["done"]);
        let count = 2 + rng.below(6);
        let mut bytes = Vec::new();
        for index in 0..count {
            let last = if index + 1 == count { "Connection: close\r\n" } else { "" };
            bytes.extend(request(rng, "GET", index, last));
            script.answers.push(format!("{index}"));
        }
        script.send(bytes).hangs_up = rng.chance(70);
    },
    |script, rng| {
        script.is("posts", &["done"]);
        let body = "b".repeat(rng.below(3000) as usize + 1);
        let (half, rest) = body.split_at(body.len() / 2);
        let head = "POST /post HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
        let request = if rng.chance(50) {
            format!("{head}Content-Length: {}\r\n\r\n{half}", body.len())
        } else {
            format!("{head}Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{half}", body.len())
        };
        let end = if request.contains("chunked") { "\r\n0\r\n\r\n" } else { "" };
        script.send(request).wait(rng.below(500)).send(format!("{rest}{end}"));
        script.answers.push(body);
    },
    |script, _| {
        let head = "POST /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900\r\n\r\n";
        script.is("dripped body", &["body"]).send(head);
        script.acts.push(Act::Drip { bytes: vec![b'b'; 800], piece: 1, every_ms: 200 });
    },
    |script, rng| {
        script.is("garbage", &["done"]);
        let garbage = ["\x16\x03\x01\x02\x00\x01\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\r \r\n\r\n"];
        script.send(pick(rng, &garbage)).hangs_up = rng.chance(50);
    },
    |script, rng| {
        let requests = [
            "GET /nowhere HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            "GET /worker HTTP/1.0\r\n\r\n",
            "PUT /post HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody",
            "GET /plain HTTP/1.1\r\n\r\n",
        ];
        script.is("refused", &["done"]).send(pick(rng, &requests));
    },
    |script, rng| {
        script.is("asks for heads", &["done"]);
        for nth in 0..4 {
            let (method, last) = (pick(rng, &["GET", "HEAD"]), nth == 3);
            let lines = if last { "Connection: close\r\n" } else { "" };
            script.send(request(rng, method, nth, lines));
            let is_head = method == "HEAD";
            if is_head {
                script.heads.push(nth as usize);
            }
            script.answers.push(if is_head { String::new() } else { nth.to_string() });
            script.wait(rng.below(300));
        }
    },
    |script, rng| {
        script.is("expects 100", &["done"]);
        let body = "b".repeat(rng.below(3000) as usize + 1);
        let head = "POST /post HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\n";
        let len = body.len();
        script.send(format!("{head}Connection: close\r\nContent-Length: {len}\r\n\r\n"));
        script.acts.push(Act::AwaitContinue);
        script.send(body.clone());
        script.answers.push(body);
    },
];

/// The operator, who is answered also while the server drains.
pub const OPERATORS: [Draw; 3] = [
    |script, rng| {
        script.is("operator", &["done"]);
        let routes = [("/healthz", "ok\n"), ("/readyz", "ready\n"), ("/operator", "")];
        let count = 1 + rng.below(6);
        for nth in 0..count {
            let (path, answer) = pick(rng, &routes);
            let method = pick(rng, &["GET", "HEAD"]);
            let lines = if nth + 1 == count { "Connection: close\r\n" } else { "" };
            let head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n");
            script.send(head).acts.push(Act::AwaitAnswers(nth as usize + 1));
            script.wait(rng.below(3000) / count);
            if method == "HEAD" {
                script.heads.push(nth as usize);
            }
            script.answers.push(if method == "HEAD" { "" } else { answer }.to_owned());
        }
        script.face = Face::Admin;
    },
    |script, rng| {
        // What is the public's is not on the operator's side, nor the other way round.
        script.is("lost", &["done"]);
        script.face = pick(rng, &[Face::Admin, Face::Public]);
        let request = match script.face {
            Face::Admin => upgrade_request("/worker"),
            _ => b"GET /operator HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
        };
        script.send(request);
    },
    |script, _| {
        script.is("silent operator", &["handshake"]).face = Face::Admin;
    },
];

fn request(rng: &mut Rng, method: &str, number: u64, lines: &str) -> Vec<u8> {
    let path = pick(rng, &GETS);
    format!("{method} {path}?{number} HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n").into_bytes()
}

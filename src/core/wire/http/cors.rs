//! What a browser is told about foreign pages (WHATWG Fetch, 3.2): in preflights, which ask whether
//! a page may send a request, and in the answers themselves.

use super::header_lines::HeaderLines;
use super::request::Request;
use super::response::Response;
use super::syntax;

/// Returns whether a request is a preflight, and not an OPTIONS about the resource itself.
pub fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS"
        && request.header_values("access-control-request-method").next().is_some()
}

/// The CORS headers that an answer needs for a page of another origin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Cors {
    /// Nothing: the page is of this server, or there is no page.
    #[default]
    None,
    /// The page of this origin may read the answer, with the headers of this server.
    Admitted(Box<str>),
    /// The page of this origin is refused, and may read the refusal.
    Refused(Box<str>),
}

impl Cors {
    /// Returns the headers for refusing this request's Origin; none unless there is one origin.
    pub fn refused(request: &Request) -> Cors {
        let mut lines = request.header_values("origin");
        match (lines.next().map(str::from_utf8), lines.next()) {
            (Some(Ok(origin)), None) => Cors::Refused(origin.into()),
            _ => Cors::None,
        }
    }

    /// Writes each line once, whatever was there before.
    pub(super) fn write(&self, lines: &mut HeaderLines) {
        let (Cors::Admitted(origin) | Cors::Refused(origin)) = self else { return };
        lines.set("Access-Control-Allow-Origin", origin);
        lines.add_to_list("Vary", &["Origin"]);
        if let Cors::Admitted(_) = self {
            lines.add_to_list("Access-Control-Expose-Headers", &["Event-Id", "Event-Gap"]);
        }
    }
}

/// Returns the answer to a preflight of an admitted page: 204. Like every answer it also needs the
/// lines of [`Cors`].
///
/// It allows all methods of all routes, and the first few of the headers that were asked for; the
/// request itself is judged when it comes.
pub fn preflight(request: &Request) -> Response {
    let mut lines = HeaderLines::default();
    lines.push_own("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, PATCH");
    let asked = request.header_list("access-control-request-headers");
    let allowed: Vec<&str> = asked
        .filter(|name| syntax::is_token(name))
        .filter_map(|name| str::from_utf8(name).ok())
        .take(HEADERS_MAX)
        .collect();
    if !allowed.is_empty() {
        lines.push_own("Access-Control-Allow-Headers", &allowed.join(", "));
    }
    lines.push_own("Access-Control-Max-Age", "600");
    Response::new(204).headers(&lines)
}

/// The most header names allowed in one answer.
const HEADERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::head::tests::request;

    #[test]
    fn a_preflight_is_told_what_it_may() {
        let request = request(
            "OPTIONS /topics/a HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\n\
             Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: content-type, bad name, x-y\r\n\r\n",
        );
        assert!(is_preflight(&request));
        let response = preflight(&request);
        assert_eq!(response.status(), 204);
        for (name, value) in [
            ("Access-Control-Allow-Methods", "GET, HEAD, POST, PUT, DELETE, PATCH"),
            ("Access-Control-Allow-Headers", "content-type, x-y"),
            ("Access-Control-Max-Age", "600"),
        ] {
            assert_eq!(response.header_lines().get(name), Some(value), "{name}");
        }
    }

    // FAULTS 168: once each, also where a handler has its own.
    #[test]
    fn a_foreign_page_may_read_the_answer() {
        let mut lines = HeaderLines::default();
        lines.push("Access-Control-Allow-Origin", "*").unwrap();
        lines.push("Access-Control-Expose-Headers", "X-Own").unwrap();
        Cors::None.write(&mut lines);
        assert_eq!(lines.as_str().lines().count(), 2);
        for _ in 0..2 {
            Cors::Admitted("https://b".into()).write(&mut lines);
        }
        assert_eq!(lines.as_str().lines().count(), 3);
        for (name, value) in [
            ("Access-Control-Allow-Origin", "https://b"),
            ("Vary", "Origin"),
            ("Access-Control-Expose-Headers", "X-Own, Event-Id, Event-Gap"),
        ] {
            assert_eq!(lines.get(name), Some(value));
        }
    }

    #[test]
    fn a_refused_page_may_read_the_refusal() {
        for (origins, expected) in [
            ("Origin: https://b\r\n", "Access-Control-Allow-Origin: https://b\r\nVary: Origin\r\n"),
            ("", ""),
            ("Origin: https://b\r\nOrigin: https://b\r\n", ""),
        ] {
            let request = request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{origins}\r\n"));
            let mut lines = HeaderLines::default();
            Cors::refused(&request).write(&mut lines);
            assert_eq!(lines.as_str(), expected, "{origins}");
        }
    }

    #[test]
    fn the_answer_stays_small() {
        let names = "x,".repeat(4000);
        let request = request(&format!(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Headers: {names}\r\n\r\n"
        ));
        assert!(!is_preflight(&request));
        let response = preflight(&request);
        assert!(response.header_lines().as_str().len() < 200);
    }
}

//! Preflights: how a browser asks whether a foreign page may send a request (WHATWG Fetch, 4.8).

use super::origins::Admitted;
use super::request::Request;
use super::response::Response;
use super::syntax;

/// Says whether a request is a preflight, and not one that asks about the resource itself.
pub fn is_preflight(request: &Request) -> bool {
    request.method() == "OPTIONS"
        && request.header_values("access-control-request-method").next().is_some()
}

/// Gives the answer to a preflight of an admitted page: 204.
///
/// It allows all that the routes have to offer, and of the headers asked for the first few; the
/// request itself is judged when it comes.
pub fn preflight(request: &Request, admitted: &Admitted) -> Response {
    let mut lines = admitted.cors_headers();
    lines.push_own("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE");
    let asked = request.header_values("access-control-request-headers").flat_map(syntax::list);
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

/// Header names allowed in one answer.
const HEADERS_MAX: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::head::tests::request;

    #[test]
    fn a_preflight_is_told_what_it_may() {
        let request = request(
            "OPTIONS /topics/a HTTP/1.1\r\nHost: a\r\nOrigin: https://b\r\n\
             Access-Control-Request-Method: POST\r\n\
             Access-Control-Request-Headers: content-type, bad name, x-y\r\n\r\n",
        );
        assert!(is_preflight(&request));
        let response = preflight(&request, &Admitted::Foreign("https://b"));
        assert_eq!(response.status(), 204);
        for (name, value) in [
            ("Access-Control-Allow-Origin", "https://b"),
            ("Access-Control-Allow-Methods", "GET, HEAD, POST, DELETE"),
            ("Access-Control-Allow-Headers", "content-type, x-y"),
            ("Access-Control-Max-Age", "600"),
        ] {
            assert_eq!(response.header_lines().get(name), Some(value), "{name}");
        }
    }

    #[test]
    fn the_answer_stays_small() {
        let names = "x,".repeat(4000);
        let request = request(&format!(
            "OPTIONS / HTTP/1.1\r\nHost: a\r\nAccess-Control-Request-Headers: {names}\r\n\r\n"
        ));
        assert!(!is_preflight(&request));
        let response = preflight(&request, &Admitted::Same);
        assert!(response.header_lines().as_str().len() < 200);
    }
}

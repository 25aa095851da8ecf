//! What names the session of a request.

use std::fmt;

use crate::core::wire::http::Request;

/// What names the session of a request: who asks, or a value that the client keeps. It is 1 to 256
/// bytes of text without control characters.
///
/// A cookie or a query value is a secret: whoever has it has the session. It stands in no log line,
/// metric or error of this library, but in the store it is kept as it is. The server takes any
/// value: draw them at random, 128 bits or more, and set a cookie `HttpOnly; Secure; SameSite=Lax`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionKey {
    from: From,
    is_required: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum From {
    Identity,
    Cookie(String),
    Query(String),
}

impl SessionKey {
    /// Names it by who asks: [`Request::identity`](crate::http::Request::identity).
    pub fn identity() -> SessionKey {
        SessionKey { from: From::Identity, is_required: false }
    }

    /// Names it by the cookie of this name, the first in the request. Quotes around the value are
    /// no part of it.
    pub fn cookie(name: impl Into<String>) -> SessionKey {
        SessionKey { from: From::Cookie(name.into()), is_required: false }
    }

    /// Names it by the first value of this name in the query, decoded.
    pub fn query(name: impl Into<String>) -> SessionKey {
        SessionKey { from: From::Query(name.into()), is_required: false }
    }

    /// Refuses requests without a key: 400. Otherwise they are opened, and what the handler keeps
    /// for them ends with the connection.
    pub fn required(self) -> SessionKey {
        SessionKey { is_required: true, ..self }
    }

    /// Returns the session of a request for a route; `None` if it has none and needs none.
    ///
    /// # Errors
    ///
    /// The sentence for the client: nothing in it comes from the request.
    pub(super) fn find(
        &self,
        route: &str,
        request: &Request,
    ) -> Result<Option<SessionId>, &'static str> {
        let value = match &self.from {
            From::Identity => request.identity().map(str::to_owned),
            From::Cookie(name) => cookie(request, name)?,
            From::Query(name) => request.query_value(name).map(Into::into),
        };
        match value.filter(|value| !value.is_empty()) {
            Some(value) => SessionId::new(route, &value).map(Some).ok_or(BAD_KEY),
            None if self.is_required => Err("this takes the key of a session"),
            None => Ok(None),
        }
    }
}

/// Returns the value of the first cookie of this name (RFC 6265, 4.2.1).
fn cookie(request: &Request, name: &str) -> Result<Option<String>, &'static str> {
    let lines = request.header_values("cookie");
    let pairs = lines.flat_map(|line| line.split(|byte| *byte == b';'));
    for pair in pairs {
        let pair = pair.trim_ascii();
        let Some(value) = pair.strip_prefix(name.as_bytes()) else { continue };
        let Some(value) = value.strip_prefix(b"=") else { continue };
        let bare = value.strip_prefix(b"\"").and_then(|value| value.strip_suffix(b"\""));
        let value = bare.unwrap_or(value);
        return str::from_utf8(value).map(|value| Some(value.to_owned())).map_err(|_| BAD_KEY);
    }
    Ok(None)
}

/// The name of a session in a store: the path of its route, a line break, and the key.
///
/// It may have a secret: its `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(Box<str>);

impl SessionId {
    /// The longest key, in bytes.
    pub const KEY_BYTES_MAX: usize = 256;

    /// Makes the name of the session with this key on a route. `None` if the key is empty, has more
    /// than 256 bytes, or a control character.
    pub fn new(route: &str, key: &str) -> Option<SessionId> {
        let is_good = (1..=SessionId::KEY_BYTES_MAX).contains(&key.len());
        // No path and no key has a line break: no two pairs make the same name.
        (is_good && !key.contains(char::is_control))
            .then(|| SessionId([route, "\n", key].concat().into()))
    }

    /// Reads a name that [`SessionId::as_str`] has given. `None` if it is none.
    pub fn read(name: &str) -> Option<SessionId> {
        let (route, key) = name.split_once('\n')?;
        SessionId::new(route, key)
    }

    /// Returns the name, for a store to look for.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(..)")
    }
}

const BAD_KEY: &str = "the key of a session must be 1 to 256 bytes of text";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::test_request;

    fn find(key: &SessionKey, lines: &str, query: &str) -> Result<Option<String>, &'static str> {
        let request = test_request(&format!("GET /a{query} HTTP/1.1\r\nHost: a\r\n{lines}\r\n"));
        let id = key.find("/a", &request)?;
        Ok(id.map(|id| id.as_str().strip_prefix("/a\n").unwrap().to_owned()))
    }

    #[test]
    fn the_first_cookie_of_the_name_counts() {
        let key = SessionKey::cookie("sid");
        for (lines, value) in [
            ("Cookie: sid=abc\r\n", Some("abc")),
            ("Cookie: a=1; sid=abc; sid=def\r\n", Some("abc")),
            ("Cookie: a=1\r\nCookie: sid=x=y\r\n", Some("x=y")),
            ("Cookie: sid=\"a b\"\r\n", Some("a b")),
            ("Cookie: sid=\"a\r\n", Some("\"a")),
            ("Cookie: xsid=1; SID=2; sid2=3; sid\r\n", None),
            ("Cookie: sid=\r\n", None),
            ("Cookie: sid=\"\"\r\n", None),
            ("", None),
        ] {
            assert_eq!(find(&key, lines, ""), Ok(value.map(Into::into)), "{lines}");
        }
        let required = key.required();
        assert!(
            find(&required, "", "").is_err() && find(&required, "Cookie: sid=1\r\n", "").is_ok()
        );
    }

    // FAULTS 264.
    #[test]
    fn a_key_that_is_none_is_refused_and_not_told() {
        let (cookie, query) = (SessionKey::cookie("sid"), SessionKey::query("sid"));
        let long = "x".repeat(257);
        for lines in [format!("Cookie: sid={long}\r\n"), "Cookie: sid=\"a\tb\"\r\n".into()] {
            assert_eq!(find(&cookie, &lines, ""), Err(BAD_KEY), "{lines}");
        }
        for value in ["%00", "a%0Ab", "a%7Fb", "%C2%85", &long] {
            assert_eq!(find(&query, "", &format!("?sid={value}")), Err(BAD_KEY), "{value}");
        }
        assert_eq!(find(&query, "", "?sid=a+b%C3%A4&sid=c"), Ok(Some("a b\u{e4}".into())));
        assert_eq!(format!("{:?}", SessionId::new("/a", "secret")), "Some(SessionId(..))");
    }

    #[test]
    fn the_same_key_on_another_route_is_another_session() {
        assert_ne!(SessionId::new("/a", "b"), SessionId::new("/a/b", "b"));
        assert_eq!(SessionId::new("/a", "b\nc"), None);
    }

    #[test]
    fn a_name_is_read_as_it_was_given() {
        let id = SessionId::new("/a", "b\u{e4}").unwrap();
        assert_eq!(SessionId::read(id.as_str()), Some(id));
        for none in ["", "/a", "/a\n", "/a\nb\n", "/a\nb\u{7f}"] {
            assert_eq!(SessionId::read(none), None, "{none:?}");
        }
    }
}

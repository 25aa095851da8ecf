//! Paths of routes, and how the path of a request is compared with them.
//!
//! | in the path of a route | takes |
//! |---|---|
//! | `{name}` at the end of a segment | the rest of the segment, whatever it is: `/users/{id}/keys`, `/v{version}` |
//! | `{name...}` as the last segment | the rest of the path, with its slashes |
//! | anything else | itself, however the request encodes it |
//!
//! A path is cut at its slashes first, and then each segment is decoded. So `%2F` is part of a
//! segment and cuts none. `.` and `..` are segments as any other: nothing here has folders.
//!
//! For comparison a path has a *key*: its segments decoded, and what would be ambiguous then
//! (`%`, `/` and braces) encoded again in one way. Two paths are the same if their keys are.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::percent::percent_decode;

/// Returns what stands before and behind `{topic}` in the path of a route; `None` if it is of no
/// topic.
pub fn around_topic(path: &str) -> Option<(&str, &str)> {
    // A search by `str` is 2 kB of code.
    let at = path.as_bytes().windows(TOPIC.len()).position(|bytes| bytes == TOPIC)?;
    Some((&path[..at], &path[at + TOPIC.len()..]))
}

const TOPIC: &[u8] = b"{topic}";

/// Checks the path of a route.
///
/// # Errors
///
/// The rule that it breaks: no request could match.
pub fn check_path(path: &str) -> Result<(), &'static str> {
    let is_open = |segment: &str| segment.contains(['{', '}']);
    let (mut names, mut segments) = (Vec::new(), path.split('/').peekable());
    if segments.next() != Some("") || segments.peek().is_none() {
        return Err("a path begins with /");
    }
    while let Some(segment) = segments.next() {
        let (literal, parameter) = split(segment);
        let decoded = percent_decode(literal);
        let is_decoded = decoded.is_some_and(|text| !text.contains(char::is_control));
        if is_open(literal) || parameter.is_some_and(is_open) {
            return Err(
                "braces stand for the end of a segment, as {name}, or for the rest of the \
                        path, as {name...}",
            );
        } else if literal.contains('*') {
            return Err("there are no wildcards: name the path, or let {name} stand for a segment");
        } else if literal.contains(['?', '#']) {
            return Err("a path ends before ? and #");
        } else if literal.contains(|c: char| c.is_control() || c == ' ') || !is_decoded {
            return Err("a path bears no space, no control character, and % with two hex digits \
                        alone");
        }
        let Some(parameter) = parameter else { continue };
        let name = parameter.strip_suffix(REST).unwrap_or(parameter);
        let is_rest = name.len() < parameter.len();
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        {
            return Err("a name between braces is of letters, digits and _");
        } else if names.contains(&name) {
            return Err("a name stands between braces once");
        } else if is_rest && (!literal.is_empty() || segments.peek().is_some()) {
            return Err("{name...} is the last segment");
        }
        names.push(name);
    }
    Ok(())
}

/// Returns whether the path of a route has parameters.
pub fn has_parameters(path: &str) -> bool {
    path.contains('{')
}

/// Returns the key of a request's path.
pub fn key_of_request(path: &str) -> Cow<'_, str> {
    match path.contains(['%', '{', '}']) {
        false => Cow::Borrowed(path),
        true => path.split('/').map(key_of_segment).collect::<Vec<_>>().join("/").into(),
    }
}

/// Returns the key of a route's path. Parameters are `{}`, or `{...}`, whatever their names.
pub fn key_of_route(path: &str) -> String {
    let segments = path.split('/').map(|segment| {
        let (literal, parameter) = split(segment);
        let shape = match parameter {
            None => "",
            Some(name) if name.ends_with(REST) => "{...}",
            Some(_) => "{}",
        };
        key_of_segment(literal) + shape
    });
    segments.collect::<Vec<_>>().join("/")
}

/// Returns whether the key of a route with parameters takes the key of a request.
pub fn takes(route: &str, request: &str) -> bool {
    let mut rest = Some(request);
    for segment in route.split('/') {
        let Some(left) = rest else { return false };
        if segment == "{...}" {
            return true;
        }
        let (own, behind) = cut(left);
        rest = behind;
        let is_same = match segment.strip_suffix("{}") {
            Some(literal) => own.starts_with(literal),
            None => own == segment,
        };
        if !is_same {
            return false;
        }
    }
    rest.is_none()
}

/// Returns what the path of a request has for a parameter of its route, decoded.
pub fn parameter<'r>(route: &str, request: &'r str, name: &str) -> Option<Cow<'r, str>> {
    let mut rest = Some(request);
    for segment in route.split('/') {
        let left = rest?;
        let (literal, parameter) = split(segment);
        let (own, behind) = match parameter.and_then(|own| own.strip_suffix(REST)) {
            Some(own) if own == name => return percent_decode(left),
            Some(_) => return None,
            None => cut(left),
        };
        rest = behind;
        if parameter == Some(name) {
            return behind_literal(own, literal);
        }
    }
    None
}

/// Orders keys of routes with parameters: of two that take the same path the one that says more
/// comes first, judged from the left.
pub fn order(one: &str, other: &str) -> Ordering {
    let rank = |segment: &str| match segment.strip_suffix("{}") {
        Some(literal) => (1, usize::MAX - literal.len()),
        None if segment == "{...}" => (2, 0),
        None => (0, 0),
    };
    let mut pairs = one.split('/').zip(other.split('/'));
    let by_rank = pairs.find_map(|(one, other)| {
        let order = rank(one).cmp(&rank(other)).then_with(|| one.cmp(other));
        Some(order).filter(|order| order.is_ne())
    });
    by_rank.unwrap_or_else(|| one.cmp(other))
}

/// Splits a segment of a route into what it says and its parameter.
fn split(segment: &str) -> (&str, Option<&str>) {
    let inside = segment.strip_suffix('}').and_then(|open| open.split_once('{'));
    inside.map_or((segment, None), |(literal, name)| (literal, Some(name)))
}

/// Cuts the first segment off. The rest is `None` behind the last one.
fn cut(path: &str) -> (&str, Option<&str>) {
    path.split_once('/').map_or((path, None), |(own, rest)| (own, Some(rest)))
}

/// Returns the end of a segment behind the literal of its route, which the segment may encode
/// otherwise.
fn behind_literal<'r>(segment: &'r str, literal: &str) -> Option<Cow<'r, str>> {
    let literal = percent_decode(literal)?;
    match percent_decode(segment)? {
        Cow::Borrowed(text) => text.strip_prefix(&*literal).map(Cow::Borrowed),
        Cow::Owned(text) => text.strip_prefix(&*literal).map(|end| end.to_owned().into()),
    }
}

fn key_of_segment(segment: &str) -> String {
    let decoded = percent_decode(segment).unwrap_or(Cow::Borrowed(segment));
    let mut key = String::with_capacity(decoded.len());
    for c in decoded.chars() {
        match c {
            '%' => key.push_str("%25"),
            '/' => key.push_str("%2F"),
            '{' => key.push_str("%7B"),
            '}' => key.push_str("%7D"),
            c => key.push(c),
        }
    }
    key
}

/// Behind the name of a parameter that takes the rest of a path.
const REST: &str = "...";

#[cfg(test)]
mod tests {
    use super::*;

    // The builder once took such paths, and every request for them was answered 404.
    #[test]
    fn a_path_that_no_request_can_match_is_told_by_its_rule() {
        for (path, rule) in [
            ("", "begins with /"),
            ("chat", "begins with /"),
            ("{topic}", "begins with /"),
            ("http://a/b", "begins with /"),
            ("/}", "braces"),
            ("/{", "braces"),
            ("/{a}b", "braces"),
            ("/{a}{b}", "braces"),
            ("/{{a}}", "braces"),
            ("/{}", "between braces"),
            ("/{...}", "between braces"),
            ("/{a b}", "between braces"),
            ("/{a/b}", "braces"),
            ("/{a}/{a}", "once"),
            ("/{a...}/b", "the last segment"),
            ("/x{a...}", "the last segment"),
            ("/files/*", "wildcards"),
            ("/*/x", "wildcards"),
            ("/a?b=c", "before ?"),
            ("/a#b", "before ?"),
            ("/a b", "no space"),
            ("/a\n", "no space"),
            ("/%", "% with"),
            ("/%00", "% with"),
            ("/%ff", "% with"),
        ] {
            let broken = check_path(path).unwrap_err();
            assert!(broken.contains(rule), "{path:?}: {broken}");
        }
    }

    #[test]
    fn the_place_of_the_topic_is_found() {
        for (path, around) in [
            ("/topics/{topic}", Some(("/topics/", ""))),
            ("/{topic}/ä", Some(("/", "/ä"))),
            ("{topic}", Some(("", ""))),
            ("/ä/{topics}/{topic...}", None),
            ("/{topic", None),
            ("", None),
        ] {
            assert_eq!(around_topic(path), around, "{path}");
        }
    }

    #[test]
    fn a_path_that_a_request_can_match_is_taken() {
        for path in [
            "/",
            "/a",
            "/a/",
            "//a",
            "/a/../b",
            "/rooms/{topic}",
            "/x-{id}",
            "/%20",
            "/ä",
            "/{a}/b/{c}",
            "/{rest...}",
            "/a/{b}/{c...}",
            "/%7Ba%7D",
        ] {
            assert_eq!(check_path(path), Ok(()), "{path:?}");
        }
    }

    #[test]
    fn a_path_is_the_same_however_it_is_encoded() {
        for (route, request, expected) in [
            ("/a", "/a", true),
            ("/a", "/%61", true),
            ("/%61", "/a", true),
            ("/a/b", "/a%2Fb", false),
            ("/a%2fb", "/a%2Fb", true),
            ("/a%2Fb", "/a%252Fb", false),
            ("/%7Ba}".trim_end_matches('}'), "/{a", true),
            ("/ä", "/%C3%A4", true),
            ("/a", "/A", false),
            ("/a", "/a/", false),
            ("/a/b", "/a/./b", false),
            ("/b", "/a/../b", false),
            ("/a/../b", "/a/%2e%2E/b", true),
        ] {
            let same = key_of_route(route) == key_of_request(request);
            assert_eq!(same, expected, "{route} {request}");
        }
    }

    #[test]
    fn a_parameter_takes_a_segment_and_the_last_one_may_take_the_rest() {
        for (route, request, values) in [
            ("/u/{id}", "/u/7", Some(vec![("id", "7")])),
            ("/u/{id}", "/u/", Some(vec![("id", "")])),
            ("/u/{id}", "/u", None),
            ("/u/{id}", "/u/7/", None),
            ("/u/{id}", "/u/a%2Fb", Some(vec![("id", "a/b")])),
            ("/u/{id}", "/u/..", Some(vec![("id", "..")])),
            ("/u/{id}", "/u/%2e%2e", Some(vec![("id", "..")])),
            ("/u/{id}", "/%75/%7B%7d", Some(vec![("id", "{}")])),
            ("/u/{id}/k/{key}", "/u/1/k/2", Some(vec![("id", "1"), ("key", "2")])),
            ("/u/{id}/k/{key}", "/u/1/x/2", None),
            ("/v{n}/a", "/v12/a", Some(vec![("n", "12")])),
            ("/v{n}/a", "/%762/a", Some(vec![("n", "2")])),
            ("/v{n}/a", "/w12/a", None),
            ("/f/{p...}", "/f/a/b%2Fc", Some(vec![("p", "a/b/c")])),
            ("/f/{p...}", "/f/", Some(vec![("p", "")])),
            ("/f/{p...}", "/f", None),
            ("/{a}/{p...}", "/x/../y", Some(vec![("a", "x"), ("p", "../y")])),
            ("/{p...}", "/", Some(vec![("p", "")])),
        ] {
            let is_taken = takes(&key_of_route(route), &key_of_request(request));
            assert_eq!(is_taken, values.is_some(), "{route} {request}");
            for (name, value) in values.unwrap_or_default() {
                assert_eq!(parameter(route, request, name).as_deref(), Some(value), "{request}");
                assert_eq!(parameter(route, request, "none"), None);
            }
        }
    }

    #[test]
    fn what_says_more_comes_first() {
        let mut routes =
            ["/{p...}", "/{a}", "/{a}/{b}", "/a/{p...}", "/a/{b}", "/a/b{c}", "/{a}/b", "/a/bc{d}"]
                .map(key_of_route);
        routes.sort_by(|one, other| order(one, other));
        let expected =
            ["/a/bc{}", "/a/b{}", "/a/{}", "/a/{...}", "/{}", "/{}/b", "/{}/{}", "/{...}"];
        assert_eq!(routes, expected);
    }
}

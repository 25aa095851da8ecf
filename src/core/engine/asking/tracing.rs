//! The trace context of a request, for the service that is asked about it.
//!
//! It is no part of the question: requests that are alike but for it have one answer.

use crate::core::config::PassedHeaders;
use crate::core::wire::http::Request;

/// Header lines that go along with a question.
pub type Lines = Vec<(&'static str, String)>;

/// Returns the lines of a request's trace context: none without a valid `traceparent`, and those
/// not that are passed on as parts of the question.
pub fn lines(request: &Request, passed: &PassedHeaders) -> Lines {
    let Some(trace) = request.trace() else { return Lines::new() };
    let mut lines = vec![("traceparent", trace.to_string())];
    let states = request.header_values("tracestate").collect::<Vec<_>>().join(&b","[..]);
    let is_short = (1..=STATE_BYTES_MAX).contains(&states.len());
    if let Some(states) = String::from_utf8(states).ok().filter(|_| is_short) {
        lines.push(("tracestate", states));
    }
    lines.retain(|(name, _)| passed.names().all(|passed| !passed.eq_ignore_ascii_case(name)));
    lines
}

/// The longest `tracestate` that is passed on: each service behind this one has to take that much.
const STATE_BYTES_MAX: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::wire::http::test_request;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn lines_of(text: &str, passed: &str) -> String {
        let request = test_request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{text}\r\n"));
        let lines = lines(&request, &passed.parse().unwrap());
        lines.iter().map(|(name, value)| format!("{name}={value} ")).collect()
    }

    #[test]
    fn a_state_goes_with_a_valid_context_alone() {
        let parent = format!("Traceparent: {TRACE}\r\n");
        let short = "TraceState: a=1, b=2\r\ntracestate: c=3\r\n";
        let long = |len: usize| format!("tracestate: a={}\r\n", "x".repeat(len - 2));
        for (text, passed, expected) in [
            (String::new(), "Cookie", String::new()),
            (short.into(), "Cookie", String::new()),
            (parent.replace("00-", "ff-") + short, "Cookie", String::new()),
            (parent.clone() + &parent, "Cookie", String::new()),
            (parent.clone(), "Cookie", format!("traceparent={TRACE} ")),
            (
                parent.clone() + short,
                "Cookie",
                format!("traceparent={TRACE} tracestate=a=1, b=2,c=3 "),
            ),
            (parent.clone() + short, "TRACEPARENT", "tracestate=a=1, b=2,c=3 ".into()),
            (parent.clone() + "tracestate:\r\n", "Cookie", format!("traceparent={TRACE} ")),
            (parent.clone() + &long(513), "Cookie", format!("traceparent={TRACE} ")),
        ] {
            assert_eq!(lines_of(&text, passed), expected, "{text}");
        }
        assert!(lines_of(&(parent + &long(512)), "Cookie").contains("tracestate=a=x"));
    }
}

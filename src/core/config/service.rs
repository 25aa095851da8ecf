//! The service that is asked before requests are let in: `admission.request` and what goes with it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::kinds::{Shown, ValueKind};
use crate::core::wire::http::OutgoingRequest;
use crate::core::wire::target::Target;

/// The header lines of a request that are passed to the service.
///
/// Read from text and written as text: a comma-separated list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassedHeaders(Vec<String>);

impl PassedHeaders {
    /// Returns the names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

impl Default for PassedHeaders {
    fn default() -> PassedHeaders {
        PassedHeaders(["Authorization", "Cookie", "Origin"].map(String::from).into())
    }
}

impl FromStr for PassedHeaders {
    type Err = PassedHeadersError;

    fn from_str(text: &str) -> Result<PassedHeaders, PassedHeadersError> {
        let names = text.split(',').map(str::trim);
        let is_own = |name: &str| OWN.iter().any(|own| own.eq_ignore_ascii_case(name));
        let can_be_sent = |name: &str| {
            let request = OutgoingRequest::new("GET", "a", "/");
            request.is_ok_and(|request| request.header(name, "").is_ok())
        };
        match names.clone().all(|name| can_be_sent(name) && !is_own(name)) {
            true => Ok(PassedHeaders(names.map(String::from).collect())),
            false => Err(PassedHeadersError),
        }
    }
}

impl fmt::Display for PassedHeaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

/// The text is no list of names of header lines that can be passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PassedHeadersError;

impl fmt::Display for PassedHeadersError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HEADERS_RULE)
    }
}

impl std::error::Error for PassedHeadersError {}

/// The URL of the service.
pub(super) struct ServiceUrl;

impl ValueKind<String> for ServiceUrl {
    fn read(&self, text: &str) -> Result<String, String> {
        let target = text.parse::<Target>().ok().filter(|_| text.starts_with("http"));
        match target {
            Some(target) if target.is_secure() && cfg!(not(feature = "tls")) => {
                Err("must not be https: this build has no TLS: feature `tls`".into())
            }
            Some(_) => Ok(text.to_owned()),
            None => Err("must be http://HOST[:PORT][/PATH], or https:".into()),
        }
    }

    fn show(&self, url: &String) -> Shown {
        Shown::Text(url.clone())
    }
}

/// How long the service may take.
pub(crate) const OPINION_WITHIN: Duration = Duration::from_secs(2);

pub(super) const HEADERS_RULE: &str = "must be a list of header names that a request may pass on";

/// Lines that the server writes itself.
const OWN: [&str; 3] = ["X-Original-Method", "X-Original-URI", "X-Real-IP"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_can_be_passed_are_read() {
        let passed: PassedHeaders = "Cookie , x-device".parse().unwrap();
        assert_eq!(passed.names().collect::<Vec<_>>(), ["Cookie", "x-device"]);
        assert_eq!(passed.to_string().parse(), Ok(passed));
        assert_eq!(PassedHeaders::default().to_string(), "Authorization,Cookie,Origin");
        for text in ["", "a,", "a b", "a:", "Host", "upgrade", "x-real-ip", "a,X-ORIGINAL-URI"] {
            assert_eq!(text.parse::<PassedHeaders>(), Err(PassedHeadersError), "{text:?}");
        }
    }

    #[test]
    fn a_service_has_a_url_of_http() {
        for url in ["http://auth", "http://127.0.0.1:9000/check?a=b", "HTTP://a"] {
            let is_read = ServiceUrl.read(url).is_ok();
            assert_eq!(is_read, !url.starts_with("HTTP"), "{url}");
        }
        for url in ["", "off", "auth:80", "ws://auth", "http://", "http://user@a", "http://a/#b"] {
            let rule = ServiceUrl.read(url).unwrap_err();
            assert!(rule.starts_with("must be http://HOST"), "{url}: {rule}");
        }
        assert_eq!(ServiceUrl.read("https://auth/").is_ok(), cfg!(feature = "tls"));
    }
}

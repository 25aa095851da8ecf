//! Plain requests of a client, and their answers.

use std::fmt;
use std::time::Duration;

use tungstenite::Bytes;

use crate::core::wire::http::{OutgoingRequest, RequestError, ResponseHead};
use crate::core::wire::target::Target;

/// A plain request to the server that a [`Dial`](crate::Dial) names: what
/// [`Handle::request`](crate::Handle::request), [`Links::request`](crate::Links::request) and
/// [`Client::request`](crate::Client::request) take.
///
/// ```
/// use std::time::Duration;
/// use heartwheel::Ask;
///
/// let ask = Ask::post("/topics/doors", "text/plain", "open").within(Duration::from_secs(2));
/// ```
///
/// It is made once, on a connection of its own, which is closed behind the answer. A redirect is
/// not followed: the answer is the redirect.
#[derive(Clone)]
pub struct Ask {
    method: String,
    path: String,
    headers: Vec<(String, String)>,
    body: Option<(String, Bytes)>,
    within: Duration,
    /// Of the answer's body; `None`: `limits.message_bytes`.
    most: Option<u64>,
}

impl Ask {
    /// Begins with a method and a path, which may have a query. An empty path stands for that of
    /// the `Dial`'s URL, which is `/ws` if the URL has none.
    pub fn new(method: impl Into<String>, path: impl Into<String>) -> Ask {
        let (method, path) = (method.into(), path.into());
        Ask { method, path, headers: Vec::new(), body: None, within: WITHIN, most: None }
    }

    /// Begins with GET and a path.
    pub fn get(path: impl Into<String>) -> Ask {
        Ask::new("GET", path)
    }

    /// Begins with POST, a path, and a body with its type.
    pub fn post(
        path: impl Into<String>,
        content_type: impl Into<String>,
        body: impl Into<Bytes>,
    ) -> Ask {
        Ask::new("POST", path).body(content_type, body)
    }

    /// Sets the body, perhaps an empty one, and its type.
    pub fn body(mut self, content_type: impl Into<String>, body: impl Into<Bytes>) -> Ask {
        self.body = Some((content_type.into(), body.into()));
        self
    }

    /// Adds a header line. It stands in place of those of the same name, in any case, that the
    /// `Dial` has, and an `Authorization` in place of the `Dial`'s token.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Ask {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets how long the whole may take, from the look-up of the name to the last byte of the
    /// answer: 10 s if it is not set, at most 24 days.
    pub fn within(mut self, within: Duration) -> Ask {
        self.within = within;
        self
    }

    /// Sets how many bytes the answer's body may have: `limits.message_bytes` if it is not set.
    pub fn limit(mut self, bytes: u64) -> Ask {
        self.most = Some(bytes);
        self
    }

    /// Sets that limit where the application has set none.
    pub(crate) fn or_limit(mut self, bytes: u64) -> Ask {
        self.most.get_or_insert(bytes);
        self
    }

    /// Returns how many bytes the application has given: what is sent has a few more.
    pub(crate) fn bytes(&self) -> usize {
        let lines = self.headers.iter().map(|(name, value)| name.len() + value.len());
        let body =
            self.body.as_ref().map_or(0, |(content_type, body)| content_type.len() + body.len());
        self.method.len() + self.path.len() + lines.sum::<usize>() + body
    }

    /// Returns how long the whole may take.
    pub(super) fn span(&self) -> Duration {
        self.within
    }

    /// Returns how many bytes the answer's body may have.
    pub(super) fn most(&self) -> u64 {
        self.most.unwrap_or(u64::MAX)
    }

    /// Returns whether the answer is a head alone.
    pub(super) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }

    /// Returns its own header lines.
    pub(super) fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Makes the request to one of a server's addresses, without header lines.
    pub(super) fn request(&self, target: &Target) -> Result<OutgoingRequest, RequestError> {
        // What follows the answer to CONNECT is no body (RFC 9110, 9.3.6).
        if self.method == "CONNECT" {
            return Err(RequestError::Method);
        }
        let path = if self.path.is_empty() { target.path() } else { &self.path };
        let request = OutgoingRequest::new(&self.method, target.host(), path)?.closing();
        match &self.body {
            Some((content_type, body)) => request.body(content_type, body.clone()),
            None => Ok(request),
        }
    }
}

/// Without the headers, the query and the body, which may be secrets.
impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, query) = self.path.split_once('?').unwrap_or((&self.path, ""));
        let body = self.body.as_ref().map_or(0, |(_, body)| body.len());
        f.debug_struct("Ask")
            .field("method", &self.method)
            .field("path", &path)
            .field("query_bytes", &query.len())
            .field("body_bytes", &body)
            .finish_non_exhaustive()
    }
}

/// The answer to a plain request, complete, whatever its status is.
#[derive(Clone, PartialEq, Eq)]
pub struct Answer {
    head: ResponseHead,
    body: Bytes,
}

impl Answer {
    pub(super) fn new(head: ResponseHead, body: Bytes) -> Answer {
        Answer { head, body }
    }

    /// Returns the status: 200 to 599.
    pub fn status(&self) -> u16 {
        self.head.status()
    }

    /// Returns whether the status is 200 to 299.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    /// Returns the value of the first header line of this name, in any case; `None` also if the
    /// value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.header(name)
    }

    /// Returns all header lines in their order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.head.headers()
    }

    /// Returns the body, as the server has encoded it: no Content-Encoding is undone.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Returns the body as text; `None` if it is not UTF-8.
    pub fn text(&self) -> Option<&str> {
        str::from_utf8(&self.body).ok()
    }
}

/// Without the headers and the body, which may be secrets.
impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status())
            .field("headers", &self.headers().count())
            .field("body_bytes", &self.body.len())
            .finish()
    }
}

/// How long a request may take if nothing else is said.
const WITHIN: Duration = Duration::from_secs(10);

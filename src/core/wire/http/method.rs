//! Request methods (RFC 9110, 9; RFC 5789) that a route can have.

/// A request method. HEAD is asked for where GET is answered. CONNECT is for proxies alone: a
/// request for it is malformed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// GET, and HEAD with it.
    Get,
    /// POST.
    Post,
    /// PUT.
    Put,
    /// DELETE.
    Delete,
    /// PATCH.
    Patch,
    /// TRACE.
    Trace,
    /// OPTIONS, but for a preflight, which the server answers.
    Options,
}

impl Method {
    /// All of them, in the order in which Allow lists them.
    pub const ALL: [Method; 7] = [
        Method::Get,
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Patch,
        Method::Trace,
        Method::Options,
    ];

    /// Finds the method that answers a request; `None` if no route can have it. Methods are
    /// case-sensitive.
    pub fn of(name: &str) -> Option<Method> {
        let name = if name == "HEAD" { "GET" } else { name };
        Method::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Returns the method as it stands in a request.
    pub fn name(self) -> &'static str {
        match self {
            Method::Get => "GET",
            Method::Post => "POST",
            Method::Put => "PUT",
            Method::Delete => "DELETE",
            Method::Patch => "PATCH",
            Method::Trace => "TRACE",
            Method::Options => "OPTIONS",
        }
    }

    /// Returns whether a request with this method says what it brings (RFC 9110, 8.6).
    pub(crate) fn brings_content(self) -> bool {
        matches!(self, Method::Post | Method::Put | Method::Patch)
    }
}

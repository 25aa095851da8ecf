//! What the service that `admission.request` names is asked about a request.

use std::fmt;
use std::sync::Arc;

use crate::core::wire::http::{self, Refusal, Request};

/// The question whether a request is let in: the URL of the service, then the header lines that
/// make the difference, each behind a line feed. Two that are the same text are one question.
///
/// Secrets stand in it. A copy shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) struct Question(Arc<str>);

impl Question {
    /// Makes the question about a request. The lines that it has under the names of `passed` are
    /// passed on.
    ///
    /// # Errors
    ///
    /// 400, if a line that is to be passed cannot be.
    pub fn about<'a>(
        request: &Request,
        url: &str,
        passed: impl Iterator<Item = &'a str>,
    ) -> Result<Question, Refusal> {
        let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut lines = vec![
            ("X-Original-Method", request.method().to_owned()),
            ("X-Original-URI", format!("{}{query}", request.path())),
        ];
        lines.extend(request.peer().map(|peer| ("X-Real-IP", peer.to_canonical().to_string())));
        let token = http::bearer(request);
        lines.extend(token.iter().map(|token| (AUTHORIZATION, format!("Bearer {token}"))));
        for name in passed {
            if token.is_some() && name.eq_ignore_ascii_case(AUTHORIZATION) {
                continue;
            }
            for value in request.header_values(name) {
                lines.push((name, String::from_utf8_lossy(value).into_owned()));
            }
        }
        let mut text = url.to_owned();
        for (name, value) in &lines {
            // A token of a query may have any. None of the others has a line feed.
            if !http::is_field_value(value.as_bytes()) {
                return Err(Refusal::bad_request("a token has no control characters"));
            }
            text.extend(["\n", name, ":", value]);
        }
        Ok(Question(text.into()))
    }

    /// Makes the same question with another token in place of what the request came with. `None` if
    /// that cannot be passed.
    pub fn with_token(&self, token: &str) -> Option<Question> {
        let value = format!("Bearer {token}");
        let is_other = |(name, _): &(&str, &str)| !name.eq_ignore_ascii_case(AUTHORIZATION);
        let mut text = self.url().to_owned();
        for (name, value) in self.lines().filter(is_other).chain([(AUTHORIZATION, &*value)]) {
            text.extend(["\n", name, ":", value]);
        }
        http::is_field_value(value.as_bytes()).then(|| Question(text.into()))
    }

    /// Returns the URL of the service.
    pub fn url(&self) -> &str {
        self.0.split('\n').next().unwrap_or_default()
    }

    /// Returns the names and the values of the header lines.
    pub fn lines(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.split('\n').skip(1).filter_map(|line| line.split_once(':'))
    }

    /// Returns how many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

/// Without the text.
impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("len", &self.len()).finish_non_exhaustive()
    }
}

const AUTHORIZATION: &str = "Authorization";

//! What is asked of the service that `admission.request` names, and what it says.

use std::fmt;
use std::sync::Arc;

use crate::core::client::Why;
use crate::core::client::ask::{Answer, Ask};
use crate::core::config::{OPINION_WITHIN, PassedHeaders};
use crate::core::contract::accept::Accept;
use crate::core::wire::http::{self, Refusal, Request};

/// The question whether a request is let in: the URL of the service, then the header lines that
/// make the difference, each behind a line feed. Two that are the same text are one question.
///
/// Secrets stand in it. A copy shares the text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Question(Arc<str>);

/// What the service says.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// With what the request is let in, or the status with which it is refused: 401 or 403.
    pub verdict: Result<Accept, u16>,
    /// About how many bytes it takes.
    pub bytes: usize,
}

/// Why there is no opinion.
#[derive(Debug)]
pub struct NoOpinion {
    why: String,
    /// The service was reached, and failed.
    pub is_services_fault: bool,
}

impl Question {
    /// Makes the question about a request.
    ///
    /// # Errors
    ///
    /// 400, if a line that is to be passed cannot be.
    pub fn about(
        request: &Request,
        url: &str,
        passed: &PassedHeaders,
    ) -> Result<Question, Refusal> {
        let query = request.query().map(|query| format!("?{query}")).unwrap_or_default();
        let mut lines = vec![
            ("X-Original-Method", request.method().to_owned()),
            ("X-Original-URI", format!("{}{query}", request.path())),
        ];
        lines.extend(request.peer().map(|peer| ("X-Real-IP", peer.to_canonical().to_string())));
        let token = http::bearer(request);
        lines.extend(token.iter().map(|token| ("Authorization", format!("Bearer {token}"))));
        for name in passed.names() {
            if token.is_some() && name.eq_ignore_ascii_case("Authorization") {
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

    /// Returns the request by which it is asked.
    pub fn ask(&self) -> Ask {
        let mut lines = self.0.split('\n');
        let path = path_of(lines.next().unwrap_or_default());
        let ask = Ask::get(path).within(OPINION_WITHIN).limit(BODY_BYTES_MAX);
        let lines = lines.filter_map(|line| line.split_once(':'));
        lines.fold(ask, |ask, (name, value)| ask.header(name, value))
    }

    /// Returns how many bytes it has.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl Opinion {
    /// Reads the answer of the service. What its lines do not say for certain is no opinion.
    pub fn read(answer: Result<Answer, Why>) -> Result<Opinion, NoOpinion> {
        let answer = answer.map_err(NoOpinion::from)?;
        let verdict = match answer.status() {
            200..300 => Ok(accept(&answer).map_err(NoOpinion::of)?),
            status @ (401 | 403) => Err(status),
            status => return Err(NoOpinion::of(format!("status {status}"))),
        };
        let lines = answer.headers().filter(|(name, _)| is_own(name));
        let bytes = lines.map(|(_, value)| 2 * value.len()).sum::<usize>() + OPINION_BYTES;
        Ok(Opinion { verdict, bytes })
    }
}

impl NoOpinion {
    fn of(why: impl Into<String>) -> NoOpinion {
        NoOpinion { why: why.into(), is_services_fault: true }
    }
}

/// Without the text.
impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Question").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl From<Why> for NoOpinion {
    fn from(why: Why) -> NoOpinion {
        NoOpinion { why: why.to_string(), is_services_fault: why.is_servers_fault() }
    }
}

impl fmt::Display for NoOpinion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// Reads with what a request is let in. A right that is not named is not given.
fn accept(answer: &Answer) -> Result<Accept, String> {
    let values = |name: &'static str| {
        let lines = answer.headers().filter(move |(own, _)| own.eq_ignore_ascii_case(name));
        lines.map(move |(_, value)| str::from_utf8(value).map_err(|_| format!("{name} is no text")))
    };
    let only = |name: &'static str| {
        let mut found = values(name).collect::<Result<Vec<_>, _>>()?;
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => Err(format!("{name} stands on two lines")),
        }
    };
    let patterns = |name: &'static str| {
        let lines = values(name).collect::<Result<Vec<_>, _>>()?;
        let elements = lines.into_iter().flat_map(|line| line.split(',')).map(str::trim);
        Ok::<Vec<&str>, String>(elements.filter(|pattern| !pattern.is_empty()).collect())
    };
    let mut accept = Accept::new().publish(patterns(PUBLISH)?).subscribe(patterns(SUBSCRIBE)?);
    if let Some(identity) = only(IDENTITY)? {
        accept = accept.identity(identity);
    }
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if only(EXPIRES)?.is_some_and(|text| !is_number(text) || text.parse::<u64>().is_err()) {
        return Err(format!("{EXPIRES} is no number of seconds"));
    }
    accept.check().map_err(|fault| fault.to_string())?;
    Ok(accept)
}

fn is_own(name: &str) -> bool {
    [IDENTITY, PUBLISH, SUBSCRIBE, EXPIRES].iter().any(|own| own.eq_ignore_ascii_case(name))
}

/// Returns the path of a URL, with its query: `/` if there is none.
fn path_of(url: &str) -> String {
    let (_, rest) = url.split_once("://").unwrap_or(("", url));
    match rest.find(['/', '?']).map(|at| &rest[at..]) {
        None => "/".into(),
        Some(path) if path.starts_with('?') => format!("/{path}"),
        Some(path) => path.into(),
    }
}

const IDENTITY: &str = "Heartwheel-Identity";
const PUBLISH: &str = "Heartwheel-Publish";
const SUBSCRIBE: &str = "Heartwheel-Subscribe";
const EXPIRES: &str = "Heartwheel-Expires";

/// Nothing is read of the body of an answer, but that it ends.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// Of an opinion without what its lines say.
const OPINION_BYTES: usize = 256;

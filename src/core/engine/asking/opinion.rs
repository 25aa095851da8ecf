//! What is asked of the service that `admission.request` names, and what it says.

use std::fmt;

use crate::core::admission::question::Question;
use crate::core::client::Why;
use crate::core::client::ask::{Answer, Ask};
use crate::core::config::OPINION_WITHIN;
use crate::core::contract::accept::Accept;

/// What the service says.
#[derive(Clone, Debug)]
pub struct Opinion {
    /// With what the request is let in, or the status with which it is refused: 401 or 403.
    pub verdict: Result<Accept, u16>,
    /// Until when that counts, in milliseconds since 1970, if it has an end.
    pub expires_ms: Option<u64>,
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

/// Makes the request by which a question is asked.
pub fn ask(question: &Question) -> Ask {
    let ask = Ask::get(path_of(question.url())).within(OPINION_WITHIN).limit(BODY_BYTES_MAX);
    question.lines().fold(ask, |ask, (name, value)| ask.header(name, value))
}

impl Opinion {
    /// Reads the answer of the service. What its lines do not say for certain is no opinion.
    pub fn read(answer: Result<Answer, Why>) -> Result<Opinion, NoOpinion> {
        let answer = answer.map_err(NoOpinion::from)?;
        let (verdict, expires_ms) = match answer.status() {
            200..300 => {
                let (accept, expires_ms) = accept(&answer).map_err(NoOpinion::of)?;
                (Ok(accept), expires_ms)
            }
            status @ (401 | 403) => (Err(status), None),
            status => return Err(NoOpinion::of(format!("status {status}"))),
        };
        let lines = answer.headers().filter(|(name, _)| is_own(name));
        let bytes = lines.map(|(_, value)| 2 * value.len()).sum::<usize>() + OPINION_BYTES;
        Ok(Opinion { verdict, expires_ms, bytes })
    }
}

impl NoOpinion {
    fn of(why: impl Into<String>) -> NoOpinion {
        NoOpinion { why: why.into(), is_services_fault: true }
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

/// Reads with what a request is let in, and until when in milliseconds since 1970. A right that is
/// not named is not given.
fn accept(answer: &Answer) -> Result<(Accept, Option<u64>), String> {
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
    let seconds = |text: &str| match text.bytes().all(|byte| byte.is_ascii_digit()) {
        true => text.parse::<u64>().map_err(|_| ()),
        false => Err(()),
    };
    let seconds = only(EXPIRES)?.map(seconds).transpose();
    let seconds = seconds.map_err(|()| format!("{EXPIRES} is no number of seconds"))?;
    accept.check().map_err(|fault| fault.to_string())?;
    Ok((accept, seconds.map(|seconds| seconds.saturating_mul(1000).min(EXPIRES_MS_MAX))))
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

/// The latest end, in milliseconds since 1970: the largest whole number of JavaScript.
pub const EXPIRES_MS_MAX: u64 = (1 << 53) - 1;

/// Nothing is read of the body of an answer, but that it ends.
const BODY_BYTES_MAX: u64 = 64 << 10;

/// Of an opinion without what its lines say.
const OPINION_BYTES: usize = 256;

//! What a C function returns when it cannot do what was asked.

use std::borrow::Cow;
use std::ffi::{CStr, CString, c_int};

use crate::core::engine::Refused;
use crate::core::topics::SubscribeError;
use crate::server::Error;

/// The codes of the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub(super) enum Code {
    Argument = -1,
    Io = -2,
    Gone = -3,
    Full = -4,
    Config = -5,
    Panic = -6,
    None = -7,
}

pub(super) const OK: c_int = 0;
pub(super) const DONE: c_int = 1;
pub(super) const GAP: c_int = 2;

/// A code, and the sentence that `heartwheel_last_error` returns.
#[derive(Debug)]
pub(super) struct Failure {
    pub code: Code,
    pub text: Cow<'static, CStr>,
}

impl Failure {
    pub const fn new(code: Code, text: &'static CStr) -> Failure {
        Failure { code, text: Cow::Borrowed(text) }
    }

    /// Makes a failure with a sentence made at run time.
    pub fn told(code: Code, text: &str) -> Failure {
        Failure { code, text: Cow::Owned(c_text(text)) }
    }
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Failure {
        match refused {
            Refused::Gone => Failure::new(Code::Gone, c"the peer is gone, or closing"),
            Refused::OutboxFull => Failure::new(
                Code::Full,
                c"more would wait for the peer than limits.outbox_bytes: wait for \
                  HEARTWHEEL_DRAINED",
            ),
            Refused::Flooded => Failure::new(
                Code::Full,
                c"more is published than was delivered: call heartwheel_turn first",
            ),
            Refused::Path(path, rule) => Failure::told(Code::Argument, &format!("{path}: {rule}")),
            Refused::Routes => Failure::new(Code::Full, c"there must be at most 4096 routes"),
            Refused::Own => Failure::new(Code::Argument, c"the topic is the server's own"),
            Refused::Topic(error) => {
                let code = match error {
                    SubscribeError::BadName => Code::Argument,
                    SubscribeError::TopicsFull | SubscribeError::SubscriptionsFull => Code::Full,
                };
                Failure::told(code, &error.to_string())
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = match error {
            Error::Config { .. } | Error::Route { .. } => Code::Config,
            Error::Bind { .. } | Error::Io(_) => Code::Io,
        };
        Failure::told(code, &error.to_string())
    }
}

/// Returns the text as a C string. A NUL inside, which no text of ours has, ends it.
pub(super) fn c_text(text: &str) -> CString {
    let end = text.find('\0').unwrap_or(text.len());
    CString::new(&text[..end]).unwrap_or_default()
}

/// Returns what a code means.
pub(super) fn describe(code: c_int) -> &'static CStr {
    match code {
        OK => c"done",
        DONE => c"nothing is left",
        code if code == Code::Argument as c_int => c"an argument, or the handle, is not usable",
        code if code == Code::Io as c_int => c"the system refused",
        code if code == Code::Gone as c_int => c"the peer is gone",
        code if code == Code::Full as c_int => c"full: try again later",
        code if code == Code::Config as c_int => c"the configuration is not usable",
        code if code == Code::Panic as c_int => c"the library failed: only free the handle",
        code if code == Code::None as c_int => c"there is none",
        GAP => c"done, but events are missing",
        _ => c"no such code",
    }
}

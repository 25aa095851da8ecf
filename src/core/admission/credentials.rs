//! What requests are let in by.

#[cfg(feature = "jwt")]
use crate::core::admission::grant::Grant;
#[cfg(feature = "jwt")]
use crate::core::admission::jwt::Keys;
use crate::core::admission::rights::Right;
use crate::core::admission::tokens::{TokenIndex, Tokens};

/// What requests are let in by: where there is nothing, nothing is asked of them. Where there are
/// both, either will do.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    /// The tokens of a file.
    pub tokens: Option<Tokens>,
    /// The keys by which tokens are signed that expire.
    #[cfg(feature = "jwt")]
    pub keys: Option<Keys>,
}

impl Credentials {
    /// Returns whether requests must bear a token.
    pub fn are_asked(&self) -> bool {
        let is_asked = self.tokens.is_some();
        #[cfg(feature = "jwt")]
        let is_asked = is_asked || self.keys.is_some();
        is_asked
    }

    /// Returns whether a token of the file has a right; without a token there is none.
    pub(crate) fn may(&self, token: Option<TokenIndex>, right: Right, topic: &str) -> bool {
        let found = token.zip(self.tokens.as_ref());
        found.is_some_and(|(token, tokens)| tokens.may(token, right, topic))
    }
}

/// What a request was let in by.
#[derive(Debug, Default)]
pub(crate) enum Pass {
    /// Nothing: nothing was asked of it, or it was refused.
    #[default]
    Nothing,
    /// A token of the file.
    Line(TokenIndex),
    /// A token that expires.
    #[cfg(feature = "jwt")]
    Grant(Box<Grant>),
}

impl Pass {
    /// Returns whether a right comes with it.
    pub fn may(&self, credentials: &Credentials, right: Right, topic: &str) -> bool {
        match self {
            Pass::Nothing => false,
            Pass::Line(token) => credentials.may(Some(*token), right, topic),
            #[cfg(feature = "jwt")]
            Pass::Grant(grant) => grant.token.as_ref().is_some_and(|token| token.may(right, topic)),
        }
    }

    /// Returns the token of the file, if it is one.
    pub fn line(&self) -> Option<TokenIndex> {
        match self {
            Pass::Line(token) => Some(*token),
            _ => None,
        }
    }
}

impl From<Option<Tokens>> for Credentials {
    fn from(tokens: Option<Tokens>) -> Credentials {
        Credentials {
            tokens,
            #[cfg(feature = "jwt")]
            keys: None,
        }
    }
}

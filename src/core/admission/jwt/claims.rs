//! What a token claims.

use super::{Fault, members};
use crate::core::admission::rights::{Right, Rights};
use crate::core::ground::decimal;
use crate::core::ground::identity::Identity;
use crate::core::ground::json;

/// What a token claims, once its signature was found good.
#[derive(Clone, Debug)]
pub struct Claims {
    /// `sub`: who comes with the token.
    pub subject: Option<Identity>,
    /// `publish` and `subscribe`: what no pattern there names is not allowed.
    pub rights: Rights,
    /// `exp`: when the token's time is over, in milliseconds since 1970.
    pub expires_ms: u64,
    not_before_ms: Option<u64>,
    issuer: Option<String>,
    audiences: Option<Vec<String>>,
}

/// What the configuration wants of a token.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// `admission.jwt_issuer`; without it any issuer will do.
    pub issuer: Option<&'a str>,
    /// `admission.jwt_audience`; without it no token with an audience will do.
    pub audience: Option<&'a str>,
}

impl Claims {
    /// Reads the claims of a token.
    pub(super) fn read(text: &str) -> Result<Claims, Fault> {
        let mut expires_ms = None;
        let mut claims = Claims {
            subject: None,
            rights: Rights::default(),
            expires_ms: 0,
            not_before_ms: None,
            issuer: None,
            audiences: None,
        };
        let mut is_sound = true;
        let read = members(text, |name, value| {
            let taken = match name {
                "exp" => millis(value).map(|ms| expires_ms = Some(ms)),
                name => claims.take(name, value),
            };
            is_sound = is_sound && taken.is_some();
            Some(())
        });
        read.ok_or(Fault::Malformed)?;
        claims.expires_ms = expires_ms.filter(|_| is_sound).ok_or(Fault::Claims)?;
        claims.rights.shrink_to_fit();
        Ok(claims)
    }

    /// Takes a claim other than `exp`; `None` if it is not what it must be.
    fn take(&mut self, name: &str, value: &str) -> Option<()> {
        match name {
            "nbf" => self.not_before_ms = Some(millis(value)?),
            "sub" => self.subject = Some(Identity::new(&json::string(value)?)?),
            "iss" => self.issuer = Some(json::string(value)?.into_owned()),
            "aud" => {
                let one = json::string(value).map(|one| vec![one.into_owned()]);
                self.audiences = Some(one.or_else(|| strings(value))?);
            }
            "publish" => self.allow(Right::Publish, value)?,
            "subscribe" => self.allow(Right::Subscribe, value)?,
            _ => {}
        }
        Some(())
    }

    fn allow(&mut self, right: Right, value: &str) -> Option<()> {
        strings(value)?.iter().try_for_each(|pattern| self.rights.allow(right, pattern).ok())
    }

    /// Checks the claims by the time and by the configuration.
    pub(super) fn check(&self, unix_ms: u64, expected: Expected<'_>) -> Result<(), Fault> {
        if unix_ms >= self.expires_ms {
            return Err(Fault::Expired);
        }
        if self.not_before_ms.is_some_and(|from_ms| unix_ms.saturating_add(LEEWAY_MS) < from_ms) {
            return Err(Fault::NotYet);
        }
        if expected.issuer.is_some_and(|issuer| self.issuer.as_deref() != Some(issuer)) {
            return Err(Fault::Issuer);
        }
        match (&self.audiences, expected.audience) {
            (None, None) => Ok(()),
            (Some(all), Some(own)) if all.iter().any(|audience| audience == own) => Ok(()),
            _ => Err(Fault::Audience),
        }
    }
}

/// Returns the strings of a raw array; `None` if it is of another type, or has others.
fn strings(raw: &str) -> Option<Vec<String>> {
    let string = |element| json::string(element).map(|text| text.into_owned());
    json::elements(raw)?.map(string).collect()
}

/// Returns a raw number of seconds in milliseconds, to the nearest; `None` if it is no number, or
/// less than zero.
fn millis(raw: &str) -> Option<u64> {
    let seconds = decimal::parse(raw).filter(|seconds| *seconds >= 0.0)?;
    Some((seconds * 1000.0 + 0.5) as u64)
}

/// What the clock of who made a token may be ahead of this one.
const LEEWAY_MS: u64 = 30_000;

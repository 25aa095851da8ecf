//! What is read of an answer of OCSP (RFC 6960, 4.2): until when it is good.

use crate::core::wire::tls::Der;

/// Returns until when the answer is good, in seconds since 1970; `Some(None)` if it does not say.
/// None if it is no answer, or one that says that there is none.
pub(super) fn valid_until(der: &[u8]) -> Option<Option<i64>> {
    let mut answer = Der(Der(der).expect(0x30)?);
    if answer.expect(0x0a)? != [0] {
        return None;
    }
    let mut bytes = Der(Der(answer.expect(0xa0)?).expect(0x30)?);
    bytes.expect(0x06)?;
    let mut basic = Der(Der(bytes.expect(0x04)?).expect(0x30)?);
    let mut answers = Der(basic.expect(0x30)?);
    answers.skip_if(0xa0);
    // Who answers, and when.
    answers.next()?;
    answers.expect(0x18)?;
    let mut single = Der(Der(answers.expect(0x30)?).expect(0x30)?);
    // For which certificate, and what; since when.
    single.next()?;
    single.next()?;
    single.expect(0x18)?;
    match single.expect(0xa0) {
        Some(next) => Some(Some(Der(next).time()?)),
        None => Some(None),
    }
}

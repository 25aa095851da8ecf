//! What a client does after an end or a refusal. One table holds for all clients: the browser's
//! (`src/app/heartwheel.js`) has it as the data `STOP` and `RENEW`.

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: another try would end the same way.
    Stop,
    /// Ask for credentials once, then try again. If it comes twice in a row: [`Verdict::Stop`].
    Renew,
    /// Try again after a while.
    Retry,
}

/// Returns what follows an upgrade, or another request, that was answered by an HTTP status other
/// than the one hoped for.
pub fn of_status(status: u16) -> Verdict {
    match status {
        400 | 403..=405 | 426 => Verdict::Stop,
        401 => Verdict::Renew,
        _ => Verdict::Retry,
    }
}

/// Returns what follows a close frame with this code; 1005 stands for one without a code, 1006 for
/// none.
pub fn of_close(code: u16) -> Verdict {
    match code {
        // The same peers would break the protocol, a policy or a limit again.
        1002 | 1003 | 1007..=1010 => Verdict::Stop,
        // Another connection of the same identity has taken this one's place.
        4409 => Verdict::Stop,
        // Of the application's own codes, those from 4500 on mean an end for good.
        4500..=4999 => Verdict::Stop,
        3000 => Verdict::Renew,
        _ => Verdict::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_status_and_code_has_its_verdict() {
        let stopping = [400, 403, 404, 405, 426];
        for status in 100..=599 {
            let expected = match status {
                401 => Verdict::Renew,
                _ if stopping.contains(&status) => Verdict::Stop,
                _ => Verdict::Retry,
            };
            assert_eq!(of_status(status), expected, "{status}");
        }
        let stopping = [1002, 1003, 1007, 1008, 1009, 1010, 4409];
        for code in 0..=u16::MAX {
            let expected = match code {
                3000 => Verdict::Renew,
                4500..=4999 => Verdict::Stop,
                _ if stopping.contains(&code) => Verdict::Stop,
                _ => Verdict::Retry,
            };
            assert_eq!(of_close(code), expected, "{code}");
        }
    }
}

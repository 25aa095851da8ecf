//! The messages of `/ws` in CBOR: whatever bytes come, they are read as one whole map or refused,
//! and the answer is one whole map that repeats `ref` as it came.

use heartwheel::core::wire::cbor::Reader;
use heartwheel::core::wire::hub::{ClientMessage, ServerMessage};
use heartwheel::core::wire::hub_cbor;

pub fn run(input: &[u8]) {
    let whole = Reader::new(input).raw();
    if let Ok(item) = whole {
        assert_eq!(item, &input[..item.len()]);
    }
    let mut room = String::new();
    let answer = match hub_cbor::parse(input, &mut room) {
        Ok(message) => {
            assert_eq!(whole, Ok(input), "a message is one item");
            let reference = match message {
                ClientMessage::Hello { reference, .. }
                | ClientMessage::Subscribe { reference, .. }
                | ClientMessage::Publish { reference, .. }
                | ClientMessage::Ping { reference } => reference,
                #[cfg(any(feature = "jwt", feature = "client"))]
                ClientMessage::Token { reference, .. } => reference,
                #[cfg(feature = "presence")]
                ClientMessage::Presence { reference, .. } => reference,
                ClientMessage::Unsubscribe { .. } => None,
            };
            (hub_cbor::encode(&ServerMessage::Pong { reference }), reference)
        }
        Err(problem) => {
            let reference = problem.reference;
            (hub_cbor::encode(&problem.into()), reference)
        }
    };
    let (answer, reference) = answer;
    assert_eq!(Reader::new(&answer).raw(), Ok(&answer[..]), "an answer is one map");
    if let Some(digits) = reference {
        let digit = |digit: u8| char::from(digit).to_digit(16).expect("a digit") as u8;
        let item: Vec<u8> =
            digits.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect();
        let holds = |bytes: &[u8]| bytes.windows(item.len()).any(|part| part == item);
        assert!(holds(input) && holds(&answer), "{digits}");
        assert_eq!(Reader::new(&item).raw().map(<[u8]>::len), Ok(item.len()));
    }
}

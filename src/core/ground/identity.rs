//! Who is at the other end of a connection, as the server was told or has found out.

use std::fmt;
use std::sync::Arc;

/// A name: 1 to 256 bytes of text without control characters. A copy shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// The longest name, in bytes.
    pub const BYTES_MAX: usize = 256;

    /// Takes a name; `None` if it is empty, too long, or has a control character.
    pub fn new(text: &str) -> Option<Identity> {
        let is_good = (1..=Identity::BYTES_MAX).contains(&text.len());
        (is_good && !text.contains(char::is_control)).then(|| Identity(text.into()))
    }

    /// Returns the name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A client that may send publications again: the id that it drew for itself, and its identity. A
/// copy shares the text.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Author(Arc<str>);

impl Author {
    /// Takes the id of a client whose identity is this one, if it has any.
    pub fn new(identity: Option<&Identity>, client: &str) -> Author {
        // An identity has no control character: no two pairs make the same text.
        let identity = identity.map_or("", Identity::as_str);
        Author([identity, "\0", client].concat().into())
    }

    /// Returns the text, which is the same on every server.
    #[cfg(feature = "cluster")]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the length of the text, in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_line_of_bounded_length() {
        let longest = "x".repeat(Identity::BYTES_MAX);
        for text in ["a", "device 7", "\u{e4}", "\"", &longest] {
            assert_eq!(Identity::new(text).unwrap().as_str(), text);
        }
        let longer = "x".repeat(Identity::BYTES_MAX + 1);
        for text in ["", "a\n", "\0", "\u{7f}", "\u{85}", &longer, &"\u{e4}".repeat(129)] {
            assert_eq!(Identity::new(text), None, "{text:?}");
        }
    }

    #[test]
    fn the_same_id_of_another_identity_is_another_client() {
        let identity = |text| Identity::new(text).unwrap();
        let (one, other) = (identity("a"), identity("ab"));
        let authors = [
            Author::new(None, "client"),
            Author::new(Some(&one), "client"),
            Author::new(Some(&other), "client"),
            Author::new(Some(&one), "bclient"),
        ];
        for (index, author) in authors.iter().enumerate() {
            assert!(!authors[..index].contains(author), "{author:?}");
        }
    }
}

//! The payload of a control frame.

use std::fmt;

/// The payload of a ping, pong or close frame: at most 125 bytes, held in place.
#[derive(Clone, PartialEq, Eq)]
pub struct Control {
    length: u8,
    /// Zero behind `length`.
    bytes: [u8; Control::BYTES_MAX],
}

impl Control {
    /// The longest payload (RFC 6455, 5.5).
    pub const BYTES_MAX: usize = 125;

    /// Copies a payload.
    ///
    /// # Panics
    ///
    /// If it is longer than [`Control::BYTES_MAX`].
    pub fn new(payload: &[u8]) -> Control {
        let mut control = Control { length: 0, bytes: [0; Control::BYTES_MAX] };
        control.append(payload);
        control
    }

    /// Returns the payload.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }

    /// Appends to the payload. Panics as [`Control::new`] does.
    pub(super) fn append(&mut self, piece: &[u8]) {
        let start = usize::from(self.length);
        self.bytes[start..start + piece.len()].copy_from_slice(piece);
        self.length += piece.len() as u8;
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Control").field(&self.as_bytes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_add_up() {
        let mut control = Control::new(b"he");
        control.append(b"");
        control.append(b"art");
        assert_eq!(control.as_bytes(), b"heart");
        assert_eq!(control, Control::new(b"heart"));
        assert_eq!(Control::new(&[7; 125]).as_bytes(), [7; 125]);
    }

    #[test]
    #[should_panic]
    fn longer_than_a_control_frame_panics() {
        Control::new(&[0; 126]);
    }
}

//! What a decoder keeps between two inputs.

use super::{
    Control,
    assembly::{Assembly, Text},
    header::{Header, Opcode, Spill, take},
    mask::unmask,
};
use crate::core::ground::time::Moment;

/// What is outstanding.
///
/// - Never at rest: there is a message, or the place is inside a header or a payload.
/// - In `Place::Data` there is a message, and 0 bytes are outstanding only while its last piece is
///   taken in.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub place: Place,
    /// The message of which fragments are outstanding, or the rest of its only frame.
    pub message: Option<Assembly>,
    /// How many frames of the message have begun.
    pub fragments: u32,
    /// When it began, as its owner says.
    pub begun_at: Moment,
}

impl Partial {
    /// Enters a payload that comes in pieces or is one of several fragments; `beyond` bytes of its
    /// message may follow it.
    pub fn begin(&mut self, header: &Header, beyond: u64) {
        let &Header { opcode, mask, is_final, length: outstanding } = header;
        let span = Span { outstanding, beyond, mask, is_final };
        if opcode.is_control() {
            self.place = Place::Control { opcode, span, payload: Box::new(Control::new(&[])) };
            return;
        }
        self.place = Place::Data(span);
        self.fragments += 1;
        match opcode {
            Opcode::Text => self.message = Some(Assembly::Text(Text::default())),
            Opcode::Binary => self.message = Some(Assembly::Binary(Vec::new())),
            _ => {}
        }
    }

    /// Gives how many bytes of memory are held, its own included.
    pub fn held_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, Assembly::capacity);
        let control = match self.place {
            Place::Control { .. } => size_of::<Control>(),
            _ => 0,
        };
        size_of::<Partial>() + message + control
    }
}

/// Where the input ended.
#[derive(Debug)]
pub(super) enum Place {
    /// Between frames or inside a header.
    Header(Spill),
    /// Inside the payload of a message.
    Data(Span),
    /// Inside the payload of a control frame.
    Control { opcode: Opcode, span: Span, payload: Box<Control> },
    /// Inside a payload that nobody wants.
    Skip { outstanding: u64 },
}

impl Default for Place {
    fn default() -> Place {
        Place::Header(Spill::default())
    }
}

/// The rest of a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub outstanding: u64,
    /// How many bytes of the message may come behind this payload.
    pub beyond: u64,
    /// The mask for the next byte.
    pub mask: [u8; 4],
    pub is_final: bool,
}

impl Span {
    /// Takes the next piece from the front of the input and unmasks it.
    pub fn take<'a>(&mut self, input: &mut &'a mut [u8]) -> &'a [u8] {
        let piece = take(input, piece_len(self.outstanding, input.len()));
        self.mask = unmask(piece, self.mask);
        self.outstanding -= piece.len() as u64;
        piece
    }

    /// Gives how many bytes of the message can still come at most.
    pub fn message_outstanding(&self) -> usize {
        (self.outstanding + self.beyond) as usize
    }
}

/// Gives how much of the input belongs to a payload.
pub(super) fn piece_len(outstanding: u64, input_len: usize) -> usize {
    outstanding.min(input_len as u64) as usize
}

const _: () = assert!(size_of::<Partial>() <= 128);

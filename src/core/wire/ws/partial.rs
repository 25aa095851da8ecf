//! What a decoder keeps between two inputs.

#[cfg(feature = "deflate")]
use super::inflating::Inflating;
use super::{
    Control,
    assembly::{Assembly, Binary, Coming, Text},
    header::{Header, Opcode, Spill, take},
    mask::unmask,
};
use crate::core::ground::time::Moment;

/// The unfinished part of the input.
///
/// - Never at rest: there is a message, or the input ended inside a header or a payload.
/// - In `InputEnd::Data` there is a message, and 0 bytes are outstanding only while its last piece
///   is taken in.
#[derive(Debug, Default)]
pub(super) struct Partial {
    pub input_end: InputEnd,
    /// The message whose fragments, or the rest of its only frame, are outstanding.
    pub message: Option<Assembly>,
    /// How many frames of the message have begun.
    pub fragments: u32,
    /// How the message is inflated, if it is compressed.
    #[cfg(feature = "deflate")]
    pub inflating: Option<Box<Inflating>>,
    /// When it began, as set by its owner.
    pub begun_at: Moment,
}

impl Partial {
    /// Begins a payload that comes in pieces or is one of several fragments; `beyond` bytes of its
    /// message may follow it.
    pub fn begin(&mut self, header: &Header, beyond: u64) {
        let &Header { opcode, mask, is_final, length: outstanding, .. } = header;
        let span = Span { outstanding, beyond, mask, is_final };
        if opcode.is_control() {
            self.input_end =
                InputEnd::Control { opcode, span, payload: Box::new(Control::new(&[])) };
            return;
        }
        self.input_end = InputEnd::Data(span);
        self.fragments += 1;
        #[cfg(feature = "deflate")]
        if header.is_compressed {
            self.inflating = Some(Box::default());
        }
        match opcode {
            Opcode::Text => self.message = Some(Assembly::Text(Text::default())),
            Opcode::Binary => self.message = Some(Assembly::Binary(Binary::default())),
            _ => {}
        }
    }

    /// Returns how many bytes of memory are held, including its own.
    pub fn held_bytes(&self) -> usize {
        let message = self.message.as_ref().map_or(0, Assembly::capacity);
        let control = match self.input_end {
            InputEnd::Control { .. } => size_of::<Control>(),
            _ => 0,
        };
        #[cfg(feature = "deflate")]
        let message = message + self.inflating.as_ref().map_or(0, |one| one.held_bytes());
        size_of::<Partial>() + message + control
    }
}

/// Where the input ended.
#[derive(Debug)]
pub(super) enum InputEnd {
    /// Between frames or inside a header.
    Header(Spill),
    /// Inside the payload of a message.
    Data(Span),
    /// Inside the payload of a control frame.
    Control { opcode: Opcode, span: Span, payload: Box<Control> },
    /// Inside a payload that is skipped.
    Skip { outstanding: u64 },
}

impl Default for InputEnd {
    fn default() -> InputEnd {
        InputEnd::Header(Spill::default())
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
        self.take_some(usize::MAX, input)
    }

    /// Takes the next piece as [`Span::take`] does, of at most `most` bytes.
    #[inline]
    pub fn take_some<'a>(&mut self, most: usize, input: &mut &'a mut [u8]) -> &'a [u8] {
        let piece = take(input, piece_len(self.outstanding, input.len().min(most)));
        self.mask = unmask(piece, self.mask);
        self.outstanding -= piece.len() as u64;
        piece
    }

    /// Takes the next `len` bytes, which are in their place, and unmasks them there.
    pub fn fill(&mut self, binary: &mut Binary, len: usize) {
        self.mask = unmask(binary.room(len), self.mask);
        self.outstanding -= len as u64;
        binary.fill(len);
    }

    /// Returns how many bytes can still come.
    pub fn coming(&self) -> Coming {
        let message = (self.outstanding + self.beyond) as usize;
        Coming { frame: self.outstanding as usize, message }
    }
}

/// Returns how many bytes of the input belong to a payload.
pub(super) fn piece_len(outstanding: u64, input_len: usize) -> usize {
    outstanding.min(input_len as u64) as usize
}

const _: () = assert!(size_of::<Partial>() <= 128);

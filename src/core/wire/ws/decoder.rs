//! Bytes from a peer to messages and control frames.
//!
//! A frame that is whole in the input is unmasked in place. If it is a whole message, it is then
//! copied once into memory of its own. Only what the input leaves unfinished is kept. What is
//! outstanding of a large binary message may be read straight into the message's memory
//! ([`Decoder::lend`]). The decoder is in one of these places:
//!
//! ```text
//!             ┌────────────────────────────────────────────────────┐
//!             ▼                                                    │ last byte of the payload
//!   Header, between frames or inside a header ──header──► Data, Control or Skip
//! ```

use tungstenite::{Bytes, Utf8Bytes};

#[cfg(feature = "deflate")]
use super::inflating::{self, Output, check_compressed};
use super::{
    CloseFrame, Role, Violation,
    assembly::Assembly,
    header::{Header, Opcode, Reserved, Spill, skip_short_frames, take},
    mask::unmask,
    partial::{InputEnd, Partial, Span, piece_len},
};
use crate::core::ground::time::Moment;
#[cfg(feature = "deflate")]
use crate::core::wire::deflate::{Coders, History};
use crate::core::wire::message::Message;
use crate::core::wire::spare_memory::SpareMemory;

/// Decodes what one peer sends.
///
/// Each call takes the `role` of our side, always the same: all frames of a client are masked, none
/// of a server.
///
/// After a [`Violation`] the frames' borders are lost: the decoder has freed its memory and must
/// not be used again.
#[derive(Debug, Default)]
pub struct Decoder {
    /// `None` at rest.
    partial: Option<Box<Partial>>,
}

/// The most that a message may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest payload in bytes, over all its frames.
    pub message_bytes: u64,
    /// The most frames, empty ones and the first included.
    pub fragments: u32,
}

/// What a peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Incoming {
    /// A whole message.
    Message(Message),
    /// A ping: to be answered by a pong with the same payload.
    Ping(Bytes),
    /// A pong.
    Pong(Bytes),
    /// The peer closes: what it sends after this does not count.
    Close(Option<CloseFrame>),
}

impl Decoder {
    /// Decodes at most one item from the front of `input`, which is unmasked in place.
    ///
    /// Returns how many bytes were used, and the item if one is complete. Without an item all bytes
    /// were used, or those of one fragment of a message. A fragment costs about as much as a
    /// message, whatever its length: a caller with a budget must count it.
    ///
    /// # Errors
    ///
    /// What the peer did wrong, at the first byte that makes it certain.
    pub fn decode(
        &mut self,
        role: Role,
        input: &mut [u8],
        limits: &Limits,
    ) -> Result<(usize, Option<Incoming>), Violation> {
        self.decode_into(role, input, limits, &mut SpareMemory::none())
    }

    /// Decodes as [`Decoder::decode`] does. A large message gets memory that an earlier one has
    /// left, if there is some.
    ///
    /// # Errors
    ///
    /// As for [`Decoder::decode`].
    #[inline]
    pub fn decode_into(
        &mut self,
        role: Role,
        input: &mut [u8],
        limits: &Limits,
        memory: &mut SpareMemory,
    ) -> Result<(usize, Option<Incoming>), Violation> {
        if self.partial.is_none()
            && let Some((used, message)) = whole_message(role, input, limits, memory)?
        {
            return Ok((used, Some(message)));
        }
        let means = Means {
            limits: Some(limits),
            memory,
            #[cfg(feature = "deflate")]
            inflating: None,
        };
        self.decode_any(role, input, means)
    }

    /// Decodes as [`Decoder::decode_into`] does, from a peer with which compression was agreed on.
    /// The limit of a message's bytes holds for what is inflated. `history` is what the peer's
    /// messages may refer to, if they may: what they make is added.
    ///
    /// When much was inflated and more is to come, the call ends without an item before all bytes
    /// are used: a caller with a budget must count what was inflated
    /// ([`Coders::take_inflated`]).
    ///
    /// # Errors
    ///
    /// As for [`Decoder::decode`], and if a message cannot be inflated.
    #[cfg(feature = "deflate")]
    pub fn decode_compressed(
        &mut self,
        role: Role,
        input: &mut [u8],
        limits: &Limits,
        memory: &mut SpareMemory,
        coders: &mut Coders,
        history: Option<&mut History>,
    ) -> Result<(usize, Option<Incoming>), Violation> {
        let is_compressed = input.first().is_some_and(|first| first & RSV1 != 0);
        if self.partial.is_none()
            && !is_compressed
            && let Some((used, message)) = whole_message(role, input, limits, memory)?
        {
            return Ok((used, Some(message)));
        }
        let inflating = Some(inflating::Means { coders, history });
        let means = Means { limits: Some(limits), memory, inflating };
        self.decode_any(role, input, means)
    }

    /// Lends room, at most `most` bytes, for what comes next of a binary message: nothing beyond
    /// its frame. `None` unless the message has got memory that an earlier one has left, and much
    /// is outstanding. What is read there is told by [`Decoder::filled`].
    pub fn lend(&mut self, most: usize) -> Option<&mut [u8]> {
        let partial = self.partial.as_deref_mut()?;
        #[cfg(feature = "deflate")]
        if partial.inflating.is_some() {
            return None;
        }
        let InputEnd::Data(span) = &partial.input_end else { return None };
        let Some(Assembly::Binary(binary)) = &mut partial.message else { return None };
        let room = binary.room(piece_len(span.outstanding, most));
        (room.len() >= LENT_BYTES_MIN).then_some(room)
    }

    /// Takes the first `len` bytes of the room that was lent. Returns the message if it is
    /// complete.
    ///
    /// # Panics
    ///
    /// If no room was lent.
    pub fn filled(&mut self, len: usize) -> Option<Incoming> {
        let partial = self.partial.as_deref_mut().expect("room was lent");
        let (InputEnd::Data(span), Some(Assembly::Binary(binary))) =
            (&mut partial.input_end, &mut partial.message)
        else {
            panic!("room was lent");
        };
        span.fill(binary, len);
        self.finish_data().ok().flatten()
    }

    /// Decodes as [`Decoder::decode`] does, after our own close frame: only the peer's close frame
    /// comes out, messages are neither kept nor judged, pings are no longer answered.
    ///
    /// The first call, which may have no input, drops the message in progress.
    ///
    /// # Errors
    ///
    /// As for [`Decoder::decode`], but for the order of fragments, their number, their size, UTF-8
    /// in messages, and the bit of compressed ones.
    pub fn discard(
        &mut self,
        role: Role,
        input: &mut [u8],
    ) -> Result<(usize, Option<Incoming>), Violation> {
        self.forget_message();
        let means = Means {
            limits: None,
            memory: &mut SpareMemory::none(),
            #[cfg(feature = "deflate")]
            inflating: None,
        };
        self.decode_any(role, input, means)
    }

    /// Returns whether nothing is outstanding: no part of a header, of a frame or of a message.
    ///
    /// Inside a fragmented message this is false, also right after a control frame among its
    /// fragments. If it turns false over a call, what is outstanding began in that call.
    pub fn is_idle(&self) -> bool {
        self.partial.is_none()
    }

    /// Keeps the moment when what is outstanding began. Call it after each input: if nothing is
    /// outstanding, or only a header was, nothing is kept.
    pub fn set_begun_at(&mut self, at: Moment) {
        if let Some(partial) = &mut self.partial {
            partial.begun_at = at;
        }
    }

    /// Returns the moment when what is outstanding began; `None` if nothing is kept.
    pub fn begun_at(&self) -> Option<Moment> {
        self.partial.as_ref().map(|partial| partial.begun_at)
    }

    /// Returns whether a message is in progress, but no frame.
    fn is_between_fragments(&self) -> bool {
        let input_end = self.partial.as_deref().map(|partial| &partial.input_end);
        matches!(input_end, Some(InputEnd::Header(spill)) if spill.is_empty())
    }

    /// Returns what has come of a text of which more is outstanding, to its last whole character.
    pub fn text_in_progress(&self) -> Option<&str> {
        self.partial.as_deref()?.message.as_ref()?.text()
    }

    /// Returns how many bytes of memory are held.
    pub fn held_bytes(&self) -> usize {
        self.partial.as_deref().map_or(0, Partial::held_bytes)
    }

    /// Decodes at most one item; without limits everything but a close frame is skipped.
    fn decode_any(
        &mut self,
        role: Role,
        input: &mut [u8],
        mut means: Means<'_>,
    ) -> Result<(usize, Option<Incoming>), Violation> {
        let length = input.len();
        let mut rest = input;
        while !rest.is_empty() {
            match self.decode_next(role, &mut rest, &mut means) {
                Ok(None) if self.goes_on(&means) => {}
                Ok(item) => return Ok((length - rest.len(), item)),
                Err(violation) => {
                    self.partial = None;
                    return Err(violation);
                }
            }
        }
        Ok((length, None))
    }

    /// Returns whether more is decoded of an input that has completed nothing.
    fn goes_on(&self, means: &Means<'_>) -> bool {
        #[cfg(feature = "deflate")]
        if means.inflating.as_ref().is_some_and(|means| means.coders.has_inflated_much()) {
            return false;
        }
        means.limits.is_none() || !self.is_between_fragments()
    }

    /// Takes the bytes of one frame from the front of the input.
    fn decode_next(&mut self, role: Role, input: &mut &mut [u8], means: &mut Means<'_>) -> Decoded {
        match self.partial.as_deref() {
            None => {
                if means.limits.is_none() {
                    // Such frames come in masses after the end of a flood.
                    skip_short_frames(role, means.reserved(), input)?;
                    if input.is_empty() {
                        return Ok(None);
                    }
                }
                self.decode_frame(role, input, means)
            }
            Some(Partial { input_end: InputEnd::Header(spill), .. }) if spill.is_empty() => {
                self.decode_frame(role, input, means)
            }
            Some(&Partial { input_end: InputEnd::Header(spill), .. }) => {
                self.decode_spilled(role, spill, input, means)
            }
            Some(_) => self.decode_payload(input, means),
        }
    }

    /// Decodes a frame from its first byte.
    fn decode_frame(
        &mut self,
        role: Role,
        input: &mut &mut [u8],
        means: &mut Means<'_>,
    ) -> Decoded {
        let Some((header, size)) = Header::parse_with(role, means.reserved(), input)? else {
            let mut spill = Spill::default();
            spill.append(take(input, input.len()));
            self.partial.get_or_insert_default().input_end = InputEnd::Header(spill);
            return Ok(None);
        };
        take(input, size);
        self.decode_body(header, input, means)
    }

    /// Decodes a frame whose header began in an earlier input.
    fn decode_spilled(
        &mut self,
        role: Role,
        mut spill: Spill,
        input: &mut &mut [u8],
        means: &mut Means<'_>,
    ) -> Decoded {
        let spilled = spill.as_bytes().len();
        spill.append(input);
        let parsed = Header::parse_with(role, means.reserved(), spill.as_bytes())?;
        let Some((header, size)) = parsed else {
            take(input, input.len());
            self.partial.get_or_insert_default().input_end = InputEnd::Header(spill);
            return Ok(None);
        };
        take(input, size - spilled);
        self.end_frame();
        self.decode_body(header, input, means)
    }

    /// Decodes a payload from its first byte.
    fn decode_body(
        &mut self,
        header: Header,
        input: &mut &mut [u8],
        means: &mut Means<'_>,
    ) -> Decoded {
        let is_control = header.opcode.is_control();
        let beyond = match means.limits {
            Some(limits) if !is_control => self.check_message(&header, limits)?,
            _ => 0,
        };
        let is_whole = header.length <= input.len() as u64;
        let is_message = header.is_final && header.opcode != Opcode::Continuation;
        #[cfg(feature = "deflate")]
        let is_message = is_message && !header.is_compressed;
        let is_skipped = means.limits.is_none() && header.opcode != Opcode::Close;
        if is_whole && (is_control || is_message || is_skipped) {
            let payload = take(input, header.length as usize);
            if is_skipped {
                return Ok(None);
            }
            unmask(payload, header.mask);
            return match is_control {
                true => control(header.opcode, payload).map(Some),
                false => message(header.opcode, payload, means.memory).map(Some),
            };
        }
        let partial = self.partial.get_or_insert_default();
        if !is_skipped {
            partial.begin(&header, beyond);
        } else {
            partial.input_end = InputEnd::Skip { outstanding: header.length };
        }
        self.decode_payload(input, means)
    }

    /// Checks a data frame's header against the message in progress and the limits. Returns how
    /// many bytes of the message may come behind this frame.
    fn check_message(&self, header: &Header, limits: &Limits) -> Result<u64, Violation> {
        let partial = self.partial.as_deref();
        let message = partial.and_then(|partial| partial.message.as_ref());
        match (header.opcode, message) {
            (Opcode::Continuation, None) => return Err(Violation::ContinuationWithoutStart),
            (Opcode::Text | Opcode::Binary, Some(_)) => return Err(Violation::StartInsideMessage),
            _ => {}
        }
        let fragments = partial.map_or(0, |partial| partial.fragments);
        if fragments >= limits.fragments {
            return Err(Violation::Fragments);
        }
        #[cfg(feature = "deflate")]
        if header.is_compressed || partial.is_some_and(|partial| partial.inflating.is_some()) {
            let inflating = partial.and_then(|partial| partial.inflating.as_deref());
            return check_compressed(header, inflating, limits);
        }
        // In 64 bits, and no longer than one allocation can be: a `usize` may be smaller.
        let received = message.map_or(0, Assembly::len) as u64;
        let most = limits.message_bytes.min(isize::MAX as u64);
        let beyond = most.saturating_sub(received).checked_sub(header.length);
        let beyond = beyond.ok_or(Violation::TooBig)?;
        Ok(if header.is_final { 0 } else { beyond })
    }

    /// Decodes the next piece of a payload.
    fn decode_payload(&mut self, input: &mut &mut [u8], means: &mut Means<'_>) -> Decoded {
        let partial = self.partial.as_deref_mut().expect("a payload is outstanding");
        match &mut partial.input_end {
            InputEnd::Header(_) => unreachable!("a payload is outstanding"),
            #[cfg(feature = "deflate")]
            InputEnd::Data(_) if partial.inflating.is_some() => self.inflate(input, means),
            InputEnd::Data(span) => {
                let message = partial.message.as_mut().expect("data belongs to a message");
                let coming = span.coming();
                message.push(span.take(input), coming, means.memory)?;
                self.finish_data()
            }
            InputEnd::Control { opcode, span, payload } => {
                payload.append(span.take(input));
                if span.outstanding > 0 {
                    return Ok(None);
                }
                let item = control(*opcode, payload.as_bytes())?;
                self.end_frame();
                Ok(Some(item))
            }
            InputEnd::Skip { outstanding } => {
                let piece = take(input, piece_len(*outstanding, input.len()));
                *outstanding -= piece.len() as u64;
                if *outstanding == 0 {
                    self.end_frame();
                }
                Ok(None)
            }
        }
    }

    /// Inflates the next piece of a payload.
    #[cfg(feature = "deflate")]
    fn inflate(&mut self, input: &mut &mut [u8], means: &mut Means<'_>) -> Decoded {
        let partial = self.partial.as_deref_mut().expect("a payload is outstanding");
        let (InputEnd::Data(span), Some(message), Some(inflating), Some(limits), Some(by)) = (
            &mut partial.input_end,
            &mut partial.message,
            &mut partial.inflating,
            means.limits,
            &mut means.inflating,
        ) else {
            unreachable!("a message is inflated only where that was agreed on")
        };
        let mut out = Output { message, limit: limits.message_bytes, memory: means.memory };
        let is_whole = inflating.take(span, input, &mut out, by)?;
        if is_whole {
            partial.inflating = None;
        }
        self.finish_data()
    }

    /// Ends a data frame that is complete, and its message with the last frame.
    fn finish_data(&mut self) -> Decoded {
        let partial = self.partial.as_deref_mut().expect("data is outstanding");
        let InputEnd::Data(Span { outstanding, is_final, .. }) = partial.input_end else {
            unreachable!("data is outstanding")
        };
        if outstanding > 0 {
            return Ok(None);
        }
        let message = if is_final { partial.message.take() } else { None };
        self.end_frame();
        message.map(|message| message.finish().map(Incoming::Message)).transpose()
    }

    /// Goes back between frames, and to rest if no message is in progress.
    fn end_frame(&mut self) {
        let partial = self.partial.as_deref_mut().expect("a frame is outstanding");
        partial.input_end = InputEnd::default();
        if partial.message.is_none() {
            self.partial = None;
        }
    }

    /// Drops the message in progress; of a payload in progress only the length is kept.
    fn forget_message(&mut self) {
        let Some(partial) = self.partial.as_deref_mut() else { return };
        if partial.message.take().is_none() {
            return;
        }
        partial.fragments = 0;
        #[cfg(feature = "deflate")]
        {
            partial.inflating = None;
        }
        match &partial.input_end {
            InputEnd::Data(span) => {
                partial.input_end = InputEnd::Skip { outstanding: span.outstanding }
            }
            InputEnd::Header(spill) if spill.is_empty() => self.partial = None,
            _ => {}
        }
    }
}

/// What is lent to the decoder.
struct Means<'a> {
    /// Without limits everything but a close frame is skipped.
    limits: Option<&'a Limits>,
    memory: &'a mut SpareMemory,
    /// What inflates, if compression was agreed on.
    #[cfg(feature = "deflate")]
    inflating: Option<inflating::Means<'a>>,
}

impl Means<'_> {
    /// Returns which of the reserved bits may be set. What is skipped may be compressed: nothing
    /// of it is looked at.
    fn reserved(&self) -> Reserved {
        #[cfg(feature = "deflate")]
        if self.inflating.is_some() || self.limits.is_none() {
            return Reserved::Compressed;
        }
        Reserved::None
    }
}

#[cfg(feature = "deflate")]
const RSV1: u8 = 0x40;

/// Less than this many bytes are not read apart: what follows may be there, too.
const LENT_BYTES_MIN: usize = 4096;

/// What the bytes completed, if anything.
type Decoded = Result<Option<Incoming>, Violation>;

/// Takes a message in one frame that is whole in the input, as most are; `None` for all else.
fn whole_message(
    role: Role,
    input: &mut [u8],
    limits: &Limits,
    memory: &mut SpareMemory,
) -> Result<Option<(usize, Incoming)>, Violation> {
    let Some((header, size)) = Header::parse(role, input)? else { return Ok(None) };
    let is_message = matches!(header.opcode, Opcode::Text | Opcode::Binary) && header.is_final;
    let is_whole = header.length <= (input.len() - size) as u64;
    let is_allowed = header.length <= limits.message_bytes && limits.fragments > 0;
    if !is_message || !is_whole || !is_allowed {
        return Ok(None);
    }
    let end = size + header.length as usize;
    let payload = &mut input[size..end];
    unmask(payload, header.mask);
    Ok(Some((end, message(header.opcode, payload, memory)?)))
}

/// Makes a message of a payload that is whole.
#[inline]
fn message(
    opcode: Opcode,
    payload: &[u8],
    memory: &mut SpareMemory,
) -> Result<Incoming, Violation> {
    let copy = memory.copy(payload);
    if opcode == Opcode::Binary {
        return Ok(Incoming::Message(Message::Binary(copy)));
    }
    // Checked in the copy: it is aligned, and short text is checked a fifth faster there.
    let text = Utf8Bytes::try_from(copy);
    Ok(Incoming::Message(Message::Text(text.map_err(|_| Violation::Utf8)?)))
}

/// Makes an item of a control frame's payload.
fn control(opcode: Opcode, payload: &[u8]) -> Result<Incoming, Violation> {
    Ok(match opcode {
        Opcode::Ping => Incoming::Ping(Bytes::copy_from_slice(payload)),
        Opcode::Pong => Incoming::Pong(Bytes::copy_from_slice(payload)),
        _ => Incoming::Close(CloseFrame::parse(payload)?),
    })
}

const _: () = assert!(size_of::<Decoder>() == size_of::<usize>());
// Each message passes one on.
const _: () = assert!(size_of::<Incoming>() <= 6 * size_of::<usize>() + 8);

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { message_bytes: 1 << 20, fragments: 8 };
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

    const CONTINUATION: u8 = 0x00;
    const TEXT: u8 = 0x01;
    const BINARY: u8 = 0x02;
    const CLOSE: u8 = 0x88;
    const PING: u8 = 0x89;
    const PONG: u8 = 0x8a;
    const FIN: u8 = 0x80;

    /// Makes the header of a client's frame.
    fn header(first: u8, length: u64) -> Vec<u8> {
        let mut bytes = match length {
            0..=125 => vec![first, 0x80 | length as u8],
            126..=0xffff => [&[first, 0xfe][..], &(length as u16).to_be_bytes()].concat(),
            _ => [&[first, 0xff][..], &length.to_be_bytes()].concat(),
        };
        bytes.extend(MASK);
        bytes
    }

    /// Makes a client's frame.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = header(first, payload.len() as u64);
        bytes.extend(masked(payload));
        bytes
    }

    /// Masks a payload.
    fn masked(payload: &[u8]) -> Vec<u8> {
        payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key).collect()
    }

    /// What came out, and how it ended.
    type Outcome = (Vec<Incoming>, Result<(), Violation>);

    fn text(text: &str) -> Incoming {
        Incoming::Message(Message::text(text))
    }

    fn binary(bytes: &[u8]) -> Incoming {
        Incoming::Message(Message::from(bytes))
    }

    /// Feeds the pieces one after the other, to the end or the first violation.
    fn feed<'a>(decoder: &mut Decoder, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        feed_as(Role::Server, decoder, pieces)
    }

    fn feed_as<'a>(
        role: Role,
        decoder: &mut Decoder,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Outcome {
        let mut items = Vec::new();
        for piece in pieces {
            let mut piece = piece.to_vec();
            let mut rest = &mut piece[..];
            while !rest.is_empty() {
                match decoder.decode(role, rest, &LIMITS) {
                    Ok((used, item)) => {
                        let is_fragment = decoder.is_between_fragments();
                        let is_all = used == rest.len();
                        assert!(item.is_some() || is_all || is_fragment, "all, or one of a kind");
                        items.extend(item);
                        rest = &mut rest[used..];
                    }
                    Err(violation) => return (items, Err(violation)),
                }
            }
        }
        (items, Ok(()))
    }

    fn decode(bytes: &[u8]) -> Outcome {
        feed(&mut Decoder::default(), [bytes])
    }

    /// Returns how many bytes must come, one by one, until the first violation.
    fn refused_at(bytes: &[u8]) -> Option<(usize, Violation)> {
        let mut decoder = Decoder::default();
        let refuse =
            |index| Some((index + 1, feed(&mut decoder, [&bytes[index..=index]]).1.err()?));
        (0..bytes.len()).find_map(refuse)
    }

    /// Byte sequences and what they mean.
    fn vectors() -> Vec<(Vec<u8>, Outcome)> {
        let large = [7; 70_000];
        let ok = |bytes: Vec<Vec<u8>>, items| (bytes.concat(), (items, Ok(())));
        let bad = |bytes: Vec<Vec<u8>>, items, violation| (bytes.concat(), (items, Err(violation)));
        let ping = |payload: &'static [u8]| Incoming::Ping(Bytes::from_static(payload));
        let closing =
            |code, reason: &str| Incoming::Close(Some(CloseFrame { code, reason: reason.into() }));
        vec![
            ok(vec![frame(FIN | TEXT, b"")], vec![text("")]),
            ok(vec![frame(FIN | TEXT, "Käse 水 😀".as_bytes())], vec![text("Käse 水 😀")]),
            ok(vec![frame(FIN | BINARY, &[1; 125])], vec![binary(&[1; 125])]),
            ok(vec![frame(FIN | BINARY, &[2; 126])], vec![binary(&[2; 126])]),
            ok(vec![frame(FIN | BINARY, &large[..65_535])], vec![binary(&large[..65_535])]),
            ok(vec![frame(FIN | BINARY, &large)], vec![binary(&large)]),
            ok(
                vec![
                    frame(TEXT, b"one \xf0\x9f"),
                    frame(PING, b"two"),
                    frame(CONTINUATION, b""),
                    frame(PONG, &[3; 125]),
                    frame(FIN | CONTINUATION, b"\x98\x80 three"),
                    frame(FIN | BINARY, b"four"),
                ],
                vec![
                    ping(b"two"),
                    Incoming::Pong(Bytes::from_static(&[3; 125])),
                    text("one 😀 three"),
                    binary(b"four"),
                ],
            ),
            ok(vec![frame(CLOSE, b"")], vec![Incoming::Close(None)]),
            ok(vec![frame(CLOSE, b"\x03\xe8bye")], vec![closing(1000, "bye")]),
            bad(vec![frame(PING, b""), vec![0xc1, 0x80]], vec![ping(b"")], Violation::Rsv),
            bad(vec![vec![0x83, 0x80]], vec![], Violation::Opcode),
            bad(vec![vec![0x81, 0x01]], vec![], Violation::Unmasked),
            bad(vec![vec![0x89, 0xfe]], vec![], Violation::ControlTooLong),
            bad(vec![vec![0x09, 0x80]], vec![], Violation::ControlFragmented),
            bad(vec![vec![0x82, 0xfe, 0, 125, 0, 0, 0, 0]], vec![], Violation::Length),
            bad(vec![frame(FIN | CONTINUATION, b"")], vec![], Violation::ContinuationWithoutStart),
            bad(
                vec![frame(TEXT, b"a"), frame(PING, b"b"), frame(FIN | TEXT, b"c")],
                vec![ping(b"b")],
                Violation::StartInsideMessage,
            ),
            bad(vec![frame(CLOSE, b"\x03")], vec![], Violation::ClosePayload),
            bad(vec![frame(CLOSE, b"\x03\xed")], vec![], Violation::CloseCode),
            bad(vec![frame(CLOSE, b"\x03\xe8\xff")], vec![], Violation::Utf8),
            bad(vec![frame(FIN | TEXT, b"\xc3")], vec![], Violation::Utf8),
            bad(
                vec![frame(TEXT, b"\xc3"), frame(FIN | CONTINUATION, b"")],
                vec![],
                Violation::Utf8,
            ),
        ]
    }

    #[test]
    fn any_cut_gives_the_same_items() {
        for (bytes, expected) in vectors() {
            assert_eq!(decode(&bytes), expected);
            // Every offset, and in long payloads one in a while.
            let step = |cut: usize| if cut < 1000 { 1 } else { 997 };
            let mut cut = 0;
            while cut <= bytes.len() {
                let (front, back) = bytes.split_at(cut);
                let mut decoder = Decoder::default();
                assert_eq!(feed(&mut decoder, [front, back]), expected, "cut at {cut}");
                assert!(decoder.is_idle() && decoder.held_bytes() == 0, "cut at {cut}");
                cut += step(cut);
            }
            for size in [1, 3, 64] {
                let pieces = bytes.chunks(size);
                assert_eq!(feed(&mut Decoder::default(), pieces), expected, "pieces of {size}");
            }
        }
    }

    #[test]
    fn a_header_over_five_reads_is_one_header() {
        let bytes = frame(FIN | BINARY, &[5; 70_000]);
        let cuts = [0, 1, 3, 7, 12, bytes.len()];
        let pieces = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]);
        assert_eq!(feed(&mut Decoder::default(), pieces).0, [binary(&[5; 70_000])]);
    }

    #[test]
    fn a_hundred_frames_in_one_read_are_a_hundred_items() {
        let bytes: Vec<u8> = (0..100).flat_map(|n| frame(FIN | BINARY, &[n; 9])).collect();
        let items: Vec<Incoming> = (0..100).map(|n| binary(&[n; 9])).collect();
        assert_eq!(decode(&bytes), (items, Ok(())));
    }

    #[test]
    fn the_limit_passes_and_one_more_is_refused_at_its_header() {
        let limit = LIMITS.message_bytes;
        let payload = vec![1; limit as usize];
        assert_eq!(decode(&frame(FIN | BINARY, &payload)).0, [binary(&payload)]);
        let over = header(FIN | BINARY, limit + 1);
        assert_eq!(refused_at(&over), Some((over.len(), Violation::TooBig)));
        let over = header(FIN | TEXT, (1 << 63) - 1);
        assert_eq!(refused_at(&over), Some((over.len(), Violation::TooBig)));

        let fragments = |last| [frame(BINARY, &[1; 10]), header(FIN, last)].concat();
        assert_eq!(decode(&fragments(limit - 10)), (vec![], Ok(())));
        let over = fragments(limit - 9);
        assert_eq!(refused_at(&over), Some((over.len(), Violation::TooBig)));
    }

    #[test]
    fn fragments_whose_sum_overflows_are_too_big() {
        let limits = Limits { message_bytes: u64::MAX, fragments: 8 };
        for length in [u64::from(u32::MAX), isize::MAX as u64, (1 << 63) - 1] {
            let mut decoder = Decoder::default();
            decoder.decode(Role::Server, &mut frame(BINARY, &[1; 10]), &limits).unwrap();
            let verdict = decoder.decode(Role::Server, &mut header(FIN, length), &limits);
            // On a 64-bit machine the first one can be addressed.
            let is_addressable = length < isize::MAX as u64;
            assert_eq!(verdict.is_ok(), is_addressable, "{length}");
            assert!(is_addressable || verdict == Err(Violation::TooBig));
        }
    }

    #[test]
    fn empty_fragments_count() {
        let limit = LIMITS.fragments as usize;
        let middle = frame(CONTINUATION, b"").repeat(limit - 2);
        let most = [frame(TEXT, b""), middle.clone(), frame(FIN, b"x")].concat();
        assert_eq!(decode(&most), (vec![text("x")], Ok(())));
        let twice = most.repeat(2);
        assert_eq!(decode(&twice), (vec![text("x"), text("x")], Ok(())), "they count per message");
        let more = [frame(TEXT, b""), middle, frame(CONTINUATION, b""), frame(FIN, b"x")].concat();
        assert_eq!(decode(&more), (vec![], Err(Violation::Fragments)));
    }

    #[test]
    fn wrong_text_is_refused_at_the_byte_that_makes_it_wrong() {
        // Text, and how many of its bytes must be there.
        let cases: [(&[u8], usize); 14] = [
            (b"ab\xff", 3),
            (b"\x80", 1),
            // Overlong.
            (b"\xc0\x80", 1),
            (b"\xc1\xbf", 1),
            (b"\xe0\x9f\xbf", 2),
            (b"\xf0\x8f\xbf\xbf", 2),
            // Surrogates.
            (b"\xed\xa0\x80", 2),
            (b"\xed\xbf\xbf", 2),
            // Above U+10FFFF.
            (b"\xf4\x90\x80\x80", 2),
            (b"\xf5\x80\x80\x80", 1),
            // A character cut off by another.
            (b"\xc3a", 2),
            (b"\xe6\xb0a", 3),
            (b"\xf0\x9f\x98a", 4),
            (b"\xf0\x9f\x98\xf0", 4),
        ];
        for (payload, needed) in cases {
            // More would come: the verdict does not wait for it.
            let mut bytes = frame(FIN | TEXT, &[payload, &[b'x'; 50]].concat());
            assert_eq!(refused_at(&bytes), Some((6 + needed, Violation::Utf8)), "{payload:x?}");
            bytes.truncate(6 + needed);
            assert_eq!(decode(&bytes), (vec![], Err(Violation::Utf8)), "{payload:x?}");

            for cut in 1..needed {
                let mut bytes = frame(TEXT, &payload[..cut]);
                bytes.extend(frame(CONTINUATION, &payload[cut..]));
                let refused = Some((6 + cut + 6 + needed - cut, Violation::Utf8));
                assert_eq!(refused_at(&bytes), refused, "{payload:x?} cut at {cut}");
            }
        }
    }

    #[test]
    fn text_may_end_only_with_a_character() {
        for payload in ["ä", "水", "😀"].map(str::as_bytes) {
            for length in 1..payload.len() {
                let bytes = frame(FIN | TEXT, &payload[..length]);
                assert_eq!(refused_at(&bytes), Some((6 + length, Violation::Utf8)));
            }
        }
    }

    /// Makes server's frames from a client's: without their masks.
    fn from_server(mut bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        while let &[first, second, ref rest @ ..] = bytes {
            let (long, length) = match (second & 0x7f, rest) {
                (126, &[high, low, ..]) => (2, usize::from(u16::from_be_bytes([high, low]))),
                (127, &[_, _, _, _, a, b, c, d, ..]) => (8, u32::from_be_bytes([a, b, c, d]) as _),
                (short, _) => (0, usize::from(short)),
            };
            let (long, rest) = rest.split_at(long);
            out.extend([&[first, second & 0x7f], long].concat());
            let Some((&mask, rest)) = rest.split_first_chunk() else { return out };
            let (payload, rest) = rest.split_at(length.min(rest.len()));
            let start = out.len();
            out.extend(payload);
            unmask(&mut out[start..], mask);
            bytes = rest;
        }
        out
    }

    // RFC 6455, 5.1: a server may send what a client may, but unmasked.
    #[test]
    fn a_client_reads_unmasked_frames_as_a_server_reads_masked_ones() {
        for (bytes, expected) in vectors() {
            if expected.1 == Err(Violation::Unmasked) {
                continue;
            }
            let plain = from_server(&bytes);
            let step = 1 + plain.len() / 300;
            for cut in (0..=plain.len()).step_by(step) {
                let mut decoder = Decoder::default();
                let (before, behind) = plain.split_at(cut);
                let outcome = feed_as(Role::Client, &mut decoder, [before, behind]);
                assert_eq!(outcome, expected, "cut at {cut}: {:02x?}", &plain[..cut.min(40)]);
            }
        }
    }

    #[test]
    fn a_masked_frame_from_a_server_is_refused_at_its_second_byte() {
        let masked = [frame(FIN | TEXT, b"x"), frame(PING, b""), frame(CLOSE, b"")];
        for bytes in masked.into_iter().chain([header(FIN | BINARY, 70_000)]) {
            let mut decoder = Decoder::default();
            assert_eq!(feed_as(Role::Client, &mut decoder, [&bytes[..1]]).1, Ok(()));
            let outcome = feed_as(Role::Client, &mut decoder, [&bytes[1..2]]);
            assert_eq!(outcome, (vec![], Err(Violation::Masked)));
            assert_eq!(decoder.held_bytes(), 0);
            let mut bytes = bytes;
            let discarded = Decoder::default().discard(Role::Client, &mut bytes);
            assert_eq!(discarded, Err(Violation::Masked), "while it closes, too");
        }
    }

    #[test]
    fn a_closing_client_skips_what_a_server_sends_until_its_close() {
        let frames = [
            frame(FIN | TEXT, b"late"),
            frame(PING, b"still there?"),
            frame(FIN | BINARY, &[0; 70_000]),
            frame(CLOSE, b"\x03\xe8"),
        ];
        let bytes = from_server(&frames.concat());
        for size in [1, 7, 1000, bytes.len()] {
            let mut decoder = Decoder::default();
            let mut items = Vec::new();
            for mut rest in bytes.clone().chunks_mut(size) {
                while !rest.is_empty() {
                    let (used, item) = decoder.discard(Role::Client, rest).unwrap();
                    items.extend(item);
                    rest = &mut rest[used..];
                }
            }
            let close = CloseFrame { code: 1000, reason: "".into() };
            assert_eq!(items, [Incoming::Close(Some(close))], "pieces of {size}");
            assert!(decoder.is_idle());
        }
    }

    /// Feeds pieces; what room is lent for goes straight there. Returns how much did.
    fn feed_lent(decoder: &mut Decoder, mut bytes: &[u8], sizes: &[usize]) -> (Outcome, usize) {
        let limits = Limits { message_bytes: 4 << 20, ..LIMITS };
        let mut memory = SpareMemory::of(8 << 20, &[1 << 20; 4]);
        let (mut items, mut lent) = (Vec::new(), 0);
        for size in sizes.iter().cycle() {
            let mut size = bytes.len().min(*size);
            if size == 0 {
                break;
            }
            if let Some(room) = decoder.lend(size) {
                size = room.len();
                room.copy_from_slice(&bytes[..size]);
                lent += size;
                items.extend(decoder.filled(size));
            } else {
                let mut piece = bytes[..size].to_vec();
                let mut rest = &mut piece[..];
                while !rest.is_empty() {
                    match decoder.decode_into(Role::Server, rest, &limits, &mut memory) {
                        Ok((used, item)) => {
                            items.extend(item);
                            rest = &mut rest[used..];
                        }
                        Err(violation) => return ((items, Err(violation)), lent),
                    }
                }
            }
            bytes = &bytes[size..];
        }
        ((items, Ok(())), lent)
    }

    #[test]
    fn what_is_read_straight_into_a_message_is_what_is_decoded() {
        let long: Vec<u8> = (0..900_000u32).map(|n| (n * 7 + n / 251) as u8).collect();
        let words = "ä水😀 and ".repeat(70_000);
        let bytes = [
            frame(FIN | BINARY, &long),
            frame(FIN | TEXT, words.as_bytes()),
            frame(BINARY, &long[..300_001]),
            frame(PING, b"between"),
            frame(CONTINUATION, &long[300_001..700_003]),
            frame(CONTINUATION, b""),
            frame(FIN | CONTINUATION, &long[700_003..]),
            frame(FIN | BINARY, b"short"),
            frame(FIN | TEXT, b"\xff"),
        ]
        .concat();
        let long = || binary(&long);
        let ping = Incoming::Ping(Bytes::from_static(b"between"));
        let items = vec![long(), text(&words), ping, long(), binary(b"short")];
        let expected = (items, Err(Violation::Utf8));
        for sizes in [&[120 << 10][..], &[1448], &[1, 65_536, 7, 100_000], &[64_000, 4096, 3]] {
            let mut decoder = Decoder::default();
            let (outcome, lent) = feed_lent(&mut decoder, &bytes, sizes);
            assert!(outcome == expected, "{sizes:?}");
            // Small pieces are not read apart.
            assert_eq!(lent > 500_000, sizes.len() != 1 || sizes[0] > 4096, "{lent} of {sizes:?}");
        }
    }

    #[test]
    fn room_that_is_lent_ends_with_its_frame_and_is_no_claim() {
        let limits = Limits { message_bytes: 4 << 20, ..LIMITS };
        let mut memory = SpareMemory::of(4 << 20, &[1 << 20]);
        let bytes = frame(BINARY, &[1; 200_000]);
        let mut decoder = Decoder::default();
        let mut decode = |decoder: &mut Decoder, range: std::ops::Range<usize>| {
            let mut piece = bytes[range].to_vec();
            decoder.decode_into(Role::Server, &mut piece, &limits, &mut memory).unwrap();
        };
        decode(&mut decoder, 0..1000);
        assert_eq!(decoder.lend(usize::MAX), None, "too little has come");
        decode(&mut decoder, 1000..100_000);
        assert!(decoder.lend(usize::MAX).is_none(), "the block is far too large");
        assert!(decoder.held_bytes() < 2 * 100_000 + 200);

        let mut memory = SpareMemory::of(4 << 20, &[210_000]);
        let mut decoder = Decoder::default();
        let mut piece = bytes[..100_000].to_vec();
        decoder.decode_into(Role::Server, &mut piece, &limits, &mut memory).unwrap();
        let outstanding = bytes.len() - 100_000;
        assert_eq!(decoder.lend(usize::MAX).unwrap().len(), outstanding);
        assert_eq!(decoder.lend(5000).unwrap().len(), 5000);
        assert!(decoder.lend(1000).is_none(), "so little is not read apart");
        assert_eq!(decoder.filled(outstanding), None, "a fragment");
        assert!(decoder.lend(usize::MAX).is_none() && !decoder.is_idle());
    }

    #[test]
    fn a_claim_costs_no_memory() {
        let limits = Limits { message_bytes: 16 << 20, fragments: 8 };
        for first in [FIN | BINARY, FIN | TEXT, BINARY, TEXT] {
            let mut decoder = Decoder::default();
            decoder.decode(Role::Server, &mut header(first, 16 << 20), &limits).unwrap();
            assert!(!decoder.is_idle());
            assert!(decoder.held_bytes() < 200, "{}", decoder.held_bytes());
            decoder.decode(Role::Server, &mut masked(&[b'x'; 1000]), &limits).unwrap();
            assert!(decoder.held_bytes() < 200 + 1000);
            decoder.decode(Role::Server, &mut masked(b"x"), &limits).unwrap();
            assert!(decoder.held_bytes() < 200 + 2000);
        }
    }

    #[test]
    fn memory_stays_within_the_limit() {
        let limits = Limits { message_bytes: 1000, fragments: u32::MAX };
        for first in [BINARY, TEXT] {
            let mut decoder = Decoder::default();
            decoder.decode(Role::Server, &mut frame(first, b"x"), &limits).unwrap();
            for _ in 1..1000 {
                decoder.decode(Role::Server, &mut frame(CONTINUATION, b"x"), &limits).unwrap();
                assert!(decoder.held_bytes() <= 1000 + size_of::<Partial>());
            }
        }
    }

    #[test]
    fn a_message_is_outstanding_from_its_first_byte_to_its_last() {
        let mut decoder = Decoder::default();
        let message = [frame(TEXT, b"a"), frame(PING, b"b"), frame(FIN, b"c")].concat();
        let (last, before) = message.split_last().unwrap();
        for byte in before {
            feed(&mut decoder, [&[*byte][..]]).1.unwrap();
            assert!(!decoder.is_idle());
        }
        assert_eq!(feed(&mut decoder, [&[*last][..]]).0, [text("ac")]);
        assert!(decoder.is_idle());

        let mut bytes = [frame(TEXT, b"a"), frame(PING, b"b")].concat();
        let (used, item) = decoder.decode(Role::Server, &mut bytes, &LIMITS).unwrap();
        assert_eq!((used, item), (7, None), "a fragment is told, to be counted");
        let (used, item) = decoder.decode(Role::Server, &mut bytes[7..], &LIMITS).unwrap();
        assert_eq!((used, item), (7, Some(Incoming::Ping(Bytes::from_static(b"b")))));
        assert!(!decoder.is_idle(), "the message around the ping is outstanding");
    }

    #[test]
    fn a_violation_frees_the_memory() {
        let mut decoder = Decoder::default();
        let bytes = [frame(BINARY, &[0; 5000]), frame(FIN | TEXT, b"")].concat();
        assert_eq!(feed(&mut decoder, [&bytes[..]]).1, Err(Violation::StartInsideMessage));
        assert_eq!(decoder.held_bytes(), 0);
    }

    #[test]
    fn a_closing_connection_skips_messages_and_pings_and_sees_the_close() {
        let bytes = [
            frame(CONTINUATION, &[b'x'; 300]),
            frame(FIN | TEXT, b"\xff"),
            frame(PING, b"still there?"),
            frame(FIN | BINARY, &vec![0; 2 << 20]),
            frame(FIN | CONTINUATION, b""),
            frame(CLOSE, b""),
        ]
        .concat();
        let expected = [Incoming::Close(None)];
        // Our close frame is sent between frames, inside a header and inside a payload.
        for started in [0, 3, 100, 308] {
            for size in [7, 1000, bytes.len()] {
                let mut decoder = Decoder::default();
                let pieces = [&frame(TEXT, b"begun")[..], &bytes[..started]];
                assert_eq!(feed(&mut decoder, pieces), (vec![], Ok(())));
                assert_eq!(decoder.discard(Role::Server, &mut []), Ok((0, None)));
                assert!(decoder.held_bytes() < 200);
                let mut items = Vec::new();
                for mut rest in bytes[started..].to_vec().chunks_mut(size) {
                    while !rest.is_empty() {
                        let (used, item) = decoder.discard(Role::Server, rest).unwrap();
                        items.extend(item);
                        rest = &mut rest[used..];
                        assert!(decoder.held_bytes() < 400);
                    }
                }
                assert_eq!(items, expected, "begun at {started}, pieces of {size}");
                assert!(decoder.is_idle());
            }
        }
    }
}

//! What a turn may still do. Every loop of the engine charges what it does to it, so that a turn is
//! bounded whatever peers send: a loop without a charge is a fault.
//!
//! The unit is a byte that is read and decoded; `turn.bytes` are given to each turn. Other work is
//! charged by how long it takes beside that. Deadlines that act are counted apart
//! (`World::expiries_max`): they come by the clock, not by what peers
//! do.

/// What is left of a turn.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: usize,
    /// A connection has been read from. Until then one may be, whatever is left.
    has_read: bool,
    /// Nothing is read: the turn is for events that the last turn left over.
    is_for_delivery: bool,
}

impl Allowance {
    /// Returns the allowance of a turn of `bytes`.
    pub fn new(bytes: usize) -> Allowance {
        Allowance { left: bytes, has_read: false, is_for_delivery: false }
    }

    /// Begins a turn of `bytes`.
    pub fn begin_turn(&mut self, bytes: usize, is_for_delivery: bool) {
        *self = Allowance { is_for_delivery, ..Allowance::new(bytes) };
    }

    /// Makes the allowance whole again in the middle of a turn.
    #[cfg(feature = "ffi")]
    pub fn renew(&mut self, bytes: usize) {
        debug_assert!(bytes > 0, "a turn that may do nothing does nothing");
        self.left = bytes;
    }

    /// Returns whether nothing is left.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// Returns how many bytes are left.
    #[cfg(test)]
    pub fn left(&self) -> usize {
        self.left
    }

    /// Returns whether the turn is for events that were left over.
    pub fn is_for_delivery(&self) -> bool {
        self.is_for_delivery
    }

    /// Returns whether another connection may be read from: at least one in each turn, unless the
    /// turn is for events.
    pub fn may_read(&self) -> bool {
        !(self.is_for_delivery || self.is_spent() && self.has_read)
    }

    /// Takes note that a connection is read from.
    pub fn note_read(&mut self) {
        debug_assert!(self.may_read(), "a connection is read from only where the turn allows it");
        self.has_read = true;
    }

    /// Returns how many messages may go into one job: at least one.
    pub fn messages_left(&self) -> usize {
        1 + self.left / MESSAGE
    }

    /// Returns how many bytes may be encoded as they are written.
    pub fn encoding_left(&self) -> usize {
        self.left.div_ceil(ENCODED_BYTE)
    }

    /// Charges bytes that were read.
    #[inline]
    pub fn charge_bytes(&mut self, count: usize) {
        self.charge(count);
    }

    /// Charges a message or a control frame that was decoded, an event that was queued, or a
    /// message about a loss, beside its bytes.
    #[inline]
    pub fn charge_message(&mut self) {
        self.charge(MESSAGE);
    }

    /// Charges the answer to a publication, beside its bytes.
    pub fn charge_answer(&mut self) {
        self.charge(MESSAGE);
    }

    /// Charges messages that were handed to a handler.
    pub fn charge_messages(&mut self, count: usize) {
        self.charge(count * MESSAGE);
    }

    /// Charges a fragment of an incomplete message.
    #[inline]
    pub fn charge_fragment(&mut self) {
        self.charge(MESSAGE);
    }

    /// Charges bytes that were checked after they had been read: to be JSON, or text.
    pub fn charge_checked(&mut self, bytes: usize) {
        self.charge(bytes * CHECKED_BYTE);
    }

    /// Charges bytes that were written in place of one byte, as an escape or a line.
    pub fn charge_encoded(&mut self, bytes: usize) {
        self.charge(bytes * ENCODED_BYTE);
    }

    /// Charges bytes of a message that was compressed.
    #[cfg(feature = "deflate")]
    pub fn charge_compressed(&mut self, bytes: usize) {
        self.charge(bytes * COMPRESSED_BYTE);
    }

    /// Charges an event that was encoded: its payload was looked at, and what it has grown by was
    /// written.
    pub fn charge_event(&mut self, payload: usize, grown: usize) {
        self.charge(payload / LOOKS_PER_BYTE + grown * ENCODED_BYTE);
    }

    /// Charges looks at entries of a list: of an outbox, or of subscriptions.
    pub fn charge_looks(&mut self, count: usize) {
        self.charge(count * LOOK);
    }

    /// Charges a signature that was verified.
    #[cfg(feature = "jwt")]
    pub fn charge_signature(&mut self) {
        self.charge(SIGNATURE);
    }

    /// Charges an event that was evicted from a log.
    pub fn charge_trim(&mut self) {
        self.charge(TRIM);
    }

    /// Charges a slice of a long answer, of so many bytes: writing a row takes longer than reading
    /// its bytes.
    pub fn charge_slice(&mut self, bytes: usize) {
        self.charge(bytes * ENCODED_BYTE);
    }

    /// Returns what it costs to deliver `count` waiting events of `bytes` in total.
    pub fn cost_of_events(bytes: usize, count: usize) -> usize {
        bytes + count * MESSAGE
    }

    #[inline]
    fn charge(&mut self, cost: usize) {
        self.left = self.left.saturating_sub(cost);
    }
}

/// What a message costs beside its bytes, when it is decoded and when it is delivered.
const MESSAGE: usize = 128;
/// What a byte costs that is written in place of another.
const ENCODED_BYTE: usize = 4;
/// What a byte costs that is compressed.
#[cfg(feature = "deflate")]
const COMPRESSED_BYTE: usize = 16;
/// What a byte costs that is checked.
const CHECKED_BYTE: usize = 3;
/// What a look at an entry of a list costs.
const LOOK: usize = 4;
/// What it costs to verify a signature.
#[cfg(feature = "jwt")]
const SIGNATURE: usize = 64 * 1024;
/// What it costs to evict an event.
const TRIM: usize = 8;
/// How many bytes are looked at in the time in which one byte is read and decoded.
const LOOKS_PER_BYTE: usize = 16;

const _: () = assert!(LOOK <= MESSAGE && TRIM <= MESSAGE, "a part costs no more than the whole");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_reads_once_whatever_is_left_and_not_again_when_all_is_spent() {
        let mut allowance = Allowance::new(100);
        allowance.charge_bytes(1000);
        assert!(allowance.is_spent() && allowance.may_read());
        allowance.note_read();
        assert!(!allowance.may_read());
        allowance.begin_turn(100, true);
        assert!(!allowance.is_spent() && !allowance.may_read());
        allowance.begin_turn(100, false);
        allowance.note_read();
        assert!(allowance.may_read());
    }

    #[test]
    fn each_kind_of_work_has_its_price() {
        type Charge = fn(&mut Allowance);
        let charges: [(Charge, usize); 11] = [
            (|allowance| allowance.charge_bytes(7), 7),
            (Allowance::charge_message, 128),
            (Allowance::charge_answer, 128),
            (|allowance| allowance.charge_messages(3), 384),
            (Allowance::charge_fragment, 128),
            (|allowance| allowance.charge_checked(5), 15),
            (|allowance| allowance.charge_encoded(5), 20),
            (|allowance| allowance.charge_event(160, 2), 18),
            (|allowance| allowance.charge_looks(3), 12),
            (Allowance::charge_trim, 8),
            (|allowance| allowance.charge_slice(100), 400),
        ];
        for (charge, cost) in charges {
            let mut allowance = Allowance::new(1000);
            charge(&mut allowance);
            assert_eq!(1000 - allowance.left, cost);
        }
    }
}

//! A session: both directions, and what the records between them mean.

use std::fmt;
use std::io::IoSlice;

use ring::aead::LessSafeKey;
use zeroize::Zeroize;

use super::{
    Alert, Content, FATAL, HEADER_BYTES, Half, PLAIN_BYTES_MAX, RECORD_BYTES_MAX, SESSION_BYTES,
    Secret, Suite, TAG_BYTES, WARNING, record_len,
};
use crate::core::ground::time::Instant;

/// What stays of a handshake. Its keys are as many bytes as its suite needs.
pub struct Session<Keys: ?Sized + Zeroize = [u8]> {
    suite: Suite,
    /// Records in a row that bore nothing.
    empty: u8,
    /// Key updates of the peer that count against the rate.
    updates: u16,
    /// What the owner notes here, for which there is room.
    pub marks: u8,
    /// Key updates of both sides that the owner has not counted yet.
    pub updated: u8,
    /// When they were counted, in units of [`UPDATE_MS`].
    updates_at: u16,
    /// The half that is received, and that which is sent.
    keys: Wiped<Keys>,
}

/// What is wiped when it goes.
struct Wiped<Keys: ?Sized + Zeroize>(Keys);

impl<Keys: ?Sized + Zeroize> Drop for Wiped<Keys> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<const LEN: usize> Session<[u8; LEN]> {
    /// Makes one that has no keys yet: [`Session::begin`] derives them where they stay, since what
    /// is moved leaves a copy behind. `LEN` is [`Suite::keys_len`].
    pub fn without_keys(suite: Suite) -> Session<[u8; LEN]> {
        debug_assert_eq!(LEN, suite.keys_len());
        Session {
            suite,
            empty: 0,
            updates: 0,
            marks: 0,
            updated: 0,
            updates_at: 0,
            keys: Wiped([0; LEN]),
        }
    }
}

/// What came of opening records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Bytes of whole records that were opened. They stood at the front.
    pub used: usize,
    /// Bytes of plaintext. They stand at the front now.
    pub plain: usize,
    /// How many records there were.
    pub records: usize,
    /// Nothing follows: why.
    pub ended: Option<Ended>,
}

/// Why a peer's side of a session has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer has said so.
    Closed,
    /// The peer has given the connection up, with this alert.
    ByPeer(u8),
    /// The peer has broken the protocol, and has been told.
    Fault(Alert),
}

impl Session {
    /// A mark: this end is a client, which is sent tickets (RFC 8446, 4.6.1) and keeps none.
    pub const TAKES_TICKETS: u8 = 1 << 7;

    /// Makes one: of each direction the secret, and how many records were sealed with it before.
    pub fn new(suite: Suite, received: (&Secret, u64), sent: (&Secret, u64)) -> Box<Session> {
        let mut session: Box<Session> = match suite {
            Suite::Aes128 => Box::new(Session::<Aes128>::without_keys(suite)),
            Suite::Aes256 => Box::new(Session::<Aes256>::without_keys(suite)),
            Suite::ChaCha20 => Box::new(Session::<ChaCha20>::without_keys(suite)),
        };
        session.begin(received, sent);
        session
    }

    /// Derives the keys: of each direction from its secret, and from how many records were sealed
    /// with it before.
    pub fn begin(&mut self, received: (&Secret, u64), sent: (&Secret, u64)) {
        self.received().begin(received.0, received.1);
        self.sent().begin(sent.0, sent.1);
    }

    fn received(&mut self) -> Half<'_> {
        let half = self.keys.0.len() / 2;
        Half::of(self.suite, &mut self.keys.0[..half])
    }

    fn sent(&mut self) -> Half<'_> {
        let half = self.keys.0.len() / 2;
        Half::of(self.suite, &mut self.keys.0[half..])
    }

    /// The suite.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// How many records have been sealed with the key in use.
    pub fn sealed(&mut self) -> u64 {
        self.sent().number()
    }

    /// Opens, in place, all whole records at the front. The plaintext of all is moved to the front;
    /// what stands behind the whole records stays where it is. What this end has to say to it, an
    /// answer or an alert, is sealed behind `own`.
    pub fn open(&mut self, now: Instant, records: &mut [u8], own: &mut Vec<u8>) -> Opened {
        let mut opened = Opened::default();
        let mut cipher = None;
        while opened.ended.is_none() {
            let left = &mut records[opened.used..];
            let Some(len) = record_len(left) else { break };
            let judged = if len > RECORD_BYTES_MAX {
                Err(Ended::Fault(Alert::RecordOverflow))
            } else if len > left.len() {
                break;
            } else {
                self.open_one(now, &mut left[..len], &mut cipher, own)
            };
            match judged {
                Ok(plain) => {
                    let from = opened.used + HEADER_BYTES;
                    records.copy_within(from..from + plain, opened.plain);
                    opened.plain += plain;
                    opened.used += len;
                    opened.records += 1;
                }
                Err(ended) => opened.ended = Some(ended),
            }
        }
        if let Some(Ended::Fault(alert)) = opened.ended {
            self.seal(Content::Alert, &[FATAL, alert as u8], own);
        }
        opened
    }

    /// Opens one record. Returns how many bytes of data stand behind its header.
    fn open_one(
        &mut self,
        now: Instant,
        record: &mut [u8],
        cipher: &mut Option<LessSafeKey>,
        own: &mut Vec<u8>,
    ) -> Result<usize, Ended> {
        let fault = |alert| Err(Ended::Fault(alert));
        let (header, body) = record.split_at_mut(HEADER_BYTES);
        let header: [u8; HEADER_BYTES] = (&*header).try_into().expect("it was split there");
        if header[0] != Content::Data as u8 {
            // Nothing is sent in plain text any more; of ChangeCipherSpec one too late is a fault.
            return fault(Alert::UnexpectedMessage);
        }
        if body.len() <= TAG_BYTES {
            return fault(Alert::BadRecordMac);
        }
        let mut received = self.received();
        let key = cipher.get_or_insert_with(|| received.cipher());
        let Some(len) = received.open(key, header, body) else {
            return fault(Alert::BadRecordMac);
        };
        let Some(last) = body[..len].iter().rposition(|byte| *byte != 0) else {
            return fault(Alert::UnexpectedMessage);
        };
        if len > PLAIN_BYTES_MAX + 1 {
            return fault(Alert::RecordOverflow);
        }
        let (content, data) = (body[last], &body[..last]);
        if content != Content::Handshake as u8 {
            let is_data = content == Content::Data as u8 && last > 0;
            self.empty = if is_data { 0 } else { self.empty + 1 };
        }
        if self.empty > EMPTY_MAX {
            return fault(Alert::UnexpectedMessage);
        }
        if content == Content::Data as u8 {
            return Ok(last);
        }
        if content == Content::Handshake as u8 {
            return self.take_handshake(now, data, cipher, own);
        }
        match *data {
            [_, CLOSE_NOTIFY] if content == Content::Alert as u8 => Err(Ended::Closed),
            // RFC 8446, 6.1: what it announces still has to come.
            [_, USER_CANCELED] if content == Content::Alert as u8 => Ok(0),
            [_, alert] if content == Content::Alert as u8 => Err(Ended::ByPeer(alert)),
            _ => fault(Alert::UnexpectedMessage),
        }
    }

    /// Takes a message of the handshake: a key update, or tickets for a client.
    fn take_handshake(
        &mut self,
        now: Instant,
        data: &[u8],
        cipher: &mut Option<LessSafeKey>,
        own: &mut Vec<u8>,
    ) -> Result<usize, Ended> {
        let fault = |alert| Err(Ended::Fault(alert));
        let is_empty = data.is_empty();
        let data = match self.marks & Session::TAKES_TICKETS {
            0 => data,
            _ => behind_tickets(data),
        };
        if data.is_empty() && !is_empty {
            // Counted as key updates are: a server sends a few.
            return if self.may_update(now) { Ok(0) } else { fault(Alert::InternalError) };
        }
        // The key changes behind it: nothing else may stand in its record.
        let request = match *data {
            [KEY_UPDATE, 0, 0, 1, request @ (0 | 1)] => request,
            // RFC 8446, 4.6.3 and 6.2.
            [KEY_UPDATE, 0, 0, 1, _] => return fault(Alert::IllegalParameter),
            [KEY_UPDATE, 0, 0, 0] => return fault(Alert::DecodeError),
            _ => return fault(Alert::UnexpectedMessage),
        };
        if !self.may_update(now) {
            return fault(Alert::InternalError);
        }
        *cipher = None;
        self.received().update();
        self.updated = self.updated.saturating_add(1);
        if request == 1 {
            self.update(own);
        }
        Ok(0)
    }

    /// Seals the bytes of the slices behind `out`, one record of at most [`PLAIN_BYTES_MAX`]; the
    /// first `skip` bytes are left out. Returns how many were sealed: none where nothing can be
    /// sealed any more.
    pub fn seal_data(
        &mut self,
        slices: &[IoSlice<'_>],
        mut skip: usize,
        out: &mut Vec<u8>,
    ) -> usize {
        if self.sealed() >= self.suite.records_max() / 2 {
            self.update(out);
        }
        let at = out.len();
        out.resize(at + HEADER_BYTES, 0);
        let mut left = PLAIN_BYTES_MAX;
        for slice in slices {
            let skipped = skip.min(slice.len());
            skip -= skipped;
            let part = &slice[skipped..];
            let part = &part[..part.len().min(left)];
            out.extend_from_slice(part);
            left -= part.len();
            if left == 0 {
                break;
            }
        }
        out.push(Content::Data as u8);
        match self.seal_at(at, out) {
            true => PLAIN_BYTES_MAX - left,
            false => 0,
        }
    }

    /// Seals, behind `out`, that nothing follows.
    pub fn close(&mut self, out: &mut Vec<u8>) {
        self.seal(Content::Alert, &[WARNING, CLOSE_NOTIFY], out);
    }

    /// Seals a key update behind `out`; what follows it is sealed with the next key.
    pub fn update(&mut self, out: &mut Vec<u8>) {
        self.seal(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 0], out);
        self.sent().update();
        self.updated = self.updated.saturating_add(1);
    }

    fn seal(&mut self, content: Content, bytes: &[u8], out: &mut Vec<u8>) {
        let at = out.len();
        out.resize(at + HEADER_BYTES, 0);
        out.extend_from_slice(bytes);
        out.push(content as u8);
        self.seal_at(at, out);
    }

    fn seal_at(&mut self, at: usize, out: &mut Vec<u8>) -> bool {
        let mut sent = self.sent();
        let is_sealed = sent.seal(&sent.cipher(), at, out);
        if !is_sealed {
            out.truncate(at);
        }
        is_sealed
    }

    /// Counts a key update of the peer, and says whether it comes soon enough after the others: 512
    /// at once, and one in ten seconds. A limit on their number would end links that last years.
    ///
    /// A client in Java that changes its keys asks for ours anew with each record that it reads
    /// until our answer comes: with as many as its socket and ours hold.
    fn may_update(&mut self, now: Instant) -> bool {
        let now = (now.as_millis() / UPDATE_MS) as u16;
        let passed = now.wrapping_sub(std::mem::replace(&mut self.updates_at, now));
        self.updates = self.updates.saturating_sub(passed) + 1;
        self.updates <= UPDATES_MAX
    }
}

impl<Keys: ?Sized + Zeroize> fmt::Debug for Session<Keys> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Returns what stands behind the whole tickets at the front of a record. One in several records is
/// not understood: it would have to be put together, to be thrown away.
fn behind_tickets(mut data: &[u8]) -> &[u8] {
    while let [NEW_SESSION_TICKET, high, middle, low, rest @ ..] = data {
        let len = usize::from(*high) << 16 | usize::from(*middle) << 8 | usize::from(*low);
        match rest.get(len..) {
            Some(behind) => data = behind,
            None => break,
        }
    }
    data
}

const NEW_SESSION_TICKET: u8 = 4;
const KEY_UPDATE: u8 = 24;
const CLOSE_NOTIFY: u8 = 0;
const USER_CANCELED: u8 = 90;

/// Records in a row without data that a peer may send: each costs as much as one with data.
const EMPTY_MAX: u8 = 32;

const UPDATES_MAX: u16 = 512;
const UPDATE_MS: u64 = 10_000;

/// The keys of both directions with AES-128: 136 bytes.
pub type Aes128 = [u8; Suite::Aes128.keys_len()];
/// The keys of both directions with AES-256: 200 bytes.
pub type Aes256 = [u8; Suite::Aes256.keys_len()];
/// The keys of both directions with ChaCha20: 168 bytes.
pub type ChaCha20 = [u8; Suite::ChaCha20.keys_len()];

// The longest, of 208 bytes; with AES-128 a session takes 144, with ChaCha20 176.
const _: () = assert!(size_of::<Session<Aes256>>() <= SESSION_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(0);

    /// Both ends of a session.
    fn pair(suite: Suite, number: u64) -> (Box<Session>, Box<Session>) {
        let secrets = [1, 2].map(|byte| Secret::new(&vec![byte; suite.secret_len()]).unwrap());
        let [ours, theirs] = &secrets;
        let ours_end = Session::new(suite, (theirs, 0), (ours, number));
        (ours_end, Session::new(suite, (ours, number), (theirs, 0)))
    }

    fn seal(session: &mut Session, data: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        assert_eq!(session.seal_data(&[IoSlice::new(data)], 0, &mut out), data.len());
        out
    }

    fn open(session: &mut Session, records: &mut [u8]) -> (Opened, Vec<u8>) {
        let mut own = Vec::new();
        let opened = session.open(NOW, records, &mut own);
        (opened, own)
    }

    #[test]
    fn data_comes_out_as_it_went_in_and_records_are_updated_on_both_sides() {
        for suite in Suite::ALL {
            let (mut ours, mut theirs) = pair(suite, 0);
            for round in 0..50u8 {
                let data = vec![round; 1 + usize::from(round) * 300];
                let mut records = Vec::new();
                if round % 10 == 3 {
                    ours.update(&mut records);
                }
                records.extend(seal(&mut ours, &data));
                let (opened, own) = open(&mut theirs, &mut records);
                assert_eq!((opened.ended, own.len()), (None, 0));
                assert_eq!(opened.used, records.len());
                assert_eq!(records[..opened.plain], data);
            }
        }
    }

    #[test]
    fn our_key_is_updated_at_half_of_what_the_cipher_bears() {
        let half = Suite::Aes128.records_max() / 2;
        let (mut ours, mut theirs) = pair(Suite::Aes128, half - 2);
        let lens = [0; 4].map(|_| {
            let mut records = seal(&mut ours, b"x");
            let (opened, _) = open(&mut theirs, &mut records);
            assert_eq!((opened.plain, opened.ended), (1, None));
            opened.records
        });
        assert_eq!(lens, [1, 1, 2, 1]);
        assert_eq!(ours.sealed(), 2);
    }

    /// FAULTS 141.
    #[test]
    fn key_updates_are_limited_by_their_rate_and_not_by_their_number() {
        let (mut ours, mut theirs) = pair(Suite::Aes128, 0);
        let mut update = |at_ms| {
            let mut records = Vec::new();
            ours.seal(Content::Handshake, &[KEY_UPDATE, 0, 0, 1, 1], &mut records);
            ours.sent().update();
            let mut own = Vec::new();
            let ended = theirs.open(Instant::from_millis(at_ms), &mut records, &mut own).ended;
            // A byte of data between them, as on a link that lives.
            let mut records = seal(&mut ours, b"x");
            if ended.is_none() {
                let mut own_2 = Vec::new();
                theirs.open(Instant::from_millis(at_ms), &mut records, &mut own_2);
            }
            (ended, own.len())
        };
        for count in 0..10_000 {
            assert_eq!(update(count * 10_000), (None, HEADER_BYTES + 5 + 1 + TAG_BYTES));
        }
        let flood: Vec<_> = (0..513).map(|_| update(100_000_000).0).collect();
        assert_eq!(flood[..511], [None; 511]);
        assert_eq!(flood[512], Some(Ended::Fault(Alert::InternalError)));
    }

    #[test]
    fn what_breaks_the_protocol_is_answered_by_an_alert() {
        type Make = fn(&mut Session) -> Vec<u8>;
        let cases: [(Make, Alert); 9] = [
            (|_| vec![20, 3, 3, 0, 1, 1], Alert::UnexpectedMessage),
            (|_| vec![23, 3, 3, 0, 0], Alert::BadRecordMac),
            (|_| vec![23, 3, 3, 0x41, 1], Alert::RecordOverflow),
            (
                |session| {
                    let mut records = seal(session, b"hello");
                    records[7] ^= 1;
                    records
                },
                Alert::BadRecordMac,
            ),
            (|session| bare(session, &[0; 20]), Alert::UnexpectedMessage),
            (|session| bare(session, &[24, 0, 0, 1, 2, 22]), Alert::IllegalParameter),
            (|session| bare(session, &[24, 0, 0, 0, 22]), Alert::DecodeError),
            (|session| bare(session, &[24, 0, 0, 1, 1, 24, 22]), Alert::UnexpectedMessage),
            (|session| bare(session, &[9; PLAIN_BYTES_MAX + 2]), Alert::RecordOverflow),
        ];
        for (index, (make, alert)) in cases.into_iter().enumerate() {
            let (mut ours, mut theirs) = pair(Suite::ChaCha20, 0);
            let mut records = make(&mut ours);
            let (opened, mut own) = open(&mut theirs, &mut records);
            assert_eq!(opened.ended, Some(Ended::Fault(alert)), "{index}");
            assert_eq!(opened.plain, 0);
            let told = open(&mut ours, &mut own).0.ended;
            assert_eq!(told, Some(Ended::ByPeer(alert as u8)), "{index}");
        }
    }

    /// Seals bytes without a type of ours.
    fn bare(session: &mut Session, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![0; HEADER_BYTES];
        out.extend_from_slice(inner);
        session.seal_at(0, &mut out);
        out
    }

    #[test]
    fn empty_records_end_a_session_that_sends_nothing_else() {
        let (mut ours, mut theirs) = pair(Suite::Aes256, 0);
        for round in 0..100 {
            let mut records = bare(&mut ours, &[23]);
            if round % 20 == 19 {
                records.extend(seal(&mut ours, b"x"));
            }
            assert_eq!(open(&mut theirs, &mut records).0.ended, None);
        }
        let mut records: Vec<u8> = (0..10_000).flat_map(|_| bare(&mut ours, &[23, 0, 0])).collect();
        let (opened, _) = open(&mut theirs, &mut records);
        assert_eq!(opened.ended, Some(Ended::Fault(Alert::UnexpectedMessage)));
        assert!(opened.records <= 32);
    }

    /// FAULTS 138.
    #[test]
    fn data_before_the_end_is_given_with_it() {
        let (mut ours, mut theirs) = pair(Suite::Aes128, 0);
        let mut records = seal(&mut ours, b"last words");
        ours.close(&mut records);
        records.extend_from_slice(b"rubbish");
        let (opened, own) = open(&mut theirs, &mut records);
        assert_eq!(opened.ended, Some(Ended::Closed));
        assert_eq!(&records[..opened.plain], b"last words");
        assert!(own.is_empty());
    }

    // RFC 8446, 4.6.1: a server may send tickets at any time, and a client may throw them away.
    #[test]
    fn a_client_is_sent_tickets_and_a_server_is_not() {
        const TICKETS: &[u8] = &[NEW_SESSION_TICKET, 0, 0, 2, 7, 7, NEW_SESSION_TICKET, 0, 0, 0];
        let ticket_and_update = [TICKETS, &[KEY_UPDATE, 0, 0, 1, 0]].concat();
        for suite in Suite::ALL {
            let (mut client, mut server) = pair(suite, 0);
            client.marks |= Session::TAKES_TICKETS;
            let mut records = Vec::new();
            server.seal(Content::Handshake, TICKETS, &mut records);
            server.seal(Content::Handshake, &ticket_and_update, &mut records);
            server.sent().update();
            records.extend(seal(&mut server, b"data"));
            let (opened, own) = open(&mut client, &mut records);
            assert_eq!((opened.plain, opened.ended, own.len()), (4, None, 0), "{suite:?}");
            assert_eq!(records[..4], b"data"[..]);
            // One that is cut is a fault, and so is one to a server.
            let mut cut = Vec::new();
            server.seal(Content::Handshake, &[NEW_SESSION_TICKET, 0, 0, 9, 7], &mut cut);
            let fault = Some(Ended::Fault(Alert::UnexpectedMessage));
            assert_eq!(open(&mut client, &mut cut).0.ended, fault);
            let (mut client, mut server) = pair(suite, 0);
            let mut records = Vec::new();
            client.seal(Content::Handshake, TICKETS, &mut records);
            assert_eq!(open(&mut server, &mut records).0.ended, fault);
        }
    }
}

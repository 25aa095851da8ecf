//! The grammar of RFC 8259 as an automaton: a step for each byte, by a table. It can stop behind
//! any byte and go on when there are more.

use std::ops::Range;

use super::{DEPTH_MAX, JsonError};

/// How far a text has been scanned, and what is open there.
///
/// A step takes about the same time whatever the byte is, so that no text costs much more than
/// another of its length.
///
/// - `open` says how deep the place is: 0 before the value and behind it.
/// - `name` and `value_at` belong to the outermost object.
/// - There is an error if and only if the text is not what was asked for. The automaton is loose
///   then: it tells brackets and strings apart and nothing else, until a member begins at depth 1.
///   That one is scanned as if the text had been sound.
#[derive(Clone, Debug)]
pub(crate) struct Scanner {
    at: usize,
    state: u8,
    open: Nesting,
    /// The text is to be an object, whose members are told.
    is_object: bool,
    /// The string in progress is the name of a member.
    is_name: bool,
    /// Where the newest name lies, with its quotes.
    name: Range<usize>,
    /// Where the value behind it begins, blanks included.
    value_at: usize,
    error: Option<JsonError>,
}

/// Where a member of the outermost object lies in the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// The member's name, with quotes.
    pub name: Range<usize>,
    /// The member's value, with the blanks around it.
    pub value: Range<usize>,
    /// No error stands before the member.
    pub is_sound: bool,
}

impl Scanner {
    /// Begins a text that is to be one value.
    pub fn value() -> Scanner {
        Scanner {
            at: 0,
            state: VALUE,
            open: Nesting::default(),
            is_object: false,
            is_name: false,
            name: 0..0,
            value_at: 0,
            error: None,
        }
    }

    /// Begins a text that is to be one object, whose members are told. Its values may nest as deep
    /// as others.
    pub fn object() -> Scanner {
        Scanner { state: OBJECT, is_object: true, ..Scanner::value() }
    }

    /// Goes on to the end of `text`, whose bytes up to here are the same as before. Members of the
    /// outermost object are told when they have ended; those of a text with an error, too, if they
    /// are sound and a comma or a brace follows.
    pub fn go_on(&mut self, text: &[u8], tell: &mut dyn FnMut(Member)) {
        let (mut at, mut state) = (self.at, self.state);
        while state != OVER {
            if state == STRING {
                at += plain_len(&text[at..]);
            }
            let Some(byte) = text.get(at) else { break };
            at += 1;
            state = match step(state, *byte) {
                next @ ..ACTIONS => next,
                action => self.act(state, action, &text[..at], tell),
            };
        }
        (self.at, self.state) = (at, state);
    }

    /// Returns whether the text has ended where it may.
    ///
    /// # Errors
    ///
    /// The first error in the text.
    pub fn end(&self) -> Result<(), JsonError> {
        let is_over = self.open.depth == 0 && step(self.state, b' ') == AFTER;
        match self.error {
            Some(error) => Err(error),
            None if is_over => Ok(()),
            None => Err(JsonError::Syntax),
        }
    }

    /// Returns how many bytes have been scanned.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Returns the name of the outermost member whose value is a string in progress, and where that
    /// value begins, blanks included.
    pub fn string_in_progress(&self) -> Option<(Range<usize>, usize)> {
        let is_string = (STRING..STRING_END).contains(&self.state) && !self.is_name;
        let is_member = self.open.depth == 1 && self.open.objects == 1 && self.error.is_none();
        (is_string && is_member).then(|| (self.name.clone(), self.value_at))
    }

    /// Does the work that takes more than a step, for the last byte of `text`. Returns the next
    /// state.
    #[inline(always)]
    fn act(&mut self, state: u8, action: u8, text: &[u8], tell: &mut dyn FnMut(Member)) -> u8 {
        let at = text.len();
        let has_room = self.open.depth < DEPTH_MAX as usize + usize::from(self.is_object);
        let is_outermost = self.open.depth == 1;
        match (action, self.open.innermost()) {
            (OPEN_ARRAY, _) if has_room => {
                self.open.push(Kind::Array);
                FIRST_VALUE
            }
            (OPEN_OBJECT, _) if has_room => {
                self.open.push(Kind::Object);
                FIRST_NAME
            }
            (CLOSE_ARRAY, Some(Kind::Array)) => {
                self.open.pop();
                AFTER
            }
            (CLOSE_OBJECT, Some(Kind::Object)) => {
                if is_outermost && state != FIRST_NAME {
                    self.end_member(at, tell);
                }
                self.open.pop();
                AFTER
            }
            (COMMA, Some(Kind::Array)) => VALUE,
            (COMMA, Some(Kind::Object)) => {
                if is_outermost {
                    self.end_member(at, tell);
                }
                NAME
            }
            (OPEN_NAME, _) => {
                self.is_name = true;
                if is_outermost {
                    self.name.start = at - 1;
                }
                STRING
            }
            (CLOSE_STRING, _) if self.is_name => {
                self.is_name = false;
                if is_outermost {
                    self.name.end = at;
                }
                COLON
            }
            (CLOSE_STRING, _) => AFTER,
            (VALUE_BEGINS, _) => {
                if is_outermost {
                    self.value_at = at;
                }
                VALUE
            }
            _ => self.act_loosely(state, action, text),
        }
    }

    fn end_member(&self, at: usize, tell: &mut dyn FnMut(Member)) {
        let is_sound = self.error.is_none();
        tell(Member { name: self.name.clone(), value: self.value_at..at - 1, is_sound });
    }

    /// Takes note of an error, and takes the same byte loosely; or does what a loose byte asks for.
    #[cold]
    fn act_loosely(&mut self, state: u8, action: u8, text: &[u8]) -> u8 {
        let at = text.len();
        let is_outermost = self.open.depth == 1;
        match action {
            LOOSE_OPEN => {
                self.open.depth += 1;
                LOOSE
            }
            LOOSE_CLOSE => {
                self.open.depth -= 1;
                if self.open.depth == 0 { OVER } else { LOOSE }
            }
            LOOSE_STRING_BEGINS => {
                self.name.start = if is_outermost { at - 1 } else { self.name.start };
                LOOSE_STRING
            }
            LOOSE_STRING_ENDS if is_outermost => {
                self.name.end = at;
                LOOSE_COLON
            }
            LOOSE_STRING_ENDS => LOOSE,
            LOOSE_VALUE_BEGINS => {
                self.value_at = at;
                self.open.objects = 1;
                VALUE
            }
            _ => self.fail(state, action, text),
        }
    }

    fn fail(&mut self, state: u8, action: u8, text: &[u8]) -> u8 {
        let is_opening = matches!(action, OPEN_ARRAY | OPEN_OBJECT);
        let error = if is_opening { JsonError::TooDeep } else { JsonError::Syntax };
        self.error.get_or_insert(error);
        self.is_name = false;
        if self.open.depth == 0 || !self.is_object {
            return OVER;
        }
        let byte = text[text.len() - 1];
        let loose = match state {
            ESCAPE => return LOOSE_STRING,
            STRING..STRING_END => LOOSE_STRING,
            AFTER if byte == b':' && self.open.depth == 1 => self.take_for_name(text),
            _ => LOOSE,
        };
        match step(loose, byte) {
            next @ ..ACTIONS => next,
            action => self.act_loosely(loose, action, text),
        }
    }

    /// Takes the value before a colon for a name, if it is a string.
    fn take_for_name(&mut self, text: &[u8]) -> u8 {
        let value = &text[self.value_at..text.len() - 1];
        if !value.trim_ascii_start().starts_with(b"\"") {
            return LOOSE;
        }
        let start = text.len() - 1 - value.trim_ascii_start().len();
        self.name = start..start + value.trim_ascii().len();
        LOOSE_COLON
    }
}

/// The arrays and objects that are open: one bit each, the innermost lowest.
#[derive(Clone, Debug, Default)]
struct Nesting {
    depth: usize,
    objects: u128,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Array,
    Object,
}

impl Nesting {
    fn push(&mut self, kind: Kind) {
        self.depth += 1;
        self.objects = self.objects << 1 | u128::from(kind == Kind::Object);
    }

    fn pop(&mut self) {
        self.depth -= 1;
        self.objects >>= 1;
    }

    fn innermost(&self) -> Option<Kind> {
        let kind = if self.objects & 1 == 1 { Kind::Object } else { Kind::Array };
        (self.depth > 0).then_some(kind)
    }
}

const _: () = assert!(DEPTH_MAX < u128::BITS, "one bit for each level, and one around them");

/// Returns how many bytes at the beginning may stand in a string as they are, or some of them:
/// eight are looked at at once.
fn plain_len(text: &[u8]) -> usize {
    const ONES: u64 = u64::MAX / 255;
    // The highest bit of a byte is set where the byte is less than another; behind the first such
    // byte it may be set anywhere.
    let less = |word: u64, than: u8| word.wrapping_sub(ONES * u64::from(than)) & !word;
    let (words, _) = text.as_chunks::<8>();
    for (nth, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let quotes = less(word ^ (ONES * u64::from(b'"')), 1);
        let slashes = less(word ^ (ONES * u64::from(b'\\')), 1);
        let special = (quotes | slashes | less(word, b' ')) & ONES << 7;
        if special != 0 {
            return nth * 8 + special.trailing_zeros() as usize / 8;
        }
    }
    words.len() * 8
}

#[inline(always)]
fn step(state: u8, byte: u8) -> u8 {
    let class = CLASSES[usize::from(byte)];
    NEXT[(usize::from(state) * CLASS_COUNT + usize::from(class)) % NEXT.len()]
}

// Where a text may stand. In the first of these, blanks mean nothing.
const VALUE: u8 = 0;
const FIRST_VALUE: u8 = 1;
const NAME: u8 = 2;
const FIRST_NAME: u8 = 3;
const COLON: u8 = 4;
const AFTER: u8 = 5;
const OBJECT: u8 = 6;
const LOOSE_COLON: u8 = 7;
const BLANKS_END: u8 = 8;
const STRING: u8 = 8;
const ESCAPE: u8 = 9;
/// Four states, by the number of digits that have come.
const UNICODE: u8 = 10;
const STRING_END: u8 = 14;
const MINUS: u8 = 14;
const ZERO: u8 = 15;
const INTEGER: u8 = 16;
const POINT: u8 = 17;
const FRACTION: u8 = 18;
const EXPONENT: u8 = 19;
const SIGN: u8 = 20;
const POWER: u8 = 21;
const LOOSE: u8 = 22;
const LOOSE_STRING: u8 = 23;
const LOOSE_ESCAPE: u8 = 24;
/// Nothing more is looked at.
const OVER: u8 = 25;
/// One for each letter of the literals but their first ones.
const LITERALS: u8 = 26;

// Work that takes more than a step.
const ACTIONS: u8 = 64;
const FAIL: u8 = ACTIONS;
const OPEN_ARRAY: u8 = ACTIONS + 1;
const OPEN_OBJECT: u8 = ACTIONS + 2;
const CLOSE_ARRAY: u8 = ACTIONS + 3;
const CLOSE_OBJECT: u8 = ACTIONS + 4;
const COMMA: u8 = ACTIONS + 5;
const OPEN_NAME: u8 = ACTIONS + 6;
const CLOSE_STRING: u8 = ACTIONS + 7;
const VALUE_BEGINS: u8 = ACTIONS + 8;
const LOOSE_OPEN: u8 = ACTIONS + 9;
const LOOSE_CLOSE: u8 = ACTIONS + 10;
const LOOSE_STRING_BEGINS: u8 = ACTIONS + 11;
const LOOSE_STRING_ENDS: u8 = ACTIONS + 12;
const LOOSE_VALUE_BEGINS: u8 = ACTIONS + 13;

const CLASS_COUNT: usize = 32;
const STATE_COUNT: usize = 64;
const CONTROL: u8 = 1;
const LINE: u8 = 2;

/// Returns the class of a byte: those of a class mean the same everywhere.
const fn class(byte: u8) -> u8 {
    match byte {
        b'\t' | b'\n' | b'\r' => LINE,
        b' ' => 3,
        ..b' ' => CONTROL,
        b'"' => 4,
        b'\\' => 5,
        b'/' => 6,
        b',' => 7,
        b':' => 8,
        b'[' => 9,
        b']' => 10,
        b'{' => 11,
        b'}' => 12,
        b'0' => 13,
        b'1'..=b'9' => 14,
        b'-' => 15,
        b'+' => 16,
        b'.' => 17,
        b'e' => 18,
        b'E' => 19,
        b'a' => 20,
        b'b' => 21,
        b'f' => 22,
        b'c' | b'd' | b'A'..=b'F' => 23,
        b'n' => 24,
        b'r' => 25,
        b't' => 26,
        b'u' => 27,
        b'l' => 28,
        b's' => 29,
        _ => 0,
    }
}

static CLASSES: [u8; 256] = {
    let mut classes = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        classes[byte] = class(byte as u8);
        byte += 1;
    }
    classes
};

static NEXT: [u8; STATE_COUNT * CLASS_COUNT] = {
    let mut table = Table([FAIL; STATE_COUNT * CLASS_COUNT]);
    let mut state = 0;
    while state < BLANKS_END {
        table.on(&[state], b" \n", state);
        state += 1;
    }
    let values = &[VALUE, FIRST_VALUE];
    table.on(values, b"\"", STRING);
    table.on(values, b"[", OPEN_ARRAY);
    table.on(values, b"{", OPEN_OBJECT);
    table.on(&[OBJECT], b"{", OPEN_OBJECT);
    table.on(&[FIRST_VALUE], b"]", CLOSE_ARRAY);
    table.on(&[FIRST_NAME], b"}", CLOSE_OBJECT);
    table.on(&[NAME, FIRST_NAME], b"\"", OPEN_NAME);
    table.on(&[COLON], b":", VALUE_BEGINS);

    table.on_any(STRING, STRING);
    table.0[STRING as usize * CLASS_COUNT + CONTROL as usize] = FAIL;
    table.0[STRING as usize * CLASS_COUNT + LINE as usize] = FAIL;
    table.on(&[STRING], b"\"", CLOSE_STRING);
    table.on(&[STRING], b"\\", ESCAPE);
    table.on(&[ESCAPE], b"\"\\/bfnrt", STRING);
    table.on(&[ESCAPE], b"u", UNICODE);
    let mut state = UNICODE;
    while state < STRING_END {
        let next = if state + 1 == STRING_END { STRING } else { state + 1 };
        table.on(&[state], b"01abfeEc", next);
        state += 1;
    }

    table.on(values, b"-", MINUS);
    table.on(values, b"0", ZERO);
    table.on(values, b"1", INTEGER);
    table.on(&[MINUS], b"0", ZERO);
    table.on(&[MINUS], b"1", INTEGER);
    table.on(&[INTEGER], b"01", INTEGER);
    table.on(&[ZERO, INTEGER], b".", POINT);
    table.on(&[POINT, FRACTION], b"01", FRACTION);
    table.on(&[ZERO, INTEGER, FRACTION], b"eE", EXPONENT);
    table.on(&[EXPONENT], b"+-", SIGN);
    table.on(&[EXPONENT, SIGN, POWER], b"01", POWER);
    let state = table.literal(b"true", LITERALS);
    let state = table.literal(b"false", state);
    let state = table.literal(b"null", state);
    assert!(state as usize <= STATE_COUNT);

    let ends = &[AFTER, ZERO, INTEGER, FRACTION, POWER];
    table.on(ends, b" \n", AFTER);
    table.on(ends, b",", COMMA);
    table.on(ends, b"]", CLOSE_ARRAY);
    table.on(ends, b"}", CLOSE_OBJECT);

    let loose = &[LOOSE, LOOSE_COLON];
    table.on_any(LOOSE, LOOSE);
    table.on_any(LOOSE_COLON, LOOSE);
    table.on(&[LOOSE_COLON], b" \n", LOOSE_COLON);
    table.on(&[LOOSE_COLON], b":", LOOSE_VALUE_BEGINS);
    table.on(loose, b"[{", LOOSE_OPEN);
    table.on(loose, b"]}", LOOSE_CLOSE);
    table.on(loose, b"\"", LOOSE_STRING_BEGINS);
    table.on_any(LOOSE_STRING, LOOSE_STRING);
    table.on_any(LOOSE_ESCAPE, LOOSE_STRING);
    table.on(&[LOOSE_STRING], b"\"", LOOSE_STRING_ENDS);
    table.on(&[LOOSE_STRING], b"\\", LOOSE_ESCAPE);
    table.on_any(OVER, OVER);
    table.0
};

/// What each state makes of each class.
struct Table([u8; STATE_COUNT * CLASS_COUNT]);

impl Table {
    /// Leads from these states to `next` by the classes of these bytes.
    const fn on(&mut self, states: &[u8], bytes: &[u8], next: u8) {
        let mut nth = 0;
        while nth < states.len() * bytes.len() {
            let state = states[nth / bytes.len()] as usize;
            let class = class(bytes[nth % bytes.len()]) as usize;
            self.0[state * CLASS_COUNT + class] = next;
            nth += 1;
        }
    }

    /// Leads from a state to `next` by every class.
    const fn on_any(&mut self, state: u8, next: u8) {
        let mut class = 0;
        while class < CLASS_COUNT {
            self.0[state as usize * CLASS_COUNT + class] = next;
            class += 1;
        }
    }

    /// Adds a literal whose letters but the first take the states from `state` on. Returns the
    /// state behind them.
    const fn literal(&mut self, literal: &[u8], state: u8) -> u8 {
        self.on(&[VALUE, FIRST_VALUE], &[literal[0]], state);
        let mut nth = 1;
        while nth < literal.len() {
            let state = state + nth as u8 - 1;
            let next = if nth + 1 == literal.len() { AFTER } else { state + 1 };
            self.on(&[state], &[literal[nth]], next);
            nth += 1;
        }
        state + literal.len() as u8 - 1
    }
}

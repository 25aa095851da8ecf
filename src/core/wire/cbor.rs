//! CBOR (RFC 8949) of definite lengths, read item by item and written head by head.
//!
//! A reader never looks further than its bytes: a length that is claimed costs nothing. It does not
//! recurse, and takes time by the number of bytes.

/// Reads items, one behind the other.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// Why there is no item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CborError {
    /// The bytes are not well-formed, or end within an item.
    Syntax,
    /// An item has no definite length.
    Indefinite,
    /// More than [`DEPTH_MAX`] arrays and maps are nested.
    TooDeep,
}

/// An item that is read: itself, if it is one of those that mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// A text string.
    Text(&'a str),
    /// A byte string.
    Bytes(&'a [u8]),
    /// An integer, if it is one of 64 bits.
    Integer(i64),
    /// Null.
    Null,
    /// Any other.
    Other,
}

/// How many arrays and maps may be nested: as many as in JSON.
pub const DEPTH_MAX: usize = crate::core::ground::json::DEPTH_MAX as usize;

/// The major types of RFC 8949, 3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Major {
    /// An integer from 0 on.
    Unsigned,
    /// An integer below 0.
    Negative,
    /// Bytes.
    Bytes,
    /// Text.
    Text,
    /// Items.
    Array,
    /// Pairs of items.
    Map,
    /// What the next item means.
    Tag,
    /// Simple values, and numbers with a point.
    Simple,
}

impl<'a> Reader<'a> {
    /// Begins to read.
    pub fn new(bytes: &'a [u8]) -> Reader<'a> {
        Reader { bytes, at: 0 }
    }

    /// Returns whether nothing is left.
    pub fn is_over(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// Reads the head of a map: how many pairs follow. `None` if the next item is none.
    ///
    /// # Errors
    ///
    /// [`CborError`].
    pub fn map(&mut self) -> Result<Option<u64>, CborError> {
        let (major, pairs) = self.head()?;
        Ok((major == Major::Map).then_some(pairs))
    }

    /// Reads the head of an array: how many items follow. `None` if the next item is none.
    ///
    /// # Errors
    ///
    /// [`CborError`].
    #[cfg(all(feature = "client", feature = "presence"))]
    pub fn array(&mut self) -> Result<Option<u64>, CborError> {
        let (major, items) = self.head()?;
        Ok((major == Major::Array).then_some(items))
    }

    /// Reads an item with all that is in it, and lends its bytes.
    ///
    /// # Errors
    ///
    /// [`CborError`].
    pub fn raw(&mut self) -> Result<&'a [u8], CborError> {
        let begin = self.at;
        let mut left = [0u64; DEPTH_MAX];
        let mut depth = 0;
        loop {
            let (major, argument) = self.head()?;
            let inside = match major {
                Major::Bytes => self.take(argument).map(|_| 0)?,
                Major::Text => self.text(argument).map(|_| 0)?,
                Major::Array => argument,
                // There are not so many bytes.
                Major::Map => argument.checked_mul(2).ok_or(CborError::Syntax)?,
                // It is the next one that counts.
                Major::Tag => continue,
                Major::Unsigned | Major::Negative | Major::Simple => 0,
            };
            if inside > 0 {
                *left.get_mut(depth).ok_or(CborError::TooDeep)? = inside;
                depth += 1;
                continue;
            }
            loop {
                let Some(above) = depth.checked_sub(1) else {
                    return Ok(&self.bytes[begin..self.at]);
                };
                left[above] -= 1;
                if left[above] > 0 {
                    break;
                }
                depth = above;
            }
        }
    }

    fn head(&mut self) -> Result<(Major, u64), CborError> {
        let first = self.take(1)?[0];
        let major = match first >> 5 {
            0 => Major::Unsigned,
            1 => Major::Negative,
            2 => Major::Bytes,
            3 => Major::Text,
            4 => Major::Array,
            5 => Major::Map,
            6 => Major::Tag,
            _ => Major::Simple,
        };
        let argument = match first & 31 {
            small @ 0..24 => return Ok((major, small.into())),
            size @ 24..28 => {
                let bytes = self.take(1 << (size - 24))?;
                bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
            }
            31 if !matches!(major, Major::Unsigned | Major::Negative | Major::Tag) => {
                return Err(CborError::Indefinite);
            }
            _ => return Err(CborError::Syntax),
        };
        // RFC 8949, 3.3: those below have a form of one byte alone.
        let is_two_bytes = first == (Major::Simple as u8) << 5 | 24;
        if is_two_bytes && argument < 32 { Err(CborError::Syntax) } else { Ok((major, argument)) }
    }

    fn take(&mut self, len: u64) -> Result<&'a [u8], CborError> {
        let rest = &self.bytes[self.at..];
        if len > rest.len() as u64 {
            return Err(CborError::Syntax);
        }
        self.at += len as usize;
        Ok(&rest[..len as usize])
    }

    fn text(&mut self, len: u64) -> Result<&'a str, CborError> {
        str::from_utf8(self.take(len)?).map_err(|_| CborError::Syntax)
    }
}

impl<'a> Item<'a> {
    /// Returns what an item of these bytes is. They are those of one item.
    pub fn of(raw: &'a [u8]) -> Item<'a> {
        let mut reader = Reader::new(raw);
        let Ok((major, argument)) = reader.head() else { return Item::Other };
        let number = i64::try_from(argument).ok();
        match major {
            Major::Text => reader.text(argument).map_or(Item::Other, Item::Text),
            Major::Bytes => reader.take(argument).map_or(Item::Other, Item::Bytes),
            Major::Unsigned => number.map_or(Item::Other, Item::Integer),
            Major::Negative => number.map_or(Item::Other, |number| Item::Integer(-1 - number)),
            Major::Simple if raw == [NULL] => Item::Null,
            Major::Array | Major::Map | Major::Tag | Major::Simple => Item::Other,
        }
    }
}

/// Writes a head, in its shortest form.
pub fn write_head(out: &mut Vec<u8>, major: Major, argument: u64) {
    let first = (major as u8) << 5;
    let bytes = argument.to_be_bytes();
    match argument {
        0..24 => out.push(first | argument as u8),
        24..0x100 => out.extend([first | 24, argument as u8]),
        0x100..0x1_0000 => out.extend([first | 25, bytes[6], bytes[7]]),
        0x1_0000..0x1_0000_0000 => {
            out.push(first | 26);
            out.extend_from_slice(&bytes[4..]);
        }
        _ => {
            out.push(first | 27);
            out.extend_from_slice(&bytes);
        }
    }
}

/// Writes a text string.
pub fn write_text(out: &mut Vec<u8>, text: &str) {
    write_head(out, Major::Text, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// A map that is written, of at most 23 members.
#[derive(Default)]
pub struct Map {
    /// The members: the head is put in front when their number is known.
    out: Vec<u8>,
    members: u8,
}

impl Map {
    /// Adds a text string.
    pub fn text(self, name: &str, text: &str) -> Map {
        let mut map = self.begin(name);
        write_text(&mut map.out, text);
        map
    }

    /// Adds a byte string.
    pub fn bytes(self, name: &str, bytes: &[u8]) -> Map {
        let mut map = self.head(name, Major::Bytes, bytes.len() as u64);
        map.out.extend_from_slice(bytes);
        map
    }

    /// Adds an integer.
    pub fn number(self, name: &str, number: u64) -> Map {
        self.head(name, Major::Unsigned, number)
    }

    /// Adds an item that is written already.
    pub fn raw(self, name: &str, item: &[u8]) -> Map {
        let mut map = self.begin(name);
        map.out.extend_from_slice(item);
        map
    }

    /// Adds an item of which this is the head: what is in it follows the map's bytes.
    pub fn head(self, name: &str, major: Major, argument: u64) -> Map {
        let mut map = self.begin(name);
        write_head(&mut map.out, major, argument);
        map
    }

    /// Gives the bytes of the map.
    pub fn end(mut self) -> Vec<u8> {
        debug_assert!((1..24).contains(&self.members), "the head is one byte");
        self.out[0] = (Major::Map as u8) << 5 | self.members;
        self.out
    }

    fn begin(mut self, name: &str) -> Map {
        if self.out.is_empty() {
            self.out.push(0);
        }
        write_text(&mut self.out, name);
        self.members += 1;
        self
    }
}

/// The item null.
pub const NULL: u8 = 0xf6;

/// The item true.
pub const TRUE: u8 = 0xf5;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(hex: &str) -> Result<usize, CborError> {
        let bytes = bytes(hex);
        Reader::new(&bytes).raw().map(<[u8]>::len)
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits = hex.as_bytes().chunks(2).map(|pair| str::from_utf8(pair).unwrap());
        digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
    }

    /// RFC 8949, appendix A: those of definite length.
    #[test]
    fn the_examples_of_the_rfc_are_read_whole() {
        for hex in [
            "00",
            "17",
            "1818",
            "1903e8",
            "1a000f4240",
            "1b000000e8d4a51000",
            "1bffffffffffffffff",
            "20",
            "3863",
            "3bffffffffffffffff",
            "c249010000000000000000",
            "f90000",
            "fb3ff199999999999a",
            "fa47c35000",
            "f4",
            "f5",
            "f6",
            "f7",
            "f0",
            "f8ff",
            "c11a514b67b0",
            "d74401020304",
            "d818456449455446",
            "40",
            "4401020304",
            "60",
            "6161",
            "6449455446",
            "62c3bc",
            "64f0908591",
            "80",
            "83010203",
            "8301820203820405",
            "a0",
            "a201020304",
            "a26161016162820203",
            "826161a161626163",
            "a56161614161626142616361436164614461656145",
        ] {
            assert_eq!(read(hex), Ok(hex.len() / 2), "{hex}");
            // A byte less is none; one more is left over.
            let cut = &hex[..hex.len() - 2];
            assert_eq!(read(cut), Err(CborError::Syntax), "{cut}");
            assert_eq!(read(&format!("{hex}00")), Ok(hex.len() / 2));
        }
    }

    /// RFC 8949, appendix F, and lengths that lie.
    #[test]
    fn what_is_not_well_formed_is_refused() {
        for hex in [
            "1c",
            "3d",
            "5e",
            "7c",
            "9d",
            "be",
            "dc",
            "fe",
            "f800",
            "f818",
            "f81f",
            "1f",
            "3f",
            "df",
            "41",
            "61",
            "62ff00",
            "6180",
            "5bffffffffffffffff",
            "7b7fffffffffffffff00",
            "9bffffffffffffffff",
            "bbffffffffffffffff",
            "bb8000000000000000",
            "a1",
            "a101",
            "8201",
            "c0",
            "9a00ffffff00",
        ] {
            assert_eq!(read(hex), Err(CborError::Syntax), "{hex}");
        }
        for hex in ["5f42010243030405ff", "7fff", "9fff", "bf6161019fff", "ff", "81ff"] {
            assert!(matches!(read(hex), Err(CborError::Indefinite)), "{hex}");
        }
    }

    #[test]
    fn depth_is_bounded_and_tags_are_no_depth() {
        let nested = |depth: usize| [vec![0x81; depth], vec![0x00]].concat();
        assert_eq!(Reader::new(&nested(DEPTH_MAX)).raw().map(<[u8]>::len), Ok(DEPTH_MAX + 1));
        for depth in [DEPTH_MAX + 1, 1 << 20] {
            assert_eq!(Reader::new(&nested(depth)).raw(), Err(CborError::TooDeep));
        }
        let tagged = [vec![0xc1; 1 << 20], vec![0x00]].concat();
        assert_eq!(Reader::new(&tagged).raw().map(<[u8]>::len), Ok((1 << 20) + 1));
    }

    #[test]
    fn heads_are_short_and_read_back() {
        for number in [0, 23, 24, 255, 256, 65_535, 65_536, u32::MAX.into(), 1 << 32, i64::MAX] {
            let mut out = Vec::new();
            write_head(&mut out, Major::Unsigned, number as u64);
            assert_eq!(Item::of(&out), Item::Integer(number));
            out[0] |= (Major::Negative as u8) << 5;
            assert_eq!(Item::of(&out), Item::Integer(-1 - number));
        }
        let mut out = Vec::new();
        write_text(&mut out, "größe");
        assert_eq!((out[0], Item::of(&out)), (0x67, Item::Text("größe")));
        assert_eq!(Item::of(&bytes("1bffffffffffffffff")), Item::Other);
        assert_eq!(Item::of(&[NULL]), Item::Null);
        assert_eq!(Item::of(&bytes("c101")), Item::Other, "what a tag means is not looked at");
    }
}

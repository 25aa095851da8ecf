//! What a text in TOML says, as far as a configuration can say it: values, each with its section
//! and name. All of TOML is read: its strings, numbers, arrays, tables in a line and dotted keys.
//!
//! No section has a section in it but `bridge`, whose sections are taken as those of a dotted name.
//! What stands deeper is not told apart: it is a fault, whatever it is. Dates and times are known
//! for what they are, and not looked at.

/// What stands under a key.
pub(super) struct Entry<'a> {
    pub section: Option<String>,
    pub name: String,
    pub value: Value<'a>,
    /// The value as it was written.
    pub given: &'a str,
    /// The byte of the text where it begins.
    pub at: usize,
}

pub(super) enum Value<'a> {
    Text(String),
    /// A number or a truth value, without what only helps to read it.
    Bare(String),
    List(Vec<Value<'a>>),
    Table(Vec<Item<'a>>),
    /// A date, or a table under a header that no section has.
    Other,
}

/// A key of one part or more, and its value.
pub(super) struct Item<'a> {
    key: Vec<String>,
    value: Value<'a>,
    given: &'a str,
    at: usize,
}

/// The byte of the text where it breaks a rule.
pub(super) type Fault = (usize, Rule);
type Rule = &'static str;

/// Reads a text. After a fault it goes on with the next line.
pub(super) fn read(text: &str) -> (Vec<Entry<'_>>, Vec<Fault>) {
    let mut document = Document::default();
    let mut faults = Vec::new();
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.skip("\u{feff}");
    while !reader.rest().is_empty() {
        if let Err(fault) = reader.read_line(&mut document) {
            faults.push(fault);
            reader.depth = 0;
            let line = reader.rest().find('\n');
            reader.at += line.unwrap_or(reader.rest().len());
        }
    }
    document.end_section();
    (document.entries, faults)
}

/// What was read so far.
#[derive(Default)]
struct Document<'a> {
    entries: Vec<Entry<'a>>,
    /// Names that nothing can be added to: of values, of tables in a line, of headers.
    ended: Vec<String>,
    section: Option<String>,
    /// The header is at fault whatever stands under it.
    is_outside: bool,
    /// The header of the section, while nothing stands under it.
    header: Option<Entry<'a>>,
}

impl<'a> Document<'a> {
    fn add(&mut self, item: Item<'a>) -> Result<(), Rule> {
        self.header = None;
        let Item { mut key, value, given, at } = item;
        if self.is_outside {
            return Ok(());
        }
        let is_deeper = key.len() > if self.section.is_some() { 1 } else { 2 };
        let value = if is_deeper { Value::Other } else { value };
        if let Some(section) = self.section.clone() {
            return self.put(Some(section), key.swap_remove(0), value, given, at);
        }
        if key.len() > 1 {
            let name = key.swap_remove(1);
            let section = key.swap_remove(0);
            if self.ended.contains(&section) {
                return Err(TWICE);
            }
            return self.put(Some(section), name, value, given, at);
        }
        let name = key.swap_remove(0);
        if self.has_section(&name) {
            return Err(TWICE);
        }
        match value {
            Value::Table(inside) if !inside.is_empty() => {
                for Item { key, value, given, at } in inside {
                    let key = std::iter::once(name.clone()).chain(key).collect();
                    self.add(Item { key, value, given, at })?;
                }
            }
            value => self.put(None, name.clone(), value, given, at)?,
        }
        self.ended.push(name);
        Ok(())
    }

    fn put(
        &mut self,
        section: Option<String>,
        name: String,
        value: Value<'a>,
        given: &'a str,
        at: usize,
    ) -> Result<(), Rule> {
        let is_same = |other: &Entry| other.section == section && other.name == name;
        if self.entries.iter().any(is_same) {
            return Err(TWICE);
        }
        self.entries.push(Entry { section, name, value, given, at });
        Ok(())
    }

    fn has_section(&self, name: &str) -> bool {
        self.entries.iter().any(|entry| entry.section.as_deref() == Some(name))
    }

    /// Begins what stands under a header.
    fn begin(&mut self, item: Item<'a>, is_array: bool) -> Result<(), Rule> {
        self.end_section();
        let Item { mut key, given, at, .. } = item;
        if let [first, name] = &key[..]
            && first == BRIDGE
            && !name.contains('.')
        {
            key = vec![format!("{BRIDGE}.{name}")];
        }
        self.is_outside = is_array || key.len() > 1;
        let deeper = (key.len() > 1).then(|| key.swap_remove(1));
        let first = key.swap_remove(0);
        if self.is_outside {
            self.section = None;
            let (section, name) = match deeper {
                Some(name) => (Some(first), name),
                None => (None, first),
            };
            self.entries.push(Entry { section, name, value: Value::Other, given, at });
            return Ok(());
        }
        self.section = Some(first.clone());
        if self.ended.contains(&first) || self.has_section(&first) {
            return Err(TWICE);
        }
        self.ended.push(first.clone());
        let value = Value::Table(Vec::new());
        self.header = Some(Entry { section: None, name: first, value, given, at });
        Ok(())
    }

    /// A section without keys is told by its header.
    fn end_section(&mut self) {
        self.entries.extend(self.header.take());
    }
}

/// The section of which each section in it has the same keys.
const BRIDGE: &str = "bridge";

struct Reader<'a> {
    text: &'a str,
    at: usize,
    /// Arrays and tables that are open.
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    /// Passes over this, if it comes next.
    fn skip(&mut self, what: &str) -> bool {
        let is_next = self.rest().starts_with(what);
        self.at += if is_next { what.len() } else { 0 };
        is_next
    }

    /// Passes over this, which must come next.
    fn expect(&mut self, what: &str, rule: Rule) -> Result<(), Fault> {
        if self.skip(what) { Ok(()) } else { Err((self.at, rule)) }
    }

    fn skip_blanks(&mut self) {
        self.at = self.text.len() - self.rest().trim_start_matches([' ', '\t']).len();
    }

    fn is_line_end(&self) -> bool {
        let rest = self.rest();
        rest.is_empty() || rest.starts_with('\n') || rest.starts_with("\r\n")
    }

    /// Passes over blanks and a comment up to the end of the line, where nothing else may be.
    fn skip_comment(&mut self) -> Result<(), Fault> {
        self.skip_blanks();
        if self.skip("#") {
            while let (false, Some(c)) = (self.is_line_end(), self.rest().chars().next()) {
                if is_control(c) {
                    return Err((self.at, CONTROL));
                }
                self.at += c.len_utf8();
            }
        }
        if self.is_line_end() { Ok(()) } else { Err((self.at, "only a comment may follow")) }
    }

    /// Passes over blanks, comments and ends of lines.
    fn skip_lines(&mut self) -> Result<(), Fault> {
        loop {
            self.skip_blanks();
            if self.rest().starts_with('#') {
                self.skip_comment()?;
            }
            if !self.skip("\n") && !self.skip("\r\n") {
                return Ok(());
            }
        }
    }

    /// Reads a line, or the end of one.
    fn read_line(&mut self, document: &mut Document<'a>) -> Result<(), Fault> {
        self.skip_lines()?;
        let at = self.at;
        if self.rest().is_empty() {
            return Ok(());
        }
        if self.skip("[") {
            let is_array = self.skip("[");
            let key = self.read_key()?;
            self.expect(if is_array { "]]" } else { "]" }, "a section ends with ]")?;
            let given = &self.text[at..self.at];
            self.skip_comment()?;
            let header = Item { key, value: Value::Other, given, at };
            return document.begin(header, is_array).map_err(|rule| (at, rule));
        }
        let item = self.read_item()?;
        let at = item.at;
        self.skip_comment()?;
        document.add(item).map_err(|rule| (at, rule))
    }

    fn read_item(&mut self) -> Result<Item<'a>, Fault> {
        let key = self.read_key()?;
        self.expect("=", "must be key = value, or [section]")?;
        self.skip_blanks();
        let at = self.at;
        let value = self.read_value()?;
        Ok(Item { key, value, given: &self.text[at..self.at], at })
    }

    /// Reads a key with its dots and the blanks around it. It has one part at least.
    fn read_key(&mut self) -> Result<Vec<String>, Fault> {
        let mut parts = Vec::new();
        loop {
            self.skip_blanks();
            let rest = self.rest();
            let len = rest.bytes().take_while(|byte| is_bare_key(*byte)).count();
            parts.push(match rest.bytes().next() {
                Some(b'"') => self.read_string()?,
                Some(b'\'') => self.read_literal()?,
                _ if len == 0 => return Err((self.at, "a key is letters, digits, - and _")),
                _ => rest[..len].into(),
            });
            self.at += len;
            self.skip_blanks();
            if !self.skip(".") {
                return Ok(parts);
            }
        }
    }

    fn read_value(&mut self) -> Result<Value<'a>, Fault> {
        match self.rest().bytes().next() {
            Some(b'"') if self.rest().starts_with("\"\"\"") => self.read_long('"').map(Value::Text),
            Some(b'\'') if self.rest().starts_with("'''") => self.read_long('\'').map(Value::Text),
            Some(b'"') => self.read_string().map(Value::Text),
            Some(b'\'') => self.read_literal().map(Value::Text),
            Some(b'[' | b'{') => {
                self.depth += 1;
                if self.depth > DEPTH_MAX {
                    return Err((self.at, "arrays and tables are nested too deeply"));
                }
                let value = self.read_group();
                self.depth -= 1;
                value
            }
            _ => {
                let ends = [' ', '\t', '\r', '\n', ',', ']', '}', '#'];
                let word = self.rest();
                let word = &word[..word.find(ends).unwrap_or(word.len())];
                let value = bare(word).ok_or((self.at, NO_VALUE))?;
                self.at += word.len();
                Ok(value)
            }
        }
    }

    /// Reads an array, or a table in a line.
    fn read_group(&mut self) -> Result<Value<'a>, Fault> {
        let is_array = self.skip("[");
        let _ = is_array || self.skip("{");
        let end = if is_array { "]" } else { "}" };
        let (mut values, mut items) = (Vec::new(), Vec::new());
        self.skip_lines()?;
        while !self.skip(end) {
            match is_array {
                true => values.push(self.read_value()?),
                false => items.push(self.read_item()?),
            }
            self.skip_lines()?;
            if !self.skip(",") && !self.rest().starts_with(end) {
                return Err((self.at, "commas stand between values, and ] or } at their end"));
            }
            self.skip_lines()?;
        }
        Ok(if is_array { Value::List(values) } else { Value::Table(items) })
    }

    /// Reads a text between single quotes.
    fn read_literal(&mut self) -> Result<String, Fault> {
        let inner = &self.rest()[1..];
        let len = inner.find(|c| c == '\'' || is_control(c));
        let len = len.filter(|len| inner[*len..].starts_with('\'')).ok_or((self.at, NO_END))?;
        self.at += len + 2;
        Ok(inner[..len].into())
    }

    /// Reads a text between double quotes.
    fn read_string(&mut self) -> Result<String, Fault> {
        let began = self.at;
        self.at += 1;
        let mut text = String::new();
        while let Some(c) = self.rest().chars().next() {
            match c {
                '"' => {
                    self.at += 1;
                    return Ok(text);
                }
                '\\' => text.push(self.read_escape()?),
                c if is_control(c) => break,
                c => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
            }
        }
        Err((began, NO_END))
    }

    /// Reads a text of several lines, between three quotes of this kind.
    fn read_long(&mut self, quote: char) -> Result<String, Fault> {
        let began = self.at;
        self.at += 3;
        let mut text = String::new();
        // The end of the first line is no part of it.
        let _ = self.skip("\n") || self.skip("\r\n");
        while let Some(c) = self.rest().chars().next() {
            let rest = self.rest();
            // Up to two quotes may stand in it before the three that end it.
            let quotes = rest.chars().take(5).take_while(|c| *c == quote).count();
            let folded = rest.get(1..).unwrap_or_default().trim_start_matches([' ', '\t']);
            let folds = folded.starts_with('\n') || folded.starts_with("\r\n");
            match c {
                _ if quotes > 0 => {
                    self.at += quotes;
                    text.extend(std::iter::repeat_n(quote, quotes - quotes / 3 * 3));
                    if quotes >= 3 {
                        return Ok(text);
                    }
                }
                '\\' if quote == '"' && folds => {
                    self.at += 1;
                    self.skip_blanks();
                    while self.skip("\n") || self.skip("\r\n") {
                        self.skip_blanks();
                    }
                }
                '\\' if quote == '"' => text.push(self.read_escape()?),
                c if is_control(c) && !self.is_line_end() => return Err((self.at, CONTROL)),
                c => {
                    self.at += c.len_utf8();
                    text.push(c);
                }
            }
        }
        Err((began, NO_END))
    }

    /// Reads a backslash and what it stands for.
    fn read_escape(&mut self) -> Result<char, Fault> {
        const RULE: Rule = "there is no such escape";
        let rest = self.rest().as_bytes();
        let (c, digits) = match rest.get(1) {
            Some(b'b') => ('\u{8}', 0),
            Some(b't') => ('\t', 0),
            Some(b'n') => ('\n', 0),
            Some(b'f') => ('\u{c}', 0),
            Some(b'r') => ('\r', 0),
            Some(b'e') => ('\u{1b}', 0),
            Some(b'"') => ('"', 0),
            Some(b'\\') => ('\\', 0),
            Some(b'x') => ('x', 2),
            Some(b'u') => ('u', 4),
            Some(b'U') => ('U', 8),
            _ => return Err((self.at, RULE)),
        };
        let code = rest.get(2..2 + digits).unwrap_or_default();
        let code = (!code.is_empty() && code.iter().all(u8::is_ascii_hexdigit))
            .then(|| std::str::from_utf8(code).ok())
            .flatten()
            .and_then(|code| u32::from_str_radix(code, 16).ok());
        let c = if digits == 0 { Some(c) } else { code.and_then(char::from_u32) };
        let c = c.ok_or((self.at, RULE))?;
        self.at += 2 + digits;
        Ok(c)
    }
}

/// Returns what stands without quotes.
fn bare(word: &str) -> Option<Value<'static>> {
    let bytes = word.as_bytes();
    let digits = bytes.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let is_date = matches!((digits, bytes.get(digits)), (4, Some(b'-')) | (2, Some(b':')));
    if is_date {
        return Some(Value::Other);
    }
    let is_word = matches!(word, "true" | "false");
    if is_word { Some(Value::Bare(word.into())) } else { number(word).map(Value::Bare) }
}

/// Returns a number as the keys read it, in decimal.
fn number(word: &str) -> Option<String> {
    let radix = match word.get(..2) {
        Some("0x") => 16,
        Some("0o") => 8,
        Some("0b") => 2,
        _ => 10,
    };
    let plain: String = word.chars().filter(|c| *c != '_').collect();
    if radix != 10 {
        let number = u64::from_str_radix(&plain[2..], radix);
        // One that is too large is no key's.
        return is_digits(&word[2..], radix).then(|| number.map_or(plain, |n| n.to_string()));
    }
    let plain = plain.strip_prefix('+').unwrap_or(&plain);
    let unsigned = word.strip_prefix(['+', '-']).unwrap_or(word);
    if matches!(unsigned, "inf" | "nan") {
        return Some(plain.into());
    }
    let (rest, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((rest, exponent)) => (rest, Some(exponent)),
        None => (unsigned, None),
    };
    let exponent = exponent.map(|digits| digits.strip_prefix(['+', '-']).unwrap_or(digits));
    let (whole, fraction) = match rest.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (rest, None),
    };
    let is_short = whole == "0" || !whole.starts_with('0');
    let parts = [Some(whole), fraction, exponent];
    let is_number = is_short && parts.into_iter().flatten().all(|part| is_digits(part, 10));
    let plain = if plain == "-0" { "0" } else { plain };
    is_number.then(|| plain.into())
}

/// Underscores may stand between digits.
fn is_digits(text: &str, radix: u32) -> bool {
    text.split('_').all(|part| !part.is_empty() && part.chars().all(|c| c.is_digit(radix)))
}

fn is_bare_key(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_".contains(&byte)
}

fn is_control(c: char) -> bool {
    (c < ' ' && c != '\t') || c == '\u{7f}'
}

const TWICE: Rule = "duplicate key";
const NO_VALUE: Rule = "a value is a number, true, false, \"text\" or [\"text\", \"text\"]";
const NO_END: Rule = "a text ends with a quote, on its line";
const CONTROL: Rule = "control characters are not text";
const DEPTH_MAX: usize = 16;

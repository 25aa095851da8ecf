//! Is the decoder at least as fast as tungstenite's context over the same bytes, at each size?
//!
//! Figure to beat: `tungstenite`, measured beside it. Both take the bytes from a reader that gives
//! up to 64 KiB at a time, as a socket would, so that copies out of a read buffer count on both
//! sides; both deliver each message in memory of its own.
//!
//! Expected: about 0.7 of its time up to 1 KiB, 0.8 to 1.0 up to 64 KiB, the same for 1 MiB of
//! bytes. 1 MiB of text takes 1.15 and more: it is checked and copied piece by piece, where
//! tungstenite takes the announced length on trust and reads into one piece of that length.

use std::io::{self, ErrorKind, Read, Write};

use divan::{Bencher, black_box, counter::BytesCount};
use heartwheel::core::wire::ws::{self, Decoder, Incoming, Limits};
use tungstenite::protocol::{Role, WebSocketConfig, WebSocketContext};

fn main() {
    divan::main();
}

const SIZES: [usize; 6] = [16, 125, 1024, 16 * 1024, 64 * 1024, 1024 * 1024];
const READ_BYTES: usize = 64 * 1024;

/// What the messages are made of.
trait Content {
    /// The first byte of the frames.
    const FIRST: u8;
    /// Repeated to the length of the message.
    const PATTERN: &'static [u8];
}

struct Binary;
struct Ascii;
struct Cyrillic;

impl Content for Binary {
    const FIRST: u8 = 0x82;
    const PATTERN: &'static [u8] = &[0xa5, 0x00, 0xff];
}

impl Content for Ascii {
    const FIRST: u8 = 0x81;
    const PATTERN: &'static [u8] = b"{\"temperature\":21.5},";
}

impl Content for Cyrillic {
    const FIRST: u8 = 0x81;
    const PATTERN: &'static [u8] = "щука ".as_bytes();
}

#[divan::bench(types = [Binary, Ascii, Cyrillic], args = SIZES)]
fn heartwheel<C: Content>(bencher: Bencher, size: usize) {
    let (bytes, messages) = stream::<C>(size);
    let limits = Limits { message_bytes: 16 << 20, fragments: 1024 };
    let mut decoder = Decoder::default();
    let mut buffer = vec![0; READ_BYTES];
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        let mut socket = Socket(&bytes);
        let mut received = 0;
        while !socket.0.is_empty() {
            let read = socket.read(&mut buffer).unwrap();
            let mut rest = &mut buffer[..read];
            while !rest.is_empty() {
                let (used, item) = decoder.decode(ws::Role::Server, rest, &limits).unwrap();
                received += usize::from(deliver(item));
                rest = &mut rest[used..];
            }
        }
        assert_eq!(received, messages);
    });
}

fn deliver(item: Option<Incoming>) -> bool {
    let Some(Incoming::Message(message)) = item else { return false };
    black_box(message);
    true
}

#[divan::bench(types = [Binary, Ascii, Cyrillic], args = SIZES)]
fn tungstenite<C: Content>(bencher: Bencher, size: usize) {
    let (bytes, messages) = stream::<C>(size);
    let config = WebSocketConfig::default().read_buffer_size(READ_BYTES);
    let mut context = WebSocketContext::new(Role::Server, Some(config));
    bencher.counter(BytesCount::new(bytes.len())).bench_local(|| {
        let mut socket = Socket(&bytes);
        for _ in 0..messages {
            black_box(context.read(&mut socket).unwrap());
        }
        assert!(socket.0.is_empty());
    });
}

/// Makes whole messages of `size` bytes, as many as fill a read, and says how many they are.
fn stream<C: Content>(size: usize) -> (Vec<u8>, usize) {
    const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
    let mut frame = match size {
        0..=125 => vec![C::FIRST, 0x80 | size as u8],
        126..=0xffff => [&[C::FIRST, 0xfe][..], &(size as u16).to_be_bytes()].concat(),
        _ => [&[C::FIRST, 0xff][..], &(size as u64).to_be_bytes()].concat(),
    };
    frame.extend(MASK);
    let mut payload = C::PATTERN.repeat(size / C::PATTERN.len());
    payload.resize(size, b' ');
    frame.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, key)| byte ^ key));
    let messages = (READ_BYTES / frame.len()).max(1);
    (frame.repeat(messages), messages)
}

/// Gives the bytes, at most [`READ_BYTES`] at a time, and swallows what is written.
struct Socket<'a>(&'a [u8]);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.0.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        let length = buffer.len().min(READ_BYTES);
        self.0.read(&mut buffer[..length])
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

//! The client's end of a link, of a client that may have agreed on compression.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;

use crate::common::frame::frame_unmasked;
use crate::link::Link;
use crate::window::{RSV1, Window};
use crate::witness::payload_of;

/// The client's end of a link. What comes compressed is inflated here: the client behind it knows
/// nothing of that.
pub struct ClientEnd {
    link: Rc<RefCell<Link>>,
    window: Option<Window>,
    /// Bytes of frames that are not complete.
    came: Vec<u8>,
    ready: VecDeque<u8>,
}

impl ClientEnd {
    /// Makes an end, of which `came` has been read with the head.
    pub fn new(link: Rc<RefCell<Link>>, window: Option<Window>, came: Vec<u8>) -> ClientEnd {
        let mut end = ClientEnd { link, window, came, ready: VecDeque::new() };
        end.take_frames();
        end
    }

    /// Says whether the client may send compressed messages.
    pub fn compresses(&self) -> bool {
        self.window.is_some()
    }

    fn take_frames(&mut self) {
        let Some(window) = &mut self.window else {
            self.ready.extend(self.came.drain(..));
            return;
        };
        let mut used = 0;
        while let Some((len, first, payload)) = payload_of(&self.came[used..]) {
            let frame = &self.came[used..used + len];
            used += len;
            match first & RSV1 {
                0 => self.ready.extend(frame),
                _ => self.ready.extend(frame_unmasked(first & !RSV1, &window.inflate(payload))),
            }
        }
        self.came.drain(..used);
    }
}

impl Read for ClientEnd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut bytes = [0; 4096];
        while self.ready.is_empty() {
            let len = Read::read(&mut *self.link.borrow_mut(), &mut bytes)?;
            if len == 0 {
                return Ok(0);
            }
            self.came.extend_from_slice(&bytes[..len]);
            self.take_frames();
        }
        self.ready.read(buffer)
    }
}

impl Write for ClientEnd {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Write::write(&mut *self.link.borrow_mut(), bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a peer offers; nothing, if it is not to be compressed for. `number` is any of the peer's.
pub fn offer(number: u64) -> &'static str {
    if !cfg!(feature = "deflate") {
        return "";
    }
    match number % 8 {
        0..3 => "Sec-WebSocket-Extensions: permessage-deflate\r\n",
        3 => "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=10\r\n",
        4 => "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n",
        _ => "",
    }
}

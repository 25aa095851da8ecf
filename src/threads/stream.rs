//! Answers that are sent over time: bodies and event streams that any thread may write, and bodies
//! that are asked for piece by piece.
//!
//! What is written waits in a queue of at most `limits.outbox_bytes`, from which the loop takes a
//! piece when the last one is with the kernel. A writer that is faster than its reader is told that
//! there is no room, or waits.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tungstenite::Bytes;

use crate::core::wire::http::{Next, PIECE_BYTES, Response, Shape, Source, Waker};
use crate::core::wire::sse;
use crate::threads::command_queue::is_in_a_call;
use crate::threads::record::Record;

/// Writes the body of an answer, from any thread. See [`Response::stream`].
///
/// A body that is dropped before [`Body::end`] is cut off: its connection ends with a reset, for
/// the reason `cut`, so that no client takes the part for the whole.
#[derive(Debug)]
pub struct Body {
    channel: Arc<Channel>,
}

/// Writes an event stream, from any thread. See [`Response::events`].
///
/// When it is dropped the stream ends.
#[derive(Debug)]
pub struct Events {
    body: Body,
}

/// Why a piece was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum StreamError {
    /// There is no room: the client reads more slowly than this is written. Try again later.
    Full,
    /// The answer has ended: the client is gone, or a deadline or a drain has ended it.
    Ended,
    /// The id or the name of a record has CR, LF or NUL.
    Field,
}

impl fmt::Display for StreamError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StreamError::Full => "there is no room for more",
            StreamError::Ended => "the answer has ended",
            StreamError::Field => "an id or a name of a record is one line without NUL",
        })
    }
}

impl std::error::Error for StreamError {}

impl Response {
    /// Has the body be written over time, by any thread: in chunks, or, to HTTP/1.0, until the
    /// connection is closed. The answer begins when the handler returns it.
    ///
    /// While nothing waits for the client the next piece must come within `deadlines.stream`, else
    /// the connection ends for the reason `stream`.
    ///
    /// ```
    /// use heartwheel::{Route, http::{Request, Response}};
    ///
    /// let route = Route::get("/numbers", |_: &Request| {
    ///     let (response, body) = Response::new(200).stream("text/plain");
    ///     std::thread::spawn(move || {
    ///         for number in 1..=1_000_000 {
    ///             body.send(format!("{number}\n"))?;
    ///         }
    ///         body.end();
    ///         Ok::<(), heartwheel::StreamError>(())
    ///     });
    ///     response
    /// });
    /// ```
    ///
    /// # Panics
    ///
    /// If the type has a control character.
    pub fn stream(self, content_type: impl Into<Cow<'static, str>>) -> (Response, Body) {
        self.written(content_type, Shape { length: None, is_events: false })
    }

    /// As [`Response::stream`], for a body of so many bytes: `Content-Length` tells them. If other
    /// than so many come, the connection ends with a reset, for the reason `cut`.
    ///
    /// # Panics
    ///
    /// As [`Response::stream`].
    pub fn stream_of(
        self,
        content_type: impl Into<Cow<'static, str>>,
        length: u64,
    ) -> (Response, Body) {
        self.written(content_type, Shape { length: Some(length), is_events: false })
    }

    /// Has the body be an event stream that any thread writes. The library sends comments as
    /// `heartbeat.comment` says, so a client that is gone is noticed. A drain ends the stream, and
    /// tells its client when to come back.
    ///
    /// ```
    /// use heartwheel::{Record, Route, http::{Request, Response}};
    ///
    /// let route = Route::get("/clock", |_: &Request| {
    ///     let (response, events) = Response::new(200).events();
    ///     std::thread::spawn(move || {
    ///         for second in 0.. {
    ///             events.send(&Record::data(second.to_string()))?;
    ///             std::thread::sleep(std::time::Duration::from_secs(1));
    ///         }
    ///         Ok::<(), heartwheel::StreamError>(())
    ///     });
    ///     response
    /// });
    /// ```
    pub fn events(self) -> (Response, Events) {
        let shape = Shape { length: None, is_events: true };
        let (response, body) = self.written(sse::CONTENT_TYPE, shape);
        let response = response.header("Cache-Control", "no-store, no-transform");
        let response = response.and_then(|response| response.header("X-Accel-Buffering", "no"));
        body.channel.lock().ends_when_dropped = true;
        (response.expect("these are good header lines"), Events { body })
    }

    /// Has the body be asked for piece by piece, where the route's handler runs: `next` is given
    /// how many bytes are wanted and returns about as many, or none at the end. It may block. It is
    /// not asked while the client has not taken the piece before, so a body of any length costs the
    /// memory of a piece, and no thread waits for the client.
    ///
    /// Each piece must come within `deadlines.stream`; an error cuts the body off, for the reason
    /// `cut`.
    ///
    /// # Panics
    ///
    /// As [`Response::stream`].
    pub fn pieces(
        self,
        content_type: impl Into<Cow<'static, str>>,
        next: impl FnMut(usize) -> io::Result<Bytes> + Send + 'static,
    ) -> Response {
        let shape = Shape { length: None, is_events: false };
        self.sourced(content_type, shape, Box::new(Pieces(Mutex::new(next))))
    }

    fn written(self, content_type: impl Into<Cow<'static, str>>, shape: Shape) -> (Response, Body) {
        let channel = Arc::new(Channel::default());
        let source = Box::new(Written(channel.clone()));
        (self.sourced(content_type, shape, source), Body { channel })
    }
}

impl Body {
    /// Sends a piece. If there is no room, it waits until there is; in a handler's call it does not
    /// wait. No bytes are no piece.
    ///
    /// # Errors
    ///
    /// [`StreamError::Ended`]; and [`StreamError::Full`] in a handler's call, which must return
    /// before anything can leave.
    pub fn send(&self, piece: impl Into<Bytes>) -> Result<(), StreamError> {
        let piece = piece.into();
        loop {
            match self.channel.push(&piece) {
                Err(StreamError::Full) if !is_in_a_call() => self.channel.wait_for_room(),
                result => return result,
            }
        }
    }

    /// Sends a piece, without waiting.
    ///
    /// # Errors
    ///
    /// [`StreamError::Full`] if `limits.outbox_bytes` wait already, or if too many commands are
    /// under way; [`StreamError::Ended`].
    pub fn try_send(&self, piece: impl Into<Bytes>) -> Result<(), StreamError> {
        self.channel.push(&piece.into())
    }

    /// Ends the body: it is complete.
    pub fn end(self) {
        self.channel.end(Writer::Ended);
    }

    /// Returns whether the client still gets what is sent.
    pub fn is_open(&self) -> bool {
        !self.channel.lock().is_over
    }

    /// Returns the bytes that were sent and that the loop has not taken. After the end of the
    /// answer these are the bytes that were lost.
    pub fn waiting_bytes(&self) -> usize {
        self.channel.lock().bytes
    }

    /// Has `hook` be called when there is room after [`StreamError::Full`], and when the answer has
    /// ended. It is called on the loop's thread, and must not block.
    pub fn on_room(&self, hook: impl Fn() + Send + Sync + 'static) {
        let hook: Arc<Hook> = Arc::new(hook);
        let mut state = self.channel.lock();
        state.hook = Some(hook.clone());
        let is_over = state.is_over;
        drop(state);
        if is_over {
            hook();
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.channel.end(Writer::Gone);
    }
}

impl Events {
    /// Sends a record, as [`Body::send`] does.
    ///
    /// # Errors
    ///
    /// As [`Body::send`]; and [`StreamError::Field`].
    pub fn send(&self, record: &Record) -> Result<(), StreamError> {
        self.body.send(record.encode()?)
    }

    /// Sends a record, without waiting.
    ///
    /// # Errors
    ///
    /// As [`Body::try_send`]; and [`StreamError::Field`].
    pub fn try_send(&self, record: &Record) -> Result<(), StreamError> {
        self.body.try_send(record.encode()?)
    }

    /// Ends the stream, as dropping it does. Its client comes back after a while.
    pub fn end(self) {
        self.body.end();
    }

    /// Returns whether the client still gets what is sent.
    pub fn is_open(&self) -> bool {
        self.body.is_open()
    }

    /// As [`Body::waiting_bytes`].
    pub fn waiting_bytes(&self) -> usize {
        self.body.waiting_bytes()
    }

    /// As [`Body::on_room`].
    pub fn on_room(&self, hook: impl Fn() + Send + Sync + 'static) {
        self.body.on_room(hook);
    }
}

/// What a writer and the loop share.
#[derive(Default)]
struct Channel {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    pieces: VecDeque<Bytes>,
    /// The bytes of the pieces.
    bytes: usize,
    /// How many bytes there may be; before the answer has begun, those of a piece.
    room: Option<usize>,
    /// Wakes the loop.
    waker: Option<Waker>,
    /// The loop was given all and waits to be woken.
    is_awaited: bool,
    /// A writer was told that there is no room.
    was_full: bool,
    writer: Writer,
    /// A writer that is dropped has ended the body.
    ends_when_dropped: bool,
    /// Nothing more is taken.
    is_over: bool,
    hook: Option<Arc<Hook>>,
}

type Hook = dyn Fn() + Send + Sync;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Writer {
    #[default]
    Writing,
    /// It has ended the body.
    Ended,
    /// It was dropped.
    Gone,
}

impl Channel {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code of the application runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, piece: &Bytes) -> Result<(), StreamError> {
        let mut state = self.lock();
        if state.is_over {
            return Err(StreamError::Ended);
        }
        if piece.is_empty() {
            return Ok(());
        }
        let room = state.room.unwrap_or(PIECE_BYTES);
        let is_full = state.bytes > 0 && state.bytes.saturating_add(piece.len()) > room;
        if is_full || !state.wake() {
            state.was_full = true;
            return Err(StreamError::Full);
        }
        state.bytes += piece.len();
        state.pieces.push_back(piece.clone());
        Ok(())
    }

    /// Waits until there may be room, or until nothing more is taken.
    fn wait_for_room(&self) {
        let state = self.lock();
        if state.was_full && !state.is_over {
            // A lost wake-up costs a look, no more.
            drop(self.changed.wait_timeout(state, LOOK_AFTER));
        }
    }

    fn end(&self, writer: Writer) {
        let mut state = self.lock();
        if state.writer == Writer::Writing {
            let ends = writer == Writer::Ended || state.ends_when_dropped;
            state.writer = if ends { Writer::Ended } else { Writer::Gone };
            // If the loop cannot be told now, the deadline of the stream asks again.
            state.wake();
        }
    }
}

impl State {
    /// Wakes the loop if it waits for that. Returns false if it could not be woken.
    fn wake(&mut self) -> bool {
        if !self.is_awaited {
            return true;
        }
        let is_told = self.waker.as_ref().is_none_or(|waker| waker());
        self.is_awaited = !is_told;
        is_told
    }

    /// Takes pieces of about `most` bytes together, at least one.
    fn take(&mut self, most: usize) -> Option<Bytes> {
        let first = self.pieces.pop_front()?;
        let follows = |pieces: &VecDeque<Bytes>, len: usize| {
            pieces.front().is_some_and(|next| len + next.len() <= most)
        };
        let taken = match follows(&self.pieces, first.len()) {
            false => first,
            true => {
                let mut joined = Vec::from(first);
                while follows(&self.pieces, joined.len()) {
                    joined.extend_from_slice(&self.pieces.pop_front().unwrap_or_default());
                }
                joined.into()
            }
        };
        self.bytes -= taken.len();
        Some(taken)
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Channel")
    }
}

/// The loop's end of a body that is written.
struct Written(Arc<Channel>);

impl Source for Written {
    fn attach(&mut self, waker: &mut dyn FnMut() -> Waker) {
        self.0.lock().waker = Some(waker());
    }

    fn begin(&mut self, room: usize, _: bool) {
        self.0.lock().room = Some(room);
        self.0.changed.notify_all();
    }

    fn next(&mut self, most: usize) -> Next {
        let mut state = self.0.lock();
        let Some(piece) = state.take(most) else {
            return match state.writer {
                Writer::Writing => {
                    state.is_awaited = true;
                    Next::Waiting
                }
                Writer::Ended => Next::End,
                Writer::Gone => Next::Broken,
            };
        };
        let hook = std::mem::take(&mut state.was_full).then(|| state.hook.clone()).flatten();
        drop(state);
        self.0.changed.notify_all();
        if let Some(hook) = hook {
            hook();
        }
        Next::Piece(piece)
    }

    fn is_quick(&self) -> bool {
        true
    }

    fn held_bytes(&self) -> usize {
        self.0.lock().bytes
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_over = true;
        state.waker = None;
        state.pieces = VecDeque::new();
        let hook = state.hook.take();
        drop(state);
        self.0.changed.notify_all();
        if let Some(hook) = hook {
            hook();
        }
    }
}

/// A body that is asked for.
struct Pieces<F>(Mutex<F>);

impl<F: FnMut(usize) -> io::Result<Bytes> + Send> Source for Pieces<F> {
    fn next(&mut self, most: usize) -> Next {
        let next = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        match next(most) {
            Ok(piece) if piece.is_empty() => Next::End,
            Ok(piece) => Next::Piece(piece),
            Err(_) => Next::Broken,
        }
    }

    fn is_quick(&self) -> bool {
        false
    }
}

/// How long a writer waits before it looks for room by itself.
const LOOK_AFTER: Duration = Duration::from_millis(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_writer_is_told_that_there_is_no_room_and_when_there_is() {
        let (mut response, body) = Response::new(200).stream("text/plain");
        let (_, mut source) = response.take_source(false).unwrap();
        let calls = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let count = calls.clone();
        body.on_room(move || {
            count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
        source.begin(10, false);
        assert_eq!(body.try_send("0123456789abcdef"), Ok(()), "an empty queue takes any piece");
        assert_eq!(body.try_send("x"), Err(StreamError::Full));
        assert_eq!(source.held_bytes(), 16);
        assert_eq!(source.next(4), Next::Piece("0123456789abcdef".into()));
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 1);
        for piece in ["1", "", "23", "4567"] {
            assert_eq!(body.try_send(piece), Ok(()));
        }
        assert_eq!(source.next(4), Next::Piece("123".into()));
        assert_eq!(source.next(4), Next::Piece("4567".into()));
        assert_eq!(source.next(4), Next::Waiting);
        assert_eq!(body.try_send("lost"), Ok(()));
        drop(source);
        assert_eq!(body.try_send("x"), Err(StreamError::Ended));
        assert_eq!((body.waiting_bytes(), body.is_open()), (4, false));
        assert_eq!(calls.load(std::sync::atomic::Ordering::Relaxed), 2);
    }

    #[test]
    fn a_body_ends_or_is_cut_off_and_events_end() {
        for (is_ended, next) in [(true, Next::End), (false, Next::Broken)] {
            let (mut response, body) = Response::new(200).stream("text/plain");
            let (_, mut source) = response.take_source(false).unwrap();
            body.try_send("a").unwrap();
            if is_ended {
                body.end()
            } else {
                drop(body)
            }
            assert_eq!((source.next(9), source.next(9)), (Next::Piece("a".into()), next));
        }
        let (mut response, events) = Response::new(200).events();
        let (_, mut source) = response.take_source(false).unwrap();
        drop(events);
        assert_eq!(source.next(9), Next::End);
    }

    #[test]
    fn a_writer_on_a_thread_waits_for_room() {
        let (mut response, body) = Response::new(200).stream("text/plain");
        let (_, mut source) = response.take_source(false).unwrap();
        source.begin(1000, false);
        let thread = std::thread::spawn(move || {
            (0..1000).for_each(|_| body.send(vec![7; 100]).unwrap());
            body.end();
        });
        let mut len = 0;
        loop {
            assert!(source.held_bytes() <= 1000);
            match source.next(300) {
                Next::Piece(piece) => len += piece.len(),
                Next::Waiting => std::thread::yield_now(),
                next => break assert_eq!(next, Next::End),
            }
        }
        assert_eq!(len, 100_000);
        thread.join().unwrap();
    }
}

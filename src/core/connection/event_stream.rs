//! An event stream: an answer that goes on. Nothing more is expected of its peer.

use crate::core::connection::Connection;
use crate::core::connection::flags::Carrier;
use crate::core::ground::time::{Instant, Moment};
use crate::core::observe::stats::Transport;
use crate::core::wire::frame::Frame;

/// An event stream.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EventStream {
    /// The stream goes in chunks (RFC 9112, 7.1), or, for HTTP/1.0, ends with the connection.
    pub is_chunked: bool,
    /// When something was last queued for it: a comment is due some time later.
    pub queued_at: Moment,
}

impl Connection {
    /// Makes an event stream of a request whose answer has been begun.
    pub fn begin_stream(&mut self, now: Instant, is_chunked: bool) {
        debug_assert_eq!(self.flags.transport(), Transport::Http, "it becomes a stream once");
        self.flags.carrier = Carrier::EventStream;
        self.enter(now, EventStream { is_chunked, queued_at: now.into() });
    }

    /// Returns whether the connection is an event stream whose end is told by a chunk.
    pub fn ends_by_chunk(&self) -> bool {
        self.stream().is_some_and(|stream| stream.is_chunked)
    }

    /// Returns a frame as this connection sends it. Pieces of event streams are encoded once, as
    /// chunks. A peer that speaks HTTP/1.0 gets only the content of the chunks.
    #[inline]
    pub fn framed(&self, frame: Frame) -> Frame {
        match self.stream() {
            Some(EventStream { is_chunked: false, .. }) => frame.without_chunk(),
            _ => frame,
        }
    }

    /// Takes note that something was queued for the peer.
    #[inline]
    pub fn note_queued(&mut self, now: Instant) {
        if let Some(stream) = self.stream_mut() {
            stream.queued_at = now.into();
        }
    }
}

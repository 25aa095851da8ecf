//! The answer to a plain request, read as its bytes come.

use crate::core::client::ask::{Answer, Ask};
use crate::core::wire::http::{
    Asked, BodyReader, HeadLimits, Refusal, ResponseError, ResponseHead, ResponseReader,
};

/// One request that was sent, and what has come of its answer.
///
/// The answer ends by its length, its chunks, or with the connection. What comes behind its end is
/// thrown away: the connection is closed there.
#[derive(Debug)]
pub(super) struct Exchange {
    asked: Asked,
    /// Of the body.
    most: u64,
    limits: HeadLimits,
    part: Part,
}

#[derive(Debug)]
enum Part {
    Head(ResponseReader),
    Body(ResponseHead, BodyReader),
}

impl Exchange {
    /// Begins with the first byte of the answer to this request.
    pub fn new(ask: &Ask, limits: &HeadLimits) -> Exchange {
        let asked = if ask.is_head() { Asked::Head } else { Asked::Any };
        let part = Part::Head(ResponseReader::default());
        Exchange { asked, most: ask.most(), limits: *limits, part }
    }

    /// Takes bytes, and returns the answer once it is complete; nothing is to be read behind it.
    pub fn receive(&mut self, input: &[u8]) -> Result<Option<Answer>, ResponseError> {
        let mut rest = input;
        if let Part::Head(reader) = &mut self.part {
            let (used, head) = reader.read(self.asked, rest, &self.limits)?;
            let Some(head) = head else { return Ok(None) };
            rest = &rest[used..];
            let body = BodyReader::new(head.body(), self.most, &self.limits)?;
            self.part = Part::Body(head, body);
        }
        let Part::Body(head, body) = &mut self.part else { return Ok(None) };
        let (_, body) = body.read(rest)?;
        Ok(body.map(|body| Answer::new(head.clone(), body)))
    }

    /// Takes the end of the connection: also the end of an answer that has no other.
    pub fn close(self) -> Result<Answer, ResponseError> {
        match self.part {
            Part::Head(reader) => Err(Refusal::bad_request(match reader.is_idle() {
                true => "the server closed without an answer",
                false => "the server closed inside the head",
            })
            .into()),
            Part::Body(head, body) => Ok(Answer::new(head, body.close()?)),
        }
    }
}

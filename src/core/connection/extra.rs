//! What few connections have. It stands apart, so that all others pay one pointer for it.

#[cfg(any(feature = "jwt", feature = "client"))]
use crate::core::admission::grant::Grant;
use crate::core::admission::rates::Rates;
use crate::core::admission::rights::Rights;
use crate::core::config::EXTRA_BYTES;
use crate::core::connection::timers::Timers;
use crate::core::connection::{Sourced, Upload};
use crate::core::ground::identity::{Author, Identity};
use crate::core::ground::time::{Instant, sooner};
use crate::core::ground::trace::Trace;

/// What is made for a connection when it is first needed.
#[derive(Debug, Default)]
pub(crate) struct Extra {
    /// Made when a rate is first counted.
    pub rates: Option<Box<Rates>>,
    /// Who is at the other end, by the last request.
    pub identity: Option<Identity>,
    /// The trace context of the last request.
    pub trace: Option<Trace>,
    /// The client that has said who it is, on a connection with many topics.
    pub author: Option<Box<Author>>,
    /// What `authorize` lets the connection do; `None` takes no right away.
    pub rights: Option<Box<Rights>>,
    /// Until when the last request lets the connection in, if that has an end.
    #[cfg(any(feature = "jwt", feature = "client"))]
    pub grant: Option<Box<Grant>>,
    /// What the handler has set.
    pub timers: Timers,
    /// Where the body of the answer under way comes from, if from elsewhere.
    pub source: Option<Sourced>,
    /// The body of the request under way, if its handler takes it in pieces.
    pub upload: Option<Box<Upload>>,
}

impl Extra {
    /// Returns when the next wait for a rate is over or the next timer falls due, whichever comes
    /// first.
    pub fn next_at(&self) -> Option<Instant> {
        let wait_at = self.rates.as_ref().and_then(|rates| rates.next_at());
        sooner(wait_at, self.timers.next_at())
    }

    /// Returns the buckets, made if there are none.
    pub fn rates(&mut self) -> &mut Rates {
        self.rates.get_or_insert_default()
    }
}

// What an identity costs beside its text and the two counts of those who share the text.
const _: () = assert!(size_of::<Option<Identity>>() <= 16, "an identity costs too much");
const _: () = assert!(size_of::<Extra>() as u64 <= EXTRA_BYTES);

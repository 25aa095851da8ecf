//! What is counted of sessions that outlast connections.

use crate::core::observe::metrics::Exposition;

/// The figures of sessions, of one route or of all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SessionFigures {
    /// Sessions that connections hold now, or that are still to be saved.
    pub held: u64,
    /// Bytes of sessions that wait to be saved.
    pub unsaved_bytes: u64,
    /// What has come of upgrades that were asked for their session.
    pub opened: Opened,
    /// Sessions that came from an older connection: it let go, or it was not waited for any longer.
    pub taken_over: TakenOver,
    /// What has come of saving.
    pub saves: Saves,
    /// Sessions that a store in memory has dropped for want of room.
    pub evicted: u64,
}

/// What has come of upgrades that were asked for their session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// There was none with this key.
    pub new: u64,
    /// It was there.
    pub resumed: u64,
    /// The request has no key, and needs none.
    pub keyless: u64,
    /// Refused: no key, or one that is none.
    pub bad_key: u64,
    /// Refused: the store failed, did not answer, or too many were waiting.
    pub unavailable: u64,
    /// Refused: the handler could make nothing of the bytes.
    pub unreadable: u64,
}

/// How sessions were taken from older connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TakenOver {
    /// The older connection had saved it.
    pub handed: u64,
    /// The older connection did not let go in time.
    pub forced: u64,
}

/// What has come of saving.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Saves {
    /// The store has it.
    pub saved: u64,
    /// The store failed: it is tried again.
    pub failed: u64,
    /// A newer connection has the session.
    pub fenced: u64,
    /// Given up: the store has failed until the session was too old, or too many waited.
    pub lost: u64,
    /// The session is longer than `sessions.bytes`.
    pub too_big: u64,
}

impl SessionFigures {
    /// Adds the figures of another route.
    pub fn add(&mut self, other: &SessionFigures) {
        self.held += other.held;
        self.unsaved_bytes += other.unsaved_bytes;
        self.evicted += other.evicted;
        for ((_, own), (_, more)) in self.opened.rows_mut().into_iter().zip(other.opened.rows()) {
            *own += more;
        }
        self.taken_over.handed += other.taken_over.handed;
        self.taken_over.forced += other.taken_over.forced;
        for ((_, own), (_, more)) in self.saves.rows_mut().into_iter().zip(other.saves.rows()) {
            *own += more;
        }
    }

    /// Writes all figures.
    pub fn write(&self, out: &mut Exposition) {
        let help = "Sessions that connections hold, or that are still to be saved.";
        out.gauge("heartwheel_sessions_held", help).value(self.held);
        let help = "Bytes of sessions that wait to be saved.";
        out.gauge("heartwheel_sessions_unsaved_bytes", help).value(self.unsaved_bytes);
        let help = "Upgrades that were asked for their session.";
        let name = "heartwheel_sessions_opened_total";
        out.counter(name, help).by("result", self.opened.rows());
        let help = "Sessions that came from an older connection of the same key.";
        let rows = [("handed", self.taken_over.handed), ("forced", self.taken_over.forced)];
        out.counter("heartwheel_sessions_taken_over_total", help).by("how", rows);
        let help = "Saves of sessions.";
        let name = "heartwheel_sessions_saves_total";
        out.counter(name, help).by("result", self.saves.rows());
        let help = "Sessions that a store in memory has dropped for want of room.";
        out.counter("heartwheel_sessions_evicted_total", help).value(self.evicted);
    }
}

/// Makes the rows of a group of counters, by their labels.
macro_rules! rows {
    ($group:ident: $($field:ident),*) => {
        impl $group {
            fn rows(self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($field), self.$field)),*]
            }

            fn rows_mut(&mut self) -> Vec<(&'static str, &mut u64)> {
                vec![$((stringify!($field), &mut self.$field)),*]
            }
        }
    };
}

rows!(Opened: new, resumed, keyless, bad_key, unavailable, unreadable);
rows!(Saves: saved, failed, fenced, lost, too_big);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_figures_of_routes_are_summed() {
        let mut sum = SessionFigures::default();
        let mut one = SessionFigures { held: 1, unsaved_bytes: 2, evicted: 3, ..sum };
        one.opened.rows_mut().into_iter().for_each(|(_, count)| *count = 4);
        one.saves.rows_mut().into_iter().for_each(|(_, count)| *count = 5);
        one.taken_over = TakenOver { handed: 6, forced: 7 };
        (0..2).for_each(|_| sum.add(&one));
        assert_eq!((sum.held, sum.unsaved_bytes, sum.evicted), (2, 4, 6));
        assert!(sum.opened.rows().iter().all(|(_, count)| *count == 8));
        assert!(sum.saves.rows().iter().all(|(_, count)| *count == 10));
        assert_eq!(sum.taken_over, TakenOver { handed: 12, forced: 14 });
    }
}

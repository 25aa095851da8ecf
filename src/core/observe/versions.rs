//! Which versions of clients connect, so that an old one is known to be gone before the server
//! leaves what it needs.

/// How often each version has said so: at most [`VERSIONS_MAX`] are told apart.
#[derive(Clone, Debug, Default)]
pub struct Versions {
    known: Vec<(Box<str>, u64)>,
    /// All others.
    other: u64,
}

impl Versions {
    /// Counts a client. Clients can name any version: those that come when there is no room for
    /// another are counted together.
    pub fn note(&mut self, version: &str) {
        let place = self.known.iter().position(|(known, _)| **known == *version);
        match place {
            Some(place) => self.known[place].1 += 1,
            None if self.known.len() < VERSIONS_MAX && version != OTHER => {
                self.known.push((version.into(), 1));
            }
            None => self.other += 1,
        }
    }

    /// Calls the closure for each version.
    pub fn each(&self, found: &mut dyn FnMut(&[&str], u64)) {
        self.known.iter().for_each(|(version, count)| found(&[version], *count));
        found(&[OTHER], self.other);
    }
}

/// How many versions are told apart.
pub const VERSIONS_MAX: usize = 16;
const OTHER: &str = "other";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_versions_are_told_apart() {
        let mut versions = Versions::default();
        for number in 0..40 {
            versions.note(&format!("{}", number % 20));
        }
        versions.note(OTHER);
        let mut counts = Vec::new();
        versions.each(&mut |labels, count| counts.push((labels[0].to_owned(), count)));
        assert_eq!(counts.len(), VERSIONS_MAX + 1);
        assert!(counts[..VERSIONS_MAX].iter().all(|(_, count)| *count == 2));
        assert_eq!(counts[VERSIONS_MAX], (OTHER.to_owned(), 9));
    }
}

//! A disk that loses power: what was not synced is there, or is not, or half of it.

use std::collections::BTreeMap;
use std::io;

use heartwheel::core::store::Pages;

use crate::common::rng::Rng;

pub struct Disk {
    pages: Vec<Vec<u8>>,
    /// What was written since the last sync, in order, by slot.
    unsynced: Vec<(u64, Vec<u8>)>,
    /// After so many operations each one fails; `None` for never.
    pub fails_after: Option<u64>,
    pub writes: u64,
    pub reads: u64,
}

impl Disk {
    pub fn new(count: usize, page_bytes: usize) -> Disk {
        let pages = vec![vec![0; page_bytes]; count];
        Disk { pages, unsynced: Vec::new(), fails_after: None, writes: 0, reads: 0 }
    }

    /// Cuts the power. Of what was not synced, `fate` tells how many bytes of each write are there.
    pub fn cut(&mut self, mut fate: impl FnMut(usize) -> usize) {
        for (slot, page) in std::mem::take(&mut self.unsynced) {
            let there = fate(page.len()).min(page.len());
            self.pages[slot as usize][..there].copy_from_slice(&page[..there]);
        }
        self.fails_after = None;
    }

    /// Turns a bit of a page over.
    pub fn flip(&mut self, rng: &mut Rng) {
        let slot = rng.below(self.pages.len() as u64) as usize;
        let bit = rng.below(8 * self.pages[slot].len() as u64) as usize;
        self.pages[slot][bit / 8] ^= 1 << (bit % 8);
    }

    pub fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    fn spend(&mut self) -> io::Result<()> {
        match &mut self.fails_after {
            Some(0) => Err(io::Error::other("no more")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

impl Pages for Disk {
    fn count(&self) -> u64 {
        self.pages.len() as u64
    }

    fn read(&mut self, slot: u64, page: &mut [u8]) -> io::Result<()> {
        self.reads += 1;
        let newest = self.unsynced.iter().rev().find(|(other, _)| *other == slot);
        page.copy_from_slice(newest.map_or(&self.pages[slot as usize], |(_, page)| page));
        Ok(())
    }

    fn write(&mut self, slot: u64, page: &[u8]) -> io::Result<()> {
        self.writes += 1;
        let spent = self.spend();
        // A write that fails may have been done all the same.
        self.unsynced.push((slot, page.to_vec()));
        spent
    }

    fn sync(&mut self) -> io::Result<()> {
        self.spend()?;
        let mut last = BTreeMap::new();
        last.extend(std::mem::take(&mut self.unsynced));
        last.into_iter().for_each(|(slot, page)| self.pages[slot as usize] = page);
        Ok(())
    }
}

//! One file of the simulated disk: what a process sees, and what the platter has.

use std::collections::BTreeSet;

const PAGE: usize = 4096;

#[derive(Clone, Default)]
pub(super) struct FileImage {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Pages that a failed sync dropped: clean for the kernel, and not on the platter.
    dropped: BTreeSet<usize>,
}

impl FileImage {
    /// A file of which everything is on the platter.
    pub(super) fn of(bytes: Vec<u8>) -> Self {
        Self { live: bytes.clone(), durable: bytes, dropped: BTreeSet::new() }
    }

    /// Writes the first `most` bytes of `parts` at the end.
    pub(super) fn append(&mut self, parts: &[&[u8]], most: usize) {
        let first = self.live.len() / PAGE;
        let mut left = most;
        for part in parts {
            let take = part.len().min(left);
            self.live.extend_from_slice(&part[..take]);
            left -= take;
        }
        // What is written again will be synced again, whole pages of it.
        self.dropped.retain(|page| *page < first);
    }

    /// Makes pages dirty again.
    pub(super) fn write_again(&mut self, from: usize, to: usize) {
        self.dropped.retain(|page| *page < from / PAGE || *page >= to.div_ceil(PAGE));
    }

    pub(super) fn cut(&mut self, length: usize) {
        self.live.truncate(length);
        self.dropped.retain(|page| *page < length.div_ceil(PAGE));
    }

    fn dirty(&self) -> impl Iterator<Item = usize> {
        (0..self.live.len().div_ceil(PAGE)).filter(|page| !self.dropped.contains(page))
    }

    /// Brings to the platter what the kernel thinks is not there yet.
    pub(super) fn sync(&mut self) {
        let pages: Vec<usize> = self.dirty().collect();
        self.durable.resize(self.live.len(), 0);
        for page in pages {
            let range = page * PAGE..((page + 1) * PAGE).min(self.live.len());
            self.durable[range.clone()].copy_from_slice(&self.live[range]);
        }
    }

    /// Calls the pages clean that are not on the platter, as the kernel does when a write of them fails.
    pub(super) fn drop_pages(&mut self) {
        let differs = |page: &usize| {
            let range = page * PAGE..((page + 1) * PAGE).min(self.live.len());
            self.durable.get(range.clone()) != self.live.get(range)
        };
        let pages: Vec<usize> = self.dirty().filter(differs).collect();
        self.dropped.extend(pages);
    }
}

/// What of a file the platter holds after the power went: each page old or new.
pub(super) fn survivors(file: &FileImage, rng: &mut fastrand::Rng) -> Vec<u8> {
    let length = if file.live.len() == file.durable.len() {
        file.live.len()
    } else {
        let (low, high) =
            (file.live.len().min(file.durable.len()), file.live.len().max(file.durable.len()));
        match rng.u8(..3) {
            0 => file.durable.len(),
            1 => file.live.len(),
            _ => rng.usize(low..=high),
        }
    };
    let mut image = file.durable.clone();
    image.resize(length, 0);
    for start in (0..length).step_by(PAGE) {
        let end = (start + PAGE).min(length);
        let Some(live) = file.live.get(start..end.min(file.live.len()).max(start)) else {
            continue;
        };
        let keep = match rng.u8(..8) {
            0..=3 => live.len(),
            4 => rng.usize(..=live.len()),
            _ => 0,
        };
        let dropped = file.dropped.contains(&(start / PAGE));
        if !dropped && file.durable.get(start..start + live.len()) != Some(live) {
            image[start..start + keep].copy_from_slice(&live[..keep]);
        }
    }
    image
}
